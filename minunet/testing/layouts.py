"""Memory layouts by name, and the check that an op reads its arrays by their strides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import Array
from .contract import Analysis, Op
from .report import GradientError

# Each function returns x's values in another layout, and leaves x alone. Who reads on from the first element as if the array
# were contiguous reads wrong numbers, but none outside the memory that belongs to it.


def _within(x: NDArray, shape: Sequence[int], where: tuple[Any, ...]) -> NDArray:
    """Return x as a part of a larger array."""
    larger = np.full(shape, 99, x.dtype)
    larger[where] = x
    return larger[where]


def _read_only(x: NDArray) -> NDArray:
    frozen = x.copy()
    frozen.flags.writeable = False
    return frozen


def _misaligned(x: NDArray) -> NDArray:
    moved = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    moved[...] = x
    return moved


def _reversed(x: NDArray) -> NDArray:
    room = np.full(2 * x.size, 99, x.dtype)[: x.size].reshape(x.shape)
    view = np.flip(room)
    view[...] = x
    return view


LAYOUTS: dict[str, Callable[[NDArray], NDArray]] = {
    "channel slice": lambda x: _within(x, (*x.shape[:-1], x.shape[-1] + 3), (..., slice(1, -2))),
    "transposed": lambda x: np.moveaxis(np.moveaxis(x, -1, 0).copy(), 0, -1),  # channels first in memory
    "strided": lambda x: _within(x, [2 * size for size in x.shape], (slice(None, None, 2),) * x.ndim),
    "reversed": _reversed,  # every stride negative
    # a stride of 0: the one that changes values, to the first pixel of each row
    "broadcast": lambda x: np.broadcast_to(x[..., :1, :] if x.ndim > 1 else x[:1], x.shape),
    "Fortran": np.asfortranarray,
    "read-only": _read_only,
    "misaligned": _misaligned,
    "contiguous": np.ascontiguousarray,
}


def check_layouts(op: Op, found: Analysis, tolerance: float, every: bool) -> None:
    """Lay out each dy, and each array if `every` is asked for, in all ways, one at a time; compare with the same contiguous.

    Raises GradientError, which names the layout, where an output or a gradient differs by more than the relative tolerance,
    and, of `every`, where the op raises for a layout alone. An array without axes, or without elements, has but one layout.
    """
    given, names = [*op.arrays, *found.upstream], [*map(op.label, range(len(op.arrays))), *op.named("dy", found.upstream)]
    usual = _contiguous(op, given)
    for layout, lay_out in LAYOUTS.items():
        for i in range(0 if every else len(op.arrays), len(given)):
            if given[i].size and given[i].ndim:
                laid = [*given[:i], lay_out(given[i]), *given[i + 1 :]]
                expected = usual if layout != "broadcast" else _contiguous(op, laid)
                where = f"{names[i]} in layout {layout!r} (strides {laid[i].strides})"
                results = _laid_out(op, laid, every, where) if expected else {}
                _compare(expected, usual, results, tolerance, where)


def _contiguous(op: Op, laid: Sequence[Array]) -> dict[str, Array]:
    """Return what the same numbers give in contiguous arrays; nothing where the op is not defined for those of a broadcast."""
    try:
        return _results(op, [np.array(a, order="C") for a in laid])
    except Exception:
        return {}


def _laid_out(op: Op, laid: Sequence[Array], every: bool, where: str) -> dict[str, Array]:
    """Return the results; nothing where the op refuses, or say so if that was asked for."""
    try:
        return _results(op, laid)
    except Exception as error:
        if not every:
            return {}
        what = f"the op raises {type(error).__name__} with {where}, but not with the same numbers in a contiguous array"
        raise GradientError(f"{what}: {str(error).strip()}") from error


def _compare(
    expected: dict[str, Array], usual: dict[str, Array], results: dict[str, Array], tolerance: float, where: str
) -> None:
    for name, value in results.items():
        off = _difference(value, expected[name], float(np.abs(usual[name]).max(initial=0)))
        if not off <= tolerance:
            raise GradientError(
                f"{name} is wrong with {where}: it differs by a relative {off:.1e} from what the same numbers give in a "
                "contiguous array. Read arrays by their strides, or take np.ascontiguousarray of them first"
            )


def _difference(found: Array, value: Array, usual: float) -> float:
    """Return max |found - value|, relative to the largest of both, or to what is usual: of broadcast numbers, all may cancel."""
    if found.shape != value.shape or (np.isnan(found) != np.isnan(value)).any():
        return np.inf
    differ = ~((found == value) | np.isnan(value))
    scale = max(usual, *(float(np.abs(a[differ]).max(initial=0)) for a in (found, value)))
    return float(np.abs(found[differ] - value[differ]).max(initial=0)) / scale if scale else 0.0


def _results(op: Op, laid: Sequence[Array]) -> dict[str, Array]:
    """Return copies of the outputs and the gradients, by name; `laid` is arrays and then dys."""
    count = len(op.arrays)
    with np.errstate(all="ignore"):
        outputs, cache = op.forward(*laid[:count])
        grads = op.gradients(tuple(laid[count:]), cache)
    gradients = {f"the gradient of {n}": g for n, g in zip(op.names, grads, strict=True) if g is not None}
    return {name: value.copy() for name, value in (op.named("y", outputs) | gradients).items()}
