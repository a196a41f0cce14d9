"""TIFF files by their directories: where each entry stands, and what may be wrong with it. A writer for wrong ones, too."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from fuzz.damage import put_integer
from fuzz.source import Source

WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # bytes, by type
COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34712, 34925, 50000, 50001, 65535)
TAGS = (
    254,
    255,
    256,
    257,
    258,
    259,
    262,
    266,
    270,
    273,
    274,
    277,
    278,
    279,
    282,
    283,
    284,
    296,
    317,
    320,
    322,
    323,
    324,
    325,
    330,
    338,
    339,
    33550,
    34735,
    42113,
    50838,
    65535,
)
WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION, OFFSETS, SAMPLES, ROWS, COUNTS = (
    256,
    257,
    258,
    259,
    262,
    270,
    273,
    277,
    278,
    279,
)


class Entry(NamedTuple):
    """One entry of a directory: where it stands in the file, and what it says."""

    at: int
    tag: int
    type: int
    count: int
    value_at: int  # where its values lie: in it, or elsewhere


class Layout(NamedTuple):
    """All entries, and where the offsets to the next directories and the numbers of entries stand."""

    big: bool
    order: str
    entries: list[Entry]
    links: list[int]
    counts: list[int]

    @property
    def word(self) -> int:
        return 8 if self.big else 4


def layout(data: bytes) -> Layout:
    """Read the directories of a sound TIFF file."""
    order = "little" if data[:2] == b"II" else "big"
    big = data[2:4] in (b"+\0", b"\0+")
    word, n_count, size = (8, 8, 20) if big else (4, 2, 12)
    found = Layout(big, order, [], [8 if big else 4], [])

    def number(at: int, width: int) -> int:
        return int.from_bytes(data[at : at + width], order)  # type: ignore[arg-type]

    while (at := number(found.links[-1], word)) and len(found.links) < 20:
        found.counts.append(at)
        n = number(at, n_count)
        for i in range(n):
            place = at + n_count + i * size
            tag, kind, count = number(place, 2), number(place + 2, 2), number(place + 4, word)
            value = place + 4 + word
            fits = count * WIDTHS.get(kind, 1) <= word
            found.entries.append(Entry(place, tag, kind, count, value if fits else number(value, word)))
        found.links.append(at + n_count + n * size)
    return found


def edited(data: bytes, source: Source) -> bytes:
    """Return the file with one to three numbers of its directories changed."""
    result, parts = bytearray(data), layout(data)
    for _ in range(source.between(1, 3)):
        entry, kind = source.choice(parts.entries), source.below(10)
        width = WIDTHS.get(entry.type, 1)
        value_at = entry.value_at + width * source.below(max(1, min(entry.count, 64)))
        if kind <= 2:
            put_integer(result, value_at, width, source.edge(), parts.order)
        elif kind == 3:
            put_integer(result, value_at, width, source.below(len(data) + 8), parts.order)
        elif kind == 4:
            put_integer(result, entry.at, 2, source.choice(TAGS), parts.order)
        elif kind == 5:
            put_integer(result, entry.at + 2, 2, source.below(20), parts.order)
        elif kind == 6:
            put_integer(result, entry.at + 4, parts.word, source.choice((0, 1, 2, 3, 1000, source.edge())), parts.order)
        elif kind == 7:
            link = source.choice(parts.links)
            target = source.choice((0, 8, *parts.counts, source.below(len(data) + 8)))
            put_integer(result, link, parts.word, target, parts.order)
        elif kind == 8:
            put_integer(result, source.choice(parts.counts), 2, source.edge(), parts.order)
        elif entry.tag == COMPRESSION:
            put_integer(result, value_at, width, source.choice(COMPRESSIONS), parts.order)
        else:  # one entry says what another does
            other = source.choice(parts.entries)
            size = parts.word * 2 + 4
            result[entry.at + 2 : entry.at + size] = data[other.at + 2 : other.at + size]
    return bytes(result)


def without_a_part(data: bytes, source: Source) -> bytes:
    """Return the file with one strip or tile missing: its offset or its length is 0."""
    result, parts = bytearray(data), layout(data)
    entry = source.choice([e for e in parts.entries if e.tag in (OFFSETS, COUNTS, 324, 325)])
    width = WIDTHS[entry.type]
    put_integer(result, entry.value_at + width * source.below(entry.count), width, 0, parts.order)
    return bytes(result)


def written(pages: Sequence[dict[int, tuple[int, Sequence[int] | bytes]]], data: bytes = b"", link: int | None = None) -> bytes:
    """Return a TIFF file: each page's tags as {tag: (type, values)}, `data` at offset 8, and the last page's link."""
    out = bytearray(b"II*\0" + bytes(4) + data + bytes(len(data) % 2))
    link_at = 4
    for page in pages:
        extra = bytearray()
        start, size = len(out), 2 + 12 * len(page) + 4
        struct.pack_into("<I", out, link_at, start)
        out += struct.pack("<H", len(page))
        for tag, (kind, values) in sorted(page.items()):
            raw = values if isinstance(values, bytes) else b"".join(v.to_bytes(WIDTHS[kind], "little") for v in values)
            where = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack("<I", start + size + len(extra))
            extra += raw if len(raw) > 4 else b""
            out += struct.pack("<HHI", tag, kind, len(raw) // WIDTHS[kind]) + where
        link_at = len(out)
        out += bytes(4) + extra + bytes(len(extra) % 2)
    if link is not None:
        struct.pack_into("<I", out, link_at, link)
    return bytes(out)
