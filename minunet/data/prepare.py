"""From what `fit` is given to what it trains on: read, checked, scaled, and split into what is learned and what is held out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import labels as label_codes
from . import mistakes
from .codes import Codes, codes_of, total
from .inputs import Images, read_images, read_masks, read_weights
from .normalize import Normalizer
from .sampling import Example
from .splitting import Part, Split, read_groups, split


@dataclass(frozen=True)
class Known:
    """What a model that is gone on with has settled: its classes, whether masks are taken for the nearest, scale, channels."""

    classes: NDArray
    joined: dict[int, int]
    snap: bool
    normalizer: Normalizer
    n_channels: int


@dataclass(frozen=True)
class Prepared:
    """Examples to learn from and examples held out, scaled; what their images are, and what their masks' values mean."""

    training: list[Example]
    validation: list[Example]
    held_out: list[Part]
    n_channels: int
    channel_axis: bool
    classes: NDArray
    joined: dict[int, int]
    frequencies: NDArray[np.float64]
    class_weight: NDArray[np.float64] | None
    normalizer: Normalizer
    snap: bool


def prepare(
    x: Any, y: Any, *, sample_weight: Any, validation_data: Any, classes: label_codes.Classes | None, normalize: str,
    class_weight: Any, validation_fraction: float, random_state: int, groups: Any = None, known: Known | None = None,
) -> Prepared:  # fmt: skip
    """Return what `fit` trains on; a ValueError says what is wrong with x, y or their companions. Nothing given is changed.

    known : of a model to go on with; None learns everything anew.
    """
    images = read_images(x, y, n_channels=None if known is None else known.n_channels)
    masks = read_masks(y, images)
    weights = read_weights(sample_weight, images)
    labels = None if groups is None else read_groups(groups, len(images.arrays))
    values, joined = _classes(masks, weights, images.called("y"), classes, known)
    snap = classes is not None or (known is not None and known.snap)
    validation_pairs = _read_validation(validation_data, images, values, joined if snap else None)
    normalizer = Normalizer(normalize).fit(images.arrays) if known is None else known.normalizer
    examples = [
        Example(normalizer(image), label_codes.encode(mask, values, joined), weight)
        for image, mask, weight in zip(images.arrays, masks, weights, strict=True)
    ]
    frequencies = label_codes.class_frequencies([e.label for e in examples], len(values), weights)
    resolved = label_codes.resolve_class_weight(class_weight, values, frequencies)
    training, held_out = examples, list[Part]()
    validation = [Example(normalizer(image), label_codes.encode(mask, values, joined), None) for image, mask in validation_pairs]
    if validation_data is None:
        parts = _split(examples, values, labels, validation_fraction, random_state)
        training, validation = ([_of(examples, part) for part in side] for side in (parts.training, parts.held_out))
        held_out = parts.held_out
    return Prepared(
        training, validation, held_out, images.n_channels, images.channel_axis, values, joined, frequencies, resolved, normalizer,
        snap,
    )  # fmt: skip


def _classes(
    masks: list[NDArray], weights: label_codes.Weights, names: list[str], classes: label_codes.Classes | None, known: Known | None
) -> tuple[NDArray, dict[int, int]]:
    """Return the masks' classes, of a model to go on with its own and what is new in the masks; and which values are joined."""
    called = zip(masks, weights, names, strict=True)
    found = [codes_of(*mask) for mask in called]
    if known is not None:
        if classes is None and not known.snap and (text := _told_of_new(found, known)):
            _tell(text)
        found, classes = label_codes.with_model(found, classes, known.classes, known.joined, snap=known.snap)
    values = label_codes.classes_of(found, classes)
    for doubt in label_codes.doubts(found, classes):
        warnings.warn(doubt, label_codes.CodesWarning, stacklevel=5)
    return values, {} if classes is None else label_codes.given_classes(classes)[1]


def _told_of_new(found: list[Codes], known: Known) -> str | None:
    """Return what to tell where the masks have values that a model lacks, and the other way round: they may be other codes."""
    here, old = set(total(found)), set(known.classes.tolist())
    if not (here - old and old - here):
        return None
    new, lacking = (", ".join(map(str, sorted(values))) for values in (here - old, old - here))
    return (
        f"the masks hold {new}, which the model does not know, and lack {lacking}, which it does: all are kept, as different "
        "classes. If they are the same, give the masks the model's values"
    )


def _split(examples: list[Example], values: NDArray, groups: list[Hashable] | None, fraction: float, random_state: int) -> Split:
    """Return what is trained on and what is held out, and tell where that is not what is asked for."""

    def count(part: Part) -> NDArray[np.integer]:
        found = _of(examples, part)
        return np.bincount(found.label[... if found.weight is None else found.weight > 0].ravel(), minlength=len(values))

    parts = split([e.label.shape for e in examples], fraction, random_state, groups=groups, count=count)
    n, n_held = len(examples), len(parts.held_out)
    if n_held == 0 and parts.scarce:
        scarce = ", ".join(str(values[k]) for k in parts.scarce)
        _tell(
            f"nothing is held out for validation: class {scarce} would hardly be trained, as nearly all its pixels lie in what "
            "could be held out. validation_data (--validation) reports on images of their own"
        )
    if groups is not None and len(set(groups)) > 1 and n_held > 2 * math.ceil(fraction * n):
        _tell(
            f"{n_held} of {n} images are held out for validation, as groups (the pages of a stack) are not cut; validation_data "
            "(--validation) reports on other images, validation_fraction=0 (--validation-fraction 0) trains on all"
        )
    return parts


def _tell(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=6)  # at the user's call of fit


def _of(examples: Sequence[Example], part: Part) -> Example:
    return examples[part.image].crop(part.rows, part.cols)


def _read_validation(data: Any, images: Images, classes: NDArray, joined: dict[int, int] | None) -> list[tuple[NDArray, NDArray]]:
    """Return images with their masks. joined : where the classes were given, so that each value is its nearest's."""
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
    if joined is None:
        label_codes.require_known(masks, classes, "validation_data[1]")
    else:
        label_codes.require_same_code(masks, classes, joined, found.called("validation_data[1]"))
    return list(zip(found.arrays, masks, strict=True))
