"""A convolution and its input gradient: one product, of pixels that are addressed with weights that are packed.

    for group of panels of K, block of pixels, phase of the stride:      one job, claimed by whichever thread is free
        for block of channels:                                           so that a panel stays in the first-level cache
            the block's windows: addresses, or a strip in scratch        packing.py
            for panel of K:
                pack the panel of weights                                packing.py
                for tile of pixels:                                      tiles.py: all taps and channels in registers
                    y[tile, panel] += x[windows] @ panel                 at the end + b, relu

A block is about a thousand pixels, so that packing the weights anew for each costs nothing beside the product. Its strip
stays in the second-level cache. No blocking depends on the number of images or threads, and the order of each sum
(blocks of channels; in each the taps; in each the channels) not even on the blocks of pixels: hence the same bits.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from ..buffers import empty
from ..geometry import Pair, evenly, output_hw, pixel_stride
from .generated import copy, pointer
from .jit import part
from .packing import inside, panel, source, strip, table
from .threads import address, jobs, launch
from .tiles import PANEL, ROWS, grid, multiply

Array = NDArray[np.floating]

PANEL_BYTES = 24 * 1024  # of a packed panel of weights: it stays in the first-level cache, beside the pixels
BLOCK_PIXELS = 1024
GROUP_COLUMNS = 128  # the least a job computes for each pixel that it lays out
JOBS = 32  # wanted, where the shape has them


def conv2d(
    x: Array, w: Array, b: Array | None = None, *, stride: Pair, padding: Pair, relu: bool = False,
    out: Array | None = None,
) -> Array:  # fmt: skip
    """y = im2col(x) @ w + b."""
    r, s, c, k = w.shape
    y = empty((x.shape[0], *output_hw(x.shape, (r, s), stride, padding), k), x.dtype) if out is None else out
    tap = c * k * w.itemsize
    phase = source(x, None, (r, s), stride, padding) | target_of(y, (0, 0), (1, 1))
    phase |= {"weight_depth": k * w.itemsize, "weight_column": w.itemsize}
    _run([(phase, np.arange(r * s) * tap)], w, b, relu, y)
    return y


def conv2d_input_grad(
    dy: Array, w: Array, x_shape: tuple[int, ...], *, stride: Pair, padding: Pair, mask: Array | None = None,
    b: Array | None = None, relu: bool = False, out: Array | None = None,
) -> Array:  # fmt: skip
    """dx: each pixel gathers the dy it reached, times the weight of the tap that reached it."""
    dx = empty(x_shape, dy.dtype) if out is None else out
    _run(_phases(dy, w, dx, stride, padding, mask), w, b, relu, dx)
    return dx


def _phases(
    dy: Array, w: Array, dx: Array, stride: Pair, padding: Pair, mask: Array | None
) -> list[tuple[dict[str, int], NDArray]]:
    """Return dx as products, with the places of each one's taps.

    Pixel h meets output row p through tap r where p stride - padding + r = h. With h = start + i stride, one phase of the
    stride, only taps that leave start + padding modulo stride do, and from one such tap to the next lower p grows by 1:
    a phase of dx is a plain convolution, of stride 1, of dy with those taps in reverse. No product with a zero is made.
    """
    phases = []
    for start in itertools.product(range(min(stride[0], dx.shape[1])), range(min(stride[1], dx.shape[2]))):
        (r_taps, top), (s_taps, left) = (_phase_taps(w.shape[a], start[a] + padding[a], stride[a]) for a in (0, 1))
        phase = source(dy, mask, (len(r_taps), len(s_taps)), (1, 1), (top, left)) | target_of(dx, start, stride)
        phase |= {"weight_depth": w.itemsize, "weight_column": w.strides[2]}
        phases.append((phase, np.array([r * w.strides[0] + s * w.strides[1] for r in r_taps for s in s_taps], np.int64)))
    return phases


def _phase_taps(kernel: int, place: int, stride: int) -> tuple[list[int], int]:
    """Return the taps through which a phase is reached, in the order of the dy they meet, and the padding of dy."""
    taps = [tap for tap in reversed(range(kernel)) if (place - tap) % stride == 0]
    return taps, (taps[0] - place) // stride if taps else 0


def target_of(y: Array, start: Pair, stride: Pair) -> dict[str, int]:
    """Return where the pixels start, start + stride, ... of y lie, and how many there are."""
    n, h, w, k = y.shape
    pixel = pixel_stride(y)
    p, q = (-(-(size - first) // step) for size, first, step in zip((h, w), start, stride, strict=True))
    return {
        "n": n, "p": p, "q": q, "k": k, "y": address(y) + (start[0] * w + start[1]) * pixel, "y_n": h * w * pixel,
        "y_p": stride[0] * w * pixel, "y_q": stride[1] * pixel,
    }  # fmt: skip


def _run(phases: list[tuple[dict[str, int], NDArray]], w: Array, b: Array | None, relu: bool, y: Array) -> None:
    """Cut each phase into blocks, and compute them all."""
    if not y.size:
        return
    rows = []
    for phase, weight_taps in phases:
        phase = _plan(phase)
        phase |= {"n_blocks": math.prod(-(-phase[axis] // phase[f"block_{axis}"]) for axis in "npq"), "relu": int(relu)}
        phase |= {"weights": address(w), "weight_taps": address(weight_taps), "b": 0 if b is None else address(b)}
        rows.append(phase)
    panels = -(-y.shape[3] * w.itemsize // PANEL)
    n_blocks = max(row["n_blocks"] for row in rows)
    groups = min(-(-y.shape[3] // GROUP_COLUMNS), max(1, JOBS // (n_blocks * len(rows))))
    group = -(-panels // groups)
    rows = [row | {"group": group, "most_blocks": n_blocks} for row in rows]
    n_jobs = -(-panels // group) * n_blocks * len(rows)
    launch(_products, n_jobs, max(map(_scratch_bytes, rows)), y.dtype.type(0), table(rows))


def _plan(phase: dict[str, int]) -> dict[str, int]:
    """Cut the pixels and the channels into blocks."""
    return phase | _blocks(phase["n"], phase["p"], phase["q"]) | {"channels": _channels(phase)}


def _blocks(n: int, p: int, q: int) -> dict[str, int]:
    """Cut n grids of p x q into even blocks of about BLOCK_PIXELS; of whole grids where they are small."""
    block_q = evenly(q, max(64, BLOCK_PIXELS // max(p, 1)))
    block_p = evenly(p, max(1, BLOCK_PIXELS // max(block_q, 1)))
    whole = block_p == p and block_q == q
    return {"block_n": evenly(n, max(1, BLOCK_PIXELS // max(p * q, 1))) if whole else 1, "block_p": block_p, "block_q": block_q}


def _channels(phase: dict[str, int]) -> int:
    """Return how many channels a block has, so that a panel of weights is at most PANEL_BYTES."""
    most = max(8, PANEL_BYTES // PANEL // max(phase["r"] * phase["s"], 1) // 8 * 8)
    return -(-evenly(phase["c"], most) // 8) * 8


def _scratch_bytes(g: dict[str, int]) -> int:
    """Return what a job needs: see _one_job, which lays it out."""
    pixels = g["block_n"] * g["block_p"] * g["block_q"] + ROWS
    width = (g["block_p"] - 1) * g["stride_h"] + g["r"], (g["block_q"] - 1) * g["stride_w"] + g["s"]
    strip = g["block_n"] * width[0] * width[1] * g["channels"] * g["size"]
    weights = g["r"] * g["s"] * g["channels"] * PANEL
    return 24 * pixels + 8 * g["r"] * g["s"] + 2 * PANEL + weights + strip + pixels * PANEL + g["k"] * g["size"]


@jobs
def _products(job: int, scratch: int, zero: Any, phases: Any) -> None:
    """A job is (group of panels, block of pixels, phase), the phase counted fastest."""
    rest, phase = divmod(job, len(phases))
    group, block = divmod(rest, phases[0].most_blocks)  # of all phases: some may have fewer
    if block < phases[phase].n_blocks:
        _one_job(scratch, zero, phases[phase], block, group)


@part
def _one_job(scratch: int, zero: Any, g: Any, block: int, group: int) -> None:
    """Compute the panels of one group for one block of pixels."""
    rest, q0 = divmod(block, -(-g.q // g.block_q))
    n0, p0 = divmod(rest, -(-g.p // g.block_p))
    n0, p0, q0 = n0 * g.block_n, p0 * g.block_p, q0 * g.block_q
    n1, p1, q1 = min(n0 + g.block_n, g.n), min(p0 + g.block_p, g.p), min(q0 + g.block_q, g.q)
    pixels, most = (n1 - n0) * (p1 - p0) * (q1 - q0), g.block_n * g.block_p * g.block_q + ROWS
    weights = scratch
    bias = weights + g.r * g.s * g.channels * PANEL
    tail = bias + PANEL
    x_rows = tail + most * PANEL
    y_rows = x_rows + 8 * most
    tail_rows = y_rows + 8 * most
    taps = tail_rows + 8 * most
    nowhere = taps + 8 * g.r * g.s
    laid_out = nowhere + g.k * g.size + PANEL
    width = PANEL // g.size
    y = g.y + n0 * g.y_n + p0 * g.y_p + q0 * g.y_q
    grid(y_rows, nowhere, y, n1 - n0, p1 - p0, q1 - q0, g.y_n, g.y_p, g.y_q)
    grid(tail_rows, nowhere, tail, 1, 1, pixels, 0, 0, PANEL)
    k0, k1 = group * g.group * width, min((group + 1) * g.group * width, g.k)
    for c0 in range(0, g.c, g.channels):
        c1 = min(c0 + g.channels, g.c)
        last = c1 == g.c
        n_taps, depth = _address_windows(zero, g, n0, n1, p0, p1, q0, q1, c0, c1, laid_out, x_rows, taps)
        for k in range(k0, k1, width):
            count = min(k1 - k, width)
            lanes = width if 2 * count > width else width // 2
            pack_weights(zero, g, c0, c1, k, count, lanes, weights)
            b = bias if last and g.b else 0
            if b:
                copy(zero, bias, g.b + k * g.size, count)
            whole = count == lanes
            multiply(
                zero, lanes == width, pixels, x_rows, 0, g.size, taps, n_taps, depth, weights, y_rows if whole else tail_rows,
                k * g.size if whole else 0, c0 > 0, b, g.relu if last else 0,
            )  # fmt: skip
            if last and not whole:
                _copy_tail(zero, tail, y_rows, k * g.size, pixels, count)


@part
def _address_windows(
    zero: Any, g: Any, n0: int, n1: int, p0: int, p1: int, q0: int, q1: int, c0: int, c1: int, laid_out: int, x_rows: int,
    taps: int,
) -> tuple[int, int]:  # fmt: skip
    """Fill the tables of pixels and taps for channels c0 to c1; return the number of taps and the depth of each."""
    n, p, q = n1 - n0, p1 - p0, q1 - q0
    offsets = carray(pointer(0, taps), (g.r * g.s + 1,))
    if g.mask == 0 and inside(g, p0, p1, q0, q1):
        pixel, row, image, channel = g.x_pixel, g.w * g.x_pixel, g.h * g.w * g.x_pixel, c0 * g.size
        start = g.x + n0 * image + (p0 * g.stride_h - g.pad_h) * row + (q0 * g.stride_w - g.pad_w) * pixel + channel
    else:
        pixel = (c1 - c0) * g.size
        row = ((q - 1) * g.stride_w + g.s) * pixel
        image = ((p - 1) * g.stride_h + g.r) * row
        start = laid_out
        strip(zero, g, n0, n1, p0, p1, q0, q1, c0, c1, laid_out, pixel)
    grid(x_rows, start, start, n, p, q, image, g.stride_h * row, g.stride_w * pixel)
    if pixel == (c1 - c0) * g.size:  # the channels of neighbouring taps lie in one run
        for r in range(g.r):
            offsets[r] = r * row
        return g.r, g.s * (c1 - c0)
    for r in range(g.r):
        for s in range(g.s):
            offsets[r * g.s + s] = r * row + s * pixel
    return g.r * g.s, c1 - c0


@part
def pack_weights(zero: Any, g: Any, c0: int, c1: int, k: int, count: int, lanes: int, target: int) -> None:
    """Pack the rows (tap, channel c0 to c1) and columns k to k + count of the weights as a panel."""
    places = carray(pointer(0, g.weight_taps), (g.r * g.s,))
    for tap in range(g.r * g.s):
        start = g.weights + places[tap] + c0 * g.weight_depth + k * g.weight_column
        panel(zero, g.size, start, c1 - c0, g.weight_depth, count, g.weight_column, lanes, target)
        target += (c1 - c0) * lanes * g.size


@part
def _copy_tail(zero: Any, tail: int, y_rows: int, y_shift: int, pixels: int, count: int) -> None:
    """Copy the columns that exist of a panel that is not whole to y."""
    places = carray(pointer(0, y_rows), (pixels,))
    for i in range(pixels):
        copy(zero, places[i] + y_shift, tail + i * PANEL, count)
