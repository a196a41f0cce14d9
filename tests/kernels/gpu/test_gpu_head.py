"""The head, the loss and their gradients in one pass, on the emulated device: against one kernel after another, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_on_cpu.door import emulated
from cuda_on_cpu.strict import DeviceArray
from ml_dtypes import bfloat16
from oracles import assert_all_same, assert_same
from proof.rows import serving

from minunet.kernels import composed, gpu, parameter_dtype, reference
from minunet.kernels.gpu.head import BLOCK, MOST_CLASSES, PIXELS, WARP, Fused, linear_cross_entropy
from minunet.kernels.gpu.loss import MOST_PARTS, parts

# Of each type the fewest and the most channels and classes that are fused, the usual ones, and what is just beyond
FUSED = [
    (np.float32, 4, 1), (np.float32, 16, 3), (np.float32, 64, 2), (np.float32, 128, MOST_CLASSES),
    (np.float64, 2, 2), (np.float64, 64, MOST_CLASSES), (bfloat16, 8, 3), (bfloat16, 64, 2), (bfloat16, 256, MOST_CLASSES),
]  # fmt: skip
COMPOSED = [
    (np.float32, 2, 2), (np.float32, 12, 2), (np.float32, 66, 2), (np.float32, 256, 2), (np.float32, 64, MOST_CLASSES + 1),
    (np.float64, 128, 2), (bfloat16, 4, 2), (bfloat16, 48, 3), (bfloat16, 512, 2),
]  # fmt: skip
USUAL = (np.float32, 64, 2)
SHAPES = [(1, 1, 1), (2, 5, 7), (1, 61, 70)]  # of the last, each kind of lanes has several parts


@pytest.fixture(autouse=True)
def device():
    with emulated(seed=1) as door, serving(gpu):
        yield door


def drawn(dtype, c, k, shape=(2, 5, 7)):
    """Return x, w, b, labels, weights: of x whole numbers and of w quarters, so that logits are exact in any type."""
    rng = np.random.default_rng(0)
    x, w, b = rng.integers(-3, 4, (*shape, c)), rng.integers(-4, 5, (1, 1, c, k)) / 4, rng.integers(-2, 3, k)
    weights = rng.choice([0, 0.25, 1, 3], shape)
    weights.flat[0] = 1
    wide = parameter_dtype(dtype)
    return x.astype(dtype), w.astype(wide), b.astype(wide), rng.integers(0, k, shape), weights.astype(wide)


def in_float64(x, w, b, labels, weights):
    with serving(reference):
        return composed.linear_cross_entropy(*(a.astype(np.float64) for a in (x, w, b)), labels, weights.astype(np.float64))


@pytest.mark.parametrize(("dtype", "c", "k"), FUSED + COMPOSED)
def test_loss_and_gradients_are_those_of_one_kernel_after_another(device, dtype, c, k):
    of_type = {np.float32: 5e-7, np.float64: 1e-14, bfloat16: 5e-7}[dtype]
    for shape in SHAPES:
        arrays = drawn(dtype, c, k, shape)
        expected = in_float64(*arrays)
        found = linear_cross_entropy(*arrays)
        assert [a.dtype for a in found] == [arrays[1].dtype, dtype, arrays[1].dtype, arrays[1].dtype]
        for name, one, other in zip(("loss", "dx", "dw", "db"), found, expected, strict=True):
            # what is stored in bfloat16 is off by 2^-9: dx, and dlogits where they are stored
            stored = dtype == bfloat16 and (name == "dx" or (name == "dw" and (dtype, c, k) in COMPOSED))
            tolerance = 2.0**-8 if stored else of_type
            assert one.shape == other.shape
            np.testing.assert_allclose(one.astype(np.float64), other, rtol=tolerance, atol=tolerance * np.abs(other).max())
    assert bool(device.launched["linear_cross_entropy"]) == ((dtype, c, k) in FUSED)


def test_in_float64_any_numbers_give_twelve_digits():
    rng = np.random.default_rng(0)
    x, w, b, labels, weights = drawn(np.float64, 64, 3)
    x, w, b = (rng.standard_normal(a.shape) for a in (x, w, b))
    for one, other in zip(linear_cross_entropy(x, w, b, labels, weights), in_float64(x, w, b, labels, weights), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13 * np.abs(other).max())


def test_many_pixels_have_the_sum_of_all_weights():
    arrays = drawn(np.float64, 2, 2, (1, 91, 93))
    assert parts(arrays[4].size) > WARP  # of the sum of weights, which a warp adds
    for one, other in zip(linear_cross_entropy(*arrays), in_float64(*arrays), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13 * np.abs(other).max())


def test_bfloat16_rounds_w_as_it_rounds_any_factor():
    x, w, *rest = drawn(bfloat16, 64, 2)
    w = np.random.default_rng(0).standard_normal(w.shape).astype(np.float32)
    rounded = w.astype(bfloat16).astype(np.float32)
    assert (w != rounded).any()
    assert_all_same(linear_cross_entropy(x, w, *rest), linear_cross_entropy(x, rounded, *rest))


def test_a_pixel_without_weight_may_have_any_logits_and_label():
    """All as it was, but dw of a channel that is NaN: a product with 0 there, as in the specification."""
    x, w, b, labels, weights = drawn(*USUAL)
    weights[1, 2, :2] = 0
    before = linear_cross_entropy(x, w, b, labels, weights)
    x[1, 2, 0, 5], x[1, 2, 1, 0], x[1, 2, 1, 63] = np.nan, 3e38, -3e38
    labels[1, 2, :2] = 255, -1
    loss, dx, dw, db = linear_cross_entropy(x, w, b, labels, weights)
    assert_all_same((loss, dx, db), (before[0], before[1], before[3]))
    assert (dx[1, 2, :2] == 0).all()
    assert np.isnan(dw[0, 0, 5]).all()
    dw[0, 0, 5] = before[2][0, 0, 5]
    assert_same(dw, before[2])


def test_a_label_that_is_none_or_a_nan_makes_the_loss_nan_where_the_pixel_has_weight():
    x, w, b, labels, weights = drawn(*USUAL)
    wrong = labels.copy()
    wrong[0, 0, 0] = 2
    assert np.isnan(linear_cross_entropy(x, w, b, wrong, weights)[0])
    for k in range(2):
        nan = b.copy()
        nan[k] = np.nan
        assert all(np.isnan(a).any() for a in linear_cross_entropy(x, w, nan, labels, weights))


def test_logits_of_any_size_neither_overflow_nor_lose_the_loss():
    x, w = np.full((1, 1, 1, 4), 250, np.float32), np.tile(np.float32([1, -1]), (1, 1, 4, 1))
    for label, expected in ((0, 0), (1, 2000)):
        loss, *gradients = linear_cross_entropy(x, w, np.zeros(2, np.float32), np.full((1, 1, 1), label), np.ones((1, 1, 1)))
        assert loss == expected
        assert all(np.isfinite(a).all() for a in gradients)


@pytest.mark.parametrize(("dtype", "c", "k"), [USUAL, (bfloat16, 64, 2), (np.float32, 12, 2)])
def test_where_no_pixel_has_weight_or_there_is_none_all_is_0(dtype, c, k):
    for shape in ((2, 5, 7), (0, 5, 7)):
        x, w, b, labels, weights = drawn(dtype, c, k, (2, 5, 7))
        n = shape[0]
        found = linear_cross_entropy(x[:n], w, b, labels[:n], 0 * weights[:n])
        assert_all_same(found, (np.zeros((), w.dtype), np.zeros_like(x[:n]), np.zeros_like(w), np.zeros_like(b)))


def at_stride(x, before, behind):
    """Return a copy of x as a channel slice of an array of the device that is so much wider, NaN around it."""
    wide = gpu.empty((*x.shape[:3], before + x.shape[3] + behind), x.dtype)
    wide[..., before : before + x.shape[3]] = x
    return wide[..., before : before + x.shape[3]]


@pytest.mark.parametrize(("dtype", "c", "k"), [USUAL, (bfloat16, 64, 2)])
def test_no_pixel_stride_address_order_of_threads_or_device_changes_a_bit(dtype, c, k):
    x, *rest = drawn(dtype, c, k, (1, 23, 31))
    rest[0] = np.random.default_rng(0).standard_normal(rest[0].shape).astype(np.float32)
    first = linear_cross_entropy(x, *rest)
    for before, behind in ((0, 8), (16, 0), (8, 24), (1, 0), (0, 3), (4, 3)):
        assert_all_same(linear_cross_entropy(at_stride(x, before, behind), *rest), first)
    for seed, capability in ((0, 75), (2, 80), (3, 90)):
        with emulated(seed=seed, capability=capability):
            assert_all_same(linear_cross_entropy(x, *rest), first)


def test_only_labels_and_weights_may_come_from_the_host_and_nothing_waits():
    for case in (USUAL, (bfloat16, 64, 2), (np.float32, 12, 2)):
        arrays = drawn(*case)
        expected = linear_cross_entropy(*arrays)
        with emulated(strict=True):
            there, waits = [gpu.asarray(a) for a in arrays], DeviceArray.waits
            found = linear_cross_entropy(*there[:3], *arrays[3:])
            again = linear_cross_entropy(*there)
            assert DeviceArray.waits == waits
            for one, other, here in zip(found, again, expected, strict=True):
                assert_same(one.get(), here)
                assert_same(other.get(), here)


def test_sums_are_cut_by_shape_alone_into_parts_that_have_pixels_enough():
    for how in (Fused.of(c, k, dtype) for dtype, c, k in FUSED):
        assert how.lanes & (how.lanes - 1) == 0 and how.lanes <= WARP
        block = BLOCK // how.lanes * PIXELS
        assert [how.parts(pixels) for pixels in (0, 1, block, block + 1, 2**40)] == [1, 1, 1, 2, MOST_PARTS]
    assert all(Fused.of(c, k, dtype) is None for dtype, c, k in COMPOSED)
