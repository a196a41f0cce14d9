"""`minunet train --init`, which goes on with a model, and what is held out of stacks."""

from __future__ import annotations

import re
from signal import SIGINT, raise_signal

import numpy as np
import pytest
import tifffile
from PIL import Image

import minunet
from minunet import UNet, training
from minunet.cli import main
from minunet.cli.train import judge
from minunet.data.folders import read_pairs

SMALL = ["--patch-size", "16", "--batch-size", "1", "--max-epochs", "1", "--random-state", "0"]
NETWORK = {"base_channels": 3, "depth": 1, "algorithm": "direct", "normalize": "dataset"}


def halves(n, values=(0, 255), size=24):
    """Images whose right half is bright, and their masks of two values."""
    y = np.full((n, size, size), values[0], np.uint8)
    y[..., size // 2 :] = values[1]
    noise = np.random.default_rng(0).normal(0, 9, y.shape)
    return (60 + 100 * (y == values[1]) + noise).astype(np.uint8), y


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "old"
    UNet(**NETWORK, patch_size=16, max_epochs=2, verbose=0, random_state=1).fit(*halves(3)).save(path)
    return path


@pytest.fixture
def data(tmp_path):
    """Return the folders of images and masks, as text."""
    for name, arrays in zip("xy", halves(3), strict=True):
        (tmp_path / name).mkdir()
        for i, array in enumerate(arrays):
            Image.fromarray(array).save(tmp_path / name / f"{i}.png")
    return str(tmp_path / "x"), str(tmp_path / "y")


def test_it_takes_the_network_from_the_model_and_starts_with_its_weights(model, data, tmp_path):
    flags = ["--init", str(model), "--learning-rate", "1e-30", "--base-channels", "3", *SMALL]
    assert main(["train", *data, "-o", str(tmp_path / "m"), "-q", *flags]) == 0
    x, older, unet = halves(3)[0], minunet.load(model), minunet.load(tmp_path / "m")
    np.testing.assert_allclose(unet.predict_proba(x), older.predict_proba(x), rtol=0, atol=1e-6)
    assert {name: getattr(unet, name) for name in NETWORK} == NETWORK
    assert (unet.patch_size, unet.learning_rate, unet.n_iter_, unet.random_state_) == (16, 1e-30, 1, 0)
    assert unet.warm_start is False  # of the next fit, in Python, nobody has said so


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--base-channels", "16"], "--base-channels is 16, but {} has 3: leave --base-channels out, or --init"),
        (["--depth", "4"], "--depth is 4, but {} has 1"),
        (["--padding", "valid"], "--padding is valid, but {} has same"),
        (["--block", "residual"], "--block is residual, but {} has double_conv"),
        (["--normalize", "image"], "--normalize is image, but {} has dataset"),
        (["-o", "{}", "--force"], "--output {} is {}, which is read"),
    ],
)
def test_what_contradicts_the_model_is_wrong_use(model, data, tmp_path, capsys, flags, says):
    before = model.read_bytes()
    with pytest.raises(SystemExit) as stop:
        main(["train", *data, "-o", str(tmp_path / "m"), "--init", str(model), *(flag.format(model) for flag in flags)])
    assert stop.value.code == 2 and says.format(model, model) in capsys.readouterr().err
    assert model.read_bytes() == before and not (tmp_path / "m").exists()


def test_other_channels_and_what_is_no_model_are_told(model, data, tmp_path, capsys):
    Image.fromarray(np.zeros((24, 24, 3), np.uint8)).save(tmp_path / "x" / "0.png")
    for i in (1, 2):
        (tmp_path / "x" / f"{i}.png").unlink(), (tmp_path / "y" / f"{i}.png").unlink()
    assert main(["train", *data, "-o", str(tmp_path / "m"), "--init", str(model), *SMALL]) == 1
    assert re.search(r"0\.png is 3 channels, but --init .* was trained on images of 1 channel;", capsys.readouterr().err)
    assert main(["train", *data, "-o", str(tmp_path / "m"), "--init", str(tmp_path / "x" / "0.png"), *SMALL]) == 1
    assert "0.png" in capsys.readouterr().err and not (tmp_path / "m").exists()


@pytest.mark.filterwarnings("ignore:interrupted after 1 steps")
def test_where_no_epoch_is_finished_nothing_is_written(model, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("minunet.training.loop.step", lambda *args, **options: np.float32(np.nan))
    assert main(["train", *data, "-o", str(tmp_path / "m"), "--init", str(model), "-q", *SMALL]) == 1
    assert "training diverged. The model is what it was before" in capsys.readouterr().err

    def interrupting(*args, **options):
        raise_signal(SIGINT)
        return training.step(*args, **options)

    monkeypatch.setattr("minunet.training.loop.step", interrupting)
    assert main(["train", *data, "-o", str(tmp_path / "m"), "--init", str(model), "-q", *SMALL]) == 130
    assert f"no epoch was finished, so there is no new model; {model} is as it was" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


@pytest.mark.filterwarnings("ignore:.* images are held out for validation")
@pytest.mark.parametrize("n_pages", [(12,), (12, 5), (3, 4, 3)])
def test_the_report_judges_what_fit_held_out_of_stacks(n_pages, tmp_path, monkeypatch):
    """A block of one stack's pages without a neighbour in training; of several, one whole; each page under its own name."""
    for name, arrays in zip("xy", halves(sum(n_pages)), strict=True):
        (tmp_path / name).mkdir()
        for i, pages in enumerate(np.split(arrays, np.cumsum(n_pages)[:-1])):
            tifffile.imwrite(tmp_path / name / f"{i}.tif", pages, photometric="minisblack")
    seen = []
    monkeypatch.setattr("minunet.cli.train.keep", lambda unet, *args, **options: seen.append(unet) or True)
    flags = ["--base-channels", "2", "--depth", "1", *SMALL]
    assert main(["train", str(tmp_path / "x"), str(tmp_path / "y"), "-o", str(tmp_path / "m"), "-q", *flags]) == 0
    (unet,) = seen
    pairs = read_pairs(tmp_path / "x", tmp_path / "y")
    judged, note = judge(unet, pairs, [])
    held = [part.image for part in unet.held_out_]
    assert note == "images held out of the training" and [one.name for one in judged] == [pairs[i].name for i in held]
    assert all((one.image[..., 0] == pairs[i].image).all() for one, i in zip(judged, held, strict=True))
    if len(n_pages) == 1:
        assert held in ([0, 1], [10, 11])
    else:
        files = [pair.path for pair in pairs]
        assert len({files[i] for i in held}) == 1 and len(held) == files.count(files[held[0]]) == min(n_pages)
