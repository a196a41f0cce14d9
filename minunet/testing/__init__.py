"""Gradient tests: of minunet's operations, of yours, and of other libraries'.

    from minunet.testing import check_gradients
    print(check_gradients(forward, backward, x, w))    # y, cache = forward(x, w); dx, dw = backward(dy, cache)

A wrong gradient raises GradientError, which names the argument, the element and both numbers. docs/gradients.md says
how and why. `strategies` (arrays, geometries and networks for Hypothesis) needs the extra: pip install "minunet[testing]".
"""

from __future__ import annotations

import importlib
from typing import Any

from .adapters import from_autograd, from_jax
from .checks import check_adjoint, check_gradients, check_layer, check_network
from .pytorch import from_torch
from .report import GradientError, Report, Row, relative_error

__all__ = [
    "GradientError", "Report", "Row", "check_adjoint", "check_gradients", "check_layer", "check_network", "from_autograd",
    "from_jax", "from_torch", "relative_error", "strategies",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name != "strategies":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.strategies")


def __dir__() -> list[str]:
    return sorted(__all__)
