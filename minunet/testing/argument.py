"""One argument of an op: its gradient beside its finite differences, and what to say where they differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..checks import Array
from .contract import label
from .differences import (
    KinkError,
    Line,
    Precision,
    Slope,
    linear_slope,
    linear_step,
    locate,
    signs,
    smooth_slope,
    smooth_step,
    unit_vector,
)
from .report import GradientError, Index, Row, element, power_of_two, relative_error

REDRAWS = 4  # directions that are drawn anew because each crossed a kink at every step


@dataclass
class Check:
    """One op at one point, and how it is to be checked."""

    f: Callable[..., Array]
    arrays: Sequence[Array]
    names: Sequence[str]
    y: Array
    dy: Array
    rng: np.random.Generator
    precision: Precision
    step: float | None
    tolerance: float | None
    directions: int
    full: int
    kept: dict[str, Array] = field(repr=False)

    def argument(self, i: int, grad: Array | None, linear: bool) -> Row:
        """Check one argument and return its row."""
        x, name = self.arrays[i], self.names[i]
        if grad is None or x.size == 0:
            return Row(name, x.shape, "nothing", 0.0, 0.0)
        tolerance = self.tolerance or (self.precision.linear if linear else self.precision.smooth)
        whole = x.size <= self.full
        vectors = (unit_vector(j, x.shape) for j in np.ndindex(*x.shape)) if whole else (None for _ in range(self.directions))
        scale = float(np.abs(grad).max() if whole else np.linalg.norm(grad))  # of the slopes that backward claims
        found = [self._slope(i, vector, linear, scale, tolerance) for vector in vectors]
        slopes = [slope for slope, _ in found]
        analytic = grad.ravel() if whole else np.array([product(grad, d) for _, d in found])
        numeric = np.array([slope.value for slope in slopes])
        self.kept[f"numeric.{name}"] = numeric.reshape(x.shape) if whole else numeric
        size = max(np.abs(analytic).max(), np.abs(numeric).max())
        # What rounding alone may explain is allowed on top: for a gradient of zeros it is all there is.
        allowed = tolerance + (max(slope.noise for slope in slopes) / float(size) if size else 0.0)
        error = relative_error(analytic, numeric)
        if error > allowed:
            worst = int(np.abs(analytic - numeric).argmax())
            self._fail(i, grad, linear, worst, analytic, numeric, slopes[worst], error, allowed)
        count = f"{x.size} element{'s' if x.size > 1 else ''}" if whole else f"{self.directions} directions"
        return Row(name, x.shape, count, error, float(allowed), tuple(slope.step for slope in slopes))

    def _slope(self, i: int, vector: Array | None, linear: bool, scale: float, tolerance: float) -> tuple[Slope, Array]:
        """Return the slope along a vector, or along a random direction, and that.

        A direction that meets a kink, or that needs a step so short that rounding shows, is drawn anew a few times.
        """
        found: list[tuple[Slope, Array]] = []
        for _ in range(REDRAWS if vector is None else 1):
            direction = signs(self.rng, self.arrays[i].shape) if vector is None else vector
            try:
                found.append((self._along(i, direction, linear, scale, tolerance), direction))
            except KinkError as error:
                kink = error
                continue
            if found[-1][0].noise <= tolerance * scale / 10:
                break
        if not found:
            self._no_derivative(i, kink, vector, scale, tolerance)
        return min(found, key=lambda pair: pair[0].noise)

    def _along(self, i: int, direction: Array, linear: bool, scale: float, tolerance: float) -> Slope:
        x = self.arrays[i]
        g = Line(self.f, self.arrays, i, self.y, self.dy, direction, self.precision.unit)
        if not linear:
            step = self.step or smooth_step(x, self.precision, int(np.count_nonzero(direction)))
            return smooth_slope(g, step, scale, tolerance)
        slope, bend = linear_slope(g, self.step or linear_step(x))
        if bend > 1e3 * tolerance * max(scale, abs(slope.value)) + 100 * slope.noise:
            raise ValueError(f"forward is not linear in {label(self.names, i)}, as `linear` says; leave it out of `linear`")
        return slope

    def _fail(
        self, i: int, grad: Array, linear: bool, worst: int, analytic: Array, numeric: Array, slope: Slope, error: float,
        allowed: float,
    ) -> None:  # fmt: skip
        """Raise the error of a wrong gradient; from a wrong direction, look for an element that makes it wrong."""
        shape, name = grad.shape, f"the gradient of {label(self.names, i)}"
        a, n = float(analytic[worst]), float(numeric[worst])
        index: Index | None
        number = None
        if grad.size <= self.full:
            index = tuple(int(j) for j in np.unravel_index(worst, shape))
            where = f"at {element(index)}: backward gives {a:.10g}, finite differences give {n:.10g}"
        else:
            number = worst
            where = f"along random direction {number}: backward gives {a:.10g}, finite differences give {n:.10g}"
            index, detail = self._narrow(i, grad, linear, allowed)
            where += detail
        raise GradientError(
            f"{name} is wrong {where} (step {power_of_two(slope.step)}). The relative error is {error:.1e}, the "
            f"tolerance {allowed:.1e}",
            argument=self.names[i], index=index, direction=number, analytic=a, numeric=n, error=error, tolerance=allowed,
        )  # fmt: skip

    def _narrow(self, i: int, grad: Array, linear: bool, allowed: float) -> tuple[Index | None, str]:
        """Return an element whose gradient is wrong, and the words for it, if halving the elements that move finds one."""
        scale = float(np.abs(grad).max())

        def score(direction: Array) -> float:
            try:
                return abs(product(grad, direction) - self._along(i, direction, linear, scale, allowed).value)
            except KinkError:
                return 0.0

        index = locate(score, grad.shape)
        try:
            n = self._along(i, unit_vector(index, grad.shape), linear, scale, allowed).value
        except KinkError:
            return None, ""
        if abs(grad[index] - n) <= allowed * max(abs(n), scale):
            return None, ""
        return index, f"; of its elements, {element(index)} is wrong: {grad[index]:.10g} and {n:.10g}"

    def _no_derivative(self, i: int, kink: KinkError, vector: Array | None, scale: float, tolerance: float) -> None:
        """Raise the error of a point that is a kink, with the element's index."""
        x = self.arrays[i]

        def score(direction: Array) -> float:
            try:
                self._along(i, direction, False, scale, tolerance)
            except KinkError as found:
                return abs(found.right - found.left)
            return 0.0

        index = locate(score, x.shape) if vector is None else tuple(int(j) for j in np.argwhere(vector)[0])
        single = unit_vector(index, x.shape)
        if vector is None:
            try:
                self._along(i, single, False, scale, tolerance)
                where = "along random directions (no single element is at fault)"
            except KinkError as found:
                kink, vector = found, single
        if vector is not None:
            where = f"at {element(index)}, where it is {float(x[index]):.10g}"
        sides = (
            "differences do not settle, however short the step: it jumps there, or is noisy"
            if kink.unsettled
            else f"the slope is {kink.left + 0.0:.6g} on one side and {kink.right + 0.0:.6g} on the other, however short the step"
        )
        raise GradientError(
            f"forward is not differentiable in {label(self.names, i)} {where}: {sides} (down to "
            f"{power_of_two(kink.step)}). Check it at a point away from kinks and ties",
            argument=self.names[i], index=None if vector is None else index,
        )  # fmt: skip


def product(a: Array, b: Array) -> float:
    """Return <a, b>, summed in float64."""
    return float((a.astype(np.float64) * b.astype(np.float64)).sum())
