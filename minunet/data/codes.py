"""What one mask says value by value: how many pixels each value has, and how they lie. Small, however large the mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SOLID = 0.5  # a value that has this share of its pixels beside others of its own forms regions
MANY = 2**16  # values from the least to the largest, up to which pixels are counted by value rather than sorted
BAND = 2**20  # pixels of a mask that are looked at at a time: each takes some 30 bytes meanwhile
FEW_VALUES = 32  # of a mask, up to which it is asked in how many pieces each lies

HERE, IN_SQUARE, ALIKE = map(np.uint8, (1, 2, 4))  # bits: what a pixel is counted for
N_KINDS = 8


@dataclass(frozen=True)
class Codes:
    """A mask (H, W) without its pixels: arrays of one number a value, in rising order of the values.

    name : what to call the mask, or the pair, in messages.
    solid : pixels that lie in a 2 x 2 square of their value. Nearly all of what somebody drew, however rare; few of what JPEG
        and interpolation leave along borders, where each pixel differs from the next.
    alike : pixels whose left neighbour has their value.
    pieces : connected regions less the holes in them, corners connecting; None of a mask of many values.
    """

    name: str
    dtype: np.dtype
    values: NDArray
    counts: NDArray[np.int64]
    solid: NDArray[np.int64]
    alike: NDArray[np.int64]
    pieces: NDArray[np.int64] | None


def codes_of(mask: NDArray, weight: NDArray | None = None, name: str = "y") -> Codes:
    """Look at a mask (H, W); a pixel of weight 0 is unlabelled, and its value counts for nothing."""
    n = max(1, BAND // mask.shape[1])
    bands = [_counted(mask, weight, top, min(top + n, len(mask))) for top in range(0, len(mask), n)]
    values = np.unique(np.concatenate([found for found, _ in bands], dtype=mask.dtype))
    table = np.zeros((len(values), 4), np.int64)
    for found, numbers in bands:
        table[np.searchsorted(values, found)] += numbers
    there = table[:, 0] > 0
    counts, solid, alike, pieces = table[there].T
    return Codes(name, mask.dtype, values[there], counts, solid, alike, pieces if len(counts) <= FEW_VALUES else None)


def _counted(mask: NDArray, weight: NDArray | None, top: int, bottom: int) -> tuple[NDArray, NDArray[np.int64]]:
    """Return the values in these rows, and how many pixels of each count, are solid, alike, and what they add to its pieces."""
    above, below = max(top - 1, 0), min(bottom + 1, len(mask))
    wide, own = mask[above:below], slice(top - above, bottom - above)
    values, index = _indexed(wide[own])
    left = wide[:, 1:] == wide[:, :-1]
    bits = IN_SQUARE * in_squares(wide)[own] + (HERE if weight is None else HERE * (weight[top:bottom] > 0))
    bits[:, 1:] += ALIKE * left[own]
    table = np.bincount((N_KINDS * index + bits).ravel(), minlength=N_KINDS * len(values)).reshape(-1, N_KINDS)
    holds = np.arange(N_KINDS)
    numbers = [table[:, holds & bit == bit].sum(axis=1) for bit in (HERE, HERE + IN_SQUARE, HERE + ALIKE)]
    if (numbers[0] > 0).sum() <= FEW_VALUES:
        added = _euler(wide, left)[own]
        numbers.append(np.bincount(index[added != 0], added[added != 0], len(values)))
    else:
        numbers.append(np.zeros(len(values)))
    there = table.any(axis=1)
    return values[there], np.stack(numbers, axis=1).astype(np.int64)[there]


def total(found: Sequence[Codes], what: str = "counts") -> dict[int, int]:
    """Return {value: pixels} of all masks together, sorted by value; or another of the numbers of Codes."""
    sums: dict[int, int] = {}
    for codes in found:
        for value, number in zip(codes.values.tolist(), getattr(codes, what).tolist(), strict=True):
            sums[value] = sums.get(value, 0) + number
    return dict(sorted(sums.items()))


def form_regions(found: Sequence[Codes]) -> bool:
    """Tell whether nearly every value has most of its pixels beside one of the same value, as objects' numbers have."""
    counts, alike = total(found), total(found, "alike")
    return sum(alike[value] >= SOLID * count for value, count in counts.items()) >= 0.9 * len(counts)


def distinct(array: NDArray) -> NDArray:
    """Return an array's values in rising order, as np.unique does, more quickly where they are whole numbers not far apart."""
    steps = _steps(array) if array.size else None
    if steps is None:
        return np.unique(array)
    there = np.zeros(int(steps.max()) + 1, bool)
    there[steps] = True
    return _above(array, np.flatnonzero(there))


def _indexed(mask: NDArray) -> tuple[NDArray, NDArray[np.intp]]:
    """Return values in rising order, all of the mask's among them, and each pixel's place in them."""
    steps = _steps(mask)
    if steps is None:
        values, index = np.unique(mask, return_inverse=True)
        return values, index.reshape(mask.shape)
    return _above(mask, np.arange(int(steps.max()) + 1)), steps.astype(np.intp)


def _steps(array: NDArray) -> NDArray[np.unsignedinteger] | None:
    """Return how far each element is above the least; None where that is far, or they are no whole numbers."""
    array = array.view(np.uint8) if array.dtype.kind == "b" else array
    low, high = array.min(), array.max()
    if array.dtype.kind not in "iu" or int(high) - int(low) >= MANY:
        return None
    return (array - low).view(f"u{array.dtype.itemsize}")  # which is right if the difference wrapped


def _above(array: NDArray, steps: NDArray[np.intp]) -> NDArray:
    """Return the values that are so far above the least, in the array's dtype."""
    low = int(array.min())
    return np.array([low + step for step in steps.tolist()], array.dtype)


def in_squares(mask: NDArray) -> NDArray[np.bool_]:
    """Tell of each pixel whether it lies in a 2 x 2 square of its value; in a mask of one row, beside one."""
    (h, w), mask = mask.shape, np.pad(mask, [(0, int(side == 1)) for side in mask.shape], mode="edge")
    corner = mask[:-1, :-1]
    square = (corner == mask[1:, :-1]) & (corner == mask[:-1, 1:]) & (corner == mask[1:, 1:])
    square = np.pad(square, 1)  # of the four that a pixel is in, any
    return (square[1:, 1:] | square[1:, :-1] | square[:-1, 1:] | square[:-1, :-1])[:h, :w]


def _euler(mask: NDArray, left: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Return what each pixel adds to its value's pieces less holes: Euler's V - E + F, in which corners connect (H, W).

    left : where a pixel has its left neighbour's value (H, W - 1).
    """
    up = mask[1:] == mask[:-1]
    falling, rising = mask[1:, 1:] == mask[:-1, :-1], mask[1:, :-1] == mask[:-1, 1:]
    beside, above = left[1:], up[:, 1:]
    added = np.ones(mask.shape, np.int8)
    added[:, 1:] -= left
    added[1:] -= up
    added[1:, 1:] += beside & above & falling
    added[1:, 1:] -= falling & ~beside & ~above  # two that meet at a corner
    added[1:, :-1] -= rising & ~beside & ~up[:, :-1]
    return added
