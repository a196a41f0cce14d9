"""The loss against its own formula, differentiated by a complex step; its weights; and what it refuses."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet.losses import softmax
from minunet.losses import softmax_cross_entropy as cross_entropy

SHAPE = (2, 3, 4)


def formula(z, labels, w):
    """sum(w l) / sum(w), for complex z too, in loops over pixels."""
    total = 0
    for pixel in np.ndindex(*labels.shape):
        if w[pixel]:
            shifted = z[pixel] - z[pixel].real.max()
            total += w[pixel] * (np.log(np.exp(shifted).sum()) - shifted[labels[pixel]])
    return total / w.sum()


@given(
    seed=oracles.seeds, k=st.integers(1, 4), weighted=st.booleans(), by_class=st.booleans(),
    ignore=st.sampled_from([None, 0, 255]), scale=st.sampled_from([1, 30]),
)  # fmt: skip
def test_loss_and_gradient_are_those_of_the_formula(backend, seed, k, weighted, by_class, ignore, scale):
    rng = np.random.default_rng(seed)
    z, labels = rng.normal(0, scale, (*SHAPE, k)), rng.integers(0, k, SHAPE)
    if ignore == 255:
        labels[rng.random(SHAPE) < 0.3] = 255
    weights = rng.choice([0.0, 0.5, 3.0], SHAPE) if weighted else None
    class_weight = rng.uniform(0.1, 4, k) if by_class else None
    loss, dz = cross_entropy(z, labels, class_weight=class_weight, weights=weights, ignore_index=ignore)
    w = np.where(labels == ignore, 0, np.ones(SHAPE) if weights is None else weights)
    if by_class:
        w = w * class_weight[np.where(w > 0, labels, 0)]
    if w.sum() == 0:
        assert loss == 0
        assert (dz == 0).all()
        return
    assert float(loss) == pytest.approx(formula(z, labels, w), rel=1e-12, abs=1e-13)
    expected = np.zeros_like(z)
    for index in np.ndindex(*z.shape):
        turned = z.astype(complex)
        turned[index] += 1e-100j  # the complex step: a derivative with no cancellation at all
        expected[index] = formula(turned, labels, w).imag / 1e-100
    np.testing.assert_allclose(dz, expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(dz.sum(axis=-1), 0, atol=1e-15)


@given(seed=oracles.seeds)
def test_a_weight_of_two_is_the_pixel_twice(backend, seed):
    rng = np.random.default_rng(seed)
    z, labels = rng.normal(0, 3, (*SHAPE, 3)), rng.integers(0, 3, SHAPE)
    weights = rng.integers(0, 3, SHAPE)
    weights[0, 0, 0] = 2
    loss, dz = cross_entropy(z, labels, weights=weights)
    repeated = np.repeat(np.arange(labels.size), weights.ravel())
    twice, dtwice = cross_entropy(z.reshape(-1, 3)[repeated][None, None], labels.ravel()[repeated][None, None])
    assert float(loss) == pytest.approx(float(twice), rel=1e-13)
    summed = np.zeros((labels.size, 3))
    np.add.at(summed, repeated, dtwice[0, 0])
    np.testing.assert_allclose(dz.reshape(-1, 3), summed, rtol=0, atol=1e-15)


@given(seed=oracles.seeds, factor=st.sampled_from([0.125, 4.0]))
def test_only_ratios_of_weights_and_differences_of_logits_count(backend, seed, factor):
    rng = np.random.default_rng(seed)
    z, labels, weights = rng.integers(-9, 9, (*SHAPE, 3)).astype(float), rng.integers(0, 3, SHAPE), rng.uniform(0.5, 2, SHAPE)
    loss, dz = cross_entropy(z, labels, weights=weights)
    shifted = cross_entropy(z + rng.integers(-99, 99, (*SHAPE, 1)), labels, weights=factor * weights)
    np.testing.assert_allclose(shifted[0], loss, rtol=1e-12)
    np.testing.assert_allclose(shifted[1], dz, rtol=0, atol=1e-14)


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


@pytest.mark.parametrize("layout", oracles.layouts(np.zeros((1, 2, 2, 2))))
def test_any_layout_gives_the_same_and_is_left_as_it_was(backend, layout):
    rng = np.random.default_rng(0)
    z, labels, weights = rng.normal(size=(*SHAPE, 3)), rng.integers(0, 3, SHAPE), rng.uniform(1, 2, SHAPE)
    expected, dexpected = cross_entropy(z, labels, weights=weights)
    labels, weights = np.asfortranarray(labels.astype(np.int8)), np.asfortranarray(weights)
    view = oracles.layouts(z)[layout]
    before = view.copy(), labels.copy(), weights.copy()
    for array in (view, labels, weights):
        array.flags.writeable = False
    loss, dz = cross_entropy(view, labels, weights=weights)
    assert loss == expected
    np.testing.assert_array_equal(dz, dexpected)
    for array, copy in zip((view, labels, weights), before, strict=True):
        np.testing.assert_array_equal(array, copy)


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
