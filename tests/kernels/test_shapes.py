"""Arrays without numbers: of the shape, type and layout of those with numbers, counted as those are, and never read."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet import fusions, kernels, ops
from minunet.kernels import buffers, shapes
from minunet.kernels.geometry import is_dense, joined, pixel_stride
from minunet.kernels.sight import Sight
from minunet.testing import strategies


def outlined(a):
    return shapes.outline(a.shape, a.dtype)


MADE = [
    np.exp, np.isfinite, lambda a: a * 2, lambda a: a > 0, lambda a: a.astype("float32"), lambda a: a.reshape(-1, 4),
    lambda a: a.sum(axis=(1, 2)), lambda a: a.mean(axis=-1, keepdims=True), lambda a: a[:, 1:3, ::2, None], lambda a: a.copy(),
    lambda a: a.max(), lambda a: np.zeros_like(a, shape=(2, 3)), lambda a: np.concatenate((a, a), axis=3),
    lambda a: np.where(a > 0, a, np.zeros((), a.dtype)), lambda a: a - a.mean(axis=(1, 2), keepdims=True),
]  # fmt: skip


@pytest.mark.parametrize("function", MADE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_numpy_makes_of_them_is_what_it_makes_of_numbers(function, dtype):
    a = np.ones((2, 3, 8, 4), dtype)
    expected, found = function(a), function(outlined(a))
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)


def test_slices_of_channels_lie_as_those_of_arrays_do():
    a = np.zeros((2, 3, 4, 8), np.float32)
    o = outlined(a)
    for key in (np.s_[..., 2:5], np.s_[:, 1:2], np.s_[..., ::2]):
        assert o[key].strides == a[key].strides
        assert is_dense(o[key]) == is_dense(a[key])
    assert pixel_stride(o[..., :3]) == pixel_stride(a[..., :3])
    assert joined(o[..., :3], o[..., 3:]) is o
    assert joined(o[..., :3], o[..., 4:]) is None


def test_nobody_can_read_them():
    o = shapes.outline((2, 2), "float32")
    assert o[0, 1].shape == o[..., 0, 1].shape == ()
    for read in (np.asarray, np.linalg.inv, lambda o: o.tolist(), lambda o: o[o > 0], np.sort, pickle.dumps, copy.deepcopy):
        with pytest.raises((TypeError, AttributeError)):
            read(o)
    x, w = shapes.outline((1, 4, 4, 2), "float32"), np.ones((1, 1, 2, 3), np.float32)
    with pytest.raises(ValueError, match="w is an array without numbers, or beside one"):
        ops.conv2d(x, w)


def batch_norm(*arrays, **options):
    y, _, cache = ops.batch_norm(*arrays, **options)
    return y, cache


def assert_outlines_are_of(forward, backward, options, shapes_of, dtype):
    arrays = [np.zeros(shape, dtype) for shape in shapes_of]
    y, cache = forward(*arrays, **options)
    expected = [y, *backward(y, cache)]
    y, cache = forward(*map(outlined, arrays), **options)
    found = [y, *backward(y, cache)]
    assert [(a.shape, a.dtype) for a in found] == [(a.shape, a.dtype) for a in expected]


@given(g=strategies.geometries(empty=False), up=strategies.up_geometries(empty=False), dtype=st.sampled_from(["f4", "f8"]))
def test_ops_give_the_shapes_and_types_of_the_real_ones_and_of_their_gradients(backend, g, up, dtype):
    assert_outlines_are_of(ops.conv2d, ops.conv2d_backward, g.options, (g.x_shape, g.w_shape, (g.k,)), dtype)
    of_up = up.x_shape, up.up_w_shape, (up.k,)
    assert_outlines_are_of(ops.conv_transpose2d, ops.conv_transpose2d_backward, up.up_options, of_up, dtype)
    assert_outlines_are_of(ops.max_pool2d, ops.max_pool2d_backward, {"window": 1}, (g.x_shape,), dtype)
    norm = (*g.x_shape[:3], 4), (4,), (4,)
    assert_outlines_are_of(ops.group_norm, ops.group_norm_backward, {"groups": 2}, norm, dtype)
    assert_outlines_are_of(fusions.group_norm_relu, fusions.norm_relu_backward, {"groups": 4}, norm, dtype)
    if math.prod(g.x_shape[:3]) > 1:
        assert_outlines_are_of(batch_norm, ops.batch_norm_backward, {"training": True}, (*norm, (4,), (4,)), dtype)


def test_what_dies_is_idle_and_serves_again_by_the_rule_of_the_pool():
    size = buffers.SMALL
    with shapes.counting() as book:
        first = buffers.empty((size,), np.uint8)
        assert (book.live, book.peak) == (size, size)
        view = first[10:]
        del first
        assert book.live == size  # a view keeps it
        del view
        assert (book.live, book.peak) == (0, size)
        small = buffers.empty((size - 1,), np.uint8)  # comes from beside the pool, whose idle buffer stays
        assert (book.live, book.peak) == (size - 1, 2 * size - 1)
        del small
        assert book.live == 0
    with shapes.counting() as book:
        large = buffers.empty((4 * size,), np.uint8)
        del large
        again = buffers.empty((size,), np.uint8)  # WASTE: a quarter of the buffer is enough to take it
        assert (book.live, book.peak) == (4 * size, 4 * size)
        another = buffers.empty((size,), np.uint8)
        assert book.peak == 5 * size
        del again, another
        assert (book.live, book.peak) == (0, 5 * size)


def test_nothing_is_leased_or_launched_where_it_is_only_counted():
    x, w = shapes.outline((1, 64, 64, 32), "float32"), shapes.outline((3, 3, 32, 32), "float32")
    with buffers.pooled(pool := buffers.Pool()):
        y, cache = ops.conv2d(x, w, padding=1)
        ops.conv2d_backward(y, cache)
    assert pool.idle_bytes == 0


@pytest.mark.skipif("cpu" not in kernels.available(), reason="Numba does not work here, and its scratch is what is counted")
@pytest.mark.parametrize("algorithm", kernels.ALGORITHMS)
def test_scratch_and_work_are_those_of_the_kernels(algorithm, monkeypatch):
    from minunet.kernels.cpu import threads

    asked = []
    scratch = threads.scratch
    monkeypatch.setattr(threads, "scratch", lambda size: asked.append(size) or scratch(size))
    x, w = np.ones((1, 20, 24, 16), np.float32), np.ones((3, 3, 16, 8), np.float32)
    with kernels.use_backend("cpu"), kernels.algorithm(algorithm), kernels.threads(1):
        y, cache = ops.conv2d(x, w, padding=1)
        ops.conv2d_backward(y, cache)
        with shapes.counting() as book:
            y, cache = ops.conv2d(outlined(x), outlined(w), padding=1)
            ops.conv2d_backward(y, cache)
    assert book.scratch == max(asked) > 0
    assert book.flops == 2 * 20 * 24 * 9 * 16 * 8


@given(
    steps=st.lists(st.sampled_from(["conv3", "conv2", "pool", "up", "valid"]), min_size=1, max_size=6),
    width=st.sampled_from([24, 32]),
)
def test_sight_is_what_an_output_depends_on(steps, width):
    """Image j is 0 but for column j; weights are 1: an output is not 0 where it sees that column."""
    columns = np.broadcast_to(np.eye(width)[:, None, :, None], (width, width, width, 1))
    x, o = columns, shapes.outline(columns.shape, "float64", sight=Sight())
    for step in steps:
        if x.shape[2] < 4:
            break
        if step == "pool":
            x, o = (ops.max_pool2d(a)[0] for a in (x, o))
            continue
        kernel, padding, op = {"conv3": (3, 1, 0), "conv2": (2, 0, 0), "valid": (3, 0, 0), "up": (2, 0, 1)}[step]
        w = np.ones((kernel, kernel, 1, 1))
        make = ops.conv_transpose2d if op else ops.conv2d
        how = {} if op else {"padding": padding}
        x, o = make(x, w, **how)[0], make(o, outlined(w), **how)[0]
    seen = (x[:, x.shape[1] // 2, :, 0] > 0).T  # output column, image column
    m, sight = len(o.sight.low), o.sight
    for p, row in enumerate(seen):
        low, high = sight.jump * p + sight.low[p % m], sight.jump * p + sight.high[p % m]
        inside = [j for j in range(width) if low <= j <= high]
        assert set(np.flatnonzero(row)) <= set(inside)
        if m <= p < len(seen) - 2 * m - 2:  # what odd sizes drop lies behind
            assert list(np.flatnonzero(row)) == inside
