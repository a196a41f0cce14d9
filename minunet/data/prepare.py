"""From what `fit` is given to what it trains on: read, checked, scaled, and split into what is learned and what is held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import labels as label_codes
from . import mistakes
from .inputs import Images, read_images, read_masks, read_weights
from .normalize import Normalizer
from .sampling import Example, split


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


def prepare(
    x: Any, y: Any, *, sample_weight: Any, validation_data: Any, classes: Sequence[int] | None, normalize: str,
    class_weight: Any, validation_fraction: float, random_state: int,
) -> Prepared:  # fmt: skip
    """Return what `fit` trains on; a ValueError says what is wrong with x, y or their companions. Nothing given is changed."""
    images = read_images(x, y)
    masks = read_masks(y, images)
    weights = read_weights(sample_weight, images)
    values = label_codes.learn_classes(masks, weights, classes=classes)
    held_out = _read_validation(validation_data, images, values, snap=classes is not None)
    normalizer = Normalizer(normalize).fit(images.arrays)
    examples = [
        Example(normalizer(image), label_codes.encode(mask, values), weight)
        for image, mask, weight in zip(images.arrays, masks, weights, strict=True)
    ]
    frequencies = label_codes.class_frequencies([e.label for e in examples], len(values), weights)
    resolved = label_codes.resolve_class_weight(class_weight, values, frequencies)
    training = examples
    validation = [Example(normalizer(image), label_codes.encode(mask, values), None) for image, mask in held_out]
    if validation_data is None:
        training, validation = split(examples, validation_fraction, random_state)
        if all(e.weight is not None and not e.weight.any() for e in training):
            where = "in the part that is held out for validation"
            uses = "validation_fraction=0 (--validation-fraction 0) uses them"
            raise ValueError(f"all pixels with a sample_weight above 0 lie {where}; {uses}")
    return Prepared(training, validation, images.n_channels, images.channel_axis, values, frequencies, resolved, normalizer)


def _read_validation(data: Any, images: Images, classes: NDArray, *, snap: bool) -> list[tuple[NDArray, NDArray]]:
    if data is None:
        return []
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        share = "without it, UNet(validation_fraction=0.2) holds out a share of the training images"
        raise ValueError(f"validation_data is {mistakes.kind(data)}; it takes a pair (x, y) of images and masks ({share})")
    found = read_images(
        data[0], data[1], n_channels=images.n_channels, channel_axis=images.channel_axis, name="validation_data[0]",
        y_name="validation_data[1]",
    )  # fmt: skip
    masks = read_masks(data[1], found, name="validation_data[1]")
    if not snap:
        label_codes.require_known(masks, classes, "validation_data[1]")
    return list(zip(found.arrays, masks, strict=True))
