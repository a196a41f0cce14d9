"""LZW as TIFF has it: codes of 9 to 12 bits, highest bits first, for strings that the decoder learns as the encoder did."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CLEAR, END, FIRST, MOST = 256, 257, 258, 4096  # two codes that are no strings; the first that is learned; how many there are
# Codes that are read of each width after a clearing: a width holds until the next string but one would not fit in it.
WIDTHS = np.repeat(np.array([9, 10, 11, 12]), [254, 512, 1024, 2048])
PLACES = np.concatenate([[0], np.cumsum(WIDTHS)])  # of their first bits


class LzwError(ValueError):
    """Raised where a code stands for nothing that was learned."""


def decode(data: bytes, most: int) -> bytes:
    """Return the bytes that the codes stand for; decoding ends soon after there are more than `most`."""
    padded = np.frombuffer(data + bytes(3), np.uint8)
    chunks: list[bytes] = []
    n_bits, position, n_bytes = 8 * len(data), 0, 0
    strings = Strings()
    while n_bytes <= most:
        codes = _codes(padded, position, n_bits, strings.is_full)
        if not len(codes):
            break
        stops = np.flatnonzero((codes == CLEAR) | (codes == END))
        n = int(stops[0]) if len(stops) else len(codes)
        found = strings.spell(codes[:n].tolist())
        chunks.append(found)
        n_bytes += len(found)
        if not len(stops):
            position += 12 * n if strings.is_full_before else int(PLACES[n])
            continue
        if codes[n] == END:
            break
        position += 12 * (n + 1) if strings.is_full_before else int(PLACES[n + 1])
        strings = Strings()
    return b"".join(chunks)


def _codes(padded: NDArray[np.uint8], position: int, n_bits: int, is_full: bool) -> NDArray[np.int64]:
    """Return the codes from a bit on, as wide as they are after a clearing, or all of 12 bits."""
    places, widths = (12 * np.arange(MOST), np.full(MOST, 12)) if is_full else (PLACES[:-1], WIDTHS)
    places = places + position
    n = int(np.searchsorted(places + widths, n_bits, side="right"))
    places, widths = places[:n], widths[:n]
    at = places >> 3
    three = padded[at].astype(np.int64) << 16 | padded[at + 1].astype(np.int64) << 8 | padded[at + 2]
    return three >> (24 - (places & 7) - widths) & (1 << widths) - 1


class Strings:
    """What was learned since the last clearing."""

    def __init__(self) -> None:
        self.known = [bytes([i]) for i in range(256)] + [b"", b""]
        self.last = b""
        self.is_full = self.is_full_before = False

    def spell(self, codes: list[int]) -> bytes:
        """Return what codes stand for, and learn from them: the last string with the next one's first byte."""
        known, last, found = self.known, self.last, []
        for code in codes:
            if code < len(known):
                string = known[code]
            elif code == len(known) < MOST and last:
                string = last + last[:1]
            else:
                raise LzwError(f"holds the code {code}, and only {len(known)} are known there")
            if last and len(known) < MOST:
                known.append(last + string[:1])
            found.append(string)
            last = string
        self.last, self.is_full_before, self.is_full = last, self.is_full, True
        return b"".join(found)
