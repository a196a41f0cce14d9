"""Each number of a history is what its name says: recomputed from what each step and each validation gave."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet import UNet
from minunet.evaluation.held_out import Validation
from minunet.training import history, loop, step

SMALL = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 3, "verbose": 0, "random_state": 4}
STEPS = 25  # an epoch, of so few pixels
RNG = np.random.default_rng(0)
X, Y = RNG.random((3, 16, 16)), RNG.integers(0, 2, (3, 16, 16))


def scripted(monkeypatch, scores):
    """Let the validations give these scores, one after another."""
    given = iter(scores)
    monkeypatch.setattr("minunet.fitting.validate", lambda *_, **__: Validation({"val_dice": next(given)}))


def test_loss_steps_rate_and_seconds_of_each_epoch_are_those_of_its_steps(monkeypatch):
    losses, rates = [], []

    def noting(network, optimizer, *arrays, **options):
        loss = step(network, optimizer, *arrays, **options)
        losses.append(float(loss))
        rates.append(optimizer.learning_rate)
        return loss

    monkeypatch.setattr(loop, "step", noting)
    monkeypatch.setattr(loop.Loop, "_seconds", lambda self: 7.0 * self.at.n_steps)
    unet = UNet(**SMALL).fit(X, Y)
    assert unet.n_iter_ == 3 and len(losses) == 3 * STEPS
    assert unet.history_["loss"] == pytest.approx(np.reshape(losses, (3, STEPS)).mean(axis=1).tolist(), rel=1e-12)
    assert unet.history_["steps"] == [STEPS, 2 * STEPS, 3 * STEPS]
    assert unet.history_["seconds"] == [7.0 * STEPS, 14.0 * STEPS, 21.0 * STEPS]
    assert unet.history_["learning_rate"] == rates[STEPS - 1 :: STEPS]
    assert len(set(losses)) == len(losses) and len(set(rates)) == len(rates)


def test_what_is_told_of_the_held_out_has_all_weights_and_the_classes_names():
    """Class 9 is held out nowhere, 7 is no class, some pixels are masked, and classes have weights."""
    rng = np.random.default_rng(1)
    x, y = rng.random((3, 16, 16)), rng.choice([0, 5, 7, 9], (3, 16, 16))
    held_x, held_y = rng.random((2, 16, 20)), rng.choice([0, 5, 7], (2, 16, 20))
    masked, of_class = rng.random((2, 16, 20)) < 0.3, {0: 1.0, 5: 2.0, 9: 4.0}
    unet = UNet(**SMALL | {"max_epochs": 1}, class_weight=of_class)
    with pytest.warns(UserWarning, match="no pixel of class 9"):
        unet.fit(x, y, validation_data=(held_x, np.ma.array(held_y, mask=masked)), ignore_index=7)
    p = unet.predict_proba(held_x).astype(float)
    found, counts = unet.classes_[p.argmax(axis=-1)], (held_y != 7) & ~masked
    w = counts * np.select([held_y == c for c in of_class], list(of_class.values()))
    true = np.take_along_axis(p, np.where(held_y == 5, 1, 0)[..., None], axis=-1)[..., 0]
    expected = {"val_loss": -(w * np.log(true)).sum() / w.sum(), "val_pixel_error": (found != held_y)[counts].mean()}
    for c in (0, 5):
        a, b = (held_y == c)[counts], (found == c)[counts]
        expected |= {f"val_dice_{c}": 2 * (a & b).sum() / (a.sum() + b.sum()), f"val_iou_{c}": (a & b).sum() / (a | b).sum()}
    expected |= {"val_dice_9": np.nan, "val_iou_9": np.nan, "val_dice": (expected["val_dice_0"] + expected["val_dice_5"]) / 2}
    told = {name: values for name, values in unet.history_.items() if name.startswith("val_") and name != "val_boundary_f"}
    assert told == {name: [pytest.approx(value, rel=1e-5, nan_ok=True)] for name, value in expected.items()}
    assert unet.best_score_ == unet.history_["val_dice"][0] and unet.best_epoch_ == 0


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([0.3, 0.6, 0.5, 0.6, 0.2], 1), ([0.1, 0.2, 0.3, 0.4, 0.5], 4), ([np.nan, 0.0, np.nan, 0.4, np.nan], 3), ([0.5] * 5, 0),
        ([np.nan] * 3, None), ([], None),
    ],
)  # fmt: skip
def test_the_best_epoch_is_the_first_of_those_with_the_highest_dice(scores, best):
    told = history.told({"loss": [1.0] * 5, "val_dice": scores})
    assert (told["best_epoch_"], told["n_iter_"]) == (best, 5)
    assert told["best_score_"] == (None if best is None else scores[best])


def test_a_fitted_model_tells_it(monkeypatch):
    scripted(monkeypatch, scores := [0.3, 0.6, np.nan])
    unet = UNet(**SMALL).fit(X, Y)
    assert (unet.best_epoch_, unet.best_score_, unet.n_iter_) == (1, 0.6, 3)
    assert unet.history_["val_dice"] == pytest.approx(scores, nan_ok=True)


@given(st.lists(st.sampled_from([np.nan, 0.0, 0.25, 1.0]), max_size=5))
def test_the_last_known_figure_is_that_of_the_last_epoch_that_has_one(values):
    known = [(i + 1, value) for i, value in enumerate(values) if value == value]
    assert history.last_known(values) == (known[-1] if known else None)


@pytest.mark.parametrize(
    ("early_stopping", "scores", "known"),
    [
        (True, [0.3, 0.6, 0.5], (2, 0.6)), (False, [0.3, 0.6, 0.5], (3, 0.5)), (False, [0.3, 0.6, np.nan], (2, 0.6)),
        (True, [0.3, np.nan, np.nan], (1, 0.3)), (False, [np.nan] * 3, None),
    ],
)  # fmt: skip
def test_a_models_dice_is_that_of_the_epoch_whose_weights_it_has(early_stopping, scores, known):
    told = history.told({"loss": [1.0] * 3, "val_dice": scores})
    assert history.of_model(SimpleNamespace(early_stopping=early_stopping, **told)) == known
