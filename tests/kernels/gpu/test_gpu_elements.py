"""The kernels beside the convolutions, on the emulated device: what proof/, whose rows are all backends, does not ask."""

import math

import numpy as np
import oracles
import pytest
from cuda_on_cpu.door import emulated
from hypothesis import given
from hypothesis import strategies as st
from ml_dtypes import bfloat16
from oracles import assert_same

from minunet.kernels import gpu, parameter_dtype, philox, reference, updates
from minunet.kernels.gpu.loss import MOST_PARTS
from minunet.kernels.gpu.pointwise import COLUMNS, Cut, add_bias_relu, relu_bias_grad
from minunet.testing import strategies

DTYPES = st.sampled_from([np.float32, np.float64, bfloat16])
UNITS = st.sampled_from([1, 3, 4, 8])  # channels: of float32, 4 are a unit
SIZES = st.tuples(st.integers(0, 2), st.integers(1, 7), st.integers(1, 7))


@pytest.fixture(autouse=True, scope="module")
def device():
    with emulated(seed=1) as door:
        yield door


def at_stride(a, before, behind):
    """Return a copy of a (N, H, W, C) as a channel slice of an array of the device that is so much wider; 7 is around it."""
    wide = gpu.empty((*a.shape[:3], before + a.shape[3] + behind), a.dtype)
    wide[...] = 7
    wide[..., before : before + a.shape[3]] = a
    return wide[..., before : before + a.shape[3]]


ANY_UNITS = given(size=SIZES, c=UNITS, before=UNITS, behind=UNITS, seed=oracles.seeds, dtype=DTYPES)


def specified(kernel, *args, **options):
    """Return what the specification gives; of bfloat16, what it gives in float32, rounded once."""
    dtype = args[0].dtype
    wide = [a.astype(np.float32) if getattr(a, "dtype", None) == bfloat16 else a for a in args]
    results = kernel(*wide, **options)
    if isinstance(results, tuple):
        return tuple(a.astype(dtype) if a.dtype == np.float32 else a for a in results)
    return results.astype(dtype)


def drawn_geometry(size, seed):
    """Return a window and a stride, smaller or larger than it."""
    return (min(2, size[1]), min(3, size[2])), (1 + seed % 2, 1 + seed % 4)


@ANY_UNITS
def test_relu_equals_the_specification_with_whole_units_or_not_at_any_pixel_stride(size, c, before, behind, seed, dtype):
    rng = np.random.default_rng(seed)
    x, dy = strategies.extremes(rng, (*size, c), dtype), rng.standard_normal((*size, c)).astype(dtype)
    assert_same(gpu.relu(at_stride(x, before, behind)), specified(reference.relu, x))
    found = gpu.relu_grad(at_stride(dy, before, behind), at_stride(x, behind, before))
    assert_same(found, specified(reference.relu_grad, dy, x))


@ANY_UNITS
def test_columns_equal_the_specification_with_whole_units_or_not_at_any_pixel_stride(size, c, before, behind, seed, dtype):
    """Where taps are added too, to the bit: in the same order."""
    rng = np.random.default_rng(seed)
    kernel, stride = drawn_geometry(size, seed)
    geometry = {"stride": stride, "padding": (seed % kernel[0], seed % kernel[1])}
    x = rng.standard_normal((*size, c)).astype(dtype)
    cols = specified(reference.im2col, x, kernel, **geometry)
    assert_same(gpu.im2col(at_stride(x, before, behind), kernel, **geometry), cols)
    cols = rng.standard_normal(cols.shape).astype(dtype)
    expected = specified(reference.col2im, cols, x.shape, kernel, **geometry)
    assert_same(gpu.col2im(cols, x.shape, kernel, **geometry), expected)


@ANY_UNITS
def test_pooling_equals_the_specification_with_whole_units_or_not_at_any_pixel_stride(size, c, before, behind, seed, dtype):
    """Where windows overlap too, to the bit: in the same order."""
    rng = np.random.default_rng(seed)
    window, stride = drawn_geometry(size, seed)
    x = strategies.extremes(rng, (*size, c), dtype)
    y, argmax = gpu.max_pool2d(at_stride(x, before, behind), window, stride)
    expected, places = specified(reference.max_pool2d, x, window, stride)
    assert_same(y, expected)
    assert_same(argmax, places)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = gpu.max_pool2d_grad(at_stride(dy, before, behind), argmax, x.shape, window, stride)
    assert_same(dx, specified(reference.max_pool2d_grad, dy, argmax, x.shape, window, stride))
    if stride[0] >= window[0] and stride[1] >= window[1]:  # where windows overlap, sums are rounded in another order
        dskip = strategies.integers(rng, x.shape, dtype)
        expected = dskip + dx
        dx = gpu.max_pool2d_grad_plus(dy, argmax, x.shape, window, stride, at_stride(dskip, behind, before))
        assert_same(dx, expected)


@ANY_UNITS
def test_dropout_has_the_bits_of_the_specification_with_whole_units_or_not_at_any_pixel_stride(
    size, c, before, behind, seed, dtype
):
    """And by a seed that lies on the device, as by the number; at a rate that is just an element's word too."""
    rng = np.random.default_rng(seed)
    x, number = rng.standard_normal((*size, c)).astype(dtype), rng.integers(2**63)
    rate = rng.choice([0, rng.random(), philox.words(x.size + 1, number)[x.size // 2] / 2**32])
    expected = specified(reference.dropout, x, rate, number)
    for source in (x, at_stride(x, before, behind)):
        assert_same(gpu.dropout(source, rate, number), expected)
        assert_same(gpu.dropout(source, rate, np.array([number])), expected)


def test_dropout_of_many_blocks_has_the_bits_of_the_specification():
    x = np.random.default_rng(0).standard_normal((1, 50, 60, 7)).astype(np.float32)
    assert_same(gpu.dropout(x, 0.3, 2**63 - 1), reference.dropout(x, 0.3, 2**63 - 1))


@given(size=SIZES, c=UNITS, before=UNITS, behind=UNITS, seed=oracles.seeds, dtype=DTYPES, relu=st.booleans())
def test_bias_and_relu_in_place_write_what_one_after_the_other_gives_and_nothing_beside_it(
    size, c, before, behind, seed, dtype, relu
):
    rng = np.random.default_rng(seed)
    x, b = strategies.extremes(rng, (*size, c), dtype), rng.standard_normal(c).astype(parameter_dtype(dtype))
    for bias in (b, None):
        expected = x if bias is None else x.astype(b.dtype) + bias
        expected = (specified(reference.relu, expected) if relu else expected).astype(dtype)
        out = at_stride(x, before, behind)
        assert add_bias_relu(out, bias, relu=relu, out=out) is out
        assert_same(out, expected)
        around = out.base.view(dtype)
        assert (around[..., :before] == 7).all()
        assert (around[..., before + c :] == 7).all()
        assert_same(add_bias_relu(x, bias, relu=relu, out=gpu.empty(x.shape, dtype)), expected)


@given(size=SIZES, c=st.integers(1, 2 * COLUMNS + 3), before=UNITS, seed=oracles.seeds, dtype=DTYPES)
def test_only_gradients_where_relu_let_something_through_count_for_the_bias(size, c, before, seed, dtype):
    rng = np.random.default_rng(seed)
    dy, y = (strategies.integers(rng, (*size, c), dtype) for _ in range(2))
    counted = reference.relu_grad(dy, y)
    expected = counted.sum(axis=(0, 1, 2), dtype=parameter_dtype(dtype))
    dy[y <= 0] = np.nan
    for given_dy, given_y in ((dy, y), (at_stride(dy, before, 0), at_stride(y, 0, before))):
        masked, db = relu_bias_grad(given_dy, given_y)
        assert_same(masked, counted)
        assert_same(db, expected)
    assert_same(gpu.bias_grad(at_stride(counted, before, 0)), expected)


@given(seed=oracles.seeds)
def test_numbers_change_their_type_as_numpy_changes_it(seed):
    """All that float32 can be, by its bits: NumPy's bfloat16 rounds to the nearest, of two to the even one."""
    bits = np.random.default_rng(seed).integers(0, 2**32, 300, dtype=np.uint32)
    bits[:100] = bits[:100] & 0xFFFF0000 | 0x8000  # half-way between two
    a = bits.view(np.float32)
    narrow = gpu.cast(a, bfloat16)
    with np.errstate(invalid="ignore"):  # what NumPy has to say of signalling NaNs
        assert_same(narrow, a.astype(bfloat16))
    assert gpu.cast(narrow, bfloat16) is narrow
    assert_same(gpu.cast(narrow.reshape(30, 10)[:, 3:7].T, np.float32), narrow.reshape(30, 10)[:, 3:7].T.astype(np.float32))
    assert_same(gpu.cast(narrow, np.float32), narrow.astype(np.float32))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 6e-8), (np.float64, 1e-15)])
@pytest.mark.parametrize("c", [1, 3, 8, COLUMNS + 1])
def test_the_sum_over_many_pixels_is_the_true_one_to_the_last_digit(c, dtype, tolerance):
    dy = 1 + np.random.default_rng(0).random((1, 300, 101, c), dtype)  # of one sign: a plain float32 sum loses 3 digits
    assert Cut.of(300 * 101, c, dy.itemsize).chunks > 1
    exact = [math.fsum(column) for column in dy.reshape(-1, c).T.tolist()]  # NumPy's own sum is off by 1e-14
    np.testing.assert_allclose(gpu.bias_grad(dy), exact, rtol=tolerance, atol=0)


def drawn_loss(dtype, shape, k):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 4, (*shape, k)).astype(dtype), rng.integers(0, k, shape)
    return logits, labels, rng.choice([0, 0.25, 1, 3], shape).astype(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize(("shape", "k"), [((2, 9, 11), 5), ((1, 300, 1001), 2)])
def test_the_loss_is_as_near_to_the_specification_as_its_type_can_be(dtype, tolerance, shape, k):
    logits, labels, weights = drawn_loss(dtype, shape, k)
    assert labels.size > MOST_PARTS * 256 or k > 2
    loss, dlogits = gpu.softmax_cross_entropy(logits, labels, weights)
    expected, dexpected = reference.softmax_cross_entropy(logits.astype(np.float64), labels, weights.astype(np.float64))
    assert (loss.shape, loss.dtype, dlogits.dtype) == ((), dtype, dtype)
    np.testing.assert_allclose(loss, expected, rtol=tolerance)
    np.testing.assert_allclose(dlogits, dexpected, rtol=0, atol=tolerance * np.abs(dexpected).max())


def test_a_pixel_without_weight_may_have_any_label_and_one_with_weight_makes_the_loss_nan_if_its_label_is_none():
    logits, labels, weights = drawn_loss(np.float64, (1, 5, 5), 3)
    weights[0, 0, :2] = 0, 1
    before = gpu.softmax_cross_entropy(logits, labels, weights)
    labels[0, 0, 0], logits[0, 0, 0] = 2**40 + 1, np.nan
    for found, expected in zip(gpu.softmax_cross_entropy(logits, labels, weights), before, strict=True):
        assert_same(found, expected)
    labels[0, 0, 1] = 3
    assert np.isnan(gpu.softmax_cross_entropy(logits, labels, weights)[0])


def test_logits_of_any_size_neither_overflow_nor_lose_the_loss():
    logits = np.array([[[[1000.0, -1000.0]]]])
    for label, expected in ((0, 0), (1, 2000)):
        loss, _ = gpu.softmax_cross_entropy(logits, np.array([[[label]]]), np.ones((1, 1, 1)))
        assert loss == expected


def test_where_no_pixel_has_weight_or_there_is_none_the_loss_is_0():
    for shape in ((2, 3, 4), (0, 3, 4)):
        logits, labels, weights = drawn_loss(np.float32, shape, 3)
        loss, dlogits = gpu.softmax_cross_entropy(logits, labels, 0 * weights)
        assert_same(loss, np.zeros((), np.float32))
        assert_same(dlogits, np.zeros_like(logits))


def drawn_update(size, dtype, offset=0):
    """Return four arrays of the device, all positive, each starting so many elements behind an aligned address."""
    rng = np.random.default_rng(0)
    arrays = [gpu.empty((offset + size,), dtype)[offset:] for _ in range(4)]
    for array in arrays:
        array[...] = rng.random(size)
    return arrays


def update(backend, param, grad, m, v, *loss):
    """All rules, guarded by a loss if there is one."""
    options = {"learning_rate": 0.1, "weight_decay": 0.01}
    sgd, adam = ((backend.guarded_sgd_update, backend.guarded_adam_update) if loss else (backend.sgd_update, backend.adam_update))
    sgd(param, grad, m, *loss, momentum=0.9, **options)
    sgd(param, grad, m, *loss, momentum=0.9, nesterov=True, **options)
    adam(param, grad, m, v, *loss, beta1=0.9, beta2=0.99, epsilon=1e-8, t=3, **options)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize(("size", "offset"), [(1, 0), (2, 0), (1024, 0), (1025, 0), (1024, 1), (4, 4)])
def test_updates_equal_the_specification_and_leave_all_as_it_was_where_the_loss_is_not_finite(dtype, tolerance, size, offset):
    arrays = drawn_update(size, dtype, offset)
    before, expected = ([a.copy() for a in arrays] for _ in range(2))
    for value in (np.nan, np.inf, -np.inf):
        update(gpu, *arrays, gpu.asarray(np.array(value, dtype)))
        for found, old in zip(arrays, before, strict=True):
            assert_same(found, old)
    update(gpu, *arrays, gpu.asarray(np.array(1e30, dtype)))
    update(updates, *expected)
    for found, new in zip(arrays, expected, strict=True):
        np.testing.assert_allclose(found, new, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize(("size", "offset"), [(1, 0), (1024, 1), (2048, 0), (2049, 0), (9000, 0)])
def test_clipping_and_averaging_equal_the_specification(dtype, tolerance, size, offset):
    for most in (1e9, 0.25):
        grad, mean, _, _ = arrays = drawn_update(size, dtype, offset)
        before, expected = grad.copy(), [a.copy() for a in arrays]
        norm = gpu.clip_norm(grad, most=most)
        assert (norm.shape, norm.dtype) == ((), np.float64)
        assert float(norm) == pytest.approx(float(updates.clip_norm(expected[0], most=most)), rel=1e-12)
        np.testing.assert_allclose(grad, expected[0], rtol=tolerance)
        if most == 1e9:
            assert_same(grad, before)
        gpu.average_update(mean, grad, keep=0.75)
        updates.average_update(expected[1], expected[0], keep=0.75)
        np.testing.assert_allclose(mean, expected[1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_norm_that_is_not_finite_hides_nothing(bad):
    grad = gpu.asarray(np.ones(3000, np.float32))
    grad[2500] = bad
    assert not np.isfinite(gpu.clip_norm(grad, most=1.0))
    assert np.isnan(grad[2500])  # of infinity, too: it was scaled by 0


def test_no_order_of_threads_changes_a_bit():
    rng = np.random.default_rng(0)
    dy = rng.standard_normal((1, 60, 70, 17)).astype(np.float32)
    gradient = rng.standard_normal(50_000).astype(np.float32)

    def everything(seed):
        with emulated(seed=seed):
            clipped = gpu.asarray(gradient.copy())
            return [
                gpu.clip_norm(clipped, most=1.0), clipped, gpu.bias_grad(dy),
                *gpu.softmax_cross_entropy(*drawn_loss(np.float32, (1, 60, 70), 4)),
            ]  # fmt: skip

    first = everything(0)
    for seed in (1, 2, 3):
        for one, other in zip(everything(seed), first, strict=True):
            assert_same(one, other)


def test_only_labels_and_weights_may_come_from_the_host():
    plain_x, labels, weights = drawn_loss(np.float32, (2, 4, 6), 4)
    geometry = {"stride": (2, 2), "padding": (0, 0)}
    update_arrays = [np.ones(7, np.float32) for _ in range(4)]
    with emulated(strict=True):
        x, *arrays = (gpu.asarray(a) for a in (plain_x, *update_arrays))
        loss, dx = gpu.softmax_cross_entropy(x, labels, weights)
        again, _ = gpu.softmax_cross_entropy(x, gpu.asarray(labels), gpu.asarray(weights))
        update(gpu, *arrays, loss)
        gpu.average_update(arrays[2], arrays[0], keep=0.5)
        y, argmax = gpu.max_pool2d(x, (2, 2), (2, 2))
        found = [
            gpu.relu(x), gpu.relu_grad(dx, x), *relu_bias_grad(dx, x), y, gpu.max_pool2d_grad(y, argmax, x.shape, (2, 2), (2, 2)),
            gpu.col2im(gpu.im2col(x, (2, 2), **geometry), x.shape, (2, 2), **geometry), loss, again, *arrays,
            gpu.clip_norm(arrays[1], most=1.0), gpu.dropout(x, 0.5, 3), gpu.dropout(x, 0.5, gpu.asarray(np.array([3]))),
        ]  # fmt: skip
        assert {type(a) for a in found} == {type(x)}
        with pytest.raises((TypeError, ValueError)):
            gpu.relu_grad(plain_x, x)
        assert float(loss) == float(again)
        assert_same(gpu.relu(x).get(), reference.relu(plain_x))
