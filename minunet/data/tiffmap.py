"""The directories of a TIFF file, read within bounds: what it claims is compared with what is there before it is believed.

A TIFF is a chain of directories, one a page, each a list of tags: numbers, or offsets of where numbers lie in the file.
Any of these may lie: the chain may be a circle, a tag may count to 4 billion, directories may share their bytes. Here each
directory is read once, only the tags that pixels and axes depend on are, and all of it together takes no more than the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .refusal import Budget, ImageFileError, shown

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # a type's bytes
WHOLE = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}  # types of whole numbers
MAX_TAGS = 4096  # of a directory; honest ones have some 20, microscopes' some 100
DESCRIPTION, SOFTWARE, SUBIFDS, UIC2 = 270, 305, 330, 33629
SECOND = 2**16  # added to the code of a second description: tifffile writes its own after the user's
KEPT = {  # what pixels and axes depend on; nothing else is looked at by anyone
    254, 255, 256, 257, 258, 259, 262, 266, 270, 273, 274, 277, 278, 279, 284, 292, 293, 305, 317, 320, 322, 323, 324, 325,
    SUBIFDS, 338, 339, 340, 341, 347, 530, 531, 532, 32997, 32998, UIC2, 34361, 34362, 34386,
}  # fmt: skip
MAX_BYTES = 2**28  # of all directories with what they place elsewhere: a file may have holes, and be a terabyte of nothing
FIRST = "page 1"
LONG_TEXT = 4096  # bytes; the descriptions of a microscope's later pages may be longer, and are left alone
DAMAGED = "save it anew from its source"


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
            if code not in KEPT:
                continue
            key = code + SECOND if code == DESCRIPTION and code in tags else code
            is_long = code in (DESCRIPTION, SOFTWARE) and count > LONG_TEXT and name != FIRST
            if key not in tags and kind in SIZES and not is_long:
                found = known.get((code, kind, count, value))
                if found is None or found.n * SIZES[kind] > len(value):
                    found = known[code, kind, count, value] = self._tag(code, kind, count, value, name)
                tags[key] = found
        directory = Directory(name, self.layout, tags, [])
        below = directory.numbers(SUBIFDS)
        if below is not None and not is_below:
            for i, place in enumerate(below.tolist(), 1):
                if place:  # tifffile's own files have them, for a level that is missing
                    self._open(place, f"{name}, level {i}")
                    self.budget.require_pages(len(self.seen))
                    directory.below.append(self._directory(place, f"{name}, level {i}", is_below=True))
        return directory

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
