"""Layers and whole networks: a row a parameter, and all are left as they were."""

from __future__ import annotations

import numpy as np
import pytest

import minunet
from minunet import Network, layers
from minunet.testing import GradientError, check_layer, check_network


def normal(*shape, seed=0, dtype=np.float64):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


LAYERS = {
    "Conv2d": (lambda: layers.Conv2d(3, 2, 3, padding=1, dtype="float64"), True),
    "ConvTranspose2d": (lambda: layers.ConvTranspose2d(3, 2, dtype="float64"), True),
    "MaxPool2d": (lambda: layers.MaxPool2d(2), False),
    "ReLU": (layers.ReLU, False),
    "Dropout": (lambda: layers.Dropout(0.5), False),
    "Sequential": (lambda: layers.Sequential(
        layers.Conv2d(3, 4, 3, padding=1, dtype="float64"), layers.ReLU(), layers.Conv2d(4, 2, 1, dtype="float64")), False),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("training", [False, True])
def test_layers_pass_and_are_left_as_they_were(name, training):
    make, linear = LAYERS[name]
    layer = make()
    before = {key: p.copy() for key, p in layer.parameters.items()}
    report = check_layer(layer, (2, 4, 6, 3), linear=linear, training=training)
    assert [row.argument for row in report.rows] == ["x", *before]
    for key, p in layer.parameters.items():
        assert p.tobytes() == before[key].tobytes()


class Scale:
    """A user's layer, with a bug on request."""

    def __init__(self, bug=""):
        self.bug = bug
        self.parameters = {"scale": normal(3), "unused": normal(2)}

    def forward(self, x):
        if self.bug == "writes":
            self.parameters["scale"][1] += 1
        return x * self.parameters["scale"], (x,)

    def backward(self, dy, cache):
        (x,) = cache
        dscale = (dy * x).sum(axis=0) if self.bug != "mean" else (dy * x).mean(axis=0)
        grads = {"scale": dscale, "unused": np.zeros(2)}
        if self.bug == "forgets":
            del grads["unused"]
        return dy * self.parameters["scale"] if self.bug == "no dict" else (dy * self.parameters["scale"], grads)


def test_a_users_layer():
    assert [row.argument for row in check_layer(Scale(), (5, 3)).rows] == ["x", "scale", "unused"]
    for bug, says in (
        ("mean", r"the gradient of scale \(argument 1\) is wrong at \[\d\]"),
        ("forgets", r"gives gradients of \['scale'\]; it takes \['scale', 'unused'\]"),
        ("no dict", r"does not return dx and a dict of gradients"),
        ("writes", r"forward changes scale at \[1\]"),
    ):
        layer = Scale(bug)
        before = layer.parameters["scale"].copy()
        with pytest.raises(GradientError, match=says):
            check_layer(layer, (5, 3))
        assert layer.parameters["scale"].tobytes() == before.tobytes()


def test_a_float32_layer_is_checked_loosely():
    report = check_layer(layers.Conv2d(2, 2, 3, dtype="float32"), (1, 4, 4, 2), linear=True)
    assert report.rows[0].tolerance > 1e-5
    assert "loose" in str(report)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_network_passes_with_a_row_a_parameter(padding):
    network = Network(2, 3, 3, 2, padding=padding, dropout=0.3)
    before = network.flat.copy()
    report = check_network(network)
    assert [row.argument for row in report.rows] == ["x", *network.parameters]
    assert report.error < 1e-7
    assert len(str(report).splitlines()) == len(network.parameters) + 2
    assert network.flat.tobytes() == before.tobytes()
    assert network.dtype == np.float32


def test_a_fitted_unet_and_given_images():
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 8, 8)), rng.integers(0, 2, (2, 8, 8))
    unet = minunet.UNet(base_channels=2, depth=1, max_epochs=1, patch_size=8, verbose=0, random_state=0).fit(x, y)
    assert check_network(unet, x[..., None], y).error < 1e-7


class WrongNetwork(Network):
    def backward(self, dlogits, cache, *, input_grad=True):
        dx, grads = super().backward(dlogits, cache, input_grad=input_grad)
        grads["decoder.0.up.bias"][...] *= 1 + 1e-6
        return dx, grads


def test_a_wrong_network_is_caught():
    with pytest.raises(GradientError, match=r"the gradient of decoder\.0\.up\.bias .*along random direction") as caught:
        check_network(WrongNetwork(1, 2, 3, 1))
    assert caught.value.argument == "decoder.0.up.bias"
