"""Functions recorded as graphs, on the emulated device: of any owner, with any number of seeds."""

from __future__ import annotations

import gc
import weakref
from unittest import mock

import numpy as np
import pytest
from cuda_on_cpu.door import emulated

from minunet import kernels
from minunet.kernels import gpu
from minunet.kernels.gpu import device, graph


class Owner:
    """Anything that a weak reference takes."""


@pytest.fixture(autouse=True)
def door():
    with emulated(strict=True) as door:
        yield door


def dropped_twice(x, rng):
    """Ask for two seeds, of which the order matters."""
    first = gpu.dropout(x, 0.5, rng.integers(2**63))
    return first, gpu.dropout(first, 0.2, rng.integers(2**63))


def batches(n):
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1, 4, 5, 8), np.float32) for _ in range(n)]


def bits(results):
    return [a.get().tobytes() for a in results]


@pytest.mark.parametrize("refused", [False, True])
def test_seeds_are_drawn_in_the_order_in_which_the_function_asks_for_them(door, refused, caplog):
    owner, rng, again = Owner(), np.random.default_rng(7), np.random.default_rng(7)
    with mock.patch.object(door, "capture", side_effect=RuntimeError("no")) if refused else mock.MagicMock():
        for x in batches(3):
            found = bits(graph.recorded(owner, None, dropped_twice, x)(x, rng))
            assert found == bits(dropped_twice(device.asarray(x), again))
    assert rng.integers(2**63) == again.integers(2**63)
    assert ("no CUDA graph" in caplog.text) == refused


def test_a_generator_is_asked_for_only_where_there_are_seeds():
    owner, (x,) = Owner(), batches(1)
    relu = graph.recorded(owner, "relu", lambda x, rng: (gpu.relu(x), None), x)
    np.testing.assert_array_equal(relu(x, None)[0].get(), np.maximum(x, 0))
    with pytest.raises(ValueError, match="rng is None; it takes a numpy"):
        graph.recorded(owner, "dropout", dropped_twice, x)(x, None)


def test_a_graph_is_found_again_by_its_key_shapes_and_precision():
    owner, (x,) = Owner(), batches(1)

    def found(key="a", x=x, precision="float32"):
        with kernels.precision(precision):
            return graph.recorded(owner, key, dropped_twice, x)

    first = found()
    assert found() is first
    for other in ({"key": "b"}, {"x": x[:, :2]}, {"x": x.astype(np.float64)}, {"precision": "tf32"}):
        assert found(**other) is not found()
    assert found() is not first  # one at a time, for each takes memory


@pytest.mark.parametrize("end", [lambda owners: graph.forget(owners[0]), lambda owners: owners.clear()])
def test_a_graph_goes_with_its_owner_or_when_it_is_forgotten(end):
    owners, (x,) = [Owner()], batches(1)
    alive = weakref.ref(graph.recorded(owners[0], None, dropped_twice, x))
    gc.collect()
    assert alive() is not None
    end(owners)
    gc.collect()
    assert alive() is None
    graph.forget(Owner())  # which has none
