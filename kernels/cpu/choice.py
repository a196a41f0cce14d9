"""Which algorithm "auto" takes for a 3x3 convolution of stride 1: by sizes and dtype alone, as no bit may depend on more."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

LEAST_CHANNELS = 16
LEAST_SIDE = 4  # one tile


def fastest(h: int, w: int, c: int, k: int, dtype: DTypeLike) -> str:
    """Return "direct", "winograd2x2" or "winograd4x4", for c to k channels onto h x w output pixels.

    float64 is direct: whoever asks for it wants the digits.
    """
    large = min(c, k) >= LEAST_CHANNELS and min(h, w) >= LEAST_SIDE
    return "winograd4x4" if np.dtype(dtype) == np.float32 and large else "direct"
