"""Every op's gradient against finite differences, its purity, its layouts, and what it refuses."""

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet import ops

TOLERANCE = 1e-10


@given(g=oracles.geometries(most=5, least_images=1), seed=oracles.seeds)
def test_conv2d_gradients_are_the_jacobian(backend, g, seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(s) for s in (g.x_shape, g.w_shape, (g.k,))]
    y, cache = ops.conv2d(*arrays, stride=g.stride, padding=g.padding)
    dy = rng.standard_normal(y.shape)
    gradients = ops.conv2d_backward(dy, cache)

    def forward(*args):
        return ops.conv2d(*args, stride=g.stride, padding=g.padding)[0]

    assert oracles.directional_error(forward, arrays, gradients, dy, rng, step=1.0) < TOLERANCE
    for i in range(3):
        if arrays[i].size <= 60:
            numeric = oracles.jacobian_product(forward, arrays, i, dy, step=1.0)  # linear: no truncation error
            assert oracles.relative_error(gradients[i], numeric) < TOLERANCE


@given(g=oracles.geometries(most=5, least_images=1), seed=oracles.seeds, data=st.data())
def test_conv_transpose2d_gradients_are_the_jacobian(backend, g, seed, data):
    rng = np.random.default_rng(seed)
    extra = tuple(data.draw(st.integers(0, s - 1)) for s in g.stride)
    sizes = [(g.x_shape[1 + a] - 1) * g.stride[a] - 2 * g.padding[a] + g.kernel[a] + extra[a] for a in (0, 1)]
    options = {"stride": g.stride, "padding": g.padding, "output_padding": extra}
    arrays = [rng.standard_normal(s) for s in (g.x_shape, (*g.kernel, g.k, g.x_shape[3]), (g.k,))]
    if min(sizes) < 1:
        with pytest.raises(ValueError, match="padding"):
            ops.conv_transpose2d(*arrays, **options)
        return
    y, cache = ops.conv_transpose2d(*arrays, **options)
    assert y.shape == (g.x_shape[0], *sizes, g.k)
    dy = rng.standard_normal(y.shape)
    gradients = ops.conv_transpose2d_backward(dy, cache)

    def forward(*args):
        return ops.conv_transpose2d(*args, **options)[0]

    assert oracles.directional_error(forward, arrays, gradients, dy, rng, step=1.0) < TOLERANCE
    for i in range(3):
        if arrays[i].size <= 60:
            assert oracles.relative_error(gradients[i], oracles.jacobian_product(forward, arrays, i, dy, 1.0)) < TOLERANCE


@given(g=oracles.geometries(padded=False, least_images=1), seed=oracles.seeds)
def test_max_pool2d_gradient_is_the_jacobian(backend, g, seed):
    rng = np.random.default_rng(seed)
    x = rng.permutation(np.arange(np.prod(g.x_shape), dtype=float)).reshape(g.x_shape)  # no ties: gaps of 1
    y, cache = ops.max_pool2d(x, window=g.kernel, stride=g.stride)
    dy = rng.standard_normal(y.shape)
    (dx,) = ops.max_pool2d_backward(dy, cache)

    def forward(a):
        return ops.max_pool2d(a, window=g.kernel, stride=g.stride)[0]

    assert oracles.directional_error(forward, [x], [dx], dy, rng, step=0.25) < TOLERANCE
    assert dx.sum() == pytest.approx(dy.sum(), abs=1e-9)  # gradient mass is kept


@given(seed=oracles.seeds)
def test_relu_gradient_is_the_jacobian(backend, seed):
    rng = np.random.default_rng(seed)
    x = rng.choice([-1, 1], (2, 3, 4, 5)) * rng.uniform(0.5, 3, (2, 3, 4, 5))
    y, cache = ops.relu(x)
    dy = rng.standard_normal(y.shape)
    gradients = ops.relu_backward(dy, cache)
    assert oracles.directional_error(lambda a: ops.relu(a)[0], [x], gradients, dy, rng, step=0.25) < TOLERANCE


@given(seed=oracles.seeds, rate=st.sampled_from([0.0, 0.25, 0.5]))
def test_dropout_gradient_is_the_jacobian(backend, seed, rate):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 3, 4, 5))

    def forward(a):
        return ops.dropout(a, rate, np.random.default_rng(seed))[0]

    y, cache = ops.dropout(x, rate, np.random.default_rng(seed))
    dy = rng.standard_normal(y.shape)
    assert oracles.directional_error(forward, [x], ops.dropout_backward(dy, cache), dy, rng, step=0.5) < TOLERANCE


def test_dropout_keeps_the_mean_and_drops_the_rate():
    y, _ = ops.dropout(np.ones((1, 300, 300, 4)), 0.3, np.random.default_rng(0))
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert y.mean() == pytest.approx(1, abs=0.01)


@given(seed=oracles.seeds, crop=st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_concat_skip_gradients_are_the_jacobian(backend, seed, crop):
    rng = np.random.default_rng(seed)
    skip, up = rng.standard_normal((2, 3 + crop[0], 4 + crop[1], 2)), rng.standard_normal((2, 3, 4, 3))
    y, cache = ops.concat_skip(skip, up)
    assert y.shape == (2, 3, 4, 5)
    top, left = crop[0] // 2, crop[1] // 2
    np.testing.assert_array_equal(y[..., :2], skip[:, top : top + 3, left : left + 4])
    np.testing.assert_array_equal(y[..., 2:], up)
    dy = rng.standard_normal(y.shape)
    gradients = ops.concat_skip_backward(dy, cache)
    assert [g.shape for g in gradients] == [skip.shape, up.shape]
    forward = lambda *a: ops.concat_skip(*a)[0]  # noqa: E731
    assert oracles.directional_error(forward, [skip, up], gradients, dy, rng, step=1.0) < TOLERANCE


def test_concatenation_of_the_halves_of_one_buffer_costs_no_copy():
    buffer = np.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    y, _ = ops.concat_skip(buffer[..., :2], buffer[..., 2:])
    assert np.shares_memory(y, buffer)
    np.testing.assert_array_equal(y, buffer)
    for skip, up in ((buffer[..., 2:4], buffer[..., 4:]), (buffer[..., 4:], buffer[..., :4]), (buffer[..., :3], buffer[..., 2:])):
        y, _ = ops.concat_skip(skip, up)
        np.testing.assert_array_equal(y, np.concatenate((skip, up), axis=3))
        assert not np.shares_memory(y, buffer)


@given(g=oracles.geometries(), seed=oracles.seeds)
def test_fused_relu_equals_composed_bit_for_bit(backend, g, seed):
    rng = np.random.default_rng(seed)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in (g.x_shape, g.w_shape, (g.k,)))
    fused, fused_cache = ops.conv2d(x, w, b, stride=g.stride, padding=g.padding, relu=True)
    plain, cache = ops.conv2d(x, w, b, stride=g.stride, padding=g.padding)
    y, relu_cache = ops.relu(plain)
    np.testing.assert_array_equal(fused, y)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    composed = ops.conv2d_backward(ops.relu_backward(dy, relu_cache)[0], cache)
    for a, b in zip(ops.conv2d_backward(dy, fused_cache), composed, strict=True):
        np.testing.assert_array_equal(a, b)


@given(g=oracles.geometries(), seed=oracles.seeds)
def test_transposed_convolution_is_the_adjoint_of_convolution(backend, g, seed):
    rng = np.random.default_rng(seed)
    x, w = oracles.integers(rng, g.x_shape), oracles.integers(rng, g.w_shape)
    y, _ = ops.conv2d(x, w, stride=g.stride, padding=g.padding)
    dy = oracles.integers(rng, y.shape)
    rest = tuple((g.x_shape[1 + a] + 2 * g.padding[a] - g.kernel[a]) % g.stride[a] for a in (0, 1))
    back, _ = ops.conv_transpose2d(dy, w, stride=g.stride, padding=g.padding, output_padding=rest)
    assert back.shape == x.shape
    assert (y * dy).sum() == (x * back).sum()


@pytest.mark.parametrize("layout", oracles.layouts(np.zeros((1, 2, 2, 2))))
def test_any_layout_gives_the_same_and_is_left_as_it_was(backend, layout):
    rng = np.random.default_rng(0)
    x, w, b = oracles.integers(rng, (2, 5, 6, 3)), oracles.integers(rng, (3, 3, 3, 4)), oracles.integers(rng, (4,))
    view = oracles.layouts(x)[layout]
    for op, backward, args in (
        (ops.conv2d, ops.conv2d_backward, (w, b)),
        (ops.conv_transpose2d, ops.conv_transpose2d_backward, (np.ascontiguousarray(w.transpose(0, 1, 3, 2)), b)),
        (ops.max_pool2d, ops.max_pool2d_backward, ()),
        (ops.relu, ops.relu_backward, ()),
    ):
        expected, cache = op(x, *args)
        found, found_cache = op(view, *args)
        np.testing.assert_array_equal(found, expected)
        dy = oracles.integers(rng, expected.shape)
        dy_view = oracles.layouts(dy)[layout]
        for a, e in zip(backward(dy_view, found_cache), backward(dy, cache), strict=True):
            np.testing.assert_array_equal(a, e)
        np.testing.assert_array_equal(dy_view, dy)
    np.testing.assert_array_equal(view, x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept_and_read_only_arrays_are_taken(backend, dtype):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((1, 6, 6, 2), (3, 3, 2, 3), (3,)))
    for array in (x, w, b):
        array.flags.writeable = False
    y, cache = ops.conv2d(x, w, b, padding=1, relu=True)
    dy = np.ones_like(y)
    dy.flags.writeable = False
    assert {a.dtype for a in (y, *ops.conv2d_backward(dy, cache))} == {np.dtype(dtype)}


def test_a_gradient_can_be_taken_twice_from_one_cache(backend):
    rng = np.random.default_rng(0)
    y, cache = ops.conv2d(rng.standard_normal((1, 5, 5, 2)), rng.standard_normal((3, 3, 2, 2)), relu=True)
    for first, second in zip(ops.conv2d_backward(y, cache), ops.conv2d_backward(y, cache), strict=True):
        np.testing.assert_array_equal(first, second)


@given(size=st.integers(1, 40), kernel=st.integers(1, 7), stride=st.integers(1, 5), padding=st.integers(0, 3))
def test_sizes_are_those_of_the_formulas(size, kernel, stride, padding):
    if size + 2 * padding < kernel:
        return
    places = [start for start in range(-padding, size + padding, stride) if start + kernel <= size + padding]
    assert ops.output_size(size, kernel, stride=stride, padding=padding) == len(places)
    rest = (size + 2 * padding - kernel) % stride
    back = ops.transposed_output_size(len(places), kernel, stride=stride, padding=padding, output_padding=rest)
    assert back == size


def test_a_stride_may_be_numpys_number(backend):
    x, w = np.ones((1, 6, 6, 2)), np.ones((2, 2, 2, 3))
    for stride in (np.int64(2), (np.int32(2), np.uint8(2))):
        np.testing.assert_array_equal(ops.conv2d(x, w, stride=stride)[0], ops.conv2d(x, w, stride=2)[0])


X, W, B = np.zeros((1, 5, 5, 2)), np.zeros((3, 3, 2, 4)), np.zeros(4)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ops.conv2d(X[0], W, B), r"x is an array of shape \(5, 5, 2\); it takes shape \(N, H, W, C\)"),
        (lambda: ops.conv2d(X.astype(int), W, B), r"x is of dtype int64; it takes float32 or float64"),
        (lambda: ops.conv2d(X, W.astype("f"), B), r"w is of dtype float32; it takes x's dtype, float64"),
        (lambda: ops.conv2d(X, W[:, :, :1], B), r"w is \(3, 3, 1, 4\); it takes \(R, S, 2, K\)"),
        (lambda: ops.conv2d(X, W, B[:3]), r"b is an array of shape \(3,\); it takes shape \(4,\)"),
        (lambda: ops.conv2d(X, W, B, stride=0), r"stride is 0; it takes whole numbers from 1 up"),
        (lambda: ops.conv2d(X, W, B, stride=1.5), r"stride is 1.5; it takes whole numbers"),
        (lambda: ops.conv2d(X, W, B, stride=(1.5, 1)), r"stride is \(1.5, 1\); it takes whole numbers"),
        (lambda: ops.conv2d(X, W, B, stride=(1, 1, 1)), r"stride is \(1, 1, 1\); it takes"),
        (lambda: ops.conv2d(X, W[:0], B), r"w is \(0, 3, 2, 4\); it takes"),
        (lambda: ops.concat_skip(X.astype("f"), X), r"float32.*float64|float64.*float32"),
        (lambda: ops.concat_skip_backward(np.zeros((1, 5, 5, 3)), ops.concat_skip(X, X)[1]), r"dy is .*\(1, 5, 5, 3\)"),
        (lambda: ops.dropout_backward(X[..., :1], ops.dropout(X, 0.5, np.random.default_rng())[1]), r"dy is .*\(1, 5, 5, 1\)"),
        (lambda: ops.conv2d(X, W, B, padding=-1), r"padding is -1; it takes whole numbers from 0 up"),
        (lambda: ops.conv2d(X[:, :2], W, B), r"x is \(1, 2, 5, 2\); it takes at least 3 x 3 pixels"),
        (lambda: ops.conv2d(X, W, B, algorithm="fft"), r"algorithm is 'fft'; it takes auto or im2col"),
        (lambda: ops.conv2d(X, W, B, out=np.zeros((1, 3, 3, 3))), r"out is a float64 array \(1, 3, 3, 3\)"),
        (lambda: ops.conv_transpose2d(X, W, B), r"w is \(3, 3, 2, 4\); it takes \(R, S, K, 2\)"),
        (lambda: ops.conv_transpose2d(X, np.zeros((2, 2, 3, 2)), output_padding=2), r"output_padding is .*; it takes less than"),
        (lambda: ops.max_pool2d(X, window=6), r"x is \(1, 5, 5, 2\); it takes at least 6 x 6 pixels"),
        (lambda: ops.max_pool2d(np.zeros((1, 20, 20, 1)), window=17), r"window is \(17, 17\); it takes at most 256"),
        (lambda: ops.dropout(X, 1.0, np.random.default_rng()), r"rate is 1.0; it takes 0 <= rate < 1"),
        (lambda: ops.concat_skip(X[:, :2], X), r"skip is \(1, 2, 5, 2\); it takes 1 images of at least 5 x 5"),
        (lambda: ops.conv2d_backward(X, ops.conv2d(X, W, B)[1]), r"dy is a float64 array \(1, 5, 5, 2\).*\(1, 3, 3, 4\)"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
