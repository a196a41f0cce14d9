"""A look at images and masks before training: what they are, and what may be wrong with them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import pixelsize
from .alignment import SHIFTED, inverted, shifted_by
from .codes import Codes, total
from .contradictions import Class, left_open, strays, two_palettes
from .folders import DRAWN_ON_STORED, Pair, listed
from .labels import Classes, ClassesError, classes_of, doubts, encode, given_classes, pixels_of
from .look import Given, Look, look_at
from .normalize import BLANK, NARROWER, Normalizer, on_blanks, on_narrow
from .splitting import FEW
from .weights import require_no_class

THREADS = 2  # that look at pairs while the next is read
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
    shapes: list[tuple[int, int, int]]  # of the images, in their order: H, W, C
    paths: list[Path]  # of the same
    sizes: Counter[tuple[int, int]]
    dtypes: Counter[str]
    mask_dtypes: Counter[str]
    channels: Counter[int]
    pixel_size: float | None  # in micrometres; None where it is unknown, or not one
    values: dict[int, int]  # pixels of each mask value; of each class, where classes were given
    classes: NDArray | None  # None where the masks' values cannot be classes
    likely_classes: list[Class]  # what could be given as classes then
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


def survey(
    pairs: Iterable[Pair], classes: Classes | None = None, ignore: Sequence[int] = (), normalize: Any = "image",
    target: str = "classes",
) -> Survey:  # fmt: skip
    """Look at the pairs as `fit` would, and for what people get wrong. Bad content is a finding, never an exception.

    pairs : taken one after the other, and let go: of an iterator that reads them, a few are in memory at a time.
    classes : as `fit` takes them: the mask values that count; each pixel is taken for the nearest.
    ignore : mask values that say nothing. normalize, target : as UNet takes them.
    """
    given, normalizer = _given(classes), Normalizer.of(normalize)
    looks, findings = _look_at_all(pairs, partial(look_at, classes=given, ignore=ignore, normalizer=normalizer, target=target))
    n_pairs = len(looks) + len(findings)
    values = total([look.codes for look in looks])
    learned, likely = None, []
    findings += _swapped(looks)
    if looks:
        findings += _channels(looks) + _palettes(looks)
        try:
            require_no_class(ignore, classes, None)
            learned = classes_of([look.codes for look in looks], classes)
        except ValueError as error:
            likely = error.likely if isinstance(error, ClassesError) and not any(look.is_swapped for look in looks) else []
            if not all(look.is_swapped for look in looks):
                findings.append(Finding("error", str(error)))
    findings += _images(looks) + _scales(looks, normalizer) + _turned(looks) + _pixel_sizes(looks)
    if learned is not None:
        findings += [Finding("warning", text) for text in doubts([look.codes for look in looks], classes)]
        joined = {} if given is None else given[1]
        findings += _left_open([look.codes for look in looks], learned, joined, classes is not None)
        pixels = np.stack([pixels_of(look.codes, learned, joined) for look in looks])  # (N, K)
        values = dict(zip(learned.tolist(), pixels.sum(axis=0).tolist(), strict=True))
        findings += _empty(looks, learned, pixels) + _frequencies(values) + _alignment(looks, pixels)
    findings += _number(len(looks))
    return Survey(
        n_pairs=n_pairs,
        shapes=[look.shape for look in looks],
        paths=[look.path for look in looks],
        sizes=Counter(look.shape[:2] for look in looks),
        dtypes=Counter(look.dtype for look in looks),
        mask_dtypes=Counter(look.codes.dtype.name for look in looks),
        channels=Counter(look.shape[2] for look in looks),
        pixel_size=pixelsize.common(look.pixel_size for look in looks),
        values=values,
        classes=learned,
        likely_classes=likely,
        findings=sorted(findings, key=lambda finding: LEVELS.index(finding.level)),
    )


def _look_at_all(pairs: Iterable[Pair], look_at: Callable[[Pair], Look]) -> tuple[list[Look], list[Finding]]:
    """Return looks at the pairs that `fit` takes, and its refusals of the others."""
    looks, refused = [], []
    for look in _in_turn(pairs, look_at):
        try:
            looks.append(look.result())
        except ValueError as error:
            refused.append(Finding("error", str(error)))
    return looks, refused


def _in_turn(pairs: Iterable[Pair], look_at: Callable[[Pair], Look]) -> Iterator[Future[Look]]:
    """Yield what is seen of each pair, in their order, while the next ones are read: no more than there are threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[Future[Look]] = deque()
        for pair in pairs:
            waiting.append(pool.submit(look_at, pair))
            del pair  # its pixels go when they are seen
            if len(waiting) > THREADS:
                yield waiting.popleft()
        yield from waiting


def _given(classes: Classes | None) -> Given | None:
    """Return the classes that were given; None where there are none, or they cannot be classes, which is told later."""
    try:
        return None if classes is None else given_classes(classes)
    except ValueError:
        return None


def _channels(looks: Sequence[Look]) -> list[Finding]:
    counts = sorted({look.shape[2] for look in looks})
    if len(counts) < 2:
        return []
    names = "; ".join(f"{n}: {listed([look.name for look in looks if look.shape[2] == n])}" for n in counts)
    return [
        Finding("error", f"the images differ in their number of channels ({names}); convert them all to grey or all to colour")
    ]


def _palettes(looks: Sequence[Look]) -> list[Finding]:
    contradiction = two_palettes((look.name, look.colours) for look in looks)
    return [Finding("error", contradiction)] if contradiction else []


def _swapped(looks: Sequence[Look]) -> list[Finding]:
    names = [f"{look.name} ({look.n_values} values, its mask {look.n_mask_values})" for look in looks if look.is_swapped]
    return _finding("error", names, "image and mask look swapped; images come first, masks second")


def _images(looks: Sequence[Look]) -> list[Finding]:
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


def _turned(looks: Sequence[Look]) -> list[Finding]:
    """Tell of images that were turned as their files say, and of masks that were not drawn on them so."""
    names = [look.name for look in looks if look.orientation != 1]
    wrong = [look.name for look in looks if look.fits_turned]
    found = _finding("warning", wrong, f"the image was turned as its orientation tag says, {DRAWN_ON_STORED}")
    if names:
        were = "images were" if len(names) > 1 else "image was"
        found.append(Finding("note", f"{len(names)} {were} turned as the orientation tag (EXIF) says: {listed(names)}"))
    return found


def _pixel_sizes(looks: Sequence[Look]) -> list[Finding]:
    """Tell of pixels whose sizes differ so much that things do not look alike."""
    known = sorted((pixelsize.mean(look.pixel_size), look.name) for look in looks if look.pixel_size)
    if not known or not pixelsize.differ(known[0][0], known[-1][0]):
        return []
    sizes = " to ".join(f"{pixelsize.told_size(size)} ({name})" for size, name in (known[0], known[-1]))
    return [Finding("warning", f"the images' pixels are of different sizes, {sizes}: a network knows things by their size in "
                    "pixels; rescale the images and masks to one pixel size, unless they are to be found at each")]  # fmt: skip


def _scales(looks: Sequence[Look], normalizer: Normalizer) -> list[Finding]:
    """Look at what sets the images' scales, or must not."""
    names, spans = [look.name for look in looks], [look.span for look in looks]
    if len({look.shape[2] for look in looks}) == 1 and normalizer.mode == "image":
        normalizer.learn_usual(spans)
    return [
        *_finding("warning", on_blanks(names, [look.blank for look in looks]), BLANK),
        *_finding("note", on_narrow(names, spans, normalizer), NARROWER),
    ]


def _duplicates(looks: Sequence[Look]) -> list[Finding]:
    """Find images that are there more than once. Constant ones are told of as such."""
    groups: dict[bytes, list[Look]] = {}
    for look in looks:
        if not look.is_constant:
            groups.setdefault(look.image_digest, []).append(look)
    agreeing: list[str] = []
    contradicting: list[str] = []
    for group in groups.values():
        if len(group) > 1:
            agree = len({look.mask_digest for look in group}) == 1
            (agreeing if agree else contradicting).append(listed([look.name for look in group], " = "))
    return [
        *_finding("warning", contradicting,
                  "the same image with different masks, which contradict each other; keep the right one"),
        *_finding("warning", agreeing,
                  "the same image more than once; keep one, or the validation asks for what was learned by heart"),
    ]  # fmt: skip


def _empty(looks: Sequence[Look], classes: NDArray, pixels: NDArray) -> list[Finding]:
    empty = [f"{look.name} ({classes[n > 0][0]})" for look, n in zip(looks, pixels, strict=True) if np.count_nonzero(n) == 1]
    return _finding(
        "warning", empty, "the mask holds one class only; right where the image shows nothing else, otherwise the wrong mask"
    )


def _left_open(found: Sequence[Codes], classes: NDArray, joined: Mapping[int, int], are_given: bool) -> list[Finding]:
    """Look for pixels that may not be meant to count: of the values that people give those, or far from every class."""
    counts = total(found)
    n_pixels = sum(counts.values())
    if not are_given:
        value = left_open(found)
        if value is None:
            return []
        text = (
            f"{value} stands on {counts[value] / n_pixels:.2%} of the pixels beside numbered classes; if those are pixels that "
            f"say nothing, and no class, ignore_index={value} (--ignore {value}) leaves them out"
        )
        return [Finding("warning", text)]
    findings = []
    for value in strays(found, classes, joined):
        (near,) = classes[encode(np.array([value]), classes, joined)]
        text = (
            f"{value}, on {counts[value] / n_pixels:.2%} of the pixels, is far from every class and counts as {near}; "
            f"ignore_index={value} (--ignore {value}) leaves such pixels out, and classes that list it keep it apart"
        )
        findings.append(Finding("warning", text))
    return findings


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


def _alignment(looks: Sequence[Look], pixels: NDArray) -> list[Finding]:
    """Look for masks that lie elsewhere than what they show, and for masks whose two classes are exchanged."""
    shifted = [shifted_by(look.name, look.shift) for look in looks if look.shift]
    exchanged = []
    if pixels.shape[1] == 2:
        shares = pixels[:, 1] / pixels.sum(axis=1)
        exchanged = [looks[i].name for i in inverted([look.sign for look in looks], shares.tolist())]
    return [
        *_finding("warning", shifted, SHIFTED),
        *_finding("warning", exchanged, "the mask looks inverted against the others; compare them, and exchange its two values"),
    ]


def _finding(level: Level, names: Sequence[str], text: str) -> list[Finding]:
    """Return the finding on these names, if there are any."""
    return [Finding(level, f"{listed(names)}: {text}")] if names else []
