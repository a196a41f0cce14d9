"""What a training's settings do, by value: its learning rates, its decay, its longest gradient, and the mean of its weights."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from cuda_on_cpu.door import emulated

import minunet
from minunet import Network, UNet, fitting, kernels, losses, optim
from minunet.evaluation.held_out import Validation
from minunet.training import loop, step

STEPS = 4  # of an epoch
SMALL = {
    "base_channels": 2, "depth": 1, "patch_size": 16, "batch_size": 2, "max_epochs": 3, "verbose": 0, "random_state": 5,
    "validation_fraction": 0.4, "n_threads": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    monkeypatch.setattr("minunet.training.schedule.MIN_STEPS", STEPS)


@pytest.fixture
def steps(monkeypatch):
    """Each step's weights, before and after, and its learning rate."""
    made = []

    def recorded(network, optimizer, *arguments, **options):
        before = network.flat.copy()
        loss = real(network, optimizer, *arguments, **options)
        made.append((before, network.flat.copy(), optimizer.learning_rate))
        return loss

    real = loop.step
    monkeypatch.setattr(loop, "step", recorded)
    return made


def images(seed=0, n=5):
    x = np.random.default_rng(seed).random((n, 20, 24), np.float32)
    return x, (x > 0.6).astype(int)


def fit(data=None, *, callbacks=(), **settings):
    return UNet(**SMALL | settings).fit(*(data or images()), callbacks=callbacks)


# ---- Learning rates ----

def test_it_warms_up_from_a_hundredth_and_the_schedule_has_the_rest(steps):
    fit(schedule="cosine", warm_up=0.25, learning_rate=0.02)
    rates = np.array([rate for *_, rate in steps]) / 0.02
    rest = (np.arange(3, 12) / 12 - 0.25) / 0.75
    np.testing.assert_allclose(rates[:3], [0.01, 0.01 + 0.99 / 3, 0.01 + 0.99 * 2 / 3], rtol=1e-12)
    np.testing.assert_allclose(rates[3:], 0.5 + 0.5 * np.cos(np.pi * rest), rtol=1e-12)
    assert rates.max() == 1


def test_a_plateau_of_what_is_held_out_divides_it_by_ten(monkeypatch):
    monkeypatch.setattr("minunet.training.schedule.MIN_STEPS", 1)
    real = fitting.validate
    still = {"val_loss": 0.8}
    monkeypatch.setattr(fitting, "validate", lambda *given, **options: Validation(real(*given, **options).figures | still))
    history = fit(images(n=1), schedule="plateau", max_epochs=7, learning_rate=0.02).history_
    np.testing.assert_allclose(history["learning_rate"], [0.02] * 6 + [0.002], rtol=1e-12)


def test_a_rise_of_its_own_and_a_warm_up_are_one_too_many():
    with pytest.raises(ValueError, match=r"^warm_up is 0.1; it takes 0 with schedule='one_cycle' \(--schedule one_cycle\)"):
        fit(schedule="one_cycle", warm_up=0.1)


# ---- The update ----


@pytest.mark.parametrize(
    ("settings", "kind", "has"),
    [
        ({"weight_decay": 0.25}, optim.Adam, {"weight_decay": 0.25}),
        ({}, optim.Adam, {"weight_decay": 0.0}),
        ({"optimizer": "adamw"}, optim.AdamW, {"weight_decay": 0.01}),
        ({"optimizer": "adamw", "weight_decay": 0.0}, optim.AdamW, {"weight_decay": 0.0}),
        ({"optimizer": "sgd", "momentum": 0.5}, optim.SGD, {"weight_decay": 0.0, "momentum": 0.5, "nesterov": False}),
        ({"optimizer": "nesterov", "weight_decay": 0.5}, optim.SGD, {"weight_decay": 0.5, "momentum": 0.9, "nesterov": True}),
    ],
)
def test_the_optimizer_is_the_one_described(settings, kind, has):
    optimizer = fitting.optimizer_of(UNet(learning_rate=0.25, **settings))
    assert type(optimizer) is kind and {name: getattr(optimizer, name) for name in has} == has
    assert optimizer.learning_rate == 0.25


def test_adamw_is_adam_with_weight_decay():
    adamw, adam, plain = (
        fit(max_epochs=1, **settings).network_.flat.tobytes()
        for settings in ({"optimizer": "adamw"}, {"weight_decay": 0.01}, {})
    )
    assert adamw == adam != plain


def test_no_step_is_longer_than_the_longest_gradient_allows(steps):
    """Of SGD without momentum: the learning rate times the norm, which is far below any of these gradients'."""
    fit(optimizer="sgd", momentum=0.0, learning_rate=10.0, clip_norm=1e-3, max_epochs=1)
    lengths = [np.linalg.norm((after - before).astype(float)) / rate for before, after, rate in steps]
    np.testing.assert_allclose(lengths, 1e-3, rtol=1e-3)  # of differences of float32


class Steep(losses.Loss):
    """Its gradient is finite, and no sum of it is."""

    def value_and_grad(self, logits, target):
        return np.float32(1.0), np.full_like(logits, 3e38)


def test_a_clipped_gradient_that_is_not_finite_is_refused_all_the_same():
    network, optimizer = Network(1, 2, 2, 1), optim.Adam()
    before, x, labels = network.flat.copy(), np.ones((1, 8, 8, 1), np.float32), np.zeros((1, 8, 8), int)
    says = "the gradient is not finite: the network was left as it is"
    with pytest.raises(FloatingPointError, match=says), np.errstate(over="ignore"):
        step(network, optimizer, x, labels, loss=Steep(), clip_norm=1.0)
    np.testing.assert_array_equal(network.flat, before)
    assert optimizer.n_updates == 0


@pytest.mark.parametrize("most", [0, -1.0, np.nan, "1", True])
def test_a_longest_gradient_is_a_number_above_0(most):
    with pytest.raises(ValueError, match=r"^clip_norm is .*; it takes None or a number above 0"):
        step(Network(1, 2, 2, 1), optim.Adam(), np.ones((1, 8, 8, 1), np.float32), np.zeros((1, 8, 8), int), clip_norm=most)


# ---- The mean of the weights ----


def mean_of(steps, decay):
    """Return the mean after each step, in float64."""
    mean, found = steps[0][0].astype(float), []
    for t, (_, after, _) in enumerate(steps, 1):
        keep = min(decay, (1 + t) / (10 + t))
        mean = keep * mean + (1 - keep) * after
        found.append(mean)
    return found


class Seen:
    """What the network has at the end of each epoch."""

    def set_model(self, unet):
        self.unet, self.flats = unet, []

    def on_epoch_end(self, epoch, logs):
        self.flats.append(self.unet.network_.flat.copy())


@pytest.mark.parametrize("decay", [0.999, 0.3])
def test_the_model_is_the_mean_and_the_training_does_not_notice(steps, monkeypatch, decay, tmp_path):
    monkeypatch.setattr("minunet.training.average.PIECE", 100)  # the weights are exchanged in several
    x, y = images(1)
    plain = UNet(**SMALL, schedule="constant").fit(*images(), validation_data=(x, y))
    without, seen = [after.tobytes() for _, after, _ in steps], Seen()
    steps.clear()
    unet = UNet(**SMALL, schedule="constant", average=decay).fit(*images(), validation_data=(x, y), callbacks=[seen])
    assert [after.tobytes() for _, after, _ in steps] == without
    assert all(before.tobytes() == after for (before, *_), after in zip(steps[1:], without, strict=False))
    means, ends = mean_of(steps, decay), unet.history_["steps"]
    np.testing.assert_allclose(seen.flats, [means[n - 1] for n in ends], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(unet.network_.flat, seen.flats[-1])
    assert np.abs(unet.network_.flat - plain.network_.flat).max() > 1e-4
    assert unet.score(x, y) == pytest.approx(unet.history_["val_dice"][-1], rel=1e-12)
    unet.save(tmp_path / "model")
    np.testing.assert_array_equal(minunet.load(tmp_path / "model").network_.flat, unet.network_.flat)


def test_a_training_that_is_interrupted_leaves_the_mean_of_its_last_step(steps, monkeypatch):
    def pressed(*arguments, **options):
        if len(steps) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **options)

    real = loop.step
    monkeypatch.setattr(loop, "step", pressed)
    with pytest.warns(UserWarning, match="interrupted after 6 steps"):
        unet = fit(average=0.9)
    assert len(steps) == 6
    np.testing.assert_allclose(unet.network_.flat, mean_of(steps, 0.9)[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("error", [FloatingPointError, KeyboardInterrupt])
def test_a_training_that_fails_leaves_the_mean_of_the_last_epoch(steps, monkeypatch, error):
    def failing(network, *arguments, **options):
        if len(steps) == 6:
            network.flat[...] = np.nan
            raise error
        return real(network, *arguments, **options)

    real, unet, seen = loop.step, UNet(**SMALL, average=0.9), Seen()
    monkeypatch.setattr(loop, "step", failing)
    with pytest.raises(error):
        unet.fit(*images(), callbacks=[seen])
    np.testing.assert_array_equal(unet.network_.flat, seen.flats[-1])
    np.testing.assert_allclose(unet.network_.flat, mean_of(steps, 0.9)[STEPS - 1], rtol=1e-5, atol=1e-6)


@pytest.mark.skipif("cpu" not in kernels.available(), reason="what is compared with are the CPU kernels")
def test_a_gpu_clips_and_averages_alike(monkeypatch):
    monkeypatch.setattr("minunet.training.average.PIECE", 50)
    settings = {"base_channels": 1, "depth": 0, "max_epochs": 2, "batch_size": 1, "augment": False}
    settings |= {"average": 0.5, "clip_norm": 0.05, "optimizer": "nesterov", "learning_rate": 0.5}
    here = fit(**settings).network_.flat
    with emulated(strict=True):
        there = kernels.to_host(fit(**settings, device="gpu", precision="float32").network_.flat)
    np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-5)
    assert np.abs(here - fit(**settings | {"clip_norm": None}).network_.flat).max() > 1e-3
