"""TIFF: which images a file holds, by its axes, and their pixels, strip after strip or tile after tile, or a refusal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray

from ..text import shown, told
from . import fax, inflate, photometric, pixelsize, segment, tiffsketch
from .page import ORIENTATION, Page, page_of, upright
from .refusal import Budget, ImageFileError
from .tiffmap import (
    DAMAGED,
    DESCRIPTION,
    NODATA,
    SOFTWARE,
    STRIP_COUNTS,
    STRIP_OFFSETS,
    TILE_COUNTS,
    TILE_OFFSETS,
    UIC2,
    Directory,
    Map,
    Tag,
    compression_of,
    cut_of,
    read_map,
    shape_of,
)  # fmt: skip
from .validity import masked, nodata_of, without_data

SLIDES = ("svs", "qpi")  # scanners' files: besides the image, there are a thumbnail, a label and a view of the glass
SCANIMAGE = (117637889).to_bytes(4, "little")  # how its metadata begin, right after the file's header
JOINED = 2**26  # bytes that are read at once
MAX_SEGMENTS = 2**20  # strips and tiles of all pages


class _Series(NamedTuple):
    """Pages that are one array: its shape and axes, and tifffile's first page, which all are like."""

    pages: list[Directory]
    shape: tuple[int, ...]
    axes: str
    key: Any
    n_virtual: int = 1  # planes that follow each other after the one directory there is

    @property
    def n_planes(self) -> int:
        return len(self.pages) * self.n_virtual

    def sources(self, axes: str) -> list[list[Directory]]:
        """Return of which pages each image is made, or each so many of them: of several, where its channels are pages."""
        products = [int(np.prod(self.shape[:i], dtype=object)) for i in range(len(self.shape) + 1)]
        if self.n_planes not in products:
            return [self.pages]
        n = products.index(self.n_planes)
        planes = np.arange(self.n_planes).reshape(self.shape[:n]) // self.n_virtual
        channels = [i for i, axis in enumerate(axes[:n]) if axis in "SC"]
        planes = planes.transpose(*(i for i in range(n) if i not in channels), *channels)
        each = planes.reshape(-1, int(np.prod([self.shape[i] for i in channels], dtype=int)))
        return [[self.pages[i] for i in dict.fromkeys(row)] for row in each.tolist()]


class _Segments(NamedTuple):
    """Where the strips or tiles of a page lie, how many bytes a whole one has, and of each how many it must have."""

    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    whole: int
    least: NDArray[np.int64]
    size: tuple[int, int]  # width and length
    codes: tuple[int, int]  # of the tags with offsets and counts


def read_tiff(file: BinaryIO, path: Path, is_mask: bool, budget: Budget) -> tuple[list[Page], bool]:
    """Return the pages of a TIFF, and whether it says that its last channel is one of transparency."""
    found = read_map(file, path, budget)
    if not found.pages:
        return [], False
    pages, validity = _apart(found.pages)
    extra = pages[0].numbers(338)
    is_alpha = extra is not None and bool(np.isin(extra, (1, 2)).any())
    return _Reader(file, path, budget, found._replace(pages=pages), validity).read(is_mask), is_alpha


def _apart(pages: Sequence[Directory]) -> tuple[list[Directory], dict[int, Directory]]:
    """Return the pages that are images, and the masks of those that have one, by the images' ids.

    Smaller copies are left out, and so is what lies below a page: its own copies; an image, where the page is the copy.
    """
    every = [inner for page in pages for inner in (page.below if page.is_reduced else [page])]
    images = [page for page in every if not (page.is_reduced or page.is_mask)]
    if not images:  # what calls itself a copy or a mask and stands alone is what there is
        return [page for page in pages if not page.is_mask] or list(pages), {}
    known, validity = set(map(id, images)), dict[int, Directory]()
    for i, mask in enumerate(every):
        if mask.is_mask and not mask.is_reduced:
            size = shape_of(mask)[:2]
            fitting = [page for page in (*every[:i][::-1], *every[i:]) if id(page) in known and shape_of(page)[:2] == size]
            validity |= {id(fitting[0]): mask} if fitting else {}
    return images, validity


class _Reader:
    def __init__(
        self, file: BinaryIO, path: Path, budget: Budget, found: Map, validity: Mapping[int, Directory]
    ) -> None:
        self.file, self.path, self.budget, self.found, self.validity = file, path, budget, found, validity
        self.n_segments = 0
        self.decoders: dict[Any, Any] = {}

    def read(self, is_mask: bool) -> list[Page]:
        self._require_same_pages()
        tiff, places = tiffsketch.open_sketch(self.found, self.path)
        with tiff:
            chosen = [s for s in tiff.series if s.kind not in SLIDES or s.name == "Baseline"]  # the others are previews
            series = [self._series(s, places, is_only=len(tiff.series) == 1) for s in chosen]
        self._require_budget(series)
        located = [[self._segments(page) for page in s.pages] for s in series]
        size = pixelsize.of_tiff(self.found.pages[0])
        pages = []
        for s, segments in zip(series, located, strict=True):
            # of numbers of colours, channels have each colours of its own
            axes = s.axes.replace("C", "Q") if photometric.is_palette(s.pages[0]) else s.axes
            images = _images(self._array(s, segments), axes)
            sources = s.sources(axes)
            share = len(images) // len(sources)
            pages += [self._page(image, sources[i // share], is_mask, size) for i, image in enumerate(images)]
        return pages

    def _page(self, image: NDArray, sources: Sequence[Directory], is_mask: bool, size: pixelsize.Size | None) -> Page:
        """Return what the numbers of one page, or of several that are its channels, mean: upright, and without invalid pixels.

        Of masks nothing is left out: where their values mean nothing is for whoever trains to say.
        """
        first = sources[0]
        orientations = {page.number(ORIENTATION, 1) for page in sources}
        if len(orientations) > 1:
            raise self._missing(first, f"and others are one image's channels, and have the orientations {sorted(orientations)}")
        invalid = [] if is_mask else self._invalid(image, sources)
        try:
            if photometric.is_palette(first):
                image = photometric.coloured(image, first, palette_as_index=is_mask)
            elif photometric.is_ycbcr(first):
                image = photometric.rgb_of(image)
        except photometric.ColourError as error:
            raise self._missing(first, str(error)) from error
        (orientation,) = orientations
        page = page_of(image, orientation, size)
        return page._replace(pixels=masked(page.pixels, [upright(where, orientation) for where in invalid]))

    def _invalid(self, image: NDArray, sources: Sequence[Directory]) -> list[NDArray[np.bool_]]:
        """Return which pixels a mask that belongs to one of the pages, or a value that means no data, says to be invalid."""
        found: list[NDArray[np.bool_]] = []
        for page in sources:
            mask = self.validity.get(id(page))
            if mask is not None:
                (inside,) = _Reader(self.file, self.path, self.budget, self.found._replace(pages=[mask]), {}).read(is_mask=True)
                found.append(inside.pixels == 0)
        for nodata in {photometric.as_read(nodata, page) for page in sources if (nodata := nodata_of(page)) is not None}:
            found.append(without_data(image, nodata))
        return found

    def _series(self, series: Any, places: dict[int, Directory], is_only: bool) -> _Series:
        key, shape, axes = series.keyframe, tuple(int(n) for n in series.shape), series.axes
        listed = list(series._pages)
        if any(page is None for page in listed):
            n = sum(page is None for page in listed)
            raise ImageFileError(
                f"{shown(self.path)} lacks {n} of {len(listed)} planes that its description speaks of; {DAMAGED}"
            )
        pages = [places[page.offset] for page in listed]
        if key.dtype is None:
            raise ImageFileError(
                f"{shown(self.path)} holds numbers of {told(key.bitspersample)} bits in format {told(key.sampleformat)}; "
                "8, 16, 32 and 64 bits are read"
            )
        plane = int(np.prod(key.shape, dtype=object))
        planes = pages[0].tags.get(UIC2)
        if planes is not None and planes.n > 1 and is_only and len(pages) == 1:  # MetaMorph: planes without directories
            shape, axes = (planes.n, *key.shape), "I" + key.axes
        channels = self._scanimage_channels(pages[0])
        if series.kind in ("uniform", "generic") and channels > 1 and len(pages) % channels == 0:
            shape, axes = (len(pages) // channels, channels, *key.shape), "IC" + key.axes
        n, rest = divmod(int(np.prod(shape, dtype=object)), plane) if plane else (len(pages), 0)
        is_block = len(pages) == 1 and compression_of(pages[0]) == inflate.NONE  # of planes without directories
        if rest or (n != len(pages) and not is_block):
            raise ImageFileError(
                f"{shown(self.path)} has {len(pages)} pages of {' x '.join(map(str, key.shape))}, but its description speaks of "
                f"{' x '.join(map(str, shape))}; {DAMAGED}"
            )
        return _Series(pages, shape, axes, key, n // len(pages))

    def _require_same_pages(self) -> None:
        """Refuse a stack that is too much before tifffile makes objects of its pages: those like the first are all read."""
        first = self.found.pages[0]
        h, w, depth, samples = shape_of(first)
        bits = first.number(258, 1)
        if not h * w * depth * samples:
            raise ImageFileError(f"{shown(self.path)} has no pixels")
        if not 1 <= bits <= 64:
            raise ImageFileError(f"{shown(self.path)} holds numbers of {bits} bits; 1 to 64 are taken")
        n = sum(shape_of(page) == (h, w, depth, samples) and not page.number(254, 0) & 1 for page in self.found.pages)
        self._require_bytes(n * h * w * depth * samples * -(-bits // 8), first)
        if n * h * w * depth > self.budget.max_pixels:
            self.budget.require(n, n * h * w * depth, n * h * w * depth * samples * -(-bits // 8))

    def _require_bytes(self, promised: int, page: Directory) -> None:
        """Compare what the headers promise, a byte or more for each number, with the bytes that are there."""
        gain = inflate.GAIN.get(compression_of(page), 0) * (8 if page.number(258, 1) < 8 else 1)
        if gain and promised > gain * self.found.size + 4096:
            raise ImageFileError(
                f"{shown(self.path)} is truncated, or lies: it promises {promised:,} bytes of pixels, "
                f"the file has {self.found.size:,} in all"
            )

    def _require_budget(self, series: Sequence[_Series]) -> None:
        """Compare what the headers promise with the bytes that are there, and with what is allowed."""
        n_pixels = n_bytes = n_segment = 0
        for s in series:
            item = s.key.dtype.itemsize
            promised = int(np.prod(s.shape, dtype=object)) * item
            self._require_bytes(promised, s.pages[0])
            for page in s.pages:
                h, w, d, _ = shape_of(page)
                n_pixels += h * w * d * s.n_virtual
                n_segment = max(n_segment, cut_of(page).whole * (-(-item * 8 // max(1, page.number(258, 1)))))
            says_nodata = any(id(page) in self.validity or NODATA in page.tags for page in s.pages)
            is_moved = "C" in s.axes or ("S" in s.axes and not s.axes.endswith("S"))  # channels become the last axis
            is_moved = is_moved or any(page.number(ORIENTATION, 1) != 1 or photometric.is_ycbcr(page) for page in s.pages)
            n_bytes += promised * (5 if photometric.is_palette(s.pages[0]) else 2 if is_moved else 1)
            n_bytes += (promised // item + 2 * n_pixels) * says_nodata
        self.budget.require(sum(s.n_planes for s in series), n_pixels, n_bytes + n_segment)

    def _segments(self, page: Directory) -> _Segments:
        """Return the strips or tiles of a page, all there: a missing one would be read as zeros, and be background."""
        is_tiled, compression = TILE_OFFSETS in page.tags, compression_of(page)
        codes = (TILE_OFFSETS, TILE_COUNTS) if is_tiled else (STRIP_OFFSETS, STRIP_COUNTS)
        cut = cut_of(page)
        n = cut.number
        self.n_segments += n
        allowed = max(MAX_SEGMENTS, self.budget.max_pixels // 256)
        if self.n_segments > allowed:
            raise ImageFileError(f"{shown(self.path)} is cut into more than {allowed:,} strips or tiles; {DAMAGED}")
        least = cut.least()
        offsets, counts = page.numbers(codes[0]), page.numbers(codes[1])
        kind = "tile" if is_tiled else "strip"
        if counts is None and compression == inflate.NONE and offsets is not None and len(offsets) == 1:
            counts = least  # old writers leave it out where it says nothing
        if offsets is None or counts is None or min(len(offsets), len(counts)) < n:
            has = 0 if offsets is None or counts is None else min(len(offsets), len(counts))
            raise self._missing(page, f"has {has:,} {kind}s and needs {n:,}")
        offsets, counts = offsets[:n], counts[:n]
        absent = (offsets == 0) | (counts == 0)
        if absent.any():
            raise self._missing(
                page, f"has no pixels in {kind} {int(absent.argmax()) + 1} of {n:,} ({int(absent.sum()):,} are missing, as in "
                "a sparse file of GDAL's)"
            )  # fmt: skip
        outside = (offsets < 8) | (counts < 0) | (offsets > self.found.size) | (counts > self.found.size - offsets)
        if outside.any():
            i = int(outside.argmax())
            raise self._missing(
                page, f"has {kind} {i + 1} of {n:,} at byte {offsets[i]:,} with {counts[i]:,} bytes, and the file has "
                f"{self.found.size:,}: it is truncated"
            )  # fmt: skip
        if compression == inflate.NONE and (counts < least).any():
            i = int((counts < least).argmax())
            raise self._missing(page, f"has {counts[i]:,} bytes in {kind} {i + 1} of {n:,}, which must have {least[i]:,}")
        most = cut.whole if compression == inflate.NONE else 4 * cut.whole + 2**20
        if compression != inflate.NONE and (counts > most).any():
            raise self._missing(page, f"has {counts.max():,} bytes in a {kind}, whose pixels take {cut.whole:,}")
        counts = np.minimum(counts, most)
        order = np.argsort(offsets, kind="stable")
        ends = (offsets + counts)[order]
        if (ends[:-1] > offsets[order][1:]).any():
            raise self._missing(page, f"has {kind}s that lie on top of each other")
        return _Segments(offsets, counts, cut.whole, least, (cut.width, cut.length), codes)

    def _array(self, series: _Series, located: Sequence[_Segments]) -> NDArray:
        array = np.empty((series.n_planes, *series.key.shaped), series.key.dtype)
        plane = array[0].nbytes
        for i in range(series.n_planes):
            page, segments = series.pages[i // series.n_virtual], located[i // series.n_virtual]
            if series.n_virtual > 1:
                start = int(segments.offsets[0]) + i * plane
                if start + plane > self.found.size:
                    raise self._missing(page, f"is followed by fewer planes than the {series.n_virtual} of its description")
                step = np.cumsum(segments.least) - segments.least
                segments = segments._replace(offsets=start + step, counts=segments.least)
            self._fill(array[i], page, segments)
            photometric.brighten(array[i], page)
        return array.reshape(series.shape)

    def _fill(self, plane: NDArray, page: Directory, segments: _Segments) -> None:
        """Decode the strips or tiles of a page into its place (samples, depth, rows, columns, samples): into all of it."""
        page, segments = _joined(page, segments)
        first = self._read(int(segments.offsets[0]), min(int(segments.counts[0]), 64))
        _, rows, columns = cut_of(page).extents()
        located = (segments.offsets, segments.counts, segments.least, rows, columns)
        i = n_written = 0
        try:
            template, plain = self._template(page, segments, first, plane.itemsize)
            for i, (offset, count, least, h, w) in enumerate(zip(*(a.tolist() for a in located), strict=True)):
                data = self._read(offset, count)
                if plain is not None:
                    data = plain(data, segment.Part(least, segments.whole, h, w))
                else:
                    inflate.require_picture(data, *segments.size)
                n_written += self._place(plane, template.decode(data, i, jpegtables=template.jpegtables))
        except (inflate.SegmentError, fax.FaxError, tifffile.TiffFileError) as error:
            kind = "tile" if segments.codes[0] == TILE_OFFSETS else "strip"
            raise self._missing(page, f"is damaged: its {kind} {i + 1} of {len(segments.offsets):,} {told(error)}") from error
        if n_written != plane.size:
            raise self._missing(page, f"has {n_written:,} numbers and must have {plane.size:,}")

    def _place(self, plane: NDArray, decoded: Any) -> int:
        """Put a decoded strip or tile where it belongs; return how many numbers of the plane that were."""
        part, (s, d, h, w, _), shape = decoded
        depth, length, width = plane.shape[1:4]
        place = plane[s, d : d + shape[0], h : h + shape[1], w : w + shape[2]]
        part = part[: depth - d, : length - h, : width - w]
        if part.shape != place.shape:
            raise inflate.SegmentError(f"has {part.shape} numbers and must have {place.shape}")
        place[...] = part
        return place.size

    def _template(self, page: Directory, segments: _Segments, first: bytes, itemsize: int) -> tuple[Any, Any]:
        """Return tifffile's page by which a strip or tile of this one is decoded, and what makes it plain before, if we do.

        first : how the first one begins: a JPEG tells there how its colours are meant.
        """
        places = (DESCRIPTION, SOFTWARE, STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS)
        compression = compression_of(page)
        is_ours = segment.is_read_here(page)
        tags = tuple(sorted((code, tag) for code, tag in page.tags.items() if code % 2**16 not in places))
        key = tags, b"" if is_ours else first
        if key not in self.decoders:
            plain = None
            if is_ours:
                page, plain = segment.reader(page, itemsize)
            elif compression not in inflate.PICTURES:
                raise inflate.SegmentError(f"has the compression {compression}, which is not read; save it uncompressed")
            elif not tiffsketch.has_codecs():
                raise inflate.SegmentError(f"has the compression {compression}, which is read by imagecodecs: pip install it")
            heads = [first, *[b""] * (len(segments.offsets) - 1)]
            self.decoders[key] = tiffsketch.open_page(tiffsketch.with_pixels(page, heads, *segments.codes)), plain
        return self.decoders[key]

    def _scanimage_channels(self, page: Directory) -> int:
        """Return how many channels ScanImage saved, which come one after another as pages; 1 where it did not write the file."""
        if self._read(16, min(4, self.found.size - 16)) != SCANIMAGE or SOFTWARE not in page.tags:
            return 1
        found = re.search(rb"SI\.hChannels\.channelSave = \[([0-9; ,]{1,200})\]", page.tags[SOFTWARE].raw)
        return len(re.findall(rb"[0-9]+", found[1])) if found else 1

    def _read(self, offset: int, count: int) -> bytes:
        self.file.seek(offset)
        data = self.file.read(count)
        if len(data) < count:
            raise ImageFileError(f"{shown(self.path)} became shorter while it was read")
        return data

    def _missing(self, page: Directory, what: str) -> ImageFileError:
        """What is not there is never taken for zeros."""
        return ImageFileError(f"{shown(self.path)} cannot be read, {page.name} {what}; {DAMAGED}, complete")


def _joined(page: Directory, segments: _Segments) -> tuple[Directory, _Segments]:
    """Return a page whose strips follow each other uncompressed as one of one strip: some writers make one of each row."""
    n_bytes, cut = int(segments.least.sum()), cut_of(page)
    is_one_block = compression_of(page) == inflate.NONE and segments.codes[0] == STRIP_OFFSETS and cut.planes * cut.shape[2] == 1
    follows = segments.offsets[:-1] + segments.least[:-1] == segments.offsets[1:]
    if not is_one_block or not follows.all() or n_bytes > JOINED or len(follows) == 0:
        return page, segments
    whole = np.array([n_bytes])
    rows = Tag(4, 1, np.array([cut.shape[0]], page.layout.order + "u4").tobytes())
    joined = segments._replace(offsets=segments.offsets[:1], counts=whole, least=whole, whole=n_bytes)
    return page._replace(tags={**page.tags, 278: rows}), joined


def _images(array: NDArray, axes: str) -> list[NDArray]:
    """Return the images of a series, channels last: of its axes, Y and X are an image's, S and C its channels."""
    channels = [i for i, axis in enumerate(axes) if axis in "SC" and array.shape[i] > 1]
    rows, cols = axes.index("Y"), axes.index("X")
    others = [i for i in range(array.ndim) if i not in (*channels, rows, cols)]
    n_channels = int(np.prod([array.shape[i] for i in channels], dtype=int))
    array = array.transpose(*others, rows, cols, *channels)
    h, w = array.shape[len(others) : len(others) + 2]
    return list(array.reshape(-1, h, w, n_channels) if channels else array.reshape(-1, h, w))
