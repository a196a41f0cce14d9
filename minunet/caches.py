"""The caches that backwards take: what a forward returned beside y. A kernel is handed what lies in one, so it is looked at.

Each function returns a cache as it is; ValueError where it is another op's, or was changed: its parts do not belong together.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .checks import MOST, is_number, is_whole, require
from .kernels import is_outline, parameter_dtype, place
from .kernels.geometry import is_aligned, is_dense, output_hw


def of(op: str, n: int, cache: Any) -> Any:
    """Return the cache of an op that keeps n things."""
    fits = isinstance(cache, tuple) and len(cache) == n
    require(fits, "cache", f"of type {type(cache).__name__}", f"what {op} returned beside y, as it was")
    return cache


def conv2d(cache: Any) -> Any:
    x, w, y_shape, dtype, stride, padding = of("conv2d", 6, cache)
    _require(_is_activation(x) and _is_convolution(x.shape, w, y_shape, stride, padding))
    _require(w.dtype == parameter_dtype(x.dtype) and _is_float(dtype) and dtype in (x.dtype, w.dtype))
    return cache


def conv2d_relu(cache: Any) -> Any:
    x, w, y, stride, padding = of("conv2d_relu", 5, cache)
    _require(_is_activation(x) and _is_activation(y) and _is_convolution(x.shape, w, y.shape, stride, padding))
    _require(w.dtype == parameter_dtype(x.dtype) and y.dtype in (x.dtype, w.dtype))
    return cache


def conv_transpose2d(cache: Any) -> Any:
    x, w, y_shape, stride, padding = of("conv_transpose2d", 5, cache)
    _require(_is_activation(x) and _is_convolution(y_shape, w, x.shape, stride, padding))
    _require(w.dtype == parameter_dtype(x.dtype))
    return cache


def max_pool2d(cache: Any) -> Any:
    x_shape, dtype, argmax, window, stride = of("max_pool2d", 5, cache)
    _require(_is_shape(x_shape) and _is_float(dtype) and _is_pair(window, 1) and _is_pair(stride, 1))
    _require(_is_array(argmax) and argmax.dtype == np.uint8 and argmax.flags.c_contiguous)
    _require(argmax.shape == (x_shape[0], *output_hw(x_shape, window, stride, (0, 0)), x_shape[3]))
    return cache


def relu(cache: Any) -> Any:
    (y,) = of("relu", 1, cache)
    _require(_is_activation(y))
    return cache


def dropout(cache: Any) -> Any:
    shape, dtype, rate, seed = of("dropout", 4, cache)
    _require(_is_shape(shape) and _is_float(dtype) and is_number(rate) and 0 <= rate < 1)
    _require(0 <= seed < 2**63 if is_whole(seed) else _is_array(seed) and place(seed) != "cpu")
    return cache


def norm(cache: Any) -> Any:
    x, *arrays, own = of("a norm", 6, cache)
    _require(_is_activation(x) and all(map(_is_array, arrays)) and isinstance(own, (bool, np.bool_)))
    _require(all(a.flags.c_contiguous and is_aligned(a) and a.dtype == parameter_dtype(x.dtype) for a in arrays))
    mean, scale, gamma, beta = arrays
    _require(gamma.shape == beta.shape == x.shape[3:] and mean.shape == scale.shape and mean.ndim == 4)
    groups = mean.shape[2]
    of_images = mean.shape == (x.shape[0], 1, groups, 1) and groups > 0 and x.shape[3] % groups == 0
    _require(of_images or mean.shape == (1, 1, x.shape[3], 1))
    return cache


def concat_skip(cache: Any) -> Any:
    skip_shape, y_shape, dtype, top, left = of("concat_skip", 5, cache)
    _require(_is_shape(skip_shape) and _is_shape(y_shape) and _is_float(dtype) and _is_pair((top, left), 0))
    (n, h, w, c), (m, p, q, k) = skip_shape, y_shape
    _require(n == m and c <= k and top == (h - p) // 2 and left == (w - q) // 2)
    return cache


def _is_convolution(x_shape: Any, w: Any, y_shape: Any, stride: Any, padding: Any) -> bool:
    """Tell whether a convolution with w leads from one shape to the other."""
    if not (_is_array(w) and w.ndim == 4 and w.size and w.flags.c_contiguous and is_aligned(w)):
        return False
    if not (_is_shape(x_shape) and _is_shape(y_shape) and _is_pair(stride, 1) and _is_pair(padding, 0)):
        return False
    *_, c, k = w.shape
    return bool(x_shape[3] == c and y_shape == (x_shape[0], *output_hw(x_shape, w.shape[:2], stride, padding), k))


def _is_activation(a: Any) -> bool:
    return _is_array(a) and a.ndim == 4 and _is_float(a.dtype) and is_dense(a)


def _is_array(a: Any) -> bool:
    """Tell whether this is an array as the door of an op lets it in."""
    return type(a) is np.ndarray or is_outline(a) or place(a) != "cpu"


def _is_float(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and (dtype in (np.float32, np.float64) or dtype.name == "bfloat16")


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and len(shape) == 4 and all(is_whole(side) and side >= 0 for side in shape)


def _is_pair(pair: Any, least: int) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and all(is_whole(side) and least <= side <= MOST for side in pair)


def _require(holds: bool) -> None:
    require(holds, "cache", "one whose parts do not belong together", "what the forward pass returned beside y, as it was")
