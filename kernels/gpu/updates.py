"""The update rules and what belongs to them, over flat arrays, in place. Nothing waits for a loss or a norm that decides."""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import BLOCK, Kernel, blocks, empty, launch, store
from .layout import unit

FILE = "updates.cu"
EACH = 8  # numbers that a thread squares at least, to be worth a partial sum
MOST_BLOCKS = 2**11  # square numbers, however many there are
SHARED = BLOCK * np.dtype(np.float64).itemsize  # bytes: a sum of each thread


def guarded_sgd_update(
    param: Any, grad: Any, velocity: Any, loss: Any = None, *, learning_rate: float, momentum: float, weight_decay: float,
    nesterov: bool = False,
) -> None:  # fmt: skip
    """v = momentum v + g, with g + weight_decay p for g; p = p - learning_rate v, with g + momentum v for v if nesterov.

    Nothing where there is a loss that is not finite.
    """
    _by_elements("sgd", param, grad, (velocity,), (learning_rate, momentum, weight_decay, nesterov), loss)


def guarded_adam_update(
    param: Any, grad: Any, m: Any, v: Any, loss: Any = None, *, learning_rate: float, beta1: float, beta2: float, epsilon: float,
    weight_decay: float, t: int,
) -> None:  # fmt: skip
    """Adam (Kingma and Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov and Hutter 2019)."""
    numbers = (
        learning_rate, beta1, 1 - beta1, beta2, 1 - beta2, 1 / (1 - beta1**t), 1 / (1 - beta2**t), epsilon, weight_decay,
    )  # fmt: skip
    _by_elements("adam", param, grad, (m, v), numbers, loss)


sgd_update, adam_update = guarded_sgd_update, guarded_adam_update  # which no loss is given


def average_update(mean: Any, param: Any, *, keep: float) -> None:
    """mean = mean + (1 - keep) (p - mean)."""
    width = unit(mean, param)
    count = mean.size // width
    launch(Kernel(FILE, "average", store(mean.dtype)), blocks(count), BLOCK, mean, param, count, 1.0 - keep, width)


def clip_norm(grad: Any, *, most: float) -> Any:
    """Scale a gradient by min(1, most / |g|). Return |g|, 0-d, from a sum of squares in float64, cut by its size alone."""
    chunk = max(EACH * BLOCK, blocks(grad.size, MOST_BLOCKS))
    parts, norm = empty((blocks(grad.size, chunk),), np.float64), empty((), np.float64)
    kind, width = store(grad.dtype), unit(grad)
    launch(Kernel(FILE, "sum_squares", kind), parts.size, BLOCK, grad, grad.size, chunk, parts, shared=SHARED)
    launch(Kernel(FILE, "norm_of_sums", kind), 1, BLOCK, parts, parts.size, norm, shared=SHARED)
    count = grad.size // width
    launch(Kernel(FILE, "clip", kind), blocks(count), BLOCK, grad, count, norm, float(most), width)
    return norm


def _by_elements(name: str, param: Any, grad: Any, moments: tuple[Any, ...], numbers: tuple[float, ...], loss: Any) -> None:
    width = unit(param, grad, *moments)
    launch(
        Kernel(FILE, name, store(param.dtype)), blocks(param.size // width), BLOCK, param, grad, *moments,
        param.size // width, *map(float, numbers), loss, width,
    )  # fmt: skip
