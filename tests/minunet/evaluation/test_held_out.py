"""What an epoch tells of the images held out, each figure from its definition."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from minunet import losses
from minunet.data.sampling import Example
from minunet.evaluation import held_out, metrics
from minunet.evaluation.held_out import Validation, names, validate
from minunet.training.budget import HELD_OUT


class Fake:
    """In the place of a network: what it says of an image is the image."""

    out_channels = 3


@pytest.fixture(autouse=True)
def told_by_the_image(monkeypatch):
    monkeypatch.setattr(held_out, "predict_proba", lambda network, image: image)


def examples(seed=0, k=3, weighed=True):
    rng = np.random.default_rng(seed)
    found = []
    for size in ((9, 7), (5, 12)):
        weight = rng.choice([0, 1, 2.5], size).astype(np.float32)
        p = rng.dirichlet(np.full(k, 0.6), size).astype(np.float32)
        found.append(Example(p, rng.integers(0, k, size).astype(np.int32), weight if weighed else None))
    return found


@pytest.mark.parametrize("weighed", [True, False])
def test_each_figure_is_its_definition_over_all_pixels_that_count(weighed):
    given, told = examples(weighed=weighed), []
    figures, threshold = validate(Fake(), given, losses.CrossEntropy(), classes=[-4, 0, 255], tell=told.append)
    here = [np.ones(e.label.shape, bool) if e.weight is None else e.weight > 0 for e in given]
    masks = [e.label for e in given], [e.image.argmax(-1) for e in given]
    truth, found = (np.concatenate([a[w] for a, w in zip(of, here, strict=True)]) for of in masks)
    expected = {"val_pixel_error": np.mean(truth != found)}
    for c, value in enumerate((-4, 0, 255)):
        a, b = truth == c, found == c
        expected[f"val_dice_{value}"] = 2 * (a & b).sum() / (a.sum() + b.sum())
        expected[f"val_iou_{value}"] = (a & b).sum() / (a | b).sum()
    expected["val_dice"] = np.mean([expected[f"val_dice_{value}"] for value in (-4, 0, 255)])
    expected["val_boundary_f"] = np.mean(metrics.boundary_f(*masks, weights=here))
    w = np.concatenate([np.ones(e.label.size) if e.weight is None else e.weight.ravel() for e in given])
    p = np.concatenate([np.take_along_axis(e.image, e.label[..., None], -1).ravel() for e in given])
    expected["val_loss"] = -(w * np.log(p)).sum() / w.sum()
    assert figures.keys() == expected.keys() == names([-4, 0, 255])
    assert figures == pytest.approx(expected, rel=1e-5)
    assert threshold is None and len(told) == 1
    np.testing.assert_array_equal(told[0], metrics.confusion_matrix(truth, found, range(3)))


def test_a_class_that_no_mask_has_is_nan_and_in_no_mean():
    given = [e.__class__(e.image, np.where(e.label == 2, 0, e.label), e.weight) for e in examples()]
    figures, _ = validate(Fake(), given, classes=[0, 1, 2])
    assert math.isnan(figures["val_dice_2"]) and math.isnan(figures["val_iou_2"])
    assert figures["val_dice"] == pytest.approx((figures["val_dice_0"] + figures["val_dice_1"]) / 2)
    masks = [e.label for e in given], [e.image.argmax(-1) for e in given]
    f = metrics.boundary_f(*masks, weights=[e.weight for e in given])
    assert figures["val_boundary_f"] == pytest.approx((f[0] + f[1]) / 2)
    blank = [Example(e.image, np.zeros_like(e.label), e.weight) for e in given]  # no boundary at all
    assert math.isnan(validate(Fake(), blank)[0]["val_boundary_f"])


def test_nothing_is_told_where_no_pixel_counts():
    none = [Example(e.image, e.label, np.zeros(e.label.shape, np.float32)) for e in examples()]
    assert validate(Fake(), none) == validate(Fake(), []) == Validation({})


def test_of_many_classes_none_has_figures_of_its_own(monkeypatch):
    assert len(names(range(20))) == 44 and len(names(range(21))) == 4
    monkeypatch.setattr(held_out, "MOST_CLASSES", 2)
    few = {"val_loss", "val_dice", "val_pixel_error", "val_boundary_f"}
    assert validate(Fake(), examples())[0].keys() == names(range(3)) == few


def test_names_of_false_and_true_are_theirs():
    assert {"val_dice_False", "val_iou_True"} < names([False, True])


@pytest.mark.parametrize("threshold", [None, 0.2, "validation"])
def test_figures_are_those_of_a_threshold_that_was_given_and_never_of_one_that_is_chosen_on_them(threshold, monkeypatch):
    monkeypatch.setattr(Fake, "out_channels", 2)
    given = examples(k=2)
    figures, chosen = validate(Fake(), given, threshold=threshold)
    here = [e.weight > 0 for e in given]
    truth = np.concatenate([e.label[w] for e, w in zip(given, here, strict=True)])
    p = np.concatenate([e.image[w][:, 1] for e, w in zip(given, here, strict=True)])
    found = p > 0.5 if threshold != 0.2 else p >= np.float32(0.2)
    assert figures["val_dice_1"] == pytest.approx(metrics.dice(truth, found.astype(int))[1])
    dice = {t: metrics.dice(truth, (p >= np.float32(t)).astype(int), [0, 1])[1] for t in np.arange(1, 100) / 100}
    assert chosen == threshold if threshold != "validation" else dice[chosen] == max(dice.values())


@pytest.mark.parametrize("weighed", [True, False])
@pytest.mark.parametrize("loss", losses.LOSSES)
@pytest.mark.parametrize("k", [2, 7])
def test_what_is_predicted_takes_no_more_memory_than_is_foretold(monkeypatch, k, loss, weighed):
    size, rng = (300, 300), np.random.default_rng(0)
    p = rng.dirichlet(np.ones(k), size).astype(np.float32)
    given = Example(p, rng.integers(0, k, size).astype(np.uint8), rng.random(size, np.float32) if weighed else None)
    monkeypatch.setattr(Fake, "out_channels", k)
    threshold = "validation" if k == 2 else None
    validate(Fake(), [given], losses.LOSSES[loss], threshold=threshold)  # what is loaded once is no part of it
    tracemalloc.start()
    try:
        validate(Fake(), [given], losses.LOSSES[loss], threshold=threshold)
        taken = tracemalloc.get_traced_memory()[1]  # the probabilities were there before
    finally:
        tracemalloc.stop()
    assert 0.5 * HELD_OUT < taken / given.label.size < HELD_OUT
