"""A convolution's three passes, in all their forms, against the specification: whole numbers, so that equal means equal."""

from __future__ import annotations

import numpy as np
from fused import Fused, reference
from oracles import assert_all_same, assert_same

from minunet.kernels import parameter_dtype
from minunet.testing import strategies
from minunet.testing.strategies import Geometry

ROOM = 3  # channels beside a slice


def sliced(a, room=ROOM):
    """Return a as a slice of the channels of a wider array, read-only, full of NaN beside it."""
    wide = np.full((*a.shape[:-1], a.shape[-1] + 2 * room), np.nan, a.dtype)
    wide[..., room:-room] = a
    wide.flags.writeable = False
    return wide[..., room:-room]


def into_a_slice(kernel, room, shape, dtype, *args, **options):
    """Return what the kernel writes into a slice of channels, once nothing beside the slice has changed."""
    wide = np.full((*shape[:3], shape[3] + 2 * room), 7, dtype)
    kernel(*args, **options, out=wide[..., room:-room])
    assert (wide[..., :room] == 7).all()
    assert (wide[..., -room:] == 7).all()
    return wide[..., room:-room]


def assert_exact(backend, g: Geometry, seed=0, dtype=np.float32, algorithm="direct", room=ROOM):
    """Compute all passes of g, plain and with everything fused, from arrays and from slices of channels with so much beside.

    Of bfloat16, activations are rounded once each, and nothing else is.
    """
    backend, rng = Fused(backend), np.random.default_rng(seed)
    wide = parameter_dtype(np.dtype(dtype))
    x, w, dy = (strategies.integers(rng, shape, wide) for shape in (g.x_shape, g.w_shape, g.y_shape))
    b, back = (strategies.integers(rng, (size,), wide) for size in (g.k, g.x_shape[3]))
    options = {"algorithm": algorithm} | g.options

    plain = reference.conv2d(x, w, **g.options)
    y = reference.relu(plain + b)
    counted = np.where(y > 0, dy, wide.type(0))
    dx = reference.conv2d_input_grad(counted, w, g.x_shape, **g.options)
    dw, db = reference.conv2d_weight_grad(x, counted, g.w_shape, **g.options)
    summed = reference.relu(dx + back)
    x, dy, plain, y, counted, dx, summed = (a.astype(dtype) for a in (x, dy, plain, y, counted, dx, summed))

    assert_same(backend.conv2d(x, w, **options), plain)
    assert_same(into_a_slice(backend.conv2d, room, y.shape, dtype, sliced(x, room), w, b, relu=True, **options), y)

    assert_same(backend.conv2d_input_grad(counted, w, g.x_shape, **options), dx)
    given = {"mask": sliced(y, room + 4), "b": back, "relu": True} | options
    found = into_a_slice(backend.conv2d_input_grad, room, g.x_shape, dtype, sliced(dy, room), w, g.x_shape, **given)
    assert_same(found, summed)

    assert_all_same(backend.conv2d_weight_grad(x, counted, g.w_shape, **options), (dw, db))
    fused = backend.conv2d_weight_grad(sliced(x, room), sliced(dy, room), g.w_shape, mask=sliced(y, room + 4), **options)
    assert_all_same(fused, (dw, db))
    given = {"mask": sliced(y, room + 4)} | options
    assert_all_same(backend.conv2d_grads(sliced(x, room), sliced(dy, room), w, **given), (dx, dw, db))
    none, *found = backend.conv2d_grads(x, counted, w, input_grad=False, **options)
    assert none is None
    assert_all_same(found, (dw, db))
