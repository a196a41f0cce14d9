"""NaN and Inf are told where they begin: the step, the layer, the learning rate, the model that is left, and what to do."""

from __future__ import annotations

import copy
import os
import re
import signal
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from cuda_on_cpu.door import emulated

import minunet
from minunet import Network, UNet, layers, losses, ops, optim
from minunet.tape import Tape
from minunet.training import diverged, step

SMALL = {
    "base_channels": 2, "depth": 1, "patch_size": 16, "batch_size": 2, "max_epochs": 3, "verbose": 0, "random_state": 0,
    "validation_fraction": 0.0, "device": "cpu", "augment": "flips",
}  # fmt: skip
STEPS = 25  # an epoch's
DIVERGED = re.compile(
    r"(?P<what>.+) at step (?P<step>\d+) \(epoch (?P<epoch>\d+), learning rate (?P<rate>\S+)\)(, first in (?P<where>.+))?: "
    r"training diverged\. The model (?P<kept>[^;]+); (?P<advice>.+)"
)


def images():
    x = np.random.default_rng(0).random((2, 16, 16))
    return x, (x > 0.5).astype(int)


class Keep:
    """Keeps the weights of each epoch's end."""

    def __init__(self):
        self.weights = []

    def set_model(self, unet):
        self.unet = unet

    def on_epoch_end(self, epoch, logs):
        self.weights.append(self.unet.network_.flat.copy())


def told(unet, x=None, callbacks=()):
    """Fit, and return the parts of the sentence; and check all that the sentence promises of the model."""
    keep, before, (images_, masks) = Keep(), getattr(unet, "network_", None), images()
    with pytest.raises(FloatingPointError) as raised:
        unet.fit(images_ if x is None else x, masks, callbacks=[keep, *callbacks])
    found = DIVERGED.fullmatch(str(raised.value))
    assert found, str(raised.value)
    n, epoch, ended = int(found["step"]), int(found["epoch"]), len(keep.weights)
    assert ended == epoch - 1 == (n - 1) // STEPS
    assert found["rate"] == f"{rate(unet, n):g}"
    if ended:
        assert found["kept"] == f"keeps the weights from the end of epoch {ended}"
        assert unet.network_.flat.tobytes() == keep.weights[-1].tobytes()
        assert unet.n_iter_ == len(unet.history_["loss"]) == ended
    else:
        assert found["kept"] == "is what it was before"
        assert getattr(unet, "network_", None) is before
    if ended or (before is not None and np.isfinite(before.flat).all()):
        assert predicts(unet)
    elif before is None:
        with pytest.raises(minunet.NotFittedError):
            unet.predict(images_)
    return found


def predicts(unet):
    """Whether it predicts; that its training was cut short is no news here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the last training of this model was cut short")
        return set(np.unique(unet.predict(images()[0]))) <= {0, 1}


def rate(unet, n):
    """The schedule's learning rate at step n: before it, n - 1 steps are done."""
    return unet.learning_rate * (1 - (n - 1) / (STEPS * unet.max_epochs)) ** 0.9


class Own(losses.CrossEntropy):
    """A loss of a user's, that spoils its value or its gradient from a call on."""

    def __init__(self, call, value=1.0, gradient=1.0, calls=10**6, before=1.0):
        self.n, self.spoilt, self.by, self.before = 0, range(call, call + calls), (value, gradient), np.float32(before)

    through = losses.Loss.through

    def value_and_grad(self, logits, target):
        self.n += 1
        value, gradient = super().value_and_grad(logits, target)
        if self.n not in self.spoilt:
            return value, gradient * self.before
        gradient = gradient.copy()
        gradient[0, 3, 3, 1] *= self.by[1]
        return value * self.by[0], gradient


@pytest.mark.parametrize(("bad", "added"), [(np.nan, False), (-np.inf, True)])
def test_a_users_loss_whose_gradient_is_not_finite_is_named(bad, added):
    own = Own(STEPS + 5, gradient=bad)
    found = told(UNet(**SMALL, loss=losses.Dice() + own if added else own))
    assert (found["what"], found["step"]) == ("the gradient of Own is not finite", "30")
    assert found["where"] == "the gradient of the loss Own"
    assert found["advice"] == "look at your Own: minunet.testing.check_gradients can test it"


def test_a_users_loss_whose_value_is_not_finite_is_named_even_if_it_is_finite_the_next_time():
    found = told(UNet(**SMALL, loss=Own(2, value=np.inf)))
    assert (found["what"], found["step"], found["where"]) == ("the loss is inf", "2", "the value of the loss Own")
    assert found["advice"] == "look at your Own: minunet.testing.check_gradients can test it"
    found = told(UNet(**SMALL, loss=Own(2, value=np.nan, calls=1)))
    assert (found["what"], found["step"], found["where"]) == ("the loss is nan", "2", None)
    assert found["advice"] == "look at your Own: minunet.testing.check_gradients can test it"


def test_a_users_loss_that_cannot_run_twice_does_not_hide_what_happened():
    class Once(Own):
        def value_and_grad(self, logits, target):
            if self.n == 3:
                raise StopIteration("no more")
            return super().value_and_grad(logits, target)

    found = told(UNet(**SMALL, loss=Once(3, value=np.nan)))
    assert (found["what"], found["step"], found["where"]) == ("the loss is nan", "3", None)
    assert found["advice"] == "look at your Once: minunet.testing.check_gradients can test it"


class Leaf(layers.Layer):
    """A 3 x 3 convolution of a user's, that spoils what comes out of it, or the gradient, from a call on."""

    def __init__(self, c, k, *, padding, rng, dtype, forward=10**6, backward=10**6, **settings):
        self.padding, self.calls = padding, {"forward": forward, "backward": backward}
        self.parameters = {"w": rng.standard_normal((3, 3, c, k)).astype(dtype) / 3, "b": np.zeros(k, dtype)}

    def spoilt(self, method, a):
        self.calls[method] -= 1
        return a * np.float32(1 if self.calls[method] > 0 else np.nan)

    def forward(self, x, *, training=False, rng=None):
        y, cache = ops.conv2d(x, *self.parameters.values(), padding=self.padding)
        return self.spoilt("forward", y) if training else y, cache

    def backward(self, dy, cache):
        dx, dw, db = ops.conv2d_backward(dy, cache)
        return dx, {"w": self.spoilt("backward", dw), "b": db}


class Between(layers.Composite):
    """A convolution of minunet's, behind which, and so before whose backward, a user's code has something to say."""

    def __init__(self, c, k, *, forward=1.0, backward=1.0, **settings):
        self.conv, self.by = layers.Conv2d(c, k, 3, **settings), (np.float32(forward), np.float32(backward))
        super().__init__(conv=self.conv)

    def forward(self, x, *, training=False, rng=None):
        tape = Tape(training, rng, self)
        y = tape.run(self.conv, x)
        return tape.keep(y * self.by[0] if training else y, None), tape

    def backward(self, dy, cache):
        cache.pop()
        cache.gradient = dy * self.by[1]
        grads = cache.back(self.conv)
        return cache.taken(), layers.named("conv", grads)


def block(kind, which, **spoilt):
    """A function that makes such blocks, of which number `which` spoils: encoder.0, encoder.1, decoder.0, in this order."""
    made = []

    def make(c, k, **settings):
        made.append(1)
        return kind(c, k, **settings, **(spoilt if len(made) == which + 1 else {}))

    return make


BLOCKS = ["encoder.0", "encoder.1", "decoder.0"]


@pytest.mark.parametrize("which", range(3))
def test_a_users_block_whose_gradient_is_not_finite_is_named(which):
    n = 28 if which == 1 else 2
    found = told(UNet(**SMALL, block=block(Leaf, which, backward=n)))
    assert (found["what"], found["step"]) == ("the gradient is not finite", str(n))
    assert found["where"] == f"the gradient of {BLOCKS[which]}"
    assert found["advice"] == "look at your Leaf: minunet.testing.check_layer can test it"


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize(("kind", "spoilt"), [(Leaf, {"forward": 1}), (Between, {"forward": np.inf})])
def test_a_users_block_whose_output_is_not_finite_is_named_and_no_layer_inside(which, kind, spoilt):
    found = told(UNet(**SMALL, block=block(kind, which, **spoilt)))
    assert (found["step"], found["where"]) == ("1", f"the output of {BLOCKS[which]}")
    assert found["advice"] == f"look at your {kind.__name__}: minunet.testing.check_layer can test it"


def test_what_a_users_block_does_before_a_layers_backward_is_not_that_layers():
    found = told(UNet(**SMALL, block=block(Between, 1, backward=np.nan)))
    assert (found["what"], found["step"]) == ("the gradient is not finite", "1")
    assert found["where"] == "the gradient of encoder.1"


SETTINGS = [
    {}, {"optimizer": "sgd", "momentum": 0.99}, {"loss": "dice"}, {"padding": "valid"}, {"block": "residual"},
    {"dropout": 0.5, "learning_rate": 1e30}, {"loss": "cross_entropy+dice", "optimizer": "sgd", "learning_rate": 1e30},
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_too_high_a_learning_rate_is_told_at_once(settings):
    found = told(UNet(**SMALL | {"learning_rate": 1e6} | settings))
    assert int(found["step"]) <= 3 and found["where"]
    assert found["advice"].endswith(": learning_rate=0.01 (--learning-rate 0.01)")


def test_the_advice_to_lower_the_learning_rate_helps():
    unet = fitted().set_params(learning_rate=1e6, max_epochs=3)
    before = unet.network_.flat.copy()
    found = told(unet)
    assert unet.network_.flat.tobytes() == before.tobytes()
    assert (found["what"], found["step"], found["rate"]) == ("the loss is nan", "2", "987992")
    assert found["advice"] == "try a lower learning rate: learning_rate=0.01 (--learning-rate 0.01)"
    unet.set_params(learning_rate=0.01, max_epochs=1).fit(*images())
    assert np.isfinite(unet.history_["loss"]).all() and predicts(unet)


def test_the_advice_is_a_tenth_and_says_by_how_much_the_loss_rose(monkeypatch):
    for values, why in (([0.5, 0.25, 2.0, np.inf], " (the loss had risen from 0.25 to 2)"), ([2.0, 1.0, 1.9, np.nan], "")):
        given = iter(values)
        monkeypatch.setattr("minunet.training.loop.step", lambda *_, given=given, **__: np.float32(next(given)))
        found = told(UNet(**SMALL, learning_rate=0.004))
        assert (found["what"], found["step"], found["where"]) == (f"the loss is {values[-1]}", "4", None)
        assert found["advice"] == f"try a lower learning rate{why}: learning_rate=0.0004 (--learning-rate 0.0004)"


LAYERS = ["encoder.0.conv1", "encoder.0.conv2", "encoder.1.conv1", "encoder.1.conv2", "decoder.0.up", "decoder.0.conv1",
          "decoder.0.conv2", "head"]  # fmt: skip


def batch(network, side=16):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, side, side, 1)).astype(np.float32)
    shape = network.logits_shape(x)
    return x, losses.target(rng.integers(0, 2, shape[:3]), shape, network.dtype)


def by_hand(p, x):
    """Give each layer's output in a network of depth 1, by the ops alone."""

    def conv(name, x, padding=1):
        return ops.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], padding=padding)[0]

    def two(block, x):
        for name in (f"{block}.conv1", f"{block}.conv2"):
            x = np.maximum(conv(name, x), 0)
            yield name, x

    yield from (encoder := list(two("encoder.0", x)))
    yield from (bottom := list(two("encoder.1", ops.max_pool2d(encoder[-1][1], window=2, stride=2)[0])))
    up = ops.conv_transpose2d(bottom[-1][1], p["decoder.0.up.weight"], p["decoder.0.up.bias"], stride=2)[0]
    yield "decoder.0.up", up
    yield from (decoder := list(two("decoder.0", np.concatenate([encoder[-1][1], up], axis=-1))))
    yield "head", conv("head", decoder[-1][1], 0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_huge_numbers_are_told_in_the_layer_that_overflows_first():
    seen = set()
    for i, name in enumerate(LAYERS):
        network = Network(1, 2, 2, 1)
        x, target = batch(network)
        for huge in LAYERS[max(i - 1, 0) : i + 1]:
            network.parameters[f"{huge}.weight"][...] *= np.float32(1e30)
        x *= np.float32(1e20 if i == 0 else 1)
        expected = next(name for name, y in by_hand(network.parameters, x) if not np.isfinite(y).all())
        found = diverged.first(network, losses.CrossEntropy(), x, target)
        assert str(found) == f"the output of {expected}"
        seen.add(expected)
    assert seen >= {*LAYERS} - {"decoder.0.up", "decoder.0.conv1"} and len(seen) >= 7


def running(network):
    """The layers that run in a network of depth 1, fused ones too, by name."""
    level, inner = network.u, network.u.inner.steps["encoder.1"]
    found = {"decoder.0.up": level.up, "head": network.head}
    for name, of in (("encoder.0", level.encoder), ("encoder.1", inner), ("decoder.0", level.decoder)):
        path = of.path if isinstance(of, minunet.blocks.Residual) else of
        found |= {f"{name}.{key}": layer for key, layer in path.steps.items()}
        found |= {f"{name}.shortcut": of.shortcut} if path is not of else {}
    return found


@pytest.mark.parametrize("settings", [{}, {"padding": "valid", "dropout": 0.4}, {"block": "residual"}], ids=str)
def test_each_layer_is_named_in_each_direction(settings):
    network = Network(1, 2, 2, 1, **settings)
    x, target = batch(network, 20)

    def found():
        return diverged.first(network, losses.Dice(), x, target, np.random.default_rng(0))

    assert found() is None
    for name, layer in running(network).items():

        def forward(*args, layer=layer, **options):
            y, cache = type(layer).forward(layer, *args, **options)
            y[0, 0, 0, 0] = np.inf
            return y, cache

        def backward(*args, layer=layer, **options):
            dx, grads = type(layer).backward(layer, *args, **options)
            grads["bias"][-1] = np.nan
            return dx, grads

        vars(layer)["forward"] = forward
        assert str(found()) == f"the output of {name}"
        del vars(layer)["forward"]
        vars(layer)["backward"] = backward
        of_block = name.endswith("shortcut")  # whose backward the block calls by itself
        assert str(found()) == f"the gradient of {name.rpartition('.')[0] if of_block else name}"
        del vars(layer)["backward"]
    assert found() is None


def test_the_input_and_the_weights_come_first():
    network = Network(1, 2, 2, 1)
    x, target = batch(network)
    network.parameters["head.weight"][0, 0, 0, 0] = np.nan
    network.parameters["encoder.1.conv2.bias"][1] = -np.inf  # which the relu behind it hides
    assert str(diverged.first(network, losses.CrossEntropy(), x, target)) == "encoder.1.conv2.bias"
    x[1, 2, 3, 0] = np.inf
    assert str(diverged.first(network, losses.CrossEntropy(), x, target)) == "the input"


def test_a_skips_two_gradients_that_overflow_where_they_meet_are_the_levels(monkeypatch):
    network = Network(1, 2, 2, 1)
    x, target = batch(network)

    def added(dskip, dx, cache):
        return np.full_like(dskip, np.inf)

    monkeypatch.setattr("minunet.network.fusions.max_pool2d_backward_plus", added)
    assert str(diverged.first(network, losses.CrossEntropy(), x, target)) == "the gradient of level 0"


def fitted(**settings):
    return UNet(**SMALL | {"max_epochs": 1} | settings).fit(*images())


@pytest.mark.parametrize(("bad", "what"), [(np.nan, "the loss is nan"), (-np.inf, "the weights are not finite")])
def test_a_weight_that_was_not_finite_before_a_warm_start_is_named(bad, what):
    """Of minus infinity, which a relu hides, nobody would hear from the loss or the gradient."""
    unet = fitted()
    unet.network_.parameters["encoder.0.conv2.bias"][...] = bad
    found = told(unet.set_params(warm_start=True))
    assert (found["what"], found["step"], found["where"]) == (what, "1", "encoder.0.conv2.bias")
    assert found["advice"] == (
        "encoder.0.conv2.bias was not finite before the training: begin with new weights (warm_start=False, no --init)"
    )
    unet.set_params(warm_start=False).fit(*images())
    assert set(np.unique(unet.predict(images()[0]))) <= {0, 1}


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_callback_that_spoils_the_weights_is_named(epoch):
    class Spoil:
        def set_model(self, unet):
            self.unet = unet

        def on_epoch_end(self, now, logs):
            if now == epoch:
                self.unet.network_.parameters["decoder.0.up.bias"][1] = np.nan

    keep, unet = Keep(), UNet(**SMALL)
    with pytest.raises(FloatingPointError) as raised:
        unet.fit(*images(), callbacks=[keep, Spoil()])
    n = STEPS * (epoch + 1)
    assert str(raised.value) == (
        f"the callback Spoil left weights that are not finite, first in decoder.0.up.bias, at step {n} (the end of epoch "
        f"{epoch + 1}, learning rate {rate(unet, n):g}). The model keeps those from before, of the end of epoch {epoch + 1}; "
        "mend the callback, or train without it"
    )
    assert unet.network_.flat.tobytes() == keep.weights[epoch].tobytes() and unet.n_iter_ == epoch + 1 and predicts(unet)


def test_an_image_with_nan_is_refused_before_training_and_each_way_out_works():
    x, y = images()
    x[1, 3, 4] = np.nan
    unet = UNet(**SMALL | {"max_epochs": 1})
    with pytest.raises(ValueError, match=r"x\[1\] holds 1 NaN value.*np\.ma\.masked_invalid hides.*sample_weight of 0 in fit"):
        unet.fit(x, y)
    assert not hasattr(unet, "network_")
    masked = unet.fit(np.ma.masked_invalid(x), y).network_.flat.copy()
    unweighted = unet.fit(x, y, sample_weight=np.isfinite(x).astype(float)).network_.flat
    assert np.isfinite(masked).all() and masked.tobytes() == unweighted.tobytes()
    assert set(np.unique(unet.predict(np.ma.masked_invalid(x)).compressed())) <= {0, 1}


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:x.0.:UserWarning")
def test_an_image_of_huge_values_is_named():
    """Models from before there was a limit on scaled values have none."""
    unet = fitted().set_params(warm_start=True)
    unet.normalizer_.limit = None
    x = images()[0]
    x[1, 3, 3:5] = 1e38  # beyond the percentiles
    unet.network_.parameters["encoder.0.conv1.weight"][...] *= 100
    found = told(unet, x)
    assert (found["step"], found["where"]) == ("3", "the output of encoder.0.conv1")  # the first patch of x[1] is that step's
    largest = f"{np.finfo(np.float32).max / 4:g}"
    assert found["advice"] == (
        f"scaled, x[1] has values up to {largest}, where others have about 1: mask or mend them, or take the scale that each "
        'image has by itself (normalize="image", --normalize image) for a new model'
    )
    assert np.isfinite(unet.set_params(warm_start=False).fit(x, images()[1]).history_["loss"]).all()


def test_a_prediction_of_held_out_images_that_overflows_is_told(monkeypatch):
    calls = []

    def swelling(network, *args, **options):
        value = step(network, *args, **options)
        calls.append(1)
        if len(calls) == 2 * STEPS:  # after the last step of the second epoch
            network.flat[...] *= np.float32(1e30)
        return value

    monkeypatch.setattr("minunet.training.loop.step", swelling)
    with np.errstate(all="ignore"):
        found = told(UNet(**SMALL | {"validation_fraction": 0.5}))
    assert (found["what"], found["step"]) == ("the network has no finite answer at 128 of 128 pixels", "50")
    assert found["where"] == "the output of encoder.0.conv2"


def test_a_step_whose_gradient_is_not_finite_moves_neither_weights_nor_moments(backend):
    network, optimizer = Network(1, 2, 2, 1, block=block(Leaf, 1, backward=2)), optim.Adam()
    x, (labels, _) = batch(network)
    step(network, optimizer, x, labels)
    before = network.flat.copy(), *copy.deepcopy(optimizer.moments)
    with pytest.raises(FloatingPointError, match=r"^the gradient is not finite: the network was left as it is$"):
        step(network, optimizer, x, labels)
    assert optimizer.n_updates == 1
    for was, now in zip(before, (network.flat, *optimizer.moments), strict=True):
        assert was.tobytes() == now.tobytes()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_update_that_makes_weights_infinite_is_told_in_that_step(backend):
    network, optimizer = Network(1, 2, 2, 1), optim.SGD(1e37)
    x, (labels, _) = batch(network)
    loss = Own(1, gradient=1e6)
    with pytest.raises(FloatingPointError, match=r"^the weights are not finite: the update was too large, lower the "):
        step(network, optimizer, x, labels, loss=loss)
    assert optimizer.n_updates == 1 and not np.isfinite(network.flat).all()


def test_weights_that_an_update_made_infinite_are_told_in_that_step_of_a_training():
    own = Own(STEPS + 2, gradient=1e20, before=0)
    found = told(UNet(**SMALL, loss=own, optimizer="sgd", learning_rate=1e22))
    assert (found["what"], found["step"], found["where"]) == ("the weights are not finite", "27", "encoder.0.conv1.weight")
    assert found["advice"] == "try a lower learning rate: learning_rate=0.01 (--learning-rate 0.01)"


def test_a_training_that_went_on_within_an_epoch_keeps_the_weights_of_its_checkpoint(monkeypatch, tmp_path):
    left = [STEPS + 3]

    def stopped(*args, **options):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return step(*args, **options)

    monkeypatch.setattr("minunet.training.loop.step", stopped)
    with pytest.warns(UserWarning, match="interrupted after 28 steps"):
        UNet(**SMALL).fit(*images(), checkpoint=tmp_path / "c")
    kept = minunet.load(tmp_path / "c").network_.flat
    monkeypatch.setattr("minunet.training.loop.step", lambda *_, **__: np.float32(np.nan))
    unet = UNet(**SMALL)
    with pytest.raises(FloatingPointError, match=r"nan at step 29 \(epoch 2, .*The model keeps the weights of the checkpoint;"):
        unet.fit(*images(), checkpoint=tmp_path / "c", resume=True)
    assert unet.network_.flat.tobytes() == kept.tobytes() and unet.n_iter_ == 1


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_step_is_run_again_with_its_own_batch_and_dropout(monkeypatch, device):
    """On a GPU, too, where the next step is under way when the loss is read."""
    given, again = [], []

    def seen(network, optimizer, x, labels, *, rng, **options):
        given.append((x, labels, rng.bit_generator.state))
        return np.float32(np.nan if len(given) == STEPS + 3 else 0.5)

    def first(network, loss, x, target, rng):
        again.append((x, target.labels, rng.bit_generator.state))

    monkeypatch.setattr("minunet.training.loop.step", seen)
    monkeypatch.setattr(diverged, "first", first)
    with emulated(strict=True), pytest.raises(FloatingPointError, match=r"at step 28 \(epoch 2, "):
        UNet(**SMALL | {"device": device}).fit(*images())
    assert len(given) == STEPS + (3 if device == "cpu" else 4) and len(again) == 1
    for was, now in zip(given[STEPS + 2], again[0], strict=True):
        np.testing.assert_equal(now, was)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_on_a_gpu_the_step_is_the_one_whose_loss_was_not_finite(optimizer):
    settings = SMALL | {"optimizer": optimizer, "learning_rate": 1e30}
    here = told(UNet(**settings))
    with emulated(strict=True):
        there = told(UNet(**settings | {"device": "gpu", "precision": "float32"}))
    assert there.groupdict() == here.groupdict()


@pytest.mark.parametrize(
    ("losses", "rose"),
    [
        ([1.0, 2.0], ""), ([1.0, 2.01], " (the loss had risen from 1 to 2.01)"), ([3.0], ""), ([], ""),
        ([0.5, *[2.0] * 10], ""), ([0.5, *[2.0] * 9], " (the loss had risen from 0.5 to 2)"), ([0.5, 9.0, 0.9], ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("rate", "lower"), [(0.02, "0.002"), (0.1, "0.01"), (7.0, "0.01")])
def test_the_loss_had_risen_where_it_is_above_twice_the_least_of_ten(losses, rose, rate, lower):
    loop = SimpleNamespace(at=SimpleNamespace(losses=losses), schedule=SimpleNamespace(learning_rate=rate))
    assert diverged._rate(loop) == f"try a lower learning rate{rose}: learning_rate={lower} (--learning-rate {lower})"
