"""Dropout: what is dropped is drawn where the data lies, by an element's number and a seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..philox import limit
from .device import BLOCK, Kernel, blocks, empty, launch, store
from .layout import ACCESS, pixel, unit

FILE = "dropout.cu"


def dropout(x: Any, rate: float, seed: Any) -> Any:
    """x * keep: keep is 0 where an element's word of Philox is below rate 2^32, else 1 / (1 - rate)."""
    y = empty(x.shape, x.dtype)
    width = unit(x)
    each = max(4, ACCESS // x.itemsize)  # elements of a thread, as many as EACH
    number, seed_at = (seed, None) if isinstance(seed, (int, np.integer)) else (0, seed)
    launch(
        Kernel(FILE, "dropout", store(x.dtype)), blocks(x.size, each * BLOCK), BLOCK, x, pixel(x), limit(rate), 1 / (1 - rate),
        number, seed_at, y, x.shape[3] // width, x.size // width, width,
    )  # fmt: skip
    return y
