"""What the command line does with images that cannot be read: pipes, links to nothing, more pixels than are allowed."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from PIL import Image

from minunet.cli import main

RNG = np.random.default_rng(0)
SMALL = ["--base-channels", "2", "--depth", "1", "--patch-size", "16", "--batch-size", "1", "--max-epochs", "1"]

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes among files here")


@pytest.fixture(autouse=True)
def within_a_minute():
    """End a test that waits for a pipe."""
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    path = str(folder / "model.safetensors")
    assert main(["train", *pair(folder), "-o", path, "-q", *SMALL]) == 0
    return path


def pair(folder):
    """Make a folder of two images and one of their masks, and return both."""
    for name in ("images", "masks"):
        (folder / name).mkdir()
        for i in range(2):
            pixels = RNG.integers(0, 2, (16, 16), np.uint8) * 255 if name == "masks" else RNG.integers(0, 256, (16, 16), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return str(folder / "images"), str(folder / "masks")


@pytest.mark.parametrize("kind", ["pipe", "link"])
@pytest.mark.parametrize("where", ["images", "masks"])
def test_every_command_names_what_is_no_file(model, tmp_path, capsys, kind, where):
    images, masks = pair(tmp_path)
    path = tmp_path / where / "1.png"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("gone.png")
    expected = "1.png cannot be opened: it is a pipe" if kind == "pipe" else "1.png is a link to gone.png, which is not there"
    commands = [["check", images, masks], ["train", images, masks, "-o", str(tmp_path / "m")], ["evaluate", model, images, masks]]
    commands += [["predict", model, str(tmp_path / where), "-o", str(tmp_path / "out")]]
    commands += [["check", str(path), str(path)], ["predict", model, str(path), "-o", str(tmp_path / "out2")]]
    for command in commands:
        assert main(command) == 1
        out, err = capsys.readouterr()
        assert expected in out + err, command
    assert not (tmp_path / "m").exists() and (tmp_path / "out" / "0.png").exists()


def test_more_pixels_than_are_allowed(model, tmp_path, capsys):
    images, masks = pair(tmp_path)
    few, enough = ["--max-pixels", "255"], ["--max-pixels", "256"]
    commands = [["check", images, masks, *SMALL], ["train", images, masks, "-o", str(tmp_path / "m"), "-q", *SMALL]]
    commands += [["evaluate", model, images, masks], ["predict", model, images, "-o", str(tmp_path / "out")]]
    for command in commands:
        assert main([*command, *few]) == 1
        out, err = capsys.readouterr()
        assert "0.png would decode to 256 pixels" in out + err and "--max-pixels 256" in out + err
        assert main([*command, *enough]) == 0
        out, _ = capsys.readouterr()
        assert command[0] != "check" or "--max-pixels 256" in out.splitlines()[-1], "the next command keeps the limit"


@pytest.mark.parametrize("given", ["0", "-1", "many", "1e9", "9" * 30])
def test_what_is_no_number_of_pixels_is_wrong_use(tmp_path, capsys, given):
    with pytest.raises(SystemExit) as end:
        main(["check", *pair(tmp_path), "--max-pixels", given])
    assert end.value.code == 2
    assert "--max-pixels" in capsys.readouterr()[1]
