"""What a training logs: that it begins, each epoch's figures, and why it ended, with the numbers as attributes."""

from __future__ import annotations

import logging
import os
import signal
from logging import ERROR, INFO, WARNING

import numpy as np
import pytest

from minunet import UNet

SMALL = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 2, "random_state": 0, "verbose": 0, "n_threads": 1}
STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class Each:
    """Calls a function at each epoch's end, and returns what that does."""

    def __init__(self, call):
        self.call, self.epochs = call, []

    def on_epoch_end(self, epoch, logs):
        self.epochs.append(epoch)
        return self.call(epoch, logs)


def images(n=3):
    rng = np.random.default_rng(0)
    x = rng.random((n, 16, 16))
    return x, 7 * (x > 0.5).astype(np.uint8)


@pytest.fixture
def told(caplog, monkeypatch):
    """Return a function that gives what was logged: level, text and attributes of each record."""
    monkeypatch.setattr("minunet.training.schedule.MIN_STEPS", 2)
    caplog.set_level(INFO, "minunet.training")

    def read():
        return [
            (r.levelno, r.getMessage(), {name: value for name, value in vars(r).items() if name not in STANDARD})
            for r in caplog.records
            if r.name == "minunet.training"
        ]

    return read


def test_it_tells_what_is_trained_each_epochs_figures_and_that_all_epochs_are_done(told):
    x, y = images(20)
    unet = UNet(**SMALL, batch_size=10).fit(x, y)
    begin, *epochs, end = told()
    assert begin == (
        INFO,
        "training begins: 18 images or parts of them, 2 held out, 2 classes; 434 parameters, on cpu with 1 thread; 2 epochs of 2 "
        "steps",
        {
            "event": "begin", "examples": 18, "held_out": 2, "classes": [0, 7], "parameters": unet.n_parameters_, "place": "cpu",
            "threads": 1, "epochs": 2, "steps": 4, "steps_done": 0,
        },
    )  # fmt: skip
    for i, (level, text, figures) in enumerate(epochs):
        expected = {name: values[i] for name, values in unet.history_.items()}
        assert level == INFO and figures == {"event": "epoch", "epoch": i + 1, "epochs": 2, **expected}
        assert text.startswith(f"epoch {i + 1}/2: loss {expected['loss']:.4g}, val_loss {expected['val_loss']:.4g}, ")
    assert len(epochs) == 2 and end[0] == INFO
    seconds = end[2].pop("seconds")
    assert end[1] == f"training ends after 2 epochs, 4 steps, {seconds:.0f} s: max_epochs are spent"
    assert end[2] == {"event": "end", "reason": "epochs", "epochs": 2, "steps": 4} and seconds >= unet.history_["seconds"][-1]


def stop(epoch, logs):
    return True


def interrupt(epoch, logs):
    os.kill(os.getpid(), signal.SIGINT)


def fail(epoch, logs):
    raise MemoryError("short of it")


def spoil(epoch, logs):
    raise FloatingPointError("infinite")


def end_the_program(epoch, logs):
    raise SystemExit(3)


@pytest.mark.filterwarnings("ignore:interrupted")
@pytest.mark.parametrize(
    ("call", "raised", "level", "reason", "says"),
    [
        (stop, None, INFO, "callback", "a callback asked for it"),
        (interrupt, None, WARNING, "interrupted", "it was interrupted"),
        (fail, MemoryError, WARNING, "failed", "it failed (MemoryError: short of it)"),
        (spoil, FloatingPointError, ERROR, "diverged", "it diverged (FloatingPointError: infinite)"),
        (end_the_program, SystemExit, WARNING, "failed", "it failed (SystemExit: 3)"),
    ],
)
def test_it_tells_why_it_ended_before(told, call, raised, level, reason, says):
    callback = Each(call)
    if raised:
        with pytest.raises(raised):
            UNet(**SMALL).fit(*images(), callbacks=[callback])
    else:
        UNet(**SMALL).fit(*images(), callbacks=[callback])
    found, text, figures = told()[-1]
    assert (found, figures["reason"]) == (level, reason) and text.endswith(f": {says}")
    assert figures["steps"] == 2 and figures["epochs"] == (0 if raised else 1)
    assert [record[2]["event"] for record in told()] == ["begin", "epoch", "end"]


def test_minutes_are_told_as_such(told):
    UNet(**SMALL | {"max_epochs": 10**6}, max_minutes=1e-4).fit(*images())
    assert "; 1000000 epochs of 2 steps, 0.0001 minutes at most" in told()[0][1] and told()[-1][2]["reason"] == "minutes"


def test_a_fit_that_is_refused_tells_nothing(told):
    with pytest.raises(ValueError, match="depth"):
        UNet(**SMALL | {"depth": -1}).fit(*images())
    assert told() == []


def test_what_listeners_take_of_the_time_is_not_the_trainings(told, monkeypatch):
    """As of callbacks: whoever writes to a slow disk loses no steps of max_minutes to it."""
    clock = [0.0]
    monkeypatch.setattr("minunet.training.stopwatch.time.perf_counter", lambda: clock[0])

    class Slow(logging.Handler):
        def emit(self, record):
            clock[0] += 1000.0 * (record.event == "epoch")

    logger = logging.getLogger("minunet.training")
    logger.addHandler(slow := Slow())
    try:
        unet = UNet(**SMALL).fit(*images())
    finally:
        logger.removeHandler(slow)
    assert clock == [2000.0] and unet.history_["seconds"] == [0.0, 0.0]


@pytest.mark.parametrize("true", [True, np.True_, np.float64(2) > 1])
def test_true_of_any_callback_ends_the_training_after_the_others_were_called(told, true):
    callbacks = [Each(lambda epoch, logs: epoch == 1 and true), Each(lambda epoch, logs: False), Each(lambda epoch, logs: None)]
    unet = UNet(**SMALL | {"max_epochs": 5}).fit(*images(), callbacks=callbacks)
    assert [callback.epochs for callback in callbacks] == [[0, 1]] * 3
    assert unet.n_iter_ == 2 and not unet.interrupted_
    whole = []
    UNet(**SMALL | {"max_epochs": 5}).fit(*images(), callbacks=[Whole(whole)])
    np.testing.assert_array_equal(unet.network_.flat, whole[1])  # it ended there, and changed nothing before


class Whole:
    """Keeps the weights of each epoch."""

    def __init__(self, kept):
        self.kept = kept

    def set_model(self, unet):
        self.unet = unet

    def on_epoch_end(self, epoch, logs):
        self.kept.append(self.unet.network_.flat.copy())


@pytest.mark.parametrize("other", [1, 0.5, "True", np.ones(3), [True], object(), np.array([True])])
def test_nothing_else_that_a_callback_returns_ends_it(told, other):
    assert UNet(**SMALL).fit(*images(), callbacks=[Each(lambda epoch, logs: other)]).n_iter_ == 2
