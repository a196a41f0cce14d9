"""Dropout: what is dropped is drawn where the data lies, by an element's number and a seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..philox import limit
from .device import BLOCK, Kernel, blocks, empty, launch, store
from .layout import pixel, unit

FILE = "dropout.cu"
EACH = {"float": 4, "double": 4, "bf16": 8}  # elements of a thread: whole blocks of four words, and whole units


def dropout(x: Any, rate: float, seed: Any) -> Any:
    """x * keep: keep is 0 where an element's word of Philox is below rate 2^32, else 1 / (1 - rate)."""
    y, kind, width = empty(x.shape, x.dtype), store(x.dtype), unit(x)
    number, seed_at = (seed, None) if isinstance(seed, (int, np.integer)) else (0, seed)
    launch(
        kernel(kind), blocks(x.size, EACH[kind] * BLOCK), BLOCK, x, pixel(x), limit(rate), 1 / (1 - rate), number, seed_at, y,
        x.shape[3] // width, x.size // width, width,
    )  # fmt: skip
    return y


def kernel(kind: str) -> Kernel:
    """Return the kernel for activations stored as that."""
    return Kernel(FILE, "dropout", kind, constants=(f"EACH={EACH[kind]}",))
