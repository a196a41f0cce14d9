"""Images with their masks, and how much each pixel counts: not at all where it is masked, ignored, or given a weight of 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import shown
from . import instances
from .codes import Codes, codes_of
from .inputs import Images, masked_pixels, per_image, read_images, read_masks, read_weights, without_gaps
from .labels import Classes, given_classes
from .sliced import lies_on_disk


class Examples(NamedTuple):
    """Images, for each its mask (H, W), and the weights of its pixels, (H, W), or None where all count alike."""

    images: Images
    masks: list[NDArray]
    weights: list[NDArray[np.float32] | None]

    @property
    def counted(self) -> list[NDArray[np.bool_] | None]:
        """Which pixels count, (H, W), or None for all."""
        return [None if weight is None else weight > 0 for weight in self.weights]

    def of_counted(self, arrays: Sequence[NDArray]) -> list[NDArray]:
        """Return of each array (H, W) what lies where pixels count: (M,), or all of it."""
        return [a if here is None else a[here] for a, here in zip(arrays, self.counted, strict=True)]

    def of_instances(self, ignore: Sequence[int] = ()) -> Examples:
        """Return the same with masks of the three classes that are learned of the object numbers in the present ones."""
        return self._replace(masks=[instances.three_classes(mask) for mask in self.objects(ignore)])

    def objects(self, ignore: Sequence[int] = ()) -> list[NDArray]:
        """Return the masks as object numbers: of masks that have one value for all objects, those of their pieces."""
        masks = self.numbers(ignore)
        return instances.numbered(masks) or masks

    def numbers(self, ignore: Sequence[int] = ()) -> list[NDArray]:
        """Return the masks, 0 where they are to be ignored; ValueError where they cannot number objects."""
        masks = [np.where(np.isin(mask, list(ignore)), 0, mask) for mask in self.masks] if ignore else self.masks
        instances.require_numbers(masks, self.images.called("y"))
        return masks

    def codes(self, names: Sequence[str]) -> list[Codes]:
        """Return what each mask holds where pixels count."""
        return [codes_of(*of) for of in zip(self.masks, self.weights, names, strict=True)]


def read_examples(
    x: Any, y: Any, *, sample_weight: Any = None, ignore: Sequence[int] = (), name: str = "x", mask_name: str = "y",
    n_channels: int | None = None, channel_axis: bool | None = None, may_be_exchanged: bool = False,
) -> Examples:  # fmt: skip
    """Return images and masks as `read_images` and `read_masks` do, with one weight a pixel; NaN may be where it is 0.

    ignore : values of the masks that say nothing. ValueError names an image of which nothing is left.
    """
    y = np.asarray(y) if lies_on_disk(y) else y  # a mask is small, and looked at more than once
    images = read_images(
        x, y, n_channels=n_channels, channel_axis=channel_axis, name=name, y_name=mask_name, gaps=True
    )
    masks = read_masks(y, images, name=mask_name, may_be_exchanged=may_be_exchanged)
    weights = read_weights(sample_weight, images)
    given = zip(masks, per_image(y, images, mask_name), images.hidden, images.called(mask_name), strict=True)
    for i, (mask, as_given, hidden, label) in enumerate(given):
        left_out = [hidden, masked_pixels(as_given), ignored(mask, ignore)]
        silent = np.logical_or.reduce([here for here in left_out if here is not None] or [np.zeros(mask.shape, bool)])
        if silent.all():
            values = f"hold {' or '.join(map(str, ignore))}, ignored (ignore_index, --ignore), or " if ignore else ""
            raise ValueError(f"{label}: all pixels {values or 'are '}masked, so it teaches nothing; leave it and its image out")
        if silent.any():
            weight = weights[i]
            weights[i] = np.where(silent, np.float32(0), np.float32(1) if weight is None else weight)
    if all(weight is not None and not weight.any() for weight in weights):
        raise ValueError("no pixel is left that counts: sample_weight is 0 wherever nothing is masked or ignored")
    return Examples(without_gaps(images, weights), masks, weights)


def ignored(mask: NDArray, ignore: Sequence[int]) -> NDArray[np.bool_] | None:
    """Return which pixels of a mask hold values to ignore; None where there are no such values."""
    return np.isin(mask, list(ignore)) if ignore else None


def require_no_class(ignore: Sequence[int], classes: Classes | None, class_weight: Any) -> None:
    """Refuse values that are to say nothing, and are classes (`fit`'s) or have a weight as one, too."""
    own, joined = given_classes(classes) if classes is not None else ((), {})
    weighed = class_weight if isinstance(class_weight, Mapping) else {}
    for among, name in (({*own, *joined}, "classes (--classes)"), (set(weighed), "class_weight (--class-weight)")):
        for value in among.intersection(ignore):
            raise ValueError(
                f"ignore_index (--ignore) is {value}, which is among {name}, too; a value is a class or says nothing: leave it "
                "out of one of them"
            )


def ignored_values(ignore_index: Any) -> list[int]:
    """Return what `fit(ignore_index=...)` was given as a list of mask values: None, one, or several."""
    if ignore_index is None:
        return []
    values = np.asarray(ignore_index)
    if values.dtype.kind not in "ui" or values.ndim > 1 or not values.size:
        raise ValueError(f"ignore_index (--ignore) is {shown(ignore_index)}; it takes a whole number, or several: mask values")
    return sorted(set(np.atleast_1d(values).tolist()))
