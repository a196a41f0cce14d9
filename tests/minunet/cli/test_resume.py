"""`minunet train --checkpoint --resume`: what was stopped goes on, by the same command again and again."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from PIL import Image

import minunet
from minunet.cli import main
from minunet.training import loop

FLAGS = ["--base-channels", "2", "--depth", "1", "--patch-size", "16", "--max-epochs", "3", "--random-state", "4", "-q"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return a folder with the folders x and y of images and masks, and be in it."""
    monkeypatch.setattr("minunet.training.schedule.MIN_STEPS", 4)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in "xy":
        (tmp_path / name).mkdir()
    for i in range(4):
        mask = (rng.random((24, 24)) > 0.5).repeat(2, 0).astype(np.uint8) * 255
        Image.fromarray(mask).save(tmp_path / "y" / f"{i}.png")
        Image.fromarray((60 + mask // 2 + rng.integers(0, 20, mask.shape)).astype(np.uint8)).save(tmp_path / "x" / f"{i}.png")
    return tmp_path


def stopping(monkeypatch, after, number):
    left, real = [after], minunet.training.step

    def step(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), number)
        return real(*arguments, **options)

    monkeypatch.setattr(loop, "step", step)


def test_the_same_command_goes_on_until_it_is_done(here, monkeypatch, capsys):
    assert main(["train", "x", "y", "-o", "whole", *FLAGS]) == 0
    command = ["train", "x", "y", "-o", "m", "--force", "--checkpoint", "c", "--resume", *FLAGS]
    for more, number, code, n_steps in [(5, signal.SIGTERM, 143, 5), (1, signal.SIGHUP, 129, 6), (4, signal.SIGINT, 130, 10)]:
        stopping(monkeypatch, more, number)
        assert main(command) == code
        assert f"interrupted after {n_steps} steps; the model is usable as it is" in capsys.readouterr().err
        assert minunet.load("m").interrupted_ and minunet.load("c").interrupted_
    stopping(monkeypatch, 0, signal.SIGINT)
    assert main(command) == 0
    whole = minunet.load("whole")
    for done in map(minunet.load, ("m", "c")):
        np.testing.assert_array_equal(done.network_.flat, whole.network_.flat)
        assert done.history_["loss"] == whole.history_["loss"] and not done.interrupted_
    assert sorted(os.listdir()) == ["c", "m", "whole", "x", "y"]


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_of_a_model_that_was_cut_short_that_is_told_once(here, monkeypatch, capsys, command):
    stopping(monkeypatch, 6, signal.SIGINT)
    assert main(["train", "x", "y", "-o", "m", "--checkpoint", "c", *FLAGS]) == 130
    capsys.readouterr()
    for file, epochs in (("m", 2), ("c", 1)):  # the epoch that was cut is the model's second
        assert main([command, file, "x", *(["-o", f"out-{file}"] if command == "predict" else ["y"])]) == 0
        says = f"the training of {file} was cut short at epoch {epochs}"
        assert capsys.readouterr().err == f"minunet: warning: {says}\n"


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--resume"], 2, "--resume goes on with the training in --checkpoint FILE; give that, too"),
        (["--checkpoint", "m"], 2, "--checkpoint m is m, another file of this training; give it a name of its own"),
        (["--checkpoint", "x/0.png"], 2, "--checkpoint x/0.png is x/0.png, which is read"),
        (["--checkpoint", "there"], 1, "the checkpoint there is there already: --resume goes on with its training"),
        (["--checkpoint", "there", "--resume"], 1, "there: not a safetensors file"),
        (["--checkpoint", "missing/c"], 1, "there is no folder"),
        (["--checkpoint", "x"], 2, "--checkpoint x is x, which is read"),
        (["--checkpoint", "other"], 1, "the checkpoint other is there already"),
        (["--checkpoint", "other", "--resume"], 1, "other is a folder; give the name of a file in it"),
    ],
)
def test_what_cannot_be_a_checkpoint_is_refused_before_training(here, monkeypatch, capsys, flags, code, says):
    (here / "other").mkdir()
    (here / "there").write_bytes(b"something else that took long to make")
    monkeypatch.setattr(loop, "step", None)
    try:
        found = main(["train", "x", "y", "-o", "m", *flags, *FLAGS])
    except SystemExit as wrong:
        found = wrong.code
    err = capsys.readouterr().err
    assert (found, says in err) == (code, True), err
    assert sorted(os.listdir()) == ["other", "there", "x", "y"] and (here / "there").read_bytes().startswith(b"something")


def test_of_other_data_the_file_is_named(here, monkeypatch, capsys):
    stopping(monkeypatch, 6, signal.SIGINT)
    assert main(["train", "x", "y", "-o", "m", "--checkpoint", "c", *FLAGS]) == 130
    before = (here / "c").read_bytes()
    for name, what in (("y", "the mask of 2.png is another mask than it was"), ("x", "2.png is another image than it was")):
        pixels = np.asarray(Image.open(here / name / "2.png")).copy()
        pixels[3, 5] ^= 255
        Image.fromarray(pixels).save(here / name / "2.png")
        capsys.readouterr()
        assert main(["train", "x", "y", "-o", "n", "--checkpoint", "c", "--resume", *FLAGS]) == 1
        assert f"the training in {here / 'c'} was another one: {what}" in capsys.readouterr().err
    assert (here / "c").read_bytes() == before and not (here / "n").exists()
