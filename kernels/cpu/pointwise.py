"""What is done to each element, or down each column of channels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from ..buffers import empty
from ..geometry import Pair, pixel_stride
from ..philox import HALF, LOW, MULTIPLIERS, STEPS, limit
from .generated import add_pixels, copy_positive, copy_relu, pointer
from .jit import part
from .threads import address, jobs, launch

Array = NDArray[np.floating]
Cut = tuple[int, int, int]

ELEMENTS = 2**16  # a job: enough to be worth a claim, and a number that no thread count changes
FEW_PIXELS = 8  # are added together, for one load and store of the sums


def relu(x: Array) -> Array:
    """max(x, 0), with NaN kept."""
    y = empty(x.shape, x.dtype)
    launch(_relu, *_cut(x), _place(x), _place(y))
    return y


def relu_grad(dy: Array, y: Array) -> Array:
    """dy where y > 0, else 0."""
    dx = empty(dy.shape, dy.dtype)
    launch(_relu_grad, *_cut(dy), _place(dy), _place(y), _place(dx))
    return dx


def bias_grad(dy: Array) -> Array:
    """db = sum of dy over images and pixels, in float64, one partial sum a job."""
    n_jobs, *cut = _cut(dy)
    partial = np.zeros((n_jobs, dy.shape[3]))
    launch(_column_sums, n_jobs, *cut, _place(dy), address(partial))
    return partial.sum(axis=0).astype(dy.dtype)


def dropout(x: Array, rate: float, seed: int) -> Array:
    """x * keep: keep is 0 where an element's word of Philox is below rate 2^32, else 1 / (1 - rate)."""
    y = empty(x.shape, x.dtype)
    n_jobs, _, zero, cut = _cut(x)
    keep = int(seed), np.uint32(limit(rate)), x.dtype.type(1 / (1 - rate))
    launch(_dropout, n_jobs, 4 * (cut[0] * cut[2] + 6), zero, cut, _place(x), _place(y), keep)
    return y


def _cut(x: Array) -> tuple[Any, ...]:
    """Return the number of jobs, no scratch, and what kernels here take first: zero and (pixels a job, pixels, channels)."""
    pixels, c = math.prod(x.shape[:3]), x.shape[3]
    chunk = max(1, ELEMENTS // max(c, 1))
    return -(-pixels // chunk), 0, x.dtype.type(0), (chunk, pixels, c)


def _place(x: Array) -> Pair:
    """Return where an activation starts, and how far apart its pixels lie."""
    return address(x), pixel_stride(x)


@jobs
def _relu(job: int, base: int, zero: Any, cut: Cut, x: Pair, y: Pair) -> None:
    first, last = _pixels_of(job, cut)
    n_runs, count = _runs(last - first, cut[2], x[1] == y[1])
    for i in range(first, first + n_runs):
        copy_relu(zero, y[0] + i * y[1], x[0] + i * x[1], count)


@jobs
def _relu_grad(job: int, base: int, zero: Any, cut: Cut, dy: Pair, y: Pair, dx: Pair) -> None:
    first, last = _pixels_of(job, cut)
    n_runs, count = _runs(last - first, cut[2], dy[1] == dx[1] and y[1] == dx[1])
    for i in range(first, first + n_runs):
        copy_positive(zero, dx[0] + i * dx[1], dy[0] + i * dy[1], y[0] + i * y[1], count)


@part
def _pixels_of(job: int, cut: Cut) -> Pair:
    """Return the first of a job's pixels, and the first behind them."""
    return job * cut[0], min((job + 1) * cut[0], cut[1])


@part
def _runs(pixels: int, c: int, dense: bool) -> Pair:
    """Return how many runs of how many elements some pixels are: one where no array has gaps (the result never has)."""
    return (1, pixels * c) if dense else (pixels, c)


@jobs
def _column_sums(job: int, base: int, zero: Any, cut: Cut, dy: Pair, partial: int) -> None:
    """Add the pixels of each job, in order, to its row of `partial` (float64)."""
    first, last = _pixels_of(job, cut)
    for i in range(first, last, FEW_PIXELS):
        add_pixels(zero, partial + 8 * job * cut[2], dy[0] + i * dy[1], dy[1], min(FEW_PIXELS, last - i), cut[2])


@jobs
def _dropout(job: int, base: int, zero: Any, cut: Cut, x: Pair, y: Pair, keep: tuple[Any, ...]) -> None:
    """Draw a job's words into scratch, whole blocks of four, and multiply by what they say."""
    (first, last), c, (seed, least, scale) = _pixels_of(job, cut), cut[2], keep
    block = first * c // 4
    words = carray(pointer(np.uint32(0), base), (4 * (-(-last * c // 4) - block),))
    _draw(words, block, seed)
    n_runs, count = _runs(last - first, c, x[1] == y[1])
    for i in range(first, first + n_runs):
        word = words[i * c - 4 * block :]
        source = carray(pointer(zero, x[0] + i * x[1]), (count,))
        target = carray(pointer(zero, y[0] + i * y[1]), (count,))
        for j in range(count):
            target[j] = source[j] * (zero if word[j] < least else scale)


@part
def _draw(words: Any, block: int, seed: int) -> None:
    """Fill `words` with Philox4x32-10, from the block of that counter on."""
    key = np.uint64(seed)
    for i in range(len(words) // 4):
        counter = np.uint64(block + i)
        drawn = philox4x32(counter & LOW, counter >> HALF, np.uint64(0), np.uint64(0), key & LOW, key >> HALF)
        words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = drawn


@part
def philox4x32(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Any, ...]:
    """Return the four words of a counter of four under a key of two: each 32 bits in a uint64."""
    for _ in range(10):
        first, second = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (second >> HALF) ^ c1 ^ k0, second & LOW, (first >> HALF) ^ c3 ^ k1, first & LOW
        k0, k1 = (k0 + STEPS[0]) & LOW, (k1 + STEPS[1]) & LOW
    return np.uint32(c0), np.uint32(c1), np.uint32(c2), np.uint32(c3)
