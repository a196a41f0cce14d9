"""An object's state, put back as it was: a check may not leave a layer's running statistics changed."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

OUTSIDE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType)


@contextmanager
def kept(thing: Any) -> Iterator[None]:
    """After the block, all arrays, attributes, dicts, lists and generators that a thing holds are what they were, bit for bit.

    Arrays are written back in place: others may have views of them.
    """
    undo = list(_undoing(thing, {}))
    try:
        yield
    finally:
        for put_back in undo:
            put_back()


def _undoing(thing: Any, seen: dict[int, Any]) -> Iterator[Callable[[], None]]:
    """Give what puts a thing back, and all that it holds."""
    if id(thing) in seen or isinstance(thing, OUTSIDE):
        return
    seen[id(thing)] = thing  # kept alive, so that no other gets its id
    inner: list[Any] = [vars(thing)] if hasattr(thing, "__dict__") else []
    if isinstance(thing, np.ndarray):
        yield partial(_write, thing, thing.copy())
    elif isinstance(thing, np.random.Generator):
        yield partial(setattr, thing.bit_generator, "state", thing.bit_generator.state)
    elif isinstance(thing, dict):
        yield partial(_refill, thing, dict(thing))
        inner += thing.values()
    elif isinstance(thing, list):
        yield partial(thing.__setitem__, slice(None), list(thing))
        inner += thing
    elif isinstance(thing, (tuple, set, frozenset)):
        inner += thing
    for part in inner:
        yield from _undoing(part, seen)


def _write(a: np.ndarray, old: np.ndarray) -> None:
    if a.flags.writeable:
        a[...] = old


def _refill(mapping: dict[Any, Any], old: dict[Any, Any]) -> None:
    if [(key, id(value)) for key, value in mapping.items()] != [(key, id(value)) for key, value in old.items()]:
        mapping.clear()
        mapping.update(old)
