"""How long does `minunet check` take on a thousand images, and does its memory grow with their number?

    python bench/check.py

Images of synthetic tissue and their masks, as PNG files: a few that are written, and links to them. Each row is a process of its
own, `minunet check` from its start to its end, the steps included by which it tells how long a training takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
from PIL import Image

from minunet.datasets import cells

N_WRITTEN = 8
SHARES = (10, 3, 1)  # of all images: a row each


def main() -> None:
    """Check folders of more and more images; print what each takes."""
    parser = measure.parser(__doc__)
    parser.add_argument("--images", type=measure.whole, default=1000, metavar="N", help="at most (default: 1000)")
    parser.add_argument("--side", type=measure.whole, default=1024, metavar="PIXELS", help="of images (default: 1024)")
    arguments = parser.parse_args()
    report = measure.Report(__doc__, arguments.json)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        report.table(f"{arguments.side} x {arguments.side}", ["images", "seconds", "of processors", "peak MB"], others=7)
        for n in sorted({max(1, arguments.images // share) for share in SHARES}):
            fill(Path(folder), n, arguments.side)
            seconds, busy, peak = checked(Path(folder))
            report.row(str(n), f"{seconds:.1f}", f"{busy:.1f}", f"{peak / 2**20:.0f}")
            found[n] = {"seconds": seconds, "processor_seconds": busy, "bytes": peak}
    report.write(checks=found)


def fill(folder: Path, n: int, side: int) -> None:
    """Make the folders' files up to a number of images; what is there stays."""
    for kind, arrays in zip(("images", "masks"), cells(min(n, N_WRITTEN), side), strict=True):
        place = folder / kind
        place.mkdir(exist_ok=True)
        for i in range(len(list(place.iterdir())), n):
            if i < N_WRITTEN:
                Image.fromarray(arrays[i]).save(place / f"{i:06}.png")
            else:
                os.link(place / f"{i % N_WRITTEN:06}.png", place / f"{i:06}.png")


def checked(folder: Path) -> tuple[float, float, int]:
    """Check the folder; return seconds, seconds of all processors together, and bytes of memory at most."""
    command = [sys.executable, "-m", "minunet", "check", folder / "images", folder / "masks"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with status {process.returncode}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
