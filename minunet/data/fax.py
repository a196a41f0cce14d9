"""The codes of facsimiles (ITU-T T.4 and T.6), in which TIFFs hold images of one bit a pixel: compressions 2, 3 and 4.

A row is told as runs of white and black pixels, or as where it changes colour, compared with the row above. Every row must be
told to its end: libtiff goes on behind what it cannot read, with whatever its memory holds.
"""

from __future__ import annotations

import numpy as np

RUNS, GROUP3, GROUP4 = 2, 3, 4
FAX = {RUNS, GROUP3, GROUP4}
LONGEST = 13  # bits of a code
# The codes of runs of 0 to 63 pixels, then of 64, 128, ... 1728; those of 1792, 1856, ... 2560 are the same for both.
WHITE = """00110101 000111 0111 1000 1011 1100 1110 1111 10011 10100 00111 01000 001000 000011 110100 110101 101010 101011 0100111
0001100 0001000 0010111 0000011 0000100 0101000 0101011 0010011 0100100 0011000 00000010 00000011 00011010 00011011 00010010
00010011 00010100 00010101 00010110 00010111 00101000 00101001 00101010 00101011 00101100 00101101 00000100 00000101 00001010
00001011 01010010 01010011 01010100 01010101 00100100 00100101 01011000 01011001 01011010 01011011 01001010 01001011 00110010
00110011 00110100 11011 10010 010111 0110111 00110110 00110111 01100100 01100101 01101000 01100111 011001100 011001101 011010010
011010011 011010100 011010101 011010110 011010111 011011000 011011001 011011010 011011011 010011000 010011001 010011010 011000
010011011"""
BLACK = """0000110111 010 11 10 011 0011 0010 00011 000101 000100 0000100 0000101 0000111 00000100 00000111 000011000 0000010111
0000011000 0000001000 00001100111 00001101000 00001101100 00000110111 00000101000 00000010111 00000011000 000011001010
000011001011 000011001100 000011001101 000001101000 000001101001 000001101010 000001101011 000011010010 000011010011 000011010100
000011010101 000011010110 000011010111 000001101100 000001101101 000011011010 000011011011 000001010100 000001010101 000001010110
000001010111 000001100100 000001100101 000001010010 000001010011 000000100100 000000110111 000000111000 000000100111 000000101000
000001011000 000001011001 000000101011 000000101100 000001011010 000001100110 000001100111 0000001111 000011001000 000011001001
000001011011 000000110011 000000110100 000000110101 0000001101100 0000001101101 0000001001010 0000001001011 0000001001100
0000001001101 0000001110010 0000001110011 0000001110100 0000001110101 0000001110110 0000001110111 0000001010010 0000001010011
0000001010100 0000001010101 0000001011010 0000001011011 0000001100100 0000001100101"""
LONG = """00000001000 00000001100 00000001101 000000010010 000000010011 000000010100 000000010101 000000010110 000000010111
000000011100 000000011101 000000011110 000000011111"""
PASS, HORIZONTAL = 8, 9
MODES = {"0001": PASS, "001": HORIZONTAL, "1": 0, "011": 1, "000011": 2, "0000011": 3, "010": -1, "000010": -2, "0000010": -3}
END_OF_LINE = "000000000001"


class FaxError(ValueError):
    """Raised where a code is none, or a row is not told to its end."""


def _table(codes: dict[str, int]) -> list[tuple[int, int] | None]:
    """Return what 13 bits begin with: a code's value and length; None where with none."""
    table: list[tuple[int, int] | None] = [None] * 2**LONGEST
    for code, value in codes.items():
        free = LONGEST - len(code)
        start = int(code, 2) << free
        table[start : start + 2**free] = [(value, len(code))] * 2**free
    return table


def _runs(words: str) -> dict[str, int]:
    codes = words.split()
    return dict(zip([*codes, *LONG.split()], [*range(64), *range(64, 2561, 64)], strict=True))


_RUNS, _MODES = (_table(_runs(WHITE)), _table(_runs(BLACK))), _table(MODES)


def decode(compression: int, data: bytes, width: int, length: int, options: int = 0) -> bytes:
    """Return rows of `width` bits, 1 for black, each from a new byte on. options : T4Options, of compression 3."""
    if options & 2:
        raise FaxError("holds rows without codes, which are not read")
    reader = _Reader(data, width)
    rows: list[list[int]] = []
    above: list[int] = []
    for _ in range(length):
        if compression == GROUP4:
            above = reader.compared(above)
        else:
            is_compared = compression == GROUP3 and reader.end_of_line(bool(options & 1))
            above = reader.compared(above) if is_compared else reader.told()
        if compression == RUNS:
            reader.at = -(-reader.at // 8) * 8
        rows.append(above)
    return _drawn(rows, width)


class _Reader:
    """Reads rows from bits: each as the places where the colour changes, beginning with white."""

    def __init__(self, data: bytes, width: int) -> None:
        self.n, self.at, self.width = 8 * len(data), 0, width
        self.bits = f"{int.from_bytes(data, 'big'):0{self.n}b}" + "0" * 2 * LONGEST if data else "0" * LONGEST

    def code(self, table: list[tuple[int, int] | None]) -> int:
        found = table[int(self.bits[self.at : self.at + LONGEST], 2)] if self.at < self.n else None
        if found is None:
            raise FaxError("is cut off" if self.n - self.at < LONGEST else f"holds a code that is none, at its bit {self.at:,}")
        self.at += found[1]
        if self.at > self.n:
            raise FaxError("is cut off")
        return found[0]

    def run(self, colour: int) -> int:
        """Return a run's length: a code of less than 64 ends it."""
        table, total = _RUNS[colour], 0
        while True:
            n = self.code(table)
            total += n
            if total > self.width:
                raise FaxError(f"holds a run of more than {self.width:,} pixels")
            if n < 64:
                return total

    def told(self) -> list[int]:
        """Read a row told in runs."""
        row: list[int] = []
        place = colour = 0
        while place < self.width:
            place += self.run(colour)
            row.append(place)
            colour ^= 1
        return self.whole(row, place)

    def compared(self, above: list[int]) -> list[int]:
        """Read a row told by how it differs from the one above."""
        row: list[int] = []
        place, colour, i, width = -1, 0, 0, self.width
        n = len(above)
        while place < width:
            while i > 0 and above[i - 1] > place:
                i -= 1
            while i < n and (above[i] <= place or i % 2 != colour):
                i += 1
            first = above[i] if i < n else width
            mode = self.code(_MODES)
            if mode == PASS:
                place = above[i + 1] if i + 1 < n else width
            elif mode == HORIZONTAL:
                place = max(place, 0)
                for each in (colour, 1 - colour):
                    place += self.run(each)
                    row.append(place)
            else:
                if first + mode < max(place, 0):
                    raise FaxError("holds a row that turns back")
                place = first + mode
                row.append(place)
                colour ^= 1
        return self.whole(row, place)

    def whole(self, row: list[int], place: int) -> list[int]:
        if place != self.width:
            raise FaxError(f"holds a row of {place:,} pixels and must hold {self.width:,}")
        return row

    def end_of_line(self, is_tagged: bool) -> bool:
        """Pass over the mark between two rows, and zeros before it; return whether the next one is compared with the last."""
        first = self.bits.find("1", self.at)
        is_there = first - self.at >= len(END_OF_LINE) - 1
        if is_there:
            self.at = first + 1
        if not is_tagged:
            return False
        if not is_there:
            raise FaxError("lacks the mark between two rows")
        self.at += 1
        return self.bits[self.at - 1] == "0"


def _drawn(rows: list[list[int]], width: int) -> bytes:
    """Return the pixels: each change turns the colour of all that follow in its row."""
    turns = np.zeros((len(rows), width + 1), np.uint8)
    for turn, row in zip(turns, rows, strict=True):
        np.bitwise_xor.at(turn, row, 1)
    return np.packbits(np.bitwise_xor.accumulate(turns, axis=1)[:, :width], axis=1).tobytes()
