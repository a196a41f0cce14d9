"""The loss at its edges, and what it refuses. (Its formula, gradient and weights are proven in proof/.)"""

from __future__ import annotations

import numpy as np
import pytest

from minunet.losses import softmax
from minunet.losses import softmax_cross_entropy as cross_entropy

SHAPE = (2, 3, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_ignored_is_a_loss_of_zero_with_no_gradient(backend, dtype):
    z = np.random.default_rng(0).normal(size=(*SHAPE, 2)).astype(dtype)
    ignored = cross_entropy(z, np.full(SHAPE, 255, np.uint8), ignore_index=255)
    for loss, dz in (ignored, cross_entropy(z, np.zeros(SHAPE, int), weights=np.zeros(SHAPE))):
        assert loss == 0
        assert loss.shape == ()
        assert loss.dtype == dz.dtype == dtype
        np.testing.assert_array_equal(dz, np.zeros_like(z))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits_neither_overflow_nor_vanish(backend, dtype):
    z = np.array([[[[1e30, -1e30], [-1e30, 1e30], [88.0, 800.0]]]], dtype)
    loss, dz = cross_entropy(z, np.array([[[0, 1, 1]]]))
    assert loss == 0
    np.testing.assert_allclose(dz, 0, atol=1e-30)
    loss, dz = cross_entropy(z[:, :, :1], np.array([[[1]]]))
    assert loss == pytest.approx(2e30)
    np.testing.assert_array_equal(dz, [[[[1, -1]]]])


def test_nan_in_a_counted_pixel_is_not_swallowed(backend):
    z = np.zeros((1, 1, 2, 2))
    z[0, 0, 0, 1] = np.nan
    assert np.isnan(cross_entropy(z, np.zeros((1, 1, 2), int))[0])
    assert cross_entropy(z, np.array([[[9, 0]]]), ignore_index=9)[0] == pytest.approx(np.log(2))


def test_softmax_is_a_distribution_however_large_the_logits():
    p = softmax(np.array([[1000.0, 1000.0, -1000.0], [0.0, np.log(3), -np.inf]]))
    np.testing.assert_allclose(p, [[0.5, 0.5, 0], [0.25, 0.75, 0]], rtol=1e-15)


Z, LABELS = np.zeros((*SHAPE, 3)), np.zeros(SHAPE, int)


def with_label(value):
    labels = LABELS.copy()
    labels[1, 2, 3] = value
    return labels


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: cross_entropy(Z, with_label(3)), r"labels\[1, 2, 3\] is 3; with 3 logits a pixel it takes 0 to 2"),
        (lambda: cross_entropy(Z, with_label(-1)), r"labels\[1, 2, 3\] is -1"),
        (lambda: cross_entropy(Z, with_label(255), ignore_index=254), r"labels\[1, 2, 3\] is 255; .*ignore_index"),
        (lambda: cross_entropy(Z, LABELS[:1]), r"labels has shape \(1, 3, 4\); .* it takes \(2, 3, 4\)"),
        (lambda: cross_entropy(Z, Z), r"labels has shape"),
        (lambda: cross_entropy(Z[0], LABELS[0]), r"logits is an array of shape \(3, 4, 3\)"),
        (lambda: cross_entropy(Z, LABELS.astype(float)), r"labels is of dtype float64; it takes whole numbers"),
        (lambda: cross_entropy(Z.astype(int), LABELS), r"logits is of dtype int64; it takes float32 or float64"),
        (lambda: cross_entropy(Z, LABELS, weights=np.ones((3, 4))), r"weights has shape \(3, 4\); it takes \(2, 3, 4\)"),
        (lambda: cross_entropy(Z, LABELS, weights=np.full(SHAPE, -1.0)), r"weights holds negative or non-finite values"),
        (lambda: cross_entropy(Z, LABELS, weights=np.full(SHAPE, np.nan)), r"weights holds negative or non-finite"),
        (lambda: cross_entropy(Z, LABELS, class_weight=[1, 2]), r"class_weight has shape \(2,\); it takes \(3,\)"),
        (lambda: cross_entropy(Z, LABELS, class_weight=[1, 2, np.inf]), r"class_weight holds negative or non-finite"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
