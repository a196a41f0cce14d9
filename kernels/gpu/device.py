"""The one door to CUDA: memory, compiled sources and launches, through CuPy.

Everything else in this folder is arithmetic on shapes, and CUDA C++. So the tests put another door into `door`'s place, which
runs the same sources on the processor (tests/cuda_on_cpu), and all the rest is the same code.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from .. import shapes
from ..buffers import counted
from .layout import ACCESS

if TYPE_CHECKING:
    from .cuda import Cuda

HERE = Path(__file__).parent
BLOCK = 256  # threads, where a kernel has no reason for another number
WARP = 32


@dataclass(frozen=True)
class Kernel:
    """A `extern "C" __global__` function of one of the .cu files, compiled with STORE as the type of activations."""

    file: str
    name: str
    store: str = "float"  # or "double" or "bf16"
    options: tuple[str, ...] = ()  # which variant of the source it is: NAME=value
    constants: tuple[str, ...] = ()  # NAME=value of what else its launcher counts with

    @property
    def source(self) -> str:
        """The file behind common.cuh, in one text: the cache of compiled code knows a source by its text, not by its includes."""
        return (HERE / "common.cuh").read_text() + (HERE / self.file).read_text()

    @property
    def defines(self) -> tuple[str, ...]:
        """What the compiler is told: types, and the numbers that both sides count with, which are stated in Python alone."""
        narrow, real = self.store == "bf16", "double" if self.store == "double" else "float"
        common = f"STORE={self.store}", f"REAL={real}", f"NARROW={int(narrow)}", f"BLOCK={BLOCK}", f"ACCESS={ACCESS}"
        return tuple(f"-D{told}" for told in (*common, *self.options, *self.constants))

    @property
    def flags(self) -> tuple[str, ...]:
        """What CuPy is to tell NVRTC. It adds the architecture, -ftz=true and --device-as-default-execution-space itself."""
        return ("-std=c++17", *self.defines)


def store(dtype: DTypeLike) -> str:
    """Return the name in C++ of float32, float64 or bfloat16."""
    return {"float32": "float", "float64": "double", "bfloat16": "bf16"}[np.dtype(dtype).name]


def launch(kernel: Kernel, grid: int | tuple[int, int, int], block: int, *arguments: Any, shared: int = 0) -> None:
    """Run a kernel. Arrays go as addresses, None as a null pointer, whole numbers as long long, others as double.

    A grid without blocks is no launch, nor is any where memory is only counted.
    """
    if counted() is None and (grid if isinstance(grid, int) else min(grid)) > 0:
        door().launch(kernel, grid, block, arguments, shared)


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> Any:
    """Return a fresh array with anything in it, from CuPy's pool."""
    book = counted()
    return door().empty(shape, dtype) if book is None else book.lease(shape, dtype)


def asarray(a: Any) -> Any:
    """Return a, copied onto the device if it is not there."""
    return door().asarray(a) if counted() is None else shapes.asarray(a)


def blocks(n: int, each: int = BLOCK) -> int:
    """Return how many blocks of `each` do n things."""
    return -(-n // each)


def door() -> Cuda:
    """Return the door to the devices; RuntimeError says what is missing where there is none."""
    if missing := trouble():
        raise RuntimeError(missing)
    return _cuda()


@functools.cache
def trouble() -> str | None:
    """Return why no GPU can be used here, and what would help; None if one can."""
    if not find_spec("cupy"):
        return f"CuPy is not installed: {_INSTALL}"
    try:
        return _cuda().trouble()
    except Exception as error:  # a broken CuPy fails in many ways
        return f"CuPy does not work here ({type(error).__name__}: {error}): {_INSTALL}"


@functools.cache
def _cuda() -> Cuda:
    from .cuda import Cuda  # CuPy is imported here

    return Cuda()


_INSTALL = "pip install 'minunet[cuda13]' (drivers from 580 on), or 'minunet[cuda12]' (from 525 on)"
