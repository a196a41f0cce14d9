"""The emulated device's memory: NaN before something is written, between margins that nothing may write into."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import DTypeLike, NDArray

MARGIN = 4096  # bytes on both sides
ALIGNMENT = 256  # as cudaMalloc's
POISON = 0xFF  # in each byte: NaN in any float type, and an index of nowhere


def guarded_empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """Return an array of POISON between two margins."""
    dtype = np.dtype(dtype)
    a = np.asarray(_Block(tuple(shape), dtype))
    return a if a.dtype == dtype else a.view(dtype)  # NumPy's protocol has no word for bfloat16


def margins_intact(a: NDArray) -> bool:
    """Tell whether nothing was written into the margins of the memory that `a` lies in, if it is guarded."""
    base = a
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return base.intact() if isinstance(base, _Block) else True


class _Block:
    """What an array in guarded memory has for its base; so its views have that array for theirs, as with CuPy."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        size = math.prod(shape) * dtype.itemsize
        memory = np.empty(size + 2 * MARGIN + ALIGNMENT, np.uint8)
        address = memory.__array_interface__["data"][0] + MARGIN
        start = MARGIN + -address % ALIGNMENT
        self._memory = memory  # lives as long as this does
        self._before, self._behind = memory[start - MARGIN : start], memory[start + size : start + size + MARGIN]
        self._margin = _margin(dtype)
        self._before[:], self._behind[:] = self._margin, self._margin
        memory[start : start + size] = POISON
        place = address + -address % ALIGNMENT
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": dtype.str, "data": (place, False)}

    def intact(self) -> bool:
        return bool((self._before == self._margin).all() and (self._behind == self._margin).all())


def _margin(dtype: np.dtype) -> NDArray[np.uint8]:
    """Return a margin's bytes, numbers of which no arithmetic gives one: signalling NaNs. Those of the next margin are others."""
    word, bits = (np.uint64, 0xFFF7_FFFF_FFFF_FF00) if dtype.itemsize == 8 else (np.uint32, 0xFFBF_FF00)
    return np.full(MARGIN // np.dtype(word).itemsize, bits + next(_marks) % 256, word).view(np.uint8)


_marks = itertools.count()
