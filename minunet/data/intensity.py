"""What another microscope, lamp or camera makes of the same specimen: blur, contrast, brightness, gamma, noise.

Images are scaled, so that most of their values lie in -1 .. 1. Nothing given is written.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .mirror import mirror

Array = NDArray[np.float32]


def blurred(image: Array, sigma: float) -> Array:
    """Return an image (H, W, C) convolved with a Gaussian of sigma pixels, cut at three of them; its borders are mirrored."""
    reach = math.ceil(3 * sigma)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps = (taps / taps.sum()).astype(image.dtype)
    for axis in (0, 1):
        n = image.shape[axis]
        wide = image.take(mirror(np.arange(-reach, n + reach), n), axis=axis)
        views = [wide[i : i + n] if axis == 0 else wide[:, i : i + n] for i in range(len(taps))]
        image = taps[reach] * views[reach]
        for i in range(reach):
            image += taps[i] * (views[i] + views[-1 - i])
    return image


def contrasted(image: Array, factors: NDArray, shifts: NDArray) -> Array:
    """Return an image (H, W, C), each channel with its distances from its mean enlarged by a factor, then shifted."""
    mean = image.mean(axis=(0, 1), dtype=np.float64)
    return image * factors.astype(image.dtype) + ((1 - factors) * mean + shifts).astype(image.dtype)


def gamma_corrected(image: Array, exponents: NDArray) -> Array:
    """Return an image (H, W, C) with t^g for each t = (value + 1) / 2 from 0 to 1, by channel; other values stay as they are."""
    t = np.float32(0.5) * (image + np.float32(1))
    inside = (t > 0) & (t < 1)
    return np.where(inside, 2 * np.where(inside, t, 1) ** exponents.astype(image.dtype) - 1, image)
