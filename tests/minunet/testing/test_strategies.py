"""The public strategies: what they draw is valid, and they reach the corners that they name."""

from __future__ import annotations

import sys

import numpy as np
import oracles
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from minunet import ops
from minunet.testing import strategies
from minunet.testing.strategies import LAYOUTS


@given(g=strategies.geometries(), up=strategies.up_geometries(), pool=strategies.poolings())
def test_geometries_leave_an_output_of_the_shape_that_they_say(g, up, pool):
    assert ops.conv2d(np.zeros(g.x_shape), np.zeros(g.w_shape), **g.options)[0].shape == g.y_shape
    assert ops.conv_transpose2d(np.zeros(up.x_shape), np.zeros(up.up_w_shape), **up.up_options)[0].shape == up.up_shape
    y, _ = ops.max_pool2d(np.zeros(pool.x_shape), **pool.pool_options)
    assert y.shape[:3] == pool.y_shape[:3]
    assert min(g.y_shape[1:] + up.up_shape[1:] + pool.y_shape[1:]) > 0


@pytest.mark.parametrize(
    ("geometries", "corner"),
    [
        (strategies.geometries, lambda g: g.kernel == (1, 1)),
        (strategies.geometries, lambda g: g.kernel[0] < g.stride[0] and g.kernel[1] > g.stride[1]),
        (strategies.geometries, lambda g: g.x_shape[0] == 0),
        (strategies.geometries, lambda g: (g.x_shape[1] + 2 * g.padding[0] - g.kernel[0]) % g.stride[0] == 2),
        (strategies.geometries, lambda g: g.x_shape[1] < g.kernel[0]),  # it fits with the padding alone
        (strategies.up_geometries, lambda g: g.output_padding == (2, 1)),
        (strategies.up_geometries, lambda g: g.up_shape[1:3] == (1, 1)),
        (strategies.poolings, lambda g: g.kernel[0] > g.stride[0] and g.kernel[1] < g.stride[1]),
    ],
)
def test_corners_are_reached(geometries, corner):
    once = settings(max_examples=20000, derandomize=True, phases=[Phase.generate])  # not the plainest such, which takes long
    assert corner(find(geometries(), corner, settings=once))


@given(
    seed=strategies.seeds(), name=st.sampled_from(list(LAYOUTS)), dtype=st.sampled_from([np.float32, np.float64, np.int8]),
    shape=st.sampled_from([(2, 3, 4, 3), (3, 2, 1, 5), (1, 1, 1, 1), (0, 2, 2, 2), (3, 4), (5,), (0,)]),
)  # fmt: skip
def test_a_layout_keeps_the_values_and_leaves_the_array_alone(seed, name, dtype, shape):
    x = strategies.integers(np.random.default_rng(seed), shape, dtype)
    copy = x.copy()
    view = LAYOUTS[name](x)
    assert (view.shape, view.dtype) == (x.shape, x.dtype)
    expected = x
    if name == "broadcast":
        axis = max(0, x.ndim - 2)
        expected = np.repeat(x.take([0], axis), x.shape[axis], axis) if x.size else x
    np.testing.assert_array_equal(view, expected)
    np.testing.assert_array_equal(x, copy)


def test_layouts_are_what_their_names_say():
    views = {name: lay_out(np.ones((2, 3, 4, 5))) for name, lay_out in LAYOUTS.items()}
    assert views["channel slice"].strides[2] == 8 * 8
    assert views["transposed"].transpose(0, 3, 1, 2).strides[0] == 3 * 4 * 8
    assert max(views["reversed"].strides) < 0
    assert 0 in views["broadcast"].strides
    assert views["Fortran"].flags.f_contiguous
    assert not views["read-only"].flags.writeable
    assert not views["misaligned"].flags.aligned
    assert [name for name, view in views.items() if view.flags.c_contiguous] == ["read-only", "misaligned", "contiguous"]


@given(
    whole=strategies.integer_arrays((2, 3)), exact=strategies.dyadic_arrays((3,)), ties=strategies.tied_arrays((4, 4)),
    distinct=strategies.tie_free_arrays(st.sampled_from([(3, 5), (0, 2), (1,)]), np.float32),
    laid_out=strategies.layouts(strategies.integer_arrays((2, 2, 3))),
)  # fmt: skip
def test_arrays_are_what_their_names_say(whole, exact, ties, distinct, laid_out):
    assert (whole == np.round(whole)).all()
    assert (exact * 2**12 == np.round(exact * 2**12)).all()
    assert (np.unique(ties) == np.array([v for v in (-1, 0, 1) if v in ties])).all()
    values = np.sort(distinct.ravel())
    assert (np.diff(values) == 1).all()
    assert (np.abs(values) >= 0.5).all()
    assert distinct.dtype == np.float32
    assert laid_out.shape == (2, 2, 3)


@settings(max_examples=20)
@given(case=strategies.unets(), seed=oracles.seeds)
def test_a_unet_takes_its_input(case, seed):
    network = case.network()
    x = np.random.default_rng(seed).standard_normal(case.x_shape)
    assert network(x).shape[:3] == (case.x_shape[0], *network.output_size(*case.x_shape[1:3]))
    assert all((p != 0).all() for name, p in network.parameters.items() if name.endswith("bias"))


def test_without_hypothesis_arrays_and_layouts_work_and_drawing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    assert LAYOUTS["reversed"](strategies.integers(np.random.default_rng(0), (2, 2))).shape == (2, 2)
    with pytest.raises(ImportError, match=r"pip install 'minunet\[testing\]'"):
        strategies.geometries()


def test_extremes_have_each_kind_of_number():
    drawn = strategies.extremes(np.random.default_rng(0), (400,))
    assert {str(value) for value in drawn.tolist()} == {"0.0", "-0.0", "1.0", "-1.0", "nan", "inf", "-inf"}
