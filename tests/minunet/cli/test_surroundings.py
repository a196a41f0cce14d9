"""Where a command runs: without docstrings, a home, a current folder or streams, or on streams that cannot show a name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minunet
from minunet import UNet
from minunet.cli import main
from minunet.kernels import telling
from minunet.kernels.cpu import jit
from minunet.streams import Stream

TESTS = Path(__file__).resolve().parents[2]
SMALL = ["--base-channels", "2", "--depth", "1", "--patch-size", "16", "--batch-size", "1", "--max-epochs", "1"]
NAMES = ["a.png", "\u03a9.png", "\u7ec6\u80de.png"]


@pytest.fixture
def folders(tmp_path):
    """Return a folder of images and one of masks, as text."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        mask = np.zeros((24, 24), np.uint8)
        mask[4:15, 6:20] = 255
        for folder, pixels in (("images", mask // 3 + rng.integers(0, 40, mask.shape, np.uint8)), ("masks", mask)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / name)
    return str(tmp_path / "images"), str(tmp_path / "masks")


ALL_COMMANDS = """
import os, sys
from minunet.cli import main
images, masks, out, *small = sys.argv[1:]
os.mkdir(out + "/gone"), os.chdir(out + "/gone"), os.rmdir(out + "/gone")
model = out + "/m"
codes = [
    main(["check", images, masks, "-q", *small]),
    main(["train", images, masks, "-o", model, *small]),
    main(["predict", model, images, "-o", out + "/\\u7ec6"]),
    main(["evaluate", model, images, masks, "--csv", out + "/s.csv", "-v"]),
    main(["summary", model]),
    main(["predict", model, images, "-o", "here"]),
]
for command in ("check", "train", "predict", "evaluate", "summary", "demo"):
    try:
        main([command, "--help"])
    except SystemExit as stop:
        codes.append(stop.code)
print(*codes, file=open(out + "/codes", "w"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no current folder can vanish there")
def test_every_command_works_without_docstrings_home_or_current_folder_and_on_streams_of_few_letters(folders, tmp_path):
    """python -OO, as a service without a home, in a folder that was deleted, redirected to a file of Windows."""
    poor = {"HOME": "/nonexistent", "PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(TESTS.parent)}
    environment = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"} | poor
    command = [sys.executable, "-OO", "-c", ALL_COMMANDS, *folders, str(tmp_path), *SMALL]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=300)
    told = (done.stdout + done.stderr).decode("cp1252")
    assert (tmp_path / "codes").read_text().split() == ["0", "0", "0", "0", "0", "1", *["0"] * 6], told
    assert "minunet: the current folder is not there any more" in told and "Traceback" not in told
    assert rf"\u03a9.png -> {tmp_path}/\u7ec6/\u03a9.png" in told and "--class-weight WEIGHTS" in told
    assert len(os.listdir(tmp_path / "\u7ec6")) == 6


class Log:
    """What a program with a window has in the place of a stream: it takes text, and has nothing else."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


@pytest.mark.parametrize("make", [lambda: None, Log])
def test_every_command_works_in_a_program_without_streams(folders, tmp_path, monkeypatch, make):
    images, masks = folders
    model, out = str(tmp_path / "m"), tmp_path / "out"
    monkeypatch.setattr("sys.stdout", make())
    monkeypatch.setattr("sys.stderr", make())
    assert main(["check", images, masks, "-q", *SMALL]) == 0
    assert main(["train", images, masks, "-o", model, *SMALL]) == 0
    assert main(["predict", model, images, "-o", str(out)]) == 0 and len(os.listdir(out)) == 6
    assert main(["evaluate", model, images, masks]) == 0
    assert main(["evaluate", model, images, "nowhere"]) == 1
    if sys.stdout is not None:
        assert "pixel error" in sys.stdout.text and "there is no nowhere" in sys.stderr.text
        assert "epoch 1/1  loss" in sys.stderr.text and "\r" not in sys.stderr.text


@pytest.mark.parametrize("stream", [None, Log(), object()])
def test_so_do_fit_and_what_kernels_say(monkeypatch, tmp_path, stream):
    monkeypatch.setattr("sys.stderr", stream)
    with telling(True):
        jit._say("compiling")
    UNet(base_channels=2, depth=1, max_epochs=1, verbose=1).fit(np.eye(16), np.eye(16, dtype=int)).save(tmp_path / "m")
    assert minunet.load(tmp_path / "m").predict(np.eye(16)).shape == (16, 16)
    if isinstance(stream, Log):
        assert stream.text.startswith("minunet: compiling\nepoch 1/1  loss")


class Broken:
    encoding = None

    def write(self, text):
        raise ValueError("I/O operation on closed file")

    def isatty(self):
        raise ValueError("I/O operation on closed file")


def test_a_stream_tells_why_it_took_nothing_and_a_command_fails_by_it(folders, monkeypatch):
    stream = Stream(Broken())
    assert not stream.isatty() and stream.write("text") == 4
    stream.flush()
    assert stream.failure.strerror == "I/O operation on closed file"
    monkeypatch.setattr("sys.stdout", Broken())
    monkeypatch.setattr("sys.stderr", Log())
    assert main(["summary"]) == 1
    assert sys.stderr.text == "minunet: stdout could not be written: I/O operation on closed file\n"


FILLS = """
import contextlib, itertools, os
from minunet.cli.console import fill_standard_descriptors

def opened():
    found = set()
    for descriptor in range(30):
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            found.add(descriptor)
    return found

before = opened()
for n in range(4):
    for closed in itertools.combinations(range(3), n):
        for descriptor in closed:
            os.close(descriptor)
        fill_standard_descriptors()
        if opened() != before:
            os._exit(1)
"""


def test_standard_descriptors_that_are_closed_are_opened_and_no_other():
    assert subprocess.run([sys.executable, "-c", FILLS], check=False).returncode == 0
