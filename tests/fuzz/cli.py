"""The target "cli": whatever is typed and whatever lies in the folders, `minunet` ends with 0, 1, 2 or 130 and says why in lines.

Training is asked for with the smallest network and one step, after whatever was drawn: the last flag counts.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from fuzz import imagebytes, modelbytes
from fuzz.judge import ACCEPTED, REFUSED, demand
from fuzz.source import Source

from minunet.cli import main

SECONDS = 20.0  # of the processor, that a case may take: a training may be among it
MEMORY = 2**30  # bytes that it may take
STATUSES = (0, 1, 2, 130)
COMMANDS = ("check", "train", "predict", "evaluate", "summary", "--version", "--help", "", "chekc", "demo")
NUMBERS = (
    "0",
    "1",
    "-1",
    "2",
    "1e3",
    "nan",
    "inf",
    "-inf",
    "",
    "x",
    "99999999999999999999",
    "1_0",
    "0x1",
    "\u0663",
    " 3",
    "1e-300",
    "\x1b[2J",
    "3\n4",
)
WORDS = (
    "auto",
    "cpu",
    "gpu",
    "gpu:9",
    "",
    "*",
    "[",
    "**",
    "../*",
    "a\nb",
    "\x1b[31m",
    "\u202e",
    "'",
    "x" * 300,
    "balanced",
    "0=1,255=2",
    "same",
)
FLAGS = (
    "--base-channels", "--depth", "--padding", "--dropout", "--loss", "--block", "--class-weight", "--optimizer",
    "--learning-rate", "--momentum", "--border-weight",
    "--weight-decay", "--batch-size", "--patch-size", "--augment", "--no-augment", "--flips-only", "--normalize",
    "--validation-fraction", "--random-state",
    "--device", "--n-threads", "--algorithm", "--precision", "--image-pattern", "--mask-pattern", "--skip-unpaired", "--classes",
    "--size",
    "--probabilities", "--force", "--csv", "-o", "-q", "-v", "--validation", "--", "--report", "--bogus", "-h", "--max-epochs",
    "--max-minutes",
)  # fmt: skip
SMALL = [
    "--base-channels",
    "1",
    "--depth",
    "1",
    "--patch-size",
    "8",
    "--max-epochs",
    "1",
    "--max-minutes",
    "0.001",
    "--batch-size",
    "1",
]
NAMES = (
    "b",
    "b b",
    "b\nc",
    "\x1b[31mb",
    "\u202eb",
    "b" * 200,
    ".b",
    "B",
    "b_overlay",
    "-b",
    "b\udcff",
    "é",
    "e\u0301",
    "CON",
    "b.png",
    "1",
    "01",
)


def test_one_input(data: bytes) -> tuple[str, str]:
    """Judge one case: return what became of it; Broken, or what was raised, where that is wrong."""
    source = Source(data)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-cli-"))
    before = os.getcwd()
    try:
        os.chdir(folder)
        furnish(Path(), source)
        arguments = vector(source)
        return judge(arguments, *called(arguments))
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)


def called(arguments: list[str]) -> tuple[int | str | None, str, str]:
    """Run the command; return its status, and what it wrote."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status: int | str | None = main(arguments)
        except SystemExit as stop:
            status = 0 if stop.code is None else stop.code
    return status, out.getvalue(), err.getvalue()


def judge(arguments: list[str], status: int | str | None, out: str, err: str) -> tuple[str, str]:
    demand(status in STATUSES, "the status is 0, 1, 2 or 130", (status, arguments))
    demand("Traceback" not in err, "there is no traceback", (err[-300:], arguments))
    lines = err.splitlines()
    if status == 2:
        demand(lines and lines[-1].startswith("minunet"), "wrong use is told in a last line", (lines[-1:], arguments))
    if status == 1 and not out.strip():
        demand(lines, "a failure is told", arguments)
    if status != 2:
        for line in lines:
            demand(line.startswith(("minunet: ", "epoch ")), "each line on stderr is minunet's", (line, arguments))
    for line in (*lines, *out.splitlines()):
        demand(line.replace("\t", "").isprintable(), f"what is printed can be shown (status {status})", (line, arguments))
        demand(len(line) < 5000, "a line is no novel", (line[:200], len(line), arguments))
    return (ACCEPTED, "") if status == 0 else (REFUSED, lines[-1] if lines else "")


def vector(source: Source) -> list[str]:
    """Return a command line that is nearly right."""
    command = source.choice(COMMANDS[:5]) if not source.once_in(12) else source.choice(COMMANDS)
    places = {
        "check": ["images", "masks"], "train": ["images", "masks", "-o", "out.safetensors"],
        "predict": ["model.safetensors", "images", "-o", "out"], "evaluate": ["model.safetensors", "images", "masks"],
        "summary": ["model.safetensors"],
    }  # fmt: skip
    arguments = [command, *places.get(command, [])]
    if command == "summary" and source.once_in(2):
        arguments = [command]
    for _ in range(source.below(4)):
        arguments += _flag(source)
    for _ in range(source.below(3)):
        i, kind = source.below(len(arguments)), source.below(8)
        if kind == 0:
            arguments[i] = source.choice(
                (*WORDS, *NUMBERS, "nowhere", ".", "..", "/", "/dev/null", "images", "masks", "model.safetensors", "loop")
            )
        elif kind == 1:
            del arguments[i]
        elif kind == 2:
            arguments.insert(i, source.choice((*WORDS, "images", "masks", "~")))
        if not arguments:
            break
    small = SMALL if arguments[:1] in (["train"], ["check"]) else SMALL[:4] if arguments == ["summary"] else []
    return ["demo", "--bogus"] if arguments[:1] == ["demo"] else arguments + small


def _flag(source: Source) -> list[str]:
    flag = source.choice(FLAGS)
    values = [source.choice(NUMBERS if source.once_in(2) else WORDS) for _ in range(source.choice((1, 1, 0, 2)))]
    return [f"{flag}={values[0]}"] if values and source.once_in(8) else [flag, *values]


def furnish(folder: Path, source: Source) -> None:
    """Make folders of images and masks, and a model: sound ones, with some that are not."""
    for name, seed in (("images", "png"), ("masks", "bits")):
        (folder / name).mkdir()
        (folder / name / "a.png").write_bytes(_seed(seed).data)
        for _ in range(source.choice((0, 1, 1, 2))):
            with contextlib.suppress(OSError, ValueError):  # this file system takes no such name
                put_something(folder / name, source)
    model = modelbytes.seeds()[0] if not source.once_in(4) else modelbytes.mutated(source)[0]
    (folder / "model.safetensors").write_bytes(model)
    (folder / "loop").symlink_to("loop")


def _seed(name: str) -> imagebytes.Seed:
    return next(seed for seed in imagebytes.seeds() if seed.name == name)


def put_something(folder: Path, source: Source) -> None:
    """Put something into a folder that should not be there, or a sound image by a strange name."""
    case = imagebytes.mutated(source)
    path = folder / f"{source.choice(NAMES)}{case.ending}"
    kinds: tuple[Callable[[], object], ...] = (
        lambda: path.write_bytes(case.data), lambda: path.write_bytes(case.seed.data), lambda: path.write_bytes(b""), path.mkdir,
        lambda: path.symlink_to("nowhere"), lambda: path.symlink_to(path.name), lambda: path.symlink_to("a.png"),
        lambda: path.symlink_to("/dev/zero"), lambda: os.mkfifo(path), lambda: path.symlink_to("."),
        lambda: (path.write_bytes(case.seed.data), path.chmod(0)),
    )  # fmt: skip
    put = source.choice(kinds)
    if not os.path.lexists(path):  # writing into a pipe would wait for ever
        put()
