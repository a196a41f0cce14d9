"""What is held out of a training, to report on: whole images or groups of them, a block of a stack, or a strip of each image.

Where that would take a class out of the training, something else is held out: the next in the order drawn, or another side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import require, shown
from .rng import generator
from .stacks import units as units_of

FEW = 10  # with fewer images, a strip of each is held out instead of whole ones
MIN_STRIP = 8  # pixels: less tells nothing
LEAST = 0.1  # of its fair share in training: a class that has less is as good as not trained
SIDES = range(4)  # where a strip may lie: at the end of an image's longer side, at its start; at those of the shorter one


class Part(NamedTuple):
    """A part of an image: x[image][rows, cols]."""

    image: int
    rows: slice
    cols: slice

    @property
    def shape(self) -> tuple[int, int]:
        """Its size in pixels, (H, W)."""
        return self.rows.stop - self.rows.start, self.cols.stop - self.cols.start


class Split(NamedTuple):
    """What is trained on and what is held out, which share no pixel; the classes that were to be saved from being held out."""

    training: list[Part]
    held_out: list[Part]
    scarce: list[int]


def split(
    shapes: Sequence[tuple[int, int]], fraction: float, random_state: int, *,
    groups: Sequence[Hashable] | None = None, count: Callable[[Part], NDArray[np.integer]] | None = None,
) -> Split:  # fmt: skip
    """Return what of images of these shapes (H, W) is trained on, and what is held out.

    groups : a label for each image, or None. Of several groups, whole ones are held out, drawn by random_state: about
        `fraction` of the images, but one group at least. Of one alone, the pages of a stack, a block of pages in a row, at an
        end drawn by random_state; the page beside it, which is too much like it, is in neither part.
    count : returns how many pixels of each class (K,) a part has that count; without it, all pixels are of one class. What has
        none is not held out; nor is what would leave a class less than a tenth of its fair share in training.

    Without groups, of 10 images or more whole ones are held out, drawn by random_state; of fewer, and of a stack of fewer
    pages, one strip of each: the last `fraction` of its longer side, or of another side where a class needs that one. An image
    too small to give 8 pixels and keep 8 gives none.
    """
    whole = [Part(i, slice(0, h), slice(0, w)) for i, (h, w) in enumerate(shapes)]
    if fraction == 0:
        return Split(whole, [], [])
    stock = _Stock(whole, fraction, count or _area)
    units = units_of(range(len(whole)) if groups is None else groups)
    rng = generator(random_state, "split")
    held: list[int] = []
    beside: list[int] = []
    if len(units) >= (FEW if groups is None else 2):
        held = _held_units([units[i] for i in rng.permutation(len(units))], fraction, stock)
    elif groups is not None and len(whole) >= FEW:
        held, beside = _held_block(len(whole), fraction, rng, stock)
    if held:
        return Split([whole[i] for i in range(len(whole)) if i not in {*held, *beside}], [whole[i] for i in sorted(held)], [])
    if groups is not None and len(units) > 1:  # which are not cut
        return Split(whole, [], stock.scarce)
    return _held_strips(whole, fraction, stock, alike=groups is not None)


def read_groups(groups: Any, n_images: int) -> list[Hashable]:
    """Return the label of each image; ValueError where there is none, or not one for each."""
    takes = f"a label for each of the {n_images} images, in their order"
    if hasattr(groups, "__array__") and not isinstance(groups, np.ndarray):
        groups = np.asarray(groups)  # a tensor's elements would each be a label of its own
    listed = isinstance(groups, Iterable) and not isinstance(groups, (str, bytes, Set)) and getattr(groups, "ndim", 1) > 0
    require(listed, "groups", shown(groups), takes)
    labels = list(groups)
    require(len(labels) == n_images, "groups", f"of length {len(labels)}", takes)
    for i, label in enumerate(labels):
        require(_is_label(label), f"groups[{i}]", shown(label), "a label, such as a number or a text: none may be missing")
    return labels


def stacks(paths: Sequence[Path]) -> list[Hashable] | None:
    """Return groups of pages, given the file of each: those of one file belong together. None where each has its own."""
    return list(paths) if len(set(paths)) < len(paths) else None


class _Stock:
    """How many pixels each class has, and whether some of them can be spared: enough of each is left to be trained on."""

    def __init__(self, whole: Sequence[Part], fraction: float, count: Callable[[Part], NDArray]) -> None:
        self.count = count
        self._images = [count(part) for part in whole]
        self._total = np.sum(self._images, axis=0)
        self._least = LEAST * (1 - fraction) * self._total
        self._scarce = np.zeros(len(self._total), bool)

    def of(self, images: Iterable[int]) -> NDArray:
        """Return how many pixels of each class (K,) whole images have."""
        return np.sum([self._images[i] for i in images], axis=0)

    def spares(self, pixels: NDArray, gone: NDArray | int = 0) -> bool:
        """Tell whether pixels (K,) can be held out, when others are gone already."""
        scarce = self._total - gone - pixels < self._least
        self._scarce |= scarce
        return bool(pixels.any() and not scarce.any())

    @property
    def scarce(self) -> list[int]:
        """The classes for whose sake something could not be spared."""
        return [int(k) for k in np.flatnonzero(self._scarce)]


def _area(part: Part) -> NDArray[np.integer]:
    return np.array([math.prod(part.shape)])


def _held_units(units: Sequence[list[int]], fraction: float, stock: _Stock) -> list[int]:
    """Return the images to hold out: unit by unit while they fit; where each is too large, the smallest that can be spared."""
    n = sum(map(len, units))
    most = min(math.ceil(fraction * n), n - 1)
    held: list[int] = []
    gone: NDArray | int = 0
    for unit in units:
        if len(held) + len(unit) <= most and stock.spares(own := stock.of(unit), gone):
            held, gone = held + unit, gone + own
    smallest = (unit for unit in sorted(units, key=len) if stock.spares(stock.of(unit)))
    return held or next(smallest, [])


def _held_block(n: int, fraction: float, rng: np.random.Generator, stock: _Stock) -> tuple[list[int], list[int]]:
    """Return the pages of a stack to hold out, and those beside them; two empty lists where no block can be spared."""
    size = min(math.ceil(fraction * n), n - 2)
    for start in _starts(n - size, rng):
        block = range(start, start + size)
        beside = [page for page in (start - 1, start + size) if 0 <= page < n]
        if stock.spares(stock.of(block), stock.of(beside)):
            return list(block), beside
    return [], []


def _starts(last: int, rng: np.random.Generator) -> Iterator[int]:
    """Give the places of a block, 0 .. last: one end, the other, then those between, each as drawn."""
    yield from (0, last) if rng.integers(2) else (last, 0)
    yield from (1 + int(i) for i in rng.permutation(last - 1))


def _held_strips(whole: Sequence[Part], fraction: float, stock: _Stock, *, alike: bool) -> Split:
    """Hold out a strip of each image, at one side of all that can spare it; unless `alike`, else at any side of each."""
    for side in SIDES:
        cuts = [_cut(part, fraction, side) for part in whole]
        strips = [strip for _, strip in cuts if strip]
        if strips and stock.spares(np.sum([stock.count(strip) for strip in strips], axis=0)):
            return Split([kept for kept, _ in cuts], strips, [])
    training, held = list(whole), []
    gone: NDArray | int = 0
    for i, part in enumerate(() if alike else whole):
        for kept, strip in (_cut(part, fraction, side) for side in SIDES):
            if strip and stock.spares(own := stock.count(strip), gone):
                training[i], gone = kept, gone + own
                held.append(strip)
                break
    return Split(training, held, [] if held else stock.scarce)


def _cut(part: Part, fraction: float, side: int) -> tuple[Part, Part | None]:
    """Return what is kept of a whole image and the strip at one of its sides, if there is one."""
    h, w = part.shape
    along_rows = (h >= w) == (side in (0, 1))
    size = h if along_rows else w
    strip = max(MIN_STRIP, round(fraction * size))
    if size - strip < MIN_STRIP:
        return part, None
    at = slice(0, size - strip), slice(size - strip, size)
    if side % 2:
        at = slice(strip, size), slice(0, strip)
    kept, held = (part._replace(rows=where) if along_rows else part._replace(cols=where) for where in at)
    return kept, held


def _is_label(label: Any) -> bool:
    """Tell whether this can name a group: what is missing (None, NaN, pandas' NA, what is masked) cannot."""
    try:
        hash(label)
        return label is not None and label is not np.ma.masked and bool(label == label)
    except TypeError:
        return False
