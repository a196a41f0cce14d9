"""What users of U-Nets trip over, one test a complaint: from a folder with such data to a useful result or sentence."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

import minunet
from minunet import UNet
from minunet.cli import main
from minunet.evaluation.tiles import predict_proba

SMALL = {"base_channels": 4, "depth": 2, "patch_size": 32, "batch_size": 2, "max_epochs": 2, "random_state": 0, "verbose": 0}
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


@pytest.mark.parametrize("values", [(0, 1), (0, 255), (1, 7), (30, 200)])
@pytest.mark.parametrize("kind", ["grey", "rgb", "gif"])
def test_complaint_01_masks_are_0_255_or_rgb_or_odd_codes(tmp_path, values, kind):
    x, y = blobs(2, (40, 40))
    masks = np.array(values, np.uint8)[y]
    stored = np.repeat(masks[..., None], 3, axis=-1) if kind == "rgb" else masks
    images, folder = write(tmp_path / "x", x), write(tmp_path / "y", stored, "{}.gif" if kind == "gif" else "{}.png")
    loaded = minunet.load_folder(images, folder)
    unet = UNet(**SMALL).fit(*loaded)
    assert unet.classes_.tolist() == list(values)
    assert set(np.unique(unet.predict(loaded[0]))) <= set(values)


def test_complaint_02_all_black_predictions(tmp_path, capsys):
    """A 0/1 mask looks black: the overlay does not. A constant prediction is told, and check tells the frequencies."""
    x, y = blobs(3, (40, 40))
    images, masks = write(tmp_path / "x", x), write(tmp_path / "y", y)
    assert main(["check", str(images), str(masks), *FLAGS]) == 0
    assert "1" in capsys.readouterr().out
    model = tmp_path / "m.safetensors"
    UNet(**SMALL | {"max_epochs": 8}).fit(x, y).save(model)
    assert main(["predict", str(model), str(images), "-o", str(tmp_path / "out"), "-q"]) == 0
    assert np.asarray(Image.open(tmp_path / "out" / "0.png")).max() == 1
    picture = np.asarray(Image.open(tmp_path / "out" / "0_overlay.png")).astype(int)
    assert np.ptp(picture, axis=-1).max() > 50  # a colour
    unet = minunet.load(model)
    unet.network_.parameters["head.weight"][...] = 0  # now every pixel gets the class of the larger bias
    unet.save(tmp_path / "constant")
    assert main(["predict", str(tmp_path / "constant"), str(images), "-o", str(tmp_path / "o2")]) == 0
    assert "every pixel was given the class" in capsys.readouterr().err


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


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_complaint_05_odd_sizes_and_shrunken_outputs(tmp_path, padding):
    sizes = [(61, 97), (33, 40), (50, 31)]
    pairs = [blobs(1, size, seed=i) for i, size in enumerate(sizes)]
    images, masks = write(tmp_path / "x", [x[0] for x, _ in pairs]), write(tmp_path / "y", [y[0] for _, y in pairs])
    flags = [*FLAGS, "--padding", padding, "--patch-size", "32" if padding == "same" else "44"]
    assert main(["train", str(images), str(masks), "-o", str(tmp_path / "m"), "-q", *flags]) == 0
    assert main(["predict", str(tmp_path / "m"), str(images), "-o", str(tmp_path / "out"), "-q"]) == 0
    assert [np.asarray(Image.open(tmp_path / "out" / f"{i}.png")).shape for i in range(3)] == sizes


def test_complaint_07_big_images_are_tiled_and_tiles_do_not_show(tmp_path):
    x, y = blobs(2, (40, 40))
    unet = UNet(**SMALL).fit(x, y)
    big = np.tile(x[0], (8, 9))[:301, :350]
    image = unet.normalizer_(big[..., None])
    whole, tiled = predict_proba(unet.network_, image), predict_proba(unet.network_, image, max_bytes=1)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_complaint_12_few_images():
    x, y = blobs(1, (48, 48))
    unet = UNet(**SMALL | {"max_epochs": 6}).fit(x[0], y[0])
    assert unet.history_["val_dice"], "a strip of the one image was held out"
    new, truth = blobs(2, (48, 48), seed=9)
    assert unet.score(list(new), list(truth)) > 0.9


def test_complaint_13_file_pairing(tmp_path):
    x, y = blobs(2, (40, 40))
    images, masks = write(tmp_path / "x", x, "case{}_0000.png"), write(tmp_path / "y", y, "case{}.png")
    assert len(minunet.load_folder(images, masks)[0]) == 2
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
