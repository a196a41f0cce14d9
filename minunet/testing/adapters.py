"""Functions of other libraries as (forward, backward), for check_gradients. The libraries are imported when called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .contract import Backward, Forward


def from_torch(function: Any, *, parameters: bool = False) -> tuple[Forward, Backward]:
    """Return (forward, backward) of a function of PyTorch tensors, a torch.autograd.Function, or a torch.nn.Module.

    The gradients are those that torch.autograd finds, so a Function's own `backward` is what is checked. Where it finds
    none, the gradient is 0, which differences then confirm or refute. With `parameters=True` a Module takes its
    parameters, in the order of module.named_parameters(), as arrays after its inputs: they are checked too.

        forward, backward = from_torch(MyFunction)
        check_gradients(forward, backward, x)                # x: a float64 NumPy array
    """
    import torch

    if inspect.isclass(function) and issubclass(function, torch.autograd.Function):
        run: Callable[..., Any] = getattr(function, "apply")  # noqa: B009  # unseen by mypy where torch is absent
    elif isinstance(function, torch.nn.Module):
        run = _module(function, parameters)
    elif callable(function) and not inspect.isclass(function):
        run = function
    else:
        raise ValueError(f"function is {function!r}; it takes a function, a torch.autograd.Function or a torch.nn.Module")
    if parameters and not isinstance(function, torch.nn.Module):
        raise ValueError("parameters=True takes a torch.nn.Module; a function's arrays are all its arguments")

    def forward(*arrays: np.ndarray) -> tuple[Any, Any]:
        tensors = [torch.from_numpy(np.array(a)).requires_grad_() for a in arrays]
        y = run(*tensors)
        return (y.detach().numpy().copy() if isinstance(y, torch.Tensor) else y), (y, tensors)

    def backward(dy: np.ndarray, cache: Any) -> tuple[np.ndarray, ...]:
        y, tensors = cache
        if not y.requires_grad:
            return tuple(np.zeros(tuple(t.shape), t.detach().numpy().dtype) for t in tensors)
        upstream = torch.from_numpy(np.array(dy))
        grads = torch.autograd.grad(y, tensors, upstream, allow_unused=True, materialize_grads=True)
        return tuple(g.detach().numpy().copy() for g in grads)

    return _named(forward, run), backward


def from_jax(function: Callable[..., Any]) -> tuple[Forward, Backward]:
    """Return (forward, backward) of a function of JAX arrays; the gradients are those of jax.vjp.

    A function with a jax.custom_vjp is checked by its own rule. JAX computes in float32 unless it is told otherwise, and
    that is refused for float64 arrays: jax.config.update("jax_enable_x64", True).
    """
    import jax

    def forward(*arrays: np.ndarray) -> tuple[np.ndarray, Any]:
        if any(a.dtype == np.float64 for a in arrays) and not jax.config.jax_enable_x64:
            raise ValueError(
                'the arrays are float64, and JAX would make them float32; call jax.config.update("jax_enable_x64", True) first, '
                "or give float32 arrays"
            )
        y, pull = jax.vjp(function, *(jax.numpy.asarray(a) for a in arrays))
        return np.array(y), pull

    def backward(dy: np.ndarray, pull: Any) -> tuple[np.ndarray, ...]:
        return tuple(np.array(g) for g in pull(jax.numpy.asarray(dy)))

    return _named(forward, function), backward


def _module(module: Any, parameters: bool) -> Callable[..., Any]:
    """Return a function of a module's inputs (and parameters), computed in the dtype of the first of them."""
    import torch

    own = dict(module.named_parameters())

    def run(*tensors: Any) -> Any:
        count = len(tensors) - len(own) if parameters else len(tensors)
        if count < 1:
            raise ValueError(f"got {len(tensors)} arrays; this module takes its inputs, then its parameters {', '.join(own)}")
        same = {name: p.to(tensors[0].dtype) for name, p in own.items()}
        given = dict(zip(own, tensors[count:], strict=True)) if parameters else same
        return torch.func.functional_call(module, given, tensors[:count])

    return run


def _named(forward: Forward, function: Callable[..., Any]) -> Forward:
    """Give forward the parameter names of the function it calls, so that reports speak of them."""
    try:
        forward.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    except (TypeError, ValueError):  # a Function's apply has none
        pass
    return forward
