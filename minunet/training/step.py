"""The one training step, which fit and the benchmarks both call."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import losses
from ..kernels.buffers import Pool, pooled
from ..network import Network
from ..optim import Optimizer

_pools: WeakKeyDictionary[Network, Pool] = WeakKeyDictionary()  # what one step used, the next one finds


def step(
    network: Network, optimizer: Optimizer, x: NDArray[np.floating], labels: NDArray[np.integer], *,
    weights: ArrayLike | None = None, class_weight: ArrayLike | None = None, ignore_index: int | None = None,
    rng: np.random.Generator | None = None,
) -> NDArray[np.floating]:  # fmt: skip
    """Run x forward, the loss backward, and update the network. Return the loss (0-d) before the update.

    x (N, H, W, C), labels (N, P, Q); the weights are those of `losses.softmax_cross_entropy`; rng is for dropout.
    Where the loss is not finite, the network is left as it was: the caller decides what to do.
    The network's next step uses this one's memory again; it is given back with the network, or at the end of `fit`.
    """
    with pooled(_pools.setdefault(network, Pool())):
        logits, cache = network.forward(x, training=True, rng=rng)
        loss, dlogits = losses.softmax_cross_entropy(
            logits, labels, class_weight=class_weight, weights=weights, ignore_index=ignore_index
        )
        del logits
        if np.isfinite(loss):
            _, grads = network.backward(dlogits, cache, input_grad=False)
            optimizer.update(network.flat, grads.flat)
    return loss
