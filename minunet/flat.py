"""All parameters of a network as one array: one fused update, one sum over processes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .checks import Array, array, require
from .kernels import to_host
from .kernels.geometry import address
from .layers import Layer, places

ALIGNMENT = 64  # bytes: one cache line, one AVX-512 vector


class ParameterViews(Mapping[str, Array]):
    """One flat array, and views of it by name at 64-byte steps. Write into a view; a name cannot be bound anew.

    What is in them is what `empty(shape, dtype)` gave; the gaps between them are 0.
    """

    owners: Mapping[str, tuple[Layer, str]] = {}  # which layer reads each, and by which name

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike, empty: Callable[..., Array] = np.empty) -> None:
        step = ALIGNMENT // np.dtype(dtype).itemsize
        sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        starts = [0, *itertools.accumulate(-(-size // step) * step for size in sizes.values())]
        self._places = {name: (start, shapes[name]) for name, start in zip(shapes, starts, strict=False)}
        self.flat = _aligned(starts[-1], dtype, empty)
        self._views = self.split(self.flat)
        for name, start, end in zip(shapes, starts[:-1], starts[1:], strict=True):
            self.flat[start + sizes[name] : end] = 0  # the gap

    def split(self, flat: Array) -> dict[str, Array]:
        """Return views by name of another array of this one's layout, as an optimizer's moments are."""
        return {name: flat[start : start + math.prod(shape)].reshape(shape) for name, (start, shape) in self._places.items()}

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies, too, are views of one array, their own, on the CPU. No layer reads them."""
        return _copied, ({name: view.shape for name, view in self.items()}, to_host(self.flat))

    def __setitem__(self, name: str, value: Array) -> None:
        raise TypeError(f"parameters are views of one array; write into them: parameters[{name!r}][...] = value")


class Weights(NamedTuple):
    """A network's weights and its state, of the layouts of network.flat and network.state.flat."""

    flat: Array
    state: Array


def _copied(shapes: Mapping[str, tuple[int, ...]], flat: Array) -> ParameterViews:
    views = ParameterViews(shapes, flat.dtype)
    views.flat[...] = flat
    return views


def gathered(layer: Layer, dtype: DTypeLike, backend: Any, of: str = "parameters") -> ParameterViews:
    """Move all parameters of a tree of layers, or all arrays of their state, into one flat array of a backend's."""
    found = places(layer, of)
    owners = {(id(leaf), key): name for name, (leaf, key) in found.items()}
    twice = next((name for name, (leaf, key) in found.items() if owners[id(leaf), key] != name), None)
    require(twice is None, f"the layer of {twice}", "another's, too", "a place of its own in the network")
    views = ParameterViews({name: getattr(leaf, of)[key].shape for name, (leaf, key) in found.items()}, dtype, backend.empty)
    views.owners = found
    for name, (leaf, key) in found.items():
        arrays = getattr(leaf, of)
        views[name][...] = backend.asarray(arrays[key])
        arrays[key] = views[name]
        kept = getattr(leaf, of)[key] is views[name]
        require(kept, name, "gone when it is bound", f"a dict self.{of} that {type(leaf).__name__} keeps and reads")
    return views


def filled(like: ParameterViews, found: Mapping[str, Array], empty: Callable[..., Array]) -> ParameterViews:
    """Return gradients by name as views of one fresh flat array. At the end: only then is there memory that nothing needs."""
    views = ParameterViews({name: p.shape for name, p in like.items()}, like.flat.dtype, empty)
    require(isinstance(found, Mapping), "the gradients", f"of type {type(found).__name__}", "arrays by the names of parameters")
    given = {name: getattr(grad, "shape", None) for name, grad in found.items()}
    for name in sorted(views.keys() | given.keys(), key=str):
        takes = f"{views[name].shape}, the parameter's" if name in views else "parameters that the network has"
        fits = name in views and given.get(name) == views[name].shape
        require(fits, f"the shape of the gradient of {name}", given.get(name), takes)
        dtype = array(f"the gradient of {name}", found[name]).dtype
        require(dtype.kind == "f", f"the gradient of {name}", f"of dtype {dtype}", f"real numbers: {views.flat.dtype}")
    for name, grad in found.items():
        views[name][...] = grad
    return views


def require_bound(views: ParameterViews) -> None:
    """Refuse to go on where a layer has other parameters by now than these views: what an update moves would not be its own."""
    for name, (leaf, key) in views.owners.items():
        own = leaf.parameters.get(key) is views[name]
        require(own, name, "an array in the place of the network's", f"new values in it: parameters[{name!r}][...] = ...")


def _aligned(size: int, dtype: DTypeLike, empty: Callable[..., Array]) -> Array:
    """Return an uninitialised array whose first element lies at a multiple of ALIGNMENT bytes."""
    itemsize = np.dtype(dtype).itemsize
    raw = empty((size * itemsize + ALIGNMENT,), np.uint8)
    start = -address(raw) % ALIGNMENT
    return raw[start : start + size * itemsize].view(dtype)
