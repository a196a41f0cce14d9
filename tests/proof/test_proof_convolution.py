"""Convolutions against seven loops and against each other: exactly, on whole numbers."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from oracles import assert_all_same, assert_same
from proof.counting import count
from proof.optable import drawn_dtype, over

from minunet import fusions, ops
from minunet.testing import strategies
from minunet.testing.strategies import CONVOLUTIONS, LAYOUTS, UP_CONVOLUTIONS

POINTS = {name: g for name, g in CONVOLUTIONS.items() if g.x_shape[0]}


def drawn(seed, *shapes, dtype=np.float64):
    """Return arrays of whole numbers of these shapes, and the generator for more."""
    rng = np.random.default_rng(seed)
    return [strategies.integers(rng, shape, dtype) for shape in shapes], rng


def laid_out(rng, *arrays):
    """Return each array in a layout of its own, and plain copies of them, for the oracle."""
    views = [LAYOUTS[rng.choice(list(LAYOUTS))](array) for array in arrays]
    return views, [view.copy(order="C") for view in views]


def test_conv2d_equals_seven_loops(row):
    @over(strategies.geometries(), CONVOLUTIONS)
    def prove(g, seed):
        rng = np.random.default_rng(seed)
        dtype, relu = drawn_dtype(rng, row.exact_dtypes), bool(rng.integers(2))
        arrays, _ = drawn(seed, g.x_shape, g.w_shape, (g.k,), g.y_shape, dtype=dtype)
        (x, w, b, dy), (x_copy, w_copy, b_copy, dy_copy) = laid_out(rng, *arrays)
        plain, fused = (ops.conv2d, ops.conv2d_backward), (fusions.conv2d_relu, fusions.conv2d_relu_backward)
        forward, backward = fused if relu else plain
        y, cache = forward(x, w, b, **g.options)
        expected = oracles.conv2d(x_copy, w_copy, b_copy, g.stride, g.padding)
        assert_same(y, np.maximum(expected, 0) if relu else expected)
        counted = np.where(expected > 0, dy_copy, 0) if relu else dy_copy
        expected_grads = oracles.conv2d_grads(x_copy, w_copy, counted, g.stride, g.padding)
        assert_all_same(backward(dy, cache), expected_grads)
        spared, *rest = backward(dy, cache, input_grad=False)
        assert spared is None
        assert_all_same(rest, expected_grads[1:])
        assert_same(ops.conv2d(x, w, **g.options)[0] + b_copy, expected)
        count("exact", "conv2d", row, g)


def test_conv_transpose2d_equals_seven_loops(row):
    @over(strategies.up_geometries(), UP_CONVOLUTIONS)
    def prove(g, seed):
        rng = np.random.default_rng(seed)
        arrays, _ = drawn(seed, g.x_shape, g.up_w_shape, (g.k,), g.up_shape, dtype=drawn_dtype(rng, row.exact_dtypes))
        (x, w, b, dy), (x_copy, w_copy, b_copy, dy_copy) = laid_out(rng, *arrays)
        y, cache = ops.conv_transpose2d(x, w, b, **g.up_options)
        assert_same(y, oracles.conv_transpose2d(x_copy, w_copy, b_copy, g.up_shape, g.stride, g.padding))
        expected_grads = oracles.conv_transpose2d_grads(x_copy, w_copy, dy_copy, g.stride, g.padding)
        assert_all_same(ops.conv_transpose2d_backward(dy, cache), expected_grads)
        assert_same(ops.conv_transpose2d(x, w, **g.up_options)[0] + b_copy, y)
        count("exact", "conv_transpose2d", row, g)


def test_transposed_convolution_is_the_adjoint_of_convolution(row):
    @over(strategies.geometries(), CONVOLUTIONS)
    def prove(g, seed):
        (x, w, dy), _ = drawn(seed, g.x_shape, g.w_shape, g.y_shape)
        y, cache = ops.conv2d(x, w, **g.options)
        rest = tuple((g.x_shape[1 + a] + 2 * g.padding[a] - g.kernel[a]) % g.stride[a] for a in (0, 1))
        back, up_cache = ops.conv_transpose2d(dy, w, output_padding=rest, **g.options)
        assert (y * dy).sum() == (x * back).sum()
        assert_same(back, ops.conv2d_backward(dy, cache)[0])
        dx, dw, _ = ops.conv_transpose2d_backward(x, up_cache)
        assert_all_same([dx, dw], [y, ops.conv2d_backward(dy, cache)[1]])  # one weight gradient serves both
        count("exact", "conv2d", row, g)


def test_im2col_defines_the_convolution_and_col2im_is_its_adjoint(row):
    @over(strategies.geometries(), CONVOLUTIONS)
    def prove(g, seed):
        (x, w), rng = drawn(seed, g.x_shape, g.w_shape)
        cols = row.im2col(x, g.kernel, **g.options)
        y = oracles.conv2d(x, w, None, g.stride, g.padding)
        assert_same((cols @ w.reshape(-1, g.k)).reshape(y.shape), y)
        other = strategies.integers(rng, cols.shape)
        back = row.col2im(other, x.shape, g.kernel, **g.options)
        assert back.shape == x.shape
        assert (cols * other).sum() == (x * back).sum()
        count("exact", "conv2d", row, g)



# Laws of convolutions that no oracle is needed for. Each holds for both directions.

DIRECTIONS = {
    "conv2d": (ops.conv2d, lambda g: (g.x_shape, g.w_shape), lambda g: g.options, strategies.geometries, CONVOLUTIONS),
    "conv_transpose2d": (
        ops.conv_transpose2d, lambda g: (g.x_shape, g.up_w_shape), lambda g: g.up_options, strategies.up_geometries,
        UP_CONVOLUTIONS,
    ),
}  # fmt: skip
both = pytest.mark.parametrize("name", DIRECTIONS)


@both
def test_linear_in_the_input_and_in_the_weight(row, name):
    op, shapes, options, geometries, named = DIRECTIONS[name]

    @over(geometries(), named)
    def prove(g, seed):
        (x, w, x2, w2), _ = drawn(seed, *shapes(g), *shapes(g))

        def f(x, w):
            return op(x, w, **options(g))[0]

        assert_same(f(3 * x - 2 * x2, w), 3 * f(x, w) - 2 * f(x2, w))
        assert_same(f(x, 3 * w - 2 * w2), 3 * f(x, w) - 2 * f(x, w2))
        count("exact", name, row, g)


@both
def test_permuted_channels_permute(row, name):
    op, shapes, options, geometries, named = DIRECTIONS[name]
    c_axis, k_axis = (2, 3) if name == "conv2d" else (3, 2)

    @over(geometries(), named)
    def prove(g, seed):
        (x, w), rng = drawn(seed, *shapes(g))
        c, k = rng.permutation(g.x_shape[3]), rng.permutation(g.k)
        b = strategies.integers(rng, (g.k,))
        y, _ = op(x, w, b, **options(g))
        assert_same(op(x[..., c], w.take(c, axis=c_axis), b, **options(g))[0], y)
        assert_same(op(x, w.take(k, axis=k_axis), b[k], **options(g))[0], y[..., k])
        count("exact", name, row, g)


def test_an_input_shifted_by_the_stride_shifts_the_output_by_one(row):
    """For the windows that the shift does not bring over the padding."""

    @over(strategies.geometries(empty=False), POINTS)
    def prove(g, seed):
        n, h, v, c = g.x_shape
        (x, w), _ = drawn(seed, (n, h + g.stride[0], v + g.stride[1], c), g.w_shape)
        y, _ = ops.conv2d(x, w, **g.options)
        shifted, _ = ops.conv2d(x[:, g.stride[0] :, g.stride[1] :], w, **g.options)
        p, q = (-(-g.padding[a] // g.stride[a]) for a in (0, 1))  # the first window that lies inside
        assert_same(shifted[:, p:, q:], y[:, 1 + p :, 1 + q :])
        count("exact", "conv2d", row, g)


def test_an_input_shifted_by_one_shifts_the_transposed_output_by_the_stride(row):
    """Zeros come in from above and from the left; what they push over the lower right edge is cut off."""

    @over(strategies.up_geometries(empty=False), {})
    def prove(g, seed):
        (x, w), _ = drawn(seed, g.x_shape, g.up_w_shape)
        down, right = g.stride
        shifted = np.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)))
        y, y_shifted = (ops.conv_transpose2d(a, w, **g.up_options)[0] for a in (x, shifted))
        assert_same(y_shifted[:, down:, right:], y)
        count("exact", "conv_transpose2d", row, g)
