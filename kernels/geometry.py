"""Sizes and layout: how many output pixels a window gives, and which arrays are dense activations."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike, NDArray

Pair = tuple[int, int]
Shape = tuple[int, ...]


def output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """P = floor((H + 2 padding - R) / stride) + 1."""
    return (size + 2 * padding - kernel) // stride + 1


def output_hw(x_shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """Return (P, Q) for an input (N, H, W, C)."""
    return (
        output_size(x_shape[1], kernel[0], stride[0], padding[0]),
        output_size(x_shape[2], kernel[1], stride[1], padding[1]),
    )


def pixels(x: NDArray) -> NDArray:
    """View a dense activation (N, H, W, C) as its pixels (N*H*W, C), channel slices of a wider buffer too."""
    n, h, w, c = x.shape
    if x.flags.c_contiguous:
        return x.reshape(n * h * w, c)
    step = next((x.strides[axis] for axis in (2, 1, 0) if x.shape[axis] > 1), c * x.itemsize)
    return as_strided(x, (n * h * w, c), (step, x.strides[3]))


def pixel_stride(x: NDArray) -> int:
    """Return how many bytes lie between the pixels of a dense activation."""
    return pixels(x).strides[0] if x.size else x.shape[3] * x.itemsize


def is_dense(x: NDArray) -> bool:
    """Tell whether x (N, H, W, C) has unit channel stride and dense pixels at one stride of at least C."""
    if x.flags.c_contiguous:
        return x.flags.aligned
    n, h, w, c = x.shape
    step = next((x.strides[axis] for axis in (2, 1, 0) if x.shape[axis] > 1), c * x.itemsize)
    strides = (h * w * step, w * step, step, x.itemsize)
    regular = all(size <= 1 or x.strides[axis] == strides[axis] for axis, size in enumerate(x.shape))
    return regular and step >= c * x.itemsize and step % x.itemsize == 0 and x.flags.aligned


def imagined(shape: Shape, dtype: DTypeLike) -> NDArray:
    """Return an array of that shape that takes no memory: for plans from shapes alone."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def evenly(size: int, most: int) -> int:
    """Return the length of the fewest pieces of at most `most` that `size` is cut into evenly."""
    return max(1, -(-size // max(1, -(-size // most))))
