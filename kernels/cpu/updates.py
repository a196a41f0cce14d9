"""The update rules, each one fused pass over flat arrays, in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import jit
from .threads import chunks, run

Array = NDArray[np.floating]

ELEMENTS = 2**16  # a job


def sgd_update(
    param: Array, grad: Array, velocity: Array, *, learning_rate: float, momentum: float, weight_decay: float
) -> None:
    """v = momentum v + (g + weight_decay p); p = p - learning_rate v."""
    factors = _as(param, learning_rate, momentum, weight_decay)
    _by_elements(_sgd, (param, grad, velocity), factors)


def adam_update(
    param: Array, grad: Array, m: Array, v: Array, *, learning_rate: float, beta1: float, beta2: float,
    epsilon: float, weight_decay: float, t: int,
) -> None:  # fmt: skip
    """Adam (Kingma and Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov and Hutter 2019)."""
    factors = _as(
        param, learning_rate, beta1, 1 - beta1, beta2, 1 - beta2, 1 / (1 - beta1**t), 1 / (1 - beta2**t), epsilon,
        weight_decay,
    )  # fmt: skip
    _by_elements(_adam, (param, grad, m, v), factors)


def _as(param: Array, *numbers: float) -> list[Any]:
    """Give numbers the parameters' dtype, so that float32 stays float32 inside the loop."""
    return [param.dtype.type(number) for number in numbers]


def _by_elements(kernel: Any, arrays: tuple[Array, ...], factors: list[Any]) -> None:
    pieces = list(chunks(arrays[0].size, ELEMENTS))
    run(len(pieces), lambda i: kernel(*(a[slice(*pieces[i])] for a in arrays), *factors))


@jit
def _sgd(param: Any, grad: Any, velocity: Any, learning_rate: Any, momentum: Any, weight_decay: Any) -> None:
    for i in range(param.size):
        velocity[i] = momentum * velocity[i] + (grad[i] + weight_decay * param[i])
        param[i] -= learning_rate * velocity[i]


@jit
def _adam(
    param: Any, grad: Any, m: Any, v: Any, learning_rate: Any, beta1: Any, rest1: Any, beta2: Any, rest2: Any,
    correct1: Any, correct2: Any, epsilon: Any, weight_decay: Any,
) -> None:  # fmt: skip
    for i in range(param.size):
        m[i] = beta1 * m[i] + rest1 * grad[i]
        v[i] = beta2 * v[i] + rest2 * grad[i] * grad[i]
        step = correct1 * m[i] / (math.sqrt(correct2 * v[i]) + epsilon)
        param[i] -= learning_rate * (step + weight_decay * param[i])
