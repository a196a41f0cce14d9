"""A convolution and its two gradients: blocks of columns, times a matrix. The package's docstring has the picture."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Pair, output_hw, pixels
from .columns import block_columns
from .jit import jit
from .pointwise import bias_relu, column_sums, masked_copy
from .threads import chunks, run, scratch

Array = NDArray[np.floating]

BLOCK_ELEMENTS = 2**18  # a block's columns: 1 MB in float32, to stay in the second-level cache ...
BLOCK_PIXELS = 256  # ... but never fewer pixels than make the product worth packing the weights for
PARTIAL_BYTES = 2**26  # what the weight gradient may hold in partial sums, beyond the two it always has


def conv2d(
    x: Array, w: Array, b: Array | None = None, *, stride: Pair, padding: Pair, relu: bool = False,
    out: Array | None = None, algorithm: str = "auto",
) -> Array:  # fmt: skip
    """y = im2col(x) @ w + b, a block of output rows at a time."""
    r, s, c, k = w.shape
    p, q = output_hw(x.shape, (r, s), stride, padding)
    y = np.empty((x.shape[0], p, q, k), x.dtype) if out is None else out
    weights, y_pixels = w.reshape(r * s * c, k), pixels(y)
    blocks = _row_blocks(x.shape[0], p, q, r * s * c)

    def job(i: int) -> None:
        n, p0, p1 = blocks[i]
        cols = block_columns(x, None, n, p0, p1, q, (r, s), stride, padding)
        block = y_pixels[(n * p + p0) * q : (n * p + p1) * q]
        np.matmul(cols, weights, out=block)  # (pixels, R*S*C) @ (R*S*C, K)
        bias_relu(block, b, relu)

    run(len(blocks), job)
    return y


def conv2d_input_grad(
    dy: Array, w: Array, x_shape: tuple[int, ...], *, stride: Pair, padding: Pair, mask: Array | None = None,
    b: Array | None = None, relu: bool = False, out: Array | None = None, algorithm: str = "auto",
) -> Array:  # fmt: skip
    """dx: each pixel gathers the dy it reached, times the weight of the tap that reached it.

    Pixel h meets output row p through tap r where p stride - padding + r = h. With h = start + i stride, one phase of the
    stride, only taps that leave start + padding modulo stride do, and from one such tap to the next lower p grows by 1:
    a phase of dx is a plain convolution, of stride 1, of dy with those taps in reverse. No product with a zero is made.
    """
    dx = np.empty(x_shape, dy.dtype) if out is None else out
    for start in itertools.product(range(min(stride[0], x_shape[1])), range(min(stride[1], x_shape[2]))):
        _phase(dy, w, dx, start, stride, padding, mask, b, relu)
    return dx


def _phase(
    dy: Array, w: Array, dx: Array, start: Pair, stride: Pair, padding: Pair, mask: Array | None, b: Array | None,
    relu: bool,
) -> None:  # fmt: skip
    n, *size, c = dx.shape
    (r_taps, top), (s_taps, left) = (_phase_taps(w.shape[a], start[a] + padding[a], stride[a]) for a in (0, 1))
    taps = len(r_taps), len(s_taps)
    weights = _turned(w, r_taps, s_taps)  # (taps*K, C)
    rows, cols = (-(-(size[a] - start[a]) // stride[a]) for a in (0, 1))
    blocks = _row_blocks(n, rows, cols, max(len(weights), 1))

    def job(i: int) -> None:
        image, i0, i1 = blocks[i]
        columns = block_columns(dy, mask, image, i0, i1, cols, taps, (1, 1), (top, left))
        product = scratch("product", (len(columns), c), dy.dtype)
        np.matmul(columns, weights, out=product)  # (pixels, taps*K) @ (taps*K, C)
        bias_relu(product, b, relu)
        _place(product, dx[image], i0, i1, cols, *start, *stride)

    run(len(blocks), job)


def _phase_taps(kernel: int, place: int, stride: int) -> tuple[list[int], int]:
    """Return the taps through which a phase is reached, in the order of the dy they meet, and the padding of dy."""
    taps = [tap for tap in reversed(range(kernel)) if (place - tap) % stride == 0]
    return taps, (taps[0] - place) // stride if taps else 0


def conv2d_weight_grad(
    x: Array, dy: Array, w_shape: tuple[int, ...], *, stride: Pair, padding: Pair, mask: Array | None = None,
    algorithm: str = "auto",
) -> tuple[Array, Array]:  # fmt: skip
    """dw = im2col(x)^T @ dy and db = sum of dy: one partial sum a chunk of blocks, added in order."""
    r, s, c, k = w_shape
    _, p, q, _ = dy.shape
    blocks = _row_blocks(x.shape[0], p, q, r * s * c)
    size = r * s * c * k * x.dtype.itemsize
    n_chunks = max(1, min(len(blocks), 16, max(2, PARTIAL_BYTES // max(size, 1))))
    dw = np.zeros((n_chunks, r * s * c, k), x.dtype)
    db = np.zeros((n_chunks, k))
    dy_pixels = pixels(dy)
    mask_pixels = None if mask is None else pixels(mask)

    def job(chunk: int) -> None:
        for n, p0, p1 in blocks[chunk * len(blocks) // n_chunks : (chunk + 1) * len(blocks) // n_chunks]:
            cols = block_columns(x, None, n, p0, p1, q, (r, s), stride, padding)
            here = slice((n * p + p0) * q, (n * p + p1) * q)
            dy_block = dy_pixels[here]
            if mask_pixels is not None:
                dy_block = masked_copy(dy_block, mask_pixels[here], scratch("dy", dy_block.shape, dy.dtype))
            column_sums(dy_block, db[chunk])
            dw[chunk] += np.matmul(cols.T, dy_block, out=scratch("product", (r * s * c, k), x.dtype))

    run(n_chunks, job)
    for chunk in range(1, n_chunks):
        dw[0] += dw[chunk]
    return dw[0].reshape(w_shape).copy() if n_chunks > 1 else dw.reshape(w_shape), db.sum(axis=0).astype(x.dtype)


def _row_blocks(n: int, rows: int, row_pixels: int, depth: int) -> list[tuple[int, int, int]]:
    """Cut n images of `rows` pixel rows into (image, first row, last row + 1); a block never straddles two images."""
    size = max(BLOCK_PIXELS, BLOCK_ELEMENTS // max(depth, 1))
    return [(image, *piece) for image in range(n) for piece in chunks(rows, max(1, size // max(row_pixels, 1)))]


def _turned(w: Array, r_taps: list[int], s_taps: list[int]) -> Array:
    """Return the chosen taps of w (R, S, C, K) as one matrix (taps*K, C)."""
    c, k = w.shape[2:]
    turned = np.empty((len(r_taps) * len(s_taps), k, c), w.dtype)

    def job(i: int) -> None:
        _transpose(w[r_taps[i // len(s_taps)], s_taps[i % len(s_taps)]], turned[i])

    run(len(turned), job)
    return turned.reshape(len(turned) * k, c)


@jit
def _transpose(source: Any, target: Any) -> None:
    """Transpose by squares of 32, so that neither side is walked across cache lines for long."""
    rows, cols = source.shape
    for i0 in range(0, rows, 32):
        for j0 in range(0, cols, 32):
            for i in range(i0, min(i0 + 32, rows)):
                for j in range(j0, min(j0 + 32, cols)):
                    target[j, i] = source[i, j]


@jit
def _place(
    block: Any, dx: Any, i0: int, i1: int, cols: int, h_start: int, w_start: int, stride_h: int, stride_w: int
) -> None:  # fmt: skip
    """Store a phase's block at its strided pixels of one image's dx."""
    for i in range(i0, i1):
        for j in range(cols):
            for c in range(block.shape[1]):
                dx[h_start + i * stride_h, w_start + j * stride_w, c] = block[(i - i0) * cols + j, c]
