"""One image with its mask, looked at and let go: what is kept is small, however large they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .alignment import fit_of, fits_turned
from .codes import Codes, codes_of, distinct, form_regions
from .folders import Pair
from .images import Colours, content
from .inputs import read_images, read_masks
from .labels import MAX_CLASSES, encode
from .pixelsize import Size

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


def look_at(pair: Pair, classes: Given | None) -> Look:
    """Look at a pair; a ValueError is what `fit` would say of it. classes : as `labels.given_classes` returns them."""
    try:
        images = read_images([pair.image])
        (image,), (mask,) = images.arrays, read_masks([pair.mask], images, may_be_exchanged=True)
    except ValueError as error:
        raise ValueError(str(error).replace("y[0]", f"the mask of {pair.name}").replace("x[0]", pair.name)) from None
    codes = codes_of(mask, name=pair.name)
    index = _index(mask, codes, classes)
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
        colours=pair.colours,
    )


def _index(mask: NDArray, codes: Codes, classes: Given | None) -> NDArray | None:
    """Return each pixel's class, among the given or the mask's own, in their order; None where the values are no classes."""
    if classes is not None:
        return encode(mask, *classes)
    return np.searchsorted(codes.values, mask) if len(codes.values) <= MAX_CLASSES else None


def _least(codes: Codes) -> np.dtype:
    """Return the smallest dtype that holds a mask's values: the same for the same values."""
    return np.result_type(np.min_scalar_type(int(codes.values[0])), np.min_scalar_type(int(codes.values[-1])))
