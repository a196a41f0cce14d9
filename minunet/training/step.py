"""The one training step, which fit and the benchmarks both call: it joins a network, a loss and an optimiser."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import devices, kernels, losses
from ..checks import NotFiniteError, array, is_number, require, shown
from ..kernels import updates
from ..kernels.buffers import Pool, pooled
from ..layers import named
from ..losses import Loss, Target
from ..network import Network
from ..optim import Optimizer
from ..supervision import judged
from ..tape import Tape, listening
from .levels import Levels

Array = NDArray[np.floating]

_pools: WeakKeyDictionary[Network, Pool] = WeakKeyDictionary()  # what one step used, the next one finds


@kernels.contained
def step(
    network: Network, optimizer: Optimizer, x: NDArray[np.floating], labels: NDArray[np.integer], *,
    loss: str | Loss = "cross_entropy", weights: ArrayLike | None = None, class_weight: ArrayLike | None = None,
    ignore_index: int | None = None, rng: np.random.Generator | None = None, clip_norm: float | None = None,
) -> NDArray[np.floating]:  # fmt: skip
    """Run x forward, the loss backward, and update the network. Return the loss (0-d) before the update.

    x (N, H, W, C), labels (N, P, Q), NumPy arrays also where the network lies on a GPU; the weights are those of
    `losses.target`; rng is for dropout. A gradient whose L2 norm is above clip_norm is scaled down to it (Pascanu et al. 2013,
    algorithm 1).
    Where the loss is not finite, the network is left as it was: the caller decides what to do. FloatingPointError where the
    gradient is not, which leaves it, too, or what an update made of the weights. A GPU is not asked for either: it would wait.
    The network's next step uses this one's memory again; it is given back with the network, or at the end of `fit`.
    On a GPU the step is under way when this returns: `float(loss)` waits for it.
    """
    loss, place = losses.resolve(loss), kernels.place(network.flat)
    limited = clip_norm is None or (is_number(clip_norm) and clip_norm > 0)
    require(limited, "clip_norm", shown(clip_norm), "None or a number above 0")
    with pooled(_pools.setdefault(network, Pool())), devices.using(place):
        x = array("x", x)
        options: Any = {"class_weight": class_weight, "weights": weights, "ignore_index": ignore_index}
        target = losses.target(labels, network.logits_shape(x), network.dtype, **options)
        if place == "cpu":
            value, (gradient, state) = _passes(network, loss, kernels.for_array(network.flat).asarray(x), target, rng)
        else:
            from ..kernels.gpu import graph  # only here is there a GPU for sure

            alive: Any = ref(network)  # the graph lives as long as its network, and must not be what keeps it
            key = id(loss), kernels.algorithm_in_use((3, 3), (1, 1))
            run = graph.recorded(network, key, lambda x, *of: _passes(alive(), loss, x, Target(*of[:2]), of[2]), x, *target)
            value, (gradient, state) = run(x, *target, rng)
        if gradient is not None:
            found = gradient if clip_norm is None else kernels.run(updates.clip_norm, gradient, most=float(clip_norm))
            _require_finite(found, "the gradient is not finite", ": the network was left as it is")
            _require_finite(state, "a batch's mean or variance is not finite", ": the network was left as it is")
            optimizer.update(network.flat, gradient, loss=value)
            _require_finite(network.flat, "the weights are not finite", ": the update was too large, lower the learning_rate")
            if state.size:  # a GPU's loss is not looked at: that would be to wait
                network.state.flat[...] = state if place == "cpu" else np.where(np.isfinite(value), state, network.state.flat)
    return value


def _require_finite(numbers: Array, what: str, more: str) -> None:
    if kernels.place(numbers) == "cpu" and not kernels.run(updates.is_finite, numbers):
        raise NotFiniteError(what, more)


def forget_graphs(network: Network) -> None:
    """Give back the memory of what a GPU has recorded of the network's steps."""
    if kernels.place(network.flat) != "cpu":
        from ..kernels.gpu import graph

        graph.forget(network)


def passes(
    network: Network, loss: Loss, x: Array, target: Target, rng: np.random.Generator | None = None
) -> tuple[Array, Array | None]:
    """Return the loss and the flat gradient of the network: what forward, the loss and backward give one after another.

    Where the loss is seen not to be finite, there is no gradient: on the CPU, for on a GPU to look would be to wait.
    """
    tape, levels = Tape(True, rng), Levels(loss, target)
    with judged(levels.judge):
        features = tape.run(network.u, network.stored(x))
    value, tape.gradient, head = loss.through(network.head, features, target)
    value = levels.mean(value)
    if kernels.place(value) == "cpu" and not np.isfinite(value):
        return value, None
    del features
    inner = tape.back(network.u, input_grad=False)
    gradient = network.gradients(named("head", head) | inner).flat
    if levels.share != 1:
        gradient *= levels.share
    return value, gradient


def _passes(network: Network, *arguments: Any) -> tuple[Array, tuple[Array | None, Array]]:
    """Return these, and the network's new state, flat."""
    with listening() as left:
        value, gradient = passes(network, *arguments)
    return value, (gradient, network.renewed(left).flat)
