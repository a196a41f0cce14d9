"""The door to a real device, through CuPy."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import cupy
import numpy as np
from numpy.typing import DTypeLike

from .device import Kernel

NO_DEVICE = "no NVIDIA GPU with its driver is visible: nvidia-smi lists them, CUDA_VISIBLE_DEVICES may hide them"
NO_DEVICE_STATUS = 100  # cudaErrorNoDevice
_UPDATE = "update the driver, or pip install 'minunet[cuda12]' in place of cupy-cuda13x"
FREE_SHARED = 48 * 1024  # bytes of shared memory that a kernel may use without asking for more


class Cuda:
    """The current device of CuPy. Its memory comes from CuPy's pool, its launches go to CuPy's current stream.

    What is public here is all that launchers need of a device, and that a door of the tests has too.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()

    def trouble(self) -> str | None:
        """Return why no device can be used, and what would help."""
        try:
            return None if self.count else NO_DEVICE
        except cupy.cuda.runtime.CUDARuntimeError as error:
            driver, needed = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
            if error.status == NO_DEVICE_STATUS or not driver:
                return NO_DEVICE
            if driver < needed // 1000 * 1000:
                return f"the driver serves CUDA {_version(driver)} at most, and this CuPy takes {_version(needed)}: {_UPDATE}"
            return f"CUDA does not work here ({error})"

    @property
    def count(self) -> int:
        """The devices that CUDA_VISIBLE_DEVICES leaves visible."""
        return int(cupy.cuda.runtime.getDeviceCount())

    def on(self, index: int) -> AbstractContextManager:
        """Return a context in which device `index` is CuPy's current one."""
        return cupy.cuda.Device(index)

    def free_bytes(self) -> int:
        """Return what the device and CuPy's pool have free."""
        return int(cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes())

    def give_back(self) -> None:
        """Give the device what CuPy's pool has free: other pools and programs cannot take it from there."""
        cupy.get_default_memory_pool().free_all_blocks()

    @property
    def capability(self) -> int:
        """10 major + minor: 90 is Hopper."""
        return int(cupy.cuda.Device().compute_capability)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """Return a fresh array from CuPy's pool, with anything in it."""
        self._require_no_fork()
        return cupy.empty(shape, dtype)

    def asarray(self, a: Any) -> Any:
        """Return a, copied onto the current device if it is not there."""
        self._require_no_fork()
        return cupy.asarray(a)

    def upload(self, sources: Sequence[Any], targets: Sequence[Any]) -> None:
        """Copy host arrays into device arrays, on their way while the device still works on what it was given before.

        They go through pinned memory and a stream of their own to arrays of that stream, and from there in order.
        """
        stream, current = _copies(cupy.cuda.Device().id), cupy.cuda.get_current_stream()
        with stream:
            staged = [cupy.asarray(source) for source in sources]
        current.wait_event(stream.record())
        for target, source in zip(targets, staged, strict=True):
            target[...] = source
        stream.wait_event(current.record())  # the next upload may write where these lay, but not before they were taken

    def capture(self, run: Callable[[], Any]) -> tuple[Any, Callable[[], object]]:
        """Record the launches of `run`, which must wait for nothing, in a graph; return its result, and what fills that anew.

        Run once before, in the same memory, it has compiled its kernels and taken its memory: a graph can do neither. That
        memory stays the graph's own.
        """
        self.give_back()  # or the graph's pool would lack it
        pool, stream = cupy.cuda.MemoryPool(), cupy.cuda.Stream(non_blocking=True)
        stream.wait_event(cupy.cuda.get_current_stream().record())
        with cupy.cuda.using_allocator(pool.malloc), stream:
            run()
            stream.synchronize()
            stream.begin_capture()
            try:
                result = run()
            finally:
                graph = stream.end_capture()

        def replay(pool: Any = pool) -> None:
            graph.launch(cupy.cuda.get_current_stream())

        return result, replay

    def launch(self, kernel: Kernel, grid: int | tuple[int, int, int], block: int, arguments: Sequence[Any], shared: int) -> None:
        """Run `grid` blocks of `block` threads each, with that many bytes of shared memory.

        The kernel is compiled at its first use on this device and kept on disk by CuPy.
        """
        self._require_no_fork()
        device = cupy.cuda.Device().id
        function = _compiled(kernel, device, shared)
        sizes = (grid, 1, 1) if isinstance(grid, int) else grid
        function(sizes, (block, 1, 1), tuple(_argument(a, device) for a in arguments), shared_mem=shared)

    def _require_no_fork(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(
                "this process was forked from one that used the GPU, and CUDA does not survive that: start workers with "
                "multiprocessing.get_context('spawn'), or use the GPU in the workers only"
            )


@functools.cache
def _copies(device: int) -> Any:
    """Return the stream that uploads take."""
    return cupy.cuda.Stream(non_blocking=True)


@functools.cache
def _compiled(kernel: Kernel, device: int, shared: int) -> Any:
    """Return the function; a module belongs to a device."""
    function = _module(kernel.source, kernel.flags, device).get_function(kernel.name)
    if shared > FREE_SHARED:
        function.max_dynamic_shared_size_bytes = shared
    return function


@functools.cache
def _module(source: str, flags: tuple[str, ...], device: int) -> Any:
    return cupy.RawModule(code=source, options=flags)


def _version(number: int) -> str:
    """12060 is 12.6."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _argument(a: Any, device: int) -> Any:
    if a is None:
        return np.uintp(0)
    if isinstance(a, cupy.ndarray):
        if a.device.id != device:
            where = f"an array lies on gpu:{a.device.id}, and the current device is gpu:{device}"
            raise ValueError(f"{where}: `with cupy.cuda.Device({a.device.id}):`, and all arrays of an op on one device")
        return np.uintp(a.data.ptr)
    if isinstance(a, np.ndarray):
        raise ValueError(f"an array lies on the CPU, others on gpu:{device}: an op takes arrays of one device, cupy.asarray(a)")
    return np.int64(a) if isinstance(a, (int, np.integer)) else np.float64(a)
