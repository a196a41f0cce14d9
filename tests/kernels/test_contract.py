"""Every backend keeps the rest of the kernel contract: channel slices, NaNs, threads. (What it computes is proven in proof/.)"""

import math
import subprocess
import sys

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_all_same, assert_same

from minunet import kernels
from minunet.kernels import composed, philox, reference, run, updates
from minunet.testing import strategies

DTYPES = st.sampled_from([np.float32, np.float64])
ANY_GEOMETRY = [algorithm for algorithm in kernels.ALGORITHMS if not algorithm.startswith("winograd")]


def test_a_channel_slice_is_a_legal_input_mask_and_output(backend):
    rng = np.random.default_rng(0)
    x, w, b = (strategies.integers(rng, shape, np.float32) for shape in ((2, 5, 6, 3), (3, 3, 3, 4), (4,)))
    geometry = {"stride": (1, 1), "padding": (1, 1)}
    y = run(composed.conv2d_relu, x, w, b, **geometry)
    buffer = np.full((2, 5, 6, 9), 7, np.float32)
    x_sliced = strategies.LAYOUTS["channel slice"](x)
    assert run(composed.conv2d_relu, x_sliced, w, b, out=buffer[..., 2:6], **geometry).base is buffer
    assert_same(buffer[..., 2:6], y)
    assert (buffer[..., :2] == 7).all()
    assert (buffer[..., 6:] == 7).all()
    dy = strategies.integers(rng, y.shape, np.float32)
    sliced = strategies.LAYOUTS["channel slice"](dy)
    assert_all_same(
        run(composed.conv2d_relu_grads, x_sliced, sliced, w, buffer[..., 2:6], **geometry),
        run(composed.conv2d_relu_grads, x, dy, w, y, **geometry),
    )
    assert_same(backend.relu_grad(sliced, buffer[..., 2:6]), backend.relu_grad(dy, y))
    assert_same(backend.bias_grad(sliced), dy.sum(axis=(0, 1, 2)))
    for found, expected in zip(
        backend.max_pool2d(buffer[..., 2:6], (2, 2), (2, 2)), backend.max_pool2d(y, (2, 2), (2, 2)), strict=True
    ):
        assert_same(found, expected)


def sliced(a):
    """Return a as a read-only slice of the channels of a wider array."""
    wide = np.full((*a.shape[:-1], a.shape[-1] + 3), 99).astype(a.dtype)
    wide[..., 2:-1] = a
    wide.flags.writeable = False
    return wide[..., 2:-1]


@given(g=strategies.geometries(), seed=oracles.seeds, dtype=DTYPES, algorithm=st.sampled_from(ANY_GEOMETRY))
def test_read_only_channel_slices_go_in_and_a_channel_slice_comes_out(backend, g, seed, dtype, algorithm):
    """What goes in is left as it was: a kernel that wrote it would raise. Beside `out`, nothing of its buffer changes."""
    rng = np.random.default_rng(seed)
    x, w, b, back = (strategies.integers(rng, s, dtype) for s in (g.x_shape, g.w_shape, (g.k,), (g.x_shape[3],)))
    geometry = {"stride": g.stride, "padding": g.padding}
    y = run(composed.conv2d_relu, x, w, b, **geometry)
    dy = strategies.integers(rng, y.shape, dtype)
    for array in (w, b, back):
        array.flags.writeable = False

    def into_a_slice(definition, *args, shape):
        buffer = np.full((*shape[:3], shape[3] + 5), 7, dtype)
        with kernels.algorithm(algorithm):
            run(definition, *args, **geometry, out=buffer[..., 2:-3])
        assert (buffer[..., :2] == 7).all()
        assert (buffer[..., -3:] == 7).all()
        return buffer[..., 2:-3]

    assert_same(into_a_slice(composed.conv2d_relu, sliced(x), w, b, shape=y.shape), y)
    assert_same(into_a_slice(reference.conv2d, sliced(x), w, b, shape=y.shape), run(reference.conv2d, x, w, b, **geometry))
    expected = run(reference.conv2d_input_grad, dy, w, x.shape, **geometry)
    assert_same(into_a_slice(reference.conv2d_input_grad, sliced(dy), w, x.shape, shape=x.shape), expected)
    assert_same(into_a_slice(composed.conv_transpose2d, sliced(dy), w, back, x.shape, shape=x.shape), expected + back)
    with kernels.algorithm(algorithm):
        found = run(composed.conv2d_relu_grads, sliced(x), sliced(dy), w, sliced(y), **geometry)
        assert_all_same(found, run(composed.conv2d_relu_grads, x, dy, w, y, **geometry))
    cols = backend.im2col(sliced(x), g.kernel, **geometry)
    assert_same(cols, backend.im2col(x, g.kernel, **geometry))
    cols.flags.writeable = False
    backend.col2im(cols, x.shape, g.kernel, **geometry)
    assert_same(backend.bias_grad(sliced(dy)), backend.bias_grad(dy))
    assert_same(backend.relu(sliced(x)), np.maximum(x, 0))
    for slice_dy, slice_y in ((sliced, sliced), (sliced, np.copy), (np.copy, sliced)):
        assert_same(backend.relu_grad(slice_dy(dy), slice_y(y)), np.where(y > 0, dy, 0).astype(dtype))


@given(g=strategies.poolings(), seed=oracles.seeds)
def test_pooling_and_the_loss_take_read_only_channel_slices(backend, g, seed):
    rng = np.random.default_rng(seed)
    x = strategies.integers(rng, g.x_shape)
    y, argmax = backend.max_pool2d(x, g.kernel, g.stride)
    for found, expected in zip(backend.max_pool2d(sliced(x), g.kernel, g.stride), (y, argmax), strict=True):
        assert_same(found, expected)
    dx = backend.max_pool2d_grad(y, argmax, x.shape, g.kernel, g.stride)
    argmax.flags.writeable = False
    assert_same(backend.max_pool2d_grad(sliced(y), argmax, x.shape, g.kernel, g.stride), dx)
    labels, weights = rng.integers(0, x.shape[3], x.shape[:3]), np.ones(x.shape[:3])
    for array in (labels, weights):
        array.flags.writeable = False
    expected = backend.softmax_cross_entropy(x, labels, weights)
    for found, same in zip(backend.softmax_cross_entropy(sliced(x), labels, weights), expected, strict=True):
        assert_same(found, same)


SEEDS = st.integers(0, 2**63 - 1)
RATES = st.one_of(st.sampled_from([0.0, 0.5, 1 - 2.0**-53]), st.floats(0, 1, exclude_max=True))


@given(shape=st.tuples(st.integers(0, 2), *[st.integers(1, 9)] * 3), seed=SEEDS, rate=RATES, dtype=DTYPES, values=oracles.seeds)
def test_dropout_is_a_product_with_one_constant_for_a_seed_the_same_bits_everywhere(backend, shape, seed, rate, dtype, values):
    x = np.random.default_rng(values).standard_normal(shape).astype(dtype)
    keep = reference.dropout(np.ones(shape, dtype), rate, seed)
    assert set(np.unique(keep)) <= {0, dtype(1 / (1 - rate))}
    for given_x in (x, sliced(x)):
        y = backend.dropout(given_x, rate, seed)
        assert_same(y, x * keep)
        assert y.flags.c_contiguous
    if rate == 0:
        assert_same(y, x)


@given(seed=SEEDS, place=st.integers(0, 199))
def test_an_element_is_dropped_where_its_word_is_below_the_rate_and_at_no_lower_rate(backend, seed, place):
    x, word = np.ones((1, 2, 20, 5)), int(philox.words(200, seed)[place])
    for rate, kept in ((word / 2**32, True), ((word + 0.5) / 2**32, True), ((word + 1) / 2**32, False)):
        if rate < 1:
            assert bool(backend.dropout(x, rate, seed).flat[place]) == kept


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63 - 1])
@pytest.mark.parametrize("rate", [0.01, 0.3, 0.5, 0.9])
def test_dropout_in_many_jobs_keeps_its_share(backend, rate, seed):
    """To 5 standard deviations of the binomial distribution; and no job's first word is another than the specification's."""
    x = np.ones((1, 200, 200, 7), np.float32)
    y = backend.dropout(x, rate, seed)
    assert_same(y, reference.dropout(x, rate, seed))
    assert abs(np.count_nonzero(y) - y.size * (1 - rate)) < 5 * np.sqrt(y.size * rate * (1 - rate))


def test_dropout_keeps_nan_dropped_or_not(backend):
    x = np.full((1, 8, 8, 3), np.nan, np.float32)
    x[0, 0] = np.inf
    keep = backend.dropout(np.ones_like(x), 0.5, 3)
    with np.errstate(invalid="ignore"):
        assert_same(backend.dropout(x, 0.5, 3), x * keep)


def test_a_window_may_have_as_many_elements_as_a_byte_counts(backend):
    x = np.arange(2 * 18 * 17, dtype=np.float32).reshape(1, 18, 17, 2)  # the last element is the largest: place 255
    y, argmax = backend.max_pool2d(x, (16, 16), (1, 1))
    assert_same(argmax, np.full((1, 3, 2, 2), 255, np.uint8))
    dx = backend.max_pool2d_grad(y, argmax, x.shape, (16, 16), (1, 1))
    expected = np.zeros_like(x)
    expected[:, 15:, 15:] = y
    assert_same(dx, expected)


def test_nan_is_never_swallowed(backend):
    x = np.ones((1, 4, 4, 1))
    x[0, 1, 1] = np.nan
    w = np.zeros((3, 3, 1, 1))
    y = run(composed.conv2d_relu, x, w, np.zeros(1), stride=(1, 1), padding=(1, 1))
    seen = np.zeros((4, 4), bool)
    seen[0:3, 0:3] = True
    np.testing.assert_array_equal(np.isnan(y[0, ..., 0]), seen)
    assert np.isnan(backend.relu(x)[0, 1, 1, 0])
    pooled, argmax = backend.max_pool2d(np.array([1, np.nan, 9, np.nan]).reshape(1, 2, 2, 1), (2, 2), (2, 2))
    assert np.isnan(pooled).all()
    assert argmax.item() == 1


@given(seed=oracles.seeds, k=st.integers(1, 5), dtype=DTYPES)
def test_cross_entropy_equals_scipy(backend, seed, k, dtype):
    from scipy.special import log_softmax, softmax

    rng = np.random.default_rng(seed)
    z = rng.normal(0, 5, (2, 3, 4, k)).astype(dtype)
    labels, weights = rng.integers(0, k, z.shape[:3]), rng.integers(0, 3, z.shape[:3]).astype(dtype)
    weights[0, 0, 0] = 1
    loss, dz = backend.softmax_cross_entropy(z, labels, weights)
    picked = np.take_along_axis(log_softmax(z.astype(float), axis=-1), labels[..., None], -1)[..., 0]
    tolerance = 1e-12 if dtype is np.float64 else 1e-5
    assert loss == pytest.approx(-(weights * picked).sum() / weights.sum(), rel=tolerance, abs=tolerance)
    expected = (softmax(z.astype(float), axis=-1) - np.eye(k)[labels]) * (weights / weights.sum())[..., None]
    np.testing.assert_allclose(dz, expected, rtol=0, atol=tolerance)
    assert dz.dtype == dtype
    assert loss.dtype == dtype
    assert loss.shape == ()


def test_a_pixel_of_weight_zero_takes_no_part_whatever_its_logits_and_label(backend):
    z = np.zeros((1, 1, 2, 3))
    z[0, 0, 1] = np.nan
    loss, dz = backend.softmax_cross_entropy(z, np.array([[[2, 255]]]), np.array([[[1.0, 0.0]]]))
    assert loss == pytest.approx(np.log(3))
    np.testing.assert_array_equal(dz[0, 0, 1], 0)
    loss, dz = backend.softmax_cross_entropy(z, np.array([[[2, 255]]]), np.zeros((1, 1, 2)))
    assert loss == 0
    assert (dz == 0).all()


def test_extreme_logits_do_not_overflow(backend):
    z = np.array([[[[1000.0, -1000.0]]]])
    assert backend.softmax_cross_entropy(z, np.array([[[0]]]), np.ones((1, 1, 1)))[0] == 0
    assert backend.softmax_cross_entropy(z, np.array([[[1]]]), np.ones((1, 1, 1)))[0] == 2000


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_updates_follow_their_formulas(backend, dtype):
    rng = np.random.default_rng(0)
    param, grad, velocity = (rng.standard_normal(1000).astype(dtype) for _ in range(3))
    p, v = param.astype(float), velocity.astype(float)
    run(updates.sgd_update, param, grad, velocity, learning_rate=0.1, momentum=0.9, weight_decay=0.01)
    v = 0.9 * v + grad + 0.01 * p
    np.testing.assert_allclose(velocity, v, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(param, p - 0.1 * v, rtol=1e-4, atol=1e-6)
    m, s = np.zeros(1000, dtype), np.zeros(1000, dtype)
    p, em, es = param.astype(float), 0.0, 0.0
    for t in (1, 2, 3):
        run(
            updates.adam_update, param, grad, m, s, learning_rate=0.1, beta1=0.9, beta2=0.99, epsilon=1e-8, weight_decay=0.05, t=t
        )
        em, es = 0.9 * em + 0.1 * grad.astype(float), 0.99 * es + 0.01 * grad.astype(float) ** 2
        p = p - 0.1 * (em / (1 - 0.9**t) / (np.sqrt(es / (1 - 0.99**t)) + 1e-8) + 0.05 * p)
    np.testing.assert_allclose(param, p, rtol=1e-4 if dtype is np.float32 else 1e-12, atol=1e-6 if dtype is np.float32 else 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 7, 16_385, 40_000])
def test_a_gradient_is_scaled_to_the_norm_that_it_may_have_and_a_shorter_one_is_left(backend, dtype, size):
    grad = np.random.default_rng(size).standard_normal(size).astype(dtype)
    before, norm = grad.copy(), math.sqrt(math.fsum(float(g) ** 2 for g in grad))
    for most in (norm * 1.0001, 1e9):
        assert float(run(updates.clip_norm, grad, most=most)) == pytest.approx(norm, rel=1e-12)
        assert_same(grad, before)
    assert float(run(updates.clip_norm, grad, most=norm / 7)) == pytest.approx(norm, rel=1e-12)  # that of before
    np.testing.assert_allclose(grad * 7, before, rtol=1e-6 if dtype is np.float32 else 1e-12)


@pytest.mark.parametrize("place", [0, 16_384, 39_999])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_norm_tells_of_one_number_that_is_not_finite_and_no_square_overflows(backend, place, bad):
    grad = np.full(40_000, -1e30, np.float32)
    assert float(run(updates.clip_norm, grad, most=1.0)) == pytest.approx(200 * 1e30, rel=1e-6)
    np.testing.assert_allclose(grad, -1 / 200, rtol=1e-6)
    assert run(updates.clip_norm, np.zeros(5, np.float32), most=1.0) == 0
    grad[place] = bad
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(run(updates.clip_norm, grad, most=1.0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mean_takes_in_a_share_and_rests_where_nothing_moves(backend, dtype):
    mean, param = np.random.default_rng(0).standard_normal((2, 40_000)).astype(dtype)
    expected, held = 0.9 * mean.astype(float) + 0.1 * param, param.copy()
    run(updates.average_update, mean, param, keep=0.9)
    np.testing.assert_allclose(mean, expected, rtol=1e-5 if dtype is np.float32 else 1e-12, atol=1e-6)
    assert_same(param, held)
    run(updates.average_update, param, held, keep=0.9)
    assert_same(param, held)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_number_among_many_that_is_not_finite_is_found(backend, dtype):
    a = np.full(40_000, np.finfo(dtype).max, dtype)  # three of a kernel's jobs, and whose sum overflows
    a[::3] = -np.finfo(dtype).tiny
    assert run(updates.is_finite, a) and run(updates.is_finite, a[:1])
    for place in (0, 16_383, 16_384, 39_999):
        for bad in (np.nan, np.inf, -np.inf):
            a[place], kept = bad, a[place]
            assert not run(updates.is_finite, a)
            a[place] = kept
    assert run(updates.is_finite, a)


def test_the_thread_count_changes_no_bit(backend):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 60, 70, 17)).astype(np.float32)
    w = rng.standard_normal((3, 3, 17, 19)).astype(np.float32)
    geometry = {"stride": (1, 1), "padding": (1, 1)}

    def everything():
        y = run(composed.conv2d_relu, x, w, None, **geometry)
        dx, dw, db = run(composed.conv2d_relu_grads, x, y, w, y, **geometry)
        pooled, argmax = backend.max_pool2d(y, (2, 2), (2, 2))
        loss, dz = backend.softmax_cross_entropy(y, np.zeros(y.shape[:3], int), np.ones(y.shape[:3], np.float32))
        cols = backend.im2col(x, (3, 3), stride=(2, 1), padding=(1, 0))
        return [
            y, dx, dw, db, backend.bias_grad(y), pooled, argmax, loss, dz, cols,
            backend.col2im(cols, x.shape, (3, 3), stride=(2, 1), padding=(1, 0)),
            backend.conv2d_input_grad(pooled, w, x.shape, stride=(2, 2), padding=(1, 1)),
            backend.max_pool2d_grad(pooled, argmax, y.shape, (2, 2), (2, 2)), backend.relu(x), backend.relu_grad(dx, x),
            backend.dropout(x, 0.5, 3),
        ]  # fmt: skip

    def bits(n):
        with kernels.threads(n):
            return [array.tobytes() for array in everything()]

    assert bits(1) == bits(2) == bits(3)


def test_backends_can_be_chosen_and_unknown_ones_are_refused():
    with kernels.use_backend("reference"):
        assert kernels.for_array(None).__name__.endswith("reference")
    with pytest.raises(ValueError, match="unknown backend 'tpu'; there are: reference, cpu"), kernels.use_backend("tpu"):
        pass
    with pytest.raises(ValueError, match="n_threads is 0"), kernels.threads(0):
        pass


def test_the_reference_serves_with_one_warning_where_numba_does_not_work(monkeypatch):
    def broken():
        raise RuntimeError("LLVM is missing")

    monkeypatch.setattr("minunet.kernels.cpu.jit.probe", broken)
    monkeypatch.setattr("minunet.kernels.cpu.probe", broken)
    kernels._fastest.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="LLVM is missing.*reference kernels serve"):
            assert kernels.for_array(None).__name__.endswith("reference")
        assert kernels.available() == ["reference"]  # and no second warning: warnings are errors here
    finally:
        kernels._fastest.cache_clear()


def test_without_numba_the_reference_trains_with_one_warning():
    program = """
import sys, warnings
sys.modules["numba"] = None  # as if it were not installed
import numpy as np, minunet
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    network, x = minunet.Network(1, 2, 2, 1), np.ones((1, 4, 4, 1), np.float32)
    for _ in range(2):
        minunet.training.step(network, minunet.optim.Adam(), x, np.zeros((1, 4, 4), int))
print(len(caught), caught[0].message)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1 Numba does not work here (")


@pytest.mark.parametrize("given", ["1000000000", "9" * 5000])
def test_more_threads_than_any_machine_has_count_as_fewer(monkeypatch, given):
    monkeypatch.setenv("MINUNET_NUM_THREADS", given)
    assert kernels.n_threads() == kernels.MOST_THREADS >= 64
    with kernels.threads(10**9):
        assert kernels.n_threads() == kernels.MOST_THREADS


@pytest.mark.parametrize("given", ["many", "0", "-3", "1.5", "000", "\u0663", "\u00b2"])
def test_n_threads_comes_from_the_environment(monkeypatch, given):
    monkeypatch.setenv("MINUNET_NUM_THREADS", "3")
    assert kernels.n_threads() == 3
    monkeypatch.setenv("MINUNET_NUM_THREADS", given)
    with pytest.raises(ValueError, match=f"MINUNET_NUM_THREADS is '{given}'"):
        kernels.n_threads()


def test_sums_over_more_pixels_than_a_chunk_holds_are_whole(backend):
    """Nine chunks, or about as many blocks of rows: a sum that forgets one is another number."""
    rng = np.random.default_rng(0)
    x, dy = (strategies.integers(rng, (2, 130, 141, channels), np.float32) for channels in (2, 3))
    assert_same(backend.bias_grad(dy), dy.sum(axis=(0, 1, 2)))
    dw, db = backend.conv2d_weight_grad(x, dy, (1, 1, 2, 3), stride=(1, 1), padding=(0, 0))
    assert_same(dw[0, 0], x.reshape(-1, 2).T @ dy.reshape(-1, 3))
    assert_same(db, dy.sum(axis=(0, 1, 2)))
    labels, weights = np.zeros(x.shape[:3], int), np.ones(x.shape[:3])
    assert backend.softmax_cross_entropy(np.zeros(x.shape), labels, weights)[0] == pytest.approx(np.log(2), rel=1e-12)
