"""One image with its mask, looked at and let go: what is kept is small, however large they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .alignment import fit_of, fits_turned, without
from .codes import Codes, codes_of, distinct, form_regions
from .folders import Pair
from .images import content
from .labels import MAX_CLASSES, encode
from .normalize import Normalizer, Range, View, trained_blank
from .page import Colours
from .pixelsize import Size
from .weights import read_examples

MEASURED = 2**16  # pixels that an image's range is taken from
MAX_SAMPLES = 2**20  # pixels that an image's different values are counted on; beyond, every k-th
FEW_VALUES = 8  # an image of no more grey values was a mask, or lost its depth ...
MIN_PIXELS = 1024  # ... unless it has not many pixels either

Given = tuple[NDArray, dict[int, int]]  # classes, and which further values are one with them


@dataclass(frozen=True)
class Look:
    """What is seen of a pair without the others; image and mask are usable, each by itself and together."""

    name: str
    path: Path
    shape: tuple[int, int, int]  # the image's: H, W, C
    dtype: str
    n_values: int  # of the image
    is_constant: bool
    is_its_mask: bool  # a black image with an empty mask is honest, and is not
    saturated: float  # share of pixels at the highest value. The lowest tells nothing: many images have a black ground
    image_digest: bytes
    mask_digest: bytes  # of its values alone, whatever their dtype
    codes: Codes
    sign: int  # as `alignment.fit_of` returns them
    shift: tuple[int, int] | None
    orientation: int  # by which the image was turned to be upright
    fits_turned: bool  # whether the mask fits only when it is turned as well
    pixel_size: Size | None
    span: Range
    blank: float | None  # a value that looks like missing data, and would be trained on
    colours: Colours | None

    @property
    def n_mask_values(self) -> int:
        return len(self.codes.values)

    @property
    def is_swapped(self) -> bool:
        """Whether the image has few values and its mask many, which are not numbered objects."""
        many = self.n_values <= MAX_CLASSES < self.n_mask_values and self.n_mask_values >= 4 * self.n_values
        return many and not form_regions([self.codes])

    @property
    def has_few_values(self) -> bool:
        h, w, _ = self.shape
        return not self.is_constant and self.n_values <= FEW_VALUES and h * w >= MIN_PIXELS


def look_at(
    pair: Pair, classes: Given | None, ignore: Sequence[int], normalizer: Normalizer, target: str = "classes"
) -> Look:
    """Look at a pair; a ValueError is what `fit` would say of it.

    classes : as `labels.given_classes` returns them. ignore : mask values that say nothing. normalizer : what measures images.
    target : as UNet takes it.
    """
    try:
        given = read_examples([pair.image], [pair.mask], ignore=ignore, may_be_exchanged=True)
        given = given.of_instances(ignore) if target == "instances" else given
    except ValueError as error:
        raise ValueError(str(error).replace("y[0]", f"the mask of {pair.name}").replace("x[0]", pair.name)) from None
    (hidden,), (mask,), (weight,) = given.images.hidden, given.masks, given.weights
    image = np.asarray(given.images.arrays[0])
    codes = codes_of(mask, weight, pair.name)
    (counted,) = given.counted
    index = _index(mask, codes, classes, counted)
    view = _thinned(View(image, hidden, counted, index))
    span = normalizer.measure(view)
    sign, shift = (0, None) if index is None else fit_of(image, index)
    turned = index is not None and fits_turned(image, index, pair.orientation)
    pixels = image.reshape(-1)
    n_values = len(distinct(pixels[:: -(-pixels.size // MAX_SAMPLES)]))
    lowest, highest = image.min(), image.max()
    return Look(
        name=pair.name,
        path=pair.path,
        shape=(image.shape[0], image.shape[1], image.shape[2]),
        dtype=image.dtype.name,
        n_values=n_values,
        is_constant=bool(lowest == highest),
        is_its_mask=bool(lowest != highest and (image == mask[..., None]).all()),
        saturated=0.0 if n_values <= FEW_VALUES else float((image == highest).mean()),
        image_digest=content(image),
        mask_digest=content(mask.astype(_least(codes))),
        codes=codes,
        sign=sign,
        shift=None if turned else shift,
        orientation=pair.orientation,
        fits_turned=turned,
        pixel_size=pair.pixel_size,
        span=span,
        blank=trained_blank(view, span),
        colours=pair.colours,
    )


def _index(mask: NDArray, codes: Codes, classes: Given | None, counted: NDArray[np.bool_] | None) -> NDArray | None:
    """Return each pixel's class, among the given or the mask's own, in their order; None where the values are no classes."""
    if classes is None and len(codes.values) > MAX_CLASSES:
        return None
    index = np.searchsorted(codes.values, mask) if classes is None else encode(mask, *classes)
    return index if counted is None else without(index, counted)


def _thinned(view: View) -> View:
    """Return every k-th row and column: enough to tell what an image spans."""
    h, w, _ = view.image.shape
    k = math.ceil(math.sqrt(h * w / MEASURED))
    return View(*(None if part is None else part[::k, ::k] for part in view))  # type: ignore[arg-type]


def _least(codes: Codes) -> np.dtype:
    """Return the smallest dtype that holds a mask's values: the same for the same values."""
    return np.result_type(np.min_scalar_type(int(codes.values[0])), np.min_scalar_type(int(codes.values[-1])))
