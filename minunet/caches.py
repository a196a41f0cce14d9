"""The caches that backwards take: what a forward returned beside y. A kernel is handed what lies in one, so it is looked at.

Each function returns a cache as it is; ValueError where it is another op's, or was changed: its sizes do not belong together.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .checks import require
from .kernels.geometry import is_dense, output_hw


def of(op: str, n: int, cache: Any) -> Any:
    """Return the cache of an op that keeps n things."""
    fits = isinstance(cache, tuple) and len(cache) == n
    require(fits, "cache", f"of type {type(cache).__name__}", f"what {op} returned beside y, as it was")
    return cache


def conv2d(cache: Any) -> Any:
    x, w, y_shape, _, stride, padding = of("conv2d", 6, cache)
    _require(_is_convolution(_shape(x), w, y_shape, stride, padding) and is_dense(x))
    return cache


def conv2d_relu(cache: Any) -> Any:
    x, w, y, stride, padding = of("conv2d_relu", 5, cache)
    _require(_is_convolution(_shape(x), w, _shape(y), stride, padding) and is_dense(x) and is_dense(y))
    return cache


def conv_transpose2d(cache: Any) -> Any:
    x, w, y_shape, stride, padding = of("conv_transpose2d", 5, cache)
    _require(_is_convolution(y_shape, w, _shape(x), stride, padding) and is_dense(x))
    return cache


def max_pool2d(cache: Any) -> Any:
    x_shape, _, argmax, window, stride = of("max_pool2d", 5, cache)
    fits = _is_shape(x_shape) and _is_shape(_shape(argmax)) and argmax.dtype == np.uint8
    _require(fits and argmax.shape == (x_shape[0], *output_hw(x_shape, window, stride, (0, 0)), x_shape[3]))
    return cache


def _is_convolution(x_shape: Any, w: Any, y_shape: Any, stride: Any, padding: Any) -> bool:
    """Tell whether a convolution with w leads from one shape to the other."""
    if not all(map(_is_shape, (x_shape, _shape(w), y_shape))):
        return False
    *_, c, k = w.shape
    leads = y_shape == (x_shape[0], *output_hw(x_shape, w.shape[:2], stride, padding), k)
    return bool(leads and x_shape[3] == c and w.flags.c_contiguous)


def _shape(a: Any) -> Any:
    return getattr(a, "shape", None)


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and len(shape) == 4


def _require(holds: bool) -> None:
    require(holds, "cache", "one whose sizes do not belong together", "what the forward pass returned beside y, as it was")
