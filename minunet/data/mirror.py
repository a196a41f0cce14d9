"""Mirrored borders: an image continued by its own reflection, as often as it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def mirror(indices: NDArray[np.integer], size: int) -> NDArray[np.intp]:
    """Fold indices, from below 0 and from size up, back into 0 .. size - 1 by reflection about the edge pixels.

    image[mirror(rows, H)][:, mirror(cols, W)] is the mirrored image at any rows and columns. One pixel repeats itself.
    Ronneberger et al. 2015, figure 2.
    """
    if size == 1:
        return np.zeros(np.shape(indices), np.intp)
    period = 2 * (size - 1)
    folded = np.asarray(indices, np.intp) % period
    return np.minimum(folded, period - folded)


def mirrored(image: Any, rows: NDArray[np.integer], cols: NDArray[np.integer]) -> NDArray:
    """Return the mirrored image (H, W, ...) at any rows and columns, a copy. Of one that lies on disk, what they span is read."""
    (rows, first), (cols, second) = (_spanned(mirror(at, size)) for at, size in zip((rows, cols), image.shape, strict=False))
    part = np.asarray(image[first, second])
    whole = all((np.diff(at) == 1).all() for at in (rows, cols))  # nothing is mirrored: a plain copy is ten times as fast
    return part.copy() if whole else part[np.ix_(rows, cols)]


def _spanned(indices: NDArray[np.intp]) -> tuple[NDArray[np.intp], slice]:
    """Return what indices span, and where in that they lie."""
    start = int(indices.min())
    return indices - start, slice(start, int(indices.max()) + 1)
