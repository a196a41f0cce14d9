"""Masks looked at against each other: files that write one class in two ways, and numbers of objects instead of classes.

Nothing here is certain, so everything told names what was seen, and the setting that settles it either way. What is refused is
what hardly anybody means: 0 and 1 in some files beside 0 and 255 in others. What many people do mean is not: files that show
different ones of numbered classes. What lies between is a doubt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .codes import SOLID, Codes, total
from .page import Colours

Class = int | tuple[int, ...]  # as `fit` takes one: its value, or its values, the first of which it is called by

INSTANCES = (
    'instance labels (one number an object: UNet(target="instances"), --target instances, learns them; y > 0 makes two classes '
    "of them)"
)
NUMBERED = 22  # values below are taken for classes that were numbered: of PASCAL VOC there are 21
TOPS = (255, 65535)  # white, in 8 and in 16 bits
NEAR = 0.1  # share of the range by which two values that mean the same may differ where both are near its top
EVEN = 0.02  # ... and by which values between black and white may be off even steps
SINGLE = 0.9  # share of values that are in one piece each, where they number objects
MIN_OBJECTS, MANY_OBJECTS = 3, 4  # of numbers 1, 2, ... that differ from image to image: more than nested classes have
MANY_PIECES = 12  # the same, where they do not differ
MAX_STRAYS = 2  # more are drawn in other codes, or number objects
SHOWN = 3  # names in a sentence


class Doubt(NamedTuple):
    """What masks contradict each other in, and the classes that may be meant; `certain` where they are hardly meant otherwise."""

    problem: str
    likely: list[Class]
    does: str
    certain: bool


class _Family(NamedTuple):
    """Files that share values, and all values of theirs in rising order."""

    values: list[int]
    files: list[Codes]

    def __str__(self) -> str:
        names = [codes.name for codes in self.files]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return f"{', '.join(names[:SHOWN])}{more} hold{'s' * (len(names) == 1)} {', '.join(map(str, self.values))}"


def two_codes(found: Sequence[Codes]) -> Doubt | None:
    """Return the doubt whether values that no mask holds together are one class, where the masks fall into such families."""
    families = _families(found)
    if len(families) < 2:
        return None
    *others, model = sorted(families, key=lambda family: family.values[-1])
    fitting = [other for other in others if len(other.values) == len(model.values)]
    same = [other in fitting and _is_same(other.values, model.values) for other in others]
    if not (any(same) or (fitting and len(families) == 2 and model.values[-1] >= 4 * NUMBERED)):
        return None
    everything = sorted({value for family in families for value in family.values})
    roles = [[*dict.fromkeys(values)] for values in zip(model.values, *(other.values for other in fitting), strict=True)]
    if sum(map(len, roles)) > len({value for role in roles for value in role}):  # 0 has not the same place in each
        return None
    likely: list[Class] = [tuple(role) if len(role) > 1 else role[0] for role in roles]
    problem = (
        f"the masks differ in their codes: {'; '.join(map(str, (model, *others)))}. No mask holds values of both kinds, so "
        f"they {'look like' if all(same) else 'may be'} the same classes, written in {len(families)} ways."
    )
    does = f"makes one class of the values that are joined; if all are classes of their own, give {told(everything)}"
    return Doubt(problem, likely, does, all(same))


def objects(found: Sequence[Codes]) -> Doubt | None:
    """Return the doubt whether the values number objects, in one piece each: 1, 2, ... in each mask, or parts of such numbers."""
    if any(codes.pieces is None for codes in found):
        return None
    each = [dict(zip(map(int, codes.values), np.asarray(codes.pieces).tolist(), strict=True)) for codes in found]
    each = [{value: n for value, n in pieces.items() if value > 0 and value not in TOPS} for pieces in each]
    numbers, pieces = [list(own) for own in each if own], [n for own in each for n in own.values()]
    if not numbers or sum(n <= 1 for n in pieces) < SINGLE * len(pieces):
        return None
    sizes, everything = sorted(map(len, numbers)), sorted(set().union(*numbers))
    differ = sizes[0] < sizes[-1]
    if all(own == list(range(1, len(own) + 1)) for own in numbers):
        if sizes[-1] < (MIN_OBJECTS if differ else MANY_PIECES):
            return None
        what, certain = (
            f"1, 2, ... {sizes[-1]}, {f'{sizes[0]} to ' if differ else ''}{sizes[-1]}",
            differ and sizes[-1] >= MANY_OBJECTS,
        )
    elif _are_drawn_apart(numbers, everything):
        what, certain = f"{everything[0]} ... {everything[-1]} with gaps, {sizes[0]} to {sizes[-1]}", False
    else:
        return None
    problem = (
        f"the masks hold the values {what} of them in each mask and each in one piece: they "
        f"{'look like' if certain else 'may be'} {INSTANCES}."
    )
    does = f"makes one class of all objects; if the numbers are classes, give {told(sorted({0, *everything}))}"
    return Doubt(problem, [0, 1], does, certain)


def _are_drawn_apart(numbers: Sequence[Sequence[int]], everything: Sequence[int]) -> bool:
    """Tell whether masks hold several numbers each, with gaps, and hardly any two the same: as cuts of larger masks do."""
    n = sum(map(len, numbers))
    apart = len(numbers) > 1 and 2 * len(numbers) <= n <= 1.5 * len(everything)
    return apart and len(everything) >= MANY_OBJECTS and everything[-1] >= 2 * len(everything)


def two_palettes(masks: Iterable[tuple[str, Colours | None]]) -> str | None:
    """Return what is wrong with masks, by name, whose palettes give one number two colours, or one colour two numbers."""
    by_value: dict[int, tuple[tuple[int, int, int], str]] = {}
    by_colour: dict[tuple[int, int, int], tuple[int, str]] = {}
    for name, colours in masks:
        for value, colour in (colours or {}).items():
            other_colour, first = by_value.setdefault(value, (colour, name))
            other_value, second = by_colour.setdefault(colour, (value, name))
            if other_colour != colour:
                clash = f"{value} is the colour {other_colour} in the palette of {first}'s mask, and {colour} in that of {name}'s"
            elif other_value != value and second != name:
                clash = f"the colour {colour} is {other_value} in the palette of {second}'s mask, and {value} in that of {name}'s"
            else:
                continue
            return f"{clash}. What a number means is its colour: save all masks with one palette, or in grey, one value a class"
    return None


def left_open(found: Sequence[Codes]) -> int | None:
    """Return the value that may stand for pixels that say nothing: a last one, as 255 or -1, beside numbered classes."""
    values = set(total(found))
    far = {value for value in values if not _are_numbered({value})}
    return far.pop() if len(far) == 1 and len(values) > 2 and (far <= {*TOPS} or max(far) < 0) else None


def strays(found: Sequence[Codes], classes: NDArray, joined: Mapping[int, int]) -> list[int]:
    """Return the values, one or two, that form regions and are far from every class that was given.

    Far is more than a quarter of the way from one class to another. Numbers of objects beside the classes 0 and 1 are meant.
    """
    listed = np.array(sorted({*classes.tolist(), *joined}), np.float64)
    reach = float(np.diff(listed).min()) / 4
    counts, solid = total(found), total(found, "solid")
    far = [
        value
        for value, count in counts.items()
        if solid[value] >= SOLID * count and np.abs(listed - float(value)).min() > reach
        and not (listed.tolist() == [0, 1] and _are_numbered({value}))
    ]  # fmt: skip
    return far if len(far) <= MAX_STRAYS else []


def told(classes: Sequence[Class]) -> str:
    """Return classes as Python takes them, and as the command line does."""
    return f"classes={list(classes)} (--classes {' '.join(map(word, classes))})"


def word(value: Class) -> str:
    """Return a class as the command line takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _families(found: Sequence[Codes]) -> list[_Family]:
    """Return the masks by the values that they share, 0 apart; numbered classes are of one family."""
    families: list[tuple[set[int], list[int]]] = []
    held = [{int(value) for value in codes.values} for codes in found]
    for i, values in enumerate(held):
        own = values - {0}
        if not own:
            continue
        near = [family for family in families if family[0] & own or (_are_numbered(own) and _are_numbered(family[0]))]
        joined = (own.union(*(f[0] for f in near)), sorted([i, *(j for f in near for j in f[1])]))
        families = [family for family in families if family not in near] + [joined]
    return [_Family(sorted(own | _ground(held, files)), [found[i] for i in files]) for own, files in families]


def _are_numbered(values: set[int]) -> bool:
    return all(0 <= value < NUMBERED for value in values)


def _ground(held: Sequence[set[int]], files: Sequence[int]) -> set[int]:
    """Return {0} if a family has it; if any mask has it, where the family's masks hold one value each."""
    some = files if any(len(held[i]) > 1 for i in files) else range(len(held))
    return {0} & set().union(*(held[i] for i in some))


def _is_same(values: Sequence[int], model: Sequence[int]) -> bool:
    """Tell whether values say hardly anything but what as many others do, which reach as far up or farther."""
    if len(values) < 2 or not any((1 - NEAR) * top <= model[-1] <= top for top in TOPS):
        return False
    start = [value - values[0] for value in values]
    share = [step / start[-1] for step in start]
    if start == list(range(len(values))) and values[0] in (0, 1):  # numbered, from 0 or from 1
        tolerance = EVEN
    elif values[-1] in TOPS or values[-1] >= (1 - NEAR) * model[-1]:
        tolerance = NEAR
    else:
        return False
    span = model[-1] - model[0]
    return all(abs(model[0] + part * span - value) <= tolerance * span for part, value in zip(share, model, strict=True))
