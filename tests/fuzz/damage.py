"""Damage that any file may suffer: bits flipped, bytes changed, taken out, put in, doubled, cut off, or another file's."""

from __future__ import annotations

from collections.abc import Sequence

from fuzz.source import Source

BYTES = (0, 1, 0x0A, 0x22, 0x5C, 0x7B, 0x5D, 0x7F, 0x80, 0xFE, 0xFF)


def damaged(data: bytes, source: Source, others: Sequence[bytes], order: str = "") -> bytes:
    """Return the file with one to four damages. `order`, "little" or "big", is that of its integers, if it has only one."""
    result = bytearray(data)
    for _ in range(source.between(1, 4)):
        size = len(result)
        at = source.below(32) if source.once_in(4) else source.below(max(1, size))
        kind, n = source.below(9), source.choice((1, 1, 2, 4, 8, 16, 64, 500))
        if kind <= 1:
            flip(result, at, source)
        elif kind == 2:
            result[at : at + 1] = bytes([source.choice(BYTES)])
        elif kind == 3:
            put_integer(result, at, source.choice((1, 2, 4, 8)), source.edge(), order or source.choice(("little", "big")))
        elif kind == 4:
            del result[at : at + n]
        elif kind == 5:
            result[at:at] = source.take(min(n, 16))
        elif kind == 6:
            result[at:at] = result[at : at + n]
        elif kind == 7:
            del result[at:]
        else:
            other = source.choice(others)
            start = source.below(max(1, len(other)))
            result[at : at + n] = other[start : start + n]
    return bytes(result)


def flip(data: bytearray, at: int, source: Source) -> None:
    """Turn one bit over, if there is a byte."""
    if at < len(data):
        data[at] ^= 1 << source.below(8)


def put_integer(data: bytearray, at: int, width: int, number: int, order: str) -> None:
    """Write an integer of so many bytes, what does not fit cut off, over those that are there."""
    data[at : at + width] = (number % 2 ** (8 * width)).to_bytes(width, "big" if order == "big" else "little")[
        : max(0, len(data) - at)
    ]
