"""The door of ops, layers and losses: what comes in is checked, and brought into the layout that kernels rely on."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .kernels import check_algorithm, is_outline, parameter_dtype, place
from .kernels.geometry import Pair, Shape, is_aligned, is_dense, output_hw, overlap, transposed_output_size

Array = NDArray[np.floating]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
MOST = 2**31 - 1  # of a stride or a padding: addresses are counted in 64 bits, by a GPU some in 32
MOST_BYTES = 2**47  # of an array: what a process can address


def require(holds: bool | np.bool_, name: str, given: object, takes: str) -> None:
    """Raise a ValueError that says what was given and what is taken, unless it holds."""
    if not holds:
        refuse(name, given, takes)


def refuse(name: str, given: object, takes: str) -> NoReturn:
    """Raise it. (Where a training step passes, `if` comes first: to word what is never said takes as long as to look.)"""
    raise ValueError(f"{name} is {short(given)}; it takes {takes}")


def shown(value: object) -> str:
    """Return a value as Python would write it, cut where it is long: whatever it is."""
    return short(value, repr)


def short(given: object, write: Callable[[object], str] = str) -> str:
    """Return what was given as a message tells it: cut where it is long."""
    try:
        text = write(given)
    except ValueError:  # Python writes no whole numbers of thousands of digits
        text = "a number of very many digits"
    return text if len(text) < 300 else f"{text[:290]} ..."


def signature(function: Callable[..., object]) -> inspect.Signature | None:
    """Return the arguments that a function takes; None of those, written in C, of which nobody can tell."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def mismatch(function: Callable[..., object], /, *arguments: object, **named: object) -> str | None:
    """Return what Python would say if a function were called with these arguments; None where it could be, or nobody knows."""
    known = signature(function)
    try:
        if known is not None:
            known.bind(*arguments, **named)
    except TypeError as error:
        return str(error)
    return None


def is_whole(value: object) -> bool:
    """Tell whether this is a whole number."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))


def is_number(value: object) -> bool:
    """Tell whether this is one real number, and finite."""
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, (bool, np.timedelta64)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def size(name: str, value: Any, least: int) -> int:
    """Return a whole number that may count something."""
    require(is_whole(value) and least <= value <= MOST, name, value, f"a whole number from {least} to 2^31 - 1")
    return int(value)


def channels(name: str, value: Any) -> int:
    """Return a number of channels."""
    require(is_whole(value) and 1 <= value <= MOST, name, value, "a whole number from 1 up")
    return int(value)


def groups(given: Any, channels: int) -> int:
    """Return into how many groups channels are cut, if they can be cut evenly."""
    require(is_whole(given) and given >= 1 and channels % given == 0, "groups", given, f"a divisor of the {channels} channels")
    return int(given)


def array(name: str, a: Any) -> Any:
    """Return an array as kernels know it: NumPy's own, or a GPU's. What is more than its numbers, as a mask is, is refused."""
    if type(a) is np.ndarray or is_outline(a) or place(a) != "cpu":
        return a
    require(not isinstance(a, np.ma.MaskedArray), name, "a masked array", "every element: give what is masked a weight of 0")
    require(isinstance(a, np.ndarray), name, f"of type {type(a).__name__}", "an array of NumPy's, or on a GPU of CuPy's")
    return a.view(np.ndarray)  # a map of a file, for one


def pair(name: str, value: int | Pair, least: int) -> Pair:
    """Return value as (height, width); one number serves both."""
    both = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    whole = len(both) == 2 and all(is_whole(side) and side >= least for side in both)
    require(whole, name, value, f"whole numbers from {least} up, one or (height, width)")
    require(max(both) <= MOST, name, value, "less than 2^31")
    return int(both[0]), int(both[1])


def convolution(
    x: Array, w: Array, b: Array | None, stride: int | Pair, padding: int | Pair, out: Array | None
) -> tuple[Array, Array, Array | None, Pair, Pair]:
    """Return what ops.conv2d was given, in the kernels' layout, if it fits."""
    stride, padding = pair("stride", stride, 1), pair("padding", padding, 0)
    x = activation("x", x)
    w = weight(w, x)
    if x.shape[3] != w.shape[2]:
        refuse("w", w.shape, f"(R, S, {x.shape[3]}, K): x has {x.shape[3]} channels")
    p, q = output_hw(x.shape, w.shape[:2], stride, padding)
    if min(p, q) < 1:
        refuse("x", x.shape, f"at least {w.shape[0]} x {w.shape[1]} pixels with the padding {padding}")
    b = None if b is None else per_channel("b", b, w.shape[3], x)
    check_result("padding", padding, (x.shape[0], p, q, w.shape[3]), w.dtype)
    check_out(out, (x.shape[0], p, q, w.shape[3]), (x, w, b), w.dtype)
    return x, w, b, stride, padding


def transposed_convolution(
    x: Array, w: Array, b: Array | None, stride: int | Pair, padding: int | Pair, extra: int | Pair, out: Array | None
) -> tuple[Array, Array, Array | None, Shape, Pair, Pair]:
    """Return what ops.conv_transpose2d was given, in the kernels' layout, and y's shape, if it fits."""
    stride, padding, extra = pair("stride", stride, 1), pair("padding", padding, 0), pair("output_padding", extra, 0)
    x = activation("x", x)
    w = weight(w, x)
    if x.shape[3] != w.shape[3]:
        refuse("w", w.shape, f"(R, S, K, {x.shape[3]}): x has {x.shape[3]} channels")
    if not (extra[0] < stride[0] and extra[1] < stride[1]):
        refuse("output_padding", extra, f"less than the stride {stride}")
    sizes = [transposed_output_size(x.shape[i + 1], w.shape[i], stride[i], padding[i], extra[i]) for i in (0, 1)]
    if min(x.shape[1:3]) < 1:
        refuse("x", x.shape, "images of one pixel at least: of none nothing can be painted")
    if min(sizes) < 1:
        refuse("padding", padding, f"less: the output would be {sizes[0]} x {sizes[1]}")
    y_shape = (x.shape[0], *sizes, w.shape[2])
    b = None if b is None else per_channel("b", b, w.shape[2], x)
    check_result("stride", stride, y_shape, w.dtype)
    check_out(out, y_shape, (x, w, b))
    return x, w, b, y_shape, stride, padding


def activation(name: str, x: Array) -> Array:
    """Return x if it has the kernels' layout (unit channel stride, dense pixels), else one copy that has."""
    x = array(name, x)
    if x.ndim != 4:
        refuse(name, f"an array of shape {x.shape}", "shape (N, H, W, C)")
    if x.dtype not in FLOATS and not (x.dtype.name == "bfloat16" and place(x) != "cpu"):
        refuse(name, f"of dtype {x.dtype}", "float32 or float64; on a GPU bfloat16 too")
    return x if is_dense(x) else x.copy(order="C")


def weight(w: Array, x: Array) -> Array:
    """Return w, contiguous, if it has 4 axes, none of them empty, and the dtype of parameters beside x."""
    w, axes = array("w", w), "4 axes: (R, S, C, K), or transposed (R, S, K out, C in)"
    if w.ndim != 4:
        refuse("w", f"an array of shape {w.shape}", axes)
    if w.size == 0:
        refuse("w", w.shape, f"{axes}, none empty")
    _require_parameter("w", w, x)
    beside("w", w, x)
    return _contiguous(w)


def per_channel(name: str, b: Array, k: int, x: Array) -> Array:
    """Return b, contiguous, if it has one value a channel, as a parameter beside x."""
    b = array(name, b)
    if b.shape != (k,):
        refuse(name, f"an array of shape {b.shape}", f"shape ({k},), one value an output channel")
    _require_parameter(name, b, x)
    beside(name, b, x)
    return _contiguous(b)


def _require_parameter(name: str, p: Array, x: Array) -> None:
    takes = parameter_dtype(x.dtype)
    if p.dtype != takes:
        refuse(name, f"of dtype {p.dtype}", f"{'x' if takes == x.dtype else 'a parameter'}'s dtype, {takes}")


def beside(name: str, a: Array, x: Array) -> None:
    """Refuse an array that does not lie where x lies: on the CPU, or on the same GPU."""
    if place(a) != place(x):
        refuse(name, f"an array on {place(a)}", f"one on {place(x)}, where x lies")
    if is_outline(a) != is_outline(x):
        refuse(name, "an array without numbers, or beside one", "arrays of one kind")


def _contiguous(a: Array) -> Array:
    return a if a.flags.c_contiguous and is_aligned(a) else a.copy(order="C")


def gradient(dy: Array, shape: tuple[int, ...], dtype: Any, x: Array | None = None, name: str = "dy") -> Array:
    """Return dy in the kernels' layout if it has the shape and dtype of what it is the gradient of, and lies where x lies."""
    dy = array(name, dy)
    if dy.shape != shape or dy.dtype != dtype:
        of = "gave" if name == "dy" else "took"
        refuse(name, f"a {dy.dtype} array {dy.shape}", f"what the forward pass {of}: {dtype}, {shape}")
    if x is not None:
        beside(name, dy, x)
    return activation(name, dy)


def check_halves(name: str, x: Array) -> None:
    """Refuse an image of which a side does not halve evenly."""
    even = x.shape[1] % 2 == 0 and x.shape[2] % 2 == 0
    if not even:
        refuse(name, f"{x.shape[1]} x {x.shape[2]} pixels", "sides that halve evenly")


def check_result(name: str, given: Any, shape: Shape, dtype: Any) -> None:
    """Refuse what would make an array that no machine holds."""
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    if n_bytes >= MOST_BYTES:
        refuse(name, given, f"less: the result, {shape}, would take 2^{n_bytes.bit_length()} bytes")


def check_out(
    out: Array | None, shape: Shape, read: tuple[Array | None, ...], *dtypes: Any, names: Sequence[str] = "xwb"
) -> None:  # fmt: skip
    """Refuse an `out` that y could not be written into: it is of the dtype of x, the first that is read, or one of these."""
    if out is not None:
        x = read[0]
        assert x is not None
        array("out", out)
        allowed = list(dict.fromkeys((x.dtype, *dtypes)))
        right = out.shape == shape and out.dtype in allowed
        fits = right and is_dense(out) and getattr(out.flags, "writeable", True)
        beside("out", out, x)
        if not fits:
            takes = f"a writable {' or '.join(map(str, allowed))} array {shape} with dense pixels"
            refuse("out", f"a {out.dtype} array {out.shape} with strides {out.strides}", takes)
        for name, a in zip(names, read, strict=False):
            if a is not None and overlap(out, a):
                refuse("out", f"memory that {name} lies in", "memory of its own")


def check_updated(flat: Array, gradient: Array, moments: tuple[Array, ...]) -> None:
    """Refuse parameters that an update could not write, and a gradient or moments that are not of these parameters.

    The moments are written, too, so none of all these may share memory.
    """
    if flat.dtype not in FLOATS:
        refuse("flat", f"of dtype {flat.dtype}", "float32 or float64, in the byte order of this machine")
    written = {"flat": flat} | {f"moments[{i}]": m for i, m in enumerate(moments)}
    arrays = written | {"flat_gradient": gradient}
    for name, a in arrays.items():
        if a.dtype != flat.dtype or a.shape != flat.shape:
            refuse(name, f"a {a.dtype} array {a.shape}", f"{flat.dtype}, {flat.shape}, like the parameters")
        beside(name, a, flat)
    for name, a in written.items():
        lies = a.flags.c_contiguous and is_aligned(a) and getattr(a.flags, "writeable", True)
        if not lies:
            refuse(name, f"read-only, or has gaps: strides {a.strides}", "an array that can be written in place")
    for (one, a), (other, b) in itertools.combinations(arrays.items(), 2):
        if overlap(a, b):
            refuse(other, f"in memory that {one} lies in", "memory of its own")


def check_moments(moments: tuple[Array, ...], squares: tuple[int, ...]) -> None:
    """Refuse moments that no update can have left: of them parameters would be made that are no numbers."""
    for i, m in enumerate(moments):
        if isinstance(m, np.ndarray) and m.size:
            least, largest = m.min(), m.max()
            good = np.isfinite(least) and np.isfinite(largest) and (i not in squares or least >= 0)
            takes = f"finite numbers{' from 0 up: a mean of squares' if i in squares else ''}"
            require(good, f"moments[{i}]", f"{least} to {largest}", takes)


def check_rates(rates: dict[str, float], dtype: Any) -> None:
    """Refuse the numbers of an update rule that no step can be made with, in the parameters' own precision."""
    largest = float(np.finfo(dtype).max)
    for name, value in rates.items():
        if name == "nesterov":
            require(isinstance(value, (bool, np.bool_)), name, shown(value), "True or False")
            continue
        below = 1.0 if name.startswith("beta") else math.inf
        fits = is_number(value) and 0 <= value <= largest and value < below
        positive = name not in ("epsilon", "t") or (fits and dtype.type(value) > 0)  # or 0 / 0 would be
        if not (fits and positive):
            most = "to below 1" if below == 1 else "up, and finite"
            refuse(name, value, f"a number from 0 {most}{'' if positive else ', but not 0'}")


def check_target(logits_shape: Shape, dtype: Any, labels: Any, weights: Any) -> tuple[Any, Any]:
    """Return the labels and weights of a loss if they are a target for logits (N, P, Q, K) of this dtype.

    On a GPU only their kind is looked at: to read them would be to wait.
    """
    takes, k = f"{logits_shape[:3]}, for logits {logits_shape}", logits_shape[3]
    labels, weights = array("labels", labels), array("weights", weights)
    if labels.shape != logits_shape[:3]:
        refuse("labels", f"of shape {labels.shape}", takes)
    if weights.shape != logits_shape[:3]:
        refuse("weights", f"of shape {weights.shape}", takes)
    if labels.dtype.kind not in "iu":
        refuse("labels", f"of dtype {labels.dtype}", "whole numbers, the index of each pixel's class")
    if weights.dtype not in FLOATS:
        refuse("weights", f"of dtype {weights.dtype}", "float32 or float64")
    if type(labels) is np.ndarray and labels.size and (labels.min() < 0 or labels.max() >= k):
        outside = ((labels < 0) | (labels >= k)) & (weights != 0 if type(weights) is np.ndarray else False)
        if outside.any():
            refuse("labels", f"{labels.min()} to {labels.max()}", f"0 to {k - 1}, but where the weight is 0")
    if type(weights) is np.ndarray and weights.size:
        good = weights.min() >= 0 and weights.max() <= np.finfo(parameter_dtype(dtype)).max
        if not good:
            refuse("weights", f"{weights.min()} to {weights.max()}", "finite numbers from 0 up")
    return labels, weights


class NotFiniteError(FloatingPointError):
    """What was found not to be finite: `what` tells it, and goes into the sentence of a training that ends with it."""

    def __init__(self, what: str, more: str) -> None:
        super().__init__(what + more)
        self.what = what


def check_config(config: dict[str, Any]) -> None:
    """Refuse what no network can be built from."""
    for name in ("in_channels", "out_channels", "base_channels"):
        channels(name, config[name])
    seed, depth, base = config["random_state"], config["depth"], config["base_channels"]
    require(is_whole(seed) and seed >= 0, "random_state", seed, "a whole number from 0 up")
    check_depth(depth, base)
    padding, dropout = config["padding"], config["dropout"]
    known = isinstance(padding, str) and padding in ("same", "valid")
    require(known, "padding", padding, "'same' (size kept) or 'valid' (the paper's)")
    require(is_number(dropout) and 0 <= dropout < 1, "dropout", shown(dropout), "0 <= dropout < 1")
    check_algorithm(config["algorithm"], (3, 3), (1, 1))
    check_deep_supervision(config["deep_supervision"], padding)


def check_deep_supervision(wanted: Any, padding: str) -> None:
    """Refuse what is no yes or no, and levels whose pixels lie elsewhere than the labels."""
    require(isinstance(wanted, (bool, np.bool_)), "deep_supervision", shown(wanted), "True or False")
    takes = "padding='same' (--padding same), for unpadded levels see more than there are labels for; or False"
    require(not wanted or padding == "same", "deep_supervision", f"True with padding={padding!r}", takes)


def check_depth(depth: Any, base_channels: Any) -> None:
    """Refuse a depth that is none, or whose lowest level nobody could count the channels of."""
    require(is_whole(depth) and depth >= 0, "depth", depth, "a whole number from 0 up")
    few = depth < 31 and int(base_channels) * 2 ** int(depth) <= MOST
    require(few, "depth", depth, f"less: the lowest level would have {short(base_channels)} 2^{short(depth)} channels")


def float_dtype(dtype: Any) -> np.dtype:
    """Return a network's dtype."""
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError, OverflowError, SyntaxError):  # in which ways NumPy reads no dtype
        found = np.dtype(object)
    require(found in (np.float32, np.float64) and found.isnative, "dtype", dtype, "'float32' or 'float64'")
    return found
