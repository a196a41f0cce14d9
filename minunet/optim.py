"""The update rules: one fused pass over the network's flat array of parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .kernels import composed, run, updates

Array = NDArray[np.floating]


class Optimizer:
    """What the rules share: a learning rate that may change between updates, moments made at the first update."""

    def __init__(self, learning_rate: float, weight_decay: float) -> None:
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.n_updates = 0
        self.moments: tuple[Array, ...] = ()

    def update(self, flat: Array, flat_gradient: Array, *, loss: Array | None = None) -> None:
        """Move flat, in place, one step down the gradient; not at all where a loss is given and is not finite."""
        if flat_gradient.shape != flat.shape or flat_gradient.dtype != flat.dtype:
            given = f"a {flat_gradient.dtype} array {flat_gradient.shape}"
            raise ValueError(f"flat_gradient is {given}; it takes {flat.dtype}, {flat.shape}, like the parameters")
        if not self.moments:
            self.moments = tuple(np.zeros_like(flat) for _ in range(self._n_moments))
        self.n_updates += 1
        rule, guarded, rates = self._rule()
        if loss is None:
            run(rule, flat, flat_gradient, *self.moments, **rates)
        else:
            run(guarded, flat, flat_gradient, *self.moments, loss, **rates)

    _n_moments = 0

    def _rule(self) -> tuple[Callable[..., None], Callable[..., None], dict[str, float]]:
        """Return the update rule, the same where a loss must be finite, and what both take by name."""
        raise TypeError(f"{type(self).__name__} has no rule; use SGD or Adam")


class SGD(Optimizer):
    """Gradient descent with momentum: v = momentum v + g, p = p - learning_rate v.

    weight_decay adds weight_decay p to g: an L2 penalty. Sutskever et al. 2013, in PyTorch's form (no 1 - momentum).
    """

    _n_moments = 1

    def __init__(self, learning_rate: float = 1e-2, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(learning_rate, weight_decay)
        self.momentum = momentum

    def _rule(self) -> tuple[Callable[..., None], Callable[..., None], dict[str, float]]:
        rates = {"learning_rate": self.learning_rate, "momentum": self.momentum, "weight_decay": self.weight_decay}
        return updates.sgd_update, composed.guarded_sgd_update, rates


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1): a step of the size of learning_rate, whatever the gradient's scale.

    m and v are running means of g and g^2, each divided by 1 - beta^t since they start at 0;
    p = p - learning_rate (m / (sqrt(v) + epsilon) + weight_decay p): the decay is decoupled from v, as in AdamW
    (Loshchilov and Hutter 2019).
    """

    _n_moments = 2

    def __init__(
        self, learning_rate: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(learning_rate, weight_decay)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def _rule(self) -> tuple[Callable[..., None], Callable[..., None], dict[str, float]]:
        names = ("learning_rate", "beta1", "beta2", "epsilon", "weight_decay")
        rates = {name: getattr(self, name) for name in names} | {"t": self.n_updates}
        return updates.adam_update, composed.guarded_adam_update, rates
