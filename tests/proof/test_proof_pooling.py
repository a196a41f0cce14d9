"""Pooling, relu, dropout and the skip's concatenation against what they say they do: exactly, with ties and NaNs."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from oracles import assert_all_same, assert_same
from proof.counting import count
from proof.optable import drawn_dtype, each_backend, over, over_seeds

from minunet import fusions, ops
from minunet.testing import strategies
from minunet.testing.strategies import LAYOUTS, POOLINGS

VALUES = [strategies.tied, strategies.extremes, strategies.integers, strategies.tie_free]


@each_backend
def test_pooling_equals_loops_and_gives_each_gradient_to_the_first_largest(row):
    """Under heavy ties, infinities and NaNs too: the first of equals takes all, and the first NaN before any number."""

    @over(strategies.poolings(), POOLINGS, times=2)
    def prove(g, seed):
        rng = np.random.default_rng(seed)
        x = LAYOUTS[rng.choice(list(LAYOUTS))](VALUES[seed % 4](rng, g.x_shape, drawn_dtype(rng)))
        y, argmax = row.max_pool2d(x.copy(order="C"), g.kernel, g.stride)
        expected, place = oracles.max_pool2d(x, g.kernel, g.stride)
        assert_same(y, expected)
        assert_same(argmax, place)
        found, cache = ops.max_pool2d(x, **g.pool_options)
        assert_same(found, expected)
        dy = strategies.integers(rng, y.shape, x.dtype)
        (dx,) = ops.max_pool2d_backward(dy, cache)
        assert_same(dx, oracles.max_pool2d_grad(dy, place, x.shape, g.kernel, g.stride))
        dskip = LAYOUTS[rng.choice(list(LAYOUTS))](strategies.integers(rng, x.shape, x.dtype))
        assert_same(fusions.max_pool2d_backward_plus(dskip, dy, cache), dskip + dx)
        count("exact", "max_pool2d", row, g)


@each_backend
@pytest.mark.parametrize("values", [strategies.tied, strategies.extremes])
def test_pooling_keeps_the_mass_of_the_gradient(row, values):
    @over(strategies.poolings(), POOLINGS)
    def prove(g, seed):
        rng = np.random.default_rng(seed)
        y, cache = ops.max_pool2d(values(rng, g.x_shape), **g.pool_options)
        dy = strategies.integers(rng, y.shape)
        (dx,) = ops.max_pool2d_backward(dy, cache)
        assert_same(dx.sum(axis=(1, 2)), dy.sum(axis=(1, 2)))  # of each image and channel
        count("exact", "max_pool2d", row, g)


@each_backend
@pytest.mark.parametrize("value", [0.0, -np.inf, np.nan])
def test_where_all_are_equal_the_first_takes_all(row, value):
    @over(strategies.poolings(), POOLINGS)
    def prove(g, seed):
        x = np.full(g.x_shape, value)
        y, cache = ops.max_pool2d(x, **g.pool_options)
        assert_same(y, np.full(y.shape, value))
        dy = strategies.integers(np.random.default_rng(seed), y.shape)
        expected = np.zeros_like(x)
        expected[:, : y.shape[1] * g.stride[0] : g.stride[0], : y.shape[2] * g.stride[1] : g.stride[1]] = dy
        assert_same(ops.max_pool2d_backward(dy, cache)[0], expected)
        count("exact", "max_pool2d", row, g)


@each_backend
def test_relu_keeps_what_is_positive_and_nan(row):
    @over(strategies.geometries(), {}, times=2.2)
    def prove(g, seed):
        rng = np.random.default_rng(seed)
        x = LAYOUTS[rng.choice(list(LAYOUTS))](VALUES[seed % 4](rng, g.x_shape, drawn_dtype(rng)))
        y, cache = ops.relu(x)
        assert_same(y, np.maximum(x, x.dtype.type(0)))
        dy = strategies.integers(rng, y.shape, x.dtype)
        with np.errstate(invalid="ignore"):
            assert_same(ops.relu_backward(dy, cache)[0], np.where(x > 0, dy, x.dtype.type(0)))
        count("exact", "relu", row, g)


@each_backend
def test_concat_skip_crops_about_the_centre_and_stacks(row):
    @over_seeds(times=4)
    def prove(seed):
        rng = np.random.default_rng(seed)
        (n, p, q), (c, k), wider = rng.integers(0, 4, 3), rng.integers(1, 4, 2), rng.integers(0, 5, 2)
        p, q, dtype = p + 1, q + 1, drawn_dtype(rng)
        skip = strategies.integers(rng, (n, p + wider[0], q + wider[1], c), dtype)
        up = strategies.integers(rng, (n, p, q, k), dtype)
        top, left = wider // 2
        y, cache = ops.concat_skip(skip, up)
        assert_same(y, np.concatenate([skip[:, top : top + p, left : left + q], up], axis=3))
        dy = strategies.integers(rng, y.shape, dtype)
        dskip = np.zeros_like(skip)
        dskip[:, top : top + p, left : left + q] = dy[..., :c]
        assert_all_same(ops.concat_skip_backward(dy, cache), [dskip, dy[..., c:]])
        count("exact", "concat_skip", row)


@each_backend
def test_dropout_multiplies_by_zero_or_by_the_inverse_of_what_is_kept(row):
    @over(strategies.geometries(), {}, times=4)
    def prove(g, seed):
        rng = np.random.default_rng(seed)
        x, rate = strategies.integers(rng, g.x_shape, drawn_dtype(rng)), rng.choice([0.0, 0.25, 0.5, 0.9])
        y, cache = ops.dropout(x, rate, np.random.default_rng(seed))
        factor, _ = ops.dropout(np.ones_like(x), rate, np.random.default_rng(seed))
        assert set(np.unique(factor)) <= {0, x.dtype.type(1 / (1 - rate))}
        assert_same(y, x * factor)
        dy = strategies.integers(rng, y.shape, x.dtype)
        assert_same(ops.dropout_backward(dy, cache)[0], dy * factor)
        count("exact", "dropout", row)
