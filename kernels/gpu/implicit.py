"""The three convolutions as products of matrices that are never built: conv.cu's kernels, launched.

Any geometry, float32, float64 and bfloat16, to which w is rounded; the path and the variant are plan.py's to choose.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .. import parameter_dtype, precision_in_use
from ..geometry import Pair, Shape, output_hw
from . import device
from .device import BLOCK, blocks, empty, launch
from .layout import pixel, unit
from .plan import Plan, chosen_path, plan
from .pointwise import aligned, cast, placed


def conv2d(x: Any, w: Any, b: Any = None, *, stride: Pair, padding: Pair, relu: bool = False, out: Any = None) -> Any:
    """y = columns(x) w + b, then relu if asked for."""
    (n, *_), (r, s, _, k) = x.shape, w.shape
    p, q = output_hw(x.shape, (r, s), stride, padding)
    y = empty((n, p, q, k), x.dtype) if out is None else _steady(out)
    x, w = _steady(x), cast(w, x.dtype)
    how = _plan("conv2d", x.shape, w.shape, (x, w, y), stride, padding)
    kernel = how.kernel if y.dtype == x.dtype else replace(how.kernel, name="conv2d_widened")
    launch(
        kernel, how.grid, BLOCK, x, pixel(x), *x.shape, w, r, s, k, b, int(relu), y, pixel(y), p, q, *stride, *padding,
        shared=how.shared,
    )  # fmt: skip
    return placed(y, out)


def conv2d_input_grad(
    dy: Any, w: Any, x_shape: Shape, *, stride: Pair, padding: Pair, b: Any = None, relu: bool = False, out: Any = None
) -> Any:
    """dx = columns(dy) w', phase by phase; then + b and relu, for the transposed convolution."""
    (_, h, width, _), (r, s, c, _) = x_shape, w.shape
    dx = empty(x_shape, dy.dtype) if out is None else _steady(out)
    dy, w = _steady(dy), cast(w, dy.dtype)
    how = _plan("conv2d_input_grad", tuple(x_shape), w.shape, (dy, w, dx), stride, padding)
    launch(
        how.kernel, how.grid, BLOCK, dy, pixel(dy), *dy.shape, w, r, s, c, b, int(relu), dx, pixel(dx), h, width, *stride,
        *padding, how.phases_w, how.blocks_of_a_phase, shared=how.shared,
    )  # fmt: skip
    return placed(dx, out)


def weight_grad(x: Any, dy: Any, w_shape: Shape, *, stride: Pair, padding: Pair) -> Any:
    """dw = columns(x)^T dy, in parts that are then added in order."""
    r, s, _, _ = w_shape
    x, dy = _steady(x), _steady(dy)
    how = _plan("conv2d_weight_grad", x.shape, tuple(w_shape), (x, dy), stride, padding)
    parts = empty((how.parts, *w_shape), parameter_dtype(x.dtype))
    launch(
        how.kernel, how.grid, BLOCK, x, pixel(x), *x.shape, dy, pixel(dy), *dy.shape[1:], parts, r, s, *stride, *padding,
        how.chunks, int(how.few_taps), shared=how.shared,
    )  # fmt: skip
    if how.parts == 1:
        return parts.reshape(w_shape)
    dw = empty(w_shape, parts.dtype)
    launch(replace(how.kernel, name="sum_parts"), blocks(dw.size), BLOCK, parts, dw, how.parts, dw.size)
    return dw


def _steady(a: Any) -> Any:
    """Return a, of bfloat16 an aligned copy: its path depends on that, and on the path the order of a sum."""
    return aligned(a) if a.dtype.itemsize == 2 else a


def _plan(name: str, x_shape: Shape, w_shape: Shape, arrays: tuple[Any, ...], stride: Pair, padding: Pair) -> Plan:
    """Return the plan for these arrays."""
    dtype = np.dtype(arrays[0].dtype).name
    path = chosen_path(w_shape[2], w_shape[3], dtype, capability=device.door().capability, precision=precision_in_use())
    return plan(name, x_shape, w_shape, dtype, stride=stride, padding=padding, path=path, vectors=unit(*arrays) > 1)
