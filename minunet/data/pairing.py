"""Which mask belongs to which image, by their names alone.

The same name counts most. Next come names that differ in capitals, in how accents are stored, and in words at an end that say
which of the two a file is: `21_training.tif` and `21_manual1.gif`. What is alone then may differ in blanks and underscores, too:
`cell 7.png` and `cell7_mask.png`. Numbers are never cut or joined, so that image 1 gets neither mask 11 nor mask 1_2, and where
two files fit equally well nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..text import folded, shown

LISTED = 5  # names in a message

_MASK = (  # as people call them, as Cellpose does (x_cp_masks.png), and ilastik (x_Simple Segmentation.tif)
    r"(?:(?:cp|cellpose|omnipose|stardist)[\s_-]*)?(?:masks?|labels?)|lbls?|label[\s_-]*(?:image|img|map|mask)s?|"
    r"(?:(?:simple|multicut|watershed|semantic|instance)[\s_-]*)?segmentations?(?:[\s_-]*stage[\s_-]*[0-9])?|segs?|"
    r"(?:blockwise[\s_-]*)?object[\s_-]*(?:predictions|identities)|tracking[\s_-]*result|"
    r"gt|ground[\s_-]*truth|truth|annot(?:ation)?s?"
)
_OF = r"(?:(?:count[\s_-]*)?masks?|segmentation)[\s_-]*of"  # Fiji: "Mask of x.tif", Labkit: "segmentation of x.tif"
_BEHIND = (  # QuPath (x-labelled.tif), GlaS, and of several people's masks DRIVE (manual1) and CHASE_DB1 (1stHO)
    r"labell?ed|segmented|annos?|manual[0-9]?|[12](?:st|nd)[\s_-]*(?:ho|manual)"
)
_IMAGE = "images?|imgs?|raw|training|train|test|input|volume|originals?"
_START = r"(?:{})(?:[\s_.-]+|(?=[0-9]))(?P<rest>.+)"
_END = r"(?P<rest>.+?)(?:[\s_.-]+|(?<=[0-9]))(?:{})"  # a number may have lost its underscore: 34manual1

Cuts = tuple[re.Pattern[str], ...]  # each leaves `rest` of a name


def _cuts(*patterns: str) -> Cuts:
    return tuple(re.compile(pattern, re.DOTALL) for pattern in patterns)


_FORMATS = r"(?P<rest>.+)\.(?:ome|tiff?|png|jpe?g|gif|bmp|svs|ndpi|czi|nd2|lif)"  # x.ome.tif, x.jpg.png, x.tif_mask.png
MASK_WORDS = _cuts(
    _START.format(f"{_OF}|{_MASK}|manual"),
    _END.format(f"{_MASK}|{_BEHIND}"),
    rf"(?:{_MASK}|manual)(?P<rest>)",  # LabelMe: img.png and label.png
)
_NNUNET = r"(?P<rest>.+)_0000"  # its number of the first channel
IMAGE_CUTS = _cuts(_START.format(_IMAGE), _END.format(_IMAGE), rf"(?:{_IMAGE})(?P<rest>)", _NNUNET, _FORMATS)
MASK_CUTS = (*MASK_WORDS, *_cuts(_FORMATS))
JOINED = _cuts(r"(?P<rest>.+?)(?:masks?|labels?|segmentations?|annotations?|ground[\s_-]*truth|manual[0-9]?)")  # cellmask
_PICTURE = re.compile(  # what is made of a file to be looked at, or on the way to its mask
    r"(?P<rest>.+?)[\s_.-]+(?:overlay|viz|visuali[sz]ation|outlines?|(?:cp[\s_-]*)?(?:output|flows)|dp|uncertainty|"
    r"(?:(?:pixel|object)[\s_-]*)?probabilities)",
    re.DOTALL,
)


class Matched(NamedTuple):
    """The files of an image and of its mask."""

    image: Path
    mask: Path


class Named(NamedTuple):
    """A file and what its name is called by: the name of its pair, as its pattern leaves it."""

    path: Path
    name: str


def names(paths: Sequence[Path]) -> str:
    """Return the files' first names, and how many more there are."""
    return listed([shown(path) for path in paths])


def listed(texts: Sequence[str], separator: str = ", ", most: int = LISTED) -> str:
    """Return the first texts, and how many more there are."""
    return separator.join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def is_mask(name: str) -> bool:
    """Tell whether a name has a mask's word at its start or end, or is one."""
    return any(cut.fullmatch(form) for form in _forms(name, MASK_CUTS) for cut in MASK_WORDS)


def picture_of(name: str) -> str | None:
    """Return the name, folded, of the file that a file with a word such as "overlay" at the end of its name was made of."""
    found = _PICTURE.fullmatch(folded(name))
    return found["rest"] if found else None


def pair(images: Sequence[Named], masks: Sequence[Named]) -> list[Matched]:
    """Return the pairs, in the order of the images; ValueError where two files fit equally well."""
    owner: dict[Path, Path] = {}  # of a mask, its image
    _pair_by([(image, {image.name: 0}) for image in images], [(mask, {mask.name: 0}) for mask in masks], owner)
    rest = _others(images, owner.values())
    _pair_by([(i, _forms(i.name, IMAGE_CUTS)) for i in rest], [(m, _forms(m.name, MASK_CUTS)) for m in masks], owner)
    rest, free = _others(rest, owner.values()), _others(masks, owner)
    _pair_by([(i, _loose(i.name, IMAGE_CUTS)) for i in rest], [(m, _loose(m.name, MASK_CUTS + JOINED)) for m in free], owner)
    mask_of = {image: mask for mask, image in owner.items()}
    return [Matched(image.path, mask_of[image.path]) for image in images if image.path in mask_of]


def _others(files: Sequence[Named], paths: Iterable[Path]) -> list[Named]:
    out = set(paths)
    return [file for file in files if file.path not in out]


Called = list[tuple[Named, dict[str, int]]]  # files, and how much was cut off their names to be called so


def _pair_by(images: Called, masks: Called, owner: dict[Path, Path]) -> None:
    """Give each image the mask that is called as it is, with the least cut off both names, the image's first."""
    by_name: dict[str, dict[int, list[Path]]] = {}
    for mask, forms in masks:
        for form, n_cuts in forms.items():
            by_name.setdefault(form, {}).setdefault(n_cuts, []).append(mask.path)
    for image, forms in images:
        nearest = next((by_name[form] for form in forms if form in by_name), None)
        if nearest is None:
            continue
        found = nearest[min(nearest)]
        if len(found) > 1:
            raise ValueError(
                f"{shown(image.path)} has {len(found)} masks, {names(found)}: which is meant? "
                f"mask_pattern (--mask-pattern) chooses, as in '{_pattern(image.path, found[0])}'"
            )
        if found[0] in owner:
            raise ValueError(
                f"{shown(owner[found[0]])} and {shown(image.path)} both fit the mask {shown(found[0])}: which is meant? "
                "image_pattern (--image-pattern) chooses, as in '*.tif'"
            )
        owner[found[0]] = image.path


def _forms(name: str, cuts: Cuts) -> dict[str, int]:
    """Return what a name may be called by, the least cut first: {form: number of cuts}."""
    forms = {folded(name): 0}
    waiting = list(forms)
    for form in waiting:
        for found in filter(None, (cut.fullmatch(form) for cut in cuts)):
            if found["rest"] not in forms:
                forms[found["rest"]] = forms[form] + 1
                waiting.append(found["rest"])
    return forms


def _loose(name: str, cuts: Cuts) -> dict[str, int]:
    """Return the same without blanks and underscores, but for those between two numbers."""
    forms: dict[str, int] = {}
    for form, n_cuts in _forms(name, cuts).items():
        forms.setdefault(re.sub(r"(?<=\d)([\s_]+)(?=\d)|[\s_]+", lambda gap: "_" if gap[1] else "", form), n_cuts)
    return forms


def _pattern(image: Path, mask: Path) -> str:
    """Return a pattern that the mask fits, and the masks of other images that are named as it is."""
    return f"*{shown(mask)[len(image.stem) :]}" if mask.name.startswith(image.stem) else "*_mask.png"
