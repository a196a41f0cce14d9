"""From what `fit` is given to what it trains on: read, checked, scaled, and split into what is learned and what is held out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import labels as label_codes
from . import mistakes
from .inputs import Images
from .normalize import BLANK, NARROWER, Normalizer, View, on_blanks, on_narrow, trained_blank
from .sampling import Example, split
from .weights import Examples, ignored_values, read_examples

NAMED = 5  # images in a warning


@dataclass(frozen=True)
class Prepared:
    """Examples to learn from and examples held out, scaled; what their images are, and what their masks' values mean."""

    training: list[Example]
    validation: list[Example]
    n_channels: int
    channel_axis: bool
    classes: NDArray
    frequencies: NDArray[np.float64]
    class_weight: NDArray[np.float64] | None
    normalizer: Normalizer
    ignore: list[int]


def prepare(
    x: Any, y: Any, *, sample_weight: Any, validation_data: Any, classes: Sequence[int] | None, ignore_index: Any,
    normalize: Any, class_weight: Any, validation_fraction: float, random_state: int,
) -> Prepared:  # fmt: skip
    """Return what `fit` trains on; a ValueError says what is wrong with x, y or their companions. Nothing given is changed."""
    ignore = ignored_values(ignore_index)
    given = read_examples(x, y, sample_weight=sample_weight, ignore=ignore)
    images, masks, weights = given
    values = label_codes.learn_classes(masks, weights, classes=classes)
    held_out = _read_validation(validation_data, given, values, ignore, snap=classes is not None)
    labels = [label_codes.encode(mask, values) for mask in masks]
    normalizer = Normalizer.of(normalize)
    views = [View(*of) for of in zip(images.arrays, images.hidden, given.counted, labels, strict=True)]
    ranges = [normalizer.measure(view) for view in views]
    normalizer.learn(views, ranges)
    trained = [trained_blank(view, found) for view, found in zip(views, ranges, strict=True)]
    _tell(on_blanks(images.called(images.name), trained), BLANK)
    examples = [
        Example(normalizer(image, found, hidden), label, weight)
        for image, found, hidden, label, weight in zip(images.arrays, ranges, images.hidden, labels, weights, strict=True)
    ]
    frequencies = label_codes.class_frequencies(labels, len(values), weights)
    resolved = label_codes.resolve_class_weight(class_weight, values, frequencies)
    training, validation = examples, _to_validate(held_out, normalizer, values)
    if validation_data is None:
        training, validation = split(examples, validation_fraction, random_state)
        if all(e.weight is not None and not e.weight.any() for e in training):
            where = "in the part that is held out for validation"
            uses = "validation_fraction=0 (--validation-fraction 0) uses them"
            raise ValueError(f"all pixels with a sample_weight above 0 lie {where}; {uses}")
    n_channels, channel_axis = images.n_channels, images.channel_axis
    return Prepared(training, validation, n_channels, channel_axis, values, frequencies, resolved, normalizer, ignore)


def _read_validation(data: Any, given: Examples, classes: NDArray, ignore: Sequence[int], *, snap: bool) -> Examples | None:
    if data is None:
        return None
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        share = "without it, UNet(validation_fraction=0.2) holds out a share of the training images"
        raise ValueError(f"validation_data is {mistakes.kind(data)}; it takes a pair (x, y) of images and masks ({share})")
    found = read_examples(
        *data, ignore=ignore, name="validation_data[0]", mask_name="validation_data[1]",
        n_channels=given.images.n_channels, channel_axis=given.images.channel_axis,
    )  # fmt: skip
    if not snap:
        label_codes.require_known(found.of_counted(found.masks), classes, "validation_data[1]")
    return found


def _to_validate(held_out: Examples | None, normalizer: Normalizer, classes: NDArray) -> list[Example]:
    if held_out is None:
        return []
    images, masks, weights = held_out
    given = zip(scaled(images, normalizer), masks, weights, strict=True)
    return [Example(image, label_codes.encode(mask, classes), weight) for image, mask, weight in given]


def scaled(images: Images, normalizer: Normalizer) -> Iterator[NDArray[np.float32]]:
    """Yield each image as a network that was fitted with this normalizer takes it; tell first what is odd about their scales."""
    ranges = [normalizer.measure(View(*of)) for of in zip(images.arrays, images.hidden, strict=True)]
    names = images.called(images.name)
    _tell(on_blanks(names, [found.blank for found in ranges]), BLANK)
    _tell(on_narrow(names, ranges, normalizer), NARROWER)
    for image, found, hidden in zip(images.arrays, ranges, images.hidden, strict=True):
        yield normalizer(image, found, hidden)


def _tell(names: Sequence[str], text: str) -> None:
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        warnings.warn(f"{', '.join(names[:NAMED])}{more}: {text}", UserWarning, stacklevel=3)
