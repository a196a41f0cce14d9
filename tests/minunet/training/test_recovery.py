"""Whatever ends a training, the model is that of a moment that can be named, to the bit."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from minunet import UNet
from minunet.evaluation import held_out
from minunet.training import loop, step

SMALL = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 3, "verbose": 0, "random_state": 2}
STEPS = 25
RNG = np.random.default_rng(0)
X, Y = RNG.random((3, 16, 16)), RNG.integers(0, 2, (3, 16, 16))


def press():
    os.kill(os.getpid(), signal.SIGINT)


def raising(error):
    def raises():
        raise error

    return raises


@pytest.fixture
def train(monkeypatch):
    """Train, and do something within a step or a validation; return what came of it, and what there was after each step."""

    def run(*, in_step=0, in_validation=0, does=press, gives=None, **settings):
        after, losses, epochs, calls = [], [], [], [0]

        def stepping(network, *arrays, **options):
            if len(after) + 1 == in_step:
                does()
            loss = step(network, *arrays, **options)
            after.append((network.flat.copy(), network.state.flat.copy()))
            losses.append(float(loss))
            return gives if gives is not None and len(after) == in_step else loss

        def validating(*arrays, **options):
            calls[0] += 1
            if calls[0] == in_validation:
                does()
            return held_out.validate(*arrays, **options)

        class Noting:
            def set_model(self, unet):
                self.unet = unet

            def on_epoch_end(self, epoch, logs):
                network = self.unet.network_
                epochs.append((network.flat.copy(), network.state.flat.copy()))

        monkeypatch.setattr(loop, "step", stepping)
        monkeypatch.setattr("minunet.fitting.validate", validating)
        unet, error = UNet(**SMALL | settings), None
        try:
            unet.fit(X, Y, callbacks=[Noting()])
        except BaseException as raised:
            error = raised
        return SimpleNamespace(unet=unet, error=error, after=after, losses=losses, epochs=epochs)

    return run


def assert_model(unet, moment):
    """Assert that the weights, and what a batch norm keeps, are those of a moment, bit for bit."""
    network = unet.network_
    assert (network.flat.tobytes(), network.state.flat.tobytes()) == tuple(a.tobytes() for a in moment)


@pytest.mark.parametrize("norm", [None, "batch"])
@pytest.mark.filterwarnings("ignore:interrupted")
def test_ctrl_c_leaves_the_weights_of_the_step_in_which_it_came(train, norm):
    undisturbed = train(norm=norm)
    for n in (1, STEPS - 1, STEPS, STEPS + 8):
        came = train(in_step=n, norm=norm)
        assert came.error is None and came.unet.interrupted_ and len(came.after) == n
        assert_model(came.unet, undisturbed.after[n - 1])
        whole, rest = divmod(n, STEPS)
        history = came.unet.history_
        assert came.unet.n_iter_ == whole + (rest > 0)
        assert history["steps"] == [STEPS] * whole + [n] * (rest > 0)
        assert history["loss"][-1] == pytest.approx(np.mean(undisturbed.losses[(n - 1) // STEPS * STEPS : n]))
        assert np.isnan(history["val_dice"][-1]) if "val_dice" in history else n <= STEPS


@pytest.mark.filterwarnings("ignore:interrupted")
def test_ctrl_c_in_a_validation_leaves_the_epochs_weights_without_its_figures(train):
    undisturbed = train()
    came = train(in_validation=2)
    assert came.error is None and came.unet.interrupted_ and came.unet.n_iter_ == 2
    assert_model(came.unet, undisturbed.after[2 * STEPS - 1])
    for name in ("loss", "learning_rate", "steps"):
        assert came.unet.history_[name] == undisturbed.unet.history_[name][:2]
    assert came.unet.history_["val_dice"][0] == undisturbed.unet.history_["val_dice"][0]
    assert np.isnan(came.unet.history_["val_dice"][1])


STEP, VALIDATION, BATCH = {"in_step": 2 * STEPS + 7}, {"in_validation": 3}, {"norm": "batch"}


@pytest.mark.parametrize(
    ("error", "where", "settings"),
    [
        (MemoryError("short"), STEP, {}), (KeyboardInterrupt(), VALIDATION, {}), (SystemExit(3), STEP, {}),
        (OSError(28, "full"), VALIDATION, {}), (KeyboardInterrupt(), STEP, BATCH), (MemoryError("short"), VALIDATION, BATCH),
        (MemoryError("short"), STEP, BATCH | {"average": 0.9}), (KeyboardInterrupt(), VALIDATION, BATCH | {"average": 0.9}),
    ],
)  # fmt: skip
def test_what_is_raised_leaves_the_last_epoch_that_was_finished(train, error, where, settings):
    came = train(does=raising(error), **where, **settings)
    assert isinstance(came.error, type(error)) and len(came.epochs) == 2
    assert_model(came.unet, came.epochs[1])
    if "average" not in settings:
        assert_model(came.unet, came.after[2 * STEPS - 1])
    else:
        assert came.epochs[1][0].tobytes() != came.after[2 * STEPS - 1][0].tobytes()
    assert came.unet.n_iter_ == 2 and {len(values) for values in came.unet.history_.values()} == {2}
    assert came.unet.interrupted_  # it is not what it was to become


@pytest.mark.parametrize("loss", [np.nan, np.inf])
@pytest.mark.parametrize("n", [STEPS + 1, 2 * STEPS])
def test_a_loss_that_is_not_finite_leaves_the_last_epoch_that_was_finished(train, loss, n):
    came = train(in_step=n, does=lambda: None, gives=loss)
    assert isinstance(came.error, FloatingPointError) and str(n) in str(came.error)
    assert_model(came.unet, came.after[STEPS - 1])
    assert came.unet.n_iter_ == 1 and came.unet.history_["loss"] == [pytest.approx(np.mean(came.losses[:STEPS]))]


@pytest.mark.parametrize("where", [{"in_step": 5}, {"in_validation": 1}])
def test_what_is_raised_in_the_first_epoch_leaves_no_model(train, where):
    came = train(does=raising(MemoryError("short")), **where)
    assert isinstance(came.error, MemoryError) and not hasattr(came.unet, "network_")
