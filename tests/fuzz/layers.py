"""The target "layers": ops, layers and losses give what the definition gives for copies, or refuse with a ValueError."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from fuzz.arrays import Field, close, plain_copy
from fuzz.judge import ACCEPTED, REFUSED, demand, sentence
from fuzz.source import Source

from minunet import kernels, layers, losses, ops

LARGE = 2**26  # bytes of a result: another such array would be memory, not a finding
TOLERANCE = 1e-4  # of the largest number, or of 1
STRETCHED = TOLERANCE / 1e-5**0.5  # behind a norm what is constant is divided by sqrt(epsilon), with the rounding of its gradient
SECONDS = 5.0  # of the processor, that a case may take
MEMORY = 2**32  # bytes that it may take: more than there are, as honest sizes may take anything
# Sizes of windows, strides and paddings: those that are served, and those that nothing can serve. None between: it would be slow.
SMALL = (1, 2, 3, 2, 1, 4)
ODD = (
    0,
    -1,
    -3,
    2**9 + 1,
    2**31,
    2**63,
    2**64 + 1,
    10**30,
    True,
    1.5,
    "2",
    None,
    float("nan"),
    (1,),
    (1, 2, 3),
    (1, -1),
    (2, 1),
    [1, 2],
)
REFUSALS = (ValueError, MemoryError)
Case = tuple[Callable[[], Any], Callable[[], Any], tuple[Any, ...]]


def test_one_input(data: bytes) -> tuple[str, str]:
    """Judge one case: return what became of it; Broken, or what was raised, where that is wrong."""
    source = Source(data)
    field = Field(source)
    made = source.choice(CASES)
    with np.errstate(all="ignore"), kernels.algorithm(source.choice(("auto", "direct", "im2col"))):
        try:
            call, arrays, out = made(field, source)
        except REFUSALS as error:  # a layer's constructor has a door, too
            return REFUSED, sentence(str(error) or type(error).__name__)
        return _judge(call, arrays, out, field, source)


def _judge(call: Callable[..., Any], arrays: list[Any], out: Any, field: Field, source: Source) -> tuple[str, str]:
    field.remember()
    try:
        result = call(*arrays, **({} if out is None else {"out": out}))
    except REFUSALS as error:
        field.changed()
        return REFUSED, sentence(str(error) or type(error).__name__)
    field.changed(out)
    demand(all(a is None or isinstance(a, np.ndarray) for a in arrays), "only arrays are taken", [type(a) for a in arrays])
    copies = [a if a is None else plain_copy(a) for a in arrays]
    try:
        with kernels.use_backend("reference"):
            expected = call(*copies)
    except MemoryError:  # the definition lays out all windows: nothing to compare with
        return ACCEPTED, ""
    _demand_alike(result, expected, copies)
    return _backward(call, copies, result, expected, field, source)


def _backward(
    call: Callable[..., Any], arrays: list[Any], result: Any, expected: Any, field: Field, source: Source
) -> tuple[str, str]:
    """Judge the gradients of an accepted case, for a dy that may be wrong again."""
    backward = getattr(call, "backward", None)
    if backward is None or result[0].nbytes > LARGE:
        return ACCEPTED, ""
    dy = field.array(result[0].shape, result[0].dtype.str)
    field.remember()
    try:
        gradients = backward(dy, result[1])
    except REFUSALS as error:
        field.changed()
        return REFUSED, sentence(str(error) or type(error).__name__)
    field.changed()
    demand(isinstance(dy, np.ndarray), "only arrays are taken", type(dy))
    with kernels.use_backend("reference"):
        try:
            defined = backward(plain_copy(dy), expected[1])
        except MemoryError:
            return ACCEPTED, ""
    _demand_alike(gradients, defined, [*arrays, dy], of="gradients", tolerance=getattr(call, "tolerance", TOLERANCE))
    return ACCEPTED, ""


def _demand_alike(found: Any, expected: Any, made_of: list[Any], of: str = "results", tolerance: float = TOLERANCE) -> None:
    terms = math.prod(float(np.abs(a[np.isfinite(a)]).max(initial=1.0)) for a in made_of if a is not None)
    for a, b in zip(_listed(found), _listed(expected), strict=True):
        if np.size(a) * 8 > LARGE and np.shape(a) == np.shape(b):
            continue
        if np.shape(a) == np.shape(b):  # an infinite weight times what lies beyond the edge, 0, is NaN or nothing
            finite = np.isfinite(a) & np.isfinite(b)
            a, b = (np.where(finite, c, 0).astype(np.asarray(c).dtype) for c in (a, b))
        demand(close(a, b, tolerance, terms), f"{of} are those of the definition", (np.asarray(a).dtype, np.shape(a), a, b))


def _listed(value: Any) -> list[Any]:
    """Return the arrays that an op, a loss or a backward gave, without caches."""
    first, *others = value
    if not others or isinstance(others[0], (np.ndarray, np.floating)) or first is None:
        return [a for a in value if a is not None]
    if isinstance(others[0], dict):
        return [first, *others[0].values()]
    return [first]


class Op:
    """An op with its options, and its backward, whose gradients are the definition's but for the tolerance."""

    def __init__(
        self, forward: Callable[..., Any], backward: Callable[..., Any] | None, tolerance: float = TOLERANCE, **options: Any
    ) -> None:
        self.forward, self.options, self.tolerance = forward, options, tolerance
        if backward is not None:
            self.backward = backward

    def __call__(self, *arrays: Any, **more: Any) -> Any:
        return self.forward(*arrays, **self.options, **more)


def _size(source: Source) -> Any:
    return source.choice(ODD) if source.once_in(24) else source.choice(SMALL)


def _padding(source: Source) -> Any:
    return source.choice(ODD) if source.once_in(24) else source.choice((0, 1, 0, 2))


def _image(source: Source) -> tuple[int, int, int, int]:
    return source.choice((1, 2, 0)), source.choice((6, 8, 1, 5, 13)), source.choice((6, 7, 1, 4)), source.choice((1, 2, 3, 8, 17))


def _dtype(source: Source) -> str:
    return source.choice(("f4", "f8"))


def _out(field: Field, source: Source, shape: Any, dtype: str, others: list[Any]) -> Any:
    """Return memory for the output: mostly none, sometimes fit, sometimes that of an input."""
    kind = source.below(10)
    if kind == 7:
        return field.array(shape, dtype)
    if kind == 8:
        other = source.choice(others)
        size = int(np.prod(shape))
        if isinstance(other, np.ndarray) and other.flags.c_contiguous and other.size >= size and other.dtype == dtype:
            return other.reshape(-1)[:size].reshape(shape)
    if kind == 9:  # inputs become parts of the output's memory
        out = field.array(shape, dtype, hostile=False)
        for i, other in enumerate(others):
            if isinstance(other, np.ndarray) and other.dtype == dtype and 0 < other.size <= out.size and source.once_in(2):
                others[i] = out.reshape(-1)[: other.size].reshape(other.shape)
        return out
    return None


def conv2d(field: Field, source: Source) -> Any:
    n, h, w, c = _image(source)
    dtype, k, r, s = _dtype(source), source.choice((1, 3, 8)), source.choice(SMALL), source.choice(SMALL)
    stride, padding = _size(source), _padding(source)
    arrays = [field.array((n, h, w, c), dtype), field.array((r, s, c, k), dtype), field.array((k,), dtype)]
    arrays[2] = None if source.once_in(4) else arrays[2]
    try:
        sizes = [max(0, (a + 2 * padding - b) // stride + 1) for a, b in ((h, r), (w, s))]
        out = _out(field, source, (n, *sizes, k), dtype, arrays) if max(sizes) < 100 else None
    except (TypeError, ZeroDivisionError, ValueError, OverflowError):
        out = None
    return Op(ops.conv2d, ops.conv2d_backward, stride=stride, padding=padding), arrays, out


def conv_transpose2d(field: Field, source: Source) -> Any:
    n, h, w, c = _image(source)
    dtype, k, r, s = _dtype(source), source.choice((1, 3, 8)), source.choice(SMALL), source.choice(SMALL)
    options = {"stride": _size(source), "padding": _padding(source), "output_padding": _padding(source)}
    arrays = [field.array((n, h, w, c), dtype), field.array((r, s, k, c), dtype), field.array((k,), dtype)]
    try:
        sizes = [
            (a - 1) * options["stride"] - 2 * options["padding"] + b + options["output_padding"] for a, b in ((h, r), (w, s))
        ]
        fits = min(sizes) > 0 and max(sizes) < 100
        out = _out(field, source, (n, *sizes, k), dtype, arrays) if fits else None
    except (TypeError, ValueError, OverflowError):
        out = None
    return Op(ops.conv_transpose2d, ops.conv_transpose2d_backward, **options), arrays, out


def max_pool2d(field: Field, source: Source) -> Any:
    options = {"window": _size(source), "stride": None if source.once_in(2) else _size(source)}
    return Op(ops.max_pool2d, ops.max_pool2d_backward, **options), [field.array(_image(source), _dtype(source))], None


def relu(field: Field, source: Source) -> Any:
    return Op(ops.relu, ops.relu_backward), [field.array(_image(source), _dtype(source))], None


def dropout(field: Field, source: Source) -> Any:
    rate = source.choice((0.5, 0.0, 0.99, 1.0, -0.1, float("nan"), 2, 0.1))
    op = Op(lambda x: ops.dropout(x, rate, np.random.default_rng(7)), ops.dropout_backward)
    return op, [field.array(_image(source), _dtype(source))], None


def group_norm(field: Field, source: Source) -> Any:
    shape, dtype = _image(source), _dtype(source)
    groups = _size(source)
    arrays = [field.array(shape, dtype), field.array(shape[3:], dtype), field.array(shape[3:], dtype)]
    return Op(ops.group_norm, ops.group_norm_backward, STRETCHED, groups=groups), arrays, None


def batch_norm(field: Field, source: Source) -> Any:
    shape, dtype = _image(source), _dtype(source)
    arrays = [field.array(shape, dtype), *(field.array(shape[3:], dtype) for _ in range(4))]
    training = source.once_in(2)

    def forward(*arrays: Any) -> Any:
        y, _, cache = ops.batch_norm(*arrays, training=training)
        return y, cache

    return Op(forward, ops.batch_norm_backward, STRETCHED), arrays, None


def concat_skip(field: Field, source: Source) -> Any:
    n, h, w, c = _image(source)
    dtype, crop = _dtype(source), source.choice((0, 1, 2, -1))
    arrays = [field.array((n, h + crop, w + crop, c), dtype), field.array((n, h, w, source.choice((1, 2, c))), dtype)]
    return Op(ops.concat_skip, ops.concat_skip_backward), arrays, None


def cross_entropy(field: Field, source: Source) -> Any:
    shape, dtype = _image(source), _dtype(source)
    labels = field.array(shape[:3], source.choice(("i8", "i4", "u1")))
    if (
        isinstance(labels, np.ndarray)
        and labels.size
        and labels.dtype.kind == "i"
        and labels.flags.writeable
        and source.once_in(2)
    ):
        labels[...] %= shape[3]
        if source.once_in(8):
            labels.flat[0] = source.choice((-1, shape[3], 2**31 - 1, -(2**31)))
    arrays = [field.array(shape, dtype), labels]
    options: dict[str, Any] = {}
    if source.once_in(3):
        options["ignore_index"] = source.choice((0, 1, -1, 255, 2**70, None, "x"))
    if source.once_in(3):
        options["class_weight"] = source.choice(
            ([1.0] * shape[3], [1.0], [-1.0] * shape[3], [float("nan")] * shape[3], "x", 1e300)
        )
    if source.once_in(3):
        return (
            Op(lambda x, y, w: losses.softmax_cross_entropy(x, y, weights=w, **options), None),
            [*arrays, field.array(shape[:3], dtype)],
            None,
        )
    return Op(losses.softmax_cross_entropy, None, **options), arrays, None


def layer(field: Field, source: Source) -> Any:
    """A layer with drawn settings, and parameters that someone may have replaced."""
    c, dtype = source.choice((1, 2, 4)), source.choice(("float32", "float64"))
    k = source.choice(ODD) if source.once_in(24) else source.choice((1, 3, 8))
    kind = source.below(5)
    rng = np.random.default_rng(3)
    if kind == 0:
        k = k if not isinstance(k, int) or k < 2**12 else 2**62  # a network of a million channels could be built, slowly
        made: Any = layers.Conv2d(
            c, k, source.choice(SMALL), stride=_size(source), padding=_padding(source), rng=rng, dtype=dtype
        )
    elif kind == 1:
        made = layers.ConvTranspose2d(
            c, source.choice((1, 3, 8)), source.choice(SMALL), stride=_size(source), rng=rng, dtype=dtype
        )
    elif kind == 2:
        made = layers.MaxPool2d(_size(source), None if source.once_in(2) else _size(source))
    elif kind == 3:
        made = layers.GroupNorm(c, _size(source), dtype=dtype)
    else:
        made = layers.Sequential(
            layers.Conv2d(c, 3, 3, padding=1, rng=rng, dtype=dtype), layers.ReLU(), layers.Conv2d(3, 2, 1, rng=rng, dtype=dtype)
        )
    if source.once_in(8) and made.parameters and kind != 4:
        name = source.choice(list(made.parameters))
        made.parameters[name] = field.array(made.parameters[name].shape, source.choice(("f4", "f8")))
    n, h, w, _ = _image(source)
    return Op(made.forward, made.backward), [field.array((n, h, w, c), dtype)], None


CASES = (conv2d, conv_transpose2d, max_pool2d, relu, dropout, group_norm, batch_norm, concat_skip, cross_entropy, layer)
