"""A door to a device that is none: the kernels' sources run on the processor, in shim.hpp's fibers.

    with emulated(capability=75, seed=3) as door:   kernels.gpu.device.door() is this one, in this block
        ...                                         arrays are NumPy's; with strict=True, what strict.py stands in for CuPy with
        door.launched["relu"]                       how often each kernel ran

Where there is no C++ compiler, the first launch skips the test; what only plans goes on.

What a GPU would not do, or do wrongly in silence, raises: an argument of another type than the kernel's parameter, too many
threads or too much shared memory, a write just outside an array that `empty` gave, and all that shim.hpp finds.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import re
import shutil
import struct
import subprocess
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from ml_dtypes import bfloat16
from numpy.typing import DTypeLike

from minunet.kernels.gpu import device
from minunet.kernels.gpu.device import Kernel

from . import strict
from .cache import cached
from .memory import guarded_empty, margins_intact

SHIM = Path(__file__).with_name("shim.hpp")
FLAGS = ("-O2", "-std=c++17", "-fno-strict-aliasing", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-fPIC")
MOST_SHARED = {75: 64, 80: 163, 86: 99, 89: 99, 90: 227}  # KiB a block: CUDA C++ Programming Guide, "Compute Capabilities"
DTYPES = {"h": bfloat16, "f": np.float32, "d": np.float64, "B": np.uint8, "i": np.int32, "I": np.uint32, "q": np.int64}

# `extern "C" __global__ void __launch_bounds__(256) name(`, and the other order of the three words before the name
_KERNEL = re.compile(
    r'extern\s+"C"\s+__global__\s+(?:void\s+)?(?:__launch_bounds__\s*\(((?:[^()]|\([^()]*\))*)\)\s*)?(?:void\s+)?(\w+)\s*\('
)


class Emulated:
    """A door to one or more devices of that capability, on which threads take turns in an order drawn from the seed."""

    def __init__(
        self, *, capability: int = 90, count: int = 1, free: int = 2**33, seed: int | None = None,
        strict: bool = False,
    ) -> None:  # fmt: skip
        self.capability, self.count, self.free, self.strict = capability, count, free, strict
        self.seed = int(os.environ.get("MINUNET_THREAD_ORDER", 0)) if seed is None else seed
        self.current = self.given_back = 0
        self.launched: Counter[str] = Counter()
        self._launches = 0

    @contextmanager
    def on(self, index: int) -> Iterator[None]:
        """Make device `index` the current one."""
        if not 0 <= index < self.count:
            raise ValueError(f"cudaErrorInvalidDevice: {index} of {self.count}")
        before, self.current = self.current, index
        try:
            yield
        finally:
            self.current = before

    def free_bytes(self) -> int:
        """Return what the test says is free."""
        return self.free

    def give_back(self) -> None:
        """Note that what is kept for later was to be given back."""
        self.given_back += 1

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """Return an array of NaN, with margins that tell after a launch whether something was written there."""
        a = guarded_empty(shape, dtype)
        return strict.DeviceArray(a, self.current) if self.strict else a

    def asarray(self, a: Any) -> Any:
        """Return a, copied onto the current device if it is not there."""
        if not self.strict:
            return np.asarray(a)
        if isinstance(a, strict.DeviceArray):
            return a if a.device.id == self.current else strict.DeviceArray(a.on_host().copy(), self.current)
        strict.refuse_in_capture("a copy from the host's memory")
        copy = self.empty(np.shape(a), np.asarray(a).dtype)
        copy.on_host()[...] = a
        return copy

    def upload(self, sources: Sequence[Any], targets: Sequence[Any]) -> None:
        """Copy host arrays into device arrays."""
        strict.refuse_in_capture("an upload")
        for source, target in zip(sources, targets, strict=True):
            if not isinstance(source, np.ndarray):
                raise TypeError(f"upload takes NumPy arrays, and got {type(source)}")
            if source.shape != target.shape or source.dtype != target.dtype:
                raise ValueError(f"upload of {source.dtype} {source.shape} to {target.dtype} {target.shape}")
            self._memory(target)[...] = source

    def capture(self, run: Callable[[], Any]) -> tuple[Any, Callable[[], object]]:
        """Run once, then only record: what the second run made holds nothing before a replay has filled it."""
        run()
        with strict.recording() as steps:
            result = run()

        def replay() -> None:
            for step in steps:
                step()

        return result, replay

    def launch(self, kernel: Kernel, grid: int | tuple[int, int, int], block: int, arguments: Sequence[Any], shared: int) -> None:
        """Run a kernel, or record it inside a capture."""
        if not compiler():  # whatever earlier runs left compiled: which tests are skipped depends on nothing else
            pytest.skip("the emulated device needs a C++ compiler: g++, or $CXX")
        entry = _library(kernel.source, kernel.defines).kernels.get(kernel.name)
        if entry is None:
            raise ValueError(f'{kernel.file} has no extern "C" __global__ function {kernel.name}')
        sizes = (grid, 1, 1) if isinstance(grid, int) else grid
        self._check_sizes(kernel, entry, sizes, block, shared)
        memory = [self._memory(a) if hasattr(a, "strides") else a for a in arguments]
        words = entry.words(kernel, memory)
        strict.do(lambda: self._run(kernel, entry, sizes, block, memory, words, shared))

    def _run(
        self, kernel: Kernel, entry: _Entry, grid: Sequence[int], block: int, arguments: Sequence[Any], words: bytes, shared: int
    ) -> None:
        self.launched[kernel.name] += 1
        self._launches += 1
        order = (self.seed * 2**32 + self._launches) if self.seed else 0
        message = entry.launch(grid, block, shared, words, self.capability, order)
        if message:
            raise RuntimeError(f"{kernel.file}: {kernel.name}: {message}")
        for i, a in enumerate(arguments):
            if isinstance(a, np.ndarray) and not margins_intact(a):
                written = f"something was written outside argument {i}, {a.dtype} {a.shape}"
                raise RuntimeError(f"{kernel.file}: {kernel.name}: {written}")

    def _check_sizes(self, kernel: Kernel, entry: _Entry, grid: Sequence[int], block: int, shared: int) -> None:
        most_shared = MOST_SHARED[self.capability] * 1024
        for name, value, most in (
            ("grid x", grid[0], 2**31 - 1), ("grid y", grid[1], 65535), ("grid z", grid[2], 65535),
            ("block", block, entry.most_threads), ("shared memory", shared, most_shared),
        ):  # fmt: skip
            least = 0 if name == "shared memory" else 1
            if not least <= value <= most:
                raise ValueError(f"{kernel.name}: {name} is {value}; it takes {least} to {most}")

    def _memory(self, a: Any) -> Any:
        """Return the NumPy array behind an array of this door's."""
        if self.strict and isinstance(a, strict.DeviceArray):
            if a.device.id != self.current:
                where = f"an array lies on gpu:{a.device.id}, and the current device is gpu:{self.current}"
                raise ValueError(f"{where}: `with cupy.cuda.Device({a.device.id}):`, and all arrays of an op on one device")
            return a.on_host()
        if isinstance(a, np.generic):
            return a
        if self.strict or not isinstance(a, np.ndarray):
            where = f"an array lies on the CPU, others on gpu:{self.current}"
            raise ValueError(f"{where}: an op takes arrays of one device, cupy.asarray(a)")
        return a


class Counted:
    """In place of a door's `empty`: counts how many bytes of what it gave are alive, and were at most."""

    def __init__(self, door: Emulated) -> None:
        self.alive = self.most = 0
        self._empty = door.empty

    def __call__(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        a = self._empty(shape, dtype)
        self.alive += a.nbytes
        self.most = max(self.most, self.alive)
        memory = a.on_host() if isinstance(a, strict.DeviceArray) else a  # which views keep alive
        while isinstance(memory.base, np.ndarray):
            memory = memory.base
        weakref.finalize(memory, self._gone, a.nbytes)
        return a

    def _gone(self, size: int) -> None:
        self.alive -= size


@contextmanager
def emulated(**options: Any) -> Iterator[Emulated]:
    """Put an emulated door into the place of CuPy's; the options are those of Emulated."""
    door = Emulated(**options)
    with mock.patch.object(device, "door", lambda: door), mock.patch.object(device, "trouble", lambda: None):
        yield door


def compiler() -> str | None:
    """Return the C++ compiler: $CXX, or g++."""
    return shutil.which(os.environ.get("CXX") or "g++")


class _Row(ctypes.Structure):
    """shim.hpp's Row."""

    _fields_ = [
        ("name", ctypes.c_char_p), ("parameters", ctypes.c_char_p), ("run", ctypes.c_void_p), ("most_threads", ctypes.c_int),
    ]  # fmt: skip


class _Entry:
    """One kernel of a compiled file."""

    def __init__(self, library: ctypes.PyDLL, row: _Row) -> None:
        self._launch, self._run, self.most_threads = library.minunet_launch, row.run, row.most_threads
        letters = (row.parameters or b"").decode()
        self.parameters = list(zip(letters[::2], letters[1::2], strict=True))

    def launch(self, grid: Sequence[int], block: int, shared: int, words: bytes, capability: int, order: int) -> str | None:
        message = self._launch(
            ctypes.c_void_p(self._run), (ctypes.c_uint * 3)(*grid), ctypes.c_uint(block), ctypes.c_uint64(shared), words,
            ctypes.c_int(capability), ctypes.c_uint64(order % 2**64),
        )  # fmt: skip
        return message.decode() if message else None

    def words(self, kernel: Kernel, arguments: Sequence[Any]) -> bytes:
        """Return the arguments as 8 bytes each; TypeError where one is not what the kernel's parameter is."""
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{kernel.name} takes {len(self.parameters)} arguments, and got {len(arguments)}")
        pairs = zip(arguments, self.parameters, strict=True)
        return b"".join(_word(f"{kernel.name}: argument {i}", a, *parameter) for i, (a, parameter) in enumerate(pairs))


def _word(which: str, a: Any, how: str, what: str) -> bytes:
    if a is None or isinstance(a, np.ndarray):
        if how == " ":
            raise TypeError(f"{which} is a number, and got {'None' if a is None else 'an array'}")
        if a is None:
            return struct.pack("Q", 0)
        if what in DTYPES and a.dtype != DTYPES[what]:
            raise TypeError(f"{which} points at {np.dtype(DTYPES[what])}, and got {a.dtype}")
        if how == "w" and not a.flags.writeable:
            raise TypeError(f"{which} is written, and got a read-only array")
        return struct.pack("Q", a.__array_interface__["data"][0])
    kind = "q" if isinstance(a, (int, np.integer)) else "d"
    if (how, what) != (" ", kind):
        raise TypeError(f"{which} is {'a pointer' if how != ' ' else DTYPES[what].__name__}, and got {a!r}")
    return struct.pack(kind, a)


class _Library:
    """A compiled file: its kernels by name. PyDLL keeps Python's lock: the shim has one set of fibers."""

    def __init__(self, path: Path) -> None:
        library = ctypes.PyDLL(str(path))
        library.minunet_launch.restype = ctypes.c_char_p
        rows = (_Row * ctypes.c_int.in_dll(library, "minunet_n_kernels").value).in_dll(library, "minunet_kernels")
        self.kernels = {row.name.decode(): _Entry(library, row) for row in rows}


@functools.cache
def _library(source: str, defines: tuple[str, ...]) -> _Library:
    """Return the compiled source: from an earlier process, if its text, the shim's and the flags are the same."""
    text = _text(source)
    key = (platform.machine(), str(compiler()), *FLAGS, *defines, text)
    return _Library(cached(key, lambda path: _compile(text, defines, path)))


def _text(source: str) -> str:
    """Return the source behind the shim, with lines counted as in its files."""
    common = (device.HERE / "common.cuh").read_text()
    rest = source.removeprefix(common)
    parts = [("shim.hpp", SHIM.read_text())] + ([("common.cuh", common)] if rest != source else []) + [("the source", rest)]
    return "".join(f'#line 1 "{name}"\n{part}\n' for name, part in parts)


def _compile(text: str, defines: tuple[str, ...], target: Path) -> None:
    """Expand the macros, some of which may make kernels; then compile, with a table of the kernels that are found."""
    expanded = _gcc(["-E", *FLAGS, *defines], text)
    rows = [
        f'{{"{name}", Entry<::{name}>::parameters, Entry<::{name}>::run, most_threads({bounds})}},'
        for bounds, name in _KERNEL.findall(expanded)
    ]
    table = (
        'using namespace shim;\nextern "C" __attribute__((visibility("default"))) const Row minunet_kernels[] = {'
        + "\n".join(rows)
        + f'}};\nextern "C" __attribute__((visibility("default"))) const int minunet_n_kernels = {len(rows)};\n'
    )
    _gcc([*FLAGS, "-shared", "-D__global__=", "-D__launch_bounds__(...)=", "-o", str(target)], expanded + table)


def _gcc(options: list[str], text: str) -> str:
    command = [str(compiler()), "-x", "c++", *options, "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout
