"""The door of ops, layers and losses: what comes in is checked, and brought into the layout that kernels rely on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernels import check_algorithm, is_outline, parameter_dtype, place
from .kernels.geometry import Pair, is_aligned, is_dense, output_size, overlap, transposed_output_size

Array = NDArray[np.floating]


def require(holds: bool, name: str, given: object, takes: str) -> None:
    """Raise a ValueError that says what was given and what is taken, unless it holds."""
    if not holds:
        raise ValueError(f"{name} is {given}; it takes {takes}")


def pair(name: str, value: int | Pair, least: int) -> Pair:
    """Return value as (height, width); one number serves both."""
    both = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    whole = len(both) == 2 and all(isinstance(size, (int, np.integer)) and size >= least for size in both)
    require(whole, name, value, f"whole numbers from {least} up, one or (height, width)")
    return int(both[0]), int(both[1])


def convolution(
    x: Array, w: Array, b: Array | None, stride: int | Pair, padding: int | Pair, out: Array | None
) -> tuple[Array, Array, Array | None, Pair, Pair]:
    """Return what ops.conv2d was given, in the kernels' layout, if it fits."""
    stride, padding = pair("stride", stride, 1), pair("padding", padding, 0)
    x, w = activation("x", x), weight(w, x)
    require(x.shape[3] == w.shape[2], "w", w.shape, f"(R, S, {x.shape[3]}, K): x has {x.shape[3]} channels")
    sizes = [output_size(x.shape[a + 1], w.shape[a], stride[a], padding[a]) for a in (0, 1)]
    require(min(sizes) > 0, "x", x.shape, f"at least {w.shape[0]} x {w.shape[1]} pixels with the padding {padding}")
    check_out(out, (x.shape[0], *sizes, w.shape[3]), x, w.dtype)
    return x, w, None if b is None else per_channel("b", b, w.shape[3], x), stride, padding


def transposed_convolution(
    x: Array, w: Array, b: Array | None, stride: int | Pair, padding: int | Pair, extra: int | Pair, out: Array | None
) -> tuple[Array, Array, Array | None, tuple[int, ...], Pair, Pair]:
    """Return what ops.conv_transpose2d was given, in the kernels' layout, and y's shape, if it fits."""
    stride, padding, extra = pair("stride", stride, 1), pair("padding", padding, 0), pair("output_padding", extra, 0)
    x, w = activation("x", x), weight(w, x)
    require(x.shape[3] == w.shape[3], "w", w.shape, f"(R, S, K, {x.shape[3]}): x has {x.shape[3]} channels")
    require(extra[0] < stride[0] and extra[1] < stride[1], "output_padding", extra, f"less than the stride {stride}")
    sizes = [transposed_output_size(x.shape[i + 1], w.shape[i], stride[i], padding[i], extra[i]) for i in (0, 1)]
    require(min(sizes) > 0, "padding", padding, f"less: the output would be {sizes[0]} x {sizes[1]}")
    y_shape = (x.shape[0], *sizes, w.shape[2])
    check_out(out, y_shape, x)
    return x, w, None if b is None else per_channel("b", b, w.shape[2], x), y_shape, stride, padding


def activation(name: str, x: Array) -> Array:
    """Return x if it has the kernels' layout (unit channel stride, dense pixels), else one copy that has."""
    require(x.ndim == 4, name, f"an array of shape {x.shape}", "shape (N, H, W, C)")
    known = x.dtype in (np.float32, np.float64) or (x.dtype.name == "bfloat16" and place(x) != "cpu")
    require(known, name, f"of dtype {x.dtype}", "float32 or float64; on a GPU bfloat16 too")
    return x if is_dense(x) else x.copy(order="C")


def weight(w: Array, x: Array) -> Array:
    """Return w, contiguous, if it has 4 axes, none of them empty, and the dtype of parameters beside x."""
    axes = "4 axes: (R, S, C, K), or transposed (R, S, K out, C in)"
    require(w.ndim == 4, "w", f"an array of shape {w.shape}", axes)
    require(w.size > 0, "w", w.shape, f"{axes}, none empty")
    _require_parameter("w", w, x)
    beside("w", w, x)
    return _contiguous(w)


def per_channel(name: str, b: Array, k: int, x: Array) -> Array:
    """Return b, contiguous, if it has one value a channel, as a parameter beside x."""
    require(b.shape == (k,), name, f"an array of shape {b.shape}", f"shape ({k},), one value an output channel")
    _require_parameter(name, b, x)
    beside(name, b, x)
    return _contiguous(b)


def _require_parameter(name: str, p: Array, x: Array) -> None:
    takes = parameter_dtype(x.dtype)
    require(p.dtype == takes, name, f"of dtype {p.dtype}", f"{'x' if takes == x.dtype else 'a parameter'}'s dtype, {takes}")


def beside(name: str, a: Array, x: Array) -> None:
    """Refuse an array that does not lie where x lies: on the CPU, or on the same GPU."""
    require(place(a) == place(x), name, f"an array on {place(a)}", f"one on {place(x)}, where x lies")
    require(is_outline(a) == is_outline(x), name, "an array without numbers, or beside one", "arrays of one kind")


def _contiguous(a: Array) -> Array:
    return a if a.flags.c_contiguous and is_aligned(a) else a.copy(order="C")


def gradient(dy: Array, shape: tuple[int, ...], dtype: Any, x: Array | None = None, name: str = "dy") -> Array:
    """Return dy in the kernels' layout if it has the shape and dtype of what it is the gradient of, and lies where x lies."""
    fits = dy.shape == shape and dy.dtype == dtype
    of = "gave" if name == "dy" else "took"
    require(fits, name, f"a {dy.dtype} array {dy.shape}", f"what the forward pass {of}: {dtype}, {shape}")
    if x is not None:
        beside(name, dy, x)
    return activation(name, dy)


def check_halves(name: str, x: Array) -> None:
    """Refuse an image of which a side does not halve evenly."""
    even = x.shape[1] % 2 == 0 and x.shape[2] % 2 == 0
    require(even, name, f"{x.shape[1]} x {x.shape[2]} pixels", "sides that halve evenly")


def check_out(out: Array | None, shape: tuple[int, ...], x: Array, *dtypes: Any) -> None:
    """Refuse an `out` that y could not be written into: it is of x's dtype, or one of these."""
    if out is not None:
        allowed = list(dict.fromkeys((x.dtype, *dtypes)))
        right = out.shape == shape and out.dtype in allowed
        fits = right and is_dense(out) and getattr(out.flags, "writeable", True)
        takes = f"a writable {' or '.join(map(str, allowed))} array {shape} with dense pixels"
        beside("out", out, x)
        require(fits, "out", f"a {out.dtype} array {out.shape} with strides {out.strides}", takes)
        require(not overlap(out, x), "out", "memory that x lies in", "memory of its own")


def check_config(config: dict[str, Any]) -> None:
    """Refuse what no network can be built from."""
    for name, least in (("in_channels", 1), ("out_channels", 1), ("base_channels", 1), ("depth", 0), ("random_state", 0)):
        value = config[name]
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least
        require(bool(whole), name, repr(value), f"a whole number from {least} up")
    padding, dropout = config["padding"], config["dropout"]
    require(padding in ("same", "valid"), "padding", repr(padding), "'same' (size kept) or 'valid' (the paper's)")
    share = isinstance(dropout, (int, float, np.number)) and 0 <= dropout < 1
    require(bool(share), "dropout", repr(dropout), "0 <= dropout < 1")
    check_algorithm(config["algorithm"], (3, 3), (1, 1))


def float_dtype(dtype: Any) -> np.dtype:
    """Return a network's dtype."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    require(found in (np.float32, np.float64), "dtype", repr(dtype), "'float32' or 'float64'")
    return found
