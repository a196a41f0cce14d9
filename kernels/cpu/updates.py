"""The update rules and what belongs to them, each one fused pass over flat arrays, in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from .generated import pointer, poke
from .jit import part
from .threads import address, jobs, launch

Array = NDArray[np.floating]

ELEMENTS = 2**14  # a job


def is_finite(a: Array) -> bool:
    """Tell whether all of an array's numbers are finite, in one pass over it."""
    a, found = np.require(a, requirements=["C", "ALIGNED"]), np.zeros(1, np.int64)
    launch(_find, -(-a.size // ELEMENTS), 0, a.dtype.type(0), a.itemsize, a.size, address(a), address(found))
    return not found[0]


def clip_norm(grad: Array, *, most: float) -> np.float64:
    """Scale a gradient by min(1, most / |g|). Return |g|, from a sum of squares in float64 of each job, and of those in order."""
    dense, parts = np.require(grad, requirements=["C", "ALIGNED"]), np.empty(-(-grad.size // ELEMENTS))
    launch(_squares, parts.size, 0, grad.dtype.type(0), grad.itemsize, grad.size, address(dense), address(parts))
    norm = np.sqrt(parts.sum())
    if norm > most:
        grad *= grad.dtype.type(most / norm)
    return norm


def sgd_update(
    param: Array, grad: Array, velocity: Array, *, learning_rate: float, momentum: float, weight_decay: float,
    nesterov: bool = False,
) -> None:  # fmt: skip
    """v = momentum v + g, with g + weight_decay p for g; p = p - learning_rate v, with g + momentum v for v if nesterov."""
    _by_elements(_sgd, grad, (param, velocity), learning_rate, momentum, weight_decay, nesterov)


def adam_update(
    param: Array, grad: Array, m: Array, v: Array, *, learning_rate: float, beta1: float, beta2: float,
    epsilon: float, weight_decay: float, t: int,
) -> None:  # fmt: skip
    """Adam (Kingma and Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov and Hutter 2019)."""
    _by_elements(
        _adam, grad, (param, m, v), learning_rate, beta1, 1 - beta1, beta2, 1 - beta2, 1 / (1 - beta1**t),
        1 / (1 - beta2**t), epsilon, weight_decay,
    )  # fmt: skip


def average_update(mean: Array, param: Array, *, keep: float) -> None:
    """mean = mean + (1 - keep) (p - mean)."""
    _by_elements(_average, param, (mean,), 1 - keep)


def _by_elements(kernel: Any, grad: Array, updated: tuple[Array, ...], *numbers: float) -> None:
    """Run a kernel over chunks of flat arrays, of which it writes all but the first."""
    number = grad.dtype.type  # so that float32 stays float32 inside the loop
    grad, *dense = (np.require(a, requirements=["C", "ALIGNED"]) for a in (grad, *updated))  # a copy, where it has gaps
    launch(
        kernel, -(-grad.size // ELEMENTS), 0, number(0), grad.itemsize, grad.size, tuple(map(address, (grad, *dense))),
        tuple(map(number, numbers)),
    )  # fmt: skip
    for array, copy in zip(updated, dense, strict=True):
        if copy is not array:
            array[...] = copy


@part
def _run(zero: Any, size: int, n: int, job: int, start: int) -> Any:
    """View what a job takes of an array of n elements."""
    first = job * ELEMENTS
    return carray(pointer(zero, start + first * size), (min(ELEMENTS, n - first),))


@jobs
def _find(job: int, base: int, zero: Any, size: int, n: int, array: int, found: int) -> None:
    numbers, odd = _run(zero, size, n, job, array), 0
    for i in range(len(numbers)):
        odd |= numbers[i] - numbers[i] != zero  # which is NaN of what is not finite
    if odd:
        poke(found, 1)


@jobs
def _squares(job: int, base: int, zero: Any, size: int, n: int, array: int, parts: int) -> None:
    numbers, total = _run(zero, size, n, job, array), 0.0
    for i in range(len(numbers)):
        total += np.float64(numbers[i]) * np.float64(numbers[i])
    carray(pointer(0.0, parts + 8 * job), (1,))[0] = total


@jobs
def _sgd(job: int, base: int, zero: Any, size: int, n: int, arrays: tuple[int, ...], numbers: tuple[Any, ...]) -> None:
    learning_rate, momentum, weight_decay, nesterov = numbers
    grad, param = _run(zero, size, n, job, arrays[0]), _run(zero, size, n, job, arrays[1])
    velocity = _run(zero, size, n, job, arrays[2])
    for i in range(len(param)):
        decayed = grad[i] + weight_decay * param[i]
        velocity[i] = momentum * velocity[i] + decayed
        ahead = decayed + momentum * velocity[i]
        param[i] -= learning_rate * (ahead if nesterov != zero else velocity[i])


@jobs
def _adam(job: int, base: int, zero: Any, size: int, n: int, arrays: tuple[int, ...], numbers: tuple[Any, ...]) -> None:
    learning_rate, beta1, rest1, beta2, rest2, correct1, correct2, epsilon, weight_decay = numbers
    grad, param = _run(zero, size, n, job, arrays[0]), _run(zero, size, n, job, arrays[1])
    m, v = _run(zero, size, n, job, arrays[2]), _run(zero, size, n, job, arrays[3])
    for i in range(len(param)):
        m[i] = beta1 * m[i] + rest1 * grad[i]
        v[i] = beta2 * v[i] + rest2 * grad[i] * grad[i]
        step = correct1 * m[i] / (math.sqrt(correct2 * v[i]) + epsilon)
        param[i] -= learning_rate * (step + weight_decay * param[i])


@jobs
def _average(job: int, base: int, zero: Any, size: int, n: int, arrays: tuple[int, ...], numbers: tuple[Any, ...]) -> None:
    param, mean = _run(zero, size, n, job, arrays[0]), _run(zero, size, n, job, arrays[1])
    for i in range(len(mean)):
        mean[i] += numbers[0] * (param[i] - mean[i])
