"""The search for a learning rate: what it tries, when it ends, what it suggests, and that nothing is changed by it."""

from __future__ import annotations

import numpy as np
import pytest

import minunet
from minunet import Network, UNet, finding, optim
from minunet.data.rng import generator
from minunet.finding import LearningRates
from minunet.training import step

SMALL = {"base_channels": 2, "depth": 1, "patch_size": 16, "batch_size": 2, "max_epochs": 1, "verbose": 0, "random_state": 5}


@pytest.fixture
def images():
    x = np.random.default_rng(0).random((4, 20, 24), np.float32)
    return x, (x > 0.6).astype(int)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(finding, "STEPS", 5)


def smoothed(losses):
    """Return weighted means of the losses so far, each 0.9 times as heavy as the next."""
    weights = [0.9 ** np.arange(n)[::-1] for n in range(1, len(losses) + 1)]
    return [np.average(losses[: len(w)], weights=w) for w in weights]


def test_a_hundred_rates_rise_by_one_factor(images, monkeypatch):
    losses = np.random.default_rng(0).random(100) + 1
    left = iter(losses)
    monkeypatch.setattr(finding, "step", lambda *given, **options: next(left))
    found = UNet(**SMALL).find_learning_rate(*images)
    np.testing.assert_allclose(found.rates, np.logspace(-6, 0, 100), rtol=1e-12)
    np.testing.assert_array_equal(found.losses, losses)
    np.testing.assert_allclose(found.means, smoothed(losses), rtol=1e-12)


def test_a_search_ends_where_the_loss_falls_apart(images, monkeypatch):
    losses = iter([1.0] * 50 + [25.0, 40.0] * 25)  # of a mean of the last ten or so: 3.4 times the least, then 7
    monkeypatch.setattr(finding, "step", lambda *given, **options: next(losses))
    found = UNet(**SMALL).find_learning_rate(*images)
    assert found.losses.tolist() == [1.0] * 50 + [25.0, 40.0]


@pytest.mark.parametrize("end", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_ends_it_and_is_not_in_it(images, monkeypatch, end):
    losses = iter([1.0, 0.5, end])
    monkeypatch.setattr(finding, "step", lambda *given, **options: next(losses))
    assert UNet(**SMALL).find_learning_rate(*images).losses.tolist() == [1.0, 0.5]


def test_what_is_not_finite_from_the_start_is_told(images, monkeypatch):
    monkeypatch.setattr(finding, "step", lambda *given, **options: np.nan)
    with pytest.raises(FloatingPointError, match=r"the first step is not finite, at a learning rate of 1e-06: no rate can mend"):
        UNet(**SMALL).find_learning_rate(*images)


def test_a_tenth_of_the_rate_of_the_least_mean_loss_is_suggested():
    rates, losses = np.array([1e-4, 1e-3, 1e-2, 1e-1]), np.array([1.0, 0.1, 0.5, 2.0])
    assert LearningRates(rates, losses, np.array([1.0, 0.6, 0.5, 1.0])).suggestion == pytest.approx(1e-3)


def test_its_losses_are_those_of_a_training_at_these_rates(images, few):
    """Of the network that `fit` would make, on the patches of its first epoch, with its optimizer."""
    settings = SMALL | {"optimizer": "nesterov", "momentum": 0.5, "dropout": 0.25, "clip_norm": 0.5, "augment": False}
    found = UNet(**settings).find_learning_rate(*images)
    fitted = UNet(**settings).fit(*images)
    network, optimizer = Network(**fitted.network_.config), optim.SGD(momentum=0.5, nesterov=True)
    sampler, seen = sampler_of(fitted, images), []
    for i in range(5):
        x, labels, weights = sampler.batch(0, i, 2)
        optimizer.learning_rate = 10 ** (-6 + 6 * i / 4)
        rng = generator(5, "dropout", 0, i)
        seen.append(float(step(network, optimizer, x, labels, weights=weights, rng=rng, clip_norm=0.5)))
    np.testing.assert_array_equal(found.losses, seen)


def sampler_of(unet, images):
    """Return the sampler with which a training learned, as it was handed to the loop."""
    given = []

    class Found(BaseException):
        pass

    def loop(network, optimizer, loss, sampler, *others, **options):
        given.append(sampler)
        raise Found

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Found):
        patch.setattr("minunet.fitting.Loop", loop)
        UNet(**unet.get_params()).fit(*images)
    return given[0]


@pytest.mark.parametrize("warm", [False, True])
def test_a_search_changes_no_estimator(images, warm, few):
    unet = UNet(**SMALL, warm_start=warm).fit(*images)
    before, flat, masks = dict(vars(unet)), unet.network_.flat.copy(), [a.copy() for a in images]
    cold = UNet(**SMALL)
    assert unet.find_learning_rate(*images).losses[0] != cold.find_learning_rate(*images).losses[0] or not warm
    assert vars(unet) == before and vars(cold) == vars(UNet(**SMALL))
    np.testing.assert_array_equal(unet.network_.flat, flat)
    assert all((a == b).all() for a, b in zip(images, masks, strict=True))


def test_what_fit_refuses_it_refuses(images):
    with pytest.raises(ValueError, match=r"^warm_up is 2"):
        UNet(**SMALL, warm_up=2).find_learning_rate(*images)
    with pytest.raises(ValueError, match="masks"):
        UNet(**SMALL).find_learning_rate(images[0], images[1][:2])


def test_companions_are_those_of_fit(images, few):
    weights = np.where(images[0] > 0.5, 1.0, 0.0)
    unet = UNet(**SMALL)
    plain, weighted = unet.find_learning_rate(*images), unet.find_learning_rate(*images, sample_weight=weights)
    assert plain.losses[0] != weighted.losses[0]
    known = minunet.UNet(**SMALL).find_learning_rate(images[0], np.where(images[1], 1, 7), classes=[1, 7], groups=[0, 0, 1, 1])
    assert np.isfinite(known.losses).all()


def test_it_asks_for_nothing_that_is_held_out(images, few):
    """What `fit` decides on that may come as validation_data, which no search takes."""
    kept = {"early_stopping": True, "threshold": "validation", "validation_fraction": 0.0}
    assert np.isfinite(UNet(**SMALL, **kept).find_learning_rate(*images).losses).all()
