"""How long a training step takes on this machine: measured."""

from __future__ import annotations

import time

import numpy as np

from ..network import Network
from ..optim import Adam
from .step import step

MEASURED = 2  # steps, after one that takes memory from the system
PATIENCE = 10.0  # seconds a step: beyond, one patch is timed instead of a batch


def seconds_per_step(network: Network, batch_size: int, patch_size: int) -> float:
    """Return the mean time of training steps on random patches (batch_size, patch_size, patch_size), margins added.

    Where a step takes long, it is that of one patch, times batch_size. The steps are real: they change the network.
    """
    optimizer = Adam()
    _seconds(network, optimizer, 1, patch_size, steps=1)  # loads or compiles the kernels
    one = _seconds(network, optimizer, 1, patch_size, steps=1)
    n = batch_size if one * batch_size <= PATIENCE else 1
    _seconds(network, optimizer, n, patch_size, steps=1)
    return _seconds(network, optimizer, n, patch_size, steps=MEASURED) * batch_size / n


def _seconds(network: Network, optimizer: Adam, n: int, patch_size: int, *, steps: int) -> float:
    """Return the mean time of steps on n patches."""
    rng = np.random.default_rng(0)
    side = patch_size + 2 * network.margin
    x = rng.standard_normal((n, side, side, network.in_channels), np.float32)
    labels = rng.integers(network.out_channels, size=(n, patch_size, patch_size), dtype=np.int32)
    start = time.perf_counter()
    for _ in range(steps):
        step(network, optimizer, x, labels, rng=rng)
    return (time.perf_counter() - start) / steps
