"""One strip or tile of a TIFF, made plain: decompressed, its bits in order, one number after another.

What tifffile then makes an array of looks as if it had been stored uncompressed, whatever it was, and is as long as it must be.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import ImageFile, JpegImagePlugin, WebPImagePlugin

from . import fax, inflate
from .inflate import SegmentError
from .pillow import MAX_SCANS
from .tiffmap import (
    BLACK_IS_ZERO,
    CMYK,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    Directory,
    Tag,
    compression_of,
    cut_of,
    photometric_of,
    shape_of,
)

JPEG, WEBP = inflate.JPEG, 50001
PREDICTORS = {1, 2, 3}
REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))
ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"  # and a byte: 0 where a JPEG's channels are colours, 1 where they are YCbCr
BAND = 2**18  # numbers that are unpacked at once


class Part(NamedTuple):
    """What a strip or tile must have: bytes at least and at most, and the rows and columns that lie in the image."""

    least: int
    most: int
    rows: int
    columns: int


def is_read_here(page: Directory) -> bool:
    compression = compression_of(page)
    return compression in (JPEG, WEBP) or compression in fax.FAX or inflate.is_inflated_here(compression)


def reader(page: Directory, itemsize: int) -> tuple[Directory, Callable[[bytes, Part], bytes]]:
    """Return a page's tags as if it was stored plain, and what makes its strips or tiles so.

    itemsize : bytes of a number in the array that it becomes.
    """
    return _Reader(page, itemsize).plain()


class _Reader:
    def __init__(self, page: Directory, itemsize: int) -> None:
        self.page, self.itemsize = page, itemsize
        self.compression, self.cut = compression_of(page), cut_of(page)
        self.bits, self.predictor = page.number(258, 1), page.number(317, 1)
        bits = page.numbers(258)
        self.are_alike = bits is None or bool((bits == bits[0]).all())
        self.samples = self.cut.n_bits // self.bits if self.are_alike else 0  # in a strip or tile
        self.is_coded = self.compression in (JPEG, WEBP) or self.compression in fax.FAX
        self.is_reversed = page.number(266, 1) == 2 and self.compression not in (JPEG, WEBP)
        self.is_packed = self.are_alike and self.bits not in (1, 8, 16, 32, 64)
        self.is_bilevel = self.bits == 1 and self.samples == 1
        self.is_inverted = self.is_bilevel and photometric_of(page) == WHITE_IS_ZERO  # else white would be False

    def plain(self) -> tuple[Directory, Callable[[bytes, Part], bytes]]:
        """Return the page without what is undone here, and how it is undone."""
        tags = {code: tag for code, tag in self.page.tags.items() if code not in (266, 292, 293, 320, 347, 530, 531, 532)}
        self._set(tags, 259, inflate.NONE)
        photometric = photometric_of(self.page)
        if photometric == PALETTE or self.is_inverted:
            self._set(tags, 262, BLACK_IS_ZERO)
        if self.compression in (JPEG, WEBP) and photometric == YCBCR:
            self._set(tags, 262, RGB)
        elif 530 in self.page.tags and photometric == YCBCR:
            tags[530] = self.page.tags[530]  # for tifffile to refuse
        if self.is_packed:
            if self.page.number(339, 1) != 1 or self.predictor != 1 or not 1 < self.bits < 32:
                raise SegmentError(f"holds numbers of {self.bits} bits in a way that is not read")
            self._set(tags, 258, *[8 * self.itemsize] * shape_of(self.page)[3])
        if self.predictor == 3 or self.is_coded:
            self._set(tags, 317, 1)
        elif self.predictor not in PREDICTORS:
            raise SegmentError(f"has the predictor {self.predictor}, which is not read")
        return self.page._replace(tags=tags), self.read

    def _set(self, tags: dict[int, Tag], code: int, *values: int) -> None:
        tags[code] = Tag(3, len(values), np.array(values, self.page.layout.order + "u2").tobytes())

    def read(self, data: bytes, part: Part) -> bytes:
        """Return the plain bytes of a strip or tile."""
        if self.is_reversed:
            data = data.translate(REVERSED)
        if self.compression in (JPEG, WEBP):
            return self._picture(data, part)
        if self.compression in fax.FAX:
            raw = self._fax(data, part)
        else:
            raw = inflate.inflate(self.compression, data, part.least, part.most)
        if self.is_inverted:
            raw = (~np.frombuffer(raw, np.uint8)).tobytes()
        if self.predictor == 3 and not self.is_coded:
            raw = self._unpredicted(raw)
        return self._unpacked(raw) if self.is_packed else raw

    def _fax(self, data: bytes, part: Part) -> bytes:
        if not self.is_bilevel:
            raise SegmentError("is coded as a facsimile, and not of one bit a pixel")
        rows = self.cut.length if 322 in self.page.tags else part.rows
        return fax.decode(self.compression, data, self.cut.width, rows, self.page.number(292, 0))

    def _picture(self, data: bytes, part: Part) -> bytes:
        """Return the pixels of a strip or tile that is a JPEG or WebP; what lies beyond the image is zeros where it lacks."""
        if self.bits != 8 or not self.are_alike or self.cut.layers != 1:
            raise SegmentError("is a picture, and not of 8 bits")
        kind: type[ImageFile.ImageFile] = WebPImagePlugin.WebPImageFile
        if self.compression == JPEG:
            data, kind = self._whole_jpeg(data), JpegImagePlugin.JpegImageFile
            inflate.require_picture(data, self.cut.width, self.cut.length)
        try:
            with kind(io.BytesIO(data)) as image:
                _require_size(image.size, (self.cut.width, self.cut.length), part)
                pixels = np.asarray(image)
        except SegmentError:
            raise
        except Exception as error:
            raise SegmentError("is damaged: it holds no picture of its compression") from error
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if self.compression == WEBP and self.samples == 4 and pixels.shape[2] == 3:  # opaque ones lack it
            pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=2)
        if pixels.shape[2] != self.samples:
            raise SegmentError(f"holds a picture of {pixels.shape[2]} channels and must hold {self.samples}")
        if self.compression == JPEG and pixels.shape[2] == 4:
            pixels = 255 - pixels  # Pillow takes it for Adobe's, which are inverted
        h, w = pixels.shape[:2]
        if (h, w) != (self.cut.length, self.cut.width):
            whole = np.zeros((self.cut.length, self.cut.width, self.samples), np.uint8)
            whole[:h, :w] = pixels
            pixels = whole
        return np.ascontiguousarray(pixels).tobytes()

    def _whole_jpeg(self, data: bytes) -> bytes:
        """Return a JPEG with the tables that its page has for all, which says how its channels are meant."""
        tables = self.page.tags.get(347)
        before = _segments(tables.raw)[0] if tables is not None else []
        inside, scans = _segments(data)
        if not scans:
            raise SegmentError("holds no pixels of a JPEG")
        if scans.count(b"\xff\xda") > MAX_SCANS:
            raise SegmentError(f"has more than {MAX_SCANS} scans")
        photometric = photometric_of(self.page)
        is_jfif = any(marker == 0xE0 for marker, _ in inside)  # where RGB is said, it lies: Aperio's are so
        is_rgb = photometric == RGB and not is_jfif
        mark = ADOBE + bytes([0 if is_rgb or photometric == CMYK else 1]) if self.samples > 2 else b""
        kept = [segment for marker, segment in [*before, *inside] if not 0xE0 <= marker <= 0xEF and marker != 0xFE]
        return b"".join([b"\xff\xd8", mark, *kept, scans])

    def _unpredicted(self, raw: bytes) -> bytes:
        """Undo the differences of floats: bytes of a row come in planes, highest first, each less its neighbour's."""
        width, n = self.cut.width * self.samples, self.itemsize
        if self.bits != 8 * n or self.bits not in (16, 32, 64):
            raise SegmentError("has differences of floats, and holds none")
        n_rows = len(raw) // (width * n)
        rows = np.frombuffer(raw, np.uint8, n_rows * width * n).reshape(n_rows, self.cut.width * n, self.samples)
        planes = np.cumsum(rows, axis=1, dtype=np.uint8).reshape(n_rows, n, width)
        order = slice(None) if self.page.layout.order == ">" else slice(None, None, -1)
        return np.ascontiguousarray(planes.transpose(0, 2, 1)[..., order]).tobytes()

    def _unpacked(self, raw: bytes) -> bytes:
        """Give each number of an odd number of bits whole bytes; each row begins with a byte."""
        width, size = self.cut.width * self.samples, -(-self.cut.width * self.cut.n_bits // 8)
        rows = np.frombuffer(raw, np.uint8)[: len(raw) // size * size].reshape(-1, size)
        kind = self.page.layout.order + f"u{self.itemsize}"
        whole = np.zeros((len(rows), width), kind)
        step = max(1, BAND // max(1, width))
        for top in range(0, len(rows), step):
            bits = np.unpackbits(rows[top : top + step], axis=1)[:, : width * self.bits].reshape(-1, width, self.bits)
            numbers = np.zeros(bits.shape[:2], np.uint32)
            for i in range(self.bits):
                numbers = numbers << 1 | bits[..., i]
            whole[top : top + step] = numbers
        return whole.tobytes()


def _require_size(size: tuple[int, int], largest: tuple[int, int], part: Part) -> None:
    (w, h), (width, length) = size, largest
    if w > width or h > length or w < part.columns or h < part.rows:
        raise SegmentError(f"holds {w:,} x {h:,} pixels and must hold {width:,} x {length:,}")


def _segments(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Return the segments of a JPEG by their markers, and all from its first scan on: nothing, of tables."""
    if not data.startswith(b"\xff\xd8"):
        raise SegmentError("holds no JPEG, or its tables are none")
    found: list[tuple[int, bytes]] = []
    i = 2
    while i + 4 <= len(data):
        marker, length = data[i + 1], int.from_bytes(data[i + 2 : i + 4], "big")
        if data[i] != 0xFF or length < 2:
            raise SegmentError("holds a JPEG that is damaged")
        if marker == 0xFF:
            i += 1
        elif marker == 0xDA:
            return found, data[i:]
        else:
            found.append((marker, data[i : i + 2 + length]))
            i += 2 + length
    return found, b""
