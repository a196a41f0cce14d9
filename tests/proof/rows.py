"""The rows of the proof: every backend with every algorithm. A new one adds its row to ROWS, and no test changes.

Exact proofs run on ROWS. Winograd's F(4x4) divides by 24, and so rounds even whole numbers: its row is among EVERY_ROW,
on which runs what compares a row with itself, or with differences that are rounded too. In float32 "auto" may choose it:
exact cases of that row are float64, for which "auto" is direct. kernels/cpu/test_convolution.py holds "auto" to the bits of
what it chooses in either, and kernels/cpu/test_winograd.py has the numbers on which F(4x4) is exact, and its error on others.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from minunet import kernels

WITH_ALGORITHM = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")


@dataclass(frozen=True)
class Row:
    """A backend that computes everything by one algorithm. It has the kernels of the contract, so it is a backend itself."""

    backend: str
    algorithm: str = "auto"

    @property
    def exact_dtypes(self) -> list[type]:
        """The dtypes in which its convolutions of whole numbers are whole numbers."""
        return [np.float64] if (self.backend, self.algorithm) == ("cpu", "auto") else [np.float32, np.float64]

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


ROUNDS = {"winograd4x4"}
EVERY_ROW = [Row("reference"), *(Row("cpu", algorithm) for algorithm in kernels.ALGORITHMS)]
ROWS = [row for row in EVERY_ROW if row.algorithm not in ROUNDS]
SPECIFICATION = ROWS[0]


@contextmanager
def serving(backend: Any) -> Iterator[None]:
    """Let a row, or anything with the kernels of the contract, serve all ops, layers and losses."""
    with mock.patch.object(kernels, "for_array", lambda x: backend):
        yield
