"""A function of arrays as one launch: a CUDA graph, recorded once for their shapes.

The hundreds of launches of a network's passes take the CPU longer than a small batch takes the GPU. What is pure can be
recorded on buffers that stay where they are, and repeated when these hold the next arrays, and the next seeds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from .. import precision_in_use
from . import device

Run = Callable[..., tuple[Any, Any]]  # of a device's arrays, and a generator that it asks for seeds alone: rng.integers(2**63)


def recorded(owner: Any, key: Hashable, run: Run, *arrays: Any) -> Graph:
    """Return the owner's graph of run(*arrays, rng) for a key, these host arrays' shapes and the precision in use.

    It is made at the first call, and lives as long as its owner, which `run` must not keep alive.
    """
    graphs = _graphs.setdefault(owner, {})
    full = (key, precision_in_use(), *((a.shape, a.dtype) for a in arrays))
    if full not in graphs:
        graphs.clear()  # two shapes in turns would be quicker with a graph each, but take the memory of both
        graphs[full] = Graph(run, arrays)
    return graphs[full]


def forget(owner: Any) -> None:
    """Give back the memory of the owner's graphs."""
    _graphs.pop(owner, None)


class Graph:
    """A function recorded on buffers of its own; where CUDA refuses that, it is run launch by launch."""

    def __init__(self, run: Run, arrays: tuple[Any, ...]) -> None:
        self._run, self._door = run, device.door()
        self._buffers, self._seeds = [device.empty(a.shape, a.dtype) for a in arrays], list[Any]()
        self._door.upload(arrays, self._buffers)  # the first run is not to compute with just anything
        self._replay: Callable[[], object] | None = None
        try:
            self._results, self._replay = self._door.capture(lambda: run(*self._buffers, _Seeds(self._seeds)))
        except Exception as error:
            self._seeds = []
            _log.warning("no CUDA graph, each kernel is launched by itself: %s: %s", type(error).__name__, error)

    def __call__(self, *arguments: Any) -> tuple[Any, Any]:
        """Return what `run` does of the host arrays and the generator that are given: a loss, and what the next call overwrites.

        The generator gives the seeds that `run` would draw; it may be None where there are none.
        """
        *arrays, rng = arguments
        if self._seeds and rng is None:
            raise ValueError("rng is None; it takes a numpy.random.Generator, for the network has dropout")
        seeds = [rng.integers(2**63, size=1) for _ in self._seeds]
        self._door.upload((*arrays, *seeds), (*self._buffers, *self._seeds))
        if self._replay is None:
            return self._run(*self._buffers, rng)
        self._replay()
        loss, rest = self._results
        return loss.copy(), rest


class _Seeds:
    """What a run has for a generator while it is recorded: places on the device, made by the first run, for the next the same."""

    def __init__(self, places: list[Any]) -> None:
        self._places, self._taken = places, 0

    def integers(self, high: int) -> Any:
        if self._taken == len(self._places):
            self._places.append(device.empty((1,), np.int64))
        self._taken += 1
        return self._places[self._taken - 1]


_graphs: WeakKeyDictionary[Any, dict[tuple[Any, ...], Graph]] = WeakKeyDictionary()
_log = logging.getLogger("minunet.gpu")
