"""One argument of an op: its gradient beside its finite differences, and what to say where they differ."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from ..checks import Array
from .contract import Analysis, Op, joined, split
from .differences import (
    Kink,
    Line,
    Precision,
    Slope,
    foreign_noise,
    linear_slope,
    locate,
    rounding_noise,
    significant_bits,
    signs,
    smooth_slope,
    smooth_step,
    unit_vector,
    wide_step,
)
from .report import GradientError, Index, Row, element, power_of_two, relative_error

DEVIATIONS = 32  # of noise that a slope may be off by, times the step: of 256 Gaussian ones, the largest is off by 12
FAR = 2.0**40  # times as far as x is large: whether an output depends on an element at all
SUMS = 16  # rounding units of the largest gradient that any gradient may be off by
NARROWER = (("bfloat16", 8), ("float16", 11), ("float32", 24))  # and their bits of mantissa
TINY = 1e-290  # below that, float64 itself has few digits
REDRAWS = 4  # directions that are drawn anew because each crossed a kink at every step


@dataclass
class Argument:
    """An argument of an op at a point, the gradient that backward gives, and how that is to be checked."""

    op: Op
    i: int
    grad: Array
    linear: bool
    tolerance: float
    found: Analysis
    rng: np.random.Generator
    precision: Precision
    step: float | None
    directions: int
    full: int

    def __post_init__(self) -> None:
        self.x, self.name, self.label = self.op.arrays[self.i], self.op.names[self.i], self.op.label(self.i)
        self.y, self.dy = joined(self.found.outputs), joined(self.found.upstream)
        self.whole = self.x.size <= self.full
        # of the slopes that backward claims
        self.scale = float(np.abs(self.grad).max() if self.whole else np.linalg.norm(self.grad))

    def row(self) -> Row:
        """Check all its elements where they are few, else along random directions."""
        x, whole, count = self.x, self.whole, self.directions
        vectors = (unit_vector(j, x.shape) for j in np.ndindex(*x.shape)) if whole else (None for _ in range(count))
        found = [self._slope(vector) for vector in vectors]
        slopes = [slope for slope, _ in found]
        analytic = self.grad.ravel() if whole else np.array([product(self.grad, d) for _, d in found])
        numeric = np.array([slope.value for slope in slopes])
        self.op.kept[f"numeric.{self.name}"] = numeric.reshape(x.shape) if whole else numeric
        size = max(np.abs(analytic).max(), np.abs(numeric).max())
        # What rounding alone may explain is allowed on top: for a gradient of zeros it is all there is.
        allowed = self.tolerance + (max(slope.noise for slope in slopes) / float(size) if size else 0.0)
        error = relative_error(analytic, numeric)
        if error > allowed:
            worst = int(np.abs(analytic - numeric).argmax())
            self._refuse_noise(found[worst][1], slopes[worst].step, abs(float(analytic[worst]) - slopes[worst].value))
            self._fail(worst, float(analytic[worst]), float(numeric[worst]), slopes[worst].step, error, allowed)
        self._refuse_cast()
        own = max(map(self._own_error, np.ndindex(*x.shape), slopes)) if whole else None
        checked = f"{x.size} element{'s' if x.size > 1 else ''}" if whole else f"{count} directions"
        return Row(self.name, x.shape, checked, error, float(allowed), tuple(slope.step for slope in slopes), own)

    def _refuse_cast(self) -> None:
        """Raise if all numbers of a gradient of float64 are a narrower dtype's, which the random dy is not."""
        bits = significant_bits(self.grad)
        narrow = next((name for name, most in NARROWER if 0 < bits <= most), "")
        wide = all(a.dtype == np.float64 for a in (self.grad, *self.found.upstream))
        if narrow and wide and self.scale > TINY:
            raise GradientError(
                f"all numbers of the gradient of {self.label} are {narrow}'s, and dy is float64: look for a cast inside backward",
                argument=self.name,
            )

    def _own_error(self, index: Index, slope: Slope) -> float:
        """Return an element's error relative to its own size, 0 where differences cannot know it; refuse a wrong one.

        What they cannot know is the rounding of the outputs that the element reaches, as foretold and as measured, and that of
        backward's sums over those outputs. Forward may have taken a small output from numbers as large as 1 or the element: the
        1 + tanh of a GELU far below 0 is a stair of such rounding, too wide to be measured.
        """
        a, tolerance = float(self.grad[index]), self.tolerance
        gap, size = abs(a - slope.value), max(abs(a), abs(slope.value))
        if gap <= tolerance * size:
            return gap / size if size else 0.0
        direction = unit_vector(index, self.x.shape)
        g, swallowed = self._reaching(direction)
        g.noise = max(g.noise, self.precision.unit * max(1.0, abs(float(self.x[index]))) * float(np.linalg.norm(g.dy)))
        closer = linear_slope(g, self.step)[0] if self.linear else smooth_slope(g, self.step, abs(a), tolerance)
        if isinstance(closer, Kink):
            return 0.0
        gap, size = abs(a - closer.value), max(abs(a), abs(closer.value))
        if gap <= tolerance * size:
            return gap / size if size else 0.0
        unknown = closer.noise + DEVIATIONS * rounding_noise(g) / closer.step + self._rounding(g.dy) + swallowed
        if gap > tolerance * size + unknown:
            flat = int(np.ravel_multi_index(index, self.x.shape)) if index else 0
            self._refuse_noise(direction, closer.step, gap)
            self._fail(flat, a, closer.value, closer.step, gap / size, tolerance + unknown / size, own=True)
        return 0.0

    def _rounding(self, dy: Array) -> float:
        """Return how far backward's own sums may be off where upstream gradients are these: by the largest gradient they make."""
        largest = self.scale
        with suppress(Exception):  # whatever backward does with so many zeros, it is right or wrong for others
            _, cache = self.op.forward(*self.op.arrays)
            grad = self.op.gradients(split(dy, self.found.upstream), cache)[self.i]
            largest = float(np.abs(grad).max()) if grad is not None else largest
        return SUMS * self.precision.unit * largest

    def _reaching(self, direction: Array) -> tuple[Line, float]:
        """Return the line along a direction of those outputs only that move when it is gone far: the others have no noise.

        And what slope may still hide in the others, whose rounding swallows so much on the longest way.
        """
        near, reached = max(1.0, float(np.abs(self.x).max())), np.ones(self.y.shape, bool)
        with suppress(Exception), np.errstate(all="ignore"):  # far away, an op may do as it likes
            ways = [self.op.at(self.i, np.asarray(self.x + t * near * direction, self.x.dtype)) for t in (1, -1, FAR, -FAR)]
            reached = np.any([y != self.y for y in ways], axis=0)
        reached |= not reached.any()  # as of an op that takes off the mean: what it does to others may cancel in all
        swallowed = self.precision.unit * float(np.linalg.norm(np.where(reached, 0, self.dy * self.y))) / (FAR * near)
        return self._line(direction, np.where(reached, self.dy, 0)), swallowed

    def _line(self, direction: Array, dy: Array) -> Line:
        return Line(lambda moved: self.op.at(self.i, moved), self.x, self.y, dy, direction, self.precision)

    def _refuse_noise(self, direction: Array, step: float, gap: float) -> None:
        """Raise if forward is far noisier than its dtype, and a gap between slopes at that step is no more than that noise."""
        g, _ = self._reaching(direction)
        noise, unit = foreign_noise(g), self.precision.unit
        if not noise or gap > DEVIATIONS * noise * g.size / step:
            return
        dtype = "float16 or bfloat16" if noise >= 3e-6 else "float32" if noise >= 1e-9 else ""
        kind = f"that of {dtype}, " if dtype else ""
        why = "is there a cast inside" if dtype else "is there a cast to float32 inside, or do large terms cancel"
        raise GradientError(
            f"forward is too noisy in {self.label} for differences: its noise is {kind}{noise:.0e} of y, where {self.y.dtype} "
            f"rounds to {unit:.0e}: {why}? No gradient can be told from wrong through that noise",
            argument=self.name,
        )

    def _slope(self, vector: Array | None) -> tuple[Slope, Array]:
        """Return the slope along a vector, or along a random direction, and that.

        A direction that meets a kink, or that needs a step so short that rounding shows, is drawn anew a few times.
        """
        found: list[tuple[Slope, Array]] = []
        for _ in range(REDRAWS if vector is None else 1):
            direction = signs(self.rng, self.x.shape) if vector is None else vector
            slope = self._along(direction)
            if isinstance(slope, Kink):
                kink, crossing = slope, direction
                continue
            found.append((slope, direction))
            if slope.noise <= self.tolerance * self.scale / 10:
                break
        if not found:
            self._refuse_noise(crossing, kink.step, abs(kink.right - kink.left))
            self._no_derivative(kink, vector)
        return min(found, key=lambda pair: pair[0].noise)

    def _along(self, direction: Array) -> Slope | Kink:
        g = self._line(direction, self.dy)
        if not self.linear:
            claim = product(self.grad, direction)
            slope = self._smooth(g, claim)
            return self._nearer(g, claim) or slope if isinstance(slope, Kink) else slope
        slope, bend = linear_slope(g, self.step)
        if bend > 1e3 * self.tolerance * max(self.scale, abs(slope.value)) + 100 * slope.noise:
            self._refuse_noise(direction, slope.step, 0.0)
            raise ValueError(f"forward is not linear in {self.label}, as `linear` says; leave it out of `linear`")
        return slope

    def _nearer(self, g: Line, claim: float) -> Slope | None:
        """Look again along one element that is small beside others, with a step that suits its own size."""
        own = float(np.abs(self.x * g.direction).max())
        step = self.precision.smooth_step * 2.0 ** math.floor(math.log2(own)) if own else math.inf
        if self.step or np.count_nonzero(g.direction) > 1 or step >= smooth_step(g):
            return None
        slope = smooth_slope(self._reaching(g.direction)[0], step, self.scale, self.tolerance, claim)
        return slope if isinstance(slope, Slope) else None

    def _smooth(self, g: Line, claim: float) -> Slope | Kink:
        """Return a smooth op's slope: of the usual step, or of a wider one, up to what x is, where rounding swamps that.

        The step widens as long as each slope is what the one before left open.
        """
        slope = smooth_slope(g, self.step, self.scale, self.tolerance, claim)
        step = math.inf if self.step or isinstance(slope, Kink) else 16 * slope.step
        while isinstance(slope, Slope) and step <= wide_step(g) and slope.noise > self._known(slope):
            wider = smooth_slope(g, step, self.scale, self.tolerance, claim)
            if isinstance(wider, Kink) or wider.step < step or abs(wider.value - slope.value) > slope.noise + self._known(slope):
                break
            slope, step = wider, 16 * step
        return slope

    def _known(self, slope: Slope) -> float:
        """Return what a slope may be off by, by the tolerance alone."""
        return self.tolerance * max(self.scale, abs(slope.value))

    def _fail(self, worst: int, a: float, n: float, step: float, error: float, allowed: float, *, own: bool = False) -> None:
        """Raise the error of a wrong gradient; from a wrong direction, look for an element that makes it wrong."""
        both = f"backward gives {a:.10g}, finite differences give {n:.10g}"
        index: Index | None
        if self.whole:
            index = tuple(int(j) for j in np.unravel_index(worst, self.x.shape))
            where = f"at {element(index)}: {both}"
        else:
            index, detail = replace(self, tolerance=allowed, full=self.x.size)._narrow()
            where = f"along random direction {worst}: {both}{detail}"
        relative = f"error relative to this element itself (the largest is {self.scale:.3g})" if own else "relative error"
        bits = significant_bits(self.grad)
        narrow = next((name for name, most in NARROWER if bits <= most and error < 8 / 2**most), "")
        narrower = narrow and self.grad.dtype != narrow
        cast = f". All its numbers are {narrow}'s: look for a cast inside backward" if narrower else ""
        raise GradientError(
            f"the gradient of {self.label} is wrong {where} (step {power_of_two(step)}). The {relative} is {error:.1e}, "
            f"the tolerance {allowed:.1e}{cast}",
            argument=self.name, index=index, direction=None if self.whole else worst, analytic=a, numeric=n, error=error,
            tolerance=allowed,
        )  # fmt: skip

    def _narrow(self) -> tuple[Index | None, str]:
        """Return an element whose gradient is wrong, and the words for it, if halving the elements that move finds one."""

        def score(direction: Array) -> float:
            slope = self._along(direction)
            return 0.0 if isinstance(slope, Kink) else abs(product(self.grad, direction) - slope.value)

        index = locate(score, self.x.shape)
        a, slope = self.grad[index], self._along(unit_vector(index, self.x.shape))
        if isinstance(slope, Kink) or abs(a - slope.value) <= self.tolerance * max(abs(slope.value), self.scale):
            return None, ""
        return index, f"; of its elements, {element(index)} is wrong: {a:.10g} and {slope.value:.10g}"

    def _no_derivative(self, kink: Kink, vector: Array | None) -> None:
        """Raise the error of a point that is a kink, with the element's index."""
        x = self.x

        def score(direction: Array) -> float:
            met = self._along(direction)
            return abs(met.right - met.left) if isinstance(met, Kink) else 0.0

        index = locate(score, x.shape) if vector is None else tuple(int(j) for j in np.argwhere(vector)[0])
        met = self._along(unit_vector(index, x.shape)) if vector is None else kink
        where, at = "along random directions (no single element is at fault)", None
        if isinstance(met, Kink):
            where, at, kink = f"at {element(index)}, where it is {float(x[index]):.10g}", index, met
        sides = (
            "differences do not settle, however short the step: it jumps there, or is noisy"
            if kink.unsettled
            else f"the slope is {kink.left + 0.0:.6g} on one side and {kink.right + 0.0:.6g} on the other, however short the step"
        )
        raise GradientError(
            f"forward is not differentiable in {self.label} {where}: {sides} (down to "
            f"{power_of_two(kink.step)}). Check it at a point away from kinks and ties",
            argument=self.name, index=at,
        )  # fmt: skip


def product(a: Array, b: Array) -> float:
    """Return <a, b>, summed in float64."""
    return float((a.astype(np.float64) * b.astype(np.float64)).sum())
