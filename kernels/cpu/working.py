"""What a convolution takes beyond its results, from shapes alone: the plans that it would make, for estimates of memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..geometry import Pair, output_hw
from . import direct, direct_weight_grad
from .packing import source

Shape = tuple[int, ...]


def scratch_bytes(x_shape: Shape, w_shape: tuple[int, int, int, int], dtype: DTypeLike, *, stride: Pair, padding: Pair) -> int:
    """Return what each thread needs for a convolution or its weight gradient, whichever needs more."""
    phase = source(_image(x_shape, dtype), None, w_shape[:2], stride, padding)
    p, q = output_hw(x_shape, w_shape[:2], stride, padding)
    phase |= {"n": x_shape[0], "p": p, "q": q, "k": w_shape[3]} | direct._blocks(x_shape[0], p, q)
    phase["channels"] = direct._channels(phase)
    plan = _weight_grad_plan(x_shape, w_shape, dtype, stride, padding)
    return max(direct._scratch_bytes(phase), direct_weight_grad._scratch_bytes(plan))


def partial_sums(x_shape: Shape, w_shape: tuple[int, int, int, int], dtype: DTypeLike, *, stride: Pair, padding: Pair) -> int:
    """Return how many partial sums a weight gradient has: with one, that is the result itself."""
    return _weight_grad_plan(x_shape, w_shape, dtype, stride, padding)["n_chunks"]


def _weight_grad_plan(
    x_shape: Shape, w_shape: tuple[int, int, int, int], dtype: DTypeLike, stride: Pair, padding: Pair
) -> dict[str, int]:
    dy_shape = (x_shape[0], *output_hw(x_shape, w_shape[:2], stride, padding), w_shape[3])
    return direct_weight_grad._plan(source(_image(x_shape, dtype), None, w_shape[:2], stride, padding), dy_shape)


def _image(shape: Shape, dtype: DTypeLike) -> NDArray:
    """Return an array of that shape that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)
