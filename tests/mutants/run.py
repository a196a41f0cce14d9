"""Plant an error, run the tests, see that one fails: for each error of `catalogue` and `generate`, in a copy of the tree.

    make mutants                                                     # all of them
    PYTHONPATH=tests python -m mutants.run --list
    PYTHONPATH=tests python -m mutants.run --only momentum           # those with this in their name
    PYTHONPATH=tests python -m mutants.run --sample 6 --seed COMMIT  # a few, chosen by the seed

Exit status 1 where one survives that is not in `equivalent.py`, or where the tests fail without any error planted.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import catalogue, generate
from .equivalent import PROOFS
from .mutant import ROOT, Mutant, Place, place, read
from .plan import files_for, likely

PARTS = ("minunet", "kernels", "tests", "bench", "setup.cfg", "pyproject.toml")
LIMIT = 1500  # seconds for a mutant's tests altogether; a single test that hangs is ended much earlier
OTHER_KERNELS = {"kernels/cpu/": "reference", "kernels/reference.py": "cpu", "kernels/updates.py": "cpu"}  # these come last
PLAIN = tuple(f"kernels/{name}.py" for name in ("__init__", "composed", "reference", "shapes", "sight", "updates"))
MEMORY = 2**34  # bytes of address space
STATES = ("killed", "SURVIVED", "equivalent", "UNFINISHED", "NO IMPORT", "NOT EQUIVALENT")
HUNG = " (hung or crashed)"
PASSED, NO_TESTS = 0, 5  # exit statuses of pytest
GOOD = {"killed", "equivalent"}


@dataclass(frozen=True)
class Outcome:
    """What came of a mutant: a state, the test that decided it, and how long it took."""

    state: str
    by: str
    seconds: float


class Tree:
    """A copy of the tree to plant one error at a time in, with a cache of compiled kernels of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.planted = 0
        for part in PARTS:
            source, target = ROOT / part, root / part
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copy2(source, target)

    def attempt(
        self, tests: Sequence[str], cache: Path, mutant: Mutant | None = None, only_likely: bool = False
    ) -> tuple[int | None, list[list[str]]]:
        """Run the tests, or of them those that the mutant's words name.

        Return the exit status, None where time ran out, and the report's lines: (word, test).
        """
        report = self.root / "report.txt"
        report.write_text("")
        first, file = (mutant.first, mutant.file) if mutant else ((), "")
        other = next((backend for start, backend in OTHER_KERNELS.items() if file.startswith(start)), None)
        task = {"tests": list(tests), "first": first, "other": other, "likely": only_likely}
        task |= {"report": str(report), "memory": MEMORY}
        program = [sys.executable, "-m", "mutants.attempt", json.dumps(task)]
        paths = os.pathsep.join((str(self.root), str(self.root / "tests")))
        own = {"CI": "1", "PYTHONPATH": paths, "NUMBA_CACHE_DIR": str(cache)}
        environment = {name: value for name, value in os.environ.items() if name != "HYPOTHESIS_PROFILE"} | own
        with (self.root / "output.txt").open("w") as output:
            process = subprocess.Popen(
                program, cwd=self.root, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )
            try:
                status = process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                status = None
        return status, [line.split(" ", 1) for line in report.read_text().splitlines()]

    def output(self) -> str:
        """Return what the last attempt printed."""
        return (self.root / "output.txt").read_text(errors="replace")

    def imports(self, file: str) -> bool:
        """Tell whether the module in `file` can be imported."""
        module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        module = f"minunet.{module}" if module.startswith("kernels") else module
        environment = os.environ | {"PYTHONPATH": str(self.root)}
        done = subprocess.run([sys.executable, "-c", f"import {module}"], cwd=self.root, env=environment, capture_output=True)
        return done.returncode == 0

    def try_mutant(self, mutant: Mutant) -> Outcome:
        """Plant the mutant, run its tests, and take it out again."""
        started = time.monotonic()
        path = self.root / mutant.file
        source, stat = path.read_text(encoding="utf-8"), path.stat()
        # A compiled kernel holds others that it calls, and Numba looks only at its own file's time: nothing is reused.
        private = self.root / "private-cache"
        shutil.rmtree(private, ignore_errors=True)
        compiled = mutant.file.startswith("kernels/") and mutant.file not in PLAIN
        cache = private if compiled else self.root / "cache"
        path.write_text(mutant.applied(source), encoding="utf-8")
        # Python and Numba tell a changed source by its size and its time, Python to the second: give each its own.
        self.planted += 1
        os.utime(path, (stat.st_mtime + self.planted, stat.st_mtime + self.planted))
        try:
            files = files_for(mutant.file, self.root)
            status, report = NO_TESTS, []
            if named := likely(files, mutant.first, self.root):
                status, report = self.attempt(named, cache, mutant, only_likely=True)
            if status in (PASSED, NO_TESTS):
                status, report = self.attempt(files, cache, mutant)
            state, by = self._judged(mutant, status, report)
        finally:
            path.write_text(source, encoding="utf-8")
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        return Outcome(state, by, time.monotonic() - started)

    def _judged(self, mutant: Mutant, status: int | None, report: list[list[str]]) -> tuple[str, str]:
        failed = [test for word, test in report if word == "failed"]
        started = [test for word, test in report if word == "start"]
        if status == PASSED:
            return "SURVIVED", ""
        if status is None:
            return "UNFINISHED", f"after {LIMIT} s in {started[-1] if started else 'collection'}"
        if failed:
            return "killed", failed[0]
        if not self.imports(mutant.file):
            return "NO IMPORT", "choose another site: this one needs no test"
        if started:
            return "killed", started[-1] + HUNG
        if "while loading conftest" in self.output():  # not even the tests' own set-up can be imported
            return "killed", "tests/conftest.py"
        if any(word == "collect" for word, _ in report):
            return "killed", "collection of " + next(test for word, test in report if word == "collect")
        raise SystemExit(f"{mutant.name}: the tests did not run, exit status {status}:\n{self.output()}")


def main() -> int:
    """Try the mutants that the command line asks for; return the exit status."""
    options = _options()
    chosen = _chosen(options)
    places = {mutant: place(mutant, read(mutant.file)) for mutant in chosen}
    if options.list:
        for mutant in chosen:
            print(_described(mutant, places[mutant]))
        return 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trees = [Tree(Path(folder) / f"tree-{i}") for i in range(options.jobs)]
        if not options.tested and not _passes(trees[0], sorted({t for m in chosen for t in files_for(m.file)})):
            return 1
        outcomes = _tried(chosen, places, trees, options.equivalents)
        killers = _killers(outcomes.values())
        sound = not options.tested or not killers or _passes(trees[0], killers)
    _summarise(outcomes)
    return 0 if sound and all(outcome.state in GOOD for outcome in outcomes.values()) else 1


def _killers(outcomes: Iterable[Outcome]) -> list[str]:
    """Return the tests that found an error, without their parameters, whose names a command line may not take."""
    found = {outcome.by.removesuffix(HUNG).partition("[")[0] for outcome in outcomes if outcome.state == "killed"}
    return sorted(test for test in found if "::" in test)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mutants", description="Plant errors, and see that the tests find them.")
    parser.add_argument("--list", action="store_true", help="name the mutants and run nothing")
    parser.add_argument("--only", metavar="TEXT", help="those with this text in their name or file")
    parser.add_argument("--sample", type=int, metavar="N", help="so many, none that is known to be equivalent")
    parser.add_argument("--seed", default="", metavar="TEXT", help="chooses the sample: a commit's hash, say")
    parser.add_argument("--equivalents", action="store_true", help="try those of equivalent.py too: no test may find one")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4), metavar="N", help="mutants tried at a time")
    parser.add_argument(
        "--tested", action="store_true",
        help="the tests have just passed without errors planted: repeat, afterwards, only those that found one",
    )  # fmt: skip
    return parser.parse_args()


def _chosen(options: argparse.Namespace) -> list[Mutant]:
    found = catalogue.mutants() + generate.mutants()
    if options.only:
        found = [mutant for mutant in found if options.only in mutant.name or options.only in mutant.file]
    if options.sample is not None:
        worthwhile = [mutant for mutant in found if place(mutant, read(mutant.file)).key not in PROOFS]
        found = random.Random(options.seed).sample(worthwhile, min(options.sample, len(worthwhile)))
    if not found:
        raise SystemExit("no mutant has such a name; --list names them all")
    return found


def _passes(tree: Tree, tests: Sequence[str]) -> bool:
    """Run tests without any error planted: where they fail, nothing can be said about mutants."""
    started = time.monotonic()
    status, _ = tree.attempt(tests, tree.root / "cache")
    print(f"without an error planted: {'passed' if status == 0 else 'FAILED'}, {time.monotonic() - started:.0f} s\n", flush=True)
    if status != 0:
        print(tree.output())
    return status == 0


def _tried(
    chosen: Sequence[Mutant], places: dict[Mutant, Place], trees: Sequence[Tree], with_equivalents: bool
) -> dict[Mutant, Outcome]:
    free: queue.SimpleQueue[Tree] = queue.SimpleQueue()
    for tree in trees:
        free.put(tree)

    def attempt(mutant: Mutant) -> Outcome:
        if places[mutant].key in PROOFS and not with_equivalents:
            return Outcome("equivalent", "", 0.0)
        tree = free.get()
        try:
            outcome = tree.try_mutant(mutant)
        finally:
            free.put(tree)
        if places[mutant].key in PROOFS:
            states = {"SURVIVED": "equivalent", "killed": "NOT EQUIVALENT"}
            outcome = Outcome(states.get(outcome.state, outcome.state), outcome.by, outcome.seconds)
        print(f"{_described(mutant, places[mutant])}\n    {outcome.state} {outcome.by}  {outcome.seconds:.0f} s", flush=True)
        return outcome

    with ThreadPoolExecutor(len(trees)) as pool:
        return dict(zip(chosen, pool.map(attempt, chosen), strict=True))


def _described(mutant: Mutant, where: Place) -> str:
    old, new = _cut_to_change(where.old, where.new)
    return f"{mutant.name}\n    {where.file}:{where.line} {where.function}: {old}  ->  {new}"


def _cut_to_change(old: str, new: str, around: int = 30) -> tuple[str, str]:
    """Return both texts without what they share far from where they differ."""
    begin = _shared(old, new)
    end = _shared(old[begin:][::-1], new[begin:][::-1])
    first = max(0, begin - around)

    def shown(text: str) -> str:
        last = len(text) - max(0, end - around)
        return f"{'... ' if first else ''}{text[first:last]}{' ...' if last < len(text) else ''}"

    return shown(old), shown(new)


def _shared(a: str, b: str) -> int:
    """Return how many characters both start with."""
    return next((i for i, (c, d) in enumerate(zip(a, b, strict=False)) if c != d), min(len(a), len(b)))


def _summarise(outcomes: dict[Mutant, Outcome]) -> None:
    counts = Counter(outcome.state for outcome in outcomes.values())
    total = sum(outcome.seconds for outcome in outcomes.values())
    listed = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    print(f"\n{len(outcomes)} mutants: {listed}; {total:.0f} s of tests")
    for mutant, outcome in outcomes.items():
        if outcome.state not in GOOD:
            print(f"{outcome.state}: {mutant.name} ({mutant.file}) {outcome.by}")


if __name__ == "__main__":
    sys.exit(main())
