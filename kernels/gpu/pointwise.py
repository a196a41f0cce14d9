"""What is done to each element, or down each column of channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .device import BLOCK, Kernel, blocks, empty, launch, real
from .layout import pixel, unit

FILE = "pointwise.cu"

COLUMNS = 64  # channels that a block adds: two cache lines of float32, beside one another
FEW_COLUMNS = 8  # the same where a row is a partial sum in float64: one cache line, and more blocks for few rows
ROWS = 16  # pixels that a thread adds at least, to be worth a partial sum
MOST_BLOCKS = 2**11  # add pixels: enough to fill any device, and a number that none of them decides


def relu(x: Any) -> Any:
    """max(x, 0), with NaN kept."""
    return add_bias_relu(x, None, relu=True, out=empty(x.shape, x.dtype))


def add_bias_relu(x: Any, b: Any, *, relu: bool, out: Any) -> Any:
    """out = x + b, where there is a b (C,), and max(that, 0) if relu says so. out (N, H, W, C) may be x. Return out."""
    width = unit(x, out)
    launch(
        Kernel(FILE, "add_bias_relu", real(x.dtype)), blocks(x.size // width), BLOCK, x, pixel(x), b, int(relu), out,
        pixel(out), x.shape[3] // width, x.size // width, width,
    )  # fmt: skip
    return out


def relu_grad(dy: Any, y: Any) -> Any:
    """dy where y > 0, else 0."""
    dx = empty(dy.shape, dy.dtype)
    width = unit(dy, y)
    launch(
        Kernel(FILE, "relu_grad", real(dy.dtype)), blocks(dy.size // width), BLOCK, dy, pixel(dy), y, pixel(y), dx,
        dy.shape[3] // width, dy.size // width, width,
    )  # fmt: skip
    return dx


def bias_grad(dy: Any, mask: Any = None) -> Any:
    """db (C,) = sum of dy over images and pixels, in float64: dy counts only where mask > 0, if there is a mask of its shape."""
    pixels, c = math.prod(dy.shape[:3]), dy.shape[3]
    cut = Cut.of(pixels, c)
    partial, db = empty((cut.chunks, c), np.float64), empty((c,), dy.dtype)
    launch(
        Kernel(FILE, "sum_chunks", real(dy.dtype)), (blocks(c, cut.columns), cut.chunks, 1), BLOCK, dy, pixel(dy), mask,
        0 if mask is None else pixel(mask), pixels, c, cut.chunk, cut.columns, partial, shared=SHARED,
    )  # fmt: skip
    columns = columns_of(c, FEW_COLUMNS)
    launch(
        Kernel(FILE, "sum_sums", real(dy.dtype)), blocks(c, columns), BLOCK, partial, cut.chunks, c, columns, db, shared=SHARED
    )
    return db


SHARED = BLOCK * np.dtype(np.float64).itemsize  # bytes: each thread's sum


@dataclass(frozen=True)
class Cut:
    """How the sum over many rows is cut: by their number alone, since the cut decides how the sum is rounded."""

    columns: int  # that a block adds, beside one another
    chunk: int  # rows that it adds
    chunks: int

    @classmethod
    def of(cls, rows: int, c: int) -> Cut:
        """Cut so many rows of c columns."""
        columns = columns_of(c, COLUMNS)
        most = max(1, MOST_BLOCKS // blocks(c, columns))
        chunk = max(BLOCK // columns * ROWS, blocks(rows, most))
        return cls(columns, chunk, max(1, blocks(rows, chunk)))


def columns_of(c: int, most: int) -> int:
    """Return the least power of two that is c or more, and at most `most`: the columns of a block."""
    return min(most, 1 << (c - 1).bit_length())
