"""DeviceArray: what CuPy's array allows, and no more, with its memory on the host.

It proves of the code around the kernels that it never mixes a device's memory with the host's, since NumPy arrays would forgive
that. Like CuPy's, an operation on it is a launch: inside `recording` it is written down, not done. And whatever would make the
CPU wait for a GPU (float(), bool(), get(), ...) is counted in DeviceArray.waits.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike, NDArray

from .memory import POISON

Step = Callable[[], object]

# NumPy's functions that CuPy has too; those that this project has a use for, and their like.
FUNCTIONS = {
    "all", "allclose", "any", "argmax", "argmin", "array_equal", "broadcast_to", "can_cast", "clip", "concatenate", "copyto",
    "count_nonzero", "cumsum", "dot", "einsum", "empty_like", "expand_dims", "flip", "full_like", "isclose", "matmul", "max",
    "mean", "min", "moveaxis", "nan_to_num", "ndim", "ones_like", "pad", "prod", "ravel", "repeat", "reshape", "result_type",
    "roll", "rot90", "round", "shape", "size", "split", "squeeze", "stack", "std", "sum", "swapaxes", "take", "tensordot",
    "tile", "transpose", "unique", "var", "where", "zeros_like",
}  # fmt: skip
METHODS = {  # those that give a new array or a view
    "all", "any", "argmax", "argmin", "astype", "clip", "copy", "cumsum", "dot", "flatten", "max", "mean", "min", "prod", "ravel",
    "repeat", "reshape", "round", "squeeze", "std", "sum", "swapaxes", "take", "transpose", "var", "view",
}  # fmt: skip

_steps: list[Step] | None = None  # of the capture under way


@contextmanager
def recording() -> Iterator[list[Step]]:
    """Write down what would change memory in this block, in a list, and do none of it."""
    global _steps
    if _steps is not None:
        raise RuntimeError("cudaErrorIllegalState: a capture is under way")
    _steps = []
    try:
        yield _steps
    finally:
        _steps = None


def do(step: Step) -> None:
    """Do something that changes memory, or write it down."""
    if _steps is None:
        step()
    else:
        _steps.append(step)


def refuse_in_capture(what: str) -> None:
    """Raise what CUDA does where something cannot be part of a graph."""
    if _steps is not None:
        raise RuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} is not permitted while a stream is captured")


class DeviceArray(NDArrayOperatorsMixin):
    """An array on device number `device`. `base` is the array whose memory it views, or None."""

    waits = 0  # how often the CPU would have waited

    def __init__(self, memory: NDArray, device: int, base: DeviceArray | None = None) -> None:
        self._memory, self._device, self.base = memory, device, base

    # ---- what is known without a look at the device

    shape = property(lambda self: self._memory.shape)
    dtype = property(lambda self: self._memory.dtype)
    strides = property(lambda self: self._memory.strides)
    size = property(lambda self: self._memory.size)
    ndim = property(lambda self: self._memory.ndim)
    nbytes = property(lambda self: self._memory.nbytes)
    itemsize = property(lambda self: self._memory.itemsize)
    T = property(lambda self: self.transpose())
    device = property(lambda self: SimpleNamespace(id=self._device))

    @property
    def flags(self) -> SimpleNamespace:
        """CuPy's flags: it has neither `aligned` nor `writeable`."""
        of = self._memory.flags
        return SimpleNamespace(c_contiguous=of.c_contiguous, f_contiguous=of.f_contiguous, owndata=self.base is None)

    @property
    def data(self) -> SimpleNamespace:
        return SimpleNamespace(ptr=self._memory.__array_interface__["data"][0], device_id=self._device)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        of = self._memory.__array_interface__
        return {"version": 3, "shape": of["shape"], "typestr": of["typestr"], "data": of["data"], "strides": of["strides"]}

    def __len__(self) -> int:
        return len(self._memory)

    def __repr__(self) -> str:
        return f"DeviceArray({self.dtype}, {self.shape}, on gpu:{self._device})"

    def on_host(self) -> NDArray:
        """Return the memory itself: for the door and for tests. CuPy has nothing like it."""
        return self._memory

    # ---- what waits

    def __array__(self, *args: Any, **kwargs: Any) -> NDArray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
        )

    def get(self, *, out: NDArray | None = None) -> NDArray:
        """Return a copy on the host."""
        self._wait()
        if out is None:
            return self._memory.copy()
        out[...] = self._memory
        return out

    def item(self) -> Any:
        self._wait()
        return self._memory.item()

    def tolist(self) -> Any:
        self._wait()
        return self._memory.tolist()

    def __bool__(self) -> bool:
        return bool(self._scalar())

    def __float__(self) -> float:
        return float(self._scalar())

    def __int__(self) -> int:
        return int(self._scalar())

    def __reduce__(self) -> tuple[Any, ...]:
        return DeviceArray, (self.get(), self._device)

    def _scalar(self) -> Any:
        self._wait()
        return self._memory.item()  # ValueError where there are more

    def _wait(self) -> None:
        refuse_in_capture("to wait for the device")
        DeviceArray.waits += 1

    # ---- what launches

    def __getattr__(self, name: str) -> Any:
        if name not in METHODS:
            raise AttributeError(f"DeviceArray has no attribute {name!r}")
        return lambda *args, **kwargs: _call(getattr(np.ndarray, name), (self, *args), kwargs)

    def fill(self, value: Any) -> None:
        self[...] = value

    def __copy__(self) -> DeviceArray:
        return self.copy()

    def __deepcopy__(self, memo: object) -> DeviceArray:
        return self.copy()

    def __getitem__(self, key: Any) -> DeviceArray:
        keys = key if isinstance(key, tuple) else (key,)
        if any(isinstance(k, DeviceArray) and k.dtype == bool for k in keys):
            self._wait()  # for how many there are
        if not any(isinstance(k, (DeviceArray, list)) or k is Ellipsis for k in keys):
            keys = (*keys, Ellipsis)  # so that a single element is a view too
        return _call(operator.getitem, (self, keys), {})

    def __setitem__(self, key: Any, value: Any) -> None:
        _refuse_host((key, value))
        if isinstance(value, DeviceArray):
            _one_device((self, value))
        place, source = _unwrapped(key), _unwrapped(value)
        do(lambda: operator.setitem(self._memory, place, source))

    def __iter__(self) -> Iterator[DeviceArray]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: tuple[Any, ...] = (), **kwargs: Any) -> Any:
        if method != "__call__":
            raise TypeError(f"CuPy has no {ufunc.__name__}.{method}")
        return _call(ufunc, inputs, kwargs | ({"out": out} if out else {}))

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        if function.__name__ not in FUNCTIONS:
            raise TypeError(f"DeviceArray does not know np.{function.__name__}: see FUNCTIONS")
        return _call(function, args, kwargs)


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call NumPy's function on the memory behind DeviceArrays, and hand out its result as they would be."""
    _refuse_host((args, kwargs))
    found = list(_arrays((args, kwargs)))
    _one_device(found)
    own = [a.on_host() for a in found]
    plain_args, plain_kwargs = _unwrapped(args), _unwrapped(kwargs)

    def compute() -> Any:
        return function(*plain_args, **plain_kwargs)

    out = kwargs.get("out") or (args[0] if function is np.copyto else None)
    if out is not None:
        do(compute)
        return None if function is np.copyto else out[0] if isinstance(out, tuple) else out
    return _wrapped(compute(), compute, found, own)


def _wrapped(result: Any, compute: Callable[[], Any], found: list[DeviceArray], own: list[NDArray]) -> Any:
    if isinstance(result, (list, tuple)) and result and isinstance(result[0], np.ndarray):
        parts = [_wrapped(part, lambda i=i: compute()[i], found, own) for i, part in enumerate(result)]
        return type(result)(parts)
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    memory = np.asarray(result)
    for a, viewed in zip(found, own, strict=True):
        if np.may_share_memory(memory, viewed):
            return DeviceArray(memory, a.device.id, a if a.base is None else a.base)
    if _steps is not None:
        memory = memory.copy()
        memory.reshape(-1).view(np.uint8)[...] = POISON if memory.dtype != bool else 1
        do(lambda: np.copyto(memory, compute()))
    return DeviceArray(memory, found[0].device.id)


def _arrays(tree: Any) -> Iterator[DeviceArray]:
    if isinstance(tree, DeviceArray):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for part in tree:
            yield from _arrays(part)
    elif isinstance(tree, dict):
        yield from _arrays(list(tree.values()))


def _unwrapped(tree: Any) -> Any:
    if isinstance(tree, DeviceArray):
        return tree.on_host()
    if isinstance(tree, (list, tuple)):
        return type(tree)(_unwrapped(part) for part in tree)
    return {key: _unwrapped(part) for key, part in tree.items()} if isinstance(tree, dict) else tree


def _refuse_host(tree: Any) -> None:
    """Raise CuPy's error where a NumPy array comes beside a device's; NumPy's scalars are values, and may."""
    if isinstance(tree, np.ndarray):
        raise TypeError(f"Unsupported type {type(tree)}: an array on the host among those of a device")
    for part in tree if isinstance(tree, (list, tuple)) else tree.values() if isinstance(tree, dict) else ():
        _refuse_host(part)


def _one_device(arrays: Any) -> None:
    if len({a.device.id for a in arrays}) > 1:
        raise ValueError(f"arrays of more than one device: {list(arrays)}")


def device_array(a: Any, dtype: DTypeLike | None = None, device: int = 0) -> DeviceArray:
    """Return a copy of a on a device, as cupy.array does."""
    return DeviceArray(np.array(a, dtype), device)
