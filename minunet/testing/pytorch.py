"""Functions and modules of PyTorch as (forward, backward), for check_gradients; a module is left as it was, bit for bit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .adapters import named, outputs
from .contract import Backward, Forward


def from_torch(function: Any, *, parameters: bool = False) -> tuple[Forward, Backward]:
    """Return (forward, backward) of a function of PyTorch tensors, a torch.autograd.Function, or a torch.nn.Module.

    The gradients are those that torch.autograd finds, so a Function's own `backward` is what is checked. Where it finds
    none, the gradient is 0, which differences then confirm or refute. With `parameters=True` a Module takes its
    parameters, in the order of module.named_parameters(), as arrays after its inputs: they are checked too.

        forward, backward = from_torch(MyFunction)
        check_gradients(forward, backward, x)                # x: a float64 NumPy array

    A Module computes in the dtype of the arrays, on copies of its parameters and buffers: after each call these, its
    attributes, its training mode and its gradients are what they were. So is the state of torch's random numbers: each call
    draws the same, and Dropout keeps one mask. Outputs may be nested (tuples, lists, dicts); those of floating point are
    checked. Whole numbers, as Embedding takes, have no gradient. The tensors have the arrays' strides, if none is
    negative; a function that draws random numbers gets dense ones, for the order of these follows the memory.
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
        leaves = [torch.from_numpy(np.array(a, order="C")).requires_grad_(a.dtype.kind == "f") for a in arrays]
        with torch.random.fork_rng(devices=[]), _default_dtype(arrays):
            state = torch.get_rng_state()
            y = run(*(_copied_to_strides(leaf, a) for leaf, a in zip(leaves, arrays, strict=True)))
            dense = all(a.flags.c_contiguous for a in arrays)
            if not dense and not torch.equal(state, torch.get_rng_state()):  # the order of random numbers follows the memory
                torch.set_rng_state(state)
                y = run(*(leaf.clone() for leaf in leaves))
        tensors = list(_tensors(y))
        return outputs([_numbers(t) for t in tensors], y), ([t for t in tensors if t.is_floating_point()], leaves)

    def backward(dy: Any, cache: Any) -> tuple[np.ndarray | None, ...]:
        y, leaves = cache
        upstream = [_with_strides(d).to(t.dtype) for d, t in zip(dy if isinstance(dy, tuple) else (dy,), y, strict=True)]
        reached = [(t, d) for t, d in zip(y, upstream, strict=True) if t.requires_grad]
        floats = [leaf for leaf in leaves if leaf.requires_grad]
        grads: Any = [torch.zeros_like(leaf) for leaf in floats]
        if reached:
            with torch.random.fork_rng(devices=[]):
                ends, given = zip(*reached, strict=True)
                grads = torch.autograd.grad(ends, floats, given, retain_graph=True, allow_unused=True, materialize_grads=True)
        each = iter(grads)
        return tuple(next(each).detach().numpy().copy() if leaf.requires_grad else None for leaf in leaves)

    return named(forward, run), backward


def _module(module: Any, parameters: bool) -> Callable[..., Any]:
    """Return a function of a module's inputs (and parameters), computed in the dtype of the first of them that is of floats."""
    import torch

    own, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    lazy = [name for name, t in (own | buffers).items() if torch.nn.parameter.is_lazy(t)]
    if lazy:
        raise ValueError(f"the module's {', '.join(lazy)} have no shape yet; call it once, on an input, before it is checked")

    def run(*tensors: Any) -> Any:
        count = len(tensors) - len(own) if parameters else len(tensors)
        if count < 1:
            raise ValueError(f"got {len(tensors)} arrays; this module takes its inputs, then its parameters {', '.join(own)}")
        dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float64)
        given = {name: _copied(p, dtype) for name, p in own.items()}
        if parameters:  # dense, as a module keeps them: layouts are tried of what is passed in
            given = {name: t.contiguous() for name, t in zip(own, tensors[count:], strict=True)}
        with _kept(module, dtype):
            state = given | {name: _copied(b, dtype) for name, b in buffers.items()}
            return torch.func.functional_call(module, state, tensors[:count])

    return run


@contextmanager
def _kept(module: Any, dtype: Any) -> Iterator[None]:
    """Within the block, tensors that are plain attributes of modules are copies, of that dtype; then all is put back."""
    import torch

    saved = []
    for part in module.modules():
        mine = vars(part)
        saved.append((part, dict(mine), {name: dict(own) for name, own in mine.items() if isinstance(own, dict)}))
        mine.update({name: _copied(t, dtype) for name, t in mine.items() if isinstance(t, torch.Tensor)})
    try:
        yield
    finally:
        for part, attributes, inner in saved:
            vars(part).clear()
            vars(part).update(attributes)
            for name, own in inner.items():
                attributes[name].clear()
                attributes[name].update(own)


@contextmanager
def _default_dtype(arrays: Any) -> Iterator[None]:
    """Within the block, torch makes new tensors in the arrays' dtype: a module's constants are not of another."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if any(a.dtype == np.float64 for a in arrays) else torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _copied(tensor: Any, dtype: Any) -> Any:
    """Return a copy of a tensor, in that dtype if it holds floats."""
    copy = tensor.detach().clone()
    return copy.to(dtype) if copy.is_floating_point() else copy.to(dtype.to_complex()) if copy.is_complex() else copy


def _copied_to_strides(leaf: Any, a: np.ndarray) -> Any:
    """Return a copy of a leaf, in whose place a function may write, with the array's strides; dense where they overlap."""
    import torch

    strides = _strides(a)
    if a.flags.c_contiguous or 0 in strides:
        return leaf.clone()
    return torch.empty_strided(a.shape, strides, dtype=leaf.dtype).copy_(leaf)


def _with_strides(a: np.ndarray) -> Any:
    """Return a tensor of the array's numbers and strides, those of 0 included, in memory that is as long as a dense one's."""
    import torch

    strides = _strides(a)
    core = np.array(a[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in strides)], order="C")
    extent = 1 + sum((size - 1) * stride for size, stride in zip(core.shape, strides, strict=True))
    room = torch.full((extent + a.size,), 99, dtype=torch.from_numpy(core).dtype)
    room.as_strided(core.shape, strides).copy_(torch.from_numpy(core))
    return room.as_strided(a.shape, strides)


def _strides(a: np.ndarray) -> tuple[int, ...]:
    """Return an array's strides in elements, as torch can have them: none negative; dense ones where elements do not line up."""
    if a.size == 0 or any(stride % a.itemsize for stride in a.strides):
        a = np.empty(a.shape, a.dtype)
    return tuple(abs(stride) // a.itemsize for stride in a.strides)


def _tensors(y: Any) -> Iterator[Any]:
    """Give the tensors of nested outputs."""
    import torch

    if isinstance(y, torch.Tensor):
        yield y
    elif isinstance(y, (tuple, list, dict)):
        for part in y.values() if isinstance(y, dict) else y:
            yield from _tensors(part)


def _numbers(tensor: Any) -> np.ndarray:
    """Return a tensor as an array: those of 16 bits, which checks do not take, in float32."""
    wide = tensor.detach().float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor.detach()
    return wide.numpy().copy()
