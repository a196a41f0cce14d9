"""One argument of an op: its gradient beside its finite differences, and what to say where they differ."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..checks import Array
from .contract import Op
from .differences import Kink, Line, Precision, Slope, linear_slope, locate, signs, smooth_slope, unit_vector
from .report import GradientError, Index, Row, element, power_of_two, relative_error

REDRAWS = 4  # directions that are drawn anew because each crossed a kink at every step


@dataclass
class Argument:
    """An argument of an op at a point, the gradient that backward gives, and how that is to be checked."""

    op: Op
    i: int
    grad: Array
    linear: bool
    tolerance: float
    y: Array
    dy: Array
    rng: np.random.Generator
    precision: Precision
    step: float | None
    directions: int
    full: int

    def __post_init__(self) -> None:
        self.x, self.name, self.label = self.op.arrays[self.i], self.op.names[self.i], self.op.label(self.i)
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
            self._fail(worst, float(analytic[worst]), float(numeric[worst]), slopes[worst].step, error, allowed)
        checked = f"{x.size} element{'s' if x.size > 1 else ''}" if whole else f"{count} directions"
        return Row(self.name, x.shape, checked, error, float(allowed), tuple(slope.step for slope in slopes))

    def _slope(self, vector: Array | None) -> tuple[Slope, Array]:
        """Return the slope along a vector, or along a random direction, and that.

        A direction that meets a kink, or that needs a step so short that rounding shows, is drawn anew a few times.
        """
        found: list[tuple[Slope, Array]] = []
        for _ in range(REDRAWS if vector is None else 1):
            direction = signs(self.rng, self.x.shape) if vector is None else vector
            slope = self._along(direction)
            if isinstance(slope, Kink):
                kink = slope
                continue
            found.append((slope, direction))
            if slope.noise <= self.tolerance * self.scale / 10:
                break
        if not found:
            self._no_derivative(kink, vector)
        return min(found, key=lambda pair: pair[0].noise)

    def _along(self, direction: Array) -> Slope | Kink:
        g = Line(lambda moved: self.op.at(self.i, moved), self.x, self.y, self.dy, direction, self.precision)
        if not self.linear:
            return smooth_slope(g, self.step, self.scale, self.tolerance)
        slope, bend = linear_slope(g, self.step)
        if bend > 1e3 * self.tolerance * max(self.scale, abs(slope.value)) + 100 * slope.noise:
            raise ValueError(f"forward is not linear in {self.label}, as `linear` says; leave it out of `linear`")
        return slope

    def _fail(self, worst: int, a: float, n: float, step: float, error: float, allowed: float) -> None:
        """Raise the error of a wrong gradient; from a wrong direction, look for an element that makes it wrong."""
        both = f"backward gives {a:.10g}, finite differences give {n:.10g}"
        index: Index | None
        if self.whole:
            index = tuple(int(j) for j in np.unravel_index(worst, self.x.shape))
            where = f"at {element(index)}: {both}"
        else:
            index, detail = replace(self, tolerance=allowed, full=self.x.size)._narrow()
            where = f"along random direction {worst}: {both}{detail}"
        raise GradientError(
            f"the gradient of {self.label} is wrong {where} (step {power_of_two(step)}). The relative error is {error:.1e}, "
            f"the tolerance {allowed:.1e}",
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
