"""One strip or tile of a TIFF, decompressed to the bytes it must have: to fewer is an error, and nothing goes on to more."""

from __future__ import annotations

import io
import lzma
import sys
import zlib
from collections.abc import Callable

from PIL import Image

from . import lzw

NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD, OLD_ZSTD = 1, 5, 7, 8, 32946, 32773, 34925, 50000, 34926
LZMA_MEMORY = 72 * 2**20  # the largest dictionary of `xz -9`
GAIN = {NONE: 1, LZW: 1400, DEFLATE: 1100, OLD_DEFLATE: 1100, PACKBITS: 64}  # what a byte may become at most, where that is known
PICTURES = {JPEG, 33003, 33004, 33005, 34712, 34892, 34933, 50001}  # a file of its own each, in formats whose size Pillow reads


class SegmentError(ValueError):
    """Raised where a strip or tile does not hold what it must."""


def inflate(compression: int, data: bytes, least: int, most: int) -> bytes:
    """Return the bytes of a strip or tile: at least `least`, and an error where there are more than `most`."""
    raw = _READERS[compression](data, most)
    if len(raw) < least:
        raise SegmentError(f"holds {len(raw):,} bytes of pixels and must hold {least:,}")
    return raw


def is_inflated_here(compression: int) -> bool:
    return compression in _READERS


def require_picture(data: bytes, width: int, length: int) -> None:
    """Refuse a strip or tile that is a JPEG or the like of a larger size than it must have."""
    size = _jpeg_size(data) if data.startswith(b"\xff\xd8") else None
    try:
        if size is None:
            with Image.open(io.BytesIO(data), formats=("JPEG2000", "PNG", "WEBP")) as picture:
                size = picture.size
    except Exception as error:
        raise SegmentError("holds no picture of its compression") from error
    if size[0] > width or size[1] > length:
        raise SegmentError(f"holds {size[0]:,} x {size[1]:,} pixels and must hold {width:,} x {length:,}")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Return the width and length that a JPEG's frame header gives; tables may come before it. Pillow takes no 2 channels."""
    i = 2
    while len(head := data[i : i + 9]) == 9 and head[0] == 0xFF:
        marker, length = head[1], int.from_bytes(head[2:4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(head[7:9], "big"), int.from_bytes(head[5:7], "big")
        i += 1 if marker == 0xFF else 2 + length
    raise SegmentError("holds a JPEG without a size")


def _deflate(data: bytes, most: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(data, most + 1)
    except zlib.error as error:
        raise SegmentError(f"is damaged ({error})") from error
    _require_end(len(raw), most, stream.eof)
    return raw


def _lzma(data: bytes, most: int) -> bytes:
    stream = lzma.LZMADecompressor(memlimit=LZMA_MEMORY)
    try:
        raw = stream.decompress(data, most + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise SegmentError(f"is damaged ({error})") from error
    _require_end(len(raw), most, stream.eof)
    return raw


def _packbits(data: bytes, most: int) -> bytes:
    """Undo runs of bytes: n < 128 is followed by n + 1 bytes, n > 128 by one that counts 257 - n times."""
    chunks, n_bytes, i = [], 0, 0
    while i < len(data) and n_bytes <= most:
        n = data[i]
        chunk = data[i + 1 : i + 2 + n] if n < 128 else data[i + 1 : i + 2] * (257 - n) if n > 128 else b""
        i += n + 2 if n < 128 else 2 if n > 128 else 1
        chunks.append(chunk)
        n_bytes += len(chunk)
    _require_end(n_bytes, most, is_whole=True)
    return b"".join(chunks)


def _lzw(data: bytes, most: int) -> bytes:
    try:
        raw = lzw.decode(data, most)
    except lzw.LzwError as error:
        raise SegmentError(f"is damaged ({error})") from error
    _require_end(len(raw), most, is_whole=True)
    return raw


def _zstd(data: bytes, most: int) -> bytes:
    """Python has it from 3.14 on; imagecodecs, where someone has that."""
    if sys.version_info >= (3, 14):
        from compression import zstd

        stream = zstd.ZstdDecompressor()
        try:
            raw = stream.decompress(data, most + 1)
        except zstd.ZstdError as error:
            raise SegmentError(f"is damaged ({error})") from error
        _require_end(len(raw), most, stream.eof)
        return raw
    try:
        import imagecodecs
    except ImportError:
        raise SegmentError("is packed by Zstandard, which takes Python 3.14 or imagecodecs (pip install imagecodecs)") from None
    try:
        return bytes(imagecodecs.zstd_decode(data, out=most))
    except RuntimeError as error:
        raise SegmentError(f"is damaged, or goes on beyond its {most:,} bytes ({error})") from error


def _require_end(n_bytes: int, most: int, is_whole: bool) -> None:
    if n_bytes > most:
        raise SegmentError(f"goes on beyond the {most:,} bytes that it may hold")
    if not is_whole:
        raise SegmentError("is cut off")


def _stored(data: bytes, most: int) -> bytes:
    return data[:most]


_READERS: dict[int, Callable[[bytes, int], bytes]] = {
    NONE: _stored, DEFLATE: _deflate, OLD_DEFLATE: _deflate, LZMA: _lzma, PACKBITS: _packbits,
    LZW: _lzw, ZSTD: _zstd, OLD_ZSTD: _zstd,
}  # fmt: skip
