"""What a person sees while it trains, in a terminal: a bar with loss, validation Dice and the time that it will take."""

from __future__ import annotations

import io
import sys
from time import strftime

import pytest
from terminal import Pieces

from minunet.training import progress as progress_module
from minunet.training.progress import Progress
from minunet.training.schedule import Schedule

NOON = "2031-02-03 12:00:00"


@pytest.fixture(autouse=True)
def noon(monkeypatch):
    """It is always noon."""
    monkeypatch.setattr(progress_module.time, "strftime", lambda form: strftime(form, (2031, 2, 3, 12, 0, 0, 0, 34, 0)))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_shows_loss_and_dice_and_the_expected_time_after_five_steps(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    progress = Progress(Schedule(1e-3, 10, 2, None), verbose=1)
    for step in range(1, 11):
        progress.on_step(step, 10 + 3.0 * (step - 1), 0.25)
        assert ("in all" in progress.bar.desc) == (step >= 5)
    assert "training, about 67 s in all" in progress.bar.desc  # 10 s for the first step, which compiles, and 19 times 3 s
    progress.on_epoch_end(1, 10, 37.0, {"loss": 0.25, "val_loss": 0.3, "val_dice": 0.875})
    progress.close()
    bar = sys.stderr.getvalue()
    assert "10/20" in bar and "loss=0.250" in bar and "val_dice=0.875" in bar


def test_a_limit_in_minutes_shortens_the_bar(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    progress = Progress(Schedule(1e-3, 100, 10, max_minutes=1.0), verbose=1)
    for step in range(1, 6):
        progress.on_step(step, float(step), 0.5)
    assert progress.bar.total == 60
    assert "about 60 s in all" in progress.bar.desc
    progress.close()


@pytest.mark.parametrize("verbose", [0, 1])
def test_elsewhere_there_is_no_bar(verbose, capsys):
    progress = Progress(Schedule(1e-3, 10, 2, None), verbose=verbose)
    assert progress.bar is None
    progress.on_step(1, 1.0, 0.5)
    progress.on_epoch_end(1, 1, 1.0, {"loss": 0.5})
    progress.close()
    assert capsys.readouterr().err == (f"epoch 1/2  loss 0.500  1 s of about 20 s  {NOON}\n" if verbose else "")


class Deaf:
    """A log of a window that was closed: whatever it is asked, it cannot."""

    def __init__(self, error):
        self.error = error

    def _fail(self, *text):
        raise self.error

    write = flush = _fail

    def isatty(self):
        return True


class Plain:
    """A log that only takes text."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


@pytest.mark.parametrize("stream", [None, Deaf(RuntimeError("gone")), Deaf(OSError(5, "no")), Deaf(TypeError("bytes")), object()])
def test_a_stderr_that_takes_nothing_stops_no_training(monkeypatch, stream):
    monkeypatch.setattr("sys.stderr", stream)
    progress = Progress(Schedule(1e-3, 10, 1, None), verbose=1)
    for step in range(1, 11):
        progress.on_step(step, float(step), 0.5)
    progress.on_epoch_end(1, 10, 10.0, {"loss": 0.5})
    progress.close()


def test_a_log_without_isatty_or_flush_gets_lines(monkeypatch):
    monkeypatch.setattr("sys.stderr", Plain())
    progress = Progress(Schedule(1e-3, 10, 2, None), verbose=1)
    progress.on_step(1, 1.0, 0.5)
    progress.on_epoch_end(1, 1, 1.0, {"loss": 0.5})
    assert sys.stderr.text == f"epoch 1/2  loss 0.500  1 s of about 20 s  {NOON}\n"


def test_a_line_is_written_in_one_piece_and_flushed(monkeypatch):
    """Where Python is not to buffer, as in many containers, lines of several processes would mix, or wait in a buffer."""
    monkeypatch.setattr("sys.stderr", Pieces())
    progress = Progress(Schedule(1e-3, 10, 2, None), verbose=1)
    for epoch in (1, 2):
        progress.on_epoch_end(epoch, 10 * epoch, 60.0 * epoch, {"loss": 0.5, "val_loss": 0.25, "val_dice": 0.75})
    figures = "loss 0.500  val_loss 0.250  val_dice 0.750"
    assert sys.stderr.pieces == [
        f"epoch 1/2  {figures}  60 s of about 2.1 min  {NOON}\n", None,
        f"epoch 2/2  {figures}  2.0 min of about 2.0 min  {NOON}\n", None,
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_the_bar_is_drawn_in_what_the_terminal_can_show(monkeypatch, encoding):
    shown = io.BytesIO()
    stream = io.TextIOWrapper(shown, encoding=encoding)
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", stream)
    progress = Progress(Schedule(1e-3, 2, 1, None), verbose=1)
    progress.on_step(1, 1.0, 0.5)
    progress.on_epoch_end(1, 1, 1.0, {"loss": 0.5})
    progress.close()
    stream.flush()
    bar = shown.getvalue().decode(encoding)
    assert "1/2" in bar and "loss=0.500" in bar and ("\u2588" in bar) == (encoding == "utf-8")
