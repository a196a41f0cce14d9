"""What segmentation looked like before learning: blur, then threshold, both tuned."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIGMAS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)  # pixels
N_THRESHOLDS = 256


class BlurThreshold:
    """Gaussian blur and threshold for two classes; sigma_, threshold_ and the sides are those of the least pixel error."""

    def fit(self, x: NDArray, y: NDArray) -> BlurThreshold:
        """Try each sigma with each threshold on images x (N, H, W) and masks y of two values. Return self."""
        values = np.unique(y)
        if len(values) != 2:
            raise ValueError(f"y holds {len(values)} values; a threshold divides 2")
        upper = (np.asarray(y) == values[1]).ravel()
        best = 2.0
        for sigma in SIGMAS:
            blurred = _blur(x, sigma).ravel()
            edges = np.linspace(blurred.min(), blurred.max(), N_THRESHOLDS + 1)
            above, below = (np.histogram(blurred[part], edges)[0] for part in (upper, ~upper))
            # Calling all from bin i up "upper": wrong are the upper pixels under i, and the lower ones from i up.
            wrong = np.concatenate(([0], np.cumsum(above))) + below.sum() - np.concatenate(([0], np.cumsum(below)))
            for errors, order in ((wrong, values), (len(upper) - wrong, values[::-1])):
                if errors.min() / len(upper) < best:
                    best = errors.min() / len(upper)
                    self.sigma_, self.threshold_, self.classes_ = sigma, float(edges[errors.argmin()]), order
        return self

    def predict(self, x: NDArray) -> NDArray:
        """Return masks of y's two values."""
        if not hasattr(self, "classes_"):
            raise ValueError("this BlurThreshold is not fitted; it takes a call of fit(x, y) first")
        return self.classes_[(_blur(x, self.sigma_) >= self.threshold_).astype(int)]


def _blur(x: NDArray, sigma: float) -> NDArray[np.float64]:
    return ndimage.gaussian_filter(np.asarray(x, np.float64), (0, sigma, sigma))
