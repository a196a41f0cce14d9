"""The kernel contract, stated once, and the choice of the backend that serves an array.

A backend is a module with these functions. N images of H x W pixels and C channels, kernels of R x S taps and K
outputs, P x Q output pixels; `kernel`, `stride`, `padding` and `window` are (height, width) pairs:

    empty(shape, dtype) -> a                                   uninitialised: what all results are made in
    asarray(a) -> a                                            where this backend computes; a copy if a lies elsewhere
    im2col(x, kernel, *, stride, padding) -> cols              (N, H, W, C) -> (N*P*Q, R*S*C)
    col2im(cols, x_shape, kernel, *, stride, padding) -> x     its adjoint
    conv2d(x, w, b=None, *, stride, padding, relu=False, out=None, algorithm="auto") -> y
    conv2d_input_grad(dy, w, x_shape, *, stride, padding, mask=None, b=None, relu=False, out=None, algorithm="auto") -> dx
    conv2d_weight_grad(x, dy, w_shape, *, stride, padding, mask=None, algorithm="auto") -> dw, db
    conv2d_grads(x, dy, w, *, stride, padding, mask=None, input_grad=True, algorithm="auto") -> dx, dw, db
    bias_grad(dy) -> db
    relu(x) -> y
    relu_grad(dy, y) -> dx                                     dy where y > 0, else 0
    dropout(x, rate, seed) -> y                                its own adjoint: dropout(dy, rate, seed) is dx
    max_pool2d(x, window, stride) -> y, argmax                 argmax (uint8): row-major place in the window
    max_pool2d_grad(dy, argmax, x_shape, window, stride, plus=None) -> dx      plus: another gradient of x, that is added
    softmax_cross_entropy(logits, labels, weights) -> loss, dlogits
    linear_cross_entropy(x, w, b, labels, weights) -> loss, dx, dw, db         of the logits x w + b, for w (1, 1, C, K)
    sgd_update(param, grad, velocity, *, learning_rate, momentum, weight_decay, loss=None)
    adam_update(param, grad, m, v, *, learning_rate, beta1, beta2, epsilon, weight_decay, t, loss=None)

The definition of a convolution is `im2col(x) @ w.reshape(R*S*C, K) + b`; everything else is derived from it.

* Arrays: float32 or float64, all of one dtype and in one place; labels and weights of the loss may be NumPy's for any backend.
  On a GPU activations may be bfloat16: beside them parameters and their gradients are float32, and so may be the `out` of
  conv2d, and then the dy of conv2d_grads. NumPy in, NumPy out; CuPy in, CuPy out. Activations (N, H, W, C) with unit channel
  stride and dense pixels at a pixel stride >= C (so a channel slice of a wider buffer is legal); weights (R, S, C, K)
  contiguous. `ops` sees to all of this at its door; kernels check nothing.
* Nothing passed in is written but `out` and the parameters and moments of the updates. What is returned is fresh:
  inside `buffers.pooled` its memory may have served before, but only arrays that nobody sees any more.
* `algorithm` says how, for those that have several ways: convolution.py of a backend tells what each is and takes.
* `precision` says in how many digits a GPU multiplies float32 numbers, and keeps a network's activations; sums are float32.
* `mask` is the output of a convolution with relu fused: dy counts only where mask > 0.
* `b` and `relu` of the input gradient serve the transposed convolution, whose forward it is.
* `linear_cross_entropy` is conv2d, softmax_cross_entropy and conv2d_grads after one another, or one pass: then logits and
  their gradient are neither stored nor rounded.
* `dropout` is x * keep, the same bits on every backend: keep is 0 where a word of 32 bits is below floor(rate 2^32), 0 <= rate
  < 1, else 1 / (1 - rate), rounded once. The word of element i of a dense x is word i % 4 of Philox4x32-10 (philox.py) at the
  counter i // 4, its key the `seed`: a whole number from 0 to 2^63 - 1, or for a GPU an int64 array there of one element,
  which a recorded launch reads anew. So nothing is drawn in order, and no mask is kept. A NaN stays, dropped or not, and an
  infinity that is dropped is NaN. (A float32 below 2^-126 is 0 to a GPU: so CuPy has its sources compiled.)
* Where the `loss` of an update is given and not finite, nothing is changed: so a GPU need not be asked before.
* Every output element has one owner and reductions are cut by shape alone: no result depends on the thread count.
* relu'(0) = 0; a tie in a pooling window belongs to its first element in row-major order; a NaN in a window or in a
  receptive field gives NaN (and Winograd's algorithms, which "auto" may take, may spread it over the tiles that see it); a
  pixel of weight 0 takes no part in the loss, whatever its logits and label.
"""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

ALGORITHMS = ("auto", "direct", "winograd2x2", "winograd4x4", "im2col")
PRECISIONS = ("float32", "tf32", "bf16")
_BACKENDS = ("reference", "cpu")  # those that take NumPy arrays

_backend: ContextVar[str | None] = ContextVar("backend", default=None)
_precision: ContextVar[str] = ContextVar("precision", default="float32")
_n_threads: ContextVar[int | None] = ContextVar("n_threads", default=None)


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
    return "cpu" if not hasattr(a, "__cuda_array_interface__") else f"gpu:{a.device.id}"


def to_host(a: Any) -> Any:
    """Return a as a NumPy array: a copy where it lies on a GPU."""
    return a if place(a) == "cpu" else a.get()


def available() -> list[str]:
    """Return the names of the backends that work here, the specification first."""
    return ["reference"] if _fastest() is _load("reference") else list(_BACKENDS)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run everything inside the `with` block on one backend: "reference" (the NumPy specification) or "cpu"."""
    if name not in _BACKENDS:
        raise ValueError(f"unknown backend {name!r}; there are: {', '.join(_BACKENDS)}")
    _load(name)
    token = _backend.set(name)
    try:
        yield
    finally:
        _backend.reset(token)


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Multiply float32 numbers on a GPU in this precision inside the `with` block.

    "float32", 24 bits, or "tf32": 11 bits of each factor, on tensor cores, several times as fast. "bf16" is for networks,
    which keep activations in bfloat16 then, 8 bits: half the memory, and twice as fast again; what is not of a network it
    multiplies as "tf32" does. The CPU has float32.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision is {name!r}; it takes {' or '.join(PRECISIONS)}")
    token = _precision.set(name)
    try:
        yield
    finally:
        _precision.reset(token)


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
    return a if a.dtype == dtype else _load("gpu").cast(a, dtype)


def parameter_dtype(dtype: DTypeLike) -> np.dtype:
    """Return the dtype of parameters and their gradients beside activations of this one: float32 beside bfloat16."""
    return np.dtype(np.float32) if np.dtype(dtype).name == "bfloat16" else np.dtype(dtype)


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Use n threads inside the `with` block (None: leave it as it is). The results do not depend on it."""
    if n is not None and n < 1:
        raise ValueError(f"n_threads is {n}; it takes a whole number from 1 up, or None for all cores")
    token = _n_threads.set(n if n is not None else _n_threads.get())
    try:
        yield
    finally:
        _n_threads.reset(token)


def n_threads() -> int:
    """Return how many threads kernels use: that of `threads`, else MINUNET_NUM_THREADS, else one a core."""
    chosen = _n_threads.get() or os.environ.get("MINUNET_NUM_THREADS")
    if not chosen:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not str(chosen).isdecimal() or int(chosen) < 1:
        raise ValueError(f"MINUNET_NUM_THREADS is {chosen!r}; it takes a whole number from 1 up")
    return int(chosen)


@functools.cache
def _load(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


@functools.cache
def _fastest() -> ModuleType:
    try:
        cpu = _load("cpu")
        cpu.probe()
        return cpu
    except Exception as error:  # a broken Numba or LLVM fails in many ways, and the specification serves after each
        warnings.warn(
            f"Numba does not work here ({type(error).__name__}: {error}); the NumPy reference kernels serve, slowly. "
            "`pip install --upgrade numba` may help.",
            RuntimeWarning,
            stacklevel=3,
        )
        return _load("reference")
