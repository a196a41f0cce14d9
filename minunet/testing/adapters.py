"""Functions of JAX and of autograd as (forward, backward), for check_gradients. The libraries are imported when called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .contract import Backward, Forward


def from_jax(function: Callable[..., Any]) -> tuple[Forward, Backward]:
    """Return (forward, backward) of a function of JAX arrays; the gradients are those of jax.vjp.

    Its outputs may be nested (tuples, lists, dicts): those of floating point are checked. A function with a jax.custom_vjp is
    checked by its own rule. JAX computes in float32 unless it is told otherwise, and that is refused for float64 arrays:
    jax.config.update("jax_enable_x64", True).
    """
    import jax

    def forward(*arrays: np.ndarray) -> tuple[Any, Any]:
        if any(a.dtype == np.float64 for a in arrays) and not jax.config.jax_enable_x64:
            raise ValueError(
                'the arrays are float64, and JAX would make them float32; call jax.config.update("jax_enable_x64", True) first, '
                "or give float32 arrays"
            )
        y, pull = jax.vjp(function, *(jax.numpy.asarray(a) for a in arrays))
        leaves, tree = jax.tree.flatten(y)
        return outputs([np.array(leaf) for leaf in leaves], y), (pull, leaves, tree, arrays)

    def backward(dy: Any, cache: Any) -> tuple[np.ndarray | None, ...]:
        pull, leaves, tree, arrays = cache
        upstream = iter(dy if isinstance(dy, tuple) else (dy,))
        floats = [jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating) for leaf in leaves]
        given = [
            jax.numpy.asarray(next(upstream)) if is_float else np.zeros(leaf.shape, jax.dtypes.float0)
            for leaf, is_float in zip(leaves, floats, strict=True)
        ]
        grads = pull(jax.tree.unflatten(tree, given))
        return tuple(np.array(g) if a.dtype.kind == "f" else None for g, a in zip(grads, arrays, strict=True))

    return named(forward, function), backward


def from_autograd(function: Callable[..., Any]) -> tuple[Forward, Backward]:
    """Return (forward, backward) of a function written with autograd.numpy; the gradients are those of autograd.make_vjp.

    It may return a tuple of arrays. A primitive with a rule of your own (autograd.extend.defvjp) is checked by that.
    """
    import autograd
    from autograd.builtins import tuple as traced

    def forward(*arrays: np.ndarray) -> tuple[Any, Any]:
        floats = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]

        def of_floats(moving: Any) -> Any:
            given = list(arrays)
            for i, a in zip(floats, moving, strict=True):
                given[i] = a
            y = function(*given)
            return traced(y) if isinstance(y, (tuple, list)) else y

        pull, y = autograd.make_vjp(of_floats, 0)(tuple(arrays[i] for i in floats))
        return (tuple(np.array(part) for part in y) if isinstance(y, tuple) else y), (pull, floats, arrays)

    def backward(dy: Any, cache: Any) -> tuple[np.ndarray | None, ...]:
        pull, floats, arrays = cache
        grads = dict(zip(floats, pull(dy), strict=True))
        return tuple(np.array(grads[i], a.dtype) if i in grads else None for i, a in enumerate(arrays))

    return named(forward, function), backward


def outputs(leaves: Sequence[np.ndarray], y: Any) -> Any:
    """Return as y what is of floating point among a function's outputs: an array where it returned one, else a tuple."""
    floats = tuple(leaf for leaf in leaves if leaf.dtype.kind == "f")
    return floats if isinstance(y, (tuple, list, dict)) else leaves[0] if leaves else y


def named(forward: Forward, function: Callable[..., Any]) -> Forward:
    """Give forward the parameter names of the function it calls, so that reports speak of them."""
    try:
        forward.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    except (TypeError, ValueError):  # a Function's apply has none
        pass
    return forward
