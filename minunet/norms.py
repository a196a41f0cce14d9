"""By what activations are normalised: the moments of an image's groups, of a batch, or of the batches before.

Each function checks what an op was given, and returns what kernels take: x, mean, scale, gamma, beta.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import checks
from .checks import Array, activation, is_number, per_channel, require
from .kernels import reference, run

Normal = tuple[Array, Array, Array, Array, Array]
OF_CHANNELS = "gamma", "beta", "running_mean", "running_var"


class TooFewError(ValueError):
    """A batch has not the numbers of which a variance can be taken."""


def of_groups(x: Array, gamma: Array, beta: Array, groups: int, epsilon: float, out: Array | None) -> Normal:
    """Take the moments of each group of channels of each image."""
    x, gamma, beta = _checked(x, (gamma, beta), epsilon, out)
    mean, variance = run(reference.moments, x, checks.groups(groups, x.shape[3]))
    return x, mean, _scale(variance, epsilon), gamma, beta


def of_batch(
    x: Array, gamma: Array, beta: Array, statistics: tuple[Array, Array], training: bool, momentum: float, epsilon: float,
    out: Array | None,
) -> tuple[Normal, tuple[Array, Array]]:  # fmt: skip
    """Take those of each channel, in training of the batch, else the running ones; return the new running ones, too."""
    x, gamma, beta, *running = _checked(x, (gamma, beta, *statistics), epsilon, out)
    require(is_number(momentum) and 0 <= momentum <= 1, "momentum", momentum, "a number from 0 to 1")
    if not training:
        mean, variance = (a.reshape(1, 1, -1, 1) for a in running)
        return (x, mean, _scale(variance, epsilon), gamma, beta), (running[0], running[1])
    n = x.shape[0] * x.shape[1] * x.shape[2]
    if n < 2:
        raise TooFewError(
            f"x has shape {x.shape}: {'one number' if n else 'no number'} a channel, which batch norm cannot learn from; "
            'it takes two at least: a larger batch_size (--batch-size) or patch_size (--patch-size), or norm="group" (--norm)'
        )
    mean, variance = run(reference.moments, x, 0)
    found = mean.reshape(-1), variance.reshape(-1) * (n / (n - 1))
    new_mean, new_variance = (old + momentum * (now - old) for old, now in zip(running, found, strict=True))
    return (x, mean, _scale(variance, epsilon), gamma, beta), (new_mean, new_variance)


def _checked(x: Array, of_channels: tuple[Array, ...], epsilon: float, out: Array | None) -> list[Array]:
    x = activation("x", x)
    require(is_number(epsilon) and epsilon >= 0, "epsilon", epsilon, "a number from 0 up")
    require(min(x.shape[1:]) > 0, "x", x.shape, "images of one pixel and channel at least: of none there is no mean")
    read = [x, *(per_channel(name, a, x.shape[3], x) for name, a in zip(OF_CHANNELS, of_channels, strict=False))]
    checks.check_out(out, x.shape, tuple(read), names=("x", *OF_CHANNELS))
    return read


def _scale(variance: Any, epsilon: float) -> Array:
    return 1 / np.sqrt(variance + epsilon)  # type: ignore[no-any-return]
