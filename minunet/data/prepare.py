"""From what `fit` is given to what it trains on: read, checked, scaled, and split into what is learned and what is held out."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import shown
from ..warn import warn
from . import instances, mistakes
from . import labels as label_codes
from .border import setting as border_setting
from .border import weighed
from .codes import Codes, total
from .inputs import Images
from .normalize import BLANK, NARROWER, Normalizer, View, on_blanks, on_narrow, trained_blank
from .rare import class_counts
from .sampling import Example
from .sliced import Image, Sliced, bands
from .splitting import Part, Split, read_groups, split
from .stacks import require_neighbours, slices_around, stacked
from .weights import Examples, ignored_values, read_examples, require_no_class

NAMED = 5  # images in a warning


@dataclass(frozen=True)
class Known:
    """What a model that is gone on with has settled: its classes, whether masks are taken for the nearest, and the like."""

    classes: NDArray
    joined: dict[int, int]
    snap: bool
    ignore: list[int]
    normalizer: Normalizer
    n_channels: int


@dataclass(frozen=True)
class Prepared:
    """Examples to learn from and examples held out, scaled; what their images are, and what their masks' values mean.

    examples : all that x and y are, from which parts are held out; apart : what is to be validated on instead.
    training, validation : as the network sees them, in parts, with the slices around each (`around`: of both, one after another).
    """

    examples: list[Example]
    apart: list[Example]
    training: list[Example]
    validation: list[Example]
    held_out: list[Part]
    around: list[list[int]]
    n_channels: int
    channel_axis: bool
    classes: NDArray
    joined: dict[int, int]
    frequencies: NDArray[np.float64]
    class_weight: NDArray[np.float64] | None
    normalizer: Normalizer
    snap: bool
    ignore: list[int]
    smallest_object: int | None  # pixels, where masks number objects


def prepare(
    x: Any, y: Any, *, sample_weight: Any, validation_data: Any, classes: label_codes.Classes | None, ignore_index: Any,
    normalize: Any, class_weight: Any, validation_fraction: float, random_state: int, groups: Any = None,
    border_weight: Any = None, known: Known | None = None, target: str = "classes", context: int = 0,
) -> Prepared:  # fmt: skip
    """Return what `fit` trains on; a ValueError says what is wrong with x, y or their companions. Nothing given is changed.

    known : of a model to go on with; None learns everything anew. target : as UNet takes it.
    """
    ignore = known.ignore if known and ignore_index is None else ignored_values(ignore_index)
    require_no_class(ignore, classes, class_weight)
    n_channels = known.n_channels if known else None
    given = read_examples(x, y, sample_weight=sample_weight, ignore=ignore, n_channels=n_channels)
    given, smallest_object = _objects(given, classes, ignore) if target == "instances" else (given, None)
    images, masks, weights = given
    group_of: list[Hashable] | None = [0] * len(images.arrays) if context else None  # a stack
    group_of = group_of if groups is None else read_groups(groups, len(images.arrays))
    around = slices_around(images.arrays, images.called(images.name), context, group_of)
    require_neighbours(around, context)
    values, joined = _classes(given, classes, known) if smallest_object is None else (instances.CLASSES, {})
    snap = classes is not None or (known is not None and known.snap)
    apart = _read_validation(validation_data, given, values, joined if snap else None, ignore, target, context)
    around_apart = _around(validation_data, apart, context)
    labels = [_indices(mask, image, values, joined) for mask, image in zip(masks, images.arrays, strict=True)]
    views = [View(*of) for of in zip(images.arrays, images.hidden, given.counted, labels, strict=True)]
    normalizer = known.normalizer if known else Normalizer.of(normalize)
    ranges = [normalizer.measure(view) for view in views]
    if known is None:
        normalizer.learn(views, ranges)
    trained = [trained_blank(view, found) for view, found in zip(views, ranges, strict=True)]
    _tell_of(on_blanks(images.called(images.name), trained), BLANK)
    examples = [
        Example(normalizer.scaled(image, found, hidden, name), label, weight, name)
        for image, found, hidden, label, weight, name in zip(
            images.arrays, ranges, images.hidden, labels, weights, images.called(images.name), strict=True
        )
    ]
    _tell_of_shifts(images.called(images.name), examples)
    frequencies = label_codes.class_frequencies(labels, len(values), weights)
    resolved = label_codes.resolve_class_weight(class_weight, values, frequencies)
    given_apart = _to_validate(apart, normalizer, values, joined)
    if border := border_setting(border_weight):  # of whole images, before any is cut: what is beyond a cut is an object, too
        examples, given_apart = ([weighed(e, border, resolved) for e in side] for side in (examples, given_apart))
    seen, held_out = _seen(examples, around), list[Part]()
    training, validation = seen, _seen(given_apart, around_apart)
    if validation_data is None:
        parts = _split(examples, values, group_of, validation_fraction, random_state)
        training, validation = ([_of(seen, part) for part in side] for side in (parts.training, parts.held_out))
        held_out = parts.held_out
    return Prepared(
        examples, given_apart, training, validation, held_out, around + around_apart, images.n_channels, images.channel_axis,
        values, joined, frequencies, resolved, normalizer, snap, ignore, smallest_object,
    )  # fmt: skip


def _objects(given: Examples, classes: label_codes.Classes | None, ignore: Sequence[int]) -> tuple[Examples, int]:
    """Return examples of ground, inside and border, of masks that number objects; and the pixels of the smallest of these."""
    if classes is not None:
        raise ValueError(
            f'classes (--classes) is {shown(classes)}, but with target="instances" (--target instances) masks number objects; '
            "leave it out: what is learned is ground, inside and border"
        )
    if instances.GROUND in ignore:
        raise ValueError(
            'ignore_index (--ignore) is 0, which is the ground with target="instances" (--target instances); it takes other '
            "values of the masks, and sample_weight leaves pixels out, too"
        )
    masks = given.numbers(ignore)
    if not any(mask.any() for mask in masks):
        raise ValueError("y holds no objects: all masks are 0, so there is nothing to learn")
    pieces = instances.numbered(masks)
    objects = pieces or masks
    learned = given._replace(masks=[instances.three_classes(mask) for mask in objects])
    classes_found = label_codes.count_values(learned.of_counted(learned.masks))
    if len(classes_found) == 1:
        raise ValueError(
            f"{given.images.called('y')[0].partition('[')[0]} holds one object wherever a pixel counts, and neither ground (0) "
            "nor a border: there is nothing to learn"
        )
    if pieces:
        warn(instances.NUMBERED)
    elif instances.are_scattered(objects):
        warn(instances.SCATTERED)
    if instances.GROUND not in classes_found:
        warn(instances.GROUNDLESS)
    return learned, instances.smallest(objects)


def _seen(examples: Sequence[Example], around: Sequence[Sequence[int]]) -> list[Example]:
    """Return examples as the network sees them, each with the images around it."""
    images = stacked([example.image for example in examples], around)
    return [replace(example, image=image) for example, image in zip(examples, images, strict=True)]


def _classes(
    given: Examples, classes: label_codes.Classes | None, known: Known | None
) -> tuple[NDArray, dict[int, int]]:
    """Return the masks' classes, of a model to go on with its own and what is new in the masks; and which values are joined."""
    found, told = given.codes(given.images.called("y")), list[str]()
    if known is not None:
        told = _told_of_new(found, known) if classes is None and not known.snap else []
        found, classes = label_codes.with_model(found, classes, known.classes, known.joined, snap=known.snap)
    values = label_codes.classes_of(found, classes)
    for doubt in label_codes.doubts(found, classes) or told:
        warn(doubt)
    return values, {} if classes is None else label_codes.given_classes(classes)[1]


def _told_of_new(found: list[Codes], known: Known) -> list[str]:
    """Return what to tell where the masks have values that a model lacks, and the other way round: they may be other codes."""
    here, old = set(total(found)), set(known.classes.tolist())
    if not (here - old and old - here):
        return []
    new, lacking = (", ".join(map(str, sorted(values))) for values in (here - old, old - here))
    return [
        f"the masks hold {new}, which the model does not know, and lack {lacking}, which it does: all are kept, as different "
        "classes. If they are the same, give the masks the model's values"
    ]


def _split(examples: list[Example], values: NDArray, groups: list[Hashable] | None, fraction: float, random_state: int) -> Split:
    """Return what is trained on and what is held out, and tell where that is not what is asked for."""

    def count(part: Part) -> NDArray[np.integer]:
        found = _of(examples, part)
        return class_counts(found.label, found.weight, len(values))

    parts = split([e.label.shape for e in examples], fraction, random_state, groups=groups, count=count)
    n, n_held = len(examples), len(parts.held_out)
    if n_held == 0 and parts.scarce:
        scarce = ", ".join(str(values[k]) for k in parts.scarce)
        warn(
            f"nothing is held out for validation: class {scarce} would hardly be trained, as nearly all its pixels lie in what "
            "could be held out. validation_data (--validation) reports on images of their own"
        )
    if groups is not None and len(set(groups)) > 1 and n_held > 2 * math.ceil(fraction * n):
        warn(
            f"{n_held} of {n} images are held out for validation, as groups (the pages of a stack) are not cut; validation_data "
            "(--validation) reports on other images, validation_fraction=0 (--validation-fraction 0) trains on all"
        )
    return parts


def _of(examples: Sequence[Example], part: Part) -> Example:
    return examples[part.image].crop(part.rows, part.cols)


def _read_validation(
    data: Any, given: Examples, classes: NDArray, joined: dict[int, int] | None, ignore: Sequence[int],
    target: str, context: int,
) -> Examples | None:  # fmt: skip
    """Return images with their masks. joined : where the classes were given, so that each value is its nearest's."""
    if data is None:
        return None
    if not isinstance(data, (tuple, list)) or len(data) not in ((2, 3) if context else (2,)):
        share = "without it, UNet(validation_fraction=0.2) holds out a share of the training images"
        more = ", with context perhaps (x, y, groups)" if context else ""
        raise ValueError(f"validation_data is {mistakes.kind(data)}; it takes a pair (x, y) of images and masks{more} ({share})")
    found = read_examples(
        *data[:2], ignore=ignore, name="validation_data[0]", mask_name="validation_data[1]",
        n_channels=given.images.n_channels, channel_axis=given.images.channel_axis,
    )  # fmt: skip
    if target == "instances":
        return found.of_instances(ignore)
    if joined is None:
        label_codes.require_known(found.of_counted(found.masks), classes, "validation_data[1]")
    else:
        label_codes.require_same_code(found.codes(found.images.called("validation_data[1]")), classes, joined)
    return found


def _around(data: Any, apart: Examples | None, context: int) -> list[list[int]]:
    """Return with which slices each image of validation_data is seen."""
    if apart is None:
        return []
    images = apart.images
    groups = read_groups(data[2], len(images.arrays)) if len(data) == 3 else None
    return slices_around(images.arrays, images.called(images.name), context, groups)


def _to_validate(
    held_out: Examples | None, normalizer: Normalizer, classes: NDArray, joined: dict[int, int]
) -> list[Example]:
    if held_out is None:
        return []
    images, masks, weights = held_out
    given = zip(scaled(images, normalizer, lazily=False), masks, weights, strict=True)
    return [Example(image, _indices(mask, image, classes, joined), weight) for image, mask, weight in given]


def _indices(mask: NDArray, image: Image, classes: NDArray, joined: dict[int, int]) -> NDArray[np.integer]:
    """Return the index of each pixel's class (H, W); beside an image that lies on disk, in a byte if that does."""
    if not isinstance(image, Sliced):
        return label_codes.encode(mask, classes, joined)
    index = np.empty(mask.shape, np.min_scalar_type(len(classes) - 1))
    for rows in bands(image):
        index[rows] = label_codes.encode(mask[rows], classes, joined)
    return index


def scaled(images: Images, normalizer: Normalizer, context: int = 0, *, lazily: bool = True) -> Iterator[Image]:
    """Yield each image as a network that was fitted with this normalizer takes it; tell first what is odd about their scales.

    context : how many slices before and after each it is to be seen with, of the one stack that the images are then.
    lazily : scale what is in memory, too, only where it is sliced: that is enough for whoever looks at it once.
    """
    ranges = [normalizer.measure(View(*of)) for of in zip(images.arrays, images.hidden, strict=True)]
    names = images.called(images.name)
    _tell_of(on_blanks(names, [found.blank for found in ranges]), BLANK)
    _tell_of(on_narrow(names, ranges, normalizer), NARROWER)
    around = slices_around(images.arrays, names, context)
    if len(around) == 1:
        warn(f"{names[0]} is one slice; this model sees {context} on each side of one, and takes it for these, too: give a stack")
    each = (
        normalizer.scaled(image, found, hidden, name, lazily=lazily)
        for image, found, hidden, name in zip(images.arrays, ranges, images.hidden, names, strict=True)
    )
    yield from stacked(list(each), around) if around else each


def _tell_of(names: Sequence[str], text: str) -> None:
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        warn(f"{', '.join(names[:NAMED])}{more}: {text}")


def _tell_of_shifts(names: Sequence[str], examples: Sequence[Example]) -> None:
    """Tell of masks that lie elsewhere than what they show, as `minunet check` does: they train, but badly."""
    from .alignment import SHIFTED, shifted_by, shifts  # here: it loads SciPy

    _tell_of([shifted_by(names[i], shift) for i, shift in shifts(examples).items()], SHIFTED)
