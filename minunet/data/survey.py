"""A look at images and masks before training: what they are, and what may be wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .alignment import fit_of, inverted
from .folders import Pair, listed
from .images import content
from .inputs import read_images, read_masks
from .labels import MAX_CLASSES, SOLID, ClassesError, count_values, encode, learn_classes
from .sampling import FEW

MAX_SAMPLES = 2**20  # pixels that an image's different values are counted on; beyond, every k-th
FEW_VALUES = 8  # an image of no more grey values was a mask, or lost its depth ...
MIN_PIXELS = 1024  # ... unless it has not many pixels either
SATURATED = 0.1  # share of pixels at the highest value
RARE = 0.01  # share of pixels of a class

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


class Finding(NamedTuple):
    """One sentence on the data. After an error training fails, or could only learn nonsense; a note asks for nothing."""

    level: Level
    text: str


@dataclass(frozen=True)
class Survey:
    """What the pairs are: how many have each size, dtype and number of channels. Unusable pairs count in n_pairs alone."""

    n_pairs: int
    sizes: Counter[tuple[int, int]]
    dtypes: Counter[str]
    mask_dtypes: Counter[str]
    channels: Counter[int]
    values: dict[int, int]  # pixels of each mask value; of each class, where classes were given
    classes: NDArray | None  # None where the masks' values cannot be classes
    likely_classes: list[int]  # what could be given as classes then
    findings: list[Finding]  # errors first, then warnings, then notes

    @property
    def frequencies(self) -> dict[int, float]:
        """The share of all pixels that each value has."""
        total = sum(self.values.values())
        return {value: count / total for value, count in self.values.items()}

    @property
    def rare(self) -> list[int]:
        """The classes on less than 1 % of the pixels, if on any."""
        return [] if self.classes is None else [value for value, share in self.frequencies.items() if 0 < share < RARE]


def survey(pairs: Sequence[Pair], classes: Sequence[int] | None = None) -> Survey:
    """Look at the pairs as `fit` would, and for what people get wrong. Bad content is a finding, never an exception.

    classes : as `fit` takes them: the mask values that count; each pixel is taken for the nearest.
    """
    looks, findings = _usable(pairs)
    values = count_values([look.mask for look in looks])
    learned, likely = None, []
    findings += _swapped(looks)
    if looks:
        findings += _channels(looks)
        try:
            learned = learn_classes([look.mask for look in looks], classes=classes)
        except ValueError as error:
            likely = _likely_classes(error, looks, values)
            if not all(look.is_swapped for look in looks):
                findings.append(Finding("error", _with_flags(error, likely)))
    findings += _images(looks)
    if learned is not None:
        indices = [encode(look.mask, learned) for look in looks]
        if classes is not None:
            found = count_values(indices)
            values = {value: found.get(i, 0) for i, value in enumerate(learned.tolist())}
        findings += _empty(looks, indices, learned) + _frequencies(values) + _alignment(looks, indices, len(learned))
    findings += _number(len(looks))
    return Survey(
        n_pairs=len(pairs),
        sizes=Counter((int(h), int(w)) for h, w in (look.mask.shape for look in looks)),
        dtypes=Counter(look.image.dtype.name for look in looks),
        mask_dtypes=Counter(look.mask.dtype.name for look in looks),
        channels=Counter(int(look.image.shape[2]) for look in looks),
        values=values,
        classes=learned,
        likely_classes=likely,
        findings=sorted(findings, key=lambda finding: LEVELS.index(finding.level)),
    )


class _Look(Pair):
    """An image (H, W, C) with its mask (H, W), each usable, and what is seen of them without the others."""

    @cached_property
    def n_values(self) -> int:
        pixels = self.image.reshape(-1)
        return len(np.unique(pixels[:: -(-pixels.size // MAX_SAMPLES)]))

    @cached_property
    def n_mask_values(self) -> int:
        return len(np.unique(self.mask))

    @cached_property
    def is_constant(self) -> bool:
        return bool(self.image.min() == self.image.max())

    @cached_property
    def is_swapped(self) -> bool:
        """Whether the image has few values and its mask many, which are not numbered objects."""
        many = self.n_values <= MAX_CLASSES < self.n_mask_values and self.n_mask_values >= 4 * self.n_values
        return many and not _form_regions([self.mask])

    @cached_property
    def is_its_mask(self) -> bool:
        """Whether the image is the mask; a black image with an empty mask is honest."""
        return not self.is_constant and bool((self.image == self.mask[..., None]).all())

    @cached_property
    def has_few_values(self) -> bool:
        return not self.is_constant and self.n_values <= FEW_VALUES and self.mask.size >= MIN_PIXELS

    @cached_property
    def saturated(self) -> float:
        """The share of pixels at the highest value. The lowest tells nothing: many images have a black ground."""
        return 0.0 if self.n_values <= FEW_VALUES else float((self.image == self.image.max()).mean())


def _usable(pairs: Sequence[Pair]) -> tuple[list[_Look], list[Finding]]:
    """Return the pairs that `fit` takes one by one, and its refusals of the others."""
    looks, refused = [], []
    for pair in pairs:
        try:
            images = read_images([pair.image])
            looks.append(_Look(pair.name, images.arrays[0], read_masks([pair.mask], images)[0], pair.path))
        except ValueError as error:
            text = str(error).replace("y[0]", f"the mask of {pair.name}").replace("x[0]", pair.name)
            refused.append(Finding("error", text))
    return looks, refused


def _channels(looks: Sequence[_Look]) -> list[Finding]:
    counts = sorted({look.image.shape[2] for look in looks})
    if len(counts) < 2:
        return []
    names = "; ".join(f"{n}: {listed([look.name for look in looks if look.image.shape[2] == n])}" for n in counts)
    return [
        Finding("error", f"the images differ in their number of channels ({names}); convert them all to grey or all to colour")
    ]


def _swapped(looks: Sequence[_Look]) -> list[Finding]:
    names = [f"{look.name} ({look.n_values} values, its mask {look.n_mask_values})" for look in looks if look.is_swapped]
    return _finding("error", names, "image and mask look swapped; images come first, masks second")


def _likely_classes(refusal: ValueError, looks: Sequence[_Look], values: dict[int, int]) -> list[int]:
    """Return what the user may have meant: 0 and 1 for instance labels (1 is the nearest to each object's number)."""
    if not isinstance(refusal, ClassesError) or any(look.is_swapped for look in looks):
        return []
    if len(values) > MAX_CLASSES and min(values) == 0 and _form_regions([look.mask for look in looks]):
        return [0, 1]
    return refusal.likely


def _form_regions(masks: Sequence[NDArray]) -> bool:
    """Tell whether nearly every value has most of its pixels beside one of the same value, as objects' numbers have."""
    values = count_values(masks)
    runs = count_values([mask[:, 1:][mask[:, 1:] == mask[:, :-1]] for mask in masks])
    return sum(runs.get(value, 0) >= SOLID * count for value, count in values.items()) >= 0.9 * len(values)


def _with_flags(refusal: ValueError, likely: Sequence[int]) -> str:
    """Return the refusal with its remedy as the command line takes it, too."""
    if not isinstance(refusal, ClassesError) or not likely:
        return str(refusal)
    does = "makes one class of all objects" if likely == [0, 1] else "takes each pixel for the nearest of these values"
    return f"{refusal.problem} classes={likely} (--classes {' '.join(map(str, likely))}) {does}."


def _images(looks: Sequence[_Look]) -> list[Finding]:
    """Look at the images: copies of masks or of each other, and values that tell little."""
    masklike = [look for look in looks if look.has_few_values and not look.is_swapped and not look.is_its_mask]
    few = [f"{look.name} ({look.n_values})" for look in masklike]
    saturated = [f"{look.name} ({look.saturated:.0%})" for look in looks if look.saturated >= SATURATED]
    return [
        *_finding("error", [look.name for look in looks if look.is_its_mask],
                  "image and mask are the same; give the image itself"),
        *_duplicates(looks),
        *_finding("warning", [look.name for look in looks if look.is_constant],
                  "the image is one value everywhere, so it shows nothing; export it again, or leave it and its mask out"),
        *_finding("warning", few,
                  "the image has very few grey values, like a mask; give the original, if this is not it"),
        *_finding("warning", saturated,
                  "many pixels have the image's highest value: it is saturated, and what was there is lost; export it with its "
                  "full range, if it has one"),
    ]  # fmt: skip


def _duplicates(looks: Sequence[_Look]) -> list[Finding]:
    """Find images that are there more than once. Constant ones are told of as such."""
    groups: dict[bytes, list[_Look]] = {}
    for look in looks:
        if not look.is_constant:
            groups.setdefault(content(look.image), []).append(look)
    agreeing: list[str] = []
    contradicting: list[str] = []
    for group in groups.values():
        if len(group) > 1:
            agree = all(np.array_equal(look.mask, group[0].mask) for look in group)
            (agreeing if agree else contradicting).append(listed([look.name for look in group], " = "))
    return [
        *_finding("warning", contradicting,
                  "the same image with different masks, which contradict each other; keep the right one"),
        *_finding("warning", agreeing,
                  "the same image more than once; keep one, or the validation asks for what was learned by heart"),
    ]  # fmt: skip


def _empty(looks: Sequence[_Look], indices: Sequence[NDArray], classes: NDArray) -> list[Finding]:
    empty = [f"{look.name} ({classes[i.flat[0]]})" for look, i in zip(looks, indices, strict=True) if i.min() == i.max()]
    return _finding(
        "warning", empty, "the mask holds one class only; right where the image shows nothing else, otherwise the wrong mask"
    )


def _frequencies(values: dict[int, int]) -> list[Finding]:
    total = sum(values.values())
    absent = [f"class {value}" for value, count in values.items() if count == 0]
    rare = [f"class {value} ({count / total:.2%})" for value, count in values.items() if 0 < count < RARE * total]
    return [
        *_finding("warning", absent, "no mask has a pixel nearest to it; leave it out of the classes"),
        *_finding("note", rare, 'less than 1 % of the pixels; class_weight="balanced" (--class-weight balanced) makes rare '
                  "classes count as much as others"),
    ]  # fmt: skip


def _number(n: int) -> list[Finding]:
    if not 0 < n < FEW:
        return []
    few, strip = ("there is one image only", "a strip of it") if n == 1 else (f"there are {n} images only", "a strip of each")
    text = f"{few}: augmentation makes more of that, and {strip} is kept for validation; further images are the surest gain"
    return [Finding("note", text)]


def _alignment(looks: Sequence[_Look], indices: Sequence[NDArray], n_classes: int) -> list[Finding]:
    """Look for masks that lie elsewhere than what they show, and for masks whose two classes are exchanged."""
    signs, shifts = zip(*(fit_of(look.image, index) for look, index in zip(looks, indices, strict=True)), strict=True)
    shifted = [f"{look.name} ({by[0]:+d} rows, {by[1]:+d} columns)" for look, by in zip(looks, shifts, strict=True) if by]
    shares = [float(index.mean()) for index in indices]
    exchanged = [looks[i].name for i in inverted(signs, shares)] if n_classes == 2 else []
    return [
        *_finding("warning", shifted, "the mask looks shifted against its image; lay one over the other, and move the mask back"),
        *_finding("warning", exchanged, "the mask looks inverted against the others; compare them, and exchange its two values"),
    ]


def _finding(level: Level, names: Sequence[str], text: str) -> list[Finding]:
    """Return the finding on these names, if there are any."""
    return [Finding(level, f"{listed(names)}: {text}")] if names else []
