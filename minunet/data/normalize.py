"""Bring pixel values of any scale to about -1 .. 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOW, HIGH = 1.0, 99.0  # percentiles: a hot pixel or a black border does not set the scale
MAX_SAMPLES = 2**20  # pixels that percentiles are taken from; beyond, every k-th


@dataclass(eq=False)
class Normalizer:
    """Map the 1st percentile of each channel to -1 and the 99th to 1, linearly; a constant channel gives 0.

    mode "image" takes the percentiles of each image, "dataset" those of all images given to `fit`.
    """

    mode: str = "image"
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None

    def fit(self, images: Sequence[NDArray]) -> Normalizer:
        """Take the percentiles of all images (H, W, C), if they are to be shared. Return self."""
        if self.mode == "dataset":
            # One step for all, so that each image counts in proportion to its area.
            step = -(-sum(image[..., 0].size for image in images) // MAX_SAMPLES)
            self.low, self.high = _percentiles(np.concatenate([_samples(image, step) for image in images]))
        return self

    def __call__(self, image: NDArray) -> NDArray[np.float32]:
        """Return the image (H, W, C), of any number type, as normalised float32."""
        low, high = self.low, self.high
        if low is None or high is None:
            low, high = _percentiles(_samples(image, -(-image[..., 0].size // MAX_SAMPLES)))
        # Halves, so that no difference of two large doubles overflows.
        centre, half = low / 2 + high / 2, high / 2 - low / 2
        scale = np.where(half > 0, half, 1.0)
        with np.errstate(over="ignore"):  # a lone extreme far outside the percentiles may exceed float32: clipped
            scaled = image.astype(np.float64)  # one double a pixel, worked on in place
            scaled /= scale
            scaled -= centre / scale
            scaled *= half > 0
            limit = np.finfo(np.float32).max / 4
            return np.clip(scaled, -limit, limit, out=scaled).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold, for the model file."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Normalizer:
        """Return the normalizer that `to_dict` described."""
        return cls(saved["mode"], *(None if saved[name] is None else np.array(saved[name], float) for name in ("low", "high")))


def _samples(image: NDArray, step: int) -> NDArray[np.float64]:
    """Return every step-th pixel (M, C), in row-major order."""
    width = image.shape[1]
    while step > 1 and math.gcd(step, width) > 1:  # or some columns would never be seen: think of stripes
        step += 1
    return image.reshape(-1, image.shape[-1])[::step].astype(np.float64)


def _percentiles(samples: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = np.percentile(samples, [LOW, HIGH], axis=0, method="nearest")
    # A sparse image (most pixels one value) still has a scale: that of its extremes.
    flat = low == high
    return np.where(flat, samples.min(axis=0), low), np.where(flat, samples.max(axis=0), high)
