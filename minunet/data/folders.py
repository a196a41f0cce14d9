"""Folders of images and of masks: which mask belongs to which image, and their pixels.

A pair is found by name (pairing.py). `cell7.png` belongs to `cell7.tif`, to `cell7_mask.png`, `mask_cell7.png`,
`cell 7-labels.png`; `21_training.tif` to `21_manual1.gif`; `case_0000.png` to `case.png`. Images and masks may lie in one folder,
where the names with a mask's word are the masks. Two files may also be given instead of two folders: stacks of as many pages.
"""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..text import folded, shown, told
from ..warn import warn
from .contradictions import two_palettes
from .images import FORMATS, MAX_PIXELS, ImageFileError, is_image, palette_colours, read_mask, read_pages
from .labels import MAX_CLASSES
from .page import SIDEWAYS, Colours
from .pairing import Matched, Named, is_mask, listed, names, pair, picture_of
from .pixelsize import Size

PathLike = str | os.PathLike[str]
MAX_FOLDERS = 1000  # that are looked into for images which are not read
DRAWN_ON_STORED = (
    "and the mask seems drawn on its pixels as they are stored: turn the mask in the same way, or save the image anew without "
    "the tag, as it is stored"
)


@dataclass(frozen=True)
class Pair:
    """An image (H, W) or (H, W, C) with its mask (H, W); name says in messages which it is, path where it lies.

    orientation : by which the file says that the image is to be turned, as it was. pixel_size : in micrometres, if it is told.
    colours : what the mask's values stand for, where they are numbers of a palette.
    """

    name: str
    image: NDArray
    mask: NDArray
    path: Path
    orientation: int = 1
    pixel_size: Size | None = None
    colours: Colours | None = None


class Matching(NamedTuple):
    """What belongs together, what has no partner, the files that are neither, and what is said of folders inside."""

    pairs: list[Matched]
    images_alone: list[Path]
    masks_alone: list[Path]
    ignored: list[Path]
    inside: list[str]


def load_folder(
    images: PathLike,
    masks: PathLike,
    *,
    image_pattern: str = "*",
    mask_pattern: str = "*",
    skip_unpaired: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> tuple[NDArray | list[NDArray], NDArray | list[NDArray]]:
    """Return the images x and the masks y of two folders (or one, or two stacks), paired by name, in the order of names.

    x : (N, H, W) or (N, H, W, C) where all are alike, else a list; in the files' own numbers. y : the same, less channels.
    image_pattern, mask_pattern : as in "*_manual1.gif": which files count; their `*` is the name that pairs are found by.
    skip_unpaired : leave out what has no partner, instead of refusing.
    max_pixels : what a file may decode to, over all its pages; at most 8 bytes for each.

    PNG, JPEG, GIF, BMP and TIFF are read; a stack's pages are images of their own. ValueError names the files and what is
    wrong with them: no partner, several masks for one image, different sizes, unreadable, masks in colours.
    """
    pairs = read_pairs(
        images, masks, image_pattern=image_pattern, mask_pattern=mask_pattern, skip_unpaired=skip_unpaired, max_pixels=max_pixels
    )
    return _stacked([pair.image for pair in pairs]), _stacked([pair.mask for pair in pairs])


def read_pairs(
    images: PathLike,
    masks: PathLike,
    *,
    image_pattern: str = "*",
    mask_pattern: str = "*",
    skip_unpaired: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> list[Pair]:
    """Return what `load_folder` returns, pair by pair, with names; all files that cannot be read are named."""
    matching = match(images, masks, image_pattern=image_pattern, mask_pattern=mask_pattern)
    for sentence in matching.inside:
        warn(sentence)
    if not skip_unpaired:
        require_partners(matching)
    pairs, refused = read_matched(matching.pairs, max_pixels)
    if refused:
        raise ImageFileError(listed(refused, "; "))
    require_one_palette(pairs)
    n_image, n_mask = len(np.unique(pairs[0].image)), len(np.unique(pairs[0].mask))
    if n_image <= MAX_CLASSES < n_mask:
        raise ImageFileError(
            f"{pairs[0].name} holds {n_image} different values and its mask {n_mask}: images and masks seem to be exchanged; "
            "the images come first"
        )
    return pairs


def read_matched(files: Iterable[Matched], max_pixels: int = MAX_PIXELS) -> tuple[list[Pair], list[str]]:
    """Return the pairs that can be read, and what is wrong with each that cannot."""
    refused: list[str] = []
    return list(read_in_turn(files, refused, max_pixels)), refused


def read_in_turn(files: Iterable[Matched], refused: list[str], max_pixels: int = MAX_PIXELS) -> Iterator[Pair]:
    """Yield the pairs that can be read, each when it is asked for; to `refused` is added what is wrong with the others."""
    for matched in files:
        try:
            yield from read_pair(matched, max_pixels)
        except ImageFileError as error:
            refused.append(str(error))


def require_one_palette(pairs: Iterable[Pair]) -> None:
    """Refuse masks of which one number means two colours, by the names of two of them."""
    if contradiction := two_palettes((pair.name, pair.colours) for pair in pairs):
        raise ImageFileError(contradiction)


def require_partners(matching: Matching) -> None:
    """Raise a ValueError that names the files without a partner, if there are any."""
    alone = [
        f"{len(paths)} {kind}{'s' * (len(paths) > 1)} without {missing} ({names(paths)})"
        for paths, kind, missing in ((matching.images_alone, "image", "a mask"), (matching.masks_alone, "mask", "an image"))
        if paths
    ]
    if alone:
        raise ValueError(
            f"{' and '.join(alone)}: each image takes one mask of its name. image_pattern and mask_pattern (--image-pattern, "
            "--mask-pattern) say what names have in common, as in '*_cells.png'; skip_unpaired (--skip-unpaired) leaves them out"
        )


def read_pair(matched: Matched, max_pixels: int = MAX_PIXELS) -> list[Pair]:
    """Return a pair for each page of the two files. ImageFileError where they do not fit each other, or cannot be read."""
    images, masks = read_pages(matched.image, max_pixels=max_pixels), read_mask(matched.mask, max_pixels=max_pixels)
    if len(images) != len(masks):
        raise ImageFileError(
            f"{shown(matched.image)} has {len(images)} pages, but its mask {shown(matched.mask)} {len(masks)}; "
            "each page takes one page"
        )
    pairs = []
    colours = palette_colours(matched.mask, masks, max_pixels=max_pixels)
    for page, (image, mask, shades) in enumerate(zip(images, masks, colours, strict=True), 1):
        name, mask_name = (shown(path) + (f", page {page}" if len(images) > 1 else "") for path in matched)
        (h, w), (mask_h, mask_w) = image.pixels.shape[:2], mask.shape
        if (h, w) != (mask_h, mask_w):
            hint = _turn_back(mask_name, image.orientation) if (h, w) == (mask_w, mask_h) else ""
            raise ImageFileError(
                f"{name} is {h} x {w} pixels, but its mask {mask_name} is {mask_h} x {mask_w}{hint}; a mask has its image's size"
            )
        pairs.append(Pair(name, image.pixels, mask, matched.image, image.orientation, image.size, shades))
    return pairs


def _turn_back(mask_name: str, orientation: int) -> str:
    if orientation in SIDEWAYS:
        return f"; the image was turned as its orientation tag says ({orientation}), {DRAWN_ON_STORED}"
    return f"; turned by 90 degrees it would fit: turn {mask_name} back"


def match(images: PathLike, masks: PathLike, *, image_pattern: str = "*", mask_pattern: str = "*") -> Matching:
    """Return which files belong together, by their names alone; ValueError where that is ambiguous, or nothing fits.

    Of images and masks, both are folders (or the same folder), or both are files.
    """
    images, masks = Path(images), Path(masks)
    for path, role in ((images, "images"), (masks, "masks")):
        require_there(path, f": {role} takes a folder of {role}, or one file")
    if images.is_dir() != masks.is_dir():
        file, folder = (masks, images) if images.is_dir() else (images, masks)
        raise ValueError(f"{file} is a file and {folder} a folder; images and masks are two folders, or two files")
    if not images.is_dir():
        return Matching([Matched(images, masks)], [], [], [], [])
    matching = _match_names(*_sort_files(images, masks, image_pattern, mask_pattern), os.path.samefile(images, masks))
    both = dict.fromkeys((images, masks))
    return matching._replace(inside=[text for folder in both if (text := images_inside(folder, both))])


def require_there(path: Path, takes: str = "") -> None:
    """Raise a FileNotFoundError where nothing is. Of an image file that is a link to nothing its reader tells."""
    if path.exists() or (path.is_symlink() and is_image(path)):
        return
    if path.is_symlink():
        raise FileNotFoundError(f"{path} is a link to {told(os.readlink(path))}, which is not there{takes}")
    raise FileNotFoundError(f"there is no {path}{takes}")


def image_files(folder: Path, pattern: str = "*") -> tuple[list[Path], list[Path]]:
    """Return a folder's image files that fit the pattern, and what is no image, each in the order of names; hidden ones aside.

    Links that lead nowhere, pipes and the like are among them by their names, to be refused when they are read.
    """
    files = sorted(path for path in folder.iterdir() if not path.is_dir() and not path.name.startswith((".", "Thumbs.db")))
    chosen = [path for path in files if is_image(path) and _star(path, pattern) is not None]
    if not chosen:
        others = f"its {len(files)} files are named {names(files)}" if files else "it is empty"
        inside = [path for path in sorted(folder.iterdir()) if path.is_dir()]
        hint = f"; it has folders in it ({names(inside)}): give the one with the images" if inside else ""
        fitting = "" if pattern == "*" else f" that fits {pattern!r}"
        raise ValueError(f"{folder} holds no image{fitting} ({', '.join(FORMATS)}): {others}{hint}")
    return chosen, [path for path in files if not is_image(path)]


def images_inside(folder: Path, given: Iterable[Path]) -> str | None:
    """Return a sentence on the folders inside that hold images, which nobody reads; None where there are none.

    given : folders that are read, which may lie in this one.
    """
    seen = {os.path.realpath(path) for path in given}
    counts: dict[str, int] = {}
    for path, folders, files in itertools.islice(os.walk(folder, followlinks=True), MAX_FOLDERS):
        places = {name: os.path.realpath(os.path.join(path, name)) for name in sorted(folders) if not name.startswith(".")}
        folders[:] = [name for name, place in places.items() if place not in seen]
        seen.update(places.values())  # a link may lead round in a circle
        inside = Path(path).relative_to(folder)
        if n := bool(inside.parts) * sum(is_image(Path(file)) for file in files):
            counts[shown(inside, whole=True)] = n
    if not counts:
        return None
    each = [f"{name} ({n})" for name, n in counts.items()]
    n = sum(counts.values())
    what = f"a folder inside, {next(iter(counts))}, holds" if len(counts) == 1 else f"folders inside, {listed(each)}, hold"
    return f"{shown(folder)}: {what} {n} image{'s' * (n > 1)}: not read with the others"


def _sort_files(
    images: Path, masks: Path, image_pattern: str, mask_pattern: str
) -> tuple[list[Named], list[Named], list[Path]]:
    """Return the images, the masks, and what is neither. In one folder, the masks' pattern or a mask's word tells them apart."""
    found, ignored = image_files(images, image_pattern)
    others, ignored_too = image_files(masks, mask_pattern)
    if os.path.samefile(images, masks):
        if mask_pattern == "*":
            others = [path for path in others if is_mask(path.stem)]
        masked = set(others)
        found = [path for path in found if path not in masked]
        if not others or not found:
            kind, words = ("mask", "_mask or _label") if not others else ("image", "something else than a mask's word")
            raise ValueError(f"{images} has no {kind}: where both lie in one folder, a {kind}'s name takes {words}")
    else:
        ignored = ignored + ignored_too
    return (
        [Named(path, _star(path, image_pattern) or path.stem) for path in found],
        [Named(path, _star(path, mask_pattern) or path.stem) for path in others],
        ignored,
    )


def _star(path: Path, pattern: str) -> str | None:
    """Return what the pattern's `*` stand for in the file's name, without its ending; None where it does not fit."""
    if pattern == "*":
        return path.stem
    pattern, name = (unicodedata.normalize("NFC", text) for text in (pattern, path.name))
    parts = [re.escape(part).replace(r"\?", ".") for part in pattern.split("*")]
    found = re.fullmatch("(.*)".join(parts), name, re.IGNORECASE | re.DOTALL)
    return None if found is None else "".join(found.groups()).removesuffix(path.suffix)


def _match_names(images: list[Named], masks: list[Named], ignored: list[Path], is_one_folder: bool) -> Matching:
    """Pair the files; what is alone, but was made of another of them or is a mask of another pattern, is ignored."""
    pairs = pair(images, masks)
    paired = {path for matched in pairs for path in matched}
    alone = [[file for file in files if file.path not in paired] for files in (images, masks)]
    there = {folded(file.path.stem) for file in [*images, *masks]}
    made = {file.path for file in [*alone[0], *alone[1]] if picture_of(file.path.stem) in there}
    if is_one_folder:
        made |= {image.path for image in alone[0] if is_mask(image.path.stem)}
    if not pairs:
        named = (names([file.path for file in files]) for files in alone)
        raise ValueError(
            "no mask fits an image by its name: the images are named {}, the masks {}. Give both the same names, or say with "
            "image_pattern and mask_pattern (--image-pattern, --mask-pattern) what they have in common, as in 'scan*.tif' and "
            "'truth*.png'".format(*named)
        )
    images_alone, masks_alone = ([file.path for file in files if file.path not in made] for files in alone)
    return Matching(pairs, images_alone, masks_alone, ignored + sorted(made), [])


def by_file(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Return the pairs of each file, the pages of a stack, in their order."""
    return [list(pages) for _, pages in itertools.groupby(pairs, key=lambda pair: pair.path)]


def _stacked(arrays: list[NDArray]) -> NDArray | list[NDArray]:
    """Return one array where all have one shape and dtype, else the list."""
    alike = len({(array.shape, array.dtype) for array in arrays}) == 1
    return (np.ma.stack if any(map(np.ma.isMaskedArray, arrays)) else np.stack)(arrays) if alike else arrays
