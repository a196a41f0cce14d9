"""Blocks: the residual one, and those of the user's, from the first forward to the file that refuses them."""

from __future__ import annotations

import fractions
import gc
import pickle
import weakref

import numpy as np
import pytest

import minunet
from minunet import Network, UNet, kernels, losses, optim
from minunet.blocks import Residual, double_conv
from minunet.evaluation.tiles import predict_proba
from minunet.layers import Composite, Conv2d, GroupNorm, Layer, ReLU, Sequential
from minunet.summary import summarize
from minunet.testing import check_layer, check_network
from minunet.training import step
from minunet.training.memory import inference_bytes, training_bytes


def normed(c, k, **settings):
    return Sequential(
        conv1=Conv2d(c, k, 3, **settings), norm=GroupNorm(k, 1, dtype=settings["dtype"]), relu=ReLU(),
        conv2=Conv2d(k, k, 3, **settings),
    )  # fmt: skip


class Mixed(Layer):
    """A 1 x 1 convolution and tanh, by einsum: NumPy that arrays without numbers do not take."""

    def __init__(self, c, k, *, rng, dtype, **others):
        self.parameters = {"weight": np.linspace(-1, 1, c * k, dtype=dtype).reshape(c, k)}

    def forward(self, x, *, training=False, rng=None):
        y = np.tanh(np.einsum("nhwc,ck->nhwk", x, self.parameters["weight"]))
        return y, (x, y)

    def backward(self, dy, cache):
        x, y = cache
        dz = dy * (1 - y * y)
        return np.einsum("nhwk,ck->nhwc", dz, self.parameters["weight"]), {"weight": np.einsum("nhwc,nhwk->ck", x, dz)}


OWN = {"normed": normed, "einsum": Mixed}


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("make", [double_conv, Residual])
def test_blocks_have_right_gradients(make, padding):
    layer = make(2, 3, padding=padding, rng=np.random.default_rng(0), dtype="float64")
    check_layer(layer, np.random.default_rng(1).standard_normal((2, 8, 7, 2)))


def test_a_residual_block_is_its_path_and_its_shortcut():
    rng = np.random.default_rng(0)
    block, x = Residual(2, 3, padding=0, rng=rng, dtype="float64"), rng.standard_normal((1, 8, 9, 2))
    assert sorted(block.parameters) == sorted(f"{n}.{k}" for n in ("conv1", "conv2", "shortcut") for k in ("weight", "bias"))
    y, _ = block.forward(x)
    along, _ = block.path.forward(x)
    w = block.shortcut.parameters["weight"]
    np.testing.assert_allclose(y, np.maximum(along + x[:, 2:-2, 2:-2] @ w[0, 0], 0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("block", "padding"), [("residual", "same"), ("residual", "valid"), (normed, "same"), (Mixed, "same")])
def test_a_network_of_other_blocks_has_right_gradients(block, padding):
    check_network(Network(2, 3, 2, 1, padding, block=block, random_state=1))


@pytest.mark.parametrize("block", ["residual", *OWN.values()], ids=["residual", *OWN])
def test_an_estimator_learns_with_them_is_summarised_and_has_its_memory_foretold(block):
    x, y = minunet.datasets.cells(3, 64)
    unet = UNet(base_channels=4, depth=2, patch_size=32, max_epochs=3, verbose=0, random_state=0, device="cpu", block=block)
    unet.fit(x, y)
    assert unet.history_["loss"][-1] < unet.history_["loss"][0]
    network, summary = unet.network_, unet.summary((64, 64))
    assert summary.n_parameters == network.n_parameters
    assert summary.steps[-1].shape == (1, 64, 64, 2)
    assert training_bytes(network, 2, 32, 32) > inference_bytes(network, 2, 32, 32) > network.flat.nbytes
    probabilities = unet.predict_proba(x[0, :50, :37])
    assert probabilities.shape == (50, 37, 2)
    if block in OWN.values():  # an output of the whole image cannot be had from tiles
        image = np.random.default_rng(0).random((70, 66, 1), np.float32)
        np.testing.assert_array_equal(predict_proba(network, image, max_bytes=1), predict_proba(network, image))
        assert [s.receptive_field for s in summary.steps][-1] is None
    twin = pickle.loads(pickle.dumps(unet))
    np.testing.assert_array_equal(twin.predict(x), unet.predict(x))


def test_a_model_file_knows_blocks_by_name_and_holds_no_code(tmp_path):
    x, y = minunet.datasets.cells(2, 64)
    settings = {"base_channels": 2, "depth": 1, "patch_size": 32, "max_epochs": 1, "verbose": 0, "device": "cpu"}
    unet = UNet(block="residual", **settings).fit(x, y)
    unet.save(tmp_path / "m")
    loaded = minunet.load(tmp_path / "m")
    assert loaded.block == loaded.network_.block == "residual"
    np.testing.assert_array_equal(loaded.predict_proba(x), unet.predict_proba(x))
    own = UNet(block=normed, **settings).fit(x, y)
    with pytest.raises(ValueError, match=r"block is <function normed.*a model file holds no code.* was not written"):
        own.save(tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_a_block_need_not_know_out_or_input_grad(backend):
    network = Network(2, 3, 2, 1, block=lambda c, k, **s: Sequential(mixed=Mixed(c, k, **s)), random_state=1)
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 2)).astype(np.float32)
    before = network.flat.copy()
    assert np.isfinite(step(network, optim.SGD(0.1), x, np.zeros((1, 8, 8), int)))
    assert (network.flat != before).any()


class Gone(Layer):
    """One whose parameters are made anew whenever they are asked for."""

    def __init__(self):
        pass

    parameters = property(lambda self: {"weight": np.ones(1, np.float32)})

    def forward(self, x, *, training=False, rng=None):
        return x, None

    def backward(self, dy, cache):
        return dy, {"weight": np.zeros(1, np.float32)}


class Forgetful(Mixed):
    def forward(self, x, *, training=False, rng=None):
        return super().forward(x)[0]


def twice(c, k, **settings):
    conv = double_conv(c, k, **settings)
    return Composite(**{"a": conv, "": Sequential(**{"a.conv1": Conv2d(k, k, 3, **settings)})})


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ("swin", "block is 'swin'; it takes 'double_conv' or 'residual', or a function"),
        (3, "block is 3; it takes"),
        (lambda c, k, **s: "conv", "makes for encoder.0 is str; it takes a minunet.layers.Layer"),
        (lambda c, k, **s: Mixed(c, k + 1, **s), r"the block encoder.0 \(level 0\) is one that makes .*; it takes 2 channels"),
        (lambda c, k, **s: Mixed(c, k if c != 4 else 5, **s), r"encoder.2 \(level 2\) is one that makes .* it takes 8 chan"),
        (lambda c, k, **s: Conv2d(c, k, 3, rng=s["rng"]), r"encoder.0 \(level 0\) is .* takes off .* it takes its size kept"),
        (lambda c, k, **s: Conv2d(c, k, 1, stride=2, rng=s["rng"]), r"encoder.0 \(level 0\) is .*16: 8, 20: 10"),
        (Forgetful, r"what forward of the block encoder.0 \(level 0\) returns is ndarray; it takes y, cache"),
    ],
)  # fmt: skip
def test_a_block_that_does_not_keep_its_promise_is_named_with_its_level(block, says):
    with pytest.raises(ValueError, match=says):
        Network(1, 2, 2, 2, block=block)


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (lambda c, k, **s: Conv2d(c, k, 1, stride=2, rng=s["rng"]), r"\{16: 8, 20: 10\}; it takes as many taken off on each"),
        (lambda c, k, **s: Conv2d(c, k, 2, rng=s["rng"]), r"\{16: 1, 20: 1\}; it takes as many taken off on each side"),
        (lambda c, k, **s: Conv2d(c, k, 1, padding=2, rng=s["rng"]), r"\{16: -4, 20: -4\}; it takes as many taken off on each"),
    ],
)
def test_a_block_that_takes_off_other_numbers_of_pixels_than_it_may_is_named(block, says):
    with pytest.raises(ValueError, match=says):
        Network(1, 2, 2, 1, "valid", block=block)


@pytest.mark.parametrize("block", [lambda c: None, lambda c, k: None, ReLU, fractions.Fraction])
def test_a_block_that_is_a_function_of_other_arguments_is_refused_with_those_it_is_called_with(block):
    says = r"^block is .*, a function of other arguments \(.+\); it takes one of \(in_channels, out_channels, padding, .*rng.*\)"
    with pytest.raises(ValueError, match=says):
        Network(1, 2, 2, depth=1, block=block)


@pytest.mark.parametrize("block", [dict, type, max])
def test_what_is_called_in_a_way_that_nobody_can_tell_is_no_block(block):
    with pytest.raises(ValueError, match=r"^block is .*; it takes "):  # Pythons differ in which they can tell
        Network(1, 2, 2, depth=1, block=block)


def test_an_unpadded_block_need_not_take_anything_off():
    network = Network(1, 2, 2, 2, "valid", block=lambda c, k, **s: Conv2d(c, k, 1, rng=s["rng"]))
    assert network.margin == 0 and network.output_size(12, 8) == (12, 8)


class Cropped(Layer):
    """A 1 x 1 convolution of what is not near the edge, by einsum: code that runs on numbers alone, and crops by its width."""

    def __init__(self, c, k, *, dtype, **others):
        self.parameters, self.edge = {"weight": np.ones((c, k), dtype)}, 1 if k < 4 else 2

    def forward(self, x, *, training=False, rng=None):
        inner = x[:, self.edge : x.shape[1] - self.edge, self.edge : x.shape[2] - self.edge]
        return np.einsum("nhwc,ck->nhwk", inner, self.parameters["weight"]), x


def test_a_block_that_is_foretold_takes_off_what_it_took_when_it_was_tried():
    network = Network(1, 2, 2, 1, "valid", block=Cropped)
    for side in (18, 22):
        assert network.output_size(side, side) == network(np.zeros((1, side, side, 1), np.float32)).shape[1:3]
    with pytest.raises(ValueError, match=r"height is 2; .* the nearest is"):
        network.output_size(2, 2)


def test_networks_of_one_block_but_of_other_channels_have_sizes_of_their_own():
    def block(c, k, **s):
        return Conv2d(c, k, 3 if k < 4 else 5, rng=s["rng"])

    assert [Network(1, 2, k, 0, "valid", block=block).margin for k in (2, 4)] == [1, 2]


class Far(Layer):
    """One that sees far in ways that nobody can foretell: its output is its input and the same, eight pixels off."""

    def __init__(self, c, k, **others):
        self.parameters, self.k = {}, k

    def forward(self, x, *, training=False, rng=None):
        moved = np.zeros_like(x)
        moved[:, 8:] = x[:, :-8]
        return np.repeat((x + moved).mean(axis=3, keepdims=True), self.k, axis=3), x

    def backward(self, dy, cache):
        d = dy.mean(axis=3, keepdims=True)
        back = np.zeros_like(d)
        back[:, :-8] = d[:, 8:]
        return np.broadcast_to((d + back) * dy.shape[3] / cache.shape[3], cache.shape).copy(), {}


def test_code_of_the_users_is_never_run_without_numbers_and_never_tiled():
    network = Network(1, 2, 2, 1, block=Far)
    image = np.random.default_rng(0).random((96, 80, 1), np.float32)
    np.testing.assert_array_equal(predict_proba(network, image, max_bytes=1), predict_proba(network, image))
    assert summarize(network, (32, 32)).n_parameters == network.n_parameters


class Averaged(losses.Loss):
    """A loss that remembers, and breaks where it is not handed numbers."""

    def __init__(self):
        self.seen = []

    def value_and_grad(self, logits, target):
        value, gradient = losses.CrossEntropy().value_and_grad(logits, target)
        self.seen.append(float(np.asarray(value)))
        return value, gradient


def test_the_memory_of_the_users_code_is_what_its_cache_takes_of_pixels():
    class Holding(Mixed):
        def forward(self, x, *, training=False, rng=None):
            y, cache = super().forward(x)
            return y, (cache, {"more": [np.zeros((*x.shape[:3], 100), np.float32), np.zeros(10**6)], "again": cache})

        def backward(self, dy, cache):
            return super().backward(dy, cache[0])

    plain, holding = (training_bytes(Network(1, 2, 2, 0, block=block), 1, 64, 64) for block in (Mixed, Holding))
    assert holding - plain == pytest.approx(64 * 64 * 100 * 4, rel=0.02)


def test_a_loss_of_the_users_sees_numbers_alone():
    x, y = minunet.datasets.cells(2, 64)
    loss = Averaged()
    unet = UNet(base_channels=2, depth=1, patch_size=32, max_epochs=1, verbose=0, device="cpu", loss=loss).fit(x, y)
    assert len(loss.seen) == 25 and min(loss.seen) > 0
    assert unet.history_["loss"] == [pytest.approx(np.mean(loss.seen))]


def test_one_layer_in_two_places_is_refused():
    def shared(c, k, **settings):
        conv = Conv2d(k, k, 3, **settings)
        return Sequential(first=Conv2d(c, k, 3, **settings), a=conv, b=conv)

    with pytest.raises(ValueError, match=r"the layer of decoder.0.b.weight is another\'s, too"):
        Network(1, 2, 2, 1, block=shared)


def test_weights_may_be_drawn_in_any_way_and_a_block_of_ours_has_its_name():
    class Drawn(Mixed):
        def __init__(self, c, k, *, rng, dtype, **others):
            self.parameters = {"weight": rng.uniform(-1, 1, (c, k)).astype(dtype)}

    assert Network(1, 2, 2, 1, block=Drawn).output_size(8, 8) == (8, 8)
    assert Network(1, 2, 2, 1, block=Residual).config["block"] == "residual"
    same = ("double_conv", lambda c, k, **settings: double_conv(c, k, **settings))
    assert len({training_bytes(Network(1, 2, 4, 1, block=block), 1, 64, 64) for block in same}) == 1


def test_what_is_known_of_sizes_keeps_no_network_alive():
    network = Network(1, 2, 3, 1, block=lambda c, k, **s: Conv2d(c, k, 1, rng=s["rng"]))
    assert network.output_size(8, 8) == (8, 8)
    gone = weakref.ref(network)
    del network
    gc.collect()
    assert gone() is None


def test_parameters_that_cannot_be_bound_or_share_a_name_are_named():
    with pytest.raises(ValueError, match=r"encoder.0.weight is gone when it is bound"):
        Network(1, 1, 1, 1, block=lambda c, k, **s: Gone() if c == k == 1 else Mixed(c, k, **s))
    with pytest.raises(ValueError, match=r"a.conv1.weight is the name of two parameters"):
        twice(1, 2, rng=np.random.default_rng(0)).parameters  # noqa: B018


def test_summaries_of_the_named_blocks_name_every_convolution():
    names = [step.name for step in summarize(Network(1, 2, 2, 1, block="residual"), (8, 8)).steps]
    convolutions = ("conv1", "conv2", "shortcut")
    assert names == [
        *(f"encoder.0.{name}" for name in convolutions), "pool.0", *(f"encoder.1.{name}" for name in convolutions),
        "decoder.0.up", *(f"decoder.0.{name}" for name in convolutions), "head",
    ]  # fmt: skip


def test_the_drawing_takes_any_block():
    pytest.importorskip("matplotlib")
    from minunet import plot

    for block in ("residual", Mixed):
        assert plot.architecture(Network(1, 2, 2, 2, block=block), (16, 16)).texts


def test_kernels_run_a_users_function_where_the_array_lies(backend):
    def cubed(x):
        return x**3

    x = np.arange(4.0).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(kernels.run(cubed, x), x**3)
