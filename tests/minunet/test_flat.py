"""The flat array of all parameters: what lies where, what is between, and what of it belongs to which name."""

from __future__ import annotations

import numpy as np
import pytest

from minunet.flat import ALIGNMENT, ParameterViews, filled, gathered
from minunet.layers import Conv2d, Sequential

SHAPES = {"a": (3,), "b": (2, 5), "c": (16,), "d": (1, 1, 1)}


def used(shape, dtype):
    """Return memory that has served before: as numbers it is NaN."""
    return np.full(shape, 255, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_begin_at_steps_of_a_cache_line_and_the_gaps_between_them_are_0(dtype):
    views = ParameterViews(SHAPES, dtype, used)
    assert {name: view.shape for name, view in views.items()} == SHAPES
    assert {view.ctypes.data % ALIGNMENT for view in [views.flat, *views.values()]} == {0}
    for view in views.values():
        assert np.shares_memory(view, views.flat) and np.isnan(view).all()
        view[...] = 1
    assert views.flat.sum() == 3 + 10 + 16 + 1  # and no NaN
    assert views.flat.nbytes == {"float32": 4, "float64": 6}[dtype] * ALIGNMENT
    assert views.flat.dtype == dtype


def test_gradients_go_by_their_names_in_whatever_order_they_were_made():
    like = ParameterViews(SHAPES, "float64")
    found = {name: np.full(shape, i, float) for i, (name, shape) in enumerate(SHAPES.items(), start=1)}
    for order in (list(SHAPES), list(reversed(SHAPES))):
        grads = filled(like, {name: found[name] for name in order}, used)
        assert list(grads) == list(SHAPES)
        for name, grad in grads.items():
            np.testing.assert_array_equal(grad, found[name])
        assert not np.shares_memory(grads.flat, like.flat)
        assert grads.flat.sum() == 3 + 2 * 10 + 3 * 16 + 4


def test_layers_read_and_write_the_flat_array_once_it_has_their_parameters():
    row = Sequential(first=Conv2d(1, 2, 3), second=Conv2d(2, 1, 1))
    before = {name: p.copy() for name, p in row.parameters.items()}
    views = gathered(row, "float32", np)
    assert list(views) == list(before)
    for name, p in row.parameters.items():
        np.testing.assert_array_equal(views[name], before[name])
        assert p is views[name]
