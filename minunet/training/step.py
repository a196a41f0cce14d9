"""The one training step, which fit and the benchmarks both call."""

from __future__ import annotations

from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import devices, kernels, losses
from ..kernels.buffers import Pool, pooled
from ..kernels.gpu import graph
from ..network import Network
from ..optim import Optimizer

Array = NDArray[np.floating]

_pools: WeakKeyDictionary[Network, Pool] = WeakKeyDictionary()  # what one step used, the next one finds


def step(
    network: Network, optimizer: Optimizer, x: NDArray[np.floating], labels: NDArray[np.integer], *,
    weights: ArrayLike | None = None, class_weight: ArrayLike | None = None, ignore_index: int | None = None,
    rng: np.random.Generator | None = None,
) -> NDArray[np.floating]:  # fmt: skip
    """Run x forward, the loss backward, and update the network. Return the loss (0-d) before the update.

    x (N, H, W, C), labels (N, P, Q), NumPy arrays also where the network lies on a GPU; the weights are those of
    `losses.softmax_cross_entropy`; rng is for dropout.
    Where the loss is not finite, the network is left as it was: the caller decides what to do.
    The network's next step uses this one's memory again; it is given back with the network, or at the end of `fit`.
    On a GPU the step is under way when this returns: `float(loss)` waits for it.
    """
    place = kernels.place(network.flat)
    with pooled(_pools.setdefault(network, Pool())), devices.using(place):
        labels, pixel_weights = losses.labels_and_weights(
            labels, network.logits_shape(x), network.dtype, class_weight=class_weight, weights=weights, ignore_index=ignore_index
        )
        if place == "cpu":
            loss, gradient = passes(network, kernels.for_array(network.flat).asarray(x), labels, pixel_weights, rng)
        else:
            alive = ref(network)  # the graph lives as long as its network, and must not be what keeps it
            arrays = x, labels, pixel_weights
            run = graph.recorded(network, None, lambda *of: passes(alive(), *of), *arrays)  # type: ignore[arg-type]
            loss, gradient = run(*arrays, rng)
        if gradient is not None:
            optimizer.update(network.flat, gradient, loss=loss)
    return loss


def passes(
    network: Network, x: Array, labels: NDArray[np.integer], weights: Array, rng: np.random.Generator | None = None
) -> tuple[Array, Array | None]:
    """Return the loss and the flat gradient; None where the loss is seen to be no number. (On a GPU the update looks.)"""
    loss, gradients = network.loss_and_gradients(x, labels, weights, rng=rng)
    return loss, None if gradients is None else gradients.flat
