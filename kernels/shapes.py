"""The backend "shapes": arrays that have everything but numbers, so that a network tells what a run would make and take.

    with counting() as book:
        x = outline((4, 256, 256, 1), "float32")        an Outline: shape, dtype, strides, a place in memory that is not there
            y = network(x)                                  the real network, and the launchers of the real kernels
    y.shape; book.peak; book.flops; y.sight

A kernel's launcher asks for its results and its scratch and then launches: here the one is counted, by the pool's own rule, and
the other left out. So what a schedule takes is stated nowhere but in the schedule. Definitions in NumPy run on outlines as they
are, but those of ROUGH, whose way of computing would say too much of what they take.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike

from . import buffers
from .geometry import Pair, Shape, output_hw
from .sight import Sight

ALL = "all"  # what is seen by what was made of sums over the image


class Book(buffers.Pool):
    """In the place of the pool: counts what lives in it and beside it, and the most that both took."""

    counts = True

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place, self.live, self.peak, self.scratch, self.flops = place, 0, 0, 0, 0
        self._waiting: list[int] = []  # the sizes of what the pool has idle

    def lease(self, shape: Shape, dtype: DTypeLike, pooled: bool = True) -> Any:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        at = buffers.best_fit(self._waiting, size) if pooled and size >= buffers.SMALL else None
        taken = size if at is None else self._waiting.pop(at)
        made, owner = _made(shape, dtype, self.place)
        weakref.finalize(owner, self._give, taken, pooled and size >= buffers.SMALL)
        self.keep(taken)
        return made

    def keep(self, n_bytes: int) -> None:
        """Count what is there from the start, or has just been taken."""
        self.live += n_bytes
        self.peak = max(self.peak, self.live + sum(self._waiting))

    def _give(self, taken: int, pooled: bool) -> None:
        self.live -= taken
        if pooled:
            self._waiting.append(taken)


class _Owner:
    """What an outline's array has for its base, and all its views with it: a place in memory that nobody reads."""

    _places = itertools.cycle(range(2**44, 2**62, 2**44))  # so far apart that no two arrays overlap

    def __init__(self, shape: Shape, dtype: DTypeLike) -> None:
        shape = tuple(map(int, shape))
        kind = f"|V{np.dtype(dtype).itemsize}"
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": kind, "data": (next(self._places), False)}


@contextmanager
def counting(place: str = "cpu") -> Iterator[Book]:
    """Let nothing be taken or launched in the `with` block, and count what would be at this place."""
    book = Book(place)
    with buffers.leasing_from(book):
        yield book


def outline(shape: Shape, dtype: DTypeLike, place: str = "cpu", sight: Sight | None = None) -> Outline:
    """Return an array without numbers, that takes nothing."""
    made, _ = _made(shape, dtype, place)
    made.sight = sight
    return made


def _made(shape: Shape, dtype: DTypeLike, place: str) -> tuple[Outline, _Owner]:
    owner = _Owner(shape, dtype)
    return Outline(np.asarray(owner).view(dtype), place), owner


class Outline(NDArrayOperatorsMixin):
    """An array without numbers. What is made of it by NumPy is one too, of the shape and type that NumPy would give."""

    def __init__(self, view: np.ndarray, place: str, base: Outline | None = None, sight: Any = None) -> None:
        self._view, self.place, self.base, self.sight = view, place, base, sight  # _view: an ndarray that nobody may read
        self.data = SimpleNamespace(ptr=view.__array_interface__["data"][0])
        self.flags = SimpleNamespace(c_contiguous=view.flags.c_contiguous, writeable=True, aligned=view.flags.aligned)

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "dtype", "strides", "ndim", "size", "itemsize", "nbytes"):
            return getattr(self._view, name)
        raise AttributeError(f"an array without numbers has no {name}")

    def __getitem__(self, key: Any) -> Outline:
        keys = key if isinstance(key, tuple) else (key,)
        for k in keys:
            if not (k is None or k is Ellipsis or isinstance(k, (int, np.integer, slice))):
                raise TypeError(f"an array without numbers takes whole numbers and slices as indices, not {type(k).__name__}")
        if not any(k is Ellipsis for k in keys):
            keys = (*keys, Ellipsis)  # or NumPy would read a single element
        return self._seen_as(self._view[keys], self.sight)

    def _seen_as(self, view: np.ndarray, sight: Any) -> Outline:
        return Outline(view, self.place, self if self.base is None else self.base, sight)

    def __reduce__(self) -> Any:
        raise TypeError("an array without numbers cannot be pickled")

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __len__(self) -> int:
        return self.shape[0]

    def __bool__(self) -> bool:
        return True

    def __float__(self) -> float:
        return 0.0

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError("an array without numbers: NumPy's functions take it, but nobody can read it")

    def reshape(self, *shape: Any) -> Outline:
        shape = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        known = math.prod(size for size in shape if size != -1)
        shape = tuple(self.size // max(known, 1) if size == -1 else size for size in shape)
        sight = self.sight if shape[:3] == self.shape[:3] else self.sight and ALL
        if not self._view.flags.c_contiguous:
            return _fresh(shape, self.dtype, self.place, sight)
        return self._seen_as(self._view.reshape(shape), sight)

    def view(self, dtype: DTypeLike) -> Outline:
        return self._seen_as(self._view.view(dtype), self.sight)

    def astype(self, dtype: DTypeLike, order: str = "K", copy: bool = True) -> Outline:
        return self if self.dtype == dtype and not copy else _fresh(self.shape, dtype, self.place, self.sight)

    def copy(self, order: str = "C") -> Outline:
        return _fresh(self.shape, self.dtype, self.place, self.sight)

    def transpose(self, *axes: int) -> Outline:
        return self._seen_as(self._view.transpose(*axes), self.sight and ALL)

    def sum(self, axis: Any = None, dtype: Any = None, keepdims: bool = False, **others: Any) -> Outline:
        axes = range(self.ndim) if axis is None else [a % self.ndim for a in (axis if isinstance(axis, tuple) else (axis,))]
        kept = [1 if a in axes else size for a, size in enumerate(self.shape) if keepdims or a not in axes]
        return _fresh(tuple(kept), dtype or self.dtype, self.place, self.sight and ALL)

    mean = max = min = std = var = sum

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if method == "reduce":
            return inputs[0].sum(**options)
        if out is not None:
            return out[0]
        one = [np.ones((1,) * a.ndim, a.dtype) if isinstance(a, Outline) else a for a in inputs]
        shape = np.broadcast_shapes(*(np.shape(a) if not isinstance(a, Outline) else a.shape for a in inputs))
        with np.errstate(all="ignore"):
            found = ufunc(*(a if np.ndim(a) == 0 else np.ravel(a)[:1] for a in one), **options)
        made = [_fresh(shape, a.dtype, self.place, _union(inputs)) for a in (found if isinstance(found, tuple) else (found,))]
        return tuple(made) if isinstance(found, tuple) else made[0]

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        name = function.__name__
        if name in ("zeros_like", "empty_like", "ones_like", "full_like"):
            return _fresh(options.get("shape", args[0].shape), options.get("dtype") or args[0].dtype, self.place)
        if name == "concatenate":
            axis = options.get("axis", args[1] if len(args) > 1 else 0)
            shape = list(args[0][0].shape)
            shape[axis] = sum(a.shape[axis] for a in args[0])
            return _fresh(tuple(shape), args[0][0].dtype, self.place, _union(args[0]))
        if name == "where":
            return args[1] + args[2] + (args[0] & False)
        if name in ("sum", "mean", "max", "amax", "min", "amin", "std", "var"):
            return self.sum(*args[1:], **options)
        if name == "copyto":
            return None
        raise TypeError(f"np.{name} is nothing that can be foretold of an array without numbers")


def _fresh(shape: Shape, dtype: DTypeLike, place: str, sight: Any = None) -> Outline:
    """Return what NumPy makes: counted, but not from the pool."""
    book = buffers.counted()
    made = outline(shape, dtype, place) if book is None else book.lease(shape, dtype, pooled=False)
    made.sight = sight
    return made


def _union(arrays: Any) -> Any:
    """Return what is seen by what is made of these, in the same places."""
    seen = [a.sight for a in arrays if getattr(a, "sight", None) is not None]
    if ALL in seen or len({sight.jump for sight in seen}) > 1:
        return ALL
    return functools.reduce(operator.or_, seen) if seen else None


# ---- The backend ----


def empty(shape: Shape, dtype: DTypeLike) -> Outline:
    book = buffers.counted()
    return outline(shape, dtype) if book is None else book.lease(shape, dtype)


def asarray(a: Any) -> Any:
    return a if isinstance(a, Outline) else outline(np.shape(a), np.asarray(a).dtype)


def __getattr__(name: str) -> Callable[..., Any]:
    """Return the operation of that name on outlines: that of the backend which would serve, its launches left out."""
    if name.startswith("_"):
        raise AttributeError(name)
    from . import composed, reference, updates

    definition = next((vars(m)[name] for m in (composed, reference, updates) if name in vars(m)), None)
    if definition is None:  # a function of the user's: as it stands, on outlines
        raise AttributeError(name)

    def counted(x: Outline, *args: Any, **options: Any) -> Any:
        with counting(x.place):
            return run(x, *args, **options)

    def run(x: Outline, *args: Any, out: Outline | None = None, **options: Any) -> Any:
        if buffers.counted() is None:  # a launcher must know that there is nothing to launch on
            return copy_context().run(counted, x, *args, out=out, **options)
        kernel = getattr(_served(x.place), name, None)
        if kernel is not None and out is not None:
            result = kernel(x, *args, out=out, **options)
        else:
            result = (kernel or ROUGH.get(name) or definition)(x, *args, **options)
        if kernel or name in ROUGH or name in ("concat_channels", "conv_transpose2d"):  # what others are made of notes itself
            _note(name, result[0] if isinstance(result, tuple) else result, x, *args, **options)
        if out is not None:
            out.sight = result.sight
        return result if out is None else out

    return run


def _served(place: str) -> Any:
    """Return the backend that would serve there; None where that is NumPy's, whose functions would compute."""
    from . import _load, for_array

    module = for_array(None) if place == "cpu" else _load("gpu")
    return module if isinstance(module, ModuleType) and not module.__name__.endswith(".reference") else None


def _note(name: str, y: Any, x: Outline, *args: Any, **options: Any) -> None:
    """Enter the work, and what y sees."""
    book, sight = buffers.counted(), x.sight
    if name in ("conv2d", "conv2d_relu", "conv_transpose2d"):
        r, s, c, k = args[0].shape
        windows = y.shape if name != "conv_transpose2d" else x.shape
        if book is not None:
            book.flops += 2 * math.prod(windows[:3]) * r * s * c * k
        move = Sight.painted if name == "conv_transpose2d" else Sight.windows
        sight = sight and _moved(sight, move, (r, s), options["stride"], options["padding"])
    elif name == "max_pool2d":
        sight = sight and _moved(sight, Sight.windows, args[0], args[1], (0, 0))
    elif name in ("concat", "concat_channels"):
        sight = _union((x, args[0]))
    elif name == "moments":
        sight = ALL
    elif name in ("normalize", "normalize_relu"):
        sight = _union((x, *args))
    if isinstance(y, Outline):
        y.sight = sight


def _moved(sight: Any, move: Callable[..., Sight], *geometry: Pair) -> Any:
    """Return what windows see of what sees that; all, where height and width differ."""
    along_a_side = [size for size, same in geometry if size == same]
    return move(sight, *along_a_side) if isinstance(sight, Sight) and len(along_a_side) == len(geometry) else ALL


def _rough_convolution(x: Outline, w: Outline, b: Any = None, *, stride: Pair, padding: Pair) -> Outline:
    return empty((x.shape[0], *output_hw(x.shape, w.shape[:2], stride, padding), w.shape[3]), x.dtype)


def _rough_pooling(x: Outline, window: Pair, stride: Pair) -> tuple[Outline, Outline]:
    shape = (x.shape[0], *output_hw(x.shape, window, stride, (0, 0)), x.shape[3])
    return empty(shape, x.dtype), empty(shape, np.uint8)


def _rough_grads(x: Outline, dy: Outline, w: Outline, *, input_grad: bool = True, **_: Any) -> tuple[Any, Outline, Outline]:
    return empty(x.shape, x.dtype) if input_grad else None, empty(w.shape, w.dtype), empty(w.shape[3:], w.dtype)


ROUGH: dict[str, Callable[..., Any]] = {
    "conv2d": _rough_convolution,
    "conv2d_input_grad": lambda dy, w, x_shape, **_: empty(x_shape, dy.dtype),
    "conv2d_weight_grad": lambda x, dy, w_shape, **_: (empty(w_shape, x.dtype), empty(w_shape[3:], x.dtype)),
    "conv2d_grads": _rough_grads,
    "dropout": lambda x, rate, seed: empty(x.shape, x.dtype),
    "max_pool2d": _rough_pooling,
    "max_pool2d_grad": lambda dy, argmax, x_shape, window, stride: empty(x_shape, dy.dtype),
    "concat": lambda left, right: np.concatenate((left, right), axis=3),
    "normalize": lambda x, *moments: empty(x.shape, x.dtype),
    "softmax_cross_entropy": lambda logits, labels, weights: (empty((), logits.dtype), empty(logits.shape, logits.dtype)),
}  # fmt: skip


class Outlines:
    """In the place of a numpy.random.Generator: draws arrays without numbers, so that layers are made of those."""

    def __init__(self, place: str = "cpu") -> None:
        self.place = place

    def standard_normal(self, shape: Shape) -> Outline:
        return outline(shape, np.float64, self.place)

    def integers(self, high: int) -> int:
        return 0  # a seed
