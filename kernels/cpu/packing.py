"""How a block of pixels and a panel of weights are laid out for the tiles: im2col as addressing.

A tile reads, for each of its rows (pixels), one address, and for each tap one offset that all rows share: the column
matrix exists as sums of the two and nowhere else. Where a block lies inside the image, the addresses are the image's
own. Where it needs zeros around it or a relu's mask, it is copied into a strip with a zero edge first.

    as it lies                 strip
    + + + + + + +              0 0 0 0 0
    + a b c d + +              0 a b c d  <- two rows of the image, its left edge
    + e f g h + +              0 e f g h
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from ..geometry import pixel_stride
from .copies import copy_pixels, copy_positive_pixels, transpose
from .generated import clear, copy, pointer
from .jit import part
from .threads import address
from .tiles import VECTOR

# What a kernel reads its work from: one record for all of them, so that what they share is compiled once. Addresses and
# strides in bytes. The first row says how taps reach an activation: grid point (p, q) reads rows p stride - pad + r and
# columns q stride - pad + s of its image. p, q, k are the result's sizes; m is a tile's side, n_p x n_q tiles cover an image.
PLAN = [
    "x", "x_pixel", "mask", "mask_pixel", "h", "w", "c", "r", "s", "stride_h", "stride_w", "pad_h", "pad_w", "size",
    "n", "p", "q", "k", "m", "n_p", "n_q", "block_n", "block_p", "block_q", "n_blocks", "most_blocks", "channels", "group",
    "weights", "weight_taps", "weight_depth", "weight_column", "b", "relu", "y", "y_n", "y_p", "y_q", "cols",
    "dy", "dy_pixel", "dy_mask", "dy_mask_pixel", "n_chunks", "group_c", "group_k", "dw", "db",
]  # fmt: skip


def source(
    x: NDArray, mask: NDArray | None, taps: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> dict[str, int]:
    """Return the fields of a plan that tell of an activation x (N, H, W, C)."""
    _, h, w, c = x.shape
    return {
        "x": address(x), "x_pixel": pixel_stride(x), "mask": 0 if mask is None else address(mask),
        "mask_pixel": 0 if mask is None else pixel_stride(mask), "h": h, "w": w, "c": c, "r": taps[0], "s": taps[1],
        "stride_h": stride[0], "stride_w": stride[1], "pad_h": padding[0], "pad_w": padding[1], "size": x.itemsize,
    }  # fmt: skip


def table(plans: list[dict[str, int]]) -> NDArray:
    """Return plans as an array of records of int64; a field that a plan lacks is 0, and nobody's."""
    return np.array([tuple(plan.get(name, 0) for name in PLAN) for plan in plans], [(name, np.int64) for name in PLAN])


@part
def inside(g: Any, p0: int, p1: int, q0: int, q1: int) -> bool:
    """Tell whether all that the block's windows see lies in the image."""
    top, left = p0 * g.stride_h - g.pad_h, q0 * g.stride_w - g.pad_w
    bottom, right = (p1 - 1) * g.stride_h - g.pad_h + g.r, (q1 - 1) * g.stride_w - g.pad_w + g.s
    return top >= 0 and left >= 0 and bottom <= g.h and right <= g.w


@part
def strip(
    zero: Any, g: Any, n0: int, n1: int, p0: int, p1: int, q0: int, q1: int, c0: int, c1: int, target: int, pixel: int
) -> None:
    """Copy what the block's windows see of channels c0 to c1, zeros outside the image, to rows of pixels `pixel` apart."""
    height, width = (p1 - p0 - 1) * g.stride_h + g.r, (q1 - q0 - 1) * g.stride_w + g.s
    top, left = p0 * g.stride_h - g.pad_h, q0 * g.stride_w - g.pad_w
    first, last = min(max(-left, 0), width), max(min(g.w - left, width), 0)  # the columns that lie in the image
    count = c1 - c0
    for n in range(n0, n1):
        for row in range(height):
            h = top + row
            if h < 0 or h >= g.h or first >= last:
                _clear_pixels(zero, target, width, count, pixel)
            else:
                _clear_pixels(zero, target, first, count, pixel)
                _clear_pixels(zero, target + last * pixel, width - last, count, pixel)
                index = (n * g.h + h) * g.w + left + first
                source, here = g.x + index * g.x_pixel + c0 * g.size, target + first * pixel
                if g.mask:
                    mask = g.mask + index * g.mask_pixel + c0 * g.size
                    copy_positive_pixels(zero, here, pixel, source, g.x_pixel, mask, g.mask_pixel, last - first, count)
                else:
                    copy_pixels(zero, here, pixel, source, g.x_pixel, source, 0, last - first, count)
            target += width * pixel


@part
def _clear_pixels(zero: Any, target: int, pixels: int, count: int, pixel: int) -> None:
    for i in range(pixels):
        clear(zero, target + i * pixel, count)


@part
def panel(
    zero: Any, size: int, weights: int, depth: int, depth_stride: int, count: int, column_stride: int, lanes: int, target: int
) -> None:  # fmt: skip
    """Lay `count` columns of a matrix of `depth` rows out as rows of `lanes`, zeros behind: whole vectors for the tiles.

    Either the rows or the columns of the matrix are runs of elements: one of the two strides is an element's size.
    """
    if column_stride != size:
        _turned_panel(zero, size, weights, depth, count, column_stride, lanes, target)
        return
    for d in range(depth):
        here = target + d * lanes * size
        copy(zero, here, weights + d * depth_stride, count)
        if count < lanes:
            clear(zero, here + count * size, lanes - count)


@part
def _turned_panel(
    zero: Any, size: int, weights: int, depth: int, count: int, column_stride: int, lanes: int, target: int
) -> None:  # fmt: skip
    """Turn columns that are runs into rows: by whole squares, and what is left by elements."""
    step = VECTOR // size
    rows = carray(pointer(zero, target), (depth, lanes))
    for j in range(0, lanes, step):
        squares = depth // step * step if j + step <= count else 0
        for d in range(0, squares, step):
            start = weights + j * column_stride + d * size
            transpose(zero, target + (d * lanes + j) * size, lanes * size, start, column_stride)
        for i in range(j, j + step):
            if i < count:
                column = carray(pointer(zero, weights + i * column_stride), (depth,))
                for d in range(squares, depth):
                    rows[d, i] = column[d]
            else:
                for d in range(squares, depth):
                    rows[d, i] = 0
