"""Numbered objects on the command line: train, predict, evaluate, check."""

import csv

import numpy as np
import pytest
from PIL import Image

import minunet
from minunet.cli import main
from minunet.evaluation.metrics import average_precision

SMALL = [
    "--base-channels", "2", "--depth", "1", "--patch-size", "16", "--max-epochs", "1", "--random-state", "0", "-q",
]  # fmt: skip


@pytest.fixture
def data(tmp_path):
    """Return folders of two images of discs, and of their numbers."""
    rows, cols = np.mgrid[:40, :40]
    for i in range(2):
        y = np.zeros((40, 40), np.uint8)
        for number, (r, c) in enumerate([(10, 10), (10, 21 + i), (28, 12), (28, 30)], 1):
            y[(rows - r) ** 2 + (cols - c) ** 2 <= 5.5**2] = number
        x = (80 + 100 * (y > 0) + np.random.default_rng(i).normal(0, 8, y.shape)).astype(np.uint8)
        for name, array in (("x", x), ("y", y)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / name / f"{i}.png")
    return str(tmp_path / "x"), str(tmp_path / "y")


def test_from_masks_to_objects_and_their_precision(data, tmp_path, capsys):
    pytest.importorskip("skimage")
    model = str(tmp_path / "m")
    assert main(["train", *data, "-o", model, *SMALL, "--target", "instances"]) == 0
    unet = minunet.load(model)
    x, y = ([np.asarray(Image.open(f"{folder}/{i}.png")) for i in range(2)] for folder in data)
    out = tmp_path / "out"
    assert main(["predict", model, data[0], "-o", str(out), "--instances", "--tta", "-v"]) == 0
    found = unet.predict_instances(x, tta=True)
    for i in range(2):
        np.testing.assert_array_equal(np.asarray(Image.open(out / f"{i}.png")), found[i])
    assert f"({found[0].max()} objects)" in capsys.readouterr().out
    scores = tmp_path / "scores.csv"
    assert main(["evaluate", model, *data, "--csv", str(scores), "--tta"]) == 0
    with open(scores) as file:
        rows = list(csv.DictReader(file))
    assert [float(row["average_precision"]) for row in rows] == pytest.approx(
        [average_precision(y[0], found[0]), average_precision(y[1], found[1]), average_precision(y, found)], abs=1e-6
    )
    assert float(rows[-1]["dice_2"]) == pytest.approx(unet.score(x, y, average=None, tta=True)[2], abs=1e-6)
    assert f"average precision    {average_precision(y, found):.4f}" in capsys.readouterr().out


def test_check_looks_at_what_is_learned(data, capsys):
    assert main(["check", *data, *SMALL[:-1], "--target", "instances"]) == 0
    out = capsys.readouterr().out
    assert "instance labels" not in out and "--target instances" in out.splitlines()[-1]


def test_an_image_without_objects_is_no_error_where_others_have_them(data, capsys):
    empty = np.zeros((40, 40), np.uint8)
    noise = np.random.default_rng(2).normal(80, 8, empty.shape).astype(np.uint8)
    for folder, array in zip(data, (noise, empty), strict=True):
        Image.fromarray(array).save(f"{folder}/2.png")
    assert main(["check", *data, *SMALL[:-1], "--target", "instances"]) == 0
    for i in range(2):
        Image.fromarray(empty).save(f"{data[1]}/{i}.png")
    assert main(["check", *data, *SMALL[:-1], "--target", "instances"]) == 1


def test_going_on_takes_the_target_from_the_model(data, tmp_path):
    assert main(["train", *data, "-o", str(tmp_path / "a"), *SMALL, "--target", "instances"]) == 0
    flags = ["--init", str(tmp_path / "a"), "--patch-size", "16", "--max-epochs", "1", "-q"]
    assert main(["train", *data, "-o", str(tmp_path / "b"), *flags]) == 0
    unet = minunet.load(tmp_path / "b")
    assert unet.target == "instances" and unet.smallest_object_ == minunet.load(tmp_path / "a").smallest_object_
    with pytest.raises(SystemExit):
        main(["train", *data, "-o", str(tmp_path / "c"), *flags, "--target", "classes"])


def test_plain_labels_are_turned_back(data, tmp_path):
    model, masks = str(tmp_path / "m"), tmp_path / "z"
    masks.mkdir()
    for i in range(2):
        Image.fromarray(np.uint8(255 * (np.asarray(Image.open(f"{data[1]}/{i}.png")) > 0))).save(masks / f"{i}.png")
    assert main(["train", data[0], str(masks), "-o", model, *SMALL]) == 0
    for flags, name in (([], "a"), (["--tta"], "b"), (["--instances"], "c")):
        assert main(["predict", model, data[0], "-o", str(tmp_path / name), "-q", *flags]) == 0
    a, b, c = (np.asarray(Image.open(tmp_path / name / "1.png")) for name in "abc")
    unet, x = minunet.load(model), np.asarray(Image.open(f"{data[0]}/1.png"))
    np.testing.assert_array_equal(a, unet.predict(x))
    np.testing.assert_array_equal(b, unet.predict(x, tta=True))
    np.testing.assert_array_equal(c, unet.predict_instances(x))
