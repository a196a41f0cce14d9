"""How large a pixel is on the specimen or on the ground, as a file tells it: (of its rows, of its columns), in micrometres.

Of a file's resolution only what is meant counts: OME's, ImageJ's, Aperio's and GeoTIFF's sizes, and resolutions beyond
those of screens, printers and scanners, which programs write into files without being asked.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable
from typing import Any

from .tiffmap import DESCRIPTION, GEO_KEYS, PIXEL_SCALE, RESOLUTION_UNIT, X_RESOLUTION, Y_RESOLUTION, Directory

Size = tuple[float, float]

UNITS = {  # in micrometres
    "pm": 1e-6, "å": 1e-4, "angstrom": 1e-4, "nm": 1e-3, "nanometer": 1e-3, "µm": 1, "um": 1, "micron": 1, "microns": 1,
    "micrometer": 1, "micrometre": 1, "mm": 1e3, "millimeter": 1e3, "cm": 1e4, "m": 1e6, "meter": 1e6, "km": 1e9,
}  # fmt: skip
PRINTED = {"inch": 25400.0, "inches": 25400.0, "in": 25400.0, "cm": 1e4}  # units in which a resolution is often nobody's word
NONE, INCH, CENTIMETRE = 1, 2, 3  # of a TIFF's ResolutionUnit
LARGEST_PRINTED = 21.0  # micrometres: 1200 dots an inch have 21.2, and 72, which programs write unasked, 353
LEAST, MOST = 1e-5, 1e10  # micrometres: below an atom's size, and 10 km
GEO_MODEL, GEO_UNIT, PROJECTED = 1024, 3076, 1
GEO_UNITS = {9001: 1e6, 9002: 0.3048e6, 9003: 0.3048006096e6}  # metre, foot, foot of the US survey
FACTOR = 1.5  # between two sizes at which things look different to a model


def of_tiff(page: Directory) -> Size | None:
    """Return the pixel size that a TIFF's first page tells, as stored; None where it tells none."""
    text = page.text(DESCRIPTION)
    if "OME>" in text[-64:]:
        found = _ome(text)
    elif text.startswith("ImageJ="):
        found = _imagej(text, page)
    elif text.startswith("Aperio") and (said := re.search(r"\bMPP = ([0-9.]{1,20})", text)):
        found = _size(said[1], said[1], 1)
    else:
        found = _geo(page)
    return found or _resolution(page)


def of_pillow(info: dict[Any, Any]) -> Size | None:
    """Return the pixel size of a PNG, JPEG or BMP as Pillow tells its resolution: in dots an inch, across and down."""
    try:
        across, down = info.get("dpi", (0, 0))
    except (TypeError, ValueError):
        return None
    return _printed(_inverse(down), _inverse(across), PRINTED["inch"])


def mean(size: Size) -> float:
    """Return the side of a square pixel of the same area."""
    return math.sqrt(size[0] * size[1])


def common(sizes: Iterable[Size | None]) -> float | None:
    """Return the one pixel size of several images; None where one is unknown, or they differ by the FACTOR."""
    found = [mean(size) if size else None for size in sizes]
    known = sorted(size for size in found if size is not None)
    if not known or len(known) < len(found) or differ(known[0], known[-1]):
        return None
    return known[len(known) // 2]


def differ(a: float, b: float) -> bool:
    """Tell whether what is learned at one pixel size may fail at the other."""
    return max(a, b) >= FACTOR * min(a, b) * (1 - 1e-6)


def mismatch(size: Size | None, trained: float | None) -> str | None:
    """Return what is to be said of an image for a model trained at another pixel size; None where it is the same, or unknown."""
    if size is None or trained is None or not differ(mean(size), trained):
        return None
    return (
        f"its pixels are of {told_size(mean(size))}, the model was trained on pixels of {told_size(trained)}, and knows things "
        f"by their size in pixels; rescale the image by {mean(size) / trained:.3g} first"
    )


def told_size(size: float) -> str:
    """Return a length in micrometres for people, in ASCII."""
    value, unit = next(((size / n, unit) for n, unit in ((1e6, "m"), (1e3, "mm")) if size >= n), (size, "micrometres"))
    return f"{value:.3g} {unit}"


def _size(y: Any, x: Any, unit: float) -> Size | None:
    """Return both sides in micrometres; None where one is no number, or can be no pixel's."""
    try:
        sides = float(y) * unit, float(x) * unit
    except (TypeError, ValueError, OverflowError):
        return None
    return sides if all(LEAST <= side <= MOST for side in sides) else None


def _printed(y: float, x: float, unit: float) -> Size | None:
    """Return a size that is given as a resolution in inches or centimetres, if it is finer than those of paper."""
    found = _size(y, x, unit)
    return found if found and max(found) < LARGEST_PRINTED else None


def _inverse(value: Any) -> float:
    try:
        return 1 / float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return math.nan


def _ome(text: str) -> Size | None:
    """Return what all of an OME description's images have; None where they differ."""
    found = set()
    for element in re.findall(r"<(?:\w{1,20}:)?Pixels\s([^<>]{0,10000})>", text):
        pairs = re.findall(r"(PhysicalSize\w{1,10})\s*=\s*[\"']([^\"']{0,50})", element)
        said = {name: html.unescape(value) for name, value in pairs}
        y, x = (said.get(f"PhysicalSize{axis}", said.get("PhysicalSizeX")) for axis in "YX")
        units = [_unit(said.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "YX"]
        sides = [_size(value, value, unit or 0) for value, unit in zip((y, x), units, strict=True)]
        found.add((sides[0][0], sides[1][0]) if sides[0] and sides[1] else None)
    return found.pop() if len(found) == 1 else None


def _unit(name: str) -> float | None:
    name = name.strip().lower().replace("\\u00b5", "µ").replace("\u03bc", "µ")  # ImageJ's escape, and the Greek letter
    return UNITS.get(name)


def _imagej(text: str, page: Directory) -> Size | None:
    """ImageJ gives pixels a unit as the resolution, and the unit in its description."""
    said = re.search(r"^unit=(.{1,50})$", text, re.MULTILINE)
    name = said[1].strip().lower() if said else "pixel"
    y, x = (_inverse(next(iter(page.floats(code)), 0)) for code in (Y_RESOLUTION, X_RESOLUTION))
    if name in PRINTED:
        return _printed(y, x, PRINTED[name])
    return _size(y, x, _unit(name) or 0)


def _geo(page: Directory) -> Size | None:
    """Return a GeoTIFF's scale where its coordinates are lengths; degrees have no one length."""
    scale, keys = page.floats(PIXEL_SCALE), page.numbers(GEO_KEYS)
    if len(scale) < 2 or keys is None:
        return None
    known = {int(key): int(value) for key, place, _, value in keys[4 : len(keys) // 4 * 4].reshape(-1, 4) if place == 0}
    unit = GEO_UNITS.get(known.get(GEO_UNIT, 9001))
    return _size(scale[1], scale[0], unit) if unit and known.get(GEO_MODEL) == PROJECTED else None


def _resolution(page: Directory) -> Size | None:
    unit = {INCH: PRINTED["inch"], CENTIMETRE: PRINTED["cm"]}.get(page.number(RESOLUTION_UNIT, INCH))
    y, x = (_inverse(next(iter(page.floats(code)), 0)) for code in (Y_RESOLUTION, X_RESOLUTION))
    return _printed(y, x, unit) if unit else None
