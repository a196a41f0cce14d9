"""How the kernels of this folder are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np


def jit(function: Callable[..., Any]) -> Any:
    """Compile with Numba, without the GIL, with IEEE arithmetic (no fast-math: NaN stays NaN, order stays ours)."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no writable folder for Numba's cache: compile anew in each process
        return numba.njit(**options)(function)


@numba.njit(error_model="numpy")
def _twice(x: Any) -> Any:
    return x + x


def probe() -> None:
    """Compile and run the smallest kernel: raises where Numba is installed but cannot work."""
    if _twice(np.float32(1.5)) != 3:
        raise RuntimeError("a compiled function gave a wrong result")
