"""Scores against scikit-learn's and scikit-image's, and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet.evaluation import metrics
from minunet.evaluation.baseline import BlurThreshold


@given(seed=st.integers(0, 999), k=st.integers(2, 5))
def test_counts_and_ratios_equal_their_definitions(seed, k):
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, k, (2, 3, 7)), rng.integers(0, k, (2, 3, 7))
    classes = list(range(k))
    counts = metrics.confusion_matrix(truth, found, classes)
    dice, iou = metrics.dice(truth, found, classes), metrics.iou(truth, found, classes)
    for i in classes:
        a, b = truth == i, found == i
        assert counts[i].tolist() == [(a & (found == j)).sum() for j in classes]
        if (a | b).any():
            assert dice[i] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
            assert iou[i] == pytest.approx((a & b).sum() / (a | b).sum())
        else:
            assert np.isnan(dice[i])
            assert np.isnan(iou[i])
    assert metrics.pixel_error(truth, found) == pytest.approx((truth != found).mean())


@given(seed=st.integers(0, 999), k=st.integers(2, 5))
def test_a_weight_is_how_often_a_pixel_counts(seed, k):
    rng = np.random.default_rng(seed)
    truth, found, times = (rng.integers(0, n, (5, 7)) for n in (k, k, 4))
    often = [np.repeat(a, times.ravel()) for a in (truth, found)]
    classes = list(range(k))
    weighed = metrics.confusion_matrix([truth], [found], classes, [times.astype(np.float32)])
    np.testing.assert_array_equal(weighed, metrics.confusion_matrix(*often, classes))
    np.testing.assert_array_equal(metrics.dice(truth, found, classes, times), metrics.dice(*often, classes))
    np.testing.assert_allclose(metrics.dice(truth, found, classes, times * 0.3), metrics.dice(*often, classes), rtol=1e-12)
    with pytest.raises(ValueError, match=r"weights 0 has shape \(4,\); it takes its truth's, \(5, 7\)"):
        metrics.dice([truth], [found], classes, [np.ones(4)])


def test_lists_of_different_sizes_are_pooled():
    truth, found = [np.array([[0, 1]]), np.array([[1], [1], [0]])], [np.array([[0, 0]]), np.array([[1], [0], [0]])]
    assert metrics.pixel_error(truth, found) == pytest.approx(2 / 5)


def test_shapes_that_differ_are_named():
    with pytest.raises(ValueError, match=r"prediction 1 has shape \(3,\); it takes its truth's, \(2,\)"):
        metrics.dice([np.zeros(2), np.zeros(2)], [np.zeros(2), np.zeros(3)])
    with pytest.raises(ValueError, match="a pixel has the value 7"):
        metrics.dice(np.array([7]), np.array([1]), classes=[0, 1])


@given(seed=st.integers(0, 999))
def test_adapted_rand_error_equals_scikit_image(seed):
    oracle = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed").adapted_rand_error
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, 4, (12, 13)), rng.integers(1, 5, (12, 13))  # no 0 in found: there conventions differ
    assert metrics.adapted_rand_error(truth, found) == pytest.approx(oracle(truth, found, ignore_labels=(0,))[0])


def test_a_pixel_predicted_as_membrane_is_together_with_none():
    truth, found = np.array([[1, 1, 1, 2]]), np.array([[1, 1, 0, 0]])
    pairs_truth, pairs_found, both = 3 * 2, 2 * 1, 2 * 1
    assert metrics.adapted_rand_error(truth, found) == pytest.approx(1 - 2 * both / (pairs_truth + pairs_found))
    assert metrics.adapted_rand_error(np.array([1, 2]), np.array([1, 2])) == 0
    with pytest.raises(ValueError, match="truth is 0 everywhere"):
        metrics.adapted_rand_error(np.zeros((1, 4)), found)


def test_segments_are_4_connected():
    assert metrics.segments(np.array([[1, 0], [0, 1]])).max() == 2
    assert metrics.segments(np.array([[1, 1], [0, 1]])).max() == 1


@pytest.mark.parametrize("darker", [0, 255])
def test_blur_and_threshold_finds_the_obvious(darker):
    rng = np.random.default_rng(0)
    y = np.zeros((2, 40, 40), np.uint8)
    y[:, 10:30, 12:34] = 255
    x = np.where(y == darker, 60, 180) + rng.normal(0, 60, y.shape)
    baseline = BlurThreshold().fit(x[:1], y[:1])
    assert baseline.sigma_ > 0
    assert metrics.pixel_error(y[1:], baseline.predict(x[1:])) < 0.05
    with pytest.raises(ValueError, match="y holds 3 values"):
        BlurThreshold().fit(x, np.arange(3))


@pytest.mark.parametrize("metric", [metrics.dice, metrics.iou, metrics.confusion_matrix, metrics.pixel_error])
def test_what_has_no_pixels_to_compare_is_told(metric):
    y = np.zeros((4, 4), int)
    for truth, prediction, says in (
        ([], [], "truth is an empty list; it takes"),
        ([y], [], "prediction is of another length than the 1 of truth; it takes one array for each"),
        ([y], 3, "prediction is of another length"),
        ([None], [None], "truth 0 is of dtype object; it takes numbers"),
        (y, np.full(y.shape, "a"), "prediction 0 is of dtype <U1; it takes numbers"),
    ):
        with pytest.raises(ValueError, match=says):
            metric(truth, prediction, **({"classes": [0, 1]} if metric is metrics.dice else {}))


def test_a_baseline_that_was_never_fitted_says_so():
    with pytest.raises(ValueError, match="not fitted"):
        BlurThreshold().predict(np.zeros((1, 4, 4)))
