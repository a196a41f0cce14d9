"""The stand-in for CuPy's array computes what NumPy does, forgives nothing that CuPy does not, and counts what waits."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from cuda_on_cpu import strict
from cuda_on_cpu.strict import DeviceArray, device_array
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minunet import kernels
from minunet.kernels import geometry

ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=4), elements=st.floats(-8, 8, width=32))
OPERATIONS = {
    "x + x": lambda x: x + x,
    "2 - x": lambda x: 2 - x,
    "x * np.float32(3)": lambda x: x * np.float32(3),
    "x > 0": lambda x: x > 0,
    "np.exp": np.exp,
    "np.isfinite": np.isfinite,
    "np.zeros_like": np.zeros_like,
    "np.where": lambda x: np.where(x > 0, x, 0),
    "np.concatenate": lambda x: np.concatenate([x, x]),
    "np.stack": lambda x: np.stack([x, x]),
    "sum": lambda x: x.sum(),
    "max": lambda x: x.max(axis=-1, keepdims=True),
    "softmax": lambda x: np.exp(x - x.max(axis=-1, keepdims=True)),
    "all": lambda x: (x == x).all(),
    "astype": lambda x: x.astype("float64"),
    "copy": lambda x: x.copy(order="C"),
    "reshape": lambda x: x.reshape(-1),
    "slice": lambda x: x[..., ::2],
    "element": lambda x: x[(0,) * x.ndim],
    "transpose": lambda x: x.T,
    "view": lambda x: x.ravel().view(np.uint8),
    "split": lambda x: np.split(x, [1], axis=-1)[1],
    "masked": lambda x: x[x > 0],
}


@pytest.mark.parametrize("operation", OPERATIONS)
@given(a=ARRAYS)
def test_it_computes_what_numpy_does(operation, a):
    result = OPERATIONS[operation](device_array(a))
    expected = np.asarray(OPERATIONS[operation](a))
    assert isinstance(result, DeviceArray)
    assert (result.shape, result.dtype, result.strides) == (expected.shape, expected.dtype, expected.strides)
    np.testing.assert_array_equal(result.get(), expected)


@pytest.mark.parametrize("operation", OPERATIONS)
@given(a=ARRAYS, other=st.floats(-8, 8, width=32))
def test_inside_a_capture_it_is_computed_by_the_replay(operation, a, other):
    if operation == "masked":
        with strict.recording(), pytest.raises(RuntimeError, match="StreamCaptureUnsupported"):
            OPERATIONS[operation](device_array(a))
        return
    x = device_array(a)
    with strict.recording() as steps:
        result = OPERATIONS[operation](x)
    x[...] = other
    for step in steps:
        step()
    np.testing.assert_array_equal(result.get(), OPERATIONS[operation](np.full_like(a, other)))


@given(ARRAYS)
def test_what_changes_memory_waits_for_the_replay(a):
    x = device_array(a)
    with strict.recording() as steps:
        x += 1
        x[...] = x * 2
        x.fill(x.dtype.type(7)) if a[(0,) * a.ndim] > 0 else np.copyto(x, x)
    np.testing.assert_array_equal(x.get(), a)
    for step in steps:
        step()
    np.testing.assert_array_equal(x.get(), np.full_like(a, 7) if a[(0,) * a.ndim] > 0 else (a + 1) * 2)


HOST = np.ones(3, np.float32)
MIXTURES = {
    "np.asarray": lambda x: np.asarray(x),
    "np.array": lambda x: np.array(x),
    "x + host": lambda x: x + HOST,
    "host + x": lambda x: HOST + x,
    "x += host": lambda x: x.__iadd__(HOST),
    "host += x": lambda x: HOST.copy().__iadd__(x),
    "x[...] = host": lambda x: x.__setitem__(..., HOST),
    "host[...] = x": lambda x: HOST.copy().__setitem__(slice(None), x),
    "x[host]": lambda x: x[np.array([0])],
    "np.where": lambda x: np.where(x > 0, x, HOST),
    "np.concatenate": lambda x: np.concatenate([x, HOST]),
    "np.copyto": lambda x: np.copyto(HOST.copy(), x),
    "x.dot(host)": lambda x: x.dot(HOST),
    "a function that it does not know": lambda x: np.fft.fft(x),
    "a method of a ufunc": lambda x: np.add.reduce(x),
    "np.float32": lambda x: np.frombuffer(x),
}


@pytest.mark.parametrize("mixture", MIXTURES)
def test_host_and_device_never_mix(mixture):
    with pytest.raises((TypeError, ValueError)):
        MIXTURES[mixture](device_array(HOST))


def test_devices_never_mix():
    x, y = device_array(HOST, device=0), device_array(HOST, device=1)
    for mix in (lambda: x + y, lambda: np.concatenate([x, y]), lambda: x.__setitem__(..., y)):
        with pytest.raises(ValueError, match="more than one device"):
            mix()


WAITS = {
    "float": float,
    "bool": bool,
    "int": int,
    "item": lambda x: x.item(),
    "get": lambda x: x.get(),
    "tolist": lambda x: x.tolist(),
    "if": lambda x: 1 if x > 0 else 2,
    "pickle": pickle.dumps,
}


@pytest.mark.parametrize("wait", WAITS)
def test_what_looks_at_values_waits(wait):
    x, before = device_array(1.0), DeviceArray.waits
    WAITS[wait](x)
    assert DeviceArray.waits == before + 1
    with strict.recording(), pytest.raises(RuntimeError, match="StreamCaptureUnsupported"):
        WAITS[wait](x)


def test_nothing_else_waits():
    x, before = device_array(np.ones((2, 3, 4, 5))), DeviceArray.waits
    y = np.exp(x[..., :3].reshape(-1)) + 1
    y += np.zeros_like(y)
    copy.deepcopy(x)
    assert (len(x), x.size, x.ndim, x.nbytes, x.itemsize) == (2, 120, 4, 960, 8) and str(x) and repr(y)
    assert DeviceArray.waits == before


def test_it_lies_on_a_device_for_the_contract():
    x = device_array(np.ones((1, 2, 3, 4), np.float32), device=2)
    assert kernels.place(x) == "gpu:2"
    assert not hasattr(x, "__array_interface__") and not hasattr(x.flags, "writeable") and not hasattr(x.flags, "aligned")
    assert x.__cuda_array_interface__["data"][0] == x.data.ptr == geometry.address(x)
    assert isinstance(kernels.to_host(x), np.ndarray)


def test_views_share_memory_and_know_whose_it_is():
    whole = device_array(np.zeros((1, 2, 3, 4), np.float32))
    left, right = whole[..., :2], whole[..., 2:]
    assert whole.base is None and left.base is right.base is left[0].base is whole
    assert geometry.is_dense(left) and geometry.pixel_stride(left) == 16
    assert geometry.joined(left, right) is whole
    left += 1
    assert whole.get()[..., :2].all() and not whole.get()[..., 2:].any()


def test_copies_and_pickles_are_arrays_on_the_device():
    x = device_array([1.0, 2.0])
    for y in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        y[...] = 3
        assert isinstance(y, DeviceArray) and x.tolist() == [1, 2]
