"""What a check changes of a layer is put back: arrays in place, attributes, dicts, lists and generators, of all it holds."""

from __future__ import annotations

import numpy as np
import pytest

from minunet import blocks, layers
from minunet.testing import GradientError, check_layer
from minunet.testing.kept import kept


class Named(list):
    """A list with an attribute, as a tape is."""


class Inner:
    def __init__(self):
        self.array, self.fixed, self.count = np.arange(3.0), np.ones(2), 1
        self.named, self.listed, self.both = {"a": np.zeros(2)}, [np.zeros(2), 3], (np.ones(1), {"b": [1]})
        self.tape = Named([np.zeros(1)])
        self.tape.training = np.zeros(1)
        self.rng = np.random.default_rng(0)
        self.fixed.flags.writeable = False
        self.me = self


def test_all_is_put_back_and_arrays_stay_the_same_objects():
    thing = Inner()
    outer = type("Outer", (), {})()
    outer.inner = thing
    array, listed, named, state = thing.array, thing.listed, thing.named, thing.rng.bit_generator.state
    view = array[1:]
    with pytest.raises(ZeroDivisionError), kept(outer):
        thing.array *= 7
        thing.count, thing.new, thing.array = 5, 1, np.zeros(9)
        thing.named["a"][0] = 4
        thing.named["c"] = 1
        thing.listed[0][1] = 9
        thing.listed += [4]
        thing.both[0][0] = 3
        thing.both[1]["b"][0] = 2
        thing.tape[0][0] = thing.tape.training[0] = 8
        thing.rng.random(3)
        _ = 1 / 0
    assert thing.array is array and array.tolist() == [0, 1, 2] and view.tolist() == [1, 2]
    assert (thing.count, hasattr(thing, "new")) == (1, False)
    assert thing.named is named and list(named) == ["a"] and named["a"].tolist() == [0, 0]
    assert thing.listed is listed and len(listed) == 2 and listed[0].tolist() == [0, 0]
    assert thing.both[0].tolist() == [1] and thing.both[1] == {"b": [1]}
    assert thing.tape[0] == thing.tape.training == 0
    assert thing.rng.bit_generator.state == state


class RunningMean:
    """As a batch norm of another library: training renews the statistics in place, inference reads them or does not."""

    def __init__(self, read):
        self.parameters, self.read, self.mean, self.calls = {"scale": np.ones(3)}, read, np.zeros(3), 0

    def forward(self, x, *, training=False, rng=None):
        if training:
            self.calls += 1
            self.mean *= 0.9
            self.mean += 0.1 * x.mean(axis=0)
        off = self.mean if self.read and not training else 0
        return (x - off) * self.parameters["scale"], x

    def backward(self, dy, x):
        return dy * self.parameters["scale"], {"scale": (dy * x).sum(axis=0)}


@pytest.mark.parametrize("read", [False, True])
def test_running_statistics_are_left_as_they_were_whether_the_check_passes_or_not(read):
    layer = RunningMean(read)
    mean = layer.mean
    if read:
        with pytest.raises(GradientError, match="forward in training changes what forward gives in inference"):
            check_layer(layer, (5, 3), training=True)
    else:
        check_layer(layer, (5, 3), training=True)
    assert layer.mean is mean and mean.tolist() == [0, 0, 0] and layer.calls == 0


@pytest.mark.parametrize("layer", [layers.BatchNorm(3, dtype="float64"), blocks.Residual(3, 3, norm="batch", dtype="float64")])
def test_layers_of_layers_are_left_as_they_were(layer):
    state = {name: value.copy() for name, value in layer.state.items()}
    check_layer(layer, (2, 3, 4, 3), training=True)
    assert state and all((layer.state[name] == value).all() for name, value in state.items())
