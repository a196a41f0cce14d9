"""Side heads: where they are, that inference knows nothing of them, and what they add to a gradient."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import minunet
from minunet import Network, UNet, layers, losses
from minunet.layers import Conv2d
from minunet.summary import summarize
from minunet.supervision import SideHead, judged
from minunet.testing import GradientError, check_network

SMALL = {
    "base_channels": 2, "depth": 2, "patch_size": 16, "batch_size": 2, "max_epochs": 1, "verbose": 0, "random_state": 0,
    "device": "cpu",
}  # fmt: skip


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    monkeypatch.setattr("minunet.training.schedule.MIN_STEPS", 4)


def both(**settings):
    """Return a network without side heads, and one with them."""
    return [Network(2, 3, 2, random_state=1, **settings | {"deep_supervision": deep}) for deep in (False, True)]


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((2, 16, 8, 2)).astype(np.float32)


@pytest.mark.parametrize("depth", range(5))
def test_each_decoder_but_the_top_one_has_a_head_and_the_seed_gives_the_same_weights_besides(depth):
    plain, deep = both(depth=depth)
    more = {f"decoder.{i}.head.{kind}": (1, 1, 2 * 2**i, 3) if kind == "weight" else (3,)
            for i in range(1, depth) for kind in ("weight", "bias")}  # fmt: skip
    shapes = {name: p.shape for name, p in deep.parameters.items()}
    assert shapes == {name: p.shape for name, p in plain.parameters.items()} | more
    assert all((deep.parameters[name] == p).all() for name, p in plain.parameters.items())
    assert all((p != 0).all() == name.endswith("weight") for name, p in deep.parameters.items() if name in more)
    assert repr(deep).count("(head): SideHead(Conv2d(") == max(depth - 1, 0)


def test_inference_asks_no_side_head(x):
    def never(head, x):
        raise AssertionError("a side head was asked")

    plain, deep = both(depth=3)
    with judged(never):
        np.testing.assert_array_equal(deep(x), plain(x))
        np.testing.assert_array_equal(deep.forward(x)[0], plain(x))
        with pytest.raises(AssertionError, match="a side head was asked"):
            deep.forward(x, training=True)
    np.testing.assert_array_equal(deep.forward(x, training=True)[0], plain(x))
    assert summarize(deep, (16, 8)).flops == summarize(plain, (16, 8)).flops


def test_what_comes_back_from_the_top_alone_owes_side_heads_nothing(backend, x):
    plain, deep = both(depth=3)
    (dx, grads), (expected_dx, expected) = (
        net.backward(np.ones((2, 16, 8, 3), np.float32), net.forward(x, training=True)[1]) for net in (deep, plain)
    )
    np.testing.assert_array_equal(dx, expected_dx)
    for name, grad in grads.items():
        np.testing.assert_array_equal(grad, expected.get(name, 0))
    assert len(grads) == len(expected) + 4


def test_the_gradient_of_what_goes_two_ways_is_the_sum_of_two(backend):
    side, rng = SideHead(Conv2d(2, 3, 1, dtype="float64")), np.random.default_rng(0)
    x, dy, dx = (rng.standard_normal((1, 4, 6, 2)) for _ in range(3))
    grads = {name: np.full_like(p, 7) for name, p in side.parameters.items()}
    with judged(lambda head, given: (dx if head is side.head and given is x else None, grads)):
        y, cache = side.forward(x, training=True)
    assert y is x
    for _ in range(2):  # a cache that is handed in twice gives the same twice
        found, of_head = side.backward(dy, cache)
        np.testing.assert_array_equal(found, dy + dx)
        assert of_head is grads and set(grads) == {"weight", "bias"}


def test_copies_have_side_heads_of_their_own(x):
    _, deep = both(depth=2)
    for twin in (copy.deepcopy(deep), pickle.loads(pickle.dumps(deep)), Network(**deep.config)):
        assert twin.deep_supervision is twin.config["deep_supervision"] is True
        np.testing.assert_array_equal(twin.flat, deep.flat)
        twin.parameters["decoder.1.head.bias"][...] = 5
        assert (deep.parameters["decoder.1.head.bias"] == 0).all()
    assert Network(2, 3, 2, 2, deep_supervision=np.bool_(True)).config["deep_supervision"] is True


@pytest.mark.parametrize("wanted", [1, "yes", None, np.array([True])])
def test_it_is_true_or_false(wanted):
    with pytest.raises(ValueError, match=r"^deep_supervision is .*; it takes True or False"):
        Network(deep_supervision=wanted)


def test_unpadded_levels_are_refused_by_a_sentence():
    says = r"^deep_supervision is True with padding='valid'; it takes padding='same' \(--padding same\), for unpadded levels see "
    with pytest.raises(ValueError, match=says):
        Network(padding="valid", deep_supervision=True)
    with pytest.raises(ValueError, match=says):
        UNet.ronneberger2015(deep_supervision=True).fit(np.zeros((2, 16, 16)), np.eye(16, dtype=int)[None].repeat(2, 0))


def test_a_block_with_a_head_of_its_own_is_refused_by_name():
    def block(c, k, **settings):
        return layers.Sequential(head=Conv2d(c, k, 3, **settings))

    Network(1, 2, 2, 2, block=block)
    with pytest.raises(ValueError, match=r"head\.(weight|bias) is the name of two parameters"):
        Network(1, 2, 2, 2, block=block, deep_supervision=True)


def normed(c, k, **settings):
    """A block of a user's, that ends without a relu."""
    return layers.Sequential(Conv2d(c, k, 3, **settings), layers.GroupNorm(k, 1, dtype=settings["dtype"]))


@pytest.mark.parametrize(("block", "dropout"), [("double_conv", 0.3), ("residual", 0.0), (normed, 0.3)])
def test_it_goes_with_every_block_and_with_dropout(block, dropout):
    x, y = minunet.datasets.cells(2, 32)
    settings = SMALL | {"block": block, "dropout": dropout, "deep_supervision": True, "max_epochs": 3, "learning_rate": 0.01}
    one, other = (UNet(**settings, n_threads=n_threads).fit(x, y) for n_threads in (1, 2))
    assert one.network_.flat.tobytes() == other.network_.flat.tobytes()
    assert one.history_["loss"][-1] < one.history_["loss"][0]


def test_a_network_is_checked_with_the_loss_of_all_levels(monkeypatch):
    network = Network(1, 3, 1, 2, deep_supervision=True, random_state=3)
    report = check_network(network, directions=1)
    assert {"decoder.1.head.weight", "decoder.1.head.bias"} <= {row.argument for row in report.rows}
    monkeypatch.setattr(SideHead, "backward", lambda self, dy, cache: (dy, cache[1]))  # what comes back from the top alone
    with pytest.raises(GradientError):
        check_network(network, directions=1)


def test_it_changes_what_is_learned_and_a_model_file_keeps_it(tmp_path):
    x, y = minunet.datasets.cells(2, 32)
    deep, plain = (UNet(**SMALL, deep_supervision=wanted).fit(x, y) for wanted in (True, False))
    assert deep.n_parameters_ == plain.n_parameters_ + 4 * 2 + 2
    name = "encoder.2.conv1.weight"
    assert (deep.network_.parameters[name] != plain.network_.parameters[name]).any()
    assert (deep.network_.parameters["decoder.1.head.bias"] != 0).all()  # it began at 0: it was trained
    deep.save(tmp_path / "m")
    loaded = minunet.load(tmp_path / "m")
    assert loaded.deep_supervision is loaded.network_.deep_supervision is True
    np.testing.assert_array_equal(loaded.network_.flat, deep.network_.flat)
    np.testing.assert_array_equal(loaded.predict_proba(x), deep.predict_proba(x))
    again = loaded.set_params(warm_start=True, learning_rate=1e-30).fit(x, y)
    np.testing.assert_allclose(again.network_.flat, deep.network_.flat, rtol=0, atol=1e-20)


def test_the_top_alone_is_reported_of_what_is_held_out():
    x, y = minunet.datasets.cells(4, 32)
    unet = UNet(**SMALL, deep_supervision=True).fit(x[:2], y[:2], validation_data=(x[2:], y[2:]))
    p = np.take_along_axis(unet.predict_proba(x[2:]), np.searchsorted(unet.classes_, y[2:])[..., None], axis=-1)
    assert unet.history_["val_loss"][-1] == pytest.approx(-np.log(p).mean(), rel=1e-5)
    assert losses.resolve(unet.loss).name == "cross_entropy"
