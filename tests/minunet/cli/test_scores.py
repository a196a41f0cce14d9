"""What `evaluate` says of images: each number by its definition, and what it counts as objects."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
import scores_by_hand as by_hand
from PIL import Image

import minunet
from minunet.cli import evaluate, main
from minunet.cli.evaluate import score
from minunet.evaluation.metrics import adapted_rand_error

CLASSES = np.array([0, 5, 9])
TWO = np.array([[5, 5, 0, 9, 9], [5, 0, 0, 0, 9], [0, 0, 0, 0, 0]])  # an object of each class
ALL = np.ones(TWO.shape, bool)


@pytest.mark.parametrize("values", [[0, 5, 9], [0, 9, 5], [0, 5, 5]])
def test_objects_that_are_found_as_they_are_have_no_error_whatever_their_classes(values):
    found = np.choose(np.searchsorted(CLASSES, TWO), values)
    assert score("a", [TWO], [found], [ALL], CLASSES).adapted_rand == 0


def test_objects_that_are_joined_have_the_error_of_one_object():
    joined = TWO.copy()
    joined[0, 2] = 5
    apart, one = (TWO == 5) + 2 * (TWO == 9), (joined > 0).astype(int)
    expected = adapted_rand_error(apart, one)
    assert expected > 0 and score("a", [TWO], [joined], [ALL], CLASSES).adapted_rand == pytest.approx(expected)


def test_what_does_not_count_is_no_object_of_the_truth():
    here = ALL.copy()
    here[:, 3:] = False
    found = np.where(here, TWO, 5)
    row = score("a", [TWO], [found], [here], CLASSES)
    assert row.adapted_rand == 0 and row.pixel_error == 0


def test_the_ground_is_the_lowest_class_whatever_its_value():
    truth, found = (np.where(mask == 0, 3, mask) for mask in (TWO, np.where(TWO == 9, 0, TWO)))
    rand = by_hand.adapted_rand(truth, found, ALL, 3)
    assert 0 < rand < 1 and score("a", [truth], [found], [ALL], np.array([3, 5, 9])).adapted_rand == pytest.approx(rand)


def drawn(seed, values, size):
    """Return a mask of a few blobs."""
    rng = np.random.default_rng(seed)
    return rng.choice(values, (size[0] // 3 + 1, size[1] // 3 + 1)).repeat(3, axis=0).repeat(3, axis=1)[: size[0], : size[1]]


SIZES = [(9, 11), (12, 8), (7, 10)]
TRUTHS = [drawn(i, [0, 5, 7] if i == 2 else [0, 5, 9, 7], size) for i, size in enumerate(SIZES)]  # 7 does not count
FOUND = [np.where(drawn(9 + i, [0, 1], t.shape), drawn(20 + i, [0, 5], t.shape), t) for i, t in enumerate(TRUTHS)]
FOUND = [np.where(mask == 7, 5, mask) for mask in FOUND]
HERE = [mask != 7 for mask in TRUTHS]


def expected(truths, found, here, rand):
    """Return the cells of a row, by the columns' names."""
    each = (0, 5, 9)
    cells = {"pixel_error": by_hand.pixel_error(truths, found, here)}
    cells |= {f"dice_{c}": by_hand.dice(truths, found, here, c) for c in each}
    cells |= {f"iou_{c}": by_hand.iou(truths, found, here, c) for c in each}
    boundary = by_hand.mean([by_hand.boundary_f(truths, found, here, c) for c in each])
    return cells | {"adapted_rand_error": rand, "boundary_f": boundary}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of the classes 0, 5 and 9."""
    path = tmp_path_factory.mktemp("model") / "m"
    y = np.random.default_rng(0).choice([0, 5, 9], (2, 16, 16))
    minunet.UNet(base_channels=2, depth=1, patch_size=16, max_epochs=1, verbose=0, random_state=0).fit(y / 9, y).save(path)
    return str(path)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Images and masks, of which any model predicts FOUND."""
    for name, arrays in (("images", [np.full(size, 9 * i, np.uint8) for i, size in enumerate(SIZES)]), ("masks", TRUTHS)):
        (tmp_path / name).mkdir()
        for i, array in enumerate(arrays):
            Image.fromarray(array.astype(np.uint8)).save(tmp_path / name / f"{i}.png")
    each = iter(FOUND)
    monkeypatch.setattr(
        minunet.UNet, "predict_proba", lambda self, x, tta: [(next(each)[..., None] == [0, 5, 9]).astype(np.float32) for _ in x]
    )
    return [str(tmp_path / "images"), str(tmp_path / "masks"), "--ignore", "7"]


def test_each_cell_is_that_of_its_definition(model, folders, tmp_path, capsys):
    assert main(["evaluate", model, *folders, "--csv", str(tmp_path / "s.csv"), "-v"]) == 0
    rand = [by_hand.adapted_rand(t, p, h, 0) for t, p, h in zip(TRUTHS, FOUND, HERE, strict=True)]
    rows = [expected([TRUTHS[i]], [FOUND[i]], [HERE[i]], rand[i]) for i in range(3)]
    total = expected(TRUTHS, FOUND, HERE, by_hand.mean(rand))
    assert np.isnan(rows[2]["dice_9"]) and 0 < rand[0] < 1, "what is asked of is there"
    written = (tmp_path / "s.csv").read_text(encoding="utf-8")
    told = list(csv.DictReader(io.StringIO(written)))
    assert [row.pop("image") for row in told] == ["0.png", "1.png", "2.png", "all"]
    for row, of in zip(told, [*rows, total], strict=True):
        assert list(row) == list(of)
        assert row == {name: "" if value != value else f"{value:.6f}" for name, value in of.items()}
    out = capsys.readouterr().out
    assert written.rpartition("all,")[0].strip() in out  # a row an image
    shown = [f"{total[f'dice_{c}']:.4f}  {total[f'iou_{c}']:.4f}" for c in (0, 5, 9)]
    means = [f"{by_hand.mean([total[f'{what}_{c}'] for c in (0, 5, 9)]):.4f}" for what in ("dice", "iou")]
    assert out.splitlines()[:9] == [
        "3 images", f"pixel error          {total['pixel_error']:.4f}", f"adapted Rand error   {total['adapted_rand_error']:.4f}",
        f"boundary F           {total['boundary_f']:.4f}", "class    Dice     IoU",
        *(f"    {c}  {scores}" for c, scores in zip((0, 5, 9), shown, strict=True)), f" mean  {means[0]}  {means[1]}",
    ]  # fmt: skip


def test_what_is_not_defined_is_an_empty_cell_and_a_dash():
    blank = np.zeros((4, 5), int)
    row = score("a", [blank], [blank], [blank == 0], CLASSES)
    assert evaluate.table([row], [0, 5, 9]).splitlines()[1] == "a,0.000000,1.000000,,,1.000000,,,,"
    shown = evaluate.text(row, [0, 5, 9], 1).splitlines()
    assert shown[0] == "1 image" and shown[2:4] == ["adapted Rand error        -", "boundary F                -"]
    assert shown[5:] == ["    0  1.0000  1.0000", "    5       -       -", "    9       -       -", " mean  1.0000  1.0000"]


def test_the_precision_of_objects_stands_in_its_column():
    row = score("a", [TWO], [TWO], [ALL], CLASSES)._replace(average_precision=0.25)
    head, cells = evaluate.table([row], [0, 5, 9]).splitlines()
    assert head.endswith("boundary_f,average_precision") and cells.endswith(",1.000000,0.250000")
    assert "average precision    0.2500  (of objects, at an IoU of 0.5)" in evaluate.text(row, [0, 5, 9], 1)
