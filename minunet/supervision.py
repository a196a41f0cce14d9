"""Deep supervision: in training the levels below the top have heads of their own, which have a say in what is learned there.

    with judged(judge):                                     judge(head, x) -> dx, grads: of a loss of what the head makes of x
        logits, cache = network.forward(x, training=True)
    dx, grads = network.backward(dlogits, cache)            adds them to what comes back from the top

Lee et al. 2015, "Deeply-Supervised Nets", equation 3. Which loss judges them is training/levels.py's; in inference nobody asks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

import numpy as np

from . import kernels
from .checks import Array
from .layers import Composite, Conv2d, Grads

Judge = Callable[[Conv2d, Array], tuple[Array, Grads]]


class SideHead(Composite):
    """A head beside the way up: x goes on as it is, and its gradient is the sum of two, that of the way up and the head's."""

    def __init__(self, head: Conv2d) -> None:
        self.head = head
        super().__init__(**{"": head})

    def forward(self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        judge = _judge.get() if training else None
        return x, judge(self.head, x) if judge else None

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        if cache is None:  # nobody asked: what comes back from the top owes the head nothing
            return dy, {name: np.zeros_like(p) for name, p in self.parameters.items()}
        dx, grads = cache
        return dy + dx, grads

    def __repr__(self) -> str:
        return f"SideHead({self.head!r})"


_judge: ContextVar[Judge | None] = ContextVar("judge", default=None)


def judged(judge: Judge) -> AbstractContextManager[None]:
    """Let this judge what side heads make of x, in the `with` block."""
    return kernels.within(_judge, judge)
