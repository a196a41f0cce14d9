"""The update rules: one fused pass over the network's flat array of parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .checks import array, beside, check_moments, check_rates, check_updated, require, size
from .kernels import composed, run, updates
from .kernels.geometry import address

Array = NDArray[np.floating]


class Optimizer:
    """What the rules share: a learning rate that may change between updates, moments made at the first update."""

    def __init__(self, learning_rate: float, weight_decay: float) -> None:
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.n_updates = 0
        self.moments: tuple[Array, ...] = ()
        self._flat: Array | None = None  # whose moments these are
        self._own: tuple[Array, ...] = ()  # the moments that are known to be an update's, not set by hand

    def update(self, flat: Array, flat_gradient: Array, *, loss: Array | None = None) -> None:
        """Move flat, in place, one step down the gradient; not at all where a loss is given and is not finite.

        An optimizer serves the parameters that it was first given, all along: its moments are theirs. ValueError where flat is
        another array, cannot be written in place, or shares memory with what is read; `moments = ()` lets it begin anew.
        """
        flat, gradient, moments = self._checked(flat, flat_gradient)
        rule, guarded, rates = self._rule()
        check_rates(rates, flat.dtype)
        if loss is not None:
            beside("loss", loss, flat)
            require(np.ndim(loss) == 0, "loss", f"of shape {np.shape(loss)}", "one number, 0-d")
        self.moments = self._own = moments
        self._flat, self.n_updates = flat, self.n_updates + 1
        if loss is None:
            run(rule, flat, gradient, *moments, **rates)
        else:
            run(guarded, flat, gradient, *moments, loss, **rates)

    def _checked(self, flat: Array, flat_gradient: Array) -> tuple[Array, Array, tuple[Array, ...]]:
        """Return the parameters, their gradient and their moments, if they belong together."""
        flat, gradient = array("flat", flat), array("flat_gradient", flat_gradient)
        size("n_updates", self.n_updates, 0)
        listed = isinstance(self.moments, (tuple, list))
        require(listed, "moments", f"of type {type(self.moments).__name__}", "a tuple of arrays, or none to begin anew: ()")
        moments = tuple(array("moments", m) for m in self.moments) or tuple(np.zeros_like(flat) for _ in range(self.n_moments))
        takes = f"{self.n_moments}, as {type(self).__name__} has, or none to begin anew: ()"
        require(len(moments) == self.n_moments, "moments", f"{len(moments)} arrays", takes)
        check_updated(flat, gradient, moments)
        if self.moments and self.moments is not self._own:
            check_moments(moments, self._squares)
        served = self._flat is None or not self.moments or address(self._flat) == address(flat)
        takes = "those whose moments this optimizer has: make one for each network, or set its moments to ()"
        require(served, "flat", "other parameters, in memory of their own", takes)
        return flat, gradient, moments

    def __getstate__(self) -> dict[str, object]:
        return vars(self) | {"_flat": None, "_own": ()}  # a copy serves a copy of the parameters

    n_moments = 0
    _squares: tuple[int, ...] = ()  # which of them are means of squares

    def _rule(self) -> tuple[Callable[..., None], Callable[..., None], dict[str, float]]:
        """Return the update rule, the same where a loss must be finite, and what both take by name."""
        raise TypeError(f"{type(self).__name__} has no rule; use SGD or Adam")


class SGD(Optimizer):
    """Gradient descent with momentum: v = momentum v + g, p = p - learning_rate v.

    nesterov=True looks ahead to where the momentum alone will have led: p = p - learning_rate (g + momentum v).
    weight_decay adds weight_decay p to g: an L2 penalty. Sutskever et al. 2013, in PyTorch's form (no 1 - momentum).
    """

    n_moments = 1

    def __init__(
        self, learning_rate: float = 1e-2, momentum: float = 0.9, weight_decay: float = 0.0, nesterov: bool = False
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.momentum, self.nesterov = momentum, nesterov

    def _rule(self) -> tuple[Callable[..., None], Callable[..., None], dict[str, float]]:
        names = ("learning_rate", "momentum", "weight_decay", "nesterov")
        return updates.sgd_update, composed.guarded_sgd_update, {name: getattr(self, name) for name in names}


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1): a step of the size of learning_rate, whatever the gradient's scale.

    m and v are running means of g and g^2, each divided by 1 - beta^t since they start at 0;
    p = p - learning_rate (m / (sqrt(v) + epsilon) + weight_decay p): the decay is decoupled from v, as in AdamW
    (Loshchilov and Hutter 2019).
    """

    n_moments, _squares = 2, (1,)

    def __init__(
        self, learning_rate: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(learning_rate, weight_decay)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def _rule(self) -> tuple[Callable[..., None], Callable[..., None], dict[str, float]]:
        names = ("learning_rate", "beta1", "beta2", "epsilon", "weight_decay")
        rates = {name: getattr(self, name) for name in names} | {"t": self.n_updates + 1}
        return updates.adam_update, composed.guarded_adam_update, rates


class AdamW(Adam):
    """Adam with a weight decay of 0.01 by default. There is no other difference: Adam's own is decoupled here, too."""

    def __init__(
        self, learning_rate: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:  # fmt: skip
        super().__init__(learning_rate, beta1, beta2, epsilon, weight_decay)


OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD, "nesterov": SGD}  # by name
