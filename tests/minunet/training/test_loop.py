"""The loop's promises: Ctrl-C leaves a usable model, a step leaves the network alone where the loss is not finite."""

import inspect
import os
import signal

import numpy as np
import pytest

from minunet import UNet
from minunet.data.sampling import PatchSampler
from minunet.kernels import buffers
from minunet.network import Network
from minunet.optim import Adam
from minunet.training import step
from minunet.training.interrupt import StopOnInterrupt


class InterruptAt:
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs):
        if epoch == self.epoch:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_finishes_the_step_and_leaves_a_usable_model():
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 16, 16)), rng.integers(0, 2, (2, 16, 16))
    unet = UNet(base_channels=2, depth=1, patch_size=16, max_epochs=50, verbose=0, random_state=0)
    before = signal.getsignal(signal.SIGINT)
    with pytest.warns(UserWarning, match="interrupted after"):
        unet.fit(x, y, callbacks=[InterruptAt(1)])
    assert unet.interrupted_ and unet.n_iter_ < 50
    assert unet.predict(x).shape == x.shape
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_raises():
    with pytest.raises(KeyboardInterrupt), StopOnInterrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.requested
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_ctrl_c_in_fit_leaves_the_weights_of_the_last_epoch(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 16, 16)), rng.integers(0, 2, (2, 16, 16))
    calls = []

    def impatient(network, *args, **options):
        calls.append(1)
        if len(calls) == 30:  # in the second epoch
            network.flat[...] = np.nan  # an update that was cut into
            raise KeyboardInterrupt
        return step(network, *args, **options)

    monkeypatch.setattr("minunet.training.loop.step", impatient)
    unet = UNet(base_channels=2, depth=1, patch_size=16, max_epochs=3, verbose=0, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        unet.fit(x, y)
    assert unet.interrupted_ and unet.n_iter_ == 1
    assert np.isfinite(unet.predict_proba(x)).all()


class Storm(BaseException):
    """What nothing in the library expects."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of those that arrive as something is freed
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer of that kind")
@pytest.mark.parametrize("when", ["step", "end of an epoch"])
def test_a_storm_of_exceptions_leaves_an_epoch_that_was_finished(monkeypatch, when):
    """A third Ctrl-C, and a hundredth, while what the second cut into is being undone, or while an epoch becomes the model."""
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 16, 16)), rng.integers(0, 2, (2, 16, 16))
    settings = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 4, "verbose": 0, "random_state": 0}
    calls, left, weights = [], [0], {}

    class Watcher:
        def set_model(self, unet):
            self.unet = unet

        def on_epoch_end(self, epoch, logs):
            weights[epoch + 1] = self.unet.network_.flat.copy()

    def ring(number, frame):
        while frame is not None and frame.f_code is not inspect.unwrap(UNet.fit).__code__:
            frame = frame.f_back
        if frame is not None and left[0]:
            left[0] -= 1
            signal.setitimer(signal.ITIMER_REAL, 1e-5)
            raise Storm

    def stormy(network, *args, **options):
        calls.append(1)
        if len(calls) == 60 and when == "step":  # in the third epoch
            network.flat[...] = np.nan  # an update that was cut into
            signal.setitimer(signal.ITIMER_REAL, 1e-5)
        if len(calls) == 75 and when != "step":
            signal.setitimer(signal.ITIMER_REAL, delay)
        return step(network, *args, **options)

    UNet(**settings).fit(x, y, callbacks=[Watcher()])
    before = signal.getsignal(signal.SIGINT), signal.signal(signal.SIGALRM, ring)
    monkeypatch.setattr("minunet.training.loop.step", stormy)
    try:
        for trial in range(10):
            calls[:], left[0], delay = [], 100, 1e-5 + trial * 4e-4
            unet = UNet(**settings)
            with pytest.raises(Storm):
                unet.fit(x, y)
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert {len(values) for values in unet.history_.values()} == {unet.n_iter_} and unet.n_iter_ >= 2
            np.testing.assert_array_equal(unet.network_.flat, weights[unet.n_iter_])
            assert buffers._active.get() is None  # nothing that was to end with the training serves what follows
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before[1])
    with pytest.raises(KeyboardInterrupt):  # even where a training could not give it back
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before[0]


def test_ctrl_c_is_given_back_where_the_end_of_a_training_was_cut_into():
    before = signal.getsignal(signal.SIGINT)

    def cut():
        StopOnInterrupt().__enter__()  # and what arrives now keeps __exit__ from beginning

    cut()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_max_minutes_ends_the_training():
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 16, 16)), rng.integers(0, 2, (2, 16, 16))
    unet = UNet(base_channels=2, depth=1, patch_size=16, max_epochs=10**6, max_minutes=0.01, verbose=0).fit(x, y)
    assert 0 < unet.n_iter_ < 10**6


def test_a_step_with_a_loss_that_is_not_finite_changes_nothing(backend):
    network, optimizer = Network(1, 2, 2, 1), Adam()
    before = network.flat.copy()
    x = np.full((1, 4, 4, 1), np.nan, np.float32)
    assert np.isnan(step(network, optimizer, x, np.zeros((1, 4, 4), int)))
    np.testing.assert_array_equal(network.flat, before)
    assert optimizer.n_updates == 0


def test_the_loss_falls_over_steps(backend):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 16, 16, 1)).astype(np.float32)
    labels = (x[..., 0] > 0).astype(int)
    network, optimizer = Network(1, 2, 4, 1), Adam(1e-2)
    losses = [float(step(network, optimizer, x, labels)) for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]


def tiny(**settings):
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 16, 16)), rng.integers(0, 2, (2, 16, 16))
    return UNet(**{"base_channels": 2, "depth": 1, "patch_size": 16, "verbose": 0, "random_state": 0} | settings).fit(x, y)


def test_each_step_of_each_epoch_sees_patches_of_its_own(monkeypatch):
    asked = []
    batch = PatchSampler.batch

    def record(self, epoch, index, batch_size):
        asked.append((epoch, index))
        return batch(self, epoch, index, batch_size)

    monkeypatch.setattr(PatchSampler, "batch", record)
    tiny(max_epochs=2)
    assert asked == [(epoch, index) for epoch in range(2) for index in range(25)]


def test_the_learning_rate_decays_with_what_is_spent():
    """After 25 of 50 steps the last update was at 24 / 50."""
    rates = tiny(max_epochs=2, learning_rate=0.01).history_["learning_rate"]
    assert rates == pytest.approx([0.01 * (1 - 24 / 50) ** 0.9, 0.01 * (1 - 49 / 50) ** 0.9])


def test_time_that_runs_out_within_an_epoch_ends_it():
    assert tiny(max_epochs=2, max_minutes=1e-6).history_["steps"] == [1]
