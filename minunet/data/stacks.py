"""Stacks of slices: what lies above and below a slice, given to the network as further channels, tells what it shows.

With context 1 the channels of a slice are those of the one before, its own, and those of the one after (Drozdzal et al. 2017 and
others, "2.5D"). Where a stack ends it is mirrored, as an image is at its borders. Masks are those of the slice alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from .mirror import mirror
from .sliced import Image, Sliced

MOST = 100  # slices on each side


class Stacked(Sliced):
    """Images of one size, read side by side: (H, W, C) with the channels of all, in their order."""

    def __init__(self, images: Sequence[Image]) -> None:
        h, w, _ = images[0].shape
        super().__init__((h, w, sum(image.shape[2] for image in images)), np.float32)
        self.images = images
        self.rows_at_once = getattr(images[0], "rows_at_once", 1)

    def read(self, rows: slice, cols: slice) -> NDArray:
        return np.concatenate([image[rows, cols] for image in self.images], axis=2)


def stacked(images: Sequence[Image], around: Sequence[Sequence[int]]) -> list[Image]:
    """Return each image as the network sees it: with those around it, by their numbers, or as it is where there is none."""
    return [Stacked([images[j] for j in numbers]) for numbers in around] if around else list(images)


def slices_around(
    images: Sequence[Image], names: Sequence[str], context: int, groups: Sequence[Hashable] | None = None
) -> list[list[int]]:
    """Return for each slice the numbers of those that it is seen with, its own in the middle (2 context + 1); [] for context 0.

    groups : of which stack each slice is; None: all are of one. ValueError where the slices of a stack differ in size.
    """
    if not context:
        return []
    around: list[list[int]] = [[] for _ in images]
    for stack in units([0] * len(images) if groups is None else groups):
        _require_one_size(images, names, stack)
        for place, number in enumerate(stack):
            near = mirror(np.arange(place - context, place + context + 1), len(stack))
            around[number] = [stack[i] for i in near.tolist()]
    return around


def require_neighbours(around: Sequence[Sequence[int]], context: int) -> None:
    """Refuse images to learn from of which none has another beside it."""
    if around and all(len(set(numbers)) == 1 for numbers in around):
        raise ValueError(
            f"context (--context) is {context}, and no stack has more than one slice; it takes stacks, N x H x W, lists of "
            "slices in their order, or files of several pages; context=0 (--context 0) looks at each image alone"
        )


def units(groups: Sequence[Hashable]) -> list[list[int]]:
    """Return the images of each group, in the order in which the groups first occur."""
    found: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        found.setdefault(group, []).append(i)
    return list(found.values())


def _require_one_size(images: Sequence[Image], names: Sequence[str], stack: Sequence[int]) -> None:
    first = images[stack[0]].shape[:2]
    for number in stack:
        h, w = size = images[number].shape[:2]
        if size != first:
            raise ValueError(
                f"{names[number]} is {h} x {w} pixels, and {names[stack[0]]}, of the same stack, {first[0]} x {first[1]}; with "
                "context (--context) the slices of a stack take one size: fit(groups=) tells stacks apart, and `predict` takes "
                "one at a time"
            )
