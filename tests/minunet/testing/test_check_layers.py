"""Layers and whole networks: a row a parameter, and all are left as they were."""

from __future__ import annotations

import numpy as np
import pytest

import minunet
from minunet import Network, blocks, layers
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


class Stateful:
    """A layer that remembers: the sine of a multiple, which a subclass gets wrong between calls and right in each."""

    def __init__(self):
        self.parameters = {"scale": normal(3)}

    def forward(self, x, *, training=False, rng=None):
        return np.sin(x * self.parameters["scale"]), x

    def backward(self, dy, cache):
        slope = dy * np.cos(cache * self.parameters["scale"])
        return slope * self.parameters["scale"], {"scale": (slope * cache).sum(axis=0)}


class KeepsInput(Stateful):
    def forward(self, x, **_):
        self.x = x
        return super().forward(x)[0], None

    def backward(self, dy, cache):
        return super().backward(dy, self.x)


class KeepsMask(Stateful):
    """A relu: half of x has the mask of x."""

    def __init__(self):
        self.parameters = {}

    def forward(self, x, **_):
        self.mask = x > 0
        return x * self.mask, None

    def backward(self, dy, cache):
        return dy * self.mask, {}


class Counts(Stateful):
    calls = 0

    def forward(self, x, **_):
        self.calls += 1
        y, cache = super().forward(x)
        return y * self.calls, cache


class Learns(Stateful):
    def forward(self, x, **_):
        self.parameters["scale"] *= 0.99
        return super().forward(x)


class LearnsBackward(Stateful):
    def backward(self, dy, cache):
        dx, grads = super().backward(dy, cache)
        self.parameters["scale"] -= 0.01 * grads["scale"]
        return dx, grads


class Accumulates(Stateful):
    total = 0.0

    def backward(self, dy, cache):
        dx, grads = super().backward(dy, cache)
        self.total = self.total + grads["scale"]
        return dx, {"scale": self.total}


class KeepsBuffer(Stateful):
    buffer = np.empty((5, 3))

    def forward(self, x, **_):
        y, cache = super().forward(x)
        np.copyto(self.buffer, y)
        return self.buffer, cache


class RunsMean(Stateful):
    """As batch norm's running statistics do: what training writes, inference reads."""

    mean = 0.0

    def forward(self, x, *, training=False, rng=None):
        if training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean()
            return super().forward(x)
        y, cache = super().forward(x)
        return y - self.mean, cache


STATEFUL = [
    (KeepsInput, "backward gives another gradient of x"),
    (KeepsMask, "backward gives another gradient of x"),
    (Counts, "forward is not deterministic"),
    (Learns, "forward changes scale at"),
    (LearnsBackward, "backward changes scale at"),
    (Accumulates, "backward gives another gradient of scale"),
    (KeepsBuffer, "a second call changes y at"),
    (RunsMean, "forward in training changes what forward gives"),
]


@pytest.mark.parametrize(("layer", "says"), STATEFUL)
def test_a_layer_that_keeps_state_between_calls_is_told_so(layer, says):
    with pytest.raises(GradientError, match=f"^the layer keeps state between calls: {says}"):
        check_layer(layer(), (5, 3), training=True)


def test_neither_a_layer_without_state_nor_one_that_writes_into_x_is_said_to_keep_any():
    check_layer(Stateful(), (5, 3), training=True)

    class WritesInput(Stateful):
        def forward(self, x, **_):
            x *= 2
            return super().forward(x)

    with pytest.raises(GradientError, match=r"^forward changes x at"):
        check_layer(WritesInput(), (5, 3))


class Gate:
    """A layer of two inputs, with a bug on request: x times the sigmoid of the gate times a scale."""

    def __init__(self, bug=""):
        self.bug, self.parameters = bug, {"scale": normal(3)}

    def forward(self, x, gate, *, training=False, rng=None):
        s = 1 / (1 + np.exp(-gate * self.parameters["scale"]))
        return x * s, (x, gate, s)

    def backward(self, dy, cache):
        x, gate, s = cache
        slope = dy * x * s * (1 - s)
        dgate = slope * self.parameters["scale"] * (1.01 if self.bug == "gate" else 1)
        dx = {"one": dy * s, "a list": [dy * s, dgate]}.get(self.bug, (dy * s, dgate))
        return dx, {"scale": (slope * gate).sum(axis=0)}


@pytest.mark.parametrize("training", [False, True])
def test_a_layer_of_several_inputs_takes_a_list_of_shapes_or_arrays(training):
    given = normal(5, 3, seed=1)
    report = check_layer(Gate(), [(5, 3), given], training=training, layouts=True)
    assert [(row.argument, row.shape) for row in report.rows] == [("x[0]", (5, 3)), ("x[1]", (5, 3)), ("scale", (3,))]
    assert check_layer(Gate(), [(5, 3), given], linear=["x[0]"]).rows[0].tolerance < 1e-9
    for bug, says in (
        ("gate", r"the gradient of x\[1\] \(argument 1\) is wrong at"),
        ("one", r"backward does not return a tuple of 2 gradients as dx, one for each of x\[0\], x\[1\]: return \(dx, dskip\)"),
        ("a list", r"backward does not return a tuple of 2 gradients as dx"),
    ):
        with pytest.raises(GradientError, match=says):
            check_layer(Gate(bug), [(5, 3), given], training=training)


def test_a_layer_of_whole_numbers_has_no_dx():
    class Embedding:
        parameters = {"table": normal(4, 2)}

        def forward(self, i):
            return self.parameters["table"][i], i

        def backward(self, dy, i):
            grad = np.zeros((4, 2))
            np.add.at(grad, i, dy)
            return None, {"table": grad}

    report = check_layer(Embedding(), np.array([0, 2, 2]))
    assert [(row.argument, row.checked) for row in report.rows] == [("x", "nothing"), ("table", "8 elements")]


def test_a_cache_of_a_layer_may_serve_one_backward_or_is_asked_for_two():
    class Pops(Stateful):
        def forward(self, x, **_):
            y, x = super().forward(x)
            return y, [x]

        def backward(self, dy, cache):
            return super().backward(dy, cache.pop())

    check_layer(Pops(), (5, 3))
    check_layer(Stateful(), (5, 3), once=False)
    with pytest.raises(GradientError, match=r"second call with the same dy and the same cache raises IndexError"):
        check_layer(Pops(), (5, 3), once=False)


class MasksBlock(layers.Composite):
    """A network's block, its relu one that keeps its mask."""

    def __init__(self, in_channels, out_channels, dtype="float32", rng=None, **settings):
        super().__init__(conv=layers.Conv2d(in_channels, out_channels, 3, padding=1, dtype=dtype, rng=rng))

    def forward(self, x, *, training=False, rng=None):
        y, cache = self.children["conv"].forward(x)
        self.mask = y > 0
        return y * self.mask, cache

    def backward(self, dy, cache):
        dx, grads = self.children["conv"].backward(dy * self.mask, cache)
        return dx, layers.named("conv", grads)


def test_a_network_with_a_block_that_keeps_state_is_told_so():
    with pytest.raises(GradientError, match=r"^a layer of the network keeps state between calls: backward gives another grad"):
        check_network(Network(1, 2, 2, 1, block=MasksBlock))


def test_a_composite_whose_cache_serves_one_backward_passes():
    layer = blocks.Residual(3, 3, dtype="float64")
    report = check_layer(layer, (2, 3, 4, 3), training=True)
    assert [row.argument for row in report.rows] == ["x", *layer.parameters]
    y, cache = layer.forward(normal(2, 3, 4, 3))
    layer.backward(y, cache)
    with pytest.raises(ValueError, match="the cache is empty"):
        layer.backward(y, cache)


def test_a_float32_layer_is_checked_loosely():
    report = check_layer(layers.Conv2d(2, 2, 3, dtype="float32"), (1, 4, 4, 2), linear=True)
    assert report.rows[0].tolerance > 1e-5
    assert "loose" in str(report)


@pytest.mark.parametrize(("padding", "side"), [("same", 8), ("valid", 44)])
def test_a_network_passes_with_a_row_a_parameter(padding, side):
    network = Network(2, 3, 3, 2, padding=padding, dropout=0.3)
    before = network.flat.copy()
    report = check_network(network)
    assert [row.argument for row in report.rows] == ["x", *network.parameters]
    assert report.rows[0].shape == (1, side, side, 2)  # as small as it may be for more than one pixel at the bottom
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
