"""Every parameter of UNet does what it is for, by value: what each step of a training was given, and made of it.

SHOWN says where each parameter's effect is shown, here or elsewhere: one that comes without a row fails.
"""

from __future__ import annotations

import copy
import inspect
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from shown import assert_there

from minunet import Network, UNet, devices, kernels, losses
from minunet.data.augment import symmetry
from minunet.training import loop

HERE = "minunet/test_settings.py"

# A parameter of UNet, the file of tests, and the test in it that demands what the parameter is for.
SHOWN = {
    "base_channels": (HERE, "test_the_network_is_the_one_described"),
    "depth": (HERE, "test_the_network_is_the_one_described"),
    "padding": (HERE, "test_the_network_is_the_one_described"),
    "dropout": (HERE, "test_the_network_is_the_one_described"),
    "block": (HERE, "test_the_network_is_the_one_described"),
    "norm": (HERE, "test_the_network_is_the_one_described"),
    "deep_supervision": (HERE, "test_the_network_is_the_one_described"),
    "algorithm": (HERE, "test_the_network_is_the_one_described"),
    "loss": (HERE, "test_each_step_minimises_the_loss_that_is_named"),
    "class_weight": (HERE, "test_each_step_weighs_the_classes_as_told"),
    "border_weight": (HERE, "test_each_step_weighs_the_pixels_at_borders_as_told"),
    "optimizer": (HERE, "test_the_first_step_of_each_optimizer"),
    "learning_rate": (HERE, "test_a_step_is_as_long_as_the_learning_rate_says"),
    "momentum": (HERE, "test_momentum_repeats_so_much_of_the_step_before"),
    "weight_decay": (HERE, "test_weights_decay_by_the_very_amount"),
    "schedule": (HERE, "test_each_step_has_the_learning_rate_of_its_schedule"),
    "warm_up": (HERE, "test_each_step_has_the_learning_rate_of_its_schedule"),
    "clip_norm": (HERE, "test_a_gradient_is_cut_to_the_length_that_is_told"),
    "average": (HERE, "test_the_model_is_the_mean_that_the_decay_says"),
    "batch_size": (HERE, "test_a_step_sees_so_many_patches_of_that_size"),
    "patch_size": (HERE, "test_a_step_sees_so_many_patches_of_that_size"),
    "max_epochs": (HERE, "test_there_are_so_many_epochs"),
    "max_minutes": (HERE, "test_minutes_end_a_training_and_lower_its_learning_rate"),
    "augment": (HERE, "test_patches_are_changed_as_told_and_not_otherwise"),
    "normalize": (HERE, "test_patches_are_scaled_by_the_percentiles_that_are_told"),
    "context": ("minunet/data/test_stacks.py", "test_a_slice_is_seen_between_the_one_before_and_the_one_after"),
    "validation_fraction": (HERE, "test_so_many_images_are_held_out_and_none_of_them_is_trained_on"),
    "early_stopping": ("minunet/training/test_patience.py", "test_without_it_the_model_is_that_of_the_last_epoch"),
    "n_iter_no_change": ("minunet/training/test_patience.py", "test_the_model_is_that_of_the_best_epoch_to_the_bit"),
    "tol": ("minunet/training/test_patience.py", "test_the_model_is_that_of_the_best_epoch_to_the_bit"),
    "threshold": (
        "minunet/test_thresholds.py",
        "test_a_number_is_where_the_second_class_begins_in_predict_and_score_and_the_history",
    ),
    "target": ("minunet/test_targets.py", "test_what_is_trained_on_are_ground_inside_and_border"),
    "warm_start": (HERE, "test_a_warm_start_begins_where_the_last_fit_ended_and_no_other_does"),
    "random_state": (HERE, "test_each_seed_has_a_split_weights_patches_and_dropout_of_its_own"),
    "device": (HERE, "test_training_and_prediction_compute_where_and_how_they_are_told"),
    "n_threads": (HERE, "test_training_and_prediction_compute_where_and_how_they_are_told"),
    "precision": (HERE, "test_training_and_prediction_compute_where_and_how_they_are_told"),
    "verbose": (HERE, "test_a_silent_training_prints_nothing_and_another_an_epoch_a_line"),
}

SMALL: dict[str, Any] = {
    "base_channels": 2, "depth": 1, "patch_size": 16, "batch_size": 2, "max_epochs": 1, "augment": False, "schedule": "constant",
    "validation_fraction": 0, "random_state": 5, "device": "cpu", "verbose": 0,
}  # fmt: skip
STEPS = 3  # an epoch


@dataclass(repr=False)
class Step:
    """What a step of a training was given, and the weights before and after it."""

    x: np.ndarray
    labels: np.ndarray
    options: dict[str, Any]
    learning_rate: float
    draws: tuple[float, ...]  # the numbers that dropout would draw first
    before: np.ndarray
    after: np.ndarray

    @property
    def change(self):
        """What was added to the weights."""
        return self.after.astype(np.float64) - self.before


@pytest.fixture
def steps(monkeypatch):
    """Return what lists the steps of all trainings of a test, each epoch having three."""
    found: list[Step] = []

    def step(network, optimizer, x, labels, _step=loop.step, **options):
        draws, before = tuple(copy.deepcopy(options["rng"]).random(4)), network.flat.copy()
        value = _step(network, optimizer, x, labels, **options)
        found.append(Step(x.copy(), labels.copy(), options, optimizer.learning_rate, draws, before, network.flat.copy()))
        return value

    monkeypatch.setattr("minunet.training.loop.step", step)
    monkeypatch.setattr("minunet.fitting.steps_per_epoch", lambda *_: STEPS)
    # To foretell memory takes as long as to fit.
    monkeypatch.setattr("minunet.training.budget.Training.require", lambda self: None)
    return found


def noise(n=3, shape=(24, 28)):
    """Return images whose masks are noise, too: a patch of one tells where it was taken."""
    x = np.random.default_rng(0).random((n, *shape))
    return x, (x > 0.7).astype(np.int64)


def trained(steps, x=None, y=None, **settings):
    """Return the steps of a training with these settings, and the UNet."""
    x, y = noise() if x is None else (x, y)
    first = len(steps)
    unet = UNet(**SMALL | settings).fit(x, y)
    return steps[first:], unet


def found_in(labels, y, turns=(0,)):
    """Return the image, the row and the column where a patch's labels were taken, and which symmetry was; None if nowhere."""
    for k in turns:
        turned = symmetry(labels, k)
        h, w = turned.shape
        windows = np.lib.stride_tricks.sliding_window_view(y, (h, w), axis=(1, 2))
        places = np.argwhere((windows == turned).all(axis=(3, 4)))
        if len(places):
            return (*places[0], k)
    return None


# ---- The table -----------------------------------------------------------------------------------------------------------


def test_every_parameter_has_a_test_that_shows_its_effect():
    assert set(SHOWN) == set(inspect.signature(UNet.__init__).parameters) - {"self"}


def test_the_tests_that_are_named_are_there():
    assert_there(SHOWN)


# ---- The network ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_channels", 3), ("depth", 2), ("padding", "valid"), ("dropout", 0.25), ("block", "residual"), ("norm", "group"),
        ("deep_supervision", True), ("algorithm", "direct"),
    ],
)  # fmt: skip
def test_the_network_is_the_one_described(steps, name, value):
    more = {"depth": 2} if name == "deep_supervision" else {}
    described = {"base_channels": 2, "depth": 1} | more | {name: value}
    _, unet = trained(steps, **described)
    wanted = Network(in_channels=1, out_channels=2, random_state=5, dtype="float32", **described)
    usual = Network(in_channels=1, out_channels=2, random_state=5, dtype="float32", **{"base_channels": 2, "depth": 1} | more)
    assert unet.network_.config == wanted.config != usual.config
    assert steps[0].before.tobytes() == wanted.flat.tobytes()
    x = np.random.default_rng(0).random((1, 44, 44, 1), dtype=np.float32)
    wanted.flat[...], wanted.state.flat[...] = unet.network_.flat, unet.network_.state.flat
    assert unet.network_.forward(x)[0].tobytes() == wanted.forward(x)[0].tobytes()


# ---- The loss ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["cross_entropy", "dice", "cross_entropy+dice", "tversky", "focal"])
def test_each_step_minimises_the_loss_that_is_named(steps, loss):
    _, unet = trained(steps, loss=loss)
    seen = [step.options["loss"] for step in steps]
    assert len(seen) == STEPS and all(type(one) is type(losses.resolve(loss)) for one in seen)
    network = Network(in_channels=1, out_channels=2, base_channels=2, depth=1, random_state=5, dtype="float32")
    values = []
    for step in steps:
        network.flat[...] = step.before
        logits, target = network.forward(step.x)[0], losses.target(step.labels, (2, 16, 16, 2), np.float32)
        values.append(float(losses.resolve(loss).value_and_grad(logits, target)[0]))
    assert unet.history_["loss"] == pytest.approx([np.mean(values)], rel=1e-5)


@pytest.mark.parametrize(("given", "wanted"), [(None, None), ({0: 0.5, 1: 3.0}, [0.5, 3.0]), ([2.0, 0.25], [2.0, 0.25])])
def test_each_step_weighs_the_classes_as_told(steps, given, wanted):
    trained(steps, class_weight=given)
    for step in steps:
        seen = step.options["class_weight"]
        assert seen is None if wanted is None else np.array_equal(seen, wanted)


def test_balanced_classes_weigh_in_every_step_as_much_as_they_are_rare(steps):
    x, y = noise()
    y[:, :, 7:] = 0
    trained(steps, x, y, class_weight="balanced")
    counts = np.bincount(y.ravel())
    for step in steps:
        weights = step.options["class_weight"]
        assert weights[1] / weights[0] == pytest.approx(counts[0] / counts[1], rel=1e-6)


def test_each_step_weighs_the_pixels_at_borders_as_told(steps):
    y = np.zeros((1, 16, 16), np.int64)
    y[0, 2:14, 2:7], y[0, 2:14, 9:14] = 1, 1  # the gap between has columns 7 and 8
    x = np.random.default_rng(0).random(y.shape)
    trained(steps, x, y, border_weight=(8.0, 2.0))
    for step in steps:
        weights, labels = step.options["weights"], step.labels
        assert np.array_equal(labels[0], y[0]) and np.all(weights[labels == 1] == 1)
        assert weights[0, 8, 7:9] == pytest.approx(1 + 8 * math.exp(-((1 + 2) ** 2) / (2 * 2.0**2)), rel=1e-6)
    plain, _ = trained(steps, x, y)
    assert all(step.options["weights"] is None or np.all(step.options["weights"] == 1) for step in plain)


# ---- The optimizer -------------------------------------------------------------------------------------------------------


def test_the_first_step_of_each_optimizer(steps):
    rate, momentum = 0.01, 0.75
    changes = {
        name: trained(steps, optimizer=name, learning_rate=rate, momentum=momentum)[0][0].change
        for name in ("adam", "adamw", "sgd", "nesterov")
    }
    start, gradient = steps[0].before, -changes["sgd"] / rate
    assert changes["nesterov"] == pytest.approx((1 + momentum) * changes["sgd"], rel=1e-3, abs=1e-7)
    large = np.abs(gradient) > 1e-3  # beside Adam's epsilon
    assert large.sum() > 50 and changes["adam"][large] == pytest.approx(-rate * np.sign(gradient[large]), rel=1e-3)
    assert changes["adamw"] == pytest.approx(changes["adam"] - rate * 0.01 * start, abs=2e-7)
    assert np.abs(rate * 0.01 * start).max() > 5e-6


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_step_is_as_long_as_the_learning_rate_says(steps, optimizer):
    short, _ = trained(steps, optimizer=optimizer, learning_rate=0.002)
    long, _ = trained(steps, optimizer=optimizer, learning_rate=0.02)
    assert long[0].change == pytest.approx(10 * short[0].change, rel=1e-2, abs=1e-6)
    assert np.abs(long[0].change).max() > 1e-3


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_momentum_repeats_so_much_of_the_step_before(steps, momentum):
    without, _ = trained(steps, optimizer="sgd", learning_rate=0.05, momentum=0.0)
    with_it, _ = trained(steps, optimizer="sgd", learning_rate=0.05, momentum=momentum)
    assert np.array_equal(without[0].after, with_it[0].after)  # so that the second gradient is the same
    assert with_it[1].change - without[1].change == pytest.approx(momentum * without[0].change, abs=1e-6)
    assert np.abs(without[0].change).max() > 1e-3


@pytest.mark.parametrize(("optimizer", "decay"), [("adam", 0.5), ("adamw", 2.0), ("sgd", 0.5), ("nesterov", 2.0)])
def test_weights_decay_by_the_very_amount(steps, optimizer, decay):
    settings = {"optimizer": optimizer, "learning_rate": 0.05, "momentum": 0.5}
    without, _ = trained(steps, **settings, weight_decay=0.0)
    with_it, _ = trained(steps, **settings, weight_decay=decay)
    shrunk = (1.5 if optimizer == "nesterov" else 1) * 0.05 * decay * without[0].before
    assert with_it[0].change == pytest.approx(without[0].change - shrunk, abs=1e-6)
    assert np.abs(shrunk).max() > 0.01


AT = {
    "constant": lambda s: 1.0, "poly": lambda s: (1 - s) ** 0.9, "cosine": lambda s: (1 + math.cos(math.pi * s)) / 2,
    "step": lambda s: 1.0 if s < 0.5 else 0.1 if s < 0.75 else 0.01,
}  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "warm_up"), [("constant", 0.0), ("poly", 0.0), ("poly", 0.5), ("cosine", 0.0), ("step", 0.0), ("step", 0.25)]
)
def test_each_step_has_the_learning_rate_of_its_schedule(steps, schedule, warm_up):
    _, unet = trained(steps, schedule=schedule, warm_up=warm_up, learning_rate=0.02, max_epochs=2)
    for i, step in enumerate(steps):
        spent = i / (2 * STEPS)
        share = 0.01 + 0.99 * spent / warm_up if spent < warm_up else AT[schedule]((spent - warm_up) / (1 - warm_up))
        assert step.learning_rate == pytest.approx(0.02 * share, rel=1e-9), i
    assert [steps[2].learning_rate, steps[5].learning_rate] == unet.history_["learning_rate"] and len(steps) == 6


@pytest.mark.parametrize("most", [1e-3, 0.02])
def test_a_gradient_is_cut_to_the_length_that_is_told(steps, most):
    settings = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 1.0}
    free, _ = trained(steps, **settings)
    cut, _ = trained(steps, **settings, clip_norm=most)
    length = np.linalg.norm(free[0].change)
    assert length > 1.5 * most and np.linalg.norm(cut[0].change) == pytest.approx(most, rel=1e-3)
    assert cut[0].change == pytest.approx(free[0].change * most / length, abs=1e-6)
    roomy, _ = trained(steps, **settings, clip_norm=2 * length)
    assert np.array_equal(roomy[0].after, free[0].after)


def test_the_model_is_the_mean_that_the_decay_says(steps):
    plain, _ = trained(steps, learning_rate=0.05)
    for decay in (0.05, 0.3):
        _, unet = trained(steps, learning_rate=0.05, average=decay)
        mean = plain[0].before.astype(np.float64)
        for n, step in enumerate(plain, 1):
            keep = min(decay, (1 + n) / (10 + n))
            mean = keep * mean + (1 - keep) * step.after
        assert unet.network_.flat == pytest.approx(mean, abs=1e-6)


# ---- Patches -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "patch_size", "side"), [(1, 16, 16), (3, 12, 12), (2, 9, 8), (5, 99, 28)])
def test_a_step_sees_so_many_patches_of_that_size(steps, batch_size, patch_size, side):
    trained(steps, batch_size=batch_size, patch_size=patch_size)
    assert [step.x.shape for step in steps] == [(batch_size, side, side, 1)] * STEPS
    assert [step.labels.shape for step in steps] == [(batch_size, side, side)] * STEPS


@pytest.mark.parametrize("n", [1, 3])
def test_there_are_so_many_epochs(steps, n):
    _, unet = trained(steps, max_epochs=n)
    assert unet.n_iter_ == n and len(steps) == n * STEPS and len(unet.history_["loss"]) == n


def test_minutes_end_a_training_and_lower_its_learning_rate(steps, monkeypatch):
    now = [0.0]

    def read(self):
        now[0] += 1.0  # a look at the clock takes a second
        return now[0]

    monkeypatch.setattr("minunet.training.stopwatch.Stopwatch.read", read)
    _, unet = trained(steps, max_epochs=1000, max_minutes=1.0, schedule="poly", learning_rate=0.02)
    assert 1 <= unet.n_iter_ < 25 and len(steps) < 60
    rates = [step.learning_rate for step in steps]
    assert rates == sorted(rates, reverse=True) and 0.018 < rates[0] < 0.02 and rates[-1] < 0.003


def test_patches_are_changed_as_told_and_not_otherwise(steps):
    x, y = noise()
    scaled = UNet(**SMALL | {"max_epochs": 1}).fit(x, y).normalizer_
    ready = [scaled(image[..., None])[..., 0] for image in x]
    del steps[:]
    for augment, turns in ((False, (0,)), ("flips", range(8))):
        seen, _ = trained(steps, x, y, augment=augment, batch_size=4)
        patches = [(patch[..., 0], labels) for step in seen for patch, labels in zip(step.x, step.labels, strict=True)]
        taken = [found_in(labels, y, turns) for _, labels in patches]
        assert None not in taken and (augment is False or len({k for *_, k in taken}) > 2)
        assert len({place[:3] for place in taken}) > 6  # and not always the same
        for (patch, _), (i, row, col, k) in zip(patches, taken, strict=True):
            assert np.array_equal(symmetry(patch, k), ready[i][row : row + 16, col : col + 16])
    seen, _ = trained(steps, x, y, augment=True, batch_size=4)
    assert None in [found_in(labels, y, range(8)) for step in seen for labels in step.labels]


@pytest.mark.parametrize(("normalize", "low", "high"), [("image", 1, 99), ((5, 80), 5, 80), ("dataset", 1, 99)])
def test_patches_are_scaled_by_the_percentiles_that_are_told(steps, normalize, low, high):
    x, y = noise()
    x *= np.array([1.0, 2.0, 3.0])[:, None, None]
    seen, _ = trained(steps, x, y, normalize=normalize, batch_size=4)
    for step in seen:
        for patch, labels in zip(step.x, step.labels, strict=True):
            i, row, col, _ = found_in(labels, y)
            a, b = np.percentile(x if normalize == "dataset" else x[i], (low, high))
            wanted = 2 * (x[i] - a) / (b - a) - 1
            assert patch[..., 0] == pytest.approx(wanted[row : row + 16, col : col + 16], abs=0.02)


# ---- What is held out, and the seeds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fraction", "n"), [(0, 0), (0.1, 2), (0.25, 5), (0.5, 10)])
def test_so_many_images_are_held_out_and_none_of_them_is_trained_on(steps, fraction, n):
    x, y = noise(20)
    seen, unet = trained(steps, x, y, validation_fraction=fraction, batch_size=16)
    held = {part.image for part in unet.held_out_}
    taken = {found_in(labels, y)[0] for step in seen for labels in step.labels}
    assert len(held) == n and not held & taken and (("val_dice" in unet.history_) == (n > 0))
    assert len(taken) > (20 - n) / 2


def test_each_seed_has_a_split_weights_patches_and_dropout_of_its_own(steps):
    x, y = noise(20)
    seeds = (0, 1, 7)
    splits, weights, places, draws = [], [], [], []
    for seed in seeds:
        settings = {"random_state": seed, "dropout": 0.5, "max_epochs": 2}
        seen, unet = trained(steps, x, y, validation_fraction=0.25, **settings)
        assert unet.random_state_ == seed
        splits.append(tuple(part.image for part in unet.held_out_))
        weights.append(seen[0].before.tobytes())
        seen, _ = trained(steps, x, y, **settings)  # of all images, so that nothing but the seed moves the patches
        places += [tuple(found_in(labels, y) for labels in step.labels) for step in seen]
        draws += [step.draws for step in seen]
    assert len(set(splits)) == len(set(weights)) == len(seeds)
    assert len(set(places)) == len(set(draws)) == len(seeds) * 2 * STEPS  # in each step of each epoch others


def test_each_seed_augments_in_its_own_way(steps):
    x, y = noise(1, (16, 16))  # of which there is one patch
    seen = [trained(steps, x, y, augment=True, batch_size=1, random_state=seed)[0] for seed in (0, 1, 2)]
    assert len({step.x.tobytes() for one in seen for step in one}) == 3 * STEPS


def test_without_a_seed_each_training_draws_one_and_keeps_it(steps):
    first, unet = trained(steps, random_state=None)
    other, another = trained(steps, random_state=None)
    assert unet.random_state_ != another.random_state_
    again, _ = trained(steps, random_state=unet.random_state_)
    assert again[-1].after.tobytes() == first[-1].after.tobytes() != other[-1].after.tobytes()


def test_a_warm_start_begins_where_the_last_fit_ended_and_no_other_does(steps):
    x, y = noise()
    unet = UNet(**SMALL).fit(x, y)
    ended = unet.network_.flat.copy()
    unet.set_params(warm_start=True).fit(x, y)
    assert np.array_equal(steps[STEPS].before, ended) and not np.array_equal(ended, steps[0].before)
    unet.set_params(warm_start=False).fit(x, y)
    assert np.array_equal(steps[2 * STEPS].before, steps[0].before)


# ---- The machine ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 2])
def test_training_and_prediction_compute_where_and_how_they_are_told(steps, monkeypatch, n_threads):
    told = []

    def computing(place, *, _computing=devices.computing, **options):
        told.append((place, options))
        return _computing(place, **options)

    monkeypatch.setattr("minunet.devices.computing", computing)
    asked = []
    monkeypatch.setattr(Network, "to", lambda self, device, _to=Network.to: asked.append(device) or _to(self, device))
    _, unet = trained(steps, n_threads=n_threads, precision="float32", device="cpu", verbose=0)
    assert kernels.place(unet.network_.flat) == "cpu" and asked == ["cpu"]
    in_training = len(told)
    unet.predict(noise()[0])
    assert 0 < in_training < len(told)
    assert all(one == ("cpu", {"precision": "float32", "n_threads": n_threads, "verbose": False}) for one in told)


def test_a_silent_training_prints_nothing_and_another_an_epoch_a_line(steps, capsys):
    trained(steps, verbose=0, max_epochs=2)
    assert capsys.readouterr() == ("", "")
    trained(steps, verbose=1, max_epochs=2)
    err = capsys.readouterr().err
    assert re.findall(r"epoch (\d)/2  loss", err) == ["1", "2"]
