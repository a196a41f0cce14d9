"""Run the tests of one mutant, in its own process, from the root of its copy: those that should find it first.

What happens goes, line by line, into a report, so that it is known where a process that died had got to.
"""

from __future__ import annotations

import faulthandler
import json
import sys
from pathlib import Path

import pytest

HANG = 300  # seconds in one test


class Attempt:
    """Order the tests, or take the likely ones only, report each one's start and the first failure, and end a test that hangs."""

    def __init__(self, report: str, first: list[str], other: str | None, likely: bool) -> None:
        self.report, self.first, self.other, self.likely = Path(report), first, other, likely

    def say(self, word: str, text: str) -> None:
        with self.report.open("a", encoding="utf-8") as file:
            file.write(f"{word} {text}\n")

    def pytest_configure(self, config: pytest.Config) -> None:
        """Do not shrink what failed: any counterexample will do. (The conftest has loaded its profile by now.)"""
        import hypothesis  # not at the top: pytest wants to load its plugin, which comes with it, itself

        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutants", parent=hypothesis.settings(), phases=phases)
        hypothesis.settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: (self.without_it(item.nodeid), self.place(item.nodeid)))
        if self.likely:
            items[:] = [i for i in items if not self.without_it(i.nodeid) and self.place(i.nodeid) < len(self.first)]

    def without_it(self, nodeid: str) -> bool:
        """Tell whether a test runs on the other kernels, which do not hold the error."""
        return self.other is not None and self.other in nodeid.partition("[")[2]

    def place(self, nodeid: str) -> int:
        """Return the place of the first word that the test's name holds."""
        return next((i for i, word in enumerate(self.first) if word in nodeid), len(self.first))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.say("collect", report.nodeid)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.say("start", nodeid)
        faulthandler.dump_traceback_later(HANG, exit=True)  # needs no GIL, which a compiled loop may hold

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.say("failed", report.nodeid)

    def pytest_sessionfinish(self) -> None:
        faulthandler.cancel_dump_traceback_later()


def limit_memory(size: int) -> None:
    """Let a mutant that asks for endless memory fail, and nothing else on the machine."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    limit_memory(task["memory"])
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    attempt = Attempt(*(task[name] for name in ("report", "first", "other", "likely")))
    sys.exit(pytest.main([*options, *task["tests"]], plugins=[attempt]))
