"""Softmax cross-entropy and its gradient in one pass over the pixels.

A job's logits are laid out class after class in scratch, in float64, so that every step is a loop over pixels that
vectorises: exponential and logarithm too, which are written out here because a call of the C library's would not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from ..buffers import empty
from ..geometry import pixel_stride
from .generated import pointer
from .jit import part
from .threads import address, jobs, launch

Array = NDArray[np.floating]

PIXELS = 512  # a job: one partial sum of the loss. A power of 2: it is summed as a tree

# ln 2 in two parts: a whole number below 2^11 times the first is exact.
LN2_HIGH = float.fromhex("0x1.62e42fefa3800p-1")
LN2_LOW = float.fromhex("0x1.ef35793c76730p-45")
SHIFT = 1.5 * 2.0**52  # added to a small number, it leaves the nearest whole number in the lowest bits
EXPONENT = np.int64(52)  # the lowest bit of a float64's exponent
ONE = np.int64(1023) << EXPONENT  # the bits of 1.0
HALF_ROOT = np.float64(math.sqrt(0.5)).view(np.int64)  # those of sqrt(1/2)


def softmax_cross_entropy(logits: Array, labels: NDArray[np.integer], weights: Array) -> tuple[Array, Array]:
    """Return sum(w l) / sum(w) over pixels, l = -log softmax(logits)[label], and its gradient."""
    dlogits = empty(logits.shape, logits.dtype)
    total = float(weights.sum(dtype=np.float64))
    k = logits.shape[3]
    labels = labels.astype(np.int32, order="C", copy=False)  # one that does not fit has weight 0: it may change
    weights = weights.astype(logits.dtype, order="C", copy=False)
    partial = np.zeros(-(-labels.size // PIXELS))
    sizes, places = (logits.itemsize, labels.size, k), tuple(map(address, (logits, labels, weights, dlogits, partial)))
    launch(_cross_entropy, len(partial), (k + 4) * PIXELS * 8, logits.dtype.type(0), sizes, total, pixel_stride(logits), places)
    return np.asarray(partial.sum(), logits.dtype), dlogits


@jobs
def _cross_entropy(
    job: int, base: int, zero: Any, sizes: tuple[int, int, int], total: float, pixel: int, places: tuple[int, ...]
) -> None:
    (size, n_pixels, k), (logits, labels, weights, dlogits, partial) = sizes, places
    first = job * PIXELS
    n = min(PIXELS, n_pixels - first)
    z = carray(pointer(zero, logits + first * pixel), (n * pixel // size,))
    dz = carray(pointer(zero, dlogits + first * k * size), (n, k))
    label = carray(pointer(np.int32(0), labels + first * 4), (n,))
    weight = carray(pointer(zero, weights + first * size), (n,))
    by_class = carray(pointer(0.0, base), (k, PIXELS))
    rows = carray(pointer(0.0, base + k * PIXELS * 8), (4, PIXELS))
    loss = _chunk(z, pixel // size, label, weight, total, dz, by_class, rows)
    carray(pointer(0.0, partial + 8 * job), (1,))[0] = loss


@part
def _chunk(z: Any, ld: int, label: Any, weight: Any, total: float, dz: Any, by_class: Any, rows: Any) -> float:
    """Fill dz (pixels, K) and return the chunk's share of the loss, both computed in float64."""
    n, k_size = dz.shape
    largest, chosen, normaliser, loss = rows[0], rows[1], rows[2], rows[3]
    for k in range(k_size):
        for i in range(n):
            by_class[k, i] = z[i * ld + k]
    _largest(by_class, n, largest)
    _pick(by_class, label, chosen)
    _normalise(by_class, n, largest, normaliser)
    for i in range(n):
        loss[i] = normaliser[i]
    _logarithms(loss, n)
    for i in range(n):
        term = weight[i] / total * (loss[i] + (largest[i] - chosen[i]))
        loss[i] = 0 if weight[i] == 0 else term
    _gradient(by_class, label, weight, total, normaliser)
    for k in range(k_size):
        for i in range(n):
            dz[i, k] = by_class[k, i]
    return _sum(loss, n)


@part
def _largest(by_class: Any, n: int, largest: Any) -> None:
    for i in range(n):
        largest[i] = by_class[0, i]
    for k in range(1, len(by_class)):
        for i in range(n):
            value, best = by_class[k, i], largest[i]
            largest[i] = value if value > best else best


@part
def _pick(by_class: Any, label: Any, chosen: Any) -> None:
    """Fill `chosen` with each pixel's logit of the class that is its label; where there is no such class, leave it."""
    for k in range(len(by_class)):
        for i in range(len(label)):
            value, before = by_class[k, i], chosen[i]
            chosen[i] = value if k == label[i] else before


@part
def _normalise(by_class: Any, n: int, largest: Any, normaliser: Any) -> None:
    """Replace each logit z by e^(z - largest), and sum those of each pixel."""
    for i in range(n):
        normaliser[i] = 0
    for k in range(len(by_class)):
        e = by_class[k]
        for i in range(n):
            e[i] -= largest[i]
        _exponentials(e, n)
        for i in range(n):
            normaliser[i] += e[i]


@part
def _gradient(by_class: Any, label: Any, weight: Any, total: float, normaliser: Any) -> None:
    """Replace each exponential e by w (e / normaliser - [k = label]) / total, and the normaliser by its inverse."""
    n = len(label)
    for i in range(n):
        normaliser[i] = 1 / normaliser[i]
    for k in range(len(by_class)):
        e = by_class[k]
        for i in range(n):
            onehot = 1.0 if k == label[i] else 0.0
            gradient = weight[i] / total * (e[i] * normaliser[i] - onehot)
            e[i] = 0 if weight[i] == 0 else gradient


@part
def _sum(a: Any, n: int) -> float:
    """Return the sum of the first n of a row of PIXELS, as a tree: its order is the same wherever vectors end."""
    for i in range(n, PIXELS):
        a[i] = 0
    half = PIXELS // 2
    while half:
        for i in range(half):
            a[i] += a[half + i]
        half //= 2
    return a[0]


@part
def _exponentials(a: Any, n: int) -> None:
    """Replace the first n of a, none above 0, by e^a, to about 1 unit in the last place; below -708 by 0.

    With m the whole number nearest to a / ln 2, e^a = 2^m e^r; |r| <= ln(2) / 2, where 13 terms of the series suffice.
    """
    for i in range(n):
        x = a[i]
        shifted = x * (1 / math.log(2)) + SHIFT
        m = shifted - SHIFT
        r = (x - m * LN2_HIGH) - m * LN2_LOW
        square = r * r  # even and odd terms apart: two short chains of sums are faster than one long one
        even, odd = 1 / 479001600, 1 / 6227020800
        even, odd = even * square + 1 / 3628800, odd * square + 1 / 39916800
        even, odd = even * square + 1 / 40320, odd * square + 1 / 362880
        even, odd = even * square + 1 / 720, odd * square + 1 / 5040
        even, odd = even * square + 1 / 24, odd * square + 1 / 120
        even, odd = even * square + 1 / 2, odd * square + 1 / 6
        series = 1 + (r + (even * square + odd * square * r))
        power = _from_bits((_bits(shifted) << EXPONENT) + ONE)  # 2^m
        value = series * power
        a[i] = 0 if x < -708 else value


@part
def _logarithms(a: Any, n: int) -> None:
    """Replace the first n of a, each from 1 up and finite, or NaN, by their natural logarithms.

    a = 2^m r with sqrt(1/2) <= r < sqrt(2), and log r = 2 artanh f with f = (r - 1) / (r + 1), |f| < 0.172: 11 terms of
    that series.
    """
    for i in range(n):
        x = a[i]
        bits = _bits(x)
        exponent = (bits - HALF_ROOT) >> EXPONENT
        m = _from_bits(exponent + _bits(SHIFT)) - SHIFT
        r = _from_bits(bits - (exponent << EXPONENT))
        f = (r - 1) / (r + 1)
        square = f * f
        fourth = square * square
        even, odd = 1 / 21, 1 / 19
        even, odd = even * fourth + 1 / 17, odd * fourth + 1 / 15
        even, odd = even * fourth + 1 / 13, odd * fourth + 1 / 11
        even, odd = even * fourth + 1 / 9, odd * fourth + 1 / 7
        even, odd = even * fourth + 1 / 5, odd * fourth + 1 / 3
        tail = f * square * (even * square + odd)
        value = m * LN2_HIGH + (2 * (f + tail) + m * LN2_LOW)
        a[i] = value if x == x else x


@part
def _bits(x: float) -> int:
    return np.float64(x).view(np.int64)


@part
def _from_bits(bits: int) -> float:
    return np.int64(bits).view(np.float64)
