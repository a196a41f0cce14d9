"""Images that are read when they are sliced: they lie on disk, and larger ones than memory can be learned from.

`image[rows, cols]`, with slices of step 1, gives an array (h, w, C), as it does of an array. Whoever looks at a whole image goes
through its `bands`, so that no more than a few megabytes of it are in memory at a time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..text import told

LARGE = 2**28  # bytes that images take as floats; what lies on disk, and would take no more, is read whole: that is faster
BAND = 2**24  # bytes that are looked at at a time
MOST_ROWS = 2**28  # bytes of a band that is as high as the pieces in which a file is compressed: each is decoded once then
IN_MEMORY = ("__array_interface__", "__array_struct__", "__cuda_array_interface__", "toarray")


class Sliced(ABC):
    """An image (H, W, C) that is read by `image[rows, cols]`."""

    rows_at_once = 1  # bands are as high, or some times as high

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype = tuple(map(int, shape)), np.dtype(dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __getitem__(self, where: tuple[slice, slice]) -> NDArray:
        rows, cols = (slice(*each.indices(side)[:2]) for each, side in zip(where, self.shape, strict=False))
        return self.read(rows, cols)

    @abstractmethod
    def read(self, rows: slice, cols: slice) -> NDArray:
        """Return these rows and columns, (h, w, C). The slices have a start and a stop within the image."""


Image = NDArray | Sliced


class OnDisk(Sliced):
    """An image that lies in a file: one of numpy.memmap, zarr, h5py or what else has a shape, a dtype and slices.

    index : which of a stack it is. name : what to call it in messages.
    """

    def __init__(self, source: Any, index: int | None, *, has_channels: bool, name: str) -> None:
        shape = source.shape if index is None else source.shape[1:]
        super().__init__(shape if has_channels else (*shape, 1), source.dtype)
        self.source, self.index, self.has_channels, self.name = source, index, has_channels, name
        pieces = getattr(source, "chunks", None)
        if isinstance(pieces, tuple) and len(pieces) == len(source.shape) and isinstance(pieces[-len(shape)], int):
            self.rows_at_once = max(1, pieces[-len(shape)])

    def read(self, rows: slice, cols: slice) -> NDArray:
        where = (rows, cols) if self.index is None else (self.index, rows, cols)
        try:
            found = np.asarray(self.source[where])
        except MemoryError:
            raise
        except Exception as error:  # each library has its own
            raise OSError(f"{self.name} cannot be read from the file that it lies in: {told(error)}") from error
        found = found if self.has_channels else found[..., None]
        takes = rows.stop - rows.start, cols.stop - cols.start, self.shape[2]
        if found.shape != takes:
            raise OSError(f"{self.name} has changed since `fit` or `predict` began: {found.shape} was read where {takes} was")
        return found


class Scaled(Sliced):
    """An image scaled as it is read. scale : takes an array (h, w, C) and which pixels (h, w) are hidden, or None."""

    def __init__(
        self, image: Image, scale: Callable[[NDArray, NDArray | None], NDArray[np.float32]], hidden: NDArray | None, name: str
    ) -> None:
        super().__init__(image.shape, np.float32)
        self.image, self.scale, self.hidden, self.name = image, scale, hidden, name
        self.rows_at_once = getattr(image, "rows_at_once", 1)

    def read(self, rows: slice, cols: slice) -> NDArray[np.float32]:
        part, hidden = self.image[rows, cols], None if self.hidden is None else self.hidden[rows, cols]
        if isinstance(self.image, OnDisk) and part.dtype.kind == "f":
            gaps = ~np.isfinite(part).all(axis=2)
            if (gaps if hidden is None else gaps & ~hidden).any():
                raise OSError(f"{self.name} has changed since `fit` or `predict` began: it holds NaN now")
        return self.scale(part, hidden)


class Cut(Sliced):
    """A part of an image."""

    def __init__(self, image: Sliced, rows: slice, cols: slice) -> None:
        (top, bottom, _), (left, right, _) = rows.indices(image.shape[0]), cols.indices(image.shape[1])
        super().__init__((bottom - top, right - left, image.shape[2]), image.dtype)
        self.image, self.top, self.left, self.rows_at_once = image, top, left, image.rows_at_once

    def read(self, rows: slice, cols: slice) -> NDArray:
        rows, cols = (slice(at.start + by, at.stop + by) for at, by in ((rows, self.top), (cols, self.left)))
        return self.image[rows, cols]


def cut(image: Any, rows: slice, cols: slice) -> Any:
    """Return a part of an image, unread where it is read in slices."""
    return Cut(image, rows, cols) if isinstance(image, Sliced) else image[rows, cols]


def lies_on_disk(given: Any) -> bool:
    """Tell whether this can be sliced as an array, and is none in memory: a numpy.memmap, or one of zarr, h5py or the like."""
    if isinstance(given, np.ndarray):
        return isinstance(given, np.memmap)
    try:
        shape, dtype = given.shape, given.dtype
    except Exception:  # of a file that is closed, each library has its own
        return False
    numbers = isinstance(dtype, np.dtype) and dtype.kind in "buif" and dtype.itemsize <= 8
    sides = isinstance(shape, tuple) and all(isinstance(side, int) for side in shape)
    return numbers and sides and hasattr(type(given), "__getitem__") and not any(hasattr(given, name) for name in IN_MEMORY)


def are_large(x: Any) -> bool:
    """Tell whether images, an array or a list of them, lie on disk and are too many to be read whole without asking."""
    sources = [each for each in (x if isinstance(x, (list, tuple)) else [x]) if lies_on_disk(each)]
    return sum(np.dtype(np.float32).itemsize * math.prod(source.shape) for source in sources) > LARGE


def bands(image: Image) -> Iterator[slice]:
    """Yield rows (of H) from the top to the bottom, few enough to be looked at together."""
    h, w = image.shape[:2]
    row = image.size // h * max(image.dtype.itemsize, 4)
    n, piece = max(1, BAND // row), image.rows_at_once if isinstance(image, Sliced) else 1
    if n < piece <= MOST_ROWS // row:
        n = piece
    n -= n % piece if n > piece else 0
    for top in range(0, h, n):
        yield slice(top, min(top + n, h))


def pixels_at(image: Image, at: slice | NDArray[np.intp]) -> NDArray:
    """Return the pixels (M, C) at these places in row-major order, which rise."""
    if not isinstance(image, Sliced) and image.flags.c_contiguous:
        return image.reshape(-1, image.shape[2])[at]
    h, w, c = image.shape
    places = np.arange(*at.indices(h * w)) if isinstance(at, slice) else at
    found = np.empty((len(places), c), image.dtype)
    for rows in bands(image):
        first, last = np.searchsorted(places, [rows.start * w, rows.stop * w])
        if first < last:
            found[first:last] = image[rows, slice(None)].reshape(-1, c)[places[first:last] - rows.start * w]
    return found
