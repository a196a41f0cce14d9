"""The directories of a TIFF file, read within bounds: what it claims is compared with what is there before it is believed.

A TIFF is a chain of directories, one a page, each a list of tags: numbers, or offsets of where numbers lie in the file.
Any of these may lie: the chain may be a circle, a tag may count to 4 billion, directories may share their bytes. Here each
directory is read once, only the tags that pixels and axes depend on are, and all of it together takes no more than the file.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..text import shown
from .fax import FAX
from .refusal import Budget, ImageFileError

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # a type's bytes
RATIONAL, FLOAT, DOUBLE, ASCII = 5, 11, 12, 2
WHOLE = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}  # types of whole numbers
MAX_TAGS = 4096  # of a directory; honest ones have some 20, microscopes' some 100
DESCRIPTION, SOFTWARE, SUBIFDS, UIC2 = 270, 305, 330, 33629
SECOND = 2**16  # added to the code of a second description: tifffile writes its own after the user's
KEPT = {  # what pixels and axes depend on; nothing else is looked at by anyone
    254, 255, 256, 257, 258, 259, 262, 266, 270, 273, 274, 277, 278, 279, 284, 292, 293, 305, 317, 320, 322, 323, 324, 325,
    SUBIFDS, 338, 339, 340, 341, 347, 530, 531, 532, 32997, 32998, UIC2, 34361, 34362, 34386,
}  # fmt: skip
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, PIXEL_SCALE, GEO_KEYS, NODATA = 282, 283, 296, 33550, 34735, 42113
SAID = {X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, PIXEL_SCALE, GEO_KEYS, NODATA}  # and what is said of pixels, for us alone
MAX_SAID = 4096  # bytes of such a tag; honest ones have up to some hundred, and longer ones are left alone
MAX_BYTES = 2**28  # of all directories with what they place elsewhere: a file may have holes, and be a terabyte of nothing
FIRST = "page 1"
LONG_TEXT = 4096  # bytes; the descriptions of a microscope's later pages may be longer, and are left alone
DAMAGED = "save it anew from its source"


WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, TRANSPARENCY, CMYK, YCBCR = range(7)  # how numbers are meant
TILE_OFFSETS, TILE_COUNTS, STRIP_OFFSETS, STRIP_COUNTS = 324, 325, 273, 279
ONE = {254, 256, 257, 259, 262, 266, 274, 277, 278, 284, 292, 293, 317, 322, 323, 32997, 32998}  # tags of one whole number
MANY = {258, STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS, 320, 338, 339, 530, 531}  # and those of some
UNSIGNED = {1, 3, 4, 16}  # the types that both may have
KNOWN = {  # what some may say: with anything else, readers differ in what they make of the pixels
    262: {0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 32803, 32844, 32845, 34892, 51177, 52527}, 266: {1, 2}, 274: set(range(1, 9)),
    284: {1, 2}, 317: {1, 2, 3, 34892, 34893, 34894, 34895},
}  # fmt: skip
NAMES = {
    254: "NewSubfileType", 262: "PhotometricInterpretation", 266: "FillOrder", 274: "Orientation", 284: "PlanarConfiguration",
    317: "Predictor",
}  # fmt: skip


class Tag(NamedTuple):
    """A tag's type, how many numbers it has, and their bytes as in the file."""

    type: int
    n: int
    raw: bytes


class Layout(NamedTuple):
    """How the numbers of a TIFF lie: "<" or ">", and formats and sizes of an offset, a count of tags and a tag."""

    order: str
    is_big: bool

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.is_big else "I")

    @property
    def n_tags(self) -> str:
        return self.order + ("Q" if self.is_big else "H")

    @property
    def tag(self) -> str:
        return self.order + ("HHQ8s" if self.is_big else "HHI4s")


class Directory(NamedTuple):
    """A page, or a smaller copy of one: its tags, what it is called in messages, and the directories below it."""

    name: str
    layout: Layout
    tags: dict[int, Tag]
    below: list[Directory]

    def numbers(self, code: int) -> NDArray[np.int64] | None:
        """Return a tag's whole numbers; None where it is missing or holds something else."""
        tag = self.tags.get(code)
        if tag is None or tag.type not in WHOLE or not tag.n:
            return None
        return np.frombuffer(tag.raw, self.layout.order + WHOLE[tag.type]).astype(np.int64)

    def number(self, code: int, default: int) -> int:
        """Return a tag's first number, as Python counts: without an end."""
        tag = self.tags.get(code)
        if tag is None or tag.type not in WHOLE or not tag.n:
            return default
        order: Literal["little", "big"] = "little" if self.layout.order == "<" else "big"
        return int.from_bytes(tag.raw[: SIZES[tag.type]], order, signed=WHOLE[tag.type][0] == "i")

    def floats(self, code: int) -> list[float]:
        """Return a tag's fractions or floats; none where it is missing or holds something else. A fraction of 0 parts is NaN."""
        tag = self.tags.get(code)
        if tag is None or tag.type not in (RATIONAL, FLOAT, DOUBLE):
            return []
        if tag.type != RATIONAL:
            return [float(v) for v in np.frombuffer(tag.raw, self.layout.order + ("f4" if tag.type == FLOAT else "f8"))]
        parts = np.frombuffer(tag.raw, self.layout.order + "u4").tolist()
        return [n / d if d else math.nan for n, d in zip(parts[::2], parts[1::2], strict=True)]

    def text(self, code: int) -> str:
        """Return a tag's text, to its first NUL; none where it is missing or holds something else."""
        tag = self.tags.get(code)
        if tag is None or tag.type != ASCII:
            return ""
        raw = tag.raw.split(b"\0")[0]
        try:
            return raw.decode("utf-8").strip()
        except UnicodeDecodeError:
            return raw.decode("cp1252", "replace").strip()

    @property
    def is_reduced(self) -> bool:
        """Whether it says that it is a smaller copy of another image: of old, by a tag of its own."""
        return bool(self.number(254, 0) & 1) or (254 not in self.tags and self.number(255, 0) == 2)

    @property
    def is_mask(self) -> bool:
        """Whether it says that it tells which pixels of another image are valid."""
        return bool(self.number(254, 0) & 4) or self.number(262, -1) == TRANSPARENCY


def compression_of(page: Directory) -> int:
    return page.number(259, 1)


def photometric_of(page: Directory) -> int:
    """Return how numbers are meant as brightness and colour. Where it is not told, facsimiles are of ink on white paper."""
    return page.number(262, WHITE_IS_ZERO if compression_of(page) in FAX else BLACK_IS_ZERO)


def shape_of(page: Directory) -> tuple[int, int, int, int]:
    """Return a page's rows, columns, depth and samples."""
    h, w, d, s = (max(0, page.number(code, default)) for code, default in ((257, 0), (256, 0), (32997, 1), (277, 1)))
    return h, w, d, s


class Cut(NamedTuple):
    """How a page is cut into strips or tiles: rows and columns and layers of one, bits of a pixel, planes of samples."""

    length: int
    width: int
    layers: int
    n_bits: int
    planes: int
    shape: tuple[int, int, int]  # the page's rows, columns and layers

    @property
    def whole(self) -> int:
        """Bytes of a whole one, without compression."""
        return self.layers * self.length * -(-self.width * self.n_bits // 8)

    @property
    def numbers(self) -> tuple[int, int, int]:
        """How many there are over layers, rows and columns."""
        h, w, d = self.shape
        return -(-d // self.layers), -(-h // self.length), -(-w // self.width)

    @property
    def number(self) -> int:
        deep, down, across = self.numbers
        return deep * down * across * self.planes

    def extents(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return how many layers, rows and columns of each lie in the image."""
        h, w, d = self.shape
        deep, down, across = (np.arange(n) for n in self.numbers)
        layers = np.minimum(self.layers, d - self.layers * deep)[:, None, None]
        rows = np.minimum(self.length, h - self.length * down)[:, None]
        columns = np.minimum(self.width, w - self.width * across)
        layers, rows, columns = (np.tile(np.broadcast_to(a, self.numbers).ravel(), self.planes) for a in (layers, rows, columns))
        return layers, rows, columns

    def least(self) -> NDArray[np.int64]:
        """Return how many bytes each must have: a writer may leave out what lies beyond the image."""
        layers, rows, columns = self.extents()
        return layers * rows * -(-columns * self.n_bits // 8)


def cut_of(page: Directory) -> Cut:
    h, w, depth, samples = shape_of(page)
    is_planar = page.number(284, 1) == 2 and samples > 1
    bits = page.numbers(258)
    n_bits = 1 if bits is None else int(bits[0]) * samples if len(bits) < samples else int(bits[:samples].sum())
    n_bits, planes = (n_bits // samples, samples) if is_planar else (n_bits, 1)
    if TILE_OFFSETS in page.tags:
        width, length, layers = (max(1, page.number(code, 1)) for code in (322, 323, 32998))
    else:
        length, width, layers = min(max(1, page.number(278, h)), max(1, h)), max(1, w), 1
    return Cut(length, width, layers, n_bits, planes, (h, w, depth))


class Map(NamedTuple):
    """All directories of a file, and how many bytes it has."""

    layout: Layout
    pages: list[Directory]
    size: int


def read_map(file: BinaryIO, path: Path, budget: Budget) -> Map:
    """Return the directories of a TIFF; ImageFileError where they are not what they say, or too many."""
    return _Reader(file, path, budget).read()


class _Reader:
    """One reading: what was seen, and how many bytes of directories and of values may still come."""

    def __init__(self, file: BinaryIO, path: Path, budget: Budget) -> None:
        self.file, self.path, self.budget = file, path, budget
        self.size = file.seek(0, 2)
        self.left = min(self.size + 2**20, MAX_BYTES)  # honest directories share a few small values at most
        self.seen: set[int] = set()
        self.known: dict[tuple[int, int, int, bytes], Tag] = {}
        self.layout = Layout("<", False)

    def read(self) -> Map:
        head = self._bytes(0, 16, "header")
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        version = struct.unpack((order or "<") + "H", head[2:4])[0] if len(head) > 7 else 0
        if order is None or version not in (42, 43):
            raise ImageFileError(f"{shown(self.path)} is no TIFF file, or a damaged one: {DAMAGED}")
        self.layout = Layout(order, version == 43)
        if version == 43 and (len(head) < 16 or struct.unpack(order + "HH", head[4:8]) != (8, 0)):
            raise self._damaged("its header is no BigTIFF's")
        start = struct.unpack_from(self.layout.offset, head, 8 if version == 43 else 4)[0]
        places = list(self._chain(start))
        pages = [self._directory(place, f"page {i}") for i, place in enumerate(places, 1)]
        return Map(self.layout, pages, self.size)

    def _chain(self, offset: int) -> Iterator[int]:
        """Follow the chain to its end, before any directory is looked into: it may be long, or a circle."""
        n_tags, width = struct.calcsize(self.layout.n_tags), struct.calcsize(self.layout.offset)
        tag = struct.calcsize(self.layout.tag)
        number = 0
        while offset:
            number += 1
            self.budget.require_pages(number)
            n = self._open(offset, f"page {number}")
            yield offset
            last = self._bytes(offset + n_tags + n * tag, width, f"page {number}")
            if len(last) < width:
                raise self._damaged(f"the directory of page {number} is cut off")
            offset = struct.unpack(self.layout.offset, last)[0]

    def _open(self, offset: int, name: str) -> int:
        """Return the number of tags of a directory that was not opened before."""
        if offset in self.seen:
            raise self._damaged(f"its directories lead in a circle, from {name} back to an earlier one, so that they never end")
        self.seen.add(offset)
        if not 8 <= offset < self.size:
            raise self._damaged(f"the directory of {name} would lie at byte {offset:,}, the file has {self.size:,}")
        width = struct.calcsize(self.layout.n_tags)
        raw = self._bytes(offset, width, name)
        n = struct.unpack(self.layout.n_tags, raw)[0] if len(raw) == width else 0
        if not 0 < n <= MAX_TAGS:
            raise self._damaged(f"the directory of {name} has {n:,} tags; 1 to {MAX_TAGS:,} are taken")
        self._spend(n * struct.calcsize(self.layout.tag))
        return n

    def _directory(self, offset: int, name: str, is_below: bool = False) -> Directory:
        width, tag_format = struct.calcsize(self.layout.n_tags), self.layout.tag
        n = struct.unpack(self.layout.n_tags, self._bytes(offset, width, name))[0]
        raw = self._bytes(offset + width, n * struct.calcsize(tag_format), name)
        if len(raw) < n * struct.calcsize(tag_format):
            raise self._damaged(f"the directory of {name} is cut off")
        tags: dict[int, Tag] = {}
        known = self.known  # a stack's pages have most tags in common
        for code, kind, count, value in struct.iter_unpack(tag_format, raw):
            if code not in KEPT and not (code in SAID and self._is_said(code, kind, count, value, name)):
                continue
            key = code + SECOND if code == DESCRIPTION and code in tags else code
            is_long = code in (DESCRIPTION, SOFTWARE) and count > LONG_TEXT and name != FIRST
            if key not in tags and kind in SIZES and not is_long:
                found = known.get((code, kind, count, value))
                if found is None or found.n * SIZES[kind] > len(value):
                    found = known[code, kind, count, value] = self._tag(code, kind, count, value, name)
                tags[key] = found
        directory = Directory(name, self.layout, tags, [])
        self._require_sound(directory)
        below = directory.numbers(SUBIFDS)
        if below is not None and not is_below:
            for i, place in enumerate(below.tolist(), 1):
                if place:  # tifffile's own files have them, for a level that is missing
                    self._open(place, f"{name}, level {i}")
                    self.budget.require_pages(len(self.seen))
                    directory.below.append(self._directory(place, f"{name}, level {i}", is_below=True))
        return directory

    def _is_said(self, code: int, kind: int, count: int, value: bytes, name: str) -> bool:
        """Tell whether a tag besides those of pixels is read: a short one; of sizes, of the first page, where it is there."""
        n_bytes = count * SIZES.get(kind, MAX_SAID)
        is_there = n_bytes <= len(value) or struct.unpack(self.layout.offset, value)[0] + n_bytes <= self.size
        return n_bytes <= MAX_SAID and (code == NODATA or (is_there and name == FIRST))

    def _require_sound(self, directory: Directory) -> None:
        """Refuse a tag of a type that it may not have, or that says what nobody knows."""
        for code, tag in directory.tags.items():
            called = f"tag {code} ({NAMES[code]})" if code in NAMES else f"tag {code}"
            is_wrong = tag.type not in UNSIGNED or not tag.n or (code in ONE and tag.n != 1)
            if is_wrong and (code in ONE or code in MANY):
                what = "one whole number" if code in ONE else "whole numbers"
                raise self._damaged(f"{called} of {directory.name} holds {tag.n:,} of type {tag.type}, and takes {what}")
            if code in KNOWN and (value := directory.number(code, 1)) not in KNOWN[code]:
                raise self._damaged(f"{called} of {directory.name} is {value:,}, which is nothing that is known")

    def _tag(self, code: int, kind: int, count: int, value: bytes, name: str) -> Tag:
        n_bytes = count * SIZES[kind]
        if code == UIC2:  # of a MetaMorph stack only its count counts: the planes
            return Tag(kind, count, b"")
        if n_bytes <= len(value):
            return Tag(kind, count, value[:n_bytes])
        offset = struct.unpack(self.layout.offset, value)[0]
        if offset + n_bytes > self.size:
            raise self._damaged(
                f"tag {code} of {name} would take {n_bytes:,} bytes at byte {offset:,}, the file has {self.size:,}: "
                "it is truncated, or lies"
            )
        self._spend(n_bytes)
        return Tag(kind, count, self._bytes(offset, n_bytes, name))

    def _spend(self, n_bytes: int) -> None:
        self.left -= n_bytes
        if self.left < 0:
            raise self._damaged("its directories take more bytes than there are: they lie on top of each other, or hold too much")

    def _bytes(self, offset: int, n_bytes: int, name: str) -> bytes:
        self.file.seek(offset)
        return self.file.read(n_bytes)

    def _damaged(self, what: str) -> ImageFileError:
        return ImageFileError(f"{shown(self.path)} cannot be read, it is damaged: {what}; {DAMAGED}")
