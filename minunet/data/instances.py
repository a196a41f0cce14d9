"""Masks that number objects, 1, 2, ... beside 0 for the ground: as the three classes that a network can learn of them.

What touches is told apart by a border: a class of its own along the rim of each object, so that insides never touch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .codes import distinct

CLASSES: NDArray[np.uint8] = np.arange(3, dtype=np.uint8)
GROUND, INSIDE, BORDER = CLASSES.tolist()
NUMBERED = (
    'all objects in the masks have one number, so with target="instances" each connected piece was taken for an object. '
    "Those that touch are one then: give each a number of its own to part them"
)
SCATTERED = (
    'half of the objects in the masks or more lie in several pieces, and with target="instances" (--target instances) a value is '
    'the number of one object. If the values are classes, target="classes" learns them; if of one class, 0 and 1 say so'
)
GROUNDLESS = (
    'no pixel of the masks is 0, the ground of target="instances" (--target instances), so all is taken for objects. If another '
    "value is the ground, make it 0"
)
THICKNESS = 2  # pixels of a border; docs/choices.md has the figures


def three_classes(mask: NDArray[np.integer], thickness: int = THICKNESS) -> NDArray[np.uint8]:
    """Return 0 for the ground, 1 inside an object, 2 on its border, of a mask of object numbers (H, W).

    The border is what lies within `thickness` pixels of another object or of the ground. An object too thin for that has a
    thinner one: each keeps an inside, by which it is found. An object does not end where the image does.
    """
    from scipy import ndimage  # here: it takes long to import

    objects = mask != 0
    classes = objects.astype(np.uint8)
    for reach in range(1, thickness + 1):
        y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
        disc = y**2 + x**2 <= reach**2 + (reach == 1)  # of 1, corners too: two that touch at a corner are told apart
        around = [extreme(mask, footprint=disc, mode="nearest") for extreme in (ndimage.minimum_filter, ndimage.maximum_filter)]
        rim = around[0] != around[1]
        thick = np.isin(mask, distinct(mask[objects & ~rim])) if (objects & ~rim).any() else np.zeros_like(rim)
        classes[objects & rim & thick] = BORDER
    return classes


def numbered(masks: Sequence[NDArray[np.integer]]) -> list[NDArray[np.integer]] | None:
    """Return masks that have one value for all objects, 0 and 255 say, with their 8-connected pieces numbered; else None."""
    from scipy import ndimage

    if len({value for mask in masks for value in distinct(mask[mask != 0]).tolist()}) != 1:
        return None
    pieces = [ndimage.label(mask, np.ones((3, 3))) for mask in masks]
    return [each for each, _ in pieces] if any(n > 1 for _, n in pieces) else None


def are_scattered(masks: Sequence[NDArray[np.integer]]) -> bool:
    """Tell whether half of the objects or more lie in several 8-connected pieces of an image, as classes do."""
    from scipy import ndimage

    several = list[bool]()
    for mask in masks:
        numbers = np.where(mask != 0, np.unique(mask, return_inverse=True)[1].reshape(mask.shape) + 1, 0)
        boxes = enumerate(ndimage.find_objects(numbers), start=1)
        several += [ndimage.label(numbers[box] == number, np.ones((3, 3)))[1] > 1 for number, box in boxes if box is not None]
    return 2 * sum(several) >= len(several) > 0


def require_numbers(masks: Sequence[NDArray[np.integer]], names: Sequence[str]) -> None:
    """Refuse masks whose values are no numbers of objects."""
    for mask, name in zip(masks, names, strict=True):
        if mask.min() < 0:
            raise ValueError(
                f'{name} holds {mask.min()}; with target="instances" (--target instances) masks take 0 for the ground and 1, 2, '
                "... for the objects; ignore_index (--ignore) leaves a value out"
            )


def smallest(masks: Sequence[NDArray[np.integer]]) -> int:
    """Return the pixels of the smallest object that no edge of its image cuts; of all, where each is cut."""
    whole, cut = [], []
    for mask in masks:
        numbers, sizes = np.unique(mask[mask != 0], return_counts=True)
        edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        at_edge = np.isin(numbers, edge)
        whole += sizes[~at_edge].tolist()
        cut += sizes[at_edge].tolist()
    return int(min(whole or cut))
