"""How activations are handed to kernels: their pixel stride in elements, and how many channels a thread may take at once."""

from __future__ import annotations

from typing import Any

from ..geometry import address, pixel_stride

ACCESS = 16  # bytes: the most that a thread loads or stores by one instruction


def pixel(x: Any) -> int:
    """Return how many elements lie between the pixels of an activation (N, H, W, C)."""
    return pixel_stride(x) // x.itemsize


def unit(*arrays: Any) -> int:
    """Return how many neighbours along the last axis a thread takes at once: 16 bytes, where all such units are aligned; else 1.

    Fresh results need not be named: what `device.empty` gives is aligned.
    """
    width = ACCESS // arrays[0].itemsize
    return width if all(a.shape[-1] % width == 0 and _aligned(a) for a in arrays) else 1


def _aligned(a: Any) -> bool:
    steps = (step for step, size in zip(a.strides[:-1], a.shape[:-1], strict=True) if size > 1)
    return address(a) % ACCESS == 0 and all(step % ACCESS == 0 for step in steps)
