"""What users of U-Nets trip over, one test a complaint: from a folder with such data to a useful result or sentence."""

from __future__ import annotations

import configparser
import functools
import os
import re
import socket
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import minunet
from minunet import UNet
from minunet.cli import main
from minunet.evaluation import tiles

SMALL = {
    "base_channels": 4, "depth": 2, "patch_size": 32, "batch_size": 2, "max_epochs": 2, "learning_rate": 0.01, "random_state": 0,
    "n_threads": 1, "verbose": 0,
}  # fmt: skip
FLAGS = [text for name, value in SMALL.items() if name != "verbose" for text in (f"--{name.replace('_', '-')}", str(value))]


def blobs(n, shape, seed=0):
    """Return images (n, H, W) uint8 and masks of 0 and 1."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    y = np.stack([np.hypot(rows - rng.uniform(8, shape[0] - 8), cols - rng.uniform(8, shape[1] - 8)) < 7 for _ in range(n)])
    return (70 + 110 * y + rng.normal(0, 12, y.shape)).clip(0, 255).astype(np.uint8), y.astype(np.uint8)


def write(folder, arrays, name="{}.png"):
    folder.mkdir(exist_ok=True)
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / name.format(i))
    return folder


@functools.cache
def plain():
    """Return what is predicted of two images by a model that was trained on masks of 0 and 1."""
    x, y = blobs(2, (40, 40))
    return UNet(**SMALL).fit(x, y).predict(x)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        *(("grey", values) for values in [(0, 1), (0, 255), (1, 7), (30, 200)]),
        ("rgb", (0, 255)), ("rgb", (30, 200)), ("gif", (0, 1)), ("gif", (1, 7)),
    ],
)  # fmt: skip
def test_complaint_01_masks_are_0_255_or_rgb_or_odd_codes(tmp_path, values, kind):
    x, y = blobs(2, (40, 40))
    masks = np.array(values, np.uint8)[y]
    stored = np.repeat(masks[..., None], 3, axis=-1) if kind == "rgb" else masks
    images, folder = write(tmp_path / "x", x), write(tmp_path / "y", stored, "{}.gif" if kind == "gif" else "{}.png")
    loaded = minunet.load_folder(images, folder)
    unet = UNet(**SMALL).fit(*loaded)
    assert unet.classes_.tolist() == list(values)
    assert (plain() == y).mean() > 0.95
    np.testing.assert_array_equal(unet.predict(loaded[0]), np.array(values)[plain()])  # the same, in the masks' values


def test_complaint_01_masks_are_true_and_false():
    x, y = blobs(2, (40, 40))
    predicted = UNet(**SMALL).fit(x, y > 0).predict(x)
    assert predicted.dtype == bool
    np.testing.assert_array_equal(predicted, plain() > 0)


def test_complaint_02_all_black_predictions(tmp_path, capsys):
    """A 0/1 mask looks black: the overlay does not. A constant prediction is told; check tells the shares, and the weights."""
    x, y = blobs(3, (40, 40))
    images, masks = write(tmp_path / "x", x), write(tmp_path / "y", y)
    assert main(["check", str(images), str(masks), *FLAGS]) == 0
    told = capsys.readouterr().out
    assert f"    0  {1 - y.mean():7.2%}\n    1  {y.mean():7.2%}\n" in told
    scarce = write(tmp_path / "scarce", y * (np.arange(40) < 20).astype(np.uint8) * (np.arange(40) % 9 == 0))
    assert main(["check", str(images), str(scarce), *FLAGS]) == 0
    assert " --class-weight balanced " in capsys.readouterr().out.splitlines()[-1]
    model = tmp_path / "m.safetensors"
    UNet(**SMALL | {"max_epochs": 4}).fit(x, y).save(model)
    assert main(["predict", str(model), str(images), "-o", str(tmp_path / "out"), "-q"]) == 0
    assert np.asarray(Image.open(tmp_path / "out" / "0.png")).max() == 1
    picture = np.asarray(Image.open(tmp_path / "out" / "0_overlay.png")).astype(int)
    assert np.ptp(picture, axis=-1).max() > 50  # a colour
    unet = minunet.load(model)
    unet.network_.parameters["head.weight"][...] = 0  # now every pixel gets the class of the larger bias
    unet.save(tmp_path / "constant")
    assert main(["predict", str(tmp_path / "constant"), str(images), "-o", str(tmp_path / "o2")]) == 0
    assert "every pixel was given the class" in capsys.readouterr().err
    x, y = np.random.default_rng(0).integers(0, 256, (2, 40, 40)).astype(np.uint8), np.zeros((2, 40, 40), int)
    y[:, 10:13, 10:13] = 1
    with pytest.warns(UserWarning, match=r'the network gives class 0 to every pixel.*class_weight="balanced"'):
        UNet(**SMALL | {"max_epochs": 8}).fit(x, y)


def test_complaint_03_grey_against_rgb(tmp_path, capsys):
    x, y = blobs(2, (40, 40))
    colour = np.repeat(x[..., None], 3, axis=-1)
    colour[..., 1] //= 2
    images, masks = write(tmp_path / "x", colour), write(tmp_path / "y", y)
    model = tmp_path / "m"
    assert main(["train", str(images), str(masks), "-o", str(model), "-q", *FLAGS]) == 0
    assert minunet.load(model).n_channels_in_ == 3
    grey = write(tmp_path / "grey", x)
    assert main(["predict", str(model), str(grey), "-o", str(tmp_path / "out")]) == 1
    assert "0.png: the image has 1 channel; this model was fitted on 3" in capsys.readouterr().err
    write(images, x[:1], "9.png")
    write(masks, y[:1], "9.png")
    assert main(["train", str(images), str(masks), "-o", str(tmp_path / "n"), *FLAGS]) == 1
    assert "differ in their number of channels (9.png has 1, 0.png has 3)" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"x\[0\] is 3 x 40 x 40, channels first; .* np\.moveaxis\(x, 1, -1\)"):
        UNet(**SMALL).fit(np.moveaxis(colour, -1, 1), y)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_complaint_05_odd_sizes_and_shrunken_outputs(tmp_path, padding):
    sizes = [(61, 97), (33, 40), (50, 31)]
    pairs = [blobs(1, size, seed=i) for i, size in enumerate(sizes)]
    images, masks = write(tmp_path / "x", [x[0] for x, _ in pairs]), write(tmp_path / "y", [y[0] for _, y in pairs])
    flags = [*FLAGS, "--padding", padding, "--patch-size", "32" if padding == "same" else "44"]
    assert main(["train", str(images), str(masks), "-o", str(tmp_path / "m"), "-q", *flags]) == 0
    assert main(["predict", str(tmp_path / "m"), str(images), "-o", str(tmp_path / "out"), "-q"]) == 0
    assert [np.asarray(Image.open(tmp_path / "out" / f"{i}.png")).shape for i in range(3)] == sizes


def test_complaint_07_big_images_are_tiled_and_tiles_do_not_show(monkeypatch):
    x, y = blobs(2, (40, 40))
    unet = UNet(**SMALL).fit(x, y)
    big = np.tile(x[0], (8, 9))[:301, :350]
    runs = []

    def run(*given):
        runs.append(given)
        return tile(*given)

    tile = tiles._predict_tile
    monkeypatch.setattr(tiles, "_predict_tile", run)
    whole = unet.predict_proba(big)
    assert len(runs) == 1
    monkeypatch.setattr(tiles, "free_memory", lambda network: 4_000_000)  # of which a quarter is taken, as a user's machine
    tiled = unet.predict_proba(big)
    assert len(runs) > 5
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_complaint_08_few_requirements_and_none_that_keeps_newer_versions_out():
    found = configparser.ConfigParser()
    found.read(Path(minunet.__file__).parents[1] / "setup.cfg", encoding="utf-8")
    required = [line for line in found["options"]["install_requires"].splitlines() if line and not line.startswith("#")]
    assert 0 < len(required) <= 8
    for line in required:
        assert re.fullmatch(r"\w+(>=[\d.]+)?", line), line


def test_complaint_09_no_worker_processes_and_nothing_to_pickle(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a process was started")

    class Lock:
        def __init__(self):
            self.lock, self.epochs = threading.Lock(), 0

        def on_epoch_end(self, epoch, logs):
            with self.lock:
                self.epochs += 1

    x, y = blobs(2, (40, 40))
    expected = UNet(**SMALL).fit(x, y).predict_proba(x)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp"):
        monkeypatch.setattr(os, name, refuse, raising=False)
    lock = Lock()
    unet = UNet(**SMALL | {"n_threads": 3}, block=lambda c, k, **settings: minunet.blocks.double_conv(c, k, **settings))
    np.testing.assert_array_equal(unet.fit(x, y, callbacks=[lock]).predict_proba(x), expected)
    assert lock.epochs == 2


def test_complaint_11_the_same_seed_gives_the_same_bits_at_any_number_of_threads():
    x, y = blobs(2, (40, 40))

    def bits(**settings):
        unet = UNet(**SMALL | {"max_epochs": 1, "dropout": 0.2} | settings).fit(x, y)
        return unet.random_state_, unet.network_.flat.tobytes(), unet.predict_proba(x).tobytes()

    assert bits() == bits(n_threads=3) != bits(random_state=1)
    drawn = bits(random_state=None)
    assert bits(random_state=drawn[0]) == drawn


def test_complaint_12_few_images():
    x, y = blobs(1, (48, 48))
    unet = UNet(**SMALL | {"max_epochs": 4}).fit(x[0], y[0])
    assert unet.history_["val_dice"], "a strip of the one image was held out"
    assert unet.augment and unet.history_["steps"][0] == 25, "an epoch repeats the patches of the one image, turned and flipped"
    new, truth = blobs(2, (48, 48), seed=9)
    assert unet.score(list(new), list(truth)) > 0.9


@pytest.mark.parametrize(
    ("image", "mask"),
    [("case{}_0000", "case{}"), ("{}", "{}_mask"), ("{}", "{}_label"), ("{}_training", "{}_manual1"), ("im {}", "im_{}_seg")],
)
def test_complaint_13_file_pairing(tmp_path, image, mask):
    x, y = blobs(12, (40, 40))  # of which 10 comes between 1 and 2
    images, masks = write(tmp_path / "x", x, f"{image}.png"), write(tmp_path / "y", y, f"{mask}.png")
    found = minunet.load_folder(images, masks)
    assert len(found[0]) == 12
    numbers = [next(i for i in range(12) if np.array_equal(a, x[i])) for a in found[0]]
    np.testing.assert_array_equal(np.stack(found[1]), y[numbers])  # each image got its own
    write(images, x[:1], "lonely.png")
    with pytest.raises(ValueError, match=r"1 image without a mask \(lonely\.png\)"):
        minunet.load_folder(images, masks)


def test_complaint_14_sixteen_bits_and_many_labels(tmp_path):
    x, y = blobs(3, (40, 40))
    deep = x.astype(np.uint16) * 200 + 7
    labels = np.array([0, 70_000], np.uint32)[y]
    tifffile.imwrite(tmp_path / "x.tif", deep, photometric="minisblack")
    tifffile.imwrite(tmp_path / "y.tif", labels, photometric="minisblack")
    assert main(["train", str(tmp_path / "x.tif"), str(tmp_path / "y.tif"), "-o", str(tmp_path / "m"), "-q", *FLAGS]) == 0
    assert main(["predict", str(tmp_path / "m"), str(tmp_path / "x.tif"), "-o", str(tmp_path / "out"), "-q"]) == 0
    found = tifffile.imread(tmp_path / "out" / "x.tif")
    assert found.dtype == np.uint32
    assert set(np.unique(found)) <= {0, 70_000}
    eight, sixteen = (UNet(**SMALL).fit(a, y).predict_proba(a) for a in (x, deep))
    np.testing.assert_allclose(eight, sixteen, atol=1e-3)


def test_complaint_15_sparse_labels_and_no_network_call(tmp_path, monkeypatch):
    """Two strokes a mask are drawn, and all else is 255: it learns from those, and never asks the network for anything."""

    def refuse(*args, **kwargs):
        raise AssertionError("the network was called")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    x, y = blobs(4, (48, 48))
    drawn = np.isin(np.arange(48) % 12, (3, 4))[:, None] & np.ones_like(y, bool)
    images, masks = write(tmp_path / "x", x), write(tmp_path / "y", np.where(drawn, y, 255).astype(np.uint8))
    model, flags = str(tmp_path / "m"), [*FLAGS, "--max-epochs", "4"]
    assert main(["train", str(images), str(masks), "-o", model, "-q", "--ignore", "255", *flags]) == 0
    assert main(["predict", model, str(images), "-o", str(tmp_path / "out"), "-q"]) == 0
    unet = minunet.load(model)
    assert unet.classes_.tolist() == [0, 1] and unet.score(x, y) > 0.9
