"""Finite differences whose own error is known: which step, how much rounding, and whether a kink lies within the step.

A slope is a function g(t) = <dy, f(x + t d) - f(x)> at t = 0, for a random dy and a direction d.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..checks import Array

POINTS = 24  # of a line on which noise is measured
WIDER = 3.7  # the ratio of spacings at which it is: no whole number, or stairs that fit the one would fit the next
QUARTERINGS = 10  # at most so many steps, each a quarter of the one before, until the point itself is at fault


@dataclass(frozen=True)
class Precision:
    """What a dtype allows: its rounding unit, and the step and tolerances of smooth and of linear arguments."""

    unit: float
    smooth_step: float
    smooth: float
    linear: float


# Smooth: the error of Richardson's combination is h^4 f'''''/480 with h = 2^-9, and rounding is 2^9 units: both are 1e-13
# or so in float64, so 1e-7 leaves room for badly scaled ops, and rejects 1e-6. Linear: the step is 1, and only rounding is left.
PRECISIONS = {
    "float64": Precision(2.0**-53, 2.0**-8, 1e-7, 1e-10),
    "float32": Precision(2.0**-24, 2.0**-4, 2e-3, 1e-4),
}


@dataclass(frozen=True)
class Slope:
    """A derivative, how far rounding may have moved it, and the step that gave it."""

    value: float
    noise: float
    step: float


@dataclass(frozen=True)
class Kink:
    """There is no derivative: the slopes on the two sides differ at any step (`unsettled`: nothing settles at all)."""

    left: float
    right: float
    step: float
    unsettled: bool


class Line:
    """g(t) = <dy, f(x + t d) - f(x)>."""

    def __init__(
        self, f: Callable[[Array], Array], x: Array, y: Array, dy: Array, direction: Array, precision: Precision
    ) -> None:
        self.f, self.x, self.direction, self.precision = f, x, direction, precision
        self.y, self.dy = y.astype(np.float64), dy.astype(np.float64)
        self.size = float(np.linalg.norm(self.dy * self.y))
        self.noise = precision.unit * self.size
        self.known: dict[float, float] = {}

    def __call__(self, t: float) -> float:
        if t not in self.known:
            moved = np.asarray(self.x + self.x.dtype.type(t) * self.direction, self.x.dtype)
            with np.errstate(all="ignore"):  # a step out of f's domain shows as NaN, and is made shorter
                y = self.f(moved).astype(np.float64)
                self.known[t] = float((self.dy * (y - self.y)).sum())
                terms = (self.dy * y).ravel()
                magnitude = self.precision.unit * math.sqrt(terms.dot(terms))
            if math.isfinite(magnitude):
                self.noise = max(self.noise, magnitude)
        return self.known[t]


def linear_slope(g: Line, step: float | None) -> tuple[Slope, float]:
    """Return (g(h) - g(-h)) / 2h, and how far g is from a straight line, as a slope.

    h is 1, or the power of two from the largest element up: a step far below x would lose its last digits.
    """
    step = step or max(1.0, 2.0 ** math.ceil(math.log2(max(1.0, float(np.abs(g.x).max(initial=0))))))
    slope = (g(step) - g(-step)) / (2 * step)
    return Slope(slope, 4 * g.noise / step, step), abs(g(step) + g(-step)) / (2 * step)


def wide_step(g: Line) -> float:
    """Return the widest step to try where rounding swamps what the usual one changes: in proportion to the largest element."""
    return g.precision.smooth_step * 2.0 ** math.ceil(math.log2(max(1.0, float(np.abs(g.x).max(initial=0)))))


def smooth_slope(g: Line, step: float | None, scale: float, tolerance: float, claim: float = math.nan) -> Slope | Kink:
    """Return the derivative by central differences D at h, h/2 and h/4, or that there is none.

    (4 D(h/2) - D(h)) / 3 and the same at half the step agree where g is smooth, and D(h/2) is then near D(h). Where not,
    a kink (or a strong bend) lies within the step: it is quartered, unless rounding would swamp the shorter one. The sum
    g(h) + g(-h), divided by h, shrinks with h where g is smooth, and stays where the point itself is a kink. Where the first
    is what backward claims, to as many digits as are asked of the second, that is agreement enough: h/4 is left out.
    """
    kinks, step = 0, step or smooth_step(g)
    for k in range(QUARTERINGS):
        h = step / 4**k
        steps = (h, h / 2, h / 4)
        d = [(g(t) - g(-t)) / (2 * t) for t in steps[:2]]
        bend = [abs(g(t) + g(-t)) / t for t in steps[:2]]
        coarse = (4 * d[1] - d[0]) / 3
        noise, size = 4 * g.noise / steps[1], max(scale, abs(coarse))
        straight = bend[1] <= max(bend[0] / 1.5, tolerance * size + 2 * noise) and abs(d[0] - d[1]) <= tolerance**0.5 * size
        if straight and abs(coarse - claim) <= tolerance / 64 * size:
            return Slope(coarse, noise, h)
        d.append((g(steps[2]) - g(-steps[2])) / (2 * steps[2]))
        bend.append(abs(g(steps[2]) + g(-steps[2])) / steps[2])
        coarse, fine = (4 * d[1] - d[0]) / 3, (4 * d[2] - d[1]) / 3
        noise, size = 4 * g.noise / steps[2], max(scale, abs(fine))
        at_kink = bend[2] > bend[0] / 2 and bend[2] > tolerance * size + 2 * noise
        if at_kink and bend[2] < 2 * bend[0]:
            kinks += 1
        agree = abs(coarse - fine) <= tolerance / 64 * size + noise and abs(d[0] - d[1]) <= tolerance**0.5 * size + noise
        if agree and not at_kink:
            return Slope(fine, noise, h)
        if noise > size / 32:  # a quarter of this step would leave a digit at most
            break
    return Kink(-g(-steps[2]) / steps[2], g(steps[2]) / steps[2], steps[2], unsettled=kinks == 0)


def smooth_step(g: Line) -> float:
    """Return the first step to try: smaller for small numbers, and where many elements move at once."""
    size = float(np.sqrt(np.mean(np.square(g.x, dtype=np.float64))))
    scale = min(1.0, max(2.0**-20, size)) if size else 1.0
    return 2.0 ** math.floor(math.log2(g.precision.smooth_step * scale / math.sqrt(int(np.count_nonzero(g.direction)))))


def rounding_noise(g: Line) -> float:
    """Return the noise of g, a standard deviation, as it is between points that lie close together.

    It is more than the rounding of y where large terms cancel on the way to it.
    """
    return _noise(g, math.sqrt(g.precision.unit) * smooth_step(g) / g.precision.smooth_step)


def foreign_noise(g: Line) -> float:
    """Return the noise of g as a part of |y| if it is not that of its precision, else 0.

    The spacing grows until noise shows. Between points WIDER times as far apart, noise stays nearly as large as it ever was, or
    begins, where they lay on one stair; fourth differences of a smooth bend grow by WIDER^4 (187).
    """
    spacing = math.sqrt(g.precision.unit) * smooth_step(g) / g.precision.smooth_step
    first = [_noise(g, spacing / WIDER**k) for k in (2, 1)]  # two: of stairs as wide as a spacing, one may see nothing
    before = max(first)
    found: list[float] = []
    while spacing <= 2.0**-6 and len(found) < 5:
        noise = _noise(g, spacing)
        if noise > 2.0**10 * g.precision.unit * g.size:
            if 0 < before < 2 * noise / WIDER**4:
                break
            found.append(noise)
        before, spacing = max(before, noise), WIDER * spacing
    return max(found) / g.size if found and g.size else 0.0


def _noise(g: Line, spacing: float) -> float:
    """Return the standard deviation of g about a smooth line, from fourth differences of equally spaced points.

    Where g is smooth they are of the order spacing^4; of noise of deviation s they have sqrt(70) s (More, Wild 2011:
    Estimating computational noise, section 3). Of their sizes the median is taken, which a few kinks do not move.
    """
    fourth = np.diff([g(spacing * k) for k in range(1, POINTS + 1)], 4)
    return float(np.median(np.abs(fourth))) / (0.6745 * math.sqrt(70))


def significant_bits(a: Array) -> int:
    """Return how many bits of mantissa the numbers have at most: 24 where all went through float32, 53 in float64."""
    mantissas = np.abs(np.frexp(a[a != 0].astype(np.float64))[0] * 2.0**53).astype(np.int64)
    lowest = int(np.bitwise_or.reduce(mantissas, initial=0))
    return 54 - (lowest & -lowest).bit_length() if lowest else 0


def locate(score: Callable[[Array], float], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the index of an element that a score of directions points to, by halving the elements that move."""
    among = np.arange(int(np.prod(shape)))
    scattered = np.where(among * 2654435761 % 4294967296 < 2**31, -1.0, 1.0)  # so that errors do not cancel

    def score_of(half: NDArray[np.signedinteger]) -> float:
        return score(np.where(np.isin(np.arange(scattered.size), half), scattered, 0.0).reshape(shape))

    while among.size > 1:
        among = max(np.array_split(among, 2), key=score_of)
    return tuple(int(i) for i in np.unravel_index(among[0], shape))


def unit_vector(index: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """Return zeros with a one at index."""
    direction = np.zeros(shape)
    direction[index] = 1
    return direction


def signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return a random direction: every element moves, by +1 or -1."""
    return rng.choice(np.array([-1.0, 1.0]), shape)
