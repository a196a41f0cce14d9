"""Let libFuzzer choose the bytes, by what they make minunet run: `run --atheris`, where atheris is installed.

It runs the same targets. What it finds is judged by the same worker again, which names it and makes it shorter.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuzz.run import Tally

KEPT = Path(os.environ.get("MINUNET_FUZZ_CORPUS", Path.home() / ".cache" / "minunet-fuzz"))  # bytes that ran something new
WIDTH = 256  # bytes of a case, at most


def available() -> bool:
    """Tell whether atheris can be imported."""
    return importlib.util.find_spec("atheris") is not None


def run(tally: Tally, seed: str, seconds: float) -> None:
    """Let libFuzzer run a target for so long, add what it did to the tally, and judge what it found."""
    from fuzz.run import ROOT, environment, room, work

    if not available():
        raise SystemExit("atheris is not installed (pip install atheris); without --atheris, cases are drawn by chance")
    kept = KEPT / tally.target
    kept.mkdir(parents=True, exist_ok=True)
    end, started = time.monotonic() + seconds, time.monotonic()
    while (left := int(end - time.monotonic())) > 0:
        with room() as place:
            number = int.from_bytes(seed.encode(), "big") % 2**31 or 1
            flags = [f"-max_total_time={left}", f"-seed={number}", f"-max_len={WIDTH}", "-timeout=15", "-rss_limit_mb=4096"]
            flags += [f"-artifact_prefix={place}/", "-print_final_stats=1", "-len_control=0"]
            command = [sys.executable, "-m", "fuzz.guided", tally.target, str(kept), *flags]
            own = environment(tally.target) | {"TMPDIR": place}
            done = subprocess.run(
                command, cwd=ROOT, env=own, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
            )
            if not (counts := re.findall(r"(?:stat::number_of_executed_units: |#)(\d+)", done.stderr)):
                raise SystemExit(f"libFuzzer did not start:\n{done.stderr[-2000:]}")
            before, tally.next_case = tally.executions, 0
            for file in (file for file in Path(place).iterdir() if re.match(r"crash-|timeout-|oom-|leak-", file.name)):
                work(tally, ["--data", file.read_bytes().hex(), "--record"], seed)
            tally.executions = before + max(map(int, counts))
    tally.seconds += time.monotonic() - started


def main() -> None:
    """Hand a target to libFuzzer, with minunet and what reads for it instrumented."""
    import atheris
    from fuzz import targets

    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    options, flags = parser.parse_known_args()
    with atheris.instrument_imports(include=["minunet", "tifffile", "fuzz"], exclude=["minunet.kernels.cpu", "numba"]):
        module = targets.load(options.target)
    from fuzz.watch import fence

    module.test_one_input(b"")
    fence()

    def judged(data: bytes) -> None:
        module.test_one_input(data)

    atheris.Setup([sys.argv[0], *flags], judged)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
