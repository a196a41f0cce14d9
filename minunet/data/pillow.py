"""PNG, JPEG, GIF and BMP: what a file will decode to, told from its structure, and then its frames as Pillow decodes them."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, ImageSequence, JpegImagePlugin, PngImagePlugin

from ..text import shown
from . import pixelsize
from .page import ORIENTATION, Page, page_of
from .refusal import Budget, ImageFileError

# Pillow's readers by format, rather than Image.open: that one would try the readers of forty other formats, too
READERS: dict[str, type[ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,  # of an MPO, which is several of them, the first: the others are previews
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
MAX_CHUNKS = 4096  # of a PNG, besides those with pixels
MAX_BLOCKS = 2**16  # of a GIF's comments and the like, of up to 255 bytes each
MAX_SCANS = 100  # of a JPEG; honest progressive ones have about 10, and each takes the time of a whole picture
BAND = 2**22  # pixels that are copied at once
PLAIN_16 = {  # PNG's colours of 16 bits, of which Pillow keeps the upper 8: what reads one half of the bytes, or all as colours
    "RGB;16B": ("RGB", ("RGB;16B", "RGB;16L")), "RGBA;16B": ("RGBA", ("RGBA;16B", "RGBA;16L")), "LA;16B": ("RGBA", ("RGBA",)),
}  # fmt: skip


def read_pillow(file: BinaryIO, path: Path, kind: str, palette_as_index: bool, budget: Budget) -> list[Page]:
    """Return the frames of a file, strictly: what is truncated is refused. `kind` is a key of READERS."""
    size = file.seek(0, 2)
    if size > budget.max_bytes:  # a file may have holes: all of it is looked through below
        raise ImageFileError(
            f"{shown(path)} has {size:,} bytes, more than the {budget.max_pixels:,} pixels that are allowed can take; "
            "max_pixels (--max-pixels) allows more"
        )
    structure = {"PNG": _require_png, "JPEG": _require_jpeg, "GIF": _require_gif, "BMP": lambda *_: None}[kind]
    structure(file, path, budget)
    file.seek(0)
    with READERS[kind](file) as image:
        w, h = image.size
        if kind != "GIF":
            n_frames = max(1, int(getattr(image, "n_frames", 1))) if kind == "PNG" else 1
            per_pixel = _bytes_per_pixel(image) + (6 if image.info.get("progressive") else 0)
            budget.require(n_frames, n_frames * h * w, h * w * (per_pixel + 4 * (n_frames - 1)))
            _require_bytes(image, path, kind, size)
        frames = ImageSequence.Iterator(image) if kind in ("GIF", "PNG") else [image]
        if kind == "PNG" and (halves := PLAIN_16.get(_raw_mode(image))) and n_frames == 1:
            return [_page(image, _colours_of_16_bits(file, *halves))]
        return [_page(frame, _frame_array(frame, path, palette_as_index)) for frame in frames]


def _page(frame: Image.Image, stored: NDArray) -> Page:
    """Return what is stored upright: a JPEG or a PNG says in its EXIF part how it is turned."""
    orientation = frame.getexif().get(ORIENTATION, 1) if frame.format in ("JPEG", "PNG") else 1
    return page_of(stored, orientation if isinstance(orientation, int) else 1, pixelsize.of_pillow(frame.info))


def _raw_mode(image: ImageFile.ImageFile) -> str:
    return str(image.tile[0][3]) if image.tile else ""


def _colours_of_16_bits(file: BinaryIO, mode: str, halves: Sequence[str]) -> NDArray:
    """Return the colours (H, W, C) of a PNG of 16 bits, from readings of its upper and its lower bytes."""
    colours: NDArray | None = None
    for i, half in enumerate(halves):
        file.seek(0)
        with READERS["PNG"](file) as image:
            image.tile = [image.tile[0]._replace(args=half)]
            image._mode = mode
            part = _array(image)
        if len(halves) == 1:  # its bytes are those of four channels
            return part.view(">u2").astype(np.uint16)
        colours = np.empty((*part.shape, 2), np.uint8) if colours is None else colours
        colours[..., i] = part
    assert colours is not None
    return colours.view(">u2")[..., 0].astype(np.uint16)


def _frame_array(frame: Image.Image, path: Path, palette_as_index: bool) -> NDArray:
    """Return a frame's pixels as they are stored: a palette as its colours or, where asked for, as its index."""
    if frame.mode in ("P", "PA"):
        frame.load()
        n_colours, (_, largest) = len(frame.getpalette("RGB") or []) // 3, _extrema(frame)
        if largest >= n_colours:
            raise ImageFileError(
                f"{shown(path)} has pixels of colour {largest}, and its palette ends before colour {n_colours}; "
                "save it with a palette that has a colour for each of its values, or in grey"
            )
    if frame.mode == "P" and not (palette_as_index and _is_coloured(frame)):
        return _coloured(frame)
    target = {"PA": "RGBA", "La": "RGBA", "RGBa": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB"}
    array = _array(frame, target.get(frame.mode))
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


def _extrema(frame: Image.Image) -> tuple[int, int]:
    """Return the least and the largest index of a palette image."""
    least, largest = (frame if frame.mode == "P" else frame.getchannel(0)).getextrema()
    return int(least), int(largest)  # type: ignore[arg-type]


def _array(frame: Image.Image, mode: str | None = None) -> NDArray:
    """Return np.array(frame.convert(mode)), band by band: at once, it takes the pixels four times."""
    frame.load()
    w, h = frame.size
    rows = max(1, BAND // max(1, w))
    array: NDArray | None = None
    for top in range(0, h, rows):
        band = frame.crop((0, top, w, min(top + rows, h))) if rows < h else frame
        part = np.asarray(band.convert(mode) if mode else band)
        if array is None:
            array = np.empty((h, *part.shape[1:]), part.dtype)
        array[top : top + rows] = part
    return np.zeros((h, w), np.uint8) if array is None else array


def _coloured(frame: Image.Image) -> NDArray:
    """Return the colours of a palette image; grey where all that occur are, without transparency."""
    array = _array(frame, "RGBA" if "transparency" in frame.info else "RGB")
    for top in range(0, len(array), rows := max(1, BAND // array.shape[1])):
        band = array[top : top + rows]
        if (band[..., 3:] != 255).any() or (band[..., :3] != band[..., :1]).any():
            return array
    return array[..., 0]


def _is_coloured(frame: Image.Image) -> bool:
    """Tell whether any colour that the palette gives to a pixel's value is not a grey."""
    palette = np.array(frame.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    return bool((palette != palette[:, :1]).any())


def _bytes_per_pixel(image: ImageFile.ImageFile) -> int:
    """Return what a pixel takes at most, as Pillow holds it and as an array: RGB is 4 and 3."""
    if _raw_mode(image) in PLAIN_16:
        return 20
    return {"1": 2, "L": 2, "I;16": 4, "I;16B": 4, "P": 5, "I": 8, "F": 8, "LA": 6}.get(image.mode, 8)


def _require_bytes(image: ImageFile.ImageFile, path: Path, kind: str, size: int) -> None:
    """Compare what the header promises with the bytes that are there: no deflate gains more than a factor of 1032."""
    (w, h), bits = image.size, {"1": 1, "P": 1, "L": 1, "I;16": 16}.get(image.mode, 8)
    promised, has = w * h * bits // 8, 1100 * size + 4096
    if kind == "BMP" and image.tile and image.tile[0][0] == "raw":  # rows of 4 bytes' multiples, each but for the last whole
        arguments: Any = image.tile[0][3]
        promised, has = (h - 1) * int(arguments[1]), size - image.tile[0][2]
    if kind in ("PNG", "BMP") and promised > has:
        raise ImageFileError(
            f"{shown(path)} is truncated, or lies: it promises {promised:,} bytes of pixels, the file has {size:,} in all"
        )


def _require_png(file: BinaryIO, path: Path, budget: Budget) -> None:
    """Follow the chunks to the last, by their heads alone: count those that hold no pixels, and see that a palette stands where
    pixels are numbers of one, and that all chunks are there: Pillow makes room for what a head promises."""
    size = file.seek(0, 2)
    file.seek(8)
    n_others, position, is_palette, n_colours, name = 0, 8, False, 0, b""
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name == b"IHDR":
            is_palette = file.read(10)[9:] == b"\x03"
        n_colours = length // 3 if name == b"PLTE" else n_colours
        if name == b"IDAT" and is_palette and not n_colours:
            raise ImageFileError(f"{shown(path)} is damaged: its pixels are numbers of colours, and it has no palette")
        n_others += name not in (b"IDAT", b"fdAT", b"fcTL")
        if n_others > MAX_CHUNKS:
            raise ImageFileError(
                f"{shown(path)} has more than {MAX_CHUNKS:,} parts that are no pixels, which no image needs; save it anew"
            )
        position += length + 12
        if name == b"IEND" or position > size:
            break
        file.seek(position)
    if position > size or name != b"IEND":
        raise ImageFileError(
            f"{shown(path)} cannot be read, it is truncated or damaged: its end is not within its {size:,} bytes; copy it again"
        )


def _require_jpeg(file: BinaryIO, path: Path, budget: Budget) -> None:
    """Count the scans: a marker does not occur in coded pixels."""
    file.seek(0)
    n_scans, last = 0, b""
    while block := file.read(2**20):
        n_scans += (last + block).count(b"\xff\xda")
        last = block[-1:]
    if n_scans > MAX_SCANS:
        raise ImageFileError(
            f"{shown(path)} has {n_scans:,} scans, each of which takes as long as a picture; {MAX_SCANS} are taken: save it anew"
        )


def _require_gif(file: BinaryIO, path: Path, budget: Budget) -> None:
    """Count the frames and the pixels of the canvas, which each of them becomes one of."""
    file.seek(0)
    data = file.read()
    if len(data) < 13:
        return
    w, h = struct.unpack_from("<HH", data, 6)
    found = _Gif(data, budget.max_pages)
    budget.require_pages(len(found.frames))
    if found.n_others > MAX_BLOCKS + 8 * len(found.frames):
        raise ImageFileError(f"{shown(path)} has comments of more than {MAX_BLOCKS:,} blocks, which no image needs; save it anew")
    if not found.has_end:
        raise ImageFileError(f"{shown(path)} is truncated: the mark of its end is missing, and frames may be, too; copy it again")
    n_frames = len(found.frames)
    for left, top, width, height in found.frames:
        w, h = max(w, left + width), max(h, top + height)
    per_frame = 5 if n_frames == 1 else 4
    budget.require(n_frames, n_frames * w * h, w * h * (per_frame * n_frames + (12 if n_frames > 1 else 0)))


class _Gif:
    """The blocks of a GIF, followed as far as they can be: place and size of each frame, and how many others there are."""

    def __init__(self, data: bytes, most: int) -> None:
        """most : frames to be followed; beyond, there is no need to know how many more there are."""
        self.most = most
        self.frames: list[tuple[int, int, int, int]] = []
        self.n_others = 0
        self.has_end = False
        with contextlib.suppress(IndexError, struct.error):
            self._follow(data, 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0))

    def _follow(self, data: bytes, i: int) -> None:
        while data[i] != 0x3B and len(self.frames) <= self.most and self.n_others <= MAX_BLOCKS + 8 * len(self.frames):
            if data[i] == 0x2C:
                *place, flags = struct.unpack_from("<HHHHB", data, i + 1)
                self.frames.append((place[0], place[1], place[2], place[3]))
                i += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
                while n := data[i]:
                    i += n + 1
            elif data[i] == 0x21:
                i += 2
                while (n := data[i]) and self.n_others <= MAX_BLOCKS + 8 * len(self.frames):
                    i += n + 1
                    self.n_others += 1
            i += 1  # Pillow looks on for a block, too
        self.has_end = data[i] == 0x3B
