"""One image file: read as the arrays of its pages, or refused in a sentence that names it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

TIFF = (".tif", ".tiff")
FORMATS = {  # what Pillow calls the content that a name promises
    ".png": ("PNG",), ".jpg": ("JPEG", "MPO"), ".jpeg": ("JPEG", "MPO"), ".gif": ("GIF",), ".bmp": ("BMP", "DIB"),
    ".tif": ("TIFF",), ".tiff": ("TIFF",),
}  # fmt: skip
MAX_COLOURS = 8  # listed of a colour-coded mask


class ImageFileError(ValueError):
    """Raised where a file cannot be used as an image or as a mask; the message names the file."""


def is_image(path: Path) -> bool:
    """Tell whether the name is that of an image file: PNG, JPEG, GIF, BMP or TIFF, and not a hidden one."""
    return path.suffix.lower() in FORMATS and not path.name.startswith(".")


def shown(path: str | os.PathLike[str]) -> str:
    """Return the file's name for a message: on one line, whatever is in it."""
    name = Path(path).name
    return name if name.isprintable() else repr(name)[1:-1]


def content(image: NDArray) -> bytes:
    """Return a digest that only images of the same shape, dtype and pixels share."""
    kind = f"{image.shape} {image.dtype.str}".encode()
    return hashlib.sha256(kind + np.ascontiguousarray(image).tobytes()).digest()


def read_image(path: Path) -> list[NDArray]:
    """Return the pages of an image file, each (H, W) or (H, W, C), in the file's own numbers.

    A palette becomes colours (grey where all its colours are); an alpha channel without any transparency is dropped, and
    one with is refused. Floats must be finite. A JPEG's orientation tag is obeyed.
    """
    return [_opaque(page, path) for page in _pages(path, palette_as_index=False)]


def read_mask(path: Path) -> list[NDArray]:
    """Return the pages of a mask file, each (H, W), in the file's own numbers.

    A palette gives its index, unless all its colours are grey: those are the values then. Colours with equal channels are
    grey; others are refused, listed.
    """
    return [_one_channel(_opaque(page, path), path) for page in _pages(path, palette_as_index=True)]


def _pages(path: Path, palette_as_index: bool) -> list[NDArray]:
    if path.is_dir():
        raise ImageFileError(f"{shown(path)} is a folder; an image file is taken here")
    if path.suffix.lower() not in FORMATS:
        raise ImageFileError(f"{shown(path)} has no image's name; {', '.join(FORMATS)} are read")
    read = _tiff_pages if path.suffix.lower() in TIFF else _pillow_pages
    try:
        pages = read(path, palette_as_index)
    except (ImageFileError, FileNotFoundError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageFileError(f"{shown(path)} claims a size that may be an attack: {error}") from error
    except PermissionError as error:
        raise ImageFileError(f"{shown(path)} may not be read: {error.strerror}") from error
    except Exception as error:  # what the libraries raise on a damaged file is any of a dozen types
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise ImageFileError(f"{shown(path)} cannot be read, it is damaged or incomplete: {why[0][:150]}") from error
    if not pages:
        raise ImageFileError(f"{shown(path)} holds no image")
    return pages


def _pillow_pages(path: Path, palette_as_index: bool) -> list[NDArray]:
    """Read all frames with Pillow, strictly: what is truncated or not of the format that its name says is refused."""
    try:
        image = Image.open(path)
    except UnidentifiedImageError:
        size = path.stat().st_size
        what = "is empty" if size == 0 else f"is no {path.suffix[1:].upper()} file, nor any other image"
        raise ImageFileError(f"{shown(path)} {what}") from None
    with image:
        if image.format not in FORMATS[path.suffix.lower()]:
            raise ImageFileError(f"{shown(path)} is a {image.format} file in truth; give it the name of one, or save it anew")
        frames = [image] if image.format == "MPO" else ImageSequence.Iterator(image)  # an MPO's others are previews
        return [_pillow_array(frame, path, palette_as_index) for frame in frames]


def _pillow_array(frame: Image.Image, path: Path, palette_as_index: bool) -> NDArray:
    if frame.mode == "P" and not (palette_as_index and _is_coloured(frame)):
        frame = frame.convert("RGBA" if "transparency" in frame.info else "RGB")
        array = np.array(frame)
        colours, alpha = array[..., :3], array[..., 3:]
        if (alpha == 255).all() and (colours == colours[..., :1]).all():
            return colours[..., 0]
        return array
    if frame.mode in ("CMYK", "YCbCr", "HSV", "LAB", "PA", "La", "RGBa"):
        frame = frame.convert("RGBA" if frame.mode in ("PA", "La", "RGBa") else "RGB")
    if frame.format == "JPEG" or path.suffix.lower() in (".jpg", ".jpeg"):
        frame = ImageOps.exif_transpose(frame)
    array = np.array(frame)
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


def _is_coloured(frame: Image.Image) -> bool:
    """Tell whether any colour that the palette gives to a pixel's value is not a grey."""
    palette = np.array(frame.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    return bool((palette != palette[:, :1]).any())


def _tiff_pages(path: Path, palette_as_index: bool) -> list[NDArray]:
    """Read with tifffile; what it cannot decode (LZW or JPEG without imagecodecs), and palettes, with Pillow."""
    try:
        with tifffile.TiffFile(path) as tiff:
            if tiff.pages.first.photometric == tifffile.PHOTOMETRIC.PALETTE:
                return _pillow_pages(path, palette_as_index)
            _check_tiff_size(tiff, path)
            images = [s for s in tiff.series if not (s.keyframe.is_reduced or s.dtype is None)]  # the others are previews
            return [page for series in images for page in _series_pages(series)]
    except tifffile.TiffFileError as error:
        what = "is empty" if path.stat().st_size == 0 else f"is no TIFF file, or a damaged one: {error}"
        raise ImageFileError(f"{shown(path)} {what}") from error
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        try:
            return _pillow_pages(path, palette_as_index)
        except ImageFileError as refusal:
            raise ImageFileError(f"{refusal} (tifffile may read it: pip install imagecodecs)") from error


def _check_tiff_size(tiff: tifffile.TiffFile, path: Path) -> None:
    """Compare what the header promises with the bytes that are there, before memory is taken for it."""
    n_file = path.stat().st_size
    for series in tiff.series:
        n_bytes = int(np.prod(series.shape, dtype=object)) * series.dtype.itemsize if series.dtype else 0
        # Deflate, the best compressor among TIFF's, never gains more than a factor of 1032.
        compressed = series.keyframe.compression != tifffile.COMPRESSION.NONE
        if n_bytes > (1100 if compressed else 1) * n_file + 4096:
            raise ImageFileError(
                f"{shown(path)} is truncated, or lies: it promises {n_bytes:,} bytes of pixels, the file has {n_file:,} in all"
            )


def _series_pages(series: Any) -> list[NDArray]:
    """Return the images of a series, channels last: of its axes, Y and X are an image's, S and C its channels."""
    array, axes = series.asarray(), series.axes
    channels = [i for i, axis in enumerate(axes) if axis in "SC" and array.shape[i] > 1]
    rows, cols = axes.index("Y"), axes.index("X")
    others = [i for i in range(array.ndim) if i not in (*channels, rows, cols)]
    array = array.transpose(*others, rows, cols, *channels)
    h, w = array.shape[len(others) : len(others) + 2]
    n_channels = int(np.prod([series.shape[i] for i in channels], dtype=int))
    return list(array.reshape(-1, h, w, n_channels) if channels else array.reshape(-1, h, w))


def _opaque(page: NDArray, path: Path) -> NDArray:
    """Drop an alpha channel that says nothing; refuse one that does. Refuse floats that are not finite."""
    if page.size == 0:
        raise ImageFileError(f"{shown(path)} has no pixels")
    if page.dtype.kind not in "buif":
        raise ImageFileError(f"{shown(path)} holds {page.dtype} values; images of bool, whole numbers or floats are taken")
    if page.dtype.kind == "f" and not np.isfinite(page).all():
        bad = np.argwhere(~np.isfinite(page))
        row, column = (int(i) for i in bad[0][:2])
        raise ImageFileError(
            f"{shown(path)} holds {len(bad)} NaN or infinite values, the first at row {row}, column {column}; "
            "replace them by numbers first"
        )
    if page.ndim == 3 and page.shape[2] in (2, 4) and page.dtype.kind in "ui" and _has_alpha(path):
        alpha = page[..., -1]
        if (alpha != alpha.flat[0]).any() or alpha.flat[0] == 0:
            raise ImageFileError(
                f"{shown(path)} has transparent pixels, and what they show depends on the viewer; "
                "flatten the image onto a background, or save it without its alpha channel"
            )
        page = page[..., :-1]
        return page[..., 0] if page.shape[2] == 1 else page
    return page


def _has_alpha(path: Path) -> bool:
    """Tell whether the last of 2 or 4 channels is one of transparency: in a TIFF, only where it says so."""
    if path.suffix.lower() not in TIFF:
        return True
    with tifffile.TiffFile(path) as tiff:
        extra = tiff.pages.first.extrasamples
    return any(int(sample) in (1, 2) for sample in extra)


def _one_channel(page: NDArray, path: Path) -> NDArray:
    """Return a mask (H, W): colours with equal channels are grey."""
    if page.ndim == 2:
        return page
    if (page == page[..., :1]).all():
        return page[..., 0]
    colours, counts = np.unique(page.reshape(-1, page.shape[2]), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MAX_COLOURS]
    listed = ", ".join(f"{tuple(colours[i].tolist())} {counts[i] / counts.sum():.1%}" for i in order)
    more = f" and {len(colours) - MAX_COLOURS} more" if len(colours) > MAX_COLOURS else ""
    raise ImageFileError(
        f"{shown(path)} is a mask in colours ({listed}{more}); a mask takes one number a pixel: save it in grey or with a "
        "palette, one value a class"
    )
