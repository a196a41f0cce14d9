"""What forward passes leave for backward: the caches of layers in a row, a stack that is used up from its top."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from . import kernels
from .checks import Array, require

if TYPE_CHECKING:
    from .layers import Layer

Grads = dict[str, Array]


class Tape(list[Any]):
    """The caches of layers in a row, as they ran. backward pops them, so that each array dies after its last use: it serves once.

    x = tape.run(layer, x)              forward: y, and its cache is kept
    grads = tape.back(layer)            backward: tape.gradient, that of the layer's output, becomes that of its input
    """

    def __new__(cls, *_: Any, **__: Any) -> Tape:
        return super().__new__(tapes.get() or cls)

    def __init__(self, training: bool = False, rng: np.random.Generator | None = None, layer: Layer | None = None) -> None:
        super().__init__()
        self.training, self.rng, self.layer = training, rng, layer  # whose forward it is of, which `taped` compares
        self.state: Mapping[str, Array] = {}  # of a network in training: its new one, by name
        self.gradient: Any = None  # nobody else holds it: it dies after its last use, too

    def run(self, layer: Layer, x: Array, *, out: Array | None = None) -> Array:
        """Run a layer forward, and keep its cache; `out` receives y where the layer can write there."""
        passed = [x]
        del x  # the layer alone has it now
        if out is None or not layer.can("out"):
            return self.keep(*two(layer, "forward", layer.forward(passed.pop(), training=self.training, rng=self.rng)))
        made = layer.forward(passed.pop(), training=self.training, rng=self.rng, out=out)  # type: ignore[call-arg]
        return self.keep(*two(layer, "forward", made))

    def keep(self, y: Array, cache: Any) -> Array:
        """Keep what an op's or a layer's backward takes; nothing inside `forgetting`. Return y."""
        if not _forgetting.get():
            self.append(cache)
        return y

    def back(self, layer: Layer, *, input_grad: bool = True) -> Grads:
        """Run a layer backward, and return its parameters' gradients. input_grad=False: dx may be None, if the layer can."""
        if input_grad or not layer.can("input_grad"):
            made = layer.backward(self.taken(), self.pop())
        else:
            made = layer.backward(self.taken(), self.pop(), input_grad=False)  # type: ignore[call-arg]
        self.gradient, grads = two(layer, "backward", made)
        return grads

    def taken(self) -> Array:
        """Return the gradient, and let it go."""
        gradient, self.gradient = self.gradient, None
        return gradient

    def last(self) -> Any:
        """Return the last cache, which stays."""
        if not self:
            raise ValueError("the cache is empty: a backward has used it up, so that its memory could go; run forward again")
        return self[-1]

    def pop(self, *_: Any) -> Any:
        """Return the last cache, and let it go."""
        self.last()
        return super().pop()


def taped(cache: Any, layer: Layer) -> Tape:
    """Return the tape of a layer's forward; ValueError where it is none, or that of another layer's."""
    takes = f"the tape that forward of this {type(layer).__name__} returned beside y"
    require(isinstance(cache, Tape), "cache", f"of type {type(cache).__name__}", takes)
    require(cache.layer is layer or cache.layer is None, "cache", f"that of another {type(cache.layer).__name__}", takes)
    return cache  # type: ignore[no-any-return]


def two(layer: Layer, method: str, made: Any) -> Any:
    """Return the two things that a layer's method returned; ValueError where it did not."""
    fits = isinstance(made, tuple) and len(made) == 2 and (method == "forward" or isinstance(made[1], Mapping))
    takes = "y, cache" if method == "forward" else "dx, grads, which are arrays by name"
    given = ", ".join(type(part).__name__ for part in made) if isinstance(made, tuple) else type(made).__name__
    require(fits, f"what {method} of {type(layer).__name__} returns", f"of type {given}", takes)
    return made


tapes: ContextVar[type[Tape] | None] = ContextVar("tapes", default=None)  # of another kind, wherever a layer makes one
_forgetting: ContextVar[bool] = ContextVar("forgetting", default=False)


def forgetting(all_of_it: bool = True) -> AbstractContextManager[None]:
    """Let tapes keep nothing in the `with` block: inference."""
    return kernels.within(_forgetting, all_of_it)


_left: ContextVar[dict[Layer, dict[str, Array]] | None] = ContextVar("left", default=None)


@contextmanager
def listening() -> Iterator[dict[Layer, dict[str, Array]]]:
    """Give what layers leave in the `with` block: the new state of each, by name."""
    with kernels.within(_left, {}):
        yield _left.get()  # type: ignore[misc]


def leave(layer: Layer, state: dict[str, Array]) -> None:
    """Leave a layer's new state to whoever listens: a forward itself changes nothing."""
    left = _left.get()
    if left is not None:
        left[layer] = state
