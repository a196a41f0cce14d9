"""The definitions of the update rules, in NumPy, which write the parameters and the moments in place; and of a look for NaN."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def is_finite(a: Array) -> bool:
    """Tell whether all of an array's numbers are finite: of a gradient before an update, of parameters after it."""
    return bool(np.isfinite(a).all())


def sgd_update(param: Array, grad: Array, velocity: Array, *, learning_rate: float, momentum: float, weight_decay: float) -> None:
    """v = momentum v + (g + weight_decay p); p = p - learning_rate v."""
    velocity *= momentum
    velocity += grad + weight_decay * param
    param -= learning_rate * velocity


def adam_update(
    param: Array, grad: Array, m: Array, v: Array, *, learning_rate: float, beta1: float, beta2: float, epsilon: float,
    weight_decay: float, t: int,
) -> None:  # fmt: skip
    """Adam (Kingma and Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov and Hutter 2019)."""
    m *= beta1
    m += (1 - beta1) * grad
    v *= beta2
    v += (1 - beta2) * grad * grad
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    param -= learning_rate * (m_hat / (np.sqrt(v_hat) + epsilon) + weight_decay * param)
