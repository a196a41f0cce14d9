"""The three convolutions as products of matrices that are never built: conv.cu's kernels, launched.

Any geometry, float32 and float64; the path and the variant are plan.py's to choose.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from .. import precision_in_use
from ..geometry import Pair, Shape, output_hw
from . import device
from .device import BLOCK, blocks, empty, launch
from .layout import pixel, unit
from .plan import Plan, chosen_path, plan
from .pointwise import bias_grad


def conv2d(x: Any, w: Any, b: Any = None, *, stride: Pair, padding: Pair, relu: bool = False, out: Any = None) -> Any:
    """y = columns(x) w + b, then relu if asked for."""
    (n, *_), (r, s, _, k) = x.shape, w.shape
    p, q = output_hw(x.shape, (r, s), stride, padding)
    y = empty((n, p, q, k), x.dtype) if out is None else out
    how = _plan("conv2d", x.shape, w.shape, (x, w, y), stride, padding)
    launch(
        how.kernel, how.grid, BLOCK, x, pixel(x), *x.shape, w, r, s, k, b, int(relu), y, pixel(y), p, q, *stride, *padding,
        shared=how.shared,
    )  # fmt: skip
    return y


def conv2d_input_grad(
    dy: Any, w: Any, x_shape: Shape, *, stride: Pair, padding: Pair, mask: Any = None, b: Any = None,
    relu: bool = False, out: Any = None,
) -> Any:  # fmt: skip
    """dx = columns(dy) w', phase by phase, with dy where mask > 0; then + b and relu, for the transposed convolution."""
    (_, h, width, _), (r, s, c, _) = x_shape, w.shape
    dx = empty(x_shape, dy.dtype) if out is None else out
    how = _plan("conv2d_input_grad", tuple(x_shape), w.shape, (dy, w, dx, mask), stride, padding)
    launch(
        how.kernel, how.grid, BLOCK, dy, pixel(dy), *_mask(mask), *dy.shape, w, r, s, c, b, int(relu), dx, pixel(dx), h,
        width, *stride, *padding, how.phases_w, how.blocks_of_a_phase, shared=how.shared,
    )  # fmt: skip
    return dx


def conv2d_weight_grad(
    x: Any, dy: Any, w_shape: Shape, *, stride: Pair, padding: Pair, mask: Any = None
) -> tuple[Any, Any]:
    """dw = columns(x)^T dy, in parts that are then added in order, with dy where mask > 0; and db = sum of dy."""
    r, s, _, k = w_shape
    how = _plan("conv2d_weight_grad", x.shape, tuple(w_shape), (x, dy, mask), stride, padding)
    dw = empty((how.parts, *w_shape), x.dtype)
    launch(
        how.kernel, how.grid, BLOCK, x, pixel(x), *x.shape, dy, pixel(dy), *_mask(mask), *dy.shape[1:], dw, r, s, *stride,
        *padding, how.chunks, shared=how.shared,
    )  # fmt: skip
    dw = _total(how, dw)  # its parts go before db's come
    return dw, bias_grad(dy, mask)


def _total(how: Plan, parts: Any) -> Any:
    """Return the sum of the parts (parts, R, S, C, K), in order."""
    if how.parts == 1:
        return parts.reshape(parts.shape[1:])
    dw, size = empty(parts.shape[1:], parts.dtype), math.prod(parts.shape[1:])
    launch(replace(how.kernel, name="sum_parts"), blocks(size, BLOCK), BLOCK, parts, dw, how.parts, size)
    return dw


def _plan(name: str, x_shape: Shape, w_shape: Shape, arrays: tuple[Any, ...], stride: Pair, padding: Pair) -> Plan:
    """Return the plan for these arrays, some of which may be None."""
    present = [a for a in arrays if a is not None]
    dtype = np.dtype(present[0].dtype).name
    path = chosen_path(w_shape[2], w_shape[3], dtype, capability=device.door().capability, precision=precision_in_use())
    return plan(name, x_shape, w_shape, dtype, stride=stride, padding=padding, path=path, vectors=unit(*present) > 1)


def _mask(mask: Any) -> tuple[Any, int]:
    return (None, 0) if mask is None else (mask, pixel(mask))
