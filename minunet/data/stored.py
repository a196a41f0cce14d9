"""Arrays that lie on disk and are read by parts: zarr's and h5py's, whose images may be larger than memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import inputs
from .inputs import Images

LIBRARIES = ("zarr", "h5py")


@dataclass(frozen=True)
class Stored:
    """An image (H, W, C) of a stored array, of which image[rows, cols] is read when it is asked for."""

    source: Any
    page: int | None  # of a stack
    has_channels: bool

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.source.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        shape = tuple(self.source.shape)[0 if self.page is None else 1 :]
        return shape if self.has_channels else (*shape, 1)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __getitem__(self, at: tuple[slice, slice]) -> NDArray:
        part = np.asarray(self.source[at if self.page is None else (self.page, *at)])
        return part if self.has_channels else part[..., None]


def is_stored(x: Any) -> bool:
    """Tell whether x is an array on disk that NumPy knows nothing of; a memmap is read by parts as it is."""
    return type(x).__module__.partition(".")[0] in LIBRARIES and hasattr(x, "shape") and hasattr(x, "dtype")


def read_stored(x: Any, *, n_channels: int, channel_axis: bool, name: str = "x") -> Images:
    """Return the images of a stored array as `read_images` does those of NumPy's, without reading them."""
    dtype, shape = np.dtype(x.dtype), tuple(x.shape)
    if dtype.kind not in "buif":
        raise ValueError(f"{name} is of dtype {dtype}; it takes numbers: bool, whole numbers or floats")
    outline = np.broadcast_to(np.zeros((), dtype), shape)  # of its shape, without its memory
    if n_channels == 1 and len(shape) == 3 and shape[2] > inputs.mistakes.MOST_COLOURS:
        channel_axis = False  # N x H x W: so many channels are none of its own
    form = inputs._form(outline, None, channel_axis, name)
    pages: list[int | None] = list(range(shape[0])) if form.startswith("N") else [None]
    if not pages:
        raise ValueError(f"{name} holds no images; it takes {inputs.FORMS}")
    each: list[Any] = [Stored(x, page, form.endswith("C")) for page in pages]
    images = Images(each, form, form.endswith("C"), name, f"np.asarray({name})", [None] * len(each))
    for image, label in zip(each, images.called(name), strict=True):
        if image.size == 0:
            raise ValueError(f"{label} has shape {image.shape[:2]}: no pixels; it takes images from 1 x 1 up")
        inputs._check_finite(image, label)
    inputs._check_channels(images, n_channels)
    return images
