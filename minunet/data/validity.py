"""Which pixels of a TIFF say nothing: those of GDAL's nodata value, and those that a mask inside the file leaves out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .tiffmap import NODATA, Directory

VAST = 1e30  # a value of floats beyond this is nodata however its last digits were written


def nodata_of(page: Directory) -> float | int | None:
    """Return the value that GDAL's tag says pixels without data have; None where it says none, or what is no number."""
    text = page.text(NODATA).replace(",", ".")
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def without_data(image: NDArray, nodata: float | int) -> NDArray[np.bool_]:
    """Return which pixels (H, W) of an image (H, W) or (H, W, C) have the value that means nothing.

    Of unsigned numbers, in all channels: 0 in one of three is a colour. Of others in any: a -9999 is no colour.
    """
    if image.dtype.kind == "f":
        found = _floats_without(image, float(nodata))
    elif not math.isfinite(nodata) or nodata != int(nodata) or not _holds(image.dtype, int(nodata)):
        return np.zeros(image.shape[:2], bool)
    else:
        found = image == image.dtype.type(int(nodata))
    if image.ndim == 2:
        return np.asarray(found)
    return np.asarray(found.all(axis=2) if image.dtype.kind in "bu" else found.any(axis=2))


def _floats_without(image: NDArray, nodata: float) -> NDArray[np.bool_]:
    if np.isnan(nodata):
        return np.isnan(image)
    if abs(nodata) < VAST:
        return np.asarray(image == image.dtype.type(nodata))
    limits = np.finfo(image.dtype)  # a double's least number in a file of floats means theirs
    vast = float(np.clip(nodata, float(limits.min), float(limits.max)))
    return np.asarray(image <= vast * (1 - 1e-5) if vast < 0 else image >= vast * (1 - 1e-5))


def _holds(dtype: np.dtype, value: int) -> bool:
    if dtype.kind == "b":
        return value in (0, 1)
    return int(np.iinfo(dtype).min) <= value <= int(np.iinfo(dtype).max)


def masked(image: NDArray, invalid: Sequence[NDArray[np.bool_]]) -> NDArray:
    """Return an image without the pixels (H, W) that any of these leave out: a masked array, if there are such."""
    outside = np.logical_or.reduce(invalid) if invalid else np.zeros((), bool)
    if not outside.any():
        return image
    where = outside if image.ndim == 2 else np.broadcast_to(outside[..., None], image.shape)
    return np.ma.MaskedArray(image, where.copy())
