"""What a person sees while it trains, in a terminal: a bar with loss, validation Dice and the time that it will take."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from minunet.training.progress import Progress
from minunet.training.schedule import Schedule


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr("minunet.training.progress.sys", SimpleNamespace(stderr=SimpleNamespace(isatty=lambda: True)))


def test_the_bar_shows_loss_and_dice_and_the_expected_time_after_five_steps(terminal, capsys):
    progress = Progress(Schedule(1e-3, 10, 2, None), verbose=1)
    for step in range(1, 11):
        progress.on_step(step, 10 + 3.0 * (step - 1), 0.25)
        assert ("in all" in progress.bar.desc) == (step >= 5)
    assert "training, about 67 s in all" in progress.bar.desc  # 10 s for the first step, which compiles, and 19 times 3 s
    progress.on_epoch_end(1, 10, 37.0, {"loss": 0.25, "val_loss": 0.3, "val_dice": 0.875})
    progress.close()
    bar = capsys.readouterr().err
    assert "10/20" in bar and "loss=0.250" in bar and "val_dice=0.875" in bar


def test_a_limit_in_minutes_shortens_the_bar(terminal, capsys):
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
    assert capsys.readouterr().err == ("epoch 1/2  loss 0.500  1 s of about 20 s\n" if verbose else "")
