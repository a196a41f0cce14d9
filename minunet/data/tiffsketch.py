"""A TIFF's directories written anew, for tifffile and Pillow: they see what was checked, never the file that it came from.

tifffile knows what the axes of a stack are (ImageJ's, OME's, its own), how the numbers of a page are packed, and how to find
other files by names that this one gives. A sketch has the directories that `tiffmap` read and no pixels; there is nothing in
it that leads elsewhere. The metadata that tifffile reads counts from are looked through first.
"""

from __future__ import annotations

import importlib.util
import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import tifffile

from ..text import shown, told
from .refusal import ImageFileError
from .tiffmap import DESCRIPTION, SAID, SUBIFDS, Directory, Layout, Map, Tag

KINDS = {"shaped", "imagej", "ome", "fluoview", "qpi", "svs", "uniform"}  # whose axes are read; no others' private structures are
MAX_ELEMENTS = 2**18  # of an OME description: some 4 a plane
MAX_DEPTH = 64
MAX_PLANES = 2**20  # that an OME description may count to


class Sketch(io.BytesIO):
    """A file with directories and no pixels, which is as long as the file that has them."""

    def __init__(self, content: bytes, size: int) -> None:
        super().__init__(content)
        self.size = max(size, len(content))

    def seek(self, offset: int, whence: int = 0) -> int:
        return super().seek(offset + self.size if whence == 2 else offset, 0 if whence == 2 else whence)


def open_sketch(found: Map, path: Path) -> tuple[Any, dict[int, Directory]]:
    """Return a TiffFile of the file's directories, and by their places in it which each is."""
    _require_sound_metadata(found, path)
    content, places = write(found.layout, found.pages)
    return tifffile.TiffFile(Sketch(content, found.size), name=path.name, _multifile=False, **_denied(KINDS)), places


def open_page(file: io.BytesIO) -> Any:
    """Return the TiffPage of a TIFF that `with_pixels` made: for its way to unpack numbers."""
    return tifffile.TiffFile(file, _multifile=False, **_denied({"uniform"})).pages[0]


def has_codecs() -> bool:
    """Tell whether someone has imagecodecs: nobody needs it for what microscopes write, but for JPEG 2000 and the like."""
    return importlib.util.find_spec("imagecodecs") is not None


def _denied(kinds: set[str]) -> dict[str, Any]:
    """Return flags by which tifffile takes a file for none of the others. Some are fixed: those ask for tags we leave out."""
    others = sorted(set(tifffile.TIFF.FILE_FLAGS) - kinds)
    return {f"is_{kind}": False for kind in others if not isinstance(getattr(tifffile.TiffFile, f"is_{kind}", None), property)}


def with_pixels(directory: Directory, segments: Sequence[bytes], offsets: int, counts: int) -> io.BytesIO:
    """Return a whole TIFF of one page in memory; offsets and counts are the codes of the tags that place its segments."""
    order, n = directory.layout.order, len(segments)
    sizes = np.array([len(segment) for segment in segments], np.int64)
    tags = {code: tag for code, tag in directory.tags.items() if code != DESCRIPTION and code < 2**16}
    tags[counts] = Tag(16, n, sizes.astype(order + "u8").tobytes())
    tags[offsets] = Tag(16, n, bytes(8 * n))
    start = len(write(directory.layout, [directory._replace(tags=tags)])[0])
    starts = start + np.concatenate([[0], np.cumsum(sizes)[:-1]])
    tags[offsets] = Tag(16, n, starts.astype(order + "u8").tobytes())
    content, _ = write(directory.layout, [directory._replace(tags=tags)])
    return io.BytesIO(b"".join([content, *segments]))


def write(layout: Layout, pages: Sequence[Directory]) -> tuple[bytes, dict[int, Directory]]:
    """Return a BigTIFF of the directories, and where in it each lies; what lies below them is left out.

    The first comes last: tifffile takes a stack whose second directory lies behind so many bytes as the stack has for one
    block of pixels, and is not to guess here.
    """
    order = layout.order
    places: dict[int, Directory] = {}
    position = 16
    for directory in [*pages[1:], *pages[:1]]:
        places[position] = directory
        position += _length(directory)
    starts = [*list(places)[-1:], *list(places)[:-1]]
    chunks = [(b"II" if order == "<" else b"MM") + struct.pack(order + "HHHQ", 43, 8, 0, starts[0] if pages else 0)]
    following = dict(zip(starts, [*starts[1:], 0], strict=True))
    chunks += [_content(directory, place, following[place]) for place, directory in places.items()]
    return b"".join(chunks), places


def _tags(directory: Directory) -> list[tuple[int, Tag]]:
    """Return the tags that tifffile needs, in the order of their codes."""
    tags = {code: tag for code, tag in directory.tags.items() if code not in (SUBIFDS, *SAID) and (tag.raw or not tag.n)}
    return sorted(tags.items(), key=lambda item: (item[0] % 2**16, item[0]))


def _length(directory: Directory) -> int:
    tags = _tags(directory)
    return 16 + 20 * len(tags) + sum(-(-len(tag.raw) // 8) * 8 for _, tag in tags if len(tag.raw) > 8)


def _content(directory: Directory, position: int, following: int) -> bytes:
    order, tags = directory.layout.order, _tags(directory)
    head, values = [struct.pack(order + "Q", len(tags))], []
    place = position + 16 + 20 * len(tags)
    for code, tag in tags:
        if len(tag.raw) > 8:
            value = struct.pack(order + "Q", place)
            values.append(tag.raw.ljust(-(-len(tag.raw) // 8) * 8, b"\0"))
            place += len(values[-1])
        else:
            value = tag.raw.ljust(8, b"\0")
        head.append(struct.pack(order + "HHQ8s", code % 2**16, tag.type, tag.n, value))
    return b"".join([*head, struct.pack(order + "Q", following), *values])


def _require_sound_metadata(found: Map, path: Path) -> None:
    """Refuse an OME description that names other files, or counts to what would take memory; change nothing else."""
    tag = found.pages[0].tags.get(DESCRIPTION) if found.pages else None
    if tag is None or tag.type != 2:
        return
    raw = tag.raw.rstrip(b"\0")
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError:
        text = raw.decode("cp1252", "replace").strip()
    if "OME>" not in text[-64:]:
        return
    reader = _Ome(path, len(found.pages))
    try:
        reader.parser.Parse(text, True)
    except expat.ExpatError:
        pass  # no XML: then tifffile reads no axes from it, either


class _Ome:
    """One look through an OME description, element after element, keeping nothing."""

    def __init__(self, path: Path, n_pages: int) -> None:
        self.path, self.n_pages = path, n_pages
        self.n_elements = self.depth = self.n_planes = 0
        self.root: str | None = None
        self.file_name: str | None = None
        self.text: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        self.parser.StartDoctypeDeclHandler = self.doctype

    def doctype(self, *_: Any) -> None:
        raise self.refusal("defines a document type or entities, which no OME description has")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        self.n_elements += 1
        self.depth += 1
        if self.n_elements > MAX_ELEMENTS or self.depth > MAX_DEPTH:
            raise self.refusal(f"has more than {MAX_ELEMENTS:,} elements, or {MAX_DEPTH} inside each other")
        if self.n_elements == 1:
            self.root = attributes.get("UUID")
        if name == "BinaryOnly":
            raise self.others(attributes.get("MetadataFile", "another file"))
        if name == "UUID":
            self.file_name, self.text = attributes.get("FileName"), []
        elif name == "Pixels":
            self.count([attributes.get(f"Size{axis}", "1") for axis in "ZCT"])
        elif name == "TiffData":
            number = attributes.get("PlaneCount", attributes.get("NumPlanes", "1" if "IFD" in attributes else "0"))
            self.n_planes += self.count([number]) or self.n_pages
            if self.n_planes > MAX_PLANES:
                raise self.refusal(f"counts more than {MAX_PLANES:,} planes")
        elif name[:-1].endswith("Along"):
            self.along(attributes)

    def end(self, tag: str) -> None:
        self.depth -= 1
        if tag.rpartition(":")[2] == "UUID":
            is_own = self.root is not None and "".join(self.text) == self.root
            if not is_own and (self.file_name or "").lower() != self.path.name.lower():
                raise self.others(self.file_name or "a file without a name")

    def characters(self, text: str) -> None:
        if sum(map(len, self.text)) < 1000:
            self.text.append(text)

    def count(self, texts: list[str]) -> int:
        """Return the product of whole numbers that are not too large for planes; text that is none is for tifffile to refuse."""
        product = 1
        for text in texts:
            try:
                product *= int(text)
            except ValueError:
                raise self.refusal(f"has {told(text)!r} where a number of planes belongs") from None
        if not 0 <= product <= MAX_PLANES:
            raise self.refusal(f"counts {product:,} planes; up to {MAX_PLANES:,} are taken")
        return product

    def along(self, attributes: dict[str, str]) -> None:
        """A Modulo annotation gives an axis as a range of floats, whose length is what tifffile makes an array of."""
        try:
            start, end, step = (float(attributes.get(key, 1)) for key in ("Start", "End", "Step"))
            is_sound = step != 0 and abs(end - start) / abs(step) <= MAX_PLANES
        except ValueError:
            is_sound = False
        if "Start" in attributes and not is_sound:
            raise self.refusal("divides an axis into a range without sense")

    def others(self, name: str) -> ImageFileError:
        return self.refusal(
            f"names another file, {told(name)}, for planes or metadata of this image, and no file may lead to another", moved=True
        )

    def refusal(self, what: str, moved: bool = False) -> ImageFileError:
        hint = " (a renamed file reads again under its old name)" if moved else ""
        return ImageFileError(
            f"{shown(self.path)} cannot be read: its OME description {what}{hint}; save it as one file, "
            "as a TIFF of ImageJ or a plain one"
        )
