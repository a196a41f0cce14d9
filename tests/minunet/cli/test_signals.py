"""Each signal ends each command in order: its exit code, no traceback, the model saved, nothing half written."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import minunet
from minunet.cli import main
from minunet.signals import Signals, Terminated, held
from minunet.training.interrupt import StopOnInterrupt

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")


def seldom(*values):
    """Return parameters that the gate alone tries: each starts a process, on ways that others of the test go too."""
    return [pytest.param(value, marks=pytest.mark.rare) for value in values]


CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
SMALL = ["--base-channels", "4", "--depth", "2", "--patch-size", "32", "--random-state", "0", "--n-threads", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with images, masks, many more images, and a model."""
    folder = tmp_path_factory.mktemp("signals")
    rng = np.random.default_rng(0)
    for kind in ("images", "masks", "many"):
        (folder / kind).mkdir()
    for i in range(3):
        y = np.zeros((40, 40), np.uint8)
        y[10 : 20 + i, 8:30] = 255
        Image.fromarray(y).save(folder / "masks" / f"{i}.png")
        Image.fromarray((60 + y // 3 + rng.integers(0, 30, y.shape)).astype(np.uint8)).save(folder / "images" / f"{i}.png")
    for i in range(400):
        Image.fromarray(rng.integers(0, 255, (64, 64)).astype(np.uint8)).save(folder / "many" / f"{i}.png")
    model = ["-o", str(folder / "m.safetensors"), "-q", "--max-epochs", "2"]
    assert main(["train", str(folder / "images"), str(folder / "masks"), *SMALL, *model]) == 0
    return folder


PROGRAM = "import sys; from minunet.program import program; print('started', file=sys.stderr, flush=True); program()"


def heeding_the_end_of_a_terminal():
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # although the tests may run under nohup


def start(folder, *words, **options):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": heeding_the_end_of_a_terminal} | options
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, words)], cwd=folder, text=True, **pipes)
    assert process.stderr.readline() == "started\n"
    return process


def train(folder, out, *flags, **options):
    return start(folder, "train", "images", "masks", "-o", out, *SMALL, "--max-epochs", 5000, *flags, **options)


def wait_for(stream, text, n=1):
    """Read lines until n of them start with the text."""
    while n:
        line = stream.readline()
        assert line, f"it ended before it said {text!r}"
        n -= line.startswith(text)


def ended(process):
    """Return exit code and what was said on stderr, which is no traceback."""
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in (err or "") and "Exception" not in (err or ""), err
    return process.returncode, err


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_training_is_saved(folder, tmp_path, number):
    process = train(folder, tmp_path / "m")
    wait_for(process.stderr, "epoch", 2)
    process.send_signal(number)
    code, err = ended(process)
    assert code == CODES[number] and "interrupted after" in err
    assert minunet.load(tmp_path / "m").n_iter_ >= 2 and os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("pause", [0.003, *seldom(0, 0.3)])
def test_ctrl_c_twice_or_more_saves_the_last_epoch(folder, tmp_path, pause):
    process = train(folder, tmp_path / "m")
    wait_for(process.stderr, "epoch", 2)
    for _ in range(4):
        process.send_signal(signal.SIGINT)
        time.sleep(pause)
    assert ended(process)[0] == 130
    assert minunet.load(tmp_path / "m").n_iter_ >= 2 and os.listdir(tmp_path) == ["m"]


def test_signals_that_are_ignored_stay_so(folder, tmp_path):
    process = train(folder, tmp_path / "m", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))  # nohup
    wait_for(process.stderr, "epoch")
    process.send_signal(signal.SIGHUP)
    wait_for(process.stderr, "epoch", 3)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143 and os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("number", [signal.SIGTERM, *seldom(signal.SIGINT, signal.SIGHUP)], ids=lambda number: number.name)
def test_what_was_predicted_stays_and_is_whole(folder, tmp_path, number):
    process = start(folder, "predict", "m.safetensors", "many", "-o", tmp_path)
    wait_for(process.stdout, "1", 1)
    time.sleep(random.Random(number).uniform(0, 0.2))
    process.send_signal(number)
    assert ended(process)[0] == CODES[number]
    names = sorted(os.listdir(tmp_path))
    assert 2 <= len(names) < 800 and {f"{name[:-4]}_overlay.png" for name in names if "_" not in name} <= set(names)
    for name in names:
        with Image.open(tmp_path / name) as image:
            image.load()


@pytest.mark.parametrize("command", ["train", "predict", *seldom("evaluate", "check", "demo", "summary")])
def test_a_signal_at_any_moment_ends_a_command(folder, tmp_path, command):
    words = {
        "train": ["images", "masks", "-o", tmp_path / "m", *SMALL, "--max-epochs", 20],
        "predict": ["m.safetensors", "many", "-o", tmp_path / "out"],
        "evaluate": ["m.safetensors", "images", "masks", "--csv", tmp_path / "s.csv"],
        "check": ["images", "masks"],
        "demo": ["--output", tmp_path],
        "summary": ["m.safetensors"],
    }[command]
    draw = random.Random(command)
    number = draw.choice(list(CODES))
    process = start(folder, command, *words)
    time.sleep(draw.uniform(0.1, 2))
    process.send_signal(number)
    code, err = ended(process)
    assert code in (0, CODES[number]), err
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".minunet-tmp")]


def test_a_reader_who_goes_away_stops_nothing(folder, tmp_path):
    process = start(folder, "predict", "m.safetensors", "images", "-o", tmp_path / "out", "-v")
    process.stdout.close()
    process.stdout = None
    code, err = ended(process)
    assert code == 0 and len(os.listdir(tmp_path / "out")) == 6
    assert "Broken" not in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_stdout_that_takes_nothing_is_a_failure(folder):
    with open("/dev/full", "w") as full:
        assert ended(start(folder, "summary", "m.safetensors", stdout=full)) == (
            1, "minunet: stdout could not be written: No space left on device\n",
        )  # fmt: skip


@pytest.mark.parametrize("streams", ["2>/dev/full", "<&- >&- 2>&-", *seldom("2>&-", ">&- 2>&-")])
def test_a_training_needs_no_stderr(folder, tmp_path, streams):
    command = f"{sys.executable} -m minunet train images masks -o {tmp_path}/m {' '.join(SMALL)} --max-epochs 2 {streams}"
    assert subprocess.run(command, shell=True, cwd=folder, capture_output=True).returncode == 0
    assert minunet.load(tmp_path / "m").n_iter_ == 2 and os.listdir(tmp_path) == ["m"]


def test_handlers_are_the_command_lines_only(monkeypatch):
    before = [signal.getsignal(number) for number in CODES]
    seen = []
    monkeypatch.setattr("minunet.cli.summary.run", lambda arguments: seen.extend(map(signal.getsignal, CODES)) or 0)
    assert main(["summary"]) == 0
    assert all(new not in before for new in seen)
    assert [signal.getsignal(number) for number in CODES] == before


def test_in_python_only_ctrl_c_is_taken():
    before = [signal.getsignal(number) for number in CODES]
    with StopOnInterrupt():
        assert [signal.getsignal(number) for number in CODES][1:] == before[1:]
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert [signal.getsignal(number) for number in CODES] == before


def test_a_signal_is_raised_after_what_it_may_not_cut():
    done = []
    with Signals() as signals:
        signals.release()
        with pytest.raises(Terminated):
            with held():
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGINT)
                done.append(1)
            done.append(2)
    assert done == [1] and signals.exit_code == 143


def test_a_training_holds_the_signals_till_they_are_released():
    with Signals() as signals:
        signals.release()
        with StopOnInterrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupt.requested
            os.kill(os.getpid(), signal.SIGTERM)  # asked twice is asked
        signals.release()  # what the training took is not told again
        with StopOnInterrupt():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Terminated):
            signals.release()
    assert signals.exit_code == 129


MOMENTS = [  # a function of the console, within which signals arrive; the command; its exit code, None for the signal's
    ("fill_standard_descriptors", ["summary", "m.safetensors"], None),  # before the command has begun: it is remembered
    ("told", ["summary", "missing"], 1),  # a failure is told meanwhile
    ("complain", ["summary", "missing"], 1),
    ("lost", ["summary", "m.safetensors"], 0),  # all is done
    ("lost", ["summary", "missing"], 1),
    ("printable", ["summary", "--nonsense"], 2),  # wrong use is told
]
FORKS = """
import itertools, json, os, sys
from minunet import cli, program
moments, numbers = json.loads(sys.argv[1])
with open(os.devnull, "w") as sys.stdout:
    cli.main(["summary", "m.safetensors"])  # what it imports is there then, for all
sys.stdout = sys.__stdout__
for (where, words, code), number, n in itertools.product(moments, numbers, [1, 2, 5]):
    read, write = os.pipe()
    if not (child := os.fork()):
        for stream in (1, 2):
            os.dup2(write, stream)
        os.close(read), os.close(write)
        sys.argv[1:] = words
        def wrapped(*words, whole=getattr(cli.console, where)):
            for _ in range(n):
                os.kill(os.getpid(), number)
            return whole(*words)
        setattr(cli.console, where, wrapped)
        try:
            program.program()
        except SystemExit as ended:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(ended.code or 0)  # to take down what was imported takes longer than all else
    os.close(write)
    said = open(read, errors="replace").read()
    print(json.dumps([where, words, number, n, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said]), flush=True)
"""


def test_signals_before_the_command_begins_and_when_its_end_is_told(folder):
    words = [sys.executable, "-c", FORKS, json.dumps([MOMENTS, list(map(int, CODES))])]  # one start for all of them
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(results) == 9 * len(MOMENTS), done.stderr
    codes = {(where, *words): code for where, words, code in MOMENTS}
    for where, words, number, n, code, said in results:
        expected = codes[(where, *words)]
        assert code == (CODES[number] if expected is None else expected), (where, words, number, n, said)
        assert "Traceback" not in said, (where, words, number, n, said)


def test_ctrl_c_while_the_command_is_imported_is_told_in_a_line():
    press = """
import os, sys
class Press:
    def find_spec(self, name, *others):
        if name == "minunet.cli":
            os.kill(os.getpid(), 2)
from minunet.program import program
sys.meta_path.insert(0, Press())
program()
"""
    done = subprocess.run([sys.executable, "-c", press, "summary"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "minunet: interrupted\n")


def test_no_third_signal_cuts_into_what_takes_the_second():
    with Signals() as running:
        running.release()
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert running.holding and running.exit_code == 130
