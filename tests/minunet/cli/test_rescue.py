"""A model that cannot be saved where it should be is elsewhere, all of it, and the last line says where, whatever ends it."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

import minunet
from minunet import UNet
from minunet.cli import demo, main, rescue, train
from minunet.evaluation.held_out import Validation
from minunet.training import step

TINY = ["--base-channels", "2", "--depth", "1", "--patch-size", "16", "--max-epochs", "1", "--random-state", "0"]
LONG = "n" * 255


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return the current folder, with images, masks and an empty folder `runs`."""
    rng = np.random.default_rng(0)
    for i in range(2):
        for folder, pixels in (("images", rng.integers(0, 90, (24, 24))), ("masks", np.tri(24, dtype=int) * 255)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / folder / f"{i}.png")
    (tmp_path / "runs").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trained(monkeypatch):
    """Return a list that each training appends its weights to, when it has ended, and a function that sets what happens then."""
    weights = []

    def at_the_end(*acts):
        def fit(self, *args, _fit=UNet.fit, **options):
            _fit(self, *args, **options)
            weights.append(self.network_.flat.copy())
            for act in acts:
                act()
            return self

        monkeypatch.setattr(UNet, "fit", fit)

    return weights, at_the_end


def become_a_file():
    shutil.rmtree("runs")
    open("runs", "w").close()


def fill(monkeypatch, room):
    """Let no file be written but in folders whose name begins so."""

    def full(folder, name, data, *, replace, _write=minunet.writing.Folder.write):
        if not folder.path.name.startswith(room):
            raise OSError(f"{folder.path / name} could not be written: No space left on device")
        _write(folder, name, data, replace=replace)

    monkeypatch.setattr("minunet.writing.Folder.write", full)


def press(monkeypatch):
    """Let Ctrl-C arrive in each step."""

    def pressed(*args, **options):
        signal.raise_signal(signal.SIGINT)
        return step(*args, **options)

    monkeypatch.setattr("minunet.training.loop.step", pressed)


def interrupt():
    raise KeyboardInterrupt


def diverge():
    raise FloatingPointError("training diverged")


def rescued(capsys, weights):
    """Return where the last line says that the model is, which is all that was learned."""
    *_, last = capsys.readouterr().err.splitlines()
    place = re.search(r"\. The model is in (.*)$", last)[1]
    np.testing.assert_array_equal(minunet.load(place).network_.flat, weights[-1])
    return place


@pytest.mark.filterwarnings("ignore:interrupted after 1 steps")
@pytest.mark.parametrize(
    ("name", "accident", "place"),
    [
        ("m.st", lambda: os.mkdir("runs/m.st"), "runs/m-2.st"),
        ("m.st", become_a_file, "m.st"),
        (LONG, lambda: os.mkdir(f"runs/{LONG}"), LONG),  # with a number it would be too long
    ],
    ids=["a folder took its name", "its folder became a file", "the longest name"],
)  # fmt: skip
def test_the_place_is_the_last_line_of_an_interrupted_training(here, trained, monkeypatch, capsys, name, accident, place):
    weights, at_the_end = trained
    at_the_end(accident)
    press(monkeypatch)
    assert main(["train", "images", "masks", "-o", f"runs/{name}", *TINY]) == 1
    assert rescued(capsys, weights) == str(here / place) and minunet.load(here / place).interrupted_


ENDS = ["the report fails", "the report is written", "Ctrl-C in the report", "Ctrl-C twice", "it diverged"]


@pytest.mark.parametrize("end", ENDS)
def test_the_place_is_the_last_line_whatever_ends_the_command(here, trained, monkeypatch, capsys, end):
    weights, at_the_end = trained
    acts = {"Ctrl-C twice": [interrupt], "it diverged": [diverge]}

    def report(*args, **options):
        if end == "the report fails":
            raise OSError("no room for the report")
        if end == "Ctrl-C in the report":
            signal.raise_signal(signal.SIGINT)
        return here / "r" / "report.html"

    monkeypatch.setattr(train, "write_report", report)
    at_the_end(lambda: os.mkdir("runs/m"), *acts.get(end, []))
    assert main(["train", "images", "masks", "-o", "runs/m", "--report", "r", *TINY]) == 1
    assert rescued(capsys, weights) == str(here / "runs" / "m-2")


def test_a_folder_of_the_users_stays_where_it_is_full_and_the_model_is_in_a_temporary_one(here, trained, monkeypatch, capsys):
    weights, at_the_end = trained
    at_the_end(lambda: fill(monkeypatch, "minunet-"))
    assert main(["train", "images", "masks", "-o", "runs/m", *TINY]) == 1
    assert rescued(capsys, weights).startswith(str(here / "tmp" / "minunet-")) and (here / "runs").is_dir()


def test_a_model_that_could_be_saved_nowhere_is_told_of_as_lost(here, trained, monkeypatch, capsys):
    _, at_the_end = trained
    at_the_end(lambda: fill(monkeypatch, "nowhere"))
    assert main(["train", "images", "masks", "-o", "runs/m", *TINY]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "runs/m could not be written: No space left on device. The model could be saved nowhere else, and is lost" in last
    assert os.listdir(here / "tmp") == []


@pytest.mark.parametrize("acts", [[], [interrupt]], ids=["in order", "Ctrl-C twice"])
def test_a_demo_keeps_its_model_too(here, trained, monkeypatch, capsys, acts):
    weights, at_the_end = trained
    tiny = {"n_train": 2, "n_test": 1, "size": 32, "base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1}
    monkeypatch.setattr(demo, "demo", functools.partial(demo.demo, **tiny))
    at_the_end(lambda: os.mkdir("runs/demo.safetensors"), *acts)
    assert main(["demo", "--output", "runs"]) == 1
    assert rescued(capsys, weights) == str(here / "runs" / "demo-2.safetensors")
    assert os.path.exists("runs/demo.png") is (not acts)


def test_a_validation_that_ctrl_c_cut_short_is_told_by_the_one_before(here, monkeypatch, capsys):
    known = iter([Validation({"val_loss": 0.5, "val_dice": 0.25})])

    def validate(*_, **options):
        if found := next(known, None):
            return found
        signal.raise_signal(signal.SIGINT)  # which cuts it short

    monkeypatch.setattr("minunet.fitting.validate", validate)
    assert main(["train", "images", "masks", "-o", "m", *TINY, "--max-epochs", "3"]) == 130
    out, err = capsys.readouterr()
    assert "Wrote m (validation Dice 0.250, of epoch 1)." in out and "nan" not in out + err
    assert minunet.load("m").n_iter_ == 2


def test_what_was_insisted_on_is_of_one_command(here, monkeypatch, capsys):
    unet = UNet(base_channels=2, depth=1, patch_size=16, max_epochs=1, verbose=0, random_state=0)
    unet.fit(np.random.default_rng(0).random((1, 16, 16)), np.tri(16, dtype=int)[None])
    (here / "m").mkdir()
    assert rescue.keep(unet, here / "m", force=False) is False
    assert rescued(capsys, [unet.network_.flat]) == str(here / "m-2")
    assert main(["summary"]) == 0 and "The model is in" not in capsys.readouterr().err
