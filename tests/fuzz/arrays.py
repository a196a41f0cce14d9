"""Arrays as nobody should pass them: of other dtypes, shapes and byte orders, strided, unaligned, read-only, overlapping, huge.

Each lies in a field of known bytes: whoever writes beside it is seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from fuzz.judge import demand
from fuzz.source import Source
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

MARGIN = 64  # bytes before and behind each array
PATTERN = 0xA5
DTYPES = ("f4", "f8", "f2", ">f4", ">f8", "i4", "i8", "u1", "?", "g", "c8", "O", "U4", "M8[s]", "V4")
ODD: tuple[Any, ...] = (None, 0, 1.0, "x", [[1.0]], (), b"", object())
VALUES = (0.0, -0.0, 1.0, -1.0, 0.5, np.nan, np.inf, -np.inf, 1e-40, 1e30, 3e38)


class Subclass(np.ndarray):
    """An array of a class of its own, as those of units and labels are."""


class Field:
    """Makes arrays, remembers what they were, and sees afterwards whether that changed."""

    def __init__(self, source: Source) -> None:
        self.source, self.plain = source, True
        self._kept: list[tuple[NDArray, NDArray, NDArray, bool]] = []

    def array(self, shape: tuple[int, ...], dtype: str = "f4", *, hostile: bool = True) -> Any:
        """Return an array of this shape and dtype; hostile ones, now and then, of others, or no array at all."""
        source = self.source
        oddity = source.below(24) if hostile else 0
        if oddity == 1:
            dtype = source.choice(DTYPES)
        elif oddity == 2:
            shape = tuple(max(0, size + source.choice((-1, 1, -size, 7))) for size in shape)
        elif oddity == 3:
            shape = shape[1:] if source.once_in(2) else (1, *shape)
        elif oddity == 4:
            return self._odd(source.choice(ODD))
        elif oddity == 5:  # so many elements as there is no memory for, of which all are one
            n = max(1, len(shape))  # 2^46 to 2^60 elements: with fewer it would take its time, and NumPy makes none with more
            huge = tuple(2 ** (46 // n + source.below(13 // n)) for _ in shape)
            return self._odd(as_strided(np.ones(1, dtype), huge, (0,) * len(huge), writeable=False))
        array = self.laid_out(shape, np.dtype(dtype), source.below(9) if oddity in (6, 7, 8) else 0)
        self.fill(array, source)
        return self._dressed(array, oddity)

    def _odd(self, thing: Any) -> Any:
        self.plain = False
        return thing

    def laid_out(self, shape: tuple[int, ...], dtype: np.dtype, layout: int) -> NDArray:
        """Return an array of memory with margins, laid out in one of nine ways: the first is the common one."""
        step = 2 if layout in (1, 2) else 1
        wide = (*shape[:-1], shape[-1] * step) if shape else shape
        size = int(np.prod(wide, dtype=np.int64)) * dtype.itemsize
        shift = 1 if layout == 3 else 0
        whole = np.full(2 * MARGIN + size + shift, PATTERN, np.uint8)
        if dtype.hasobject:
            return np.full(shape, None, dtype)
        array = whole[MARGIN + shift : MARGIN + shift + size].view(dtype).reshape(wide)
        self._kept.append((whole, array, np.empty(0), True))
        if not shape:
            return array
        views = {
            1: lambda a: a[..., : shape[-1]], 2: lambda a: a[..., ::2], 4: lambda a: a[::-1], 5: lambda a: a[..., ::-1],
            6: lambda a: a.reshape(shape[::-1]).transpose(), 7: lambda a: as_strided(a, shape, (0,) * len(shape)),
            8: lambda a: a.reshape(-1)[:: max(1, a.size)][: a.size] if a.ndim == 1 else a.swapaxes(0, 1),
        }  # fmt: skip
        return views[layout](array) if layout in views else array

    def fill(self, array: NDArray, source: Source) -> None:
        """Put small whole numbers into the array, and now and then what is no number."""
        if array.dtype.kind in "fc" and array.size:
            flat = np.arange(array.size) * (2 * source.below(50) + 1) % 11 - 5.0
            array[...] = flat.reshape(array.shape)
            if source.once_in(8):
                array.flat[source.below(array.size)] = source.choice(VALUES)
        elif array.dtype.kind in "iub" and array.size:
            array[...] = (np.arange(array.size) * (source.below(7) + 1) % 3).reshape(array.shape)

    def _dressed(self, array: NDArray, oddity: int) -> NDArray:
        if oddity == 9:
            array = array.view(Subclass)
        elif oddity == 10:
            array = np.ma.masked_array(array)
        elif oddity == 11 or self.source.once_in(16):
            array = array.view()
            array.flags.writeable = False
        return array

    def remember(self) -> None:
        """Take what all arrays hold now for what they shall hold afterwards; those that may be written are told to `changed`."""
        self._kept = [(whole, array, whole.copy(), may) for whole, array, _, may in self._kept]

    def changed(self, *may_change: Any) -> None:
        """Demand that nothing was written but these arrays: no other one, and no byte beside any."""
        allowed = [array for array in may_change if isinstance(array, np.ndarray)]
        for whole, array, before, _ in self._kept:
            now, was = whole.copy(), before.copy()
            for written in allowed:
                if np.may_share_memory(whole, written):
                    start, end = np.lib.array_utils.byte_bounds(written)
                    base = whole.__array_interface__["data"][0]
                    now[max(0, start - base) : end - base] = was[max(0, start - base) : end - base] = 0
            demand(np.array_equal(now, was), "nothing is written but what is to be", (array.dtype, array.shape, array.strides))


def plain_copy(array: Any) -> NDArray:
    """Return the array's numbers as the plainest array of them."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", subok=False, copy=True)


def close(found: Any, expected: Any, tolerance: float = 1e-4, terms: float = 1.0) -> bool:
    """Tell whether numbers agree, as far as the order of sums allows; where the one is no number, so is the other.

    terms: how large the products may be that were added up, though what is left of them may be small.
    """
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    finite = np.isfinite(expected)
    scale = np.abs(expected[finite]).max(initial=1.0)
    if max(scale, terms) > 1e15:  # sums of huge numbers: only that nothing finite is made of what is not
        return not np.isfinite(found[np.isnan(expected)]).any()
    both = finite & np.isfinite(found)
    # A Winograd tile may spread what is not finite to its neighbours, never lose it.
    spread = not finite.all() or both.all()
    return bool(
        spread and not np.isfinite(found[~finite]).any() and (np.abs(found[both] - expected[both]) <= tolerance * scale).all()
    )
