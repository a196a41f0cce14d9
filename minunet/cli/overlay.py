"""A prediction laid over its image, for people: tinted, with outlines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ..data.normalize import Normalizer

TINTS = (  # told apart by most eyes on grey (Okabe and Ito 2008); the lowest class comes first
    (230, 80, 0), (0, 114, 220), (0, 158, 115), (204, 100, 180), (240, 228, 66), (86, 180, 233), (230, 159, 0),
)  # fmt: skip
STRENGTH = 0.4


def overlay(image: NDArray, labels: NDArray, classes: NDArray) -> Image.Image:
    """Return the image (H, W) or (H, W, C), brightened, with all classes but the most frequent tinted and outlined.

    labels (H, W) holds values of `classes`. A class keeps its colour from image to image. Percentiles 1 to 99 are shown.
    """
    base = _as_rgb(image)
    background = max(classes, key=lambda c: int((labels == c).sum()))
    for i, value in enumerate(classes):
        if value == background:
            continue
        inside = labels == value
        tint = np.array(TINTS[i % len(TINTS)], float)
        base[inside] += STRENGTH * (tint - base[inside])
        base[inside & ~ndimage.binary_erosion(inside, border_value=1)] = tint
    return Image.fromarray(base.astype(np.uint8))


def _as_rgb(image: NDArray) -> NDArray[np.float64]:
    """Return (H, W, 3) from 0 to 255: an image of three channels in its colours, of any other number by its first."""
    pixels = np.atleast_3d(np.ma.filled(image, 0))
    pixels = pixels if pixels.shape[2] == 3 else pixels[..., :1]
    hidden = np.ma.getmaskarray(np.ma.atleast_3d(image))[..., : pixels.shape[2]].reshape(len(pixels), -1)
    scaled = Normalizer()(pixels.reshape(len(pixels), -1, 1), hidden=hidden).reshape(pixels.shape)
    return np.repeat(255 * (scaled.astype(np.float64) / 2 + 0.5).clip(0, 1), 3 // pixels.shape[2], axis=-1)
