"""The eight symmetries of a square: quarter turns and flips."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

N_SYMMETRIES = 8


def apply(square: NDArray, k: int) -> NDArray:
    """Return symmetry k, 0 to 7, of an array (P, P, ...): k % 4 quarter turns, then for k >= 4 a flip. 0 changes nothing."""
    turned = np.rot90(square, k % 4)
    return turned[:, ::-1] if k >= 4 else turned
