"""The rows of the proof: every backend with every algorithm. A new one adds its row to ROWS, and no test changes."""

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
        return lambda *args, **options: kernel(*args, **options | {"algorithm": self.algorithm})


ROWS = [Row("reference"), *(Row("cpu", algorithm) for algorithm in kernels.ALGORITHMS)]
SPECIFICATION = ROWS[0]


@contextmanager
def serving(backend: Any) -> Iterator[None]:
    """Let a row, or anything with the kernels of the contract, serve all ops, layers and losses."""
    with mock.patch.object(kernels, "for_array", lambda x: backend):
        yield
