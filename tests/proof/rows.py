"""The rows of the proof: every backend with every algorithm. A new one adds its row to ROWS, and no test changes.

Exact proofs run on ROWS. Winograd's F(4x4) divides by 24, and so rounds even whole numbers: its row is among EVERY_ROW,
on which runs what compares a row with itself, or with differences that are rounded too. In float32 "auto" may choose it:
exact cases of that row are float64, for which "auto" is direct. kernels/cpu/test_convolution.py holds "auto" to the bits of
what it chooses in either, and kernels/cpu/test_winograd.py has the numbers on which F(4x4) is exact, and its error on others.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
from cuda_on_cpu.door import compiler, emulated

from minunet import kernels
from minunet.kernels.gpu import device

Kernel = Callable[..., Any]


@dataclass(frozen=True)
class Row:
    """A backend that computes everything by one algorithm. It has the kernels of the contract, so it is a backend itself.

    "gpu" runs the CUDA sources on the processor, "cuda" on a GPU; both take and give NumPy arrays, as the others do.
    """

    backend: str
    algorithm: str = "auto"
    precision: str = "float32"

    @property
    def share(self) -> float:
        """How many of the drawn cases it runs: a fiber for each thread takes time. Geometries with a name it always runs."""
        return 0.1 if self.backend == "gpu" else 1.0

    @property
    def exact_dtypes(self) -> list[type]:
        """The dtypes in which its convolutions of whole numbers are whole numbers."""
        return [np.float64] if (self.backend, self.algorithm) == ("cpu", "auto") else [np.float32, np.float64]

    def __str__(self) -> str:
        named = [self.backend, *(n for n in (self.algorithm, self.precision) if n not in ("auto", "float32"))]
        return ", ".join(named)

    def __getattr__(self, name: str) -> Any:
        module = importlib.import_module(f"minunet.kernels.{'gpu' if self.backend == 'cuda' else self.backend}")
        kernel = getattr(module, name)
        return {"gpu": self._emulated, "cuda": self._on_device}.get(self.backend, self._on_the_cpu)(kernel)

    def _on_the_cpu(self, kernel: Kernel) -> Kernel:
        @functools.wraps(kernel)
        def run(*args: Any, **options: Any) -> Any:
            with kernels.algorithm(self.algorithm):
                return kernel(*args, **options)

        return run

    def _emulated(self, kernel: Kernel) -> Kernel:
        @functools.wraps(kernel)
        def run(*args: Any, **options: Any) -> Any:
            with emulated(), kernels.precision(self.precision), kernels.algorithm(self.algorithm):
                return kernel(*args, **options)

        return run

    def _on_device(self, kernel: Kernel) -> Kernel:
        """Copy NumPy arrays to the GPU, and back what may have been written and what is returned."""

        @functools.wraps(kernel)
        def run(*args: Any, **options: Any) -> Any:
            there = [device.asarray(a) if isinstance(a, np.ndarray) else a for a in (*args, *options.values())]
            named = dict(zip(options, there[len(args) :], strict=True))
            with kernels.precision(self.precision), kernels.algorithm(self.algorithm):
                results = kernel(*there[: len(args)], **named)
            for here, copy in zip((*args, *options.values()), there, strict=True):
                if isinstance(here, np.ndarray) and here.flags.writeable:
                    here[...] = copy.get()
            if isinstance(results, tuple):
                return tuple(kernels.to_host(a) for a in results)
            return kernels.to_host(results) if results is not None else None

        return run


ROUNDS = {"winograd4x4"}
GPU_ROWS = [Row("gpu"), Row("gpu", "im2col"), Row("gpu", precision="tf32")] if compiler() else []
GPU_ROWS += [Row("cuda"), Row("cuda", precision="tf32")] if device.trouble() is None else []
EVERY_ROW = [Row("reference"), *(Row("cpu", algorithm) for algorithm in kernels.ALGORITHMS), *GPU_ROWS]
ROWS = [row for row in EVERY_ROW if row.algorithm not in ROUNDS]
SPECIFICATION = ROWS[0]
# Differences are taken in float64, where the CPU's "auto" is direct, and a GPU has one precision; they take many runs, which are
# slow where a GPU is emulated. Whole networks run on each backend, and on Winograd's kernels.
NETWORKS = [row for row in ROWS if row.precision == "float32" and row.algorithm in ("auto", "winograd2x2")]
DIFFERENCED = [row for row in ROWS if row in NETWORKS or str(row) == "cpu, im2col"]


@contextmanager
def serving(backend: Any) -> Iterator[None]:
    """Let a row, or anything with the kernels of the contract, serve all ops, layers and losses."""
    with mock.patch.object(kernels, "for_array", lambda x: backend):
        yield
