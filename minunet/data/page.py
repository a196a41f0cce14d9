"""A page of an image file: its pixels, turned as the file says (tag 274 of EXIF and TIFF), and what it says of their size."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .pixelsize import Size

Colours = dict[int, tuple[int, int, int]]  # red, green and blue, by the number that stands for them

ORIENTATION = 274
TURNS: dict[int, Callable[[NDArray], NDArray]] = {  # by the tag's value, arrays (H, W) or (H, W, C); 1 is upright
    2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: lambda a: np.rot90(a, 1),
}  # fmt: skip
SIDEWAYS = {5, 6, 7, 8}  # those that exchange rows and columns


class Page(NamedTuple):
    """Pixels (H, W) or (H, W, C), upright; the orientation by which they were turned to be; the size of one, if it is told."""

    pixels: NDArray
    orientation: int = 1
    size: Size | None = None


def upright(stored: NDArray, orientation: int) -> NDArray:
    """Return what is stored turned as an orientation says, its pixels in the order of memory; one that is none turns nothing."""
    return np.ascontiguousarray(TURNS[orientation](stored)) if orientation in TURNS else stored


def page_of(stored: NDArray, orientation: int, size: Size | None) -> Page:
    """Return a page of what is stored in that orientation, with pixels of that size."""
    if orientation not in TURNS:
        return Page(stored, 1, size)
    return Page(upright(stored, orientation), orientation, size[::-1] if size and orientation in SIDEWAYS else size)
