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

from numba import carray

from .copies import copy_pixels, copy_positive_pixels, transpose
from .generated import clear, copy, pointer
from .jit import part
from .plans import Block, sizes
from .tiles import VECTOR


@part
def windows(
    zero: Any, x: Any, block: Block, c0: int, c1: int, laid_out: int, gap: int, may_lie: bool
) -> tuple[int, int, int, int]:
    """Return where what the block's windows see of channels c0 to c1 starts, and how far apart images, rows, pixels lie there.

    That is the image itself, if it `may_lie` there and nothing has to be masked or padded; else a strip, laid out with
    pixels that have a gap between them.
    """
    if may_lie and x.mask == 0 and inside(x, block):
        row = x.w * x.pixel
        top, left = block.p0 * x.stride_h - x.pad_h, block.q0 * x.stride_w - x.pad_w
        start = x.start + (block.n0 * x.h + top) * row + left * x.pixel + c0 * x.size
        return start, x.h * row, row, x.pixel
    pixel = (c1 - c0) * x.size + gap
    strip(zero, x, block, c0, c1, laid_out, pixel)
    _, p, q = sizes(block)
    row = ((q - 1) * x.stride_w + x.s) * pixel
    return laid_out, ((p - 1) * x.stride_h + x.r) * row, row, pixel


@part
def inside(x: Any, block: Block) -> bool:
    """Tell whether all that the block's windows see lies in the image."""
    top, left = block.p0 * x.stride_h - x.pad_h, block.q0 * x.stride_w - x.pad_w
    bottom, right = (block.p1 - 1) * x.stride_h - x.pad_h + x.r, (block.q1 - 1) * x.stride_w - x.pad_w + x.s
    return top >= 0 and left >= 0 and bottom <= x.h and right <= x.w


@part
def strip(zero: Any, x: Any, block: Block, c0: int, c1: int, target: int, pixel: int) -> None:
    """Copy what the block's windows see of channels c0 to c1, zeros outside the image, to rows of pixels `pixel` apart."""
    _, p, q = sizes(block)
    height, width = (p - 1) * x.stride_h + x.r, (q - 1) * x.stride_w + x.s
    top, left = block.p0 * x.stride_h - x.pad_h, block.q0 * x.stride_w - x.pad_w
    first, last = min(max(-left, 0), width), max(min(x.w - left, width), 0)  # the columns that lie in the image
    count = c1 - c0
    for n in range(block.n0, block.n1):
        for row in range(height):
            h = top + row
            if h < 0 or h >= x.h or first >= last:
                clear_pixels(zero, target, width, count, pixel)
            else:
                clear_pixels(zero, target, first, count, pixel)
                clear_pixels(zero, target + last * pixel, width - last, count, pixel)
                index = (n * x.h + h) * x.w + left + first
                source, here = x.start + index * x.pixel + c0 * x.size, target + first * pixel
                if x.mask:
                    mask = x.mask + index * x.mask_pixel + c0 * x.size
                    copy_positive_pixels(zero, here, pixel, source, x.pixel, mask, x.mask_pixel, last - first, count)
                else:
                    copy_pixels(zero, here, pixel, source, x.pixel, source, 0, last - first, count)
            target += width * pixel


@part
def clear_pixels(zero: Any, target: int, pixels: int, count: int, pixel: int) -> None:
    """Set `count` elements of each of some pixels to 0."""
    for i in range(pixels):
        clear(zero, target + i * pixel, count)


@part
def pack_weights(zero: Any, w: Any, c0: int, c1: int, k: int, count: int, lanes: int, target: int) -> None:
    """Pack the rows (tap, channel c0 to c1) and columns k to k + count of the weights as a panel: zeros behind, to `lanes`.

    Either the rows or the columns of a tap's matrix are runs of elements.
    """
    places = carray(pointer(0, w.taps), (w.n_taps,))
    for tap in range(w.n_taps):
        start = w.start + places[tap] + c0 * w.depth + k * w.column
        if w.column == w.size:
            for c in range(c1 - c0):
                here = target + c * lanes * w.size
                copy(zero, here, start + c * w.depth, count)
                if count < lanes:
                    clear(zero, here + count * w.size, lanes - count)
        else:
            _turned_panel(zero, w, start, c1 - c0, count, lanes, target)
        target += (c1 - c0) * lanes * w.size


@part
def _turned_panel(zero: Any, w: Any, start: int, depth: int, count: int, lanes: int, target: int) -> None:
    """Turn columns that are runs into rows: by whole squares, and what is left by elements."""
    step = VECTOR // w.size
    rows = carray(pointer(zero, target), (depth, lanes))
    for j in range(0, lanes, step):
        squares = depth // step * step if j + step <= count else 0
        for d in range(0, squares, step):
            transpose(zero, target + (d * lanes + j) * w.size, lanes * w.size, start + j * w.column + d * w.size, w.column)
        for i in range(j, j + step):
            if i < count:
                column = carray(pointer(zero, start + i * w.column), (depth,))
                for d in range(squares, depth):
                    rows[d, i] = column[d]
            else:
                for d in range(squares, depth):
                    rows[d, i] = 0
