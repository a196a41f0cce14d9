"""What commands print, in a terminal, and where there is none: one bar and whole lines, or whole lines alone."""

from __future__ import annotations

import functools
import re
import sys
import warnings

import numpy as np
import pytest
from PIL import Image
from terminal import Pieces, terminal

from minunet import training
from minunet.cli import main
from minunet.cli.demo import demo
from minunet.kernels.cpu import jit

NETWORK = ["--base-channels", "2", "--depth", "1", "--patch-size", "16", "--random-state", "0"]
FEW = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 2, "random_state": 0}
BAR = re.compile(r"training, about \d+ s in all: 100%\|#*\u2588*\| \d+/\d+ \[.*loss=0\.\d+, val_loss=0\.\d+, val_dice=0\.\d+\]")
EPOCH = r"epoch {}/2  loss 0\.\d+  val_loss 0\.\d+  val_dice 0\.\d+  \d+ s of about \d+ s  \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with images and masks; epochs are of 6 steps, and the kernels' compilation is announced anew."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for i in range(3):
        mask = np.zeros((24, 24), np.uint8)
        mask[4 : 15 + i, 6:20] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
        Image.fromarray(mask // 3 + rng.integers(0, 40, mask.shape, np.uint8)).save(tmp_path / "images" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minunet.training.schedule.MIN_STEPS", 6)
    real = training.step

    @functools.wraps(real)
    def step(*args, **options):
        """A step in which the kernels say that they are compiled, and in which somebody warns."""
        jit._say("compiling")
        warnings.warn("odd", stacklevel=1)
        return real(*args, **options)

    monkeypatch.setattr("minunet.training.loop.step", step)
    return tmp_path


def train(*flags):
    return main(["train", "images", "masks", "-o", "m", "--max-epochs", "2", *NETWORK, *flags])


STEP = ["minunet: compiling", "minunet: warning: odd"]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
def test_in_a_terminal_there_is_one_bar_and_lines_that_nothing_breaks(folder):
    with terminal() as screen:
        assert train() == 0
    described, told, (bar, wrote, last) = screen.lines[:4], screen.lines[4:-3], screen.lines[-3:]
    assert [line.split()[0] for line in described] == ["images", "sizes", "pixels", "classes"]
    assert told == STEP * 12
    assert BAR.fullmatch(bar) and wrote.startswith("Wrote m (validation Dice 0.") and last == ""


COMMANDS = {
    "predict": "predict m images -o out --force",
    "evaluate": "evaluate m images masks",
    "check": f"check images masks {' '.join(NETWORK)}",
}
NUMBERS = re.compile(r"^(memory|time) .*", re.MULTILINE)  # differ from one time to another


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
def test_what_a_terminal_shows_in_the_end_is_what_is_printed_elsewhere(folder, capsys):
    assert train("-q") == 0
    capsys.readouterr()
    for name, command in COMMANDS.items():
        assert main(command.split()) == 0
        out, err = capsys.readouterr()
        with terminal() as screen:
            assert main(command.split()) == 0
        assert NUMBERS.sub(r"\1", "\n".join(screen.lines)) == NUMBERS.sub(r"\1", out) and err == ""
        bar = {"predict": b"predicting:   0%", "evaluate": b"evaluating:   0%", "check": b"reading:   0%"}[name]
        assert screen.raw.count(bar) == 1 and (b"timing training steps ..." in screen.raw) == (name == "check")


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
def test_what_goes_wrong_is_told_in_lines_of_its_own_too(folder):
    assert train("-q") == 0
    (folder / "images" / "1.png").write_bytes(b"no image")
    with terminal() as screen:
        assert main(["predict", "m", "images", "-o", "out"]) == 1
    *found, last = screen.lines
    assert found[0] == "0.png -> out/0.png" and found[1].startswith("minunet: 1.png") and found[2] == "2.png -> out/2.png"
    assert found[3:] == ["minunet: 1 of 3 images could not be predicted"] and last == ""


def test_elsewhere_stderr_has_whole_lines_each_flushed_and_nothing_that_moves_a_cursor(folder, monkeypatch):
    monkeypatch.setattr("sys.stderr", err := Pieces())
    monkeypatch.setattr("sys.stdout", out := Pieces())
    assert train() == 0
    said = [line for line in err.lines if line not in STEP]
    assert len(err.lines) == len(said) + 24 and all(map(re.fullmatch, [EPOCH.format(1), EPOCH.format(2)], said)), said
    for command in COMMANDS.values():
        monkeypatch.setattr("sys.stderr", err := Pieces())
        assert main(command.split()) == 0 and err.lines == []
    assert not set("".join(filter(None, out.pieces))) & set("\r\x1b\b")


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
def test_so_does_the_demo(tmp_path, monkeypatch):
    monkeypatch.setattr("minunet.training.schedule.MIN_STEPS", 6)
    tiny = {"n_train": 3, "n_test": 1, "size": 32, **FEW}
    monkeypatch.setattr("sys.stderr", err := Pieces())
    monkeypatch.setattr("sys.stdout", out := Pieces())
    demo(tmp_path, **tiny)
    assert [line.split("  ")[0] for line in err.lines] == ["epoch 1/2", "epoch 2/2"]
    with terminal() as screen:
        demo(tmp_path, force=True, **tiny)
    *shown, last = screen.lines
    (bar,) = (line for line in shown if line.startswith("training"))
    shown.remove(bar)
    printed = "".join(filter(None, out.pieces)).splitlines()
    assert BAR.fullmatch(bar) and last == "" and len(shown) == len(printed) == 7
    assert [line for line in shown if "trained in" not in line] == [line for line in printed if "trained in" not in line]


@pytest.mark.parametrize("command", ["train images masks -o n --max-epochs 1 {}", COMMANDS["predict"], COMMANDS["evaluate"]])
def test_quiet_is_quiet(folder, monkeypatch, capfd, command):
    monkeypatch.setattr("minunet.training.loop.step", training.step)
    assert train("-q") == 0
    assert main([*command.format(" ".join(NETWORK)).split(), "-q"]) == 0
    assert capfd.readouterr() == ("", "")
