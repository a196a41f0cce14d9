"""The update rules, each one fused pass over flat arrays, in place. Nothing waits for the loss that may forbid them."""

from __future__ import annotations

from typing import Any

from .device import BLOCK, Kernel, blocks, launch, store
from .layout import unit

FILE = "updates.cu"


def guarded_sgd_update(
    param: Any, grad: Any, velocity: Any, loss: Any = None, *, learning_rate: float, momentum: float, weight_decay: float
) -> None:
    """v = momentum v + (g + weight_decay p); p = p - learning_rate v. Nothing where there is a loss that is not finite."""
    _by_elements("sgd", param, grad, (velocity,), (learning_rate, momentum, weight_decay), loss)


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


def _by_elements(name: str, param: Any, grad: Any, moments: tuple[Any, ...], numbers: tuple[float, ...], loss: Any) -> None:
    width = unit(param, grad, *moments)
    launch(
        Kernel(FILE, name, store(param.dtype)), blocks(param.size // width), BLOCK, param, grad, *moments,
        param.size // width, *map(float, numbers), loss, width,
    )  # fmt: skip
