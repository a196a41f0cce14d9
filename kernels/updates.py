"""The definitions of the update rules, in NumPy, which write the parameters and the moments in place; and of what is done to a

gradient before, and to a mean of the weights after.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def is_finite(a: Array) -> bool:
    """Tell whether all of an array's numbers are finite: of a gradient before an update, of parameters after it."""
    return bool(np.isfinite(a).all())


def clip_norm(grad: Array, *, most: float) -> Array:
    """Scale a gradient, in place, by min(1, most / |g|), where |g| is its L2 norm. Return |g|, 0-d, in float64.

    Not finite where a number is not; as float64 has the square of any float32, that is the only reason there.
    """
    norm = np.sqrt(np.square(grad, dtype=np.float64).sum())
    grad *= np.where(norm > most, most / np.maximum(norm, most), 1.0).astype(grad.dtype)
    return norm


def sgd_update(
    param: Array, grad: Array, velocity: Array, *, learning_rate: float, momentum: float, weight_decay: float,
    nesterov: bool = False,
) -> None:  # fmt: skip
    """v = momentum v + g, with g + weight_decay p for g; p = p - learning_rate v, with g + momentum v for v if nesterov."""
    decayed = grad + weight_decay * param
    velocity *= momentum
    velocity += decayed
    param -= learning_rate * (decayed + momentum * velocity if nesterov else velocity)


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


def average_update(mean: Array, param: Array, *, keep: float) -> None:
    """mean = keep mean + (1 - keep) p, written so that what has come to rest stays as it is, without rounding."""
    mean += (1 - keep) * (param - mean)
