"""Stacks on the command line: the pages of a file are seen with their neighbours, in training, prediction and evaluation."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tifffile

import minunet
from minunet.cli import main

SETTINGS = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1, "random_state": 0, "context": 1}
SMALL = [word for name, value in SETTINGS.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture
def folders(tmp_path):
    """Return the folders of two stacks, of different sizes, and of their masks, and the arrays."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in (("a", (4, 24, 24)), ("b", (3, 20, 32))):
        y = (rng.random(shape) < 0.5).astype(np.uint8)
        arrays[name] = (100 * y + rng.integers(0, 99, shape)).astype(np.uint8), y
        for kind, array in zip(("images", "masks"), arrays[name], strict=True):
            (tmp_path / kind).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / kind / f"{name}.tif", array, photometric="minisblack")
    return str(tmp_path / "images"), str(tmp_path / "masks"), arrays


def test_each_files_pages_are_a_stack(folders, tmp_path, capsys):
    images, masks, arrays = folders
    path, report = tmp_path / "m", tmp_path / "report"
    assert main(["train", images, masks, "-o", str(path), "--validation", images, masks, "--report", str(report), *SMALL]) == 0
    unet = minunet.load(path)
    (a, masks_a), (b, masks_b) = arrays["a"], arrays["b"]
    x, y, groups = [*a, *b], [*masks_a, *masks_b], [0] * 4 + [1] * 3
    in_python = minunet.UNet(**SETTINGS, verbose=0).fit(x, y, groups=groups, validation_data=(x, y, groups))
    np.testing.assert_array_equal(unet.network_.flat, in_python.network_.flat)
    assert unet.history_["val_loss"] == in_python.history_["val_loss"]

    assert main(["predict", str(path), images, "-o", str(tmp_path / "out"), "-q"]) == 0
    predicted = {name: unet.predict(arrays[name][0]) for name in arrays}
    for name, labels in predicted.items():
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / f"{name}.tif"), labels)
    capsys.readouterr()
    assert main(["evaluate", str(path), images, masks]) == 0
    wrong = sum(int((predicted[name] != arrays[name][1]).sum()) for name in arrays)
    error = wrong / sum(labels.size for labels in predicted.values())
    assert re.search(rf"pixel error +{error:.4f}", capsys.readouterr().out)


def test_what_is_held_out_of_a_stack_is_judged_with_its_neighbours(folders, tmp_path, monkeypatch):
    images, masks, arrays = folders
    found = []
    monkeypatch.setattr("minunet.cli.train.write_report", lambda folder, *_, judged, **__: found.extend(judged) or folder)
    path, (x, y) = tmp_path / "m", arrays["a"]
    one = [f"{folder}/a.tif" for folder in (images, masks)]
    assert main(["train", *one, "-o", str(path), "-q", "--report", str(tmp_path / "report"), *SMALL]) == 0
    assert len(found) == 4  # a strip of each
    whole = minunet.load(path).predict_proba(x)
    for i, strip in enumerate(found):
        np.testing.assert_array_equal(strip.truth, y[i, 16:])
        np.testing.assert_array_equal(strip.image[..., 0], x[i, 16:])
        np.testing.assert_array_equal(strip.probability, whole[i, 16:])


def test_files_of_one_page_are_no_stack(tmp_path, capsys):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for i in range(3):
            picture = np.random.default_rng(i).integers(0, 2 if kind == "masks" else 200, (16, 16)).astype(np.uint8)
            tifffile.imwrite(tmp_path / kind / f"{i}.tif", picture)
    assert main(["train", str(tmp_path / "images"), str(tmp_path / "masks"), "-o", str(tmp_path / "m"), *SMALL]) == 1
    assert "context (--context) is 1, and no stack has more than one slice" in capsys.readouterr().err
