"""Image files, small and sound ones of each kind, and what is done to them."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import tifffile
from fuzz import tiffparts
from fuzz.damage import damaged, put_integer
from fuzz.source import Source
from PIL import Image

ENDINGS = (".png", ".tif", ".jpg", ".gif", ".bmp", ".tiff", ".jpeg", ".PNG", ".txt", "")
SECRET = 77  # the pixels of a file beside, which no image may show

GREY = (np.arange(20 * 18, dtype=np.uint8).reshape(20, 18) % 200 + 30).astype(np.uint8)  # no pixel is 0
FLOATS = GREY.astype(np.float32) / 7
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


class Seed(NamedTuple):
    name: str
    ending: str
    data: bytes


@cache
def seeds() -> tuple[Seed, ...]:
    """Return sound images, a few hundred bytes each."""
    grey, rgb = Image.fromarray(GREY), Image.fromarray(COLOUR)
    palette = rgb.quantize(7)
    frames = {"save_all": True, "append_images": [Image.fromarray(GREY[::-1].copy())]}
    pillow: list[tuple[str, str, Image.Image, dict[str, Any]]] = [
        ("png", ".png", grey, {}), ("rgb", ".png", rgb, {}), ("palette", ".png", palette, {}),
        ("bits", ".png", grey.convert("1"), {}),
        ("deep", ".png", Image.fromarray(GREY.astype(np.uint16) * 200), {}), ("alpha", ".png", rgb.convert("RGBA"), {}),
        ("apng", ".png", grey, frames), ("jpeg", ".jpg", grey, {}), ("progressive", ".jpg", rgb, {"progressive": True}),
        ("cmyk", ".jpg", rgb.convert("CMYK"), {}), ("gif", ".gif", palette, {}), ("frames", ".gif", grey, frames),
        ("bmp", ".bmp", grey, {}), ("bmp24", ".bmp", rgb, {}), ("bmp1", ".bmp", grey.convert("1"), {}),
        ("lzw", ".tif", grey, {"compression": "tiff_lzw"}), ("tiffpalette", ".tif", palette, {}),
        ("group4", ".tif", grey.convert("1"), {"compression": "group4"}), ("tiffjpeg", ".tif", rgb, {"compression": "jpeg"}),
        ("packbits", ".tif", rgb, {"compression": "packbits"}), ("pages", ".tif", grey, frames),
    ]  # fmt: skip
    found = [Seed(name, ending, _saved(image, ending, options)) for name, ending, image, options in pillow]
    exif = Image.Exif()
    exif[274] = 8
    found.append(Seed("turned", ".png", _saved(rgb, ".png", {"exif": exif, "dpi": (50800, 25400)})))
    with_mask = io.BytesIO()
    with tifffile.TiffWriter(with_mask) as writer:
        writer.write(GREY, metadata=None, software="")
        writer.write(GREY > 60, metadata=None, software="", subfiletype=4)
    found.append(Seed("masked", ".tif", with_mask.getvalue()))
    return (*found, *(Seed(name, ".tif", _tiff(array, options)) for name, array, options in _tiffs()))


def _tiffs() -> list[tuple[str, np.ndarray, dict[str, Any]]]:
    deep, stack = GREY.astype(np.uint16) * 200, np.stack([GREY, GREY[::-1], GREY])
    plain: dict[str, Any] = {"metadata": None, "software": ""}
    nodata = str(float(FLOATS[0, 0]))  # which a pixel has
    return [
        ("strips", GREY, {"rowsperstrip": 4} | plain), ("tiles", GREY, {"tile": (16, 16)} | plain),
        ("planes", np.moveaxis(COLOUR, -1, 0), {"planarconfig": "separate", "photometric": "rgb"} | plain),
        ("deflate", deep, {"compression": "zlib", "predictor": True, "rowsperstrip": 8} | plain),
        ("tileddeflate", COLOUR, {"compression": "zlib", "tile": (16, 16), "photometric": "rgb"} | plain),
        ("big-endian", deep, {"byteorder": ">"} | plain),
        ("bigtiff", FLOATS, {"bigtiff": True, "rowsperstrip": 5} | plain),
        ("imagej", stack, {"imagej": True, "photometric": "minisblack"}),
        ("shaped", stack, {"photometric": "minisblack"}),
        ("ome", stack, {"ome": True, "photometric": "minisblack", "metadata": {"axes": "ZYX"}}),
        ("white", GREY, {"photometric": "miniswhite", "resolution": (1e4, 1e4), "resolutionunit": 3} | plain),
        ("nodata", GREY, {"extratags": [(42113, "s", 3, "77", True), (274, "H", 1, 6, True)]} | plain),
        ("map", FLOATS, {"extratags": [(42113, "s", len(nodata) + 1, nodata, True), (33550, "d", 3, (1, 1, 0), True)]} | plain),
        ("other file", GREY, {"description": OME_OF_TWO_FILES, "metadata": None}), ("bool", GREY > 128, plain),
    ]  # fmt: skip


OME_OF_TWO_FILES = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:a"><Image ID="Image:0">'
    '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="18" SizeY="20" SizeZ="2" SizeC="1" SizeT="1">'
    '<TiffData IFD="0" FirstZ="0" PlaneCount="1"><UUID FileName="fuzz.tif">urn:uuid:a</UUID></TiffData>'
    '<TiffData IFD="0" FirstZ="1" PlaneCount="1"><UUID FileName="secret.tif">urn:uuid:b</UUID></TiffData></Pixels></Image></OME>'
)


def secret() -> bytes:
    """Return the file that OME_OF_TWO_FILES names besides."""
    return _tiff(np.full_like(GREY, SECRET), {"metadata": None})


def _saved(image: Image.Image, ending: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, {".jpg": "JPEG", ".tif": "TIFF"}.get(ending, ending[1:].upper()), **options)
    return buffer.getvalue()


def _tiff(array: np.ndarray, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


class Case(NamedTuple):
    """A damaged file, and what holds of it: `same`, that it is refused or shows what the seed shows."""

    seed: Seed
    ending: str
    data: bytes
    same: bool


def mutated(source: Source) -> Case:
    """Return a case."""
    seed = source.choice(seeds())
    ending = source.choice(ENDINGS) if source.once_in(16) else seed.ending
    kind, data = source.below(9), seed.data
    if kind == 0:
        return Case(seed, ending, data, True)
    if kind == 1:
        return Case(seed, ending, data[: source.below(len(data))], True)
    if kind == 2 and seed.ending == ".tif":
        return Case(seed, ending, tiffparts.without_a_part(data, source), True)
    if kind == 3:
        return Case(seed, ending, source.rest(), False)
    if kind == 4:
        return Case(seed, ending, damaged(data, source, [s.data for s in seeds()]), False)
    if kind == 8 and seed.name == "bigtiff":
        return Case(seed, ending, with_a_strange_float(data, source), False)
    return Case(seed, ending, EDITS[seed.ending](data, source), False)


def with_a_strange_float(data: bytes, source: Source) -> bytes:
    """Return the file of floats with one of them replaced: chance alone makes no NaN of its bits."""
    pixels = FLOATS.copy()
    pixels.flat[source.below(pixels.size)] = source.choice((np.nan, np.inf, -np.inf, -0.0, 1e-45, 3e38))
    return data.replace(FLOATS.tobytes(), pixels.tobytes())


def edited_png(data: bytes, source: Source) -> bytes:
    """Change a PNG's chunks, and set their checksums right."""
    chunks, at = [], 8
    while at < len(data):
        (n,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], bytearray(data[at + 8 : at + 8 + n])))
        at += 12 + n
    for _ in range(source.between(1, 3)):
        i, kind = source.below(len(chunks)), source.below(7)
        name, content = chunks[i]
        if kind <= 1:
            put_integer(
                chunks[0][1], *source.choice(((0, 4), (4, 4), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1))), source.edge(), "big"
            )
        elif kind == 2 and len(chunks) > 1:
            del chunks[i]
        elif kind == 3:
            chunks.insert(source.below(len(chunks) + 1), (name, bytearray(content)))
        elif kind == 4 and content:
            content[source.below(len(content))] ^= 1 << source.below(8)
        elif kind == 5:
            pixels = zlib.compress(bytes(source.choice((0, 1, 10, 379, 380, 381, 5000, 10**6))))
            chunks[i] = (name, bytearray(pixels))
        else:
            new = source.choice(
                (b"tRNS", b"PLTE", b"IDAT", b"acTL", b"fcTL", b"fdAT", b"iCCP", b"zTXt", b"iTXt", b"tEXt", b"gAMA", b"eXIf")
            )
            chunks.insert(source.below(len(chunks) + 1), (new, bytearray(source.take(source.below(30)))))
    return data[:8] + b"".join(_chunk(name, bytes(content)) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def edited_jpeg(data: bytes, source: Source) -> bytes:
    """Change a JPEG's segments."""
    segments, at = [], 2
    while data[at + 1] != 0xDA:
        n = int.from_bytes(data[at + 2 : at + 4], "big")
        segments.append(bytearray(data[at : at + 2 + n]))
        at += 2 + n
    rest = data[at:]
    for _ in range(source.between(1, 3)):
        i, kind = source.below(len(segments)), source.below(6)
        if kind <= 2:
            put_integer(segments[i], source.below(len(segments[i])), source.choice((1, 2)), source.edge(), "big")
        elif kind == 3 and len(segments) > 1:
            del segments[i]
        elif kind == 4:
            segments.insert(source.below(len(segments) + 1), bytearray(segments[i]))
        else:
            segments[i][1] = source.choice((0xC0, 0xC1, 0xC2, 0xC4, 0xC9, 0xD8, 0xD9, 0xDB, 0xDD, 0xE1, 0xE2, 0xEE, 0xFE))
    return data[:2] + b"".join(map(bytes, segments)) + rest


def edited_gif(data: bytes, source: Source) -> bytes:
    """Change a GIF's sizes, or write its frames several times."""
    result = bytearray(data)
    frames = [i for i in range(13, len(data)) if data[i] == 0x2C and data[i + 1 : i + 5] == bytes(4)]
    for _ in range(source.between(1, 3)):
        frame, kind = source.choice(frames or [13]), source.below(5)
        if kind <= 2:
            put_integer(
                result,
                source.choice((6, 8, 10, frame + 1, frame + 3, frame + 5, frame + 7, frame + 9)),
                2,
                source.edge(),
                "little",
            )
        elif kind == 3:
            result[-1:-1] = data[frame:-1] * source.choice((1, 2, 10, 50))
        else:
            put_integer(result, frame + 10, 1, source.edge(), "little")
    return bytes(result)


def edited_bmp(data: bytes, source: Source) -> bytes:
    """Change the numbers of a BMP's header."""
    result = bytearray(data)
    for _ in range(source.between(1, 3)):
        at = source.choice((2, 10, 14, 18, 22, 26, 28, 30, 34, 46, 50))
        put_integer(result, at, 2 if at in (26, 28) else 4, source.edge(), "little")
    return bytes(result)


EDITS = {".png": edited_png, ".jpg": edited_jpeg, ".gif": edited_gif, ".bmp": edited_bmp, ".tif": tiffparts.edited}
