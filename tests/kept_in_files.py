"""One picture that has no symmetry, and the ways in which files hold it."""

from __future__ import annotations

import numpy as np
import tifffile
from PIL import Image

RNG = np.random.default_rng(20)
H, W = 37, 22  # no side is the other's, nor a multiple of a tile's
GREY = RNG.permutation(H * W).reshape(H, W).astype(np.uint8)
RGB = np.stack([GREY, GREY[::-1] // 2, RNG.integers(0, 60, (H, W), np.uint8)], axis=2)
DEEP = (RNG.permutation(H * W).reshape(H, W) * 80 + 7).astype(np.uint16)  # no two pixels alike, and both bytes of each
BITS = RNG.random((H, W)) < 0.3
LABELS = RNG.choice(np.array([0, 3, 7, 200], np.uint8), (H, W))
STACK = np.stack([DEEP, DEEP[::-1] + 1, DEEP[:, ::-1] + 2])


def turned(upright, orientation):
    """Return what a file stores of a picture under an orientation: row 0 and column 0 are at the sides that EXIF says.

    EXIF 2.32, table 6: 1 top left, 2 top right, 3 bottom right, 4 bottom left, 5 left top, 6 right top, 7 right bottom, 8 left
    bottom; from 5 on, stored rows are columns of what is seen.
    """
    is_sideways, from_the_bottom, from_the_right = orientation > 4, orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    seen = upright[::-1] if from_the_bottom else upright
    seen = seen[:, ::-1] if from_the_right else seen
    return np.ascontiguousarray(seen.swapaxes(0, 1) if is_sideways else seen)


def _pillow(pixels, ending, mode=None, orientation=None, **options):
    def write(path):
        exif = Image.Exif()
        exif[274] = orientation or 1
        image = Image.fromarray(turned(pixels, orientation or 1))
        image = image if mode is None else image.convert(mode)
        image.save(path.with_suffix(ending), **({"exif": exif} if orientation else {}), **options)

    return write


def _tiff(pixels, **options):
    return lambda path: tifffile.imwrite(path.with_suffix(".tif"), pixels, **options)


def _palette(ending):
    """Write RGB colours, 200 of them, by their numbers in a palette that is in no order."""

    def write(path):
        image = Image.fromarray(NUMBERS).convert("P")
        image.putpalette(COLOURS.ravel().tolist())
        image.save(path.with_suffix(ending))

    return write


NUMBERS = (GREY % 200).astype(np.uint8)
COLOURS = RNG.integers(0, 256, (256, 3), np.uint8)
PLANES = np.ascontiguousarray(np.moveaxis(RGB, -1, 0))
GREYS = {"photometric": "minisblack"}
PLANAR = {"photometric": "rgb", "planarconfig": "separate"}
DEEP_RGB = RGB.astype(np.uint16) * 200 + 3

# How each is written to a path that lacks its ending, and the pages that are to be read.
WAYS = {
    "grey PNG": (_pillow(GREY, ".png"), [GREY]),
    "colour PNG": (_pillow(RGB, ".png"), [RGB]),
    "opaque RGBA PNG": (_pillow(RGB, ".png", "RGBA"), [RGB]),
    "opaque LA PNG": (_pillow(GREY, ".png", "LA"), [GREY]),
    "16-bit PNG": (_pillow(DEEP, ".png"), [DEEP]),
    "bilevel PNG": (_pillow(BITS, ".png"), [BITS]),
    "bilevel TIFF": (_pillow(BITS, ".tif", compression="group4"), [BITS]),
    "palette PNG": (_palette(".png"), [COLOURS[NUMBERS]]),
    "palette TIFF": (_palette(".tif"), [COLOURS[NUMBERS]]),
    "palette BMP": (_palette(".bmp"), [COLOURS[NUMBERS]]),
    "colour BMP": (_pillow(RGB, ".bmp"), [RGB]),
    **{f"EXIF {n} PNG": (_pillow(RGB, ".png", orientation=n), [RGB]) for n in range(2, 9)},
    **{f"EXIF {n} TIFF": (_pillow(RGB, ".tif", orientation=n), [RGB]) for n in range(2, 9)},
    "planar TIFF": (_tiff(PLANES, **PLANAR), [RGB]),
    "planar 16-bit big-endian TIFF": (_tiff(np.moveaxis(DEEP_RGB, -1, 0), byteorder=">", **PLANAR), [DEEP_RGB]),
    "planar tiled TIFF": (_tiff(PLANES, tile=(16, 16), compression="zlib", predictor=True, **PLANAR), [RGB]),
    "big-endian TIFF": (_tiff(DEEP, byteorder=">", **GREYS), [DEEP]),
    "tiled big-endian TIFF": (_tiff(DEEP, byteorder=">", tile=(16, 32), compression="zlib", **GREYS), [DEEP]),
    "TIFF in strips": (_tiff(DEEP_RGB, photometric="rgb", rowsperstrip=5), [DEEP_RGB]),
    "pages of a TIFF": (_tiff(STACK, **GREYS), list(STACK)),
    "planar pages of a TIFF": (_tiff(np.stack([PLANES, PLANES[:, ::-1]]), **PLANAR), [RGB, RGB[::-1]]),
    "channels of ImageJ": (
        _tiff(np.stack([STACK[:2], STACK[1:]]), imagej=True, metadata={"axes": "ZCYX"}),
        [np.moveaxis(STACK[:2], 0, -1), np.moveaxis(STACK[1:], 0, -1)],
    ),
    "signed TIFF": (_tiff(DEEP.astype(np.int16) - 9000, **GREYS), [DEEP.astype(np.int16) - 9000]),
    "floats of a TIFF": (_tiff(DEEP / np.float32(-7), **GREYS), [DEEP / np.float32(-7)]),
}
