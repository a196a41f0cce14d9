"""A network's head, softmax, loss and all gradients of the head: one pass over its input (head.cu), where the channels fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import composed, parameter_dtype
from .device import BLOCK, WARP, Kernel, empty, launch, store
from .layout import ACCESS, pixel
from .loss import on_device, parts, sums_of_weights
from .pointwise import aligned, sum_sums

FILE = "head.cu"

MOST_CLASSES = 8  # whose sums of dw have room in registers
PIXELS = 8  # that lanes add up at least, to be worth a partial sum


@dataclass(frozen=True)
class Fused:
    """How head.cu computes: by shape and type alone, since that decides how sums are rounded."""

    store: str
    lanes: int  # that share a pixel
    classes: int

    @classmethod
    def of(cls, c: int, k: int, dtype: DTypeLike) -> Fused | None:
        """Return how it serves c channels and k classes; None where it does not, and kernel after kernel has to."""
        lanes, rest = divmod(c, ACCESS // np.dtype(dtype).itemsize)
        fits = rest == 0 and 1 <= lanes <= WARP and lanes & (lanes - 1) == 0 and k <= MOST_CLASSES
        return cls(store(dtype), lanes, k) if fits else None

    def parts(self, pixels: int) -> int:
        """Return into how many parts, of a block each, sums over so many pixels are cut."""
        return parts(pixels, BLOCK // self.lanes * PIXELS)

    @property
    def shared(self) -> int:
        """Bytes of shared memory: the warps' sums of one class's dw, or of db and the loss."""
        return BLOCK // WARP * max(self.lanes * ACCESS * (2 if self.store == "bf16" else 1), (self.classes + 1) * 8)

    @property
    def kernel(self) -> Kernel:
        """The variant of head.cu."""
        return Kernel(FILE, "linear_cross_entropy", self.store, (f"LANES={self.lanes}", f"CLASSES={self.classes}"))


# Of each type the usual one and the widest, for whoever compiles them all.
VARIANTS = (
    Fused("float", 16, 2), Fused("float", 32, 8), Fused("double", 32, 2), Fused("double", 32, 8), Fused("bf16", 8, 2),
    Fused("bf16", 32, 8),
)  # fmt: skip


def linear_cross_entropy(x: Any, w: Any, b: Any, labels: Any, weights: Any) -> tuple[Any, Any, Any, Any]:
    """Return the loss of the logits x w + b, and its gradients dx, dw, db. labels, weights: also NumPy's."""
    pixels, size, k = math.prod(x.shape[:3]), w.size, w.shape[3]
    how = Fused.of(w.shape[2], k, x.dtype)
    if how is None:
        return composed.linear_cross_entropy(x, w, b, labels, weights)
    x = aligned(x)
    labels, weights = on_device(labels, np.int32), on_device(weights, parameter_dtype(x.dtype))
    weight_sums, n = sums_of_weights(weights), how.parts(pixels)
    dx, sums = empty(x.shape, x.dtype), empty((n, size + k + 1), np.float64)
    launch(
        how.kernel, n, BLOCK, x, pixel(x), w, b, labels, weights, pixels, weight_sums, weight_sums.size, dx, sums,
        shared=how.shared,
    )  # fmt: skip
    total = sum_sums(sums, x.dtype)
    return total[size + k :].reshape(()), dx, total[:size].reshape(w.shape), total[size : size + k]
