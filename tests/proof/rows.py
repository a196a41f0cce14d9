"""The rows of the proof: every backend with every algorithm. A new one adds its row to ROWS, and no test changes.

An algorithm that "auto" always chooses needs no row of its own: the row without a name of one is its row, and
kernels/cpu/test_convolution.py holds the two to equal bits.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from minunet import kernels

WITH_ALGORITHM = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")


@dataclass(frozen=True)
class Row:
    """A backend that computes everything by one algorithm. It has the kernels of the contract, so it is a backend itself."""

    backend: str
    algorithm: str = "auto"

    def __str__(self) -> str:
        return self.backend if self.algorithm == "auto" else f"{self.backend}, {self.algorithm}"

    def __getattr__(self, name: str) -> Any:
        kernel = getattr(importlib.import_module(f"minunet.kernels.{self.backend}"), name)
        if name not in WITH_ALGORITHM:
            return kernel

        def by_algorithm(*args: Any, **options: Any) -> Any:
            w_shape = args[2] if name == "conv2d_weight_grad" else args[1].shape
            served = not self.algorithm.startswith("winograd") or (w_shape[:2], options["stride"]) == ((3, 3), (1, 1))
            return kernel(*args, **options | {"algorithm": self.algorithm if served else "auto"})

        return by_algorithm


AS_AUTO = {"direct"}
ROUNDS = {"winograd4x4"}  # even where all numbers are whole: kernels/cpu/test_winograd.py has the numbers on which it does not
EXACT = [algorithm for algorithm in kernels.ALGORITHMS if algorithm not in AS_AUTO | ROUNDS]
ROWS = [Row("reference"), *(Row("cpu", algorithm) for algorithm in EXACT)]
SPECIFICATION = ROWS[0]


@contextmanager
def serving(backend: Any) -> Iterator[None]:
    """Let a row, or anything with the kernels of the contract, serve all ops, layers and losses."""
    with mock.patch.object(kernels, "for_array", lambda x: backend):
        yield
