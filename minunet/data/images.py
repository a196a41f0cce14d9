"""One image file: read as the arrays of its pages, or refused in a sentence that names it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..files import open_regular
from ..text import shown, told
from .page import Colours, Page
from .pillow import read_pillow
from .refusal import MAX_PIXELS, Budget, ImageFileError, cause
from .tiff import read_tiff

__all__ = [
    "FORMATS", "MAX_PIXELS", "ImageFileError", "content", "is_image", "palette_colours", "read_image", "read_mask",
    "read_pages",
]  # fmt: skip

TIFF = (".tif", ".tiff")
FORMATS = {  # what the content is that a name promises
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".gif": "GIF", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip
HEADS = {  # how files begin, of formats that get an image's name by mistake
    b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF",
    b"II+\0": "TIFF", b"MM\0+": "TIFF", b"RIFF": "WebP", b"%PDF": "PDF", b"8BPS": "Photoshop", b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"PK\x03\x04": "ZIP", b"\x1f\x8b": "gzip", b"\x89HDF": "HDF5", b"\x93NUMPY": "NumPy", b"<!DOCTYPE": "HTML", b"<html": "HTML",
}  # fmt: skip
MAX_COLOURS = 8  # listed of a colour-coded mask
COLOUR_SAMPLES = 2**22  # pixels whose colours are counted; beyond, every k-th
PNG_COLOUR_TYPE = 25  # the byte of a PNG that tells what its pixels are: 3 is numbers of a palette

BAND = 2**22  # pixels that are compared at once


def is_image(path: Path) -> bool:
    """Tell whether the name is that of an image file: PNG, JPEG, GIF, BMP or TIFF, and not a hidden one."""
    return path.suffix.lower() in FORMATS and not path.name.startswith(".")


def content(image: NDArray) -> bytes:
    """Return a digest that only images of the same shape, dtype and pixels share."""
    kind = f"{image.shape} {image.dtype.str}".encode()
    return hashlib.sha256(kind + np.ascontiguousarray(image).tobytes()).digest()


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> list[NDArray]:
    """Return the pages of an image file, each (H, W) or (H, W, C), in the file's own numbers.

    A palette becomes colours (grey where all its colours are); an alpha channel without any transparency is dropped, and
    one with is refused. Pages are turned upright, as the file's orientation tag says; where 0 is white, numbers are counted
    from the other end. Pixels of GDAL's nodata value, and those that a mask in the file leaves out, are masked: the page is a
    numpy masked array then. All others must be finite.
    max_pixels : of all pages; what would decode to more, or to more than 8 bytes for each, is refused before it is decoded.
    """
    return [page.pixels for page in read_pages(path, max_pixels=max_pixels)]


def read_pages(path: Path, *, max_pixels: int = MAX_PIXELS) -> list[Page]:
    """Return what `read_image` does, with what the file says of each page: how it was turned, and its pixels' size."""
    pages, may_have_alpha = _pages(path, is_mask=False, max_pixels=max_pixels)
    return [page._replace(pixels=_opaque(page.pixels, path, may_have_alpha)) for page in pages]


def read_mask(path: Path, *, max_pixels: int = MAX_PIXELS) -> list[NDArray]:
    """Return the pages of a mask file, each (H, W), in the file's own numbers, upright.

    A palette gives its index, unless all its colours are grey: those are the values then. Colours with equal channels are
    grey; others are refused, listed. A nodata value stays the value that it is. max_pixels : as `read_image` takes it.
    """
    pages, may_have_alpha = _pages(path, is_mask=True, max_pixels=max_pixels)
    return [_one_channel(_opaque(page.pixels, path, may_have_alpha), path) for page in pages]


def palette_colours(path: Path, masks: Sequence[NDArray], *, max_pixels: int = MAX_PIXELS) -> list[Colours | None]:
    """Return of each page of a mask file, as `read_mask` gave them, the colour of each value; None where values are no colours'.

    The file is read once more, as an image, unless its first bytes say that it has no palette.
    """
    with _open(path) as file:
        head = file.read(PNG_COLOUR_TYPE + 1)
    is_plain = head.startswith((b"\x89PNG", b"\xff\xd8")) and head[PNG_COLOUR_TYPE:] != b"\x03"
    if is_plain or any(mask.dtype != np.uint8 for mask in masks):
        return [None] * len(masks)
    pages, _ = _pages(path, is_mask=False, max_pixels=max_pixels)
    return [_colours_of_values(mask, np.atleast_3d(page.pixels)) for mask, page in zip(masks, pages, strict=True)]


def _colours_of_values(mask: NDArray, page: NDArray) -> Colours | None:
    """Return the colours of a page (H, W, C) where a mask (H, W) has each of its values; None where those are its greys."""
    colours: Colours = {}
    for value in np.flatnonzero(np.bincount(mask.ravel())).tolist():
        red, green, blue = np.broadcast_to(page[np.unravel_index(int((mask == value).argmax()), mask.shape)][:3], 3).tolist()
        colours[value] = (red, green, blue)
    return None if all(colour == (value, value, value) for value, colour in colours.items()) else colours


def _pages(path: Path, is_mask: bool, max_pixels: int) -> tuple[list[Page], bool]:
    """Return the pages, and whether the last of 2 or 4 channels is one of transparency: in a TIFF, only where it says so."""
    if path.suffix.lower() not in FORMATS and not path.is_dir():
        raise ImageFileError(f"{shown(path)} has no image's name; {', '.join(FORMATS)} are read")
    budget = Budget(path, max_pixels)
    try:
        with _open(path) as file, _quiet():
            kind = _kind(file, path)
            if kind == "TIFF":
                pages, may_have_alpha = read_tiff(file, path, is_mask, budget)
            else:
                pages, may_have_alpha = read_pillow(file, path, kind, is_mask, budget), True
    except (ImageFileError, FileNotFoundError):
        raise
    except MemoryError as error:
        raise ImageFileError(
            f"{shown(path)} takes more memory to read than this machine gives; cut it into parts, or make it smaller"
        ) from error
    except Exception as error:  # what the libraries raise on a damaged file is any of a dozen types
        raise ImageFileError(f"{shown(path)} cannot be read, it is damaged or incomplete: {cause(error)}") from error
    if not pages:
        raise ImageFileError(f"{shown(path)} holds no image")
    return pages, may_have_alpha


def _open(path: Path) -> BinaryIO:
    """Open an ordinary file, without waiting for anything; what is read is then this file, whatever becomes of its name."""
    try:
        return open_regular(path)
    except IsADirectoryError:
        raise ImageFileError(f"{shown(path)} is a folder; an image file is taken here") from None
    except FileNotFoundError:
        if path.is_symlink():
            raise ImageFileError(
                f"{shown(path)} is a link to {told(os.readlink(path))}, which is not there; mend the link or take it away"
            ) from None
        raise FileNotFoundError(f"there is no {told(path)}") from None
    except PermissionError as error:
        raise ImageFileError(f"{shown(path)} may not be read: {error.strerror}") from error
    except OSError as error:
        why = error.strerror or told(str(error).replace(shown(path, whole=True), "it", 1))
        why = "it is a socket; an ordinary file is taken here" if path.is_socket() else why
        raise ImageFileError(f"{shown(path)} cannot be opened: {why}") from error


def _kind(file: BinaryIO, path: Path) -> str:
    """Return the format, as its first bytes and its name say alike."""
    head = file.read(16)
    promised = FORMATS[path.suffix.lower()]
    if not head:
        raise ImageFileError(f"{shown(path)} is empty")
    kind = next((kind for start, kind in HEADS.items() if head.startswith(start)), None)
    if kind == promised:
        return kind
    if kind is None:
        raise ImageFileError(f"{shown(path)} is no {promised} file, nor any other image")
    raise ImageFileError(f"{shown(path)} is a {kind} file in truth; give it the name of one, or save it anew as {promised}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Pillow and tifffile have to say of a file from the terminal: it quotes the file, and we say it ourselves."""
    handler, loggers = logging.NullHandler(), [logging.getLogger(name) for name in ("tifffile", "PIL")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def _opaque(page: NDArray, path: Path, may_have_alpha: bool) -> NDArray:
    """Drop an alpha channel that says nothing; refuse one that does. Refuse floats that are not finite."""
    if page.size == 0:
        raise ImageFileError(f"{shown(path)} has no pixels")
    if page.dtype.kind not in "buif":
        raise ImageFileError(f"{shown(path)} holds {page.dtype} values; images of bool, whole numbers or floats are taken")
    if isinstance(page, np.ma.MaskedArray) and page.mask.all():
        raise ImageFileError(f"{shown(path)} has no valid pixel: its nodata value, or the mask in it, leaves all of them out")
    if page.dtype.kind == "f" and not np.isfinite(page).all():
        bad = np.argwhere(~np.isfinite(page))
        row, column = (int(i) for i in bad[0][:2])
        raise ImageFileError(
            f"{shown(path)} holds {len(bad)} NaN or infinite values, the first at row {row}, column {column}; "
            "replace them by numbers first"
        )
    if page.ndim == 3 and page.shape[2] in (2, 4) and page.dtype.kind in "ui" and may_have_alpha:
        alpha = np.ma.getdata(page)[..., -1]
        if (alpha != alpha.flat[0]).any() or alpha.flat[0] == 0:
            raise ImageFileError(
                f"{shown(path)} has transparent pixels, and what they show depends on the viewer; "
                "flatten the image onto a background, or save it without its alpha channel"
            )
        page = page[..., :-1]
        return page[..., 0] if page.shape[2] == 1 else page
    return page


def _one_channel(page: NDArray, path: Path) -> NDArray:
    """Return a mask (H, W): colours with equal channels are grey."""
    if page.ndim == 2:
        return page
    rows = max(1, BAND // page.shape[1])
    if all((band == band[..., :1]).all() for band in (page[i : i + rows] for i in range(0, len(page), rows))):
        return page[..., 0]
    colours, shares, n_others = _colours(page)
    listed = ", ".join(f"{colour} {share:.1%}" for colour, share in zip(colours, shares, strict=True))
    more = f" and {n_others:,} more" if n_others else ""
    raise ImageFileError(
        f"{shown(path)} is a mask in colours ({listed}{more}); a mask takes one number a pixel: save it in grey or with a "
        "palette, one value a class"
    )


def _colours(page: NDArray) -> tuple[list[tuple[float, ...]], list[float], int]:
    """Return the most frequent colours, their shares, and how many others there are."""
    step = -(-page.shape[0] * page.shape[1] // COLOUR_SAMPLES)
    pixels = page.reshape(-1, page.shape[2])[::step]
    width = page.shape[2] * page.dtype.itemsize
    if width <= 8:  # a colour becomes one number, whose sorting is quick
        packed = np.zeros((len(pixels), 8), np.uint8)
        packed[:, width - 1 :: -1] = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
        values, counts = np.unique(packed.view(np.uint64).ravel(), return_counts=True)
        order = np.argsort(-counts, kind="stable")[:MAX_COLOURS]
        raw = np.ascontiguousarray(values[order, None].view(np.uint8)[:, width - 1 :: -1])
        colours = raw.view(page.dtype)
    else:
        values, counts = np.unique(pixels[:: -(-len(pixels) // 2**18)], axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:MAX_COLOURS]
        colours = values[order]
    shares = (counts[order] / counts.sum()).tolist()
    return [tuple(colour) for colour in colours.tolist()], shares, max(0, len(counts) - MAX_COLOURS)
