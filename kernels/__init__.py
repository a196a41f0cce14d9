"""The kernel contract, stated once, and the choice of the backend that serves an array.

    run(reference.conv2d, x, w, b, stride=(1, 1), padding=(1, 1)) -> y

reference.py, updates.py and warping.py have the definitions, each a function of NumPy arrays; composed.py has the fusions, each a
composition of definitions. A backend is a module that exports, under their names and with their arguments, what it does
faster; of all else `run` takes the definition itself (on a GPU through CuPy's NumPy face, and says so once). So a new operation
runs everywhere from one function, and `run` serves a function of your own alike. Each backend has

    empty(shape, dtype) -> a            uninitialised: what all results are made in
    asarray(a) -> a                     where this backend computes; a copy if a lies elsewhere

N images of H x W pixels and C channels, kernels of R x S taps and K outputs, P x Q output pixels; `kernel`, `stride`, `padding`
and `window` are (height, width) pairs. Shapes are those of minunet/ops.py.

* Arrays: float32 or float64, all of one dtype and in one place; labels and weights of the loss may be NumPy's for any backend.
  On a GPU activations may be bfloat16: beside them parameters and their gradients are float32, and so may be the `out` of
  conv2d, and then the dy of conv2d_grads. NumPy in, NumPy out; CuPy in, CuPy out. Activations (N, H, W, C) with unit channel
  stride and dense pixels at a pixel stride >= C (so a channel slice of a wider buffer is legal); weights (R, S, C, K)
  contiguous. `ops` sees to all of this at its door; kernels check nothing.
* Nothing passed in is written but `out`, and what is updated or clipped: see updates.py. `out=` may be given to `run`: the
  result lies there then, and a kernel that cannot write it there has it copied. What is returned is fresh: inside
  `buffers.pooled` its memory may have served before, but only arrays that nobody sees any more.
* Three contexts say how, and no argument does: `algorithm`, in which way convolutions are computed, of those that have
  several (convolution.py of a backend tells what each is); `precision`, in how many digits a GPU multiplies float32 numbers,
  and keeps a network's activations; `threads`, on how many threads.
* A fusion gives the bits of its composition, but on a GPU linear_cross_entropy, whose logits are neither stored nor rounded,
  and max_pool2d_grad_plus where windows overlap: it adds what they give to dskip.
* `dropout` is x * keep, the same bits on every backend: keep is 0 where a word of 32 bits is below floor(rate 2^32), 0 <= rate
  < 1, else 1 / (1 - rate), rounded once. The word of element i of a dense x is word i % 4 of Philox4x32-10 (philox.py) at the
  counter i // 4, its key the `seed`: a whole number from 0 to 2^63 - 1, or for a GPU an int64 array there of one element,
  which a recorded launch reads anew. So nothing is drawn in order, and no mask is kept. A NaN stays, dropped or not, and an
  infinity that is dropped is NaN. (A float32 below 2^-126 is 0 to a GPU: so CuPy has its sources compiled.)
* `moments` have a number for each group, (rows, 1, groups, 1): a row for each image, or one for all, and its groups are channels.
* Of a guarded update whose `loss` is not finite nothing is changed: so a GPU need not be asked before.
* Every output element has one owner and reductions are cut by shape alone: no result depends on the thread count.
* relu'(0) = 0; a tie in a pooling window belongs to its first element in row-major order; a NaN in a window or in a
  receptive field gives NaN (and Winograd's algorithms, which "auto" may take, may spread it over the tiles that see it); a
  pixel of weight 0 takes no part in the loss, whatever its logits and label.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, copy_context
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from ..whole import whole
from . import cores
from .shapes import Outline

T = TypeVar("T")
P = ParamSpec("P")
ALGORITHMS = ("auto", "direct", "winograd2x2", "winograd4x4", "im2col")
PRECISIONS = ("float32", "tf32", "bf16")
MOST_THREADS = max(64, os.cpu_count() or 1)  # that are counted with: more than cores never run
_BACKENDS = ("reference", "cpu")  # those that take NumPy arrays

_backend: ContextVar[str | None] = ContextVar("backend", default=None)
_algorithm: ContextVar[str] = ContextVar("algorithm", default="auto")
_precision: ContextVar[str] = ContextVar("precision", default="float32")
_n_threads: ContextVar[int | None] = ContextVar("n_threads", default=None)
_tells: ContextVar[bool] = ContextVar("tells", default=False)

logging.getLogger("minunet").addHandler(logging.NullHandler())


def run(definition: Callable[..., Any], x: Any, *args: Any, out: Any = None, **options: Any) -> Any:
    """Compute what `definition` says of x, by the fastest kernel of that name that serves x: where there is none, by itself.

    `out` receives the result.
    """
    kernel = getattr(serving(x), definition.__name__, None)
    if kernel is None:
        kernel = definition
        _say_inherited(definition.__name__, definition.__module__, place(x))
    if out is None:
        return kernel(x, *args, **options)
    if _takes_out(kernel):
        return kernel(x, *args, out=out, **options)
    out[...] = kernel(x, *args, **options)
    return out


def serving(x: Any) -> ModuleType:
    """Return the backend that serves x: that of `for_array`, and of arrays without numbers their own (shapes.py)."""
    return _load("shapes") if is_outline(x) else for_array(x)


@functools.cache
def _takes_out(kernel: Callable[..., Any]) -> bool:
    parameters = inspect.signature(kernel).parameters.values()
    return any(p.name == "out" or p.kind is p.VAR_KEYWORD for p in parameters)


@functools.cache
def _say_inherited(name: str, module: str, place: str) -> None:
    if place != "cpu" and not module.endswith(".composed"):
        logging.getLogger("minunet.gpu").info("%s has no kernel on %s: NumPy's way serves, through CuPy", name, place)


def check_algorithm(algorithm: str, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
    """Raise a ValueError unless there is such an algorithm, and it computes convolutions of that kernel and stride."""
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm is {algorithm!r}; it takes {' or '.join(ALGORITHMS)}")
    if algorithm.startswith("winograd") and (kernel, stride) != ((3, 3), (1, 1)):
        raise ValueError(
            f"algorithm is {algorithm!r}, with a {kernel[0]} x {kernel[1]} kernel and stride {stride}; it takes 3 x 3 and "
            "(1, 1). For any geometry there are 'auto', 'direct' and 'im2col'"
        )


def for_array(x: Any) -> ModuleType:
    """Return the backend that serves `x`: of CuPy arrays the GPU's, of others that of `use_backend`, or the fastest."""
    forced = _backend.get()
    if place(x) == "cpu":
        return _load(forced) if forced else _fastest()
    if forced:
        raise ValueError(f"x lies on {place(x)}; the {forced} backend takes NumPy arrays: cupy.asnumpy(x)")
    return _load("gpu")


def place(a: Any) -> str:
    """Return where an array lies: "cpu", or "gpu:0" and so on."""
    if isinstance(a, Outline):
        return a.place
    return "cpu" if not hasattr(a, "__cuda_array_interface__") else f"gpu:{a.device.id}"


def is_outline(a: Any) -> bool:
    """Tell whether an array has no numbers: shapes.py."""
    return isinstance(a, Outline)


def to_host(a: Any) -> Any:
    """Return a as a NumPy array: a copy where it lies on a GPU."""
    return a if place(a) == "cpu" else a.get()


def available() -> list[str]:
    """Return the names of the backends that work here, the specification first."""
    return ["reference"] if _fastest() is _load("reference") else list(_BACKENDS)


def use_backend(name: str) -> AbstractContextManager[None]:
    """Run everything inside the `with` block on one backend: "reference" (the NumPy specification) or "cpu"."""
    if name not in _BACKENDS:
        raise ValueError(f"unknown backend {name!r}; there are: {', '.join(_BACKENDS)}")
    _load(name)
    return within(_backend, name)


def algorithm(name: str) -> AbstractContextManager[None]:
    """Compute convolutions in this way inside the `with` block, where it serves their kernel and stride; else as "auto" does.

    "auto" is the fastest; "direct" adds up the plain sum, "im2col" multiplies column matrices by the book, "winograd2x2" and
    "winograd4x4" spare multiplications of 3 x 3 kernels. docs/choices.md says when to take which. The gradients belong into
    the same block.
    """
    check_algorithm(name, (3, 3), (1, 1))
    return within(_algorithm, name)


def algorithm_in_use(kernel: tuple[int, int], stride: tuple[int, int]) -> str:
    """Return that of `algorithm`, if it serves convolutions of that kernel and stride; else "auto"."""
    name = _algorithm.get()
    return "auto" if name.startswith("winograd") and (kernel, stride) != ((3, 3), (1, 1)) else name


def precision(name: str) -> AbstractContextManager[None]:
    """Multiply float32 numbers on a GPU in this precision inside the `with` block.

    "float32", 24 bits, or "tf32": 11 bits of each factor, on tensor cores, several times as fast. "bf16" is for networks,
    which keep activations in bfloat16 then, 8 bits: half the memory, and twice as fast again; what is not of a network it
    multiplies as "tf32" does. The CPU has float32.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision is {name!r}; it takes {' or '.join(PRECISIONS)}")
    return within(_precision, name)


def precision_in_use() -> str:
    """Return that of `precision`, else "float32"."""
    return _precision.get()


def stored_dtype(dtype: np.dtype, place: str) -> np.dtype:
    """Return the dtype in which a network of this one keeps activations there, in the precision in use: "bf16" halves them."""
    if precision_in_use() != "bf16" or place == "cpu" or dtype != np.float32:
        return dtype
    from ml_dtypes import bfloat16  # the extras for a GPU bring it

    return np.dtype(bfloat16)


def cast(a: Any, dtype: np.dtype) -> Any:
    """Return a as float32 where it is bfloat16, or the other way round: itself where it is of that dtype."""
    if a.dtype == dtype:
        return a
    return a.astype(dtype) if is_outline(a) else _load("gpu").cast(a, dtype)


def parameter_dtype(dtype: DTypeLike) -> np.dtype:
    """Return the dtype of parameters and their gradients beside activations of this one: float32 beside bfloat16."""
    return np.dtype(np.float32) if np.dtype(dtype).name == "bfloat16" else np.dtype(dtype)


def threads(n: int | None) -> AbstractContextManager[None]:
    """Use n threads inside the `with` block (None: leave it as it is). The results do not depend on it."""
    if n is not None and n < 1:
        raise ValueError(f"n_threads is {n}; it takes a whole number from 1 up, or None for all cores")
    return within(_n_threads, n if n is not None else _n_threads.get())


def n_threads() -> int:
    """Return how many threads kernels use: that of `threads`, else MINUNET_NUM_THREADS, up to MOST_THREADS; else `cores`."""
    chosen = _n_threads.get() or os.environ.get("MINUNET_NUM_THREADS")
    if not chosen:
        return cores.available()
    if not (str(chosen).isascii() and str(chosen).isdecimal()) or not str(chosen).strip("0"):
        raise ValueError(f"MINUNET_NUM_THREADS is {str(chosen)[:40]!r}; it takes a whole number from 1 up")
    return MOST_THREADS if len(str(chosen)) > 9 else min(int(chosen), MOST_THREADS)


def telling(verbose: bool) -> AbstractContextManager[None]:
    """Say on stderr inside the `with` block, or do not, that kernels are compiled: it takes a while. Else that is logged only."""
    return within(_tells, verbose)


def tells() -> bool:
    """Tell whether that of `telling` is to be said."""
    return _tells.get()


@contextmanager
def within(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Give a variable this value inside the `with` block."""
    token = variable.set(value)
    try:
        yield
    finally:
        try:  # and no suppress(): its call would come first, and exceptions from outside arrive at calls
            variable.reset(token)
        except ValueError:  # of a block whose end was cut off: `contained` has ended it
            pass


def contained(function: Callable[P, T]) -> Callable[P, T]:
    """Let what a function sets by `within` end with it, even where an exception from outside cuts off the end of a `with` block.

    A `with` block ends in Python, where Ctrl-C may arrive; a context is left in C, where nothing does. Left behind, a way to
    compute would serve all that follows, and of a block that only counts memory no number after it would be computed at all.
    """

    @functools.wraps(function)
    def in_its_context(*args: P.args, **kwargs: P.kwargs) -> T:
        return copy_context().run(function, *args, **kwargs)

    return in_its_context


@functools.cache
def _load(name: str) -> ModuleType:
    return whole(importlib.import_module, f"{__name__}.{name}")


@functools.cache
def _fastest() -> ModuleType:
    try:
        cpu = _load("cpu")
        whole(cpu.probe)
        return cpu
    except Exception as error:  # a broken Numba or LLVM fails in many ways, and the specification serves after each
        warnings.warn(
            f"Numba does not work here ({type(error).__name__}: {error}); the NumPy reference kernels serve, slowly. "
            "`pip install --upgrade numba` may help.",
            RuntimeWarning,
            stacklevel=3,
        )
        return _load("reference")
