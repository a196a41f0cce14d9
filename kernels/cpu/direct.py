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
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from ..buffers import empty
from ..geometry import Pair, evenly, output_hw
from .generated import copy, pointer
from .jit import part
from .packing import pack_weights, windows
from .plans import Plan, block_at, blocks, lanes_of, most_points, scratch, sizes, source, table, target, weights
from .threads import address, jobs, launch
from .tiles import PANEL, ROWS, grid, multiply

Array = NDArray[np.floating]

PANEL_BYTES = 24 * 1024  # of a packed panel of weights: it stays in the first-level cache, beside the pixels
BLOCK_PIXELS = 1024
ROW_PIXELS = 64  # at least, where a row of the result has them
GROUP_COLUMNS = 128  # the least a job computes for each pixel that it lays out
JOBS = 32  # wanted, where the shape has them


def conv2d(
    x: Array, w: Array, b: Array | None = None, *, stride: Pair, padding: Pair, relu: bool = False,
    out: Array | None = None,
) -> Array:  # fmt: skip
    """y = im2col(x) @ w + b."""
    r, s, c, k = w.shape
    y = empty((x.shape[0], *output_hw(x.shape, (r, s), stride, padding), k), x.dtype) if out is None else out
    taps = np.arange(r * s) * (c * k * w.itemsize)
    _run([{"x": source(x, None, (r, s), stride, padding), "y": target(y), "w": weights(w, taps)}], b, relu, y)
    return y


def conv2d_input_grad(
    dy: Array, w: Array, x_shape: tuple[int, ...], *, stride: Pair, padding: Pair, mask: Array | None = None,
    b: Array | None = None, relu: bool = False, out: Array | None = None,
) -> Array:  # fmt: skip
    """dx: each pixel gathers the dy it reached, times the weight of the tap that reached it."""
    dx = empty(x_shape, dy.dtype) if out is None else out
    starts = [_reached(dx.shape[a + 1], w.shape[a], stride[a], padding[a]) for a in (0, 1)]
    if any(len(reached) < min(stride[a], dx.shape[a + 1]) for a, reached in enumerate(starts)):  # some pixels no tap reaches
        dx[...] = 0 if b is None else np.maximum(b, 0) if relu else b
    _run(_phases(dy, w, dx, starts, stride, padding, mask), b, relu, dx)
    return dx


def _reached(size: int, kernel: int, stride: int, padding: int) -> list[int]:
    """Return the phases of the stride that some tap reaches: however large the stride is, no more than there are taps."""
    return sorted({start for tap in range(kernel) if (start := (tap - padding) % stride) < size})


def _phases(
    dy: Array, w: Array, dx: Array, starts: list[list[int]], stride: Pair, padding: Pair, mask: Array | None
) -> list[Plan]:  # fmt: skip
    """Return dx as products.

    Pixel h meets output row p through tap r where p stride - padding + r = h. With h = start + i stride, one phase of the
    stride, only taps that leave start + padding modulo stride do, and from one such tap to the next lower p grows by 1:
    a phase of dx is a plain convolution, of stride 1, of dy with those taps in reverse. No product with a zero is made.
    """
    phases = []
    for start in itertools.product(starts[0], starts[1]):
        (r_taps, top), (s_taps, left) = (_phase_taps(w.shape[a], start[a] + padding[a], stride[a]) for a in (0, 1))
        x = source(dy, mask, (len(r_taps), len(s_taps)), (1, 1), (top, left))
        taps = np.array([r * w.strides[0] + s * w.strides[1] for r in r_taps for s in s_taps], np.int64)
        phases.append({"x": x, "y": target(dx, start, stride), "w": weights(w, taps, turned=True)})
    return phases


def _phase_taps(kernel: int, place: int, stride: int) -> tuple[list[int], int]:
    """Return the taps through which a phase is reached, in the order of the dy they meet, and the padding of dy."""
    taps = [tap for tap in reversed(range(kernel)) if (place - tap) % stride == 0]
    return taps, (taps[0] - place) // stride


def _run(phases: list[Plan], b: Array | None, relu: bool, y: Array) -> None:
    """Cut each phase into blocks, and compute them all."""
    if not y.size or not phases:
        return
    plans = [_plan(phase) | {"b": 0 if b is None else address(b), "relu": int(relu)} for phase in phases]
    panels = -(-y.shape[3] * y.itemsize // PANEL)
    most_blocks = max(plan["blocks"]["count"] for plan in plans)
    groups = min(-(-y.shape[3] // GROUP_COLUMNS), max(1, JOBS // (most_blocks * len(plans))))
    group = -(-panels // groups)
    plans = [plan | {"group": group, "most_blocks": most_blocks} for plan in plans]
    scratch_bytes = max(plan["scratch"]["bytes"] for plan in plans)
    launch(_products, -(-panels // group) * most_blocks * len(plans), scratch_bytes, y.dtype.type(0), table(plans))


def _plan(phase: Plan) -> Plan:
    """Cut the pixels and the channels into blocks, and lay a job's scratch out."""
    x, y, n_taps = phase["x"], phase["y"], phase["w"]["n_taps"]
    cut, channels = blocks(y["n"], y["p"], y["q"], BLOCK_PIXELS, ROW_PIXELS), _channels(x)
    pixels = most_points(cut) + ROWS
    height, width = (cut["block_p"] - 1) * x["stride_h"] + x["r"], (cut["block_q"] - 1) * x["stride_w"] + x["s"]
    pieces = scratch(
        weights=n_taps * channels * PANEL, bias=PANEL, tail=pixels * PANEL, x_rows=8 * pixels, y_rows=8 * pixels,
        tail_rows=8 * pixels, taps=8 * n_taps, nowhere=y["k"] * x["size"] + PANEL,
        strip=cut["block_n"] * height * width * channels * x["size"],
    )  # fmt: skip
    return phase | {"blocks": cut, "channels": channels, "scratch": pieces}


def _channels(x: Plan) -> int:
    """Return how many channels a block has, so that a panel of weights is at most PANEL_BYTES."""
    most = max(8, PANEL_BYTES // PANEL // max(x["r"] * x["s"], 1) // 8 * 8)
    return -(-evenly(x["c"], most) // 8) * 8


@jobs
def _products(job: int, base: int, zero: Any, phases: Any) -> None:
    """A job is the panels of one group, for one block of pixels of one phase; of the jobs, the phases are counted fastest."""
    rest, phase = divmod(job, len(phases))
    group, number = divmod(rest, phases[0].most_blocks)  # of all phases: some may have fewer
    g = phases[phase]
    if number >= g.blocks.count:
        return
    x, y, width = g.x, g.y, PANEL // g.x.size
    packed, bias, tail = base + g.scratch.weights, base + g.scratch.bias, base + g.scratch.tail
    x_rows, y_rows, tail_rows = base + g.scratch.x_rows, base + g.scratch.y_rows, base + g.scratch.tail_rows
    taps, nowhere = base + g.scratch.taps, base + g.scratch.nowhere
    block = block_at(g.blocks, number)
    n, p, q = sizes(block)
    pixels = n * p * q
    start = y.start + block.n0 * y.image + block.p0 * y.row + block.q0 * y.pixel
    grid(y_rows, nowhere, start, (n, p, q), (y.image, y.row, y.pixel))
    grid(tail_rows, nowhere, tail, (1, 1, pixels), (0, 0, PANEL))
    k0, k1 = group * g.group * width, min((group + 1) * g.group * width, y.k)
    for c0 in range(0, x.c, g.channels):
        c1 = min(c0 + g.channels, x.c)
        last = c1 == x.c
        start, image, row, pixel = windows(zero, x, block, c0, c1, base + g.scratch.strip, 0, True)
        grid(x_rows, start, start, (n, p, q), (image, x.stride_h * row, x.stride_w * pixel))
        n_taps, depth = _address_taps(x, c1 - c0, row, pixel, taps)
        for k in range(k0, k1, width):
            count = min(k1 - k, width)
            lanes = lanes_of(count, width)
            pack_weights(zero, g.w, c0, c1, k, count, lanes, packed)
            b = bias if last and g.b else 0
            if b:
                copy(zero, bias, g.b + k * x.size, count)
            whole = count == lanes
            to = (y_rows, k * x.size) if whole else (tail_rows, 0)
            end = (c0 > 0, b, g.relu if last else 0)
            multiply(zero, lanes == width, pixels, (x_rows, 0, x.size), (taps, n_taps, depth), packed, to, end)
            if last and not whole:
                _copy_tail(zero, tail, y_rows, k * x.size, pixels, count)


@part
def _address_taps(x: Any, channels: int, row: int, pixel: int, taps: int) -> tuple[int, int]:
    """Fill the table of taps, where rows and pixels lie so far apart; return the number of taps and the depth of each."""
    offsets = carray(pointer(0, taps), (x.r * x.s + 1,))
    if pixel == channels * x.size:  # the channels of neighbouring taps lie in one run
        for r in range(x.r):
            offsets[r] = r * row
        return x.r, x.s * channels
    for r in range(x.r):
        for s in range(x.s):
            offsets[r * x.s + s] = r * row + s * pixel
    return x.r * x.s, channels


@part
def _copy_tail(zero: Any, tail: int, y_rows: int, y_shift: int, pixels: int, count: int) -> None:
    """Copy the columns that exist of a panel that is not whole to y."""
    places = carray(pointer(0, y_rows), (pixels,))
    for i in range(pixels):
        copy(zero, places[i] + y_shift, tail + i * PANEL, count)
