"""How each command ends, outcome by outcome; and what happens to what has an output's name already, to the byte."""

from __future__ import annotations

import errno
import os
import signal
import sys

import numpy as np
import pytest
from PIL import Image

import minunet
from minunet import UNet
from minunet.cli import demo, main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

TINY = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1, "random_state": 3, "verbose": 0}
FLAGS = ["--base-channels", "2", "--depth", "1", "--patch-size", "16", "--max-epochs", "1", "--random-state", "3"]
THEIRS = b"theirs, and not to be lost"

# A command of each kind that writes; what it makes, all of it.
WRITES = {
    "train": (
        ["train", "images", "masks", "-o", "out", "-q", "--csv", "e.csv", "--report", "r", *FLAGS],
        ["out", "e.csv", "r/report.html"],
    ),
    "predict": (
        ["predict", "m", "images", "-o", "o", "-q", "--probabilities"],
        [f"o/{name}{ending}" for name in "ab" for ending in (".png", "_overlay.png", "_probabilities.tif")],
    ),
    "predict a stack": (
        ["predict", "m", "stack.tif", "-o", "o", "-q", "--probabilities"],
        [f"o/stack{ending}" for ending in (".tif", "_overlay.tif", "_probabilities.tif")],
    ),
    "evaluate": (["evaluate", "m", "images", "masks", "-q", "--csv", "s.csv"], ["s.csv"]),
    "demo": (["demo", "--output", "d"], ["d/demo.png", "d/demo.safetensors"]),
}  # fmt: skip
EACH_NAME = [(command, name) for command, (_, names) in WRITES.items() for name in names]
BESIDE = [  # what a command need not make, but whose name would be taken for that of what it made
    ("predict", "o/a.tif"), ("predict", "o/b_overlay.tif"), ("predict a stack", "o/stack.png"),
    ("predict a stack", "o/stack_overlay.png"),
]  # fmt: skip


def images():
    y = np.zeros((2, 24, 28), np.uint8)
    y[0, 4:15, 6:20] = y[1, 8:20, 3:25] = 255
    return (y // 3 + np.random.default_rng(0).integers(0, 60, y.shape)).astype(np.uint8), y


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m"
    UNet(**TINY).fit(*images()).save(path)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch, model):
    """Return the current folder: images and masks a and b, a stack of two pages, a model m, and a demo that is small."""
    x, y = images()
    for folder, arrays in (("images", x), ("masks", y)):
        (tmp_path / folder).mkdir()
        for name, array in zip("ab", arrays, strict=True):
            Image.fromarray(array).save(tmp_path / folder / f"{name}.png")
    pages = [Image.fromarray(page) for page in x]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    (tmp_path / "m").write_bytes(model.read_bytes())
    (tmp_path / "d").mkdir()
    small = {"n_train": 2, "n_test": 1, "size": 32, **TINY}
    monkeypatch.setattr(demo, "demo", lambda output, force, _demo=demo.demo: _demo(output, force, **small))
    monkeypatch.setattr("minunet.fitting.steps_per_epoch", lambda *_: 3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder):
    """Return all files by name, with their bytes, and the folders."""
    paths = sorted(folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in paths}


def run(command):
    words, _ = WRITES[command]
    if "--report" in words:  # which draws
        pytest.importorskip("matplotlib")
    return main(words)


# ---- What is there already -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", sorted(WRITES))
def test_what_goes_well_ends_with_0_and_has_written_what_it_should_and_no_more(here, command):
    before = contents(here)
    assert run(command) == 0
    after, names = contents(here), WRITES[command][1]
    made = {name for name, content in after.items() if content is not None and name not in before}
    assert made == set(names) and all(after[name] for name in names)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(("command", "name"), [*EACH_NAME, *BESIDE])
def test_what_is_there_is_kept_to_the_byte_unless_forced(here, command, name, capsys, monkeypatch):
    (here / name).parent.mkdir(exist_ok=True)
    (here / name).write_bytes(THEIRS)
    before = contents(here)
    with monkeypatch.context() as patch:
        for work in ("fit", "predict_proba", "predict"):
            patch.setattr(UNet, work, lambda *_, **__: pytest.fail("it worked, before it refused"))
        assert run(command) == 1
    assert f"{name} is there already; --force replaces it" in capsys.readouterr().err
    assert contents(here) == before


@pytest.mark.parametrize("command", sorted(WRITES))
def test_force_replaces_all_that_the_command_makes_and_nothing_else(here, command, monkeypatch):
    words, names = WRITES[command]
    for name in (*names, "other", "o/other.png"):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_bytes(THEIRS)
    before = contents(here)
    monkeypatch.setitem(WRITES, command, ([*words, "--force"], names))
    assert run(command) == 0
    after = contents(here)
    assert {name for name in after if after[name] != before.get(name, b"")} == set(names) and set(after) == set(before)


@pytest.mark.parametrize(("command", "name"), EACH_NAME)
def test_a_folder_of_an_outputs_name_is_not_replaced_even_by_force(here, command, name, monkeypatch, capsys):
    (here / name).mkdir(parents=True)
    (here / name / "inside").write_bytes(THEIRS)
    before, (words, names) = contents(here), WRITES[command]
    monkeypatch.setitem(WRITES, command, ([*words, "--force"], names))
    assert run(command) == 1
    assert f"{name} is a folder, which is not replaced" in capsys.readouterr().err and contents(here) == before


def test_a_checkpoint_that_is_there_is_kept_even_by_force_unless_it_is_gone_on_with(here, capsys, monkeypatch):
    words = ["train", "images", "masks", "-o", "out", "-q", "--checkpoint", "c", *FLAGS]
    (here / "c").write_bytes(THEIRS)
    before = contents(here)
    with monkeypatch.context() as patch:
        patch.setattr(UNet, "fit", lambda *_, **__: pytest.fail("it began, before it refused"))
        assert main(words) == main([*words, "--force"]) == 1
    assert "the checkpoint c is there already" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 1  # which is none
    assert contents(here) == before


def test_a_report_that_appears_during_the_training_is_kept_and_so_is_the_model(here, monkeypatch, capsys):
    pytest.importorskip("matplotlib")

    def fit(self, *args, _fit=UNet.fit, **options):
        _fit(self, *args, **options)
        (here / "r" / "report.html").write_bytes(THEIRS)
        return self

    monkeypatch.setattr(UNet, "fit", fit)
    assert run("train") == 1
    assert "r/report.html is there already" in capsys.readouterr().err
    assert (here / "r" / "report.html").read_bytes() == THEIRS and minunet.load(here / "out").n_iter_ == 1


# ---- The outcomes --------------------------------------------------------------------------------------------------------

STARTED = {
    "check": ["check", "images", "masks", *FLAGS], "train": ["train", "images", "masks", "-o", "out", "-q", *FLAGS],
    "predict": WRITES["predict"][0], "evaluate": WRITES["evaluate"][0], "summary": ["summary", "m"], "demo": WRITES["demo"][0],
}  # fmt: skip
WORK = {
    "check": "minunet.cli.check.survey", "train": "minunet.unet.fitting.fit", "predict": "minunet.predicting.probabilities",
    "evaluate": "minunet.predicting.probabilities", "summary": "minunet.unet.summarize", "demo": "minunet.unet.fitting.fit",
}  # fmt: skip
MISSING = {
    "check": ["check", "no", "masks"], "train": ["train", "images", "no", "-o", "out"],
    "predict": ["predict", "m", "no", "-o", "o"], "evaluate": ["evaluate", "no", "images", "masks"],
    "summary": ["summary", "no"], "demo": ["demo", "--output", "no"],
}  # fmt: skip


@pytest.mark.parametrize("command", ["check", "summary"])  # the others are above
def test_all_well_is_0(here, command):
    assert main(STARTED[command]) == 0


@pytest.mark.parametrize("command", sorted(STARTED))
def test_what_is_not_there_is_1_in_one_line_and_nothing_is_written(here, command, capsys):
    before = contents(here)
    assert main(MISSING[command]) == 1
    err = capsys.readouterr().err
    assert err.startswith("minunet: ") and "no" in err and err.count("\n") == 1 and contents(here) == before


@pytest.mark.parametrize("command", sorted(STARTED))
def test_wrong_use_is_2_and_nothing_is_written(here, command, capsys):
    before = contents(here)
    for words in ([command, "--nothing"], [*STARTED[command], "--nothing"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2 and contents(here) == before


ERRORS = [
    MemoryError("no room"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ValueError("bad"),
    FloatingPointError("it diverged"), ImportError("no such package"),
]  # fmt: skip


@pytest.mark.parametrize("command", sorted(STARTED))
def test_what_fails_in_the_work_is_1_in_a_line_and_nothing_is_written(here, command, monkeypatch, capsys):
    before = contents(here)
    for error in ERRORS:

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(WORK[command], fail)
        assert main(STARTED[command]) == 1
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("minunet: ")]
        assert told and str(error.strerror if isinstance(error, OSError) else error) in told[0]
        assert {name: data for name, data in contents(here).items() if name != "o"} == before


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize("command", sorted(STARTED))
def test_a_signal_in_the_work_has_a_status_of_its_own(here, command, monkeypatch):
    before = contents(here)
    for number, status in SIGNALS:
        monkeypatch.setattr(WORK[command], lambda *_, number=number, **__: signal.raise_signal(number))
        assert main(STARTED[command]) == status
        assert {name: data for name, data in contents(here).items() if name != "o"} == before


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_training_that_was_cut_short_is_no_success_though_its_model_is_saved(here, number, status, monkeypatch):
    done = []

    def step(*args, _step=minunet.training.loop.step, **options):
        done.append(1)
        if len(done) == 5:  # in the second epoch
            signal.raise_signal(number)
        return _step(*args, **options)

    monkeypatch.setattr("minunet.training.loop.step", step)
    assert main([*STARTED["train"], "--max-epochs", "3"]) == status
    unet = minunet.load(here / "out")
    assert unet.interrupted_ and len(done) == 5


def test_a_prediction_that_failed_in_part_is_1_and_the_rest_is_there(here, capsys):
    (here / "images" / "a.png").write_bytes(b"no image")
    assert run("predict") == 1
    assert "1 of 2 images could not be predicted" in capsys.readouterr().err
    assert sorted(path.name for path in (here / "o").iterdir()) == ["b.png", "b_overlay.png", "b_probabilities.tif"]


def test_a_check_that_finds_an_error_is_1_and_one_that_warns_is_0(here, capsys):
    words = ["check", "images", "masks", *FLAGS]
    Image.fromarray(np.full((24, 28), 90, np.uint8)).save(here / "images" / "a.png")
    assert main(words) == 0 and "warning: " in capsys.readouterr().out
    (here / "images" / "a.png").write_bytes(b"no image")
    assert main(words) == 1 and "error: " in capsys.readouterr().out


@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "demo"])
def test_a_disk_without_room_is_1_and_leaves_nothing_half_written(here, command, monkeypatch, capsys):
    before = contents(here)
    (here / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(here / "tmp"))

    def full(folder, name, *_, **__):
        raise OSError(f"{folder.path / name} could not be written: No space left on device")

    monkeypatch.setattr("minunet.writing.Folder.write", full)
    assert main(STARTED[command]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert {name: data for name, data in contents(here).items() if name not in ("o", "tmp")} == before
    assert not list((here / "tmp").iterdir())
