"""What the door to CuPy says where something is wrong. CuPy is a stand-in here: only its answers matter."""

from __future__ import annotations

import importlib
import os
import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from minunet.kernels.gpu import device


class CUDARuntimeError(RuntimeError):
    def __init__(self, status):
        super().__init__(f"cuda error {status}")
        self.status = status


@pytest.fixture
def cupy(monkeypatch):
    """A module with as much of CuPy as the door asks before anything runs: one device, a driver for CUDA 13."""
    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: 1, driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 13020,
    )
    fake = ModuleType("cupy")
    fake.ndarray = type("ndarray", (), {})
    fake.cuda = SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(id=0))
    fake.empty = lambda shape, dtype: ("allocated", shape, dtype)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.delitem(sys.modules, "minunet.kernels.gpu.cuda", raising=False)
    yield fake
    sys.modules.pop("minunet.kernels.gpu.cuda", None)


def cuda():
    return importlib.import_module("minunet.kernels.gpu.cuda")


def fails(status):
    def count():
        raise CUDARuntimeError(status)

    return count


def test_all_is_well(cupy):
    assert cuda().Cuda().trouble() is None


def test_no_device(cupy):
    for count in (lambda: 0, fails(100)):
        cupy.cuda.runtime.getDeviceCount = count
        assert "no NVIDIA GPU with its driver is visible: nvidia-smi" in cuda().Cuda().trouble()


def test_no_driver(cupy):
    cupy.cuda.runtime.getDeviceCount, cupy.cuda.runtime.driverGetVersion = fails(35), lambda: 0
    assert "no NVIDIA GPU with its driver is visible" in cuda().Cuda().trouble()


def test_a_driver_that_is_too_old(cupy):
    cupy.cuda.runtime.getDeviceCount, cupy.cuda.runtime.driverGetVersion = fails(35), lambda: 12060
    says = r"the driver serves CUDA 12\.6 at most, and this CuPy takes 13\.2: update the driver, or .* 'minunet\[cuda12\]'"
    assert re.search(says, cuda().Cuda().trouble())


def test_a_fork_after_cuda_started(cupy, monkeypatch):
    door = cuda().Cuda()
    assert door.empty((2,), np.float32)[0] == "allocated"
    monkeypatch.setattr(os, "getpid", lambda: -1)
    for use in (lambda: door.empty((2,), np.float32), lambda: door.asarray([1]), lambda: door.launch(None, 1, 1, (), 0)):
        with pytest.raises(RuntimeError, match=r"forked from one that used the GPU.*get_context\('spawn'\)"):
            use()


def test_arrays_of_other_places_are_no_arguments(cupy):
    argument = cuda()._argument
    with pytest.raises(ValueError, match=r"an array lies on the CPU, others on gpu:0"):
        argument(np.zeros(1), 0)
    there = cupy.ndarray()
    there.device, there.data = SimpleNamespace(id=1), SimpleNamespace(ptr=512)
    with pytest.raises(ValueError, match=r"an array lies on gpu:1, and the current device is gpu:0: `with cupy"):
        argument(there, 0)
    assert argument(there, 1) == 512 and argument(there, 1).itemsize == 8
    assert argument(None, 0) == 0 and argument(7, 0).dtype == np.int64 and argument(0.5, 0).dtype == np.float64


def test_cupy_is_given_the_flags_that_the_compile_gate_uses(cupy):
    given = []
    cupy.RawModule = lambda **module: given.append(module) or SimpleNamespace(get_function=str.upper)
    kernel = device.Kernel("pointwise.cu", "relu", "double")
    assert cuda()._compiled(kernel, device=0, shared=0) == "RELU"
    assert given == [{"code": kernel.source, "options": kernel.flags}]


def test_without_cupy(monkeypatch):
    device.trouble.cache_clear()
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    assert device.trouble() == "CuPy is not installed: " + device._INSTALL
    with pytest.raises(RuntimeError, match=r"pip install 'minunet\[cuda13\]'"):
        device.door()
    device.trouble.cache_clear()
