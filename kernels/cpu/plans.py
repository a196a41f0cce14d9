"""How a kernel is told its work: by plans, which become records of int64, addresses and strides in bytes.

A plan has a part for each thing that it speaks of. What kernels share takes the record of that thing alone, so that it is
compiled once for all of them.

    x, dy       an activation that is read, and how taps reach it            source
    y           where a result goes                                          target
    w           weights, and where in them each tap's lie                    weights
    blocks      the result's pixels, or tiles of them, cut into blocks       blocks; block_at says which is which
    scratch     where each piece of a job's memory lies                      scratch
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..geometry import Pair, address, evenly, pixel_stride
from .jit import part

Plan = dict[str, Any]  # names and numbers, tables of int64, or plans again
Names = tuple[tuple[str, Any], ...]  # those of a plan, in each other as they are there

LINE = 64  # bytes of a cache line


def table(plans: Sequence[Plan]) -> NDArray:
    """Return plans of the same names as an array of records; the tables in them, as addresses, must outlive it."""
    return np.array([list(_numbers(plan)) for plan in plans], np.int64).view(_record(_names(plans[0]))).reshape(-1)


def _numbers(plan: Plan) -> Iterator[int]:
    for value in plan.values():
        if isinstance(value, dict):
            yield from _numbers(value)
        else:
            yield address(value) if isinstance(value, np.ndarray) else value


def _names(plan: Plan) -> Names:
    return tuple((name, _names(value) if isinstance(value, dict) else None) for name, value in plan.items())


@functools.cache
def _record(names: Names) -> np.dtype:
    """Return the type of a record: kept, as to make it takes as long as to launch a kernel."""
    return np.dtype([(name, np.int64 if inner is None else _record(inner)) for name, inner in names])


def source(x: NDArray, mask: NDArray | None, taps: Pair = (1, 1), stride: Pair = (1, 1), padding: Pair = (0, 0)) -> Plan:
    """Describe an activation x (N, H, W, C), of which a window at (p, q) sees the rows p stride - pad + r, and such columns."""
    _, h, w, c = x.shape
    return {
        "start": address(x), "pixel": pixel_stride(x), "mask": 0 if mask is None else address(mask),
        "mask_pixel": 0 if mask is None else pixel_stride(mask), "h": h, "w": w, "c": c, "r": taps[0], "s": taps[1],
        "stride_h": stride[0], "stride_w": stride[1], "pad_h": padding[0], "pad_w": padding[1], "size": x.itemsize,
    }  # fmt: skip


def target(y: NDArray, start: Pair = (0, 0), stride: Pair = (1, 1)) -> Plan:
    """Describe the pixels start, start + stride, ... of y (N, H, W, K): there are p x q of them an image."""
    n, h, w, k = y.shape
    pixel = pixel_stride(y)
    p, q = (-(-(size - first) // step) for size, first, step in zip((h, w), start, stride, strict=True))
    return {
        "start": address(y) + (start[0] * w + start[1]) * pixel, "image": h * w * pixel, "row": stride[0] * w * pixel,
        "pixel": stride[1] * pixel, "n": n, "p": p, "q": q, "k": k,
    }  # fmt: skip


def weights(w: NDArray, taps: NDArray[np.int64], turned: bool = False) -> Plan:
    """Describe w (R, S, C, K) as a matrix for each tap, of depth C and K columns; `turned`, of depth K and C columns."""
    element, row = w.itemsize, w.shape[3] * w.itemsize
    depth, column = (element, row) if turned else (row, element)
    return {"start": address(w), "taps": taps, "n_taps": len(taps), "depth": depth, "column": column, "size": element}


def scratch(**pieces: int) -> Plan:
    """Lay pieces of so many bytes out one behind the other. Return where each begins, 64-byte aligned, and the bytes of all."""
    places, end = {}, 0
    for name, size in pieces.items():
        places[name], end = end, end + -(-size // LINE) * LINE
    return places | {"bytes": end}


def blocks(n: int, p: int, q: int, most: int, run: int, apart: bool = False) -> Plan:
    """Cut n grids of p x q into even blocks of about `most`, `run` in a row or more; of whole grids, unless `apart`, if small."""
    block_q = evenly(q, max(run, most // max(p, 1)))
    block_p = evenly(p, max(1, most // block_q))
    whole = block_p == p and block_q == q and not apart
    block_n = evenly(n, max(1, most // max(p * q, 1))) if whole else 1
    count = -(-n // block_n) * -(-p // block_p) * -(-q // block_q)
    return {"n": n, "p": p, "q": q, "block_n": block_n, "block_p": block_p, "block_q": block_q, "count": count}


def most_points(cut: Plan) -> int:
    """Return how many points a block has at most."""
    return int(cut["block_n"] * cut["block_p"] * cut["block_q"])


class Block(NamedTuple):
    """Rows p0 to p1 and columns q0 to q1 of images n0 to n1."""

    n0: int
    n1: int
    p0: int
    p1: int
    q0: int
    q1: int


@part
def block_at(cut: Any, number: int) -> Block:
    """Return a block by its number: those of a row follow each other."""
    rest, q = divmod(number, -(-cut.q // cut.block_q))
    n, p = divmod(rest, -(-cut.p // cut.block_p))
    n0, p0, q0 = n * cut.block_n, p * cut.block_p, q * cut.block_q
    return Block(n0, min(n0 + cut.block_n, cut.n), p0, min(p0 + cut.block_p, cut.p), q0, min(q0 + cut.block_q, cut.q))


@part
def sizes(block: Block) -> tuple[int, int, int]:
    """Return how many images, rows and columns a block has."""
    return block.n1 - block.n0, block.p1 - block.p0, block.q1 - block.q0


@part
def lanes_of(count: int, width: int) -> int:
    """Return how many columns `count` are packed to: a panel's width, or half of it where that is enough."""
    return width if 2 * count > width else width // 2
