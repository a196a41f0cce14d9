"""What the numbers of a TIFF's pixels mean as brightness and colour, the same however they were compressed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .inflate import is_inflated_here
from .tiffmap import PALETTE, WHITE_IS_ZERO, YCBCR, Directory, compression_of, photometric_of, shape_of

EXTRA_SAMPLES, COLOUR_MAP = 338, 320


class ColourError(ValueError):
    """Raised where a page's numbers cannot mean what it says."""


def brighten(plane: NDArray, page: Directory) -> None:
    """Let 0 be black in a page's numbers (samples, depth, rows, columns, samples), in place, where it says that 0 is white.

    So do viewers, and so is it with all but unsigned numbers: signed ones and floats have no white to count from. Of images
    of one bit, `segment` has done it.
    """
    bits = page.number(258, 1)
    if photometric_of(page) != WHITE_IS_ZERO or plane.dtype.kind != "u" or bits == 1:
        return
    extra = page.tags[EXTRA_SAMPLES].n if EXTRA_SAMPLES in page.tags else 0
    n = max(1, shape_of(page)[3] - extra)  # without transparency
    grey = plane[:n] if len(plane) > 1 else plane[..., :n]
    np.subtract(plane.dtype.type(2**bits - 1), grey, out=grey)


def as_read(number: float, page: Directory) -> float:
    """Return what becomes of a number that a page may hold."""
    return 2 ** page.number(258, 1) - 1 - number if photometric_of(page) == WHITE_IS_ZERO and page.number(339, 1) == 1 else number


def is_ycbcr(page: Directory) -> bool:
    """Tell whether the decoder gives brightness and two differences of colour: that of a JPEG makes RGB of them."""
    return photometric_of(page) == YCBCR and is_inflated_here(compression_of(page))


def rgb_of(image: NDArray) -> NDArray:
    """Return the colours of an image (H, W, 3) of brightness and differences of colour."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ColourError("holds YCbCr colours that are not three numbers of 8 bits")
    return np.asarray(Image.fromarray(np.ascontiguousarray(image), "YCbCr").convert("RGB"))


def is_palette(page: Directory) -> bool:
    return photometric_of(page) == PALETTE


def coloured(image: NDArray, page: Directory, palette_as_index: bool) -> NDArray:
    """Return the colours of an image of indices, grey where all that occur are, or the index where that is asked for."""
    numbers, index = page.numbers(COLOUR_MAP), (image[..., 0] if image.ndim == 3 else image).astype(np.uint8)
    n = 1 << min(page.number(258, 1), 16)
    if numbers is None or len(numbers) != 3 * n or n > 256:
        raise ColourError("has no palette for its numbers of colours")
    palette = numbers.reshape(3, n).T
    palette = (palette >> 8 if palette.max() > 255 else palette).astype(np.uint8)  # old writers gave 8 bits
    if image.ndim == 3:  # with transparency
        return np.concatenate([palette[index], image[..., 1:]], axis=2)
    if palette_as_index and (palette != palette[:, :1]).any():
        return index
    used = palette[np.bincount(index.ravel(), minlength=n) > 0]
    return palette[:, 0][index] if (used == used[:, :1]).all() else palette[index]
