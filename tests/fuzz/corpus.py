"""A corpus of hostile files, made by recipes, and what becomes of each.

PYTHONPATH=tests python -m fuzz.corpus                 # judge all of them: a table, and exit status 1 where one is not refused
PYTHONPATH=tests python -m fuzz.corpus --write DIR     # write them down, to be given to something else
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from fuzz import corpus_checkpoints, corpus_images, corpus_models, goingon, image, imagebytes, model
from fuzz.judge import Broken, demand, sentence
from fuzz.recipe import HARMLESS, REFUSED, SAME, Recipe
from fuzz.watch import Watch, fence

import minunet
from minunet.data.images import ImageFileError, read_image, read_mask
from minunet.modelfile import ModelFileError

SOUND_OF_ENDING = {".png": "png", ".gif": "gif", ".bmp": "bmp", ".tif": "strips", ".jpg": "jpeg"}
PATIENCE = 30  # seconds without a next file


@cache
def recipes() -> tuple[Recipe, ...]:
    """Return all recipes; their names differ."""
    found = (*corpus_models.recipes(), *corpus_checkpoints.recipes(), *corpus_images.recipes())
    names = [(recipe.kind, recipe.name, recipe.ending) for recipe in found]
    assert len(set(names)) == len(names), [name for name in names if names.count(name) > 1]
    return found


def path_of(recipe: Recipe, folder: Path) -> Path:
    """Return where a recipe's file goes: a name that shows in messages as it is."""
    if recipe.name == "place: file as a folder":
        (folder / "file").write_bytes(b"")
        return folder / "file" / f"hostile{recipe.ending}"
    return folder / f"hostile{recipe.ending}"


def judge(recipe: Recipe, folder: Path) -> str:
    """Make the file, read it, and return the refusal's message, or "read"; Broken where that was not to be."""
    path = path_of(recipe, folder)
    recipe.put(path)
    if recipe.kind == "model":
        return _judge_model(recipe, path)
    if recipe.kind == "checkpoint":
        return _judge_checkpoint(recipe, path)
    (folder / "secret.tif").write_bytes(imagebytes.secret())
    for read in (read_image, read_mask):
        said = _judge_image(recipe, path, read)
    return said


def _judge_model(recipe: Recipe, path: Path) -> str:
    try:
        unet = minunet.load(path)
    except ModelFileError as error:
        demand(recipe.becomes != SAME, f"it {recipe.becomes}", error)
        return sentence(str(error), path.name)
    except OSError as error:
        demand(recipe.place, "only what is no file is an OSError", error)
        return sentence(str(error))
    demand(recipe.becomes != REFUSED, f"it {recipe.becomes}", unet)
    demand(model.state(unet) == model.seed_state(0), f"it {recipe.becomes}", "another model")
    return "read"


def _judge_checkpoint(recipe: Recipe, path: Path) -> str:
    """Load it as a model, whatever comes of that, and go on with it."""
    try:
        minunet.load(path)
    except ModelFileError as error:
        sentence(str(error), path.name)
    except OSError as error:
        demand(recipe.place, "only what is no file is an OSError", error)
    unet, message = goingon.go_on(path)
    demand(recipe.becomes == (SAME if unet else REFUSED), f"it {recipe.becomes}", message)
    demand(unet is None or goingon.trained(unet) == goingon.at_its_end(), f"it {recipe.becomes}", "another training")
    return message or "read"


def _judge_image(recipe: Recipe, path: Path, read: image.Read) -> str:
    try:
        pages = read(path)
    except FileNotFoundError as error:
        demand(recipe.place, "a file that is there is found", error)
        return sentence(str(error))
    except ImageFileError as error:
        demand(recipe.becomes != SAME, f"it {recipe.becomes}", error)
        return sentence(str(error), path.name)
    found = [(page.shape, page.dtype) for page in pages[:3]]
    demand(recipe.becomes != REFUSED, f"it {recipe.becomes}", found)
    if recipe.becomes != HARMLESS:
        expected = image.seed_pages(SOUND_OF_ENDING[recipe.ending], read) or []
        demand(image.equal(pages, expected), f"it {recipe.becomes}", found)
    return "read"


def judge_all(chosen: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Judge recipes by number, in a process that may die: return each one's message or fault, time and memory."""
    from fuzz.run import ROOT, environment, room

    found: dict[int, dict[str, Any]] = {}
    left = list(chosen)
    while left:
        with room() as place:
            command = [sys.executable, "-m", "fuzz.corpus", "--worker", place, *map(str, left)]
            own = environment("corpus") | {"TMPDIR": place}
            with (Path(place) / "output").open("w+") as output:
                process = subprocess.Popen(
                    command, cwd=ROOT, env=own, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
                )
                _wait(process, Path(place) / "output")
            said = [Path(place) / name for name in ("output", "errors")]
            lines = [line for file in said if file.exists() for line in file.read_text(errors="replace").splitlines()]
        records = [json.loads(line) for line in lines if line.startswith('{"number"')]
        found |= {record["number"]: record for record in records if "message" in record}
        begun = [record["number"] for record in records]
        if process.returncode == 0:
            break
        if not begun:
            raise RuntimeError("\n".join(lines[-20:]))
        what = f"dies of signal {-process.returncode}" if process.returncode < 0 else f"ends with {process.returncode}"
        found[begun[-1]] = {"number": begun[-1], "message": "", "fault": f"the process {what}", "seconds": 0.0, "memory": 0}
        left = left[left.index(begun[-1]) + 1 :]
    return found


def _wait(process: subprocess.Popen[bytes], output: Path) -> None:
    """Wait for the end of a worker; one that stays at a file is killed."""
    size, since = -1, time.monotonic()
    while process.poll() is None:
        time.sleep(0.05)
        if output.stat().st_size != size:
            size, since = output.stat().st_size, time.monotonic()
        if time.monotonic() - since > (PATIENCE if size else 10 * PATIENCE):
            process.kill()
            process.wait()


class _Limits(ModuleType):
    """What reading any file may take: of a clock that others share, and of memory beside what it is for."""

    SECONDS, MEMORY = 2.0, 2**29


def _worker(folder: Path, numbers: Sequence[int]) -> int:
    """Judge recipes, and print a line before and one after each."""
    watch = Watch(_Limits("limits"), folder / "errors")
    for number in (*_of(SAME), *_of(SAME)):  # what is imported and compiled at first use is no file's
        judge(recipes()[number], Path(tempfile.mkdtemp(dir=folder)))
    fence()
    for number in numbers:
        print(json.dumps({"number": number}), flush=True)
        recipe, fault, message = recipes()[number], "", ""
        place = Path(tempfile.mkdtemp(dir=folder))
        path = path_of(recipe, place)
        recipe.put(path)  # as making it is not what is judged
        watch.forget()
        try:
            with watch.case():
                message = judge(recipe._replace(put=lambda path: None), place)
        except BaseException as error:
            fault = f"{type(error).__name__}: {str(error)[:500]}" if not isinstance(error, Broken) else str(error)
        record = {"number": number, "message": message, "fault": fault, "seconds": watch.seconds, "memory": watch.memory}
        print(json.dumps(record), flush=True)
    return 0


def _of(becomes: str) -> list[int]:
    return [i for i, recipe in enumerate(recipes()) if recipe.becomes == becomes]


def _print(found: dict[int, dict[str, Any]]) -> int:
    """Print what became of each kind of file; return how many were wrong."""
    faults = {number: record for number, record in found.items() if record["fault"]}
    print(f"{'kind':12}{'files':>7}{'refused':>9}{'read':>6}{'longest/ms':>12}{'most/MiB':>10}{'faults':>8}")
    for kind in ("model", "checkpoint", "image"):
        if not (records := [record for number, record in found.items() if recipes()[number].kind == kind]):
            continue
        read = sum(record["message"] == "read" for record in records)
        wrong = sum(bool(record["fault"]) for record in records)
        longest, most = max(r["seconds"] for r in records), max(r["memory"] for r in records)
        print(
            f"{kind:12}{len(records):>7}{len(records) - read - wrong:>9}{read:>6}{1000 * longest:>12,.0f}"
            f"{most / 2**20:>10,.1f}{wrong:>8}"
        )
    for number, record in faults.items():
        print(f"{recipes()[number].kind} {recipes()[number].name}: {record['fault'][:400]}")
    return len(faults)


def _write(folder: Path) -> int:
    """Write all files down, by names made of their recipes'."""
    for number, recipe in enumerate(recipes()):
        name = re.sub(r"[^A-Za-z0-9]+", "-", recipe.name)[:80].strip("-")
        recipe.put(folder / f"{number:03}-{recipe.kind}-{name}{recipe.ending}")
    print(f"{len(recipes())} files in {folder}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz.corpus", description="Hostile files, and what minunet makes of them.")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write the files there, and judge nothing")
    parser.add_argument("--only", default="", metavar="TEXT", help="those with this in their name")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return _worker(Path(options.worker[0]), [int(number) for number in options.worker[1:]])
    if options.write:
        options.write.mkdir(parents=True, exist_ok=True)
        return _write(options.write)
    chosen = [i for i, recipe in enumerate(recipes()) if options.only in f"{recipe.kind} {recipe.name}"]
    return 1 if _print(judge_all(chosen)) else 0


if __name__ == "__main__":
    sys.exit(main())
