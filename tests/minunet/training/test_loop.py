"""The loop's promises: Ctrl-C leaves a usable model, a step leaves the network alone where the loss is not finite."""

import inspect
import os
import signal
import threading

import numpy as np
import pytest

import minunet
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
    with pytest.warns(UserWarning, match=f"was cut short at epoch {unet.n_iter_}. Fit it to the end"):
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
    after = []  # each step

    def impatient(network, *args, **options):
        if len(after) == 29:  # in the second epoch
            network.flat[...] = np.nan  # an update that was cut into
            raise KeyboardInterrupt
        loss = step(network, *args, **options)
        after.append(network.flat.copy())
        return loss

    monkeypatch.setattr("minunet.training.loop.step", impatient)
    unet = UNet(base_channels=2, depth=1, patch_size=16, max_epochs=3, verbose=0, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        unet.fit(x, y)
    assert unet.interrupted_ and unet.n_iter_ == 1
    np.testing.assert_array_equal(unet.network_.flat, after[24])
    with pytest.warns(UserWarning, match="was cut short at epoch 1"):
        unet.predict_proba(x)


SMALL = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 3, "verbose": 0, "random_state": 0}


def images(seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((2, 16, 16)), rng.integers(0, 2, (2, 16, 16))


def state(unet):
    """Return what a fitted model is, to the bit."""
    arrays = (Network, np.ndarray)
    told = {name: value for name, value in vars(unet).items() if name.endswith("_") and not isinstance(value, arrays)}
    return repr(told), unet.classes_.tolist(), unet.network_.flat.tobytes()


def failing_at(n, error):
    """Return a training step that raises in the n-th call, when it has spoilt the weights."""
    calls = []

    def fail(network, *args, **options):
        calls.append(1)
        if len(calls) == n:
            network.flat[...] = np.nan
            raise error
        return step(network, *args, **options)

    return fail


@pytest.mark.parametrize("error", [MemoryError("short"), KeyboardInterrupt(), FloatingPointError("infinite"), SystemExit(3)])
def test_a_fit_that_fails_in_its_first_epoch_leaves_what_was_before(monkeypatch, error):
    x, y = images()
    unet = UNet(**SMALL)
    monkeypatch.setattr("minunet.training.loop.step", failing_at(1, error))
    with pytest.raises(type(error)):
        unet.fit(x, y)
    assert not [name for name in vars(unet) if name.endswith("_")]
    with pytest.raises(minunet.NotFittedError):
        unet.predict(x)
    monkeypatch.setattr("minunet.training.loop.step", step)
    unet.fit(x, y)
    before = state(unet)
    monkeypatch.setattr("minunet.training.loop.step", failing_at(3, error))
    with pytest.raises(type(error)):
        unet.set_params(base_channels=4, random_state=1).fit(*images(1))
    interrupted = isinstance(error, KeyboardInterrupt)
    assert unet.interrupted_ is interrupted
    unet.interrupted_ = False
    assert state(unet) == before


@pytest.mark.parametrize("error", [MemoryError("short"), KeyboardInterrupt(), SystemExit(3)])
def test_a_fit_that_fails_later_leaves_the_model_of_the_last_epoch(monkeypatch, error):
    x, y = images()
    kept = []

    class Keep:
        def set_model(self, unet):
            self.unet = unet

        def on_epoch_end(self, epoch, logs):
            kept.append(self.unet.network_.flat.copy())

    unet = UNet(**SMALL)
    monkeypatch.setattr("minunet.training.loop.step", failing_at(60, error))  # an epoch has 25 steps
    with pytest.raises(type(error)):
        unet.fit(x, y, callbacks=[Keep()])
    assert unet.n_iter_ == len(kept) == 2
    np.testing.assert_array_equal(unet.network_.flat, kept[1])


def test_ctrl_c_in_the_first_epoch_of_a_refit_keeps_the_good_model(monkeypatch):
    x, y = images()
    unet = UNet(**SMALL).fit(x, y)
    before, calls = state(unet), []

    def press(network, *args, **options):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step(network, *args, **options)

    monkeypatch.setattr("minunet.training.loop.step", press)
    with pytest.warns(UserWarning, match="interrupted after 2 steps; the model is what it was before"):
        assert unet.fit(*images(1)) is unet
    assert unet.interrupted_
    unet.interrupted_ = False
    assert state(unet) == before
    calls.clear()
    with pytest.warns(UserWarning, match="interrupted after 2 steps; the model is usable as it is"):
        first = UNet(**SMALL).fit(x, y)  # which has no better one
    assert first.interrupted_ and first.n_iter_ == 1


class Spoil:
    """Writes NaN into the weights at the end of an epoch."""

    def __init__(self, epoch):
        self.epoch, self.good = epoch, []

    def set_model(self, unet):
        self.unet = unet

    def on_epoch_end(self, epoch, logs):
        self.good.append(self.unet.network_.flat.copy())
        if epoch == self.epoch:
            self.unet.network_.flat[3] = np.nan


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_callbacks_nan_is_not_kept_as_the_last_good_weights(epoch):
    spoil, unet = Spoil(epoch), UNet(**SMALL)
    with pytest.raises(FloatingPointError, match="the callback Spoil left weights that are not finite"):
        unet.fit(*images(), callbacks=[spoil])
    np.testing.assert_array_equal(unet.network_.flat, spoil.good[epoch])
    assert unet.n_iter_ == epoch + 1


def test_what_a_callback_makes_of_the_weights_is_kept(monkeypatch):
    class Halve:
        def set_model(self, unet):
            self.unet = unet

        def on_epoch_end(self, epoch, logs):
            self.unet.network_.flat[...] *= 0.5
            self.halved = self.unet.network_.flat.copy()

    halve, unet = Halve(), UNet(**SMALL)
    monkeypatch.setattr("minunet.training.loop.step", failing_at(30, MemoryError("short")))
    with pytest.raises(MemoryError):
        unet.fit(*images(), callbacks=[halve])
    np.testing.assert_array_equal(unet.network_.flat, halve.halved)


def test_ctrl_c_ends_a_search_and_not_one_fit_of_it(monkeypatch):
    model_selection = pytest.importorskip("sklearn.model_selection")
    fits = []

    def press(network, *args, **options):
        fits.append(id(network))
        if len(fits) == 30:
            os.kill(os.getpid(), signal.SIGINT)
        return step(network, *args, **options)

    monkeypatch.setattr("minunet.training.loop.step", press)
    x, y = images()
    with pytest.warns(UserWarning, match="interrupted"), pytest.raises(KeyboardInterrupt):
        model_selection.GridSearchCV(UNet(**SMALL), {"learning_rate": [1e-3, 1e-2]}, cv=2).fit(x, y)
    assert len(set(fits)) == 1


def test_who_predicts_while_another_thread_fits_sees_one_model():
    x, y = images()
    other = np.where(x > 0.66, 7, np.where(x > 0.33, 3, 0))
    unet = UNet(**SMALL | {"max_epochs": 1}).fit(x, y)
    over, found, errors = threading.Event(), set(), []

    def predict():
        while not over.is_set():
            try:
                found.add(frozenset(np.unique(unet.predict(x)).tolist()))
                proba = unet.predict_proba(x)
                assert proba.shape[-1] in (2, 3)
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=predict) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        unet.fit(x, other)
        unet.fit(x, y)
    over.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert found and all(values <= {0, 1} or values <= {0, 3, 7} for values in found)


def test_max_minutes_ends_the_training():
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 16, 16)), rng.integers(0, 2, (2, 16, 16))
    unet = UNet(base_channels=2, depth=1, patch_size=16, max_epochs=10**6, max_minutes=0.002, verbose=0).fit(x, y)
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


class Storm(BaseException):
    """What nothing in the library expects."""


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
    monkeypatch.setattr("sys.unraisablehook", lambda _: None)  # pytest's own is not to be cut into
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    before = signal.getsignal(signal.SIGINT), signal.signal(signal.SIGALRM, ring)
    monkeypatch.setattr("minunet.training.loop.step", stormy)
    try:
        for trial in range(6):
            calls[:], left[0], delay = [], 100, 1e-5 + trial * 7e-4
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


@pytest.mark.parametrize("ending", [False, True])
def test_the_ends_of_a_program_are_taken_for_a_checkpoint_alone_and_from_nobody(monkeypatch, ending):
    """SIGTERM ends a program that has no say in it; where there is a checkpoint it waits for that. SIGHUP has a handler."""
    kept = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    own = lambda *_: None  # noqa: E731
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, own)
        with StopOnInterrupt(ending=ending) as interrupt:
            assert (signal.getsignal(signal.SIGTERM) == interrupt._handle) is ending
            assert signal.getsignal(signal.SIGHUP) is own and signal.getsignal(signal.SIGINT) == interrupt._handle
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL and signal.getsignal(signal.SIGHUP) is own
    finally:
        for n, handler in kept.items():
            signal.signal(n, handler)


def test_ctrl_c_is_given_back_where_the_end_of_a_training_was_cut_into():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGINT)

    def cut():
        StopOnInterrupt().__enter__()  # and what arrives now keeps __exit__ from beginning

    cut()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
