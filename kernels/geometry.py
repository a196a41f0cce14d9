"""Sizes and layout: how many output pixels a window gives, and which arrays are dense activations."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Pair = tuple[int, int]
Shape = tuple[int, ...]


def output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """P = floor((H + 2 padding - R) / stride) + 1."""
    return (size + 2 * padding - kernel) // stride + 1


def transposed_output_size(size: int, kernel: int, stride: int, padding: int, output_padding: int) -> int:
    """H = (P - 1) stride - 2 padding + R + output_padding."""
    return (size - 1) * stride - 2 * padding + kernel + output_padding


def output_hw(x_shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """Return (P, Q) for an input (N, H, W, C)."""
    return (
        output_size(x_shape[1], kernel[0], stride[0], padding[0]),
        output_size(x_shape[2], kernel[1], stride[1], padding[1]),
    )


def pixels(x: NDArray) -> NDArray:
    """View a dense activation (N, H, W, C) as its pixels (N*H*W, C), channel slices of a wider buffer too."""
    n, h, w, c = x.shape
    if x.flags.c_contiguous or not isinstance(x, np.ndarray):
        return x.reshape(n * h * w, c)
    return as_strided(x, (n * h * w, c), (pixel_stride(x), x.strides[3]))


def pixel_stride(x: NDArray) -> int:
    """Return how many bytes lie between the pixels of a dense activation."""
    dense = x.shape[3] * x.itemsize
    if x.flags.c_contiguous or not x.size:
        return dense
    return next((x.strides[axis] for axis in (2, 1, 0) if x.shape[axis] > 1), dense)


def is_dense(x: NDArray) -> bool:
    """Tell whether x (N, H, W, C) has unit channel stride and dense pixels at one stride of at least C."""
    if x.flags.c_contiguous:
        return is_aligned(x)
    n, h, w, c = x.shape
    step = next((x.strides[axis] for axis in (2, 1, 0) if x.shape[axis] > 1), c * x.itemsize)
    strides = (h * w * step, w * step, step, x.itemsize)
    regular = all(size <= 1 or x.strides[axis] == strides[axis] for axis, size in enumerate(x.shape))
    return regular and step >= c * x.itemsize and step % x.itemsize == 0 and is_aligned(x)


def is_aligned(x: NDArray) -> bool:
    """Tell whether elements lie at multiples of their size: CuPy's always do, and it has no flag for it."""
    return getattr(x.flags, "aligned", True)


def address(x: NDArray) -> int:
    """Return where the first element lies in its memory, the host's or a device's."""
    return x.__array_interface__["data"][0] if isinstance(x, np.ndarray) else x.data.ptr


def overlap(a: NDArray, b: NDArray) -> bool:
    """Tell whether two arrays, dense activations or contiguous, share memory, without a question to a GPU."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return bool(np.shares_memory(a, b))
    first, second = sorted((a, b), key=address)
    apart = address(second) - address(first)
    if not first.size or not second.size or apart >= _extent(first):
        return False
    if first.flags.c_contiguous or second.flags.c_contiguous or pixel_stride(first) != pixel_stride(second):
        return True
    step, c = pixel_stride(first), first.shape[3] * first.itemsize
    return not c <= apart % step <= step - second.shape[3] * second.itemsize  # or: channels of a buffer's pixels, and others


def _extent(x: NDArray) -> int:
    """Return how many bytes lie from an array's first element to its last one's end."""
    c = x.shape[-1] * x.itemsize
    return x.nbytes if x.flags.c_contiguous else pixel_stride(x) * (x.size // x.shape[-1] - 1) + c


def joined(left: NDArray, right: NDArray) -> NDArray | None:
    """Return the array whose channels are left's and then right's, if they lie so in one buffer; else None."""
    wide = left.shape[3] + right.shape[3]
    adjacent = address(right) - address(left) == left.shape[3] * left.itemsize and left.strides == right.strides
    dense = left.strides[2] == wide * left.itemsize  # nothing but these two in each pixel
    if left.base is None or left.base is not right.base or not (adjacent and dense):
        return None
    shape = (*left.shape[:3], wide)
    if isinstance(left, np.ndarray):
        return as_strided(left, shape, left.strides)
    return left.base if left.base.shape == shape and address(left.base) == address(left) else None


def evenly(size: int, most: int) -> int:
    """Return the length of the fewest pieces of at most `most` that `size` is cut into evenly."""
    return max(1, -(-size // max(1, -(-size // most))))
