"""What is done to each element, or down each column of channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import parameter_dtype
from .device import BLOCK, Kernel, blocks, empty, launch, store
from .layout import ACCESS, pixel, unit

FILE = "pointwise.cu"

COLUMNS = 64  # channels that a block adds beside one another: two cache lines of float32
FEW_COLUMNS = 8  # the same where a row is a partial sum in float64: one cache line, and more blocks for few rows
ROWS = 8  # pixels that a thread adds at least, to be worth a partial sum
MOST_BLOCKS = 2**11  # add pixels: enough to fill any device, and a number that none of them decides


def relu(x: Any) -> Any:
    """max(x, 0), with NaN kept."""
    return add_bias_relu(x, None, relu=True, out=empty(x.shape, x.dtype))


def add_bias_relu(x: Any, b: Any, *, relu: bool, out: Any) -> Any:
    """out = x + b, where there is a b (C,), and max(that, 0) if relu says so. out (N, H, W, C) may be x. Return out."""
    width = unit(x, out)
    launch(
        Kernel(FILE, "add_bias_relu", store(x.dtype)), blocks(x.size // width), BLOCK, x, pixel(x), b, int(relu), out,
        pixel(out), x.shape[3] // width, x.size // width, width,
    )  # fmt: skip
    return out


def aligned(x: Any) -> Any:
    """Return x, or a copy where whole units of its channels are not aligned: for those whose bits would depend on that."""
    whole = x.shape[3] % (ACCESS // x.itemsize) == 0
    return add_bias_relu(x, None, relu=False, out=empty(x.shape, x.dtype)) if whole and unit(x) == 1 else x


def placed(y: Any, out: Any) -> Any:
    """Return y, in `out` if there is one."""
    return y if out is None or out is y else add_bias_relu(y, None, relu=False, out=out)


def relu_grad(dy: Any, y: Any) -> Any:
    """dy where y > 0, else 0."""
    dx = empty(dy.shape, dy.dtype)
    width = unit(dy, y)
    launch(
        Kernel(FILE, "relu_grad", store(dy.dtype)), blocks(dy.size // width), BLOCK, dy, pixel(dy), y, pixel(y), dx,
        dy.shape[3] // width, dy.size // width, width,
    )  # fmt: skip
    return dx


def bias_grad(dy: Any) -> Any:
    """db (C,) = sum of dy over images and pixels, in float64."""
    return relu_bias_grad(dy, None)[1]


def relu_bias_grad(dy: Any, y: Any) -> tuple[Any, Any]:
    """Return dy where y > 0, else 0, and its sum over images and pixels, db (C,): of dy itself where y is None."""
    pixels, c = math.prod(dy.shape[:3]), dy.shape[3]
    cut = Cut.of(pixels, c, dy.itemsize)
    dx, pixel_of_y = (dy, 0) if y is None else (empty(dy.shape, dy.dtype), pixel(y))
    partial = empty((cut.chunks, c), np.float64)
    whole = unit(*(a for a in (dy, y) if a is not None)) == cut.width
    launch(
        Kernel(FILE, "sum_chunks", store(dy.dtype)), (blocks(c // cut.width, cut.columns), cut.chunks, 1), BLOCK, dy, pixel(dy),
        y, pixel_of_y, None if y is None else dx, pixels, c // cut.width, cut.chunk, cut.columns, partial, cut.width,
        int(whole), shared=cut.width * SHARED,
    )  # fmt: skip
    return dx, sum_sums(partial, dy.dtype)


def sum_sums(sums: Any, dtype: DTypeLike) -> Any:
    """Return the sum of rows in float64 (rows, C), added in order, as a parameter beside activations of this type (C,)."""
    rows, c = sums.shape
    total, columns = empty((c,), parameter_dtype(dtype)), columns_of(c, FEW_COLUMNS)
    launch(Kernel(FILE, "sum_sums", store(dtype)), blocks(c, columns), BLOCK, sums, rows, c, columns, total, shared=SHARED)
    return total


def cast(a: Any, dtype: DTypeLike) -> Any:
    """Return a as float32 where it is bfloat16, or the other way round: itself where it is of that type."""
    if a.dtype == dtype:
        return a
    a = a if a.flags.c_contiguous else a.copy(order="C")
    b = empty(a.shape, dtype)
    launch(Kernel(FILE, "narrow" if store(dtype) == "bf16" else "widen", "bf16"), blocks(a.size), BLOCK, a, b, a.size)
    return b


SHARED = BLOCK * np.dtype(np.float64).itemsize  # bytes: a sum of each thread


@dataclass(frozen=True)
class Cut:
    """How the sum over many rows is cut: by shape and type alone, since the cut decides how the sum is rounded."""

    width: int  # columns that a thread adds, beside one another: a unit, or one
    columns: int  # units that a block adds, beside one another
    chunk: int  # rows that it adds
    chunks: int

    @classmethod
    def of(cls, rows: int, c: int, itemsize: int) -> Cut:
        """Cut so many rows of c columns."""
        width = ACCESS // itemsize
        width = width if c % width == 0 else 1
        columns = columns_of(c // width, COLUMNS // width)
        most = max(1, MOST_BLOCKS // blocks(c // width, columns))
        chunk = max(BLOCK // columns * ROWS, blocks(rows, most))
        return cls(width, columns, chunk, max(1, blocks(rows, chunk)))


def columns_of(c: int, most: int) -> int:
    """Return the least power of two that is c or more, and at most `most`: the columns of a block."""
    return min(most, 1 << (c - 1).bit_length())
