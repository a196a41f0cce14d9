"""Both passes of a step on a GPU as one launch: a CUDA graph, recorded once for a shape.

A network's hundreds of launches take the CPU longer than a small batch takes the GPU. The passes are pure, so they can be
recorded on buffers that stay where they are, and repeated when these hold the next batch, and the next seed of its dropout.
The update is not recorded: its learning rate changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from .. import kernels
from ..checks import require
from ..network import Network

Array = NDArray[np.floating]
Labels = NDArray[np.integer]
Passes = Callable[..., tuple[Array, Any]]  # of a network, x, labels, weights, rng: the loss and the flat gradient


def graph_of(network: Network, passes: Passes, x: Array, labels: Labels) -> Graph:
    """Return the network's graph for these shapes in the precision in use, made at the first call."""
    graphs = _graphs.setdefault(network, {})
    key = (x.shape, labels.dtype, kernels.precision_in_use())
    if key not in graphs:
        graphs.clear()  # two shapes in turns would be quicker with a graph each, but take the memory of both
        graphs[key] = Graph(network, passes, x, labels)
    return graphs[key]


def forget_graphs(network: Network) -> None:
    """Give back the memory of the network's graphs."""
    _graphs.pop(network, None)


class Graph:
    """The passes of a network for one shape, on buffers of their own."""

    def __init__(self, network: Network, passes: Passes, x: Array, labels: Labels) -> None:
        from ..kernels.gpu import device  # only here is there a GPU for sure

        of = [(x.shape, network.dtype), (labels.shape, labels.dtype), (labels.shape, network.dtype)]
        self._door, self._buffers = device.door(), [device.empty(shape, dtype) for shape, dtype in of]
        self._seeds = [device.empty((1,), np.int64)] if network.dropout else []
        alive = ref(network)  # the graph lives as long as its network, and must not be what keeps it
        self._run = lambda: passes(alive(), *self._buffers, _Seeds(self._seeds))
        self._results: tuple[Array, Array] | None = None
        self._replay: Callable[[], object] = self._record

    def __call__(self, x: Array, labels: Labels, weights: Array, rng: np.random.Generator | None) -> tuple[Array, Array]:
        """Return the loss, and the flat gradient, which the next call overwrites. rng gives the seeds, as without a graph."""
        require(rng is not None or not self._seeds, "rng", None, "a numpy.random.Generator, for the network has dropout")
        seeds = [rng.integers(2**63, size=1) for _ in self._seeds]  # type: ignore[union-attr]
        self._door.upload((x, labels, weights, *seeds), (*self._buffers, *self._seeds))
        self._replay()
        assert self._results is not None
        loss, gradient = self._results
        return loss.copy(), gradient

    def _record(self) -> None:
        """Record the passes, and repeat them from now on; where CUDA refuses that, go on launch by launch."""
        try:
            self._results, self._replay = self._door.capture(self._run)
        except Exception as error:
            self._replay = self._launch
            _log.warning("no CUDA graph, each kernel is launched by itself: %s: %s", type(error).__name__, error)
        self._replay()

    def _launch(self) -> None:
        self._results = self._run()


class _Seeds:
    """What the passes have for a generator while they are recorded: of each seed the place on the device, handed out once."""

    def __init__(self, seeds: list[Any]) -> None:
        self._left = list(seeds)

    def integers(self, high: int) -> Any:
        return self._left.pop()


_graphs: WeakKeyDictionary[Network, dict[tuple[Any, ...], Graph]] = WeakKeyDictionary()
_log = logging.getLogger("minunet.gpu")
