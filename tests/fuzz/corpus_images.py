"""Hostile image files."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import tifffile
from fuzz.imagebytes import GREY, OME_OF_TWO_FILES, _chunk, seeds
from fuzz.recipe import EITHER, HARMLESS, REFUSED, SAME, Recipe, content, places
from fuzz.tiffparts import BITS, COMPRESSION, COUNTS, LENGTH, OFFSETS, PHOTOMETRIC, ROWS, SAMPLES, WIDTH, written

Make = Callable[[], bytes]
PNG = b"\x89PNG\r\n\x1a\n"
Tags = dict[int, tuple[int, Any]]


def seed(name: str) -> bytes:
    return next(s.data for s in seeds() if s.name == name)


def ihdr(width: int, height: int, depth: int = 8, colour: int = 0, interlace: int = 0) -> bytes:
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def png(*chunks: bytes) -> Make:
    return lambda: PNG + b"".join(chunks) + _chunk(b"IEND", b"")


def idat(content: bytes) -> bytes:
    return _chunk(b"IDAT", zlib.compress(content))


@cache
def bomb(n: int) -> bytes:
    """Return n zero bytes, deflated."""
    packer = zlib.compressobj(9)
    block = bytes(2**20)
    return b"".join(packer.compress(block) for _ in range(n >> 20)) + packer.flush()


def tags(width: int = 4, height: int = 4, **more: Any) -> Tags:
    """Return the tags of a grey page whose pixels lie in 16 bytes at offset 8. t258=(3, [16]) sets one, None leaves it out."""
    page: Tags = {
        WIDTH: (4, [width]), LENGTH: (4, [height]), BITS: (3, [8]), COMPRESSION: (3, [1]), PHOTOMETRIC: (3, [1]),
        OFFSETS: (4, [8]),
        SAMPLES: (3, [1]), ROWS: (4, [height]), COUNTS: (4, [16]),
    }  # fmt: skip
    page |= {int(name[1:]): value for name, value in more.items()}
    return {tag: value for tag, value in page.items() if value is not None}


PIXELS = bytes(range(1, 17))


def tiff(*pages: Tags, data: bytes = PIXELS, link: int | None = None) -> Make:
    return lambda: written(pages or [tags()], data, link)


def tiffs_of(array: np.ndarray, **options: Any) -> Make:
    def make() -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, array, **{"metadata": None} | options)
        return buffer.getvalue()

    return make


def loop(n: int) -> Make:
    """n directories, of which the last leads back to the first."""
    return lambda: written([tags()] * n, PIXELS, link=8 + len(PIXELS))


def patched(name: str, at: int, raw: bytes) -> Make:
    def make() -> bytes:
        data = bytearray(seed(name))
        data[at : at + len(raw)] = raw
        return bytes(data)

    return make


def cut(name: str, share: float) -> Make:
    return lambda: seed(name)[: int(len(seed(name)) * share)]


def jpeg_sized(height: int, width: int) -> Make:
    def make() -> bytes:
        data = bytearray(seed("jpeg"))
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
        return bytes(data)

    return make


def gif(width: int, height: int, frames: int, frame: tuple[int, int, int, int] = (0, 0, 1, 1)) -> Make:
    """A GIF of a screen of this size, with so many frames of (left, top, width, height), each in one code."""
    one = b"\x2c" + struct.pack("<HHHH", *frame) + b"\0\2\2\x4c\1\0"
    return lambda: b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + b"\0\0\0\xff\0\0" + one * frames + b";"


def bmp(width: int, height: int, bits: int = 8, compression: int = 0, colours: int = 0, offset: int = 54) -> Make:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, colours, 0)
    return lambda: b"BM" + struct.pack("<IHHI", 100, 0, 0, offset) + head + bytes(range(64))


def ome(text: str) -> Make:
    return tiffs_of(GREY, description=text)


def lzw_bomb() -> bytes:
    """LZW codes that stand for ever longer runs of zeros: 3800 codes for seven million bytes."""
    codes, bits, n_bits = [256, 0, *range(258, 4094)], 0, 0
    out, width, following = bytearray(), 9, 257
    for code in codes:
        bits, n_bits = bits << width | code, n_bits + width
        while n_bits >= 8:
            n_bits -= 8
            out.append(bits >> n_bits & 255)
        following += code != 256
        width = 9 if following < 511 else 10 if following < 1023 else 11 if following < 2047 else 12
    return bytes(out) + bytes(4)


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(9))
    + ']><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Name>&a9;</Name></Image></OME>'
)

OF_PNG: dict[str, Make] = {
    "empty": lambda: b"",
    "its signature alone": lambda: PNG,
    "a text": lambda: b"no image at all\n",
    "a page": lambda: b"<html><body>404</body></html>",
    "no width": png(ihdr(0, 5), idat(b"")),
    "2^31 pixels wide": png(ihdr(2**31 - 1, 1), idat(b"\0\0")),
    "more pixels than atoms": png(ihdr(2**31 - 1, 2**31 - 1), idat(b"\0")),
    "60,000 x 60,000 without pixels": png(ihdr(60_000, 60_000), idat(b"\0")),
    "20,000 x 20,000 without pixels": png(ihdr(20_000, 20_000), idat(b"\0")),
    "a bomb of 400 million pixels": lambda: PNG + ihdr(20_000, 20_000) + _chunk(b"IDAT", bomb(2**28)) + _chunk(b"IEND", b""),
    "of 3 bits": png(ihdr(4, 4, 3), idat(bytes(20))),
    "of colour type 5": png(ihdr(4, 4, 8, 5), idat(bytes(20))),
    "interlaced in a way of its own": png(ihdr(4, 4, interlace=9), idat(b"")),
    "no pixels": png(ihdr(4, 4)),
    "pixels too few": png(ihdr(4, 4), idat(bytes(7))),
    "pixels that do not inflate": png(ihdr(4, 4), _chunk(b"IDAT", b"junk" * 5)),
    "a palette that is missing": png(ihdr(4, 4, 8, 3), idat(bytes(20))),
    "a palette that ends too soon": png(ihdr(4, 4, 8, 3), _chunk(b"PLTE", bytes(9)), idat((b"\0\0\1\2\3") * 4)),
    "no head": png(idat(bytes(20))),
    "half of it": cut("rgb", 0.5),
    "a wrong checksum": patched("png", 40, b"\0\1\2"),
    "animated, a million frames": png(
        ihdr(4, 4), _chunk(b"acTL", struct.pack(">II", 10**6, 0)), _chunk(b"fcTL", bytes(26)), idat(bytes(20))
    ),
    "a filter that there is not": png(ihdr(4, 4), idat((b"\x09" + bytes(4)) * 4)),
    "half transparent": png(ihdr(2, 2, 8, 6), idat(b"\0\1\2\3\4\5\6\7\x80" * 2)),
    "a JPEG": lambda: seed("jpeg"),
    "a TIFF": lambda: seed("strips"),
}
OF_JPEG: dict[str, Make] = {
    "half of it": cut("jpeg", 0.8),
    "its first bytes": cut("jpeg", 0.05),
    "65,535 x 65,535": jpeg_sized(65535, 65535),
    "no height": jpeg_sized(0, 18),
    "markers without end": lambda: b"\xff\xd8" + b"\xff" * 4000,
    "a frame inside a frame": lambda: seed("jpeg")[:2] + seed("jpeg")[2:60] * 3,
    "a GIF": lambda: seed("gif"),
    "a segment longer than the file": patched("jpeg", 4, b"\xff\xff"),
}
OF_GIF: dict[str, Make] = {
    "its head alone": cut("gif", 0.05),
    "a screen of 65,535 x 65,535": gif(65535, 65535, 1),
    "a large screen, 40 frames": gif(20_000, 20_000, 40),
    "cut in its second frame": cut("frames", 0.8),
    "cut behind its first frame": lambda: seed("frames")[: seed("frames").rindex(b"!\xf9\4")],
    "without an end": lambda: seed("gif")[:-1],
    "a frame of 65,535 x 65,535": gif(4, 4, 1, (0, 0, 65535, 65535)),
    "no screen": gif(0, 0, 1, (0, 0, 0, 0)),
    "codes that are none": lambda: gif(8, 8, 1)()[:-5] + b"\xff" * 5 + b";",
    "no frame": gif(8, 8, 0),
    "10,000 frames of 2,000 x 2,000": gif(2000, 2000, 10_000),
    "frames of 4,000 x 4,000 in 11 bytes each": gif(4000, 4000, 1000, (0, 0, 1, 1)),
}
OF_BMP: dict[str, Make] = {
    "2^30 x 2^30": bmp(2**30, 2**30),
    "no width": bmp(0, 4),
    "negative width": bmp(-4, 4),
    "of 7 bits": bmp(4, 4, 7),
    "of no bits": bmp(4, 4, 0),
    "packed in a way of its own": bmp(4, 4, 8, 9),
    "2^31 colours": bmp(4, 4, 8, 0, 2**31),
    "pixels behind the end": bmp(4, 4, 24, 0, 0, 10**6),
    "cut": cut("bmp", 0.9),
    "run lengths that end nowhere": bmp(500, 500, 8, 1, 1),
    "30,000 x 30,000": bmp(30_000, 30_000, 24),
}
OF_TIFF: dict[str, Make] = {
    "empty": lambda: b"",
    "its head alone": lambda: b"II*\0",
    "a head that leads nowhere": lambda: b"II*\0" + struct.pack("<I", 10**6),
    "a head that leads to itself": lambda: b"II*\0\0\0\0\0" + bytes(20),
    "a directory that leads to itself": loop(1),
    "2 directories in a ring": loop(2),
    "3 in a ring": loop(3),
    "100 in a ring": loop(100),
    "101 in a ring": loop(101),
    "1,000 in a ring": loop(1000),
    "65,535 entries": lambda: b"II*\0\10\0\0\0\xff\xff" + bytes(100),
    "no entry": lambda: b"II*\0\10\0\0\0\0\0" + bytes(8),
    "no width": tiff(tags(0, 4)),
    "no height": tiff(tags(4, 0)),
    "2^32 x 2^32": tiff(tags(2**32 - 1, 2**32 - 1)),
    "width is missing": tiff(tags(t256=None)),
    "more pixels than bytes": tiff(tags(400, 400)),
    "no strip": tiff(tags(t273=None, t279=None)),
    "a strip's offset 0": tiff(tags(t273=(4, [0]))),
    "a strip's length 0": tiff(tags(t279=(4, [0]))),
    "a strip cut short": tiff(tags(t279=(4, [5]))),
    "a strip behind the end": tiff(tags(t273=(4, [10**6]))),
    "a strip that ends behind the end": tiff(tags(40, 40, t279=(4, [1600]))),
    "one of two strips is missing": tiff(tags(t278=(4, [2]), t273=(4, [8, 0]), t279=(4, [8, 0]))),
    "one of two strips is not told of": tiff(tags(t278=(4, [2]), t273=(4, [8]), t279=(4, [8]))),
    "tiles of no size": tiff(tags(t322=(4, [0]), t323=(4, [0]), t324=(4, [8]), t325=(4, [16]))),
    "tiles of 2^31": tiff(tags(t322=(4, [2**31]), t323=(4, [2**31]), t324=(4, [8]), t325=(4, [16]), t273=None, t279=None)),
    "a tile is missing": tiff(
        tags(20, 20, t322=(4, [16]), t323=(4, [16]), t324=(4, [8, 8, 8, 0]), t325=(4, [16, 16, 16, 0]), t273=None, t279=None)
    ),
    "a deflated bomb": lambda: written([tags(40_000, 40_000, t259=(3, [8]), t279=(4, [len(bomb(2**28))]))], bomb(2**28)),
    "a deflated strip that holds less": lambda: written(
        [tags(4, 4, t259=(3, [8]), t279=(4, [len(zlib.compress(bytes(7)))]))], zlib.compress(bytes(7))
    ),
    "a deflated strip that does not inflate": tiff(tags(t259=(3, [8]))),
    "an LZW bomb": lambda: written([tags(60_000, 60_000, t259=(3, [5]), t279=(4, [len(lzw_bomb())]))], lzw_bomb()),
    "LZW that is none": tiff(tags(t259=(3, [5])), data=b"\xff" * 16),
    "run lengths that say more": tiff(tags(40_000, 40_000, t259=(3, [32773])), data=b"\x81\0" * 8),
    "packed in a way of its own": tiff(tags(t259=(3, [65000]))),
    "WebP": tiff(tags(t259=(3, [50001]))),
    "JPEG without tables": tiff(tags(t259=(3, [7]))),
    "of no bits": tiff(tags(t258=(3, [0]))),
    "of 65,535 bits": tiff(tags(t258=(3, [65535]))),
    "of 128 bits": tiff(tags(2, 1, t258=(3, [128]), t339=(3, [3]))),
    "complex numbers": tiff(tags(2, 1, t258=(3, [64]), t339=(3, [6]))),
    "65,535 samples a pixel": tiff(tags(t277=(3, [65535]))),
    "a palette that is missing": tiff(tags(t262=(3, [3]))),
    "a facsimile that is none": tiff(tags(t258=(3, [1]), t259=(3, [4])), data=b"\x00\xff" * 8),
    "a facsimile that is cut": tiff(tags(400, 400, t258=(3, [1]), t259=(3, [4])), data=b"\xff" * 16),
    "JPEG with tables that are none": tiff(tags(t259=(3, [7]), t347=(7, b"\xff\xd9" * 4))),
    "planes in a way of their own": tiff(tags(t284=(3, [0]))),
    "a kind of page in fractions": tiff(tags(t254=(5, [1]))),
    "a width in text": tiff(tags(t256=(2, b"4\0"))),
    "two widths": tiff(tags(t256=(4, [4, 4]))),
    "colours that there are not": tiff(tags(t262=(3, [1234]))),
    "a predictor that there is not": tiff(tags(t317=(3, [77]))),
    "a tag whose values lie behind the end": lambda: written([tags(t258=(3, [8, 8, 8]))], PIXELS)[:-6],
    "a type that there is not": lambda: written([tags()], PIXELS).replace(
        struct.pack("<HHI", 256, 4, 1), struct.pack("<HHI", 256, 99, 1)
    ),
    "two billion values": lambda: written([tags()], PIXELS).replace(
        struct.pack("<HHI", 273, 4, 1), struct.pack("<HHI", 273, 4, 2**31)
    ),
    "10,000 pages of nothing": tiff(*[tags(4, 0)] * 10_000),
    "NaN": tiffs_of(np.full((4, 4), np.nan, np.float32)),
    "an infinity": tiffs_of(np.full((4, 4), -np.inf)),
    "OME of a file beside": ome(OME_OF_TWO_FILES),
    "OME of a file above": ome(OME_OF_TWO_FILES.replace("secret.tif", "../secret.tif")),
    "OME of a billion planes": ome(OME_OF_TWO_FILES.replace('SizeZ="2"', 'SizeZ="1000000000"')),
    "BigTIFF that leads behind the end": lambda: b"II+\0\10\0\0\0" + struct.pack("<Q", 2**63),
    "BigTIFF of 2^63 entries": lambda: b"II+\0\10\0\0\0" + struct.pack("<QQ", 16, 2**63) + bytes(40),
    "a PNG": lambda: seed("png"),
}
EITHER_WAY: dict[str, tuple[str, Make]] = {
    "png: without an end": (".png", lambda: seed("png")[:-12]),
    "png: zeros behind its end": (".png", lambda: seed("png") + bytes(1000)),
    "jpeg: zeros behind its end": (".jpg", lambda: seed("jpeg") + bytes(99)),
    "tif: text of control characters": (".tif", lambda: tiffs_of(GREY, description="\x1b]0;x\x07")()),
    "tif: XML that laughs a billion times": (".tif", lambda: ome(LAUGHS)()),
    "tif: JSON of another shape": (".tif", lambda: tiffs_of(GREY, description=json.dumps({"shape": [10**6, 10**6]}))()),
    "tif: JSON without end": (".tif", lambda: tiffs_of(GREY, description='{"shape": ' + "[" * 5000)()),
}


# What some readers take, and none is harmed by.
UNHARMED: dict[str, tuple[str, Make]] = {
    "tif: LSM's tag": (".tif", tiff(tags(t34412=(1, bytes(40))))),
    "tif: 100,000 strips in the same bytes": (
        ".tif",
        tiff(tags(4, 10**5, t278=(4, [1]), t273=(4, [8] * 10**5), t279=(4, [4] * 10**5))),
    ),
    "tif: a deflated strip that holds more": (
        ".tif",
        lambda: written([tags(4, 4, t259=(3, [8]), t279=(4, [len(bomb(2**27))]))], bomb(2**27)),
    ),
    "tif: of 7 bits": (".tif", tiff(tags(t258=(3, [7])))),
    "tif: no samples": (".tif", tiff(tags(t277=(3, [0])))),
    "tif: a palette of 3 colours": (".tif", tiff(tags(t262=(3, [3]), t320=(3, [0] * 9)))),
    "tif: directories inside in a ring": (".tif", tiff(tags(t330=(4, [24])))),
    "tif: ImageJ of a billion images": (
        ".tif",
        tiffs_of(GREY, description="ImageJ=1.11a\nimages=1000000000\nslices=1000000000\n"),
    ),
    "jpg: without tables": (".jpg", lambda: seed("jpeg").replace(b"\xff\xc4", b"\xff\xfe")),
}


def recipes() -> list[Recipe]:
    """Return all of them."""
    groups = {".png": OF_PNG, ".jpg": OF_JPEG, ".gif": OF_GIF, ".bmp": OF_BMP, ".tif": OF_TIFF}
    made = [
        Recipe("image", f"{ending[1:]}: {name}", content(make), REFUSED, ending)
        for ending, group in groups.items()
        for name, make in group.items()
    ]
    made += [Recipe("image", name, content(make), EITHER, ending) for name, (ending, make) in EITHER_WAY.items()]
    made += [Recipe("image", name, content(make), HARMLESS, ending) for name, (ending, make) in UNHARMED.items()]
    made += [Recipe("image", f"{ending[1:]}: sound", content(lambda e=ending: SOUND[e]()), SAME, ending) for ending in SOUND]  # type: ignore[misc]
    made.append(Recipe("image", "txt: an image by no image's name", content(SOUND[".png"]), REFUSED, ".txt"))
    return made + places("image", ".png") + places("image", ".tif")


SOUND: dict[str, Make] = {
    ending: lambda n=name: seed(n)
    for ending, name in ((".png", "png"), (".gif", "gif"), (".bmp", "bmp"), (".tif", "strips"), (".jpg", "jpeg"))
}  # type: ignore[misc]
