"""What a gradient test says: a table where all is well, a GradientError where not."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..files import atomic_write

Index = tuple[int, ...]
Path = str | os.PathLike[str]


def relative_error(a: ArrayLike, n: ArrayLike) -> float:
    """Return max |a - n| / max(|a|, |n|), both maxima over the whole array; 0 where all is 0, and for empty arrays."""
    a, n = np.asarray(a, np.float64), np.asarray(n, np.float64)
    scale = max(np.abs(a).max(initial=0), np.abs(n).max(initial=0))
    return float(np.abs(a - n).max(initial=0) / scale) if scale else 0.0


class GradientError(AssertionError):
    """A gradient is wrong, or its op breaks the contract that gradients are tested by.

    Where one number is wrong: `argument` (its name), `index` (of the element; None where only a direction is known),
    `direction` (its number, from 0; None where elements were checked one by one), `analytic` (what backward says),
    `numeric` (what finite differences say), `error` (relative) and `tolerance`. Elsewhere they are None.
    """

    def __init__(
        self, message: str, *, argument: str | None = None, index: Index | None = None, direction: int | None = None,
        analytic: float | None = None, numeric: float | None = None, error: float | None = None,
        tolerance: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.argument, self.index, self.direction = argument, index, direction
        self.analytic, self.numeric, self.error, self.tolerance = analytic, numeric, error, tolerance


class StateError(GradientError):
    """A call depends on an earlier one, or changes an array that outlives it."""


@dataclass(frozen=True)
class Row:
    """One argument: what was checked of it, its relative error, and the tolerance that the error was held to.

    `own`, where all elements were checked, is the largest error of an element relative to itself, of those elements that
    differences know as well as that. None where only directions were checked.
    """

    argument: str
    shape: Index
    checked: str
    error: float
    tolerance: float
    steps: tuple[float, ...] = ()
    own: float | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        tolerance = f"{self.tolerance:.1e}" if self.tolerance else "exact"
        own = "" if self.own is None else f"{self.own:.1e}"
        figures = ("", "", "") if self.checked == "nothing" else (f"{self.error:.1e}", own, tolerance)
        return (self.argument, str(self.shape), self.checked, *figures, _span(self.steps))


@dataclass(frozen=True)
class Report:
    """The rows of a check that passed, one an argument; print it."""

    rows: tuple[Row, ...]
    note: str = ""

    HEADER = ("argument", "shape", "checked", "relative error", "own error", "tolerance", "step")

    @property
    def error(self) -> float:
        """The largest relative error of all."""
        return max((row.error for row in self.rows), default=0.0)

    def __str__(self) -> str:
        table = [self.HEADER, *(row.cells() for row in self.rows)]
        widths = [max(len(line[i]) for line in table) for i in range(len(self.HEADER))]
        left = (True, True, True, False, False, False, True)
        lines = [
            "  ".join(c.ljust(w) if is_left else c.rjust(w) for c, w, is_left in zip(line, widths, left, strict=True)).rstrip()
            for line in table
        ]
        return "\n".join([*lines, self.note] if self.note else lines)


def power_of_two(step: float) -> str:
    """Return 0.25 as "2^-2"; whole numbers, and what is no power of two, as they are."""
    mantissa, exponent = math.frexp(step)
    return f"2^{exponent - 1}" if mantissa == 0.5 and step < 1 else f"{step:g}"


def element(index: Index) -> str:
    """Return an index as text: [0, 2]; nothing for the only element of a 0-d array."""
    return str(list(index)) if index else "its one element"


@contextmanager
def saving(path: Path | None, arrays: Mapping[str, np.ndarray]) -> Iterator[None]:
    """Where a check fails in the `with` block, write the arrays as .npz, if there is a path, and say so."""
    try:
        yield
    except GradientError as error:
        error.args = (f"{error}.{_saved(path, arrays)}",)
        raise


def _saved(path: Path | None, arrays: Mapping[str, np.ndarray]) -> str:
    if path is None:
        return ""
    name = os.fspath(path)
    name = name if name.endswith(".npz") else f"{name}.npz"  # as np.savez would name it
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    atomic_write(name, content.getvalue())
    return f" The arrays are in {name}: {', '.join(arrays)}."


def _span(steps: tuple[float, ...]) -> str:
    return " to ".join(power_of_two(step) for step in sorted({min(steps), max(steps)})) if steps else ""
