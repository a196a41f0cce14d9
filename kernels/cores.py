"""How many processors this process may use: those that it is bound to, and of them a container's share.

A container with `--cpus 2` on a machine of 64 sees all 64, and is bound to none: when it has used up its share of a period it is
stopped for the rest. 64 threads would be at work for a thirtieth of the time, and wait for each other meanwhile.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

from .groups import folders, read


def available() -> int:
    """Return how many threads can run at once: 1 at least. NUMBA_NUM_THREADS is this process's share, where joblib parts them."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = os.environ.get("NUMBA_NUM_THREADS", "")
    share = int(told) if re.fullmatch(r"0*[1-9][0-9]{0,8}", told) else bound
    return min(bound, quota() or bound, share)


@functools.cache
def quota(root: Path = Path("/")) -> int | None:
    """Return the processors that Linux's control groups leave to this process, rounded up; None where they leave it all.

    Of those that it is in the least counts. root : where /proc and /sys are looked for.
    """
    try:
        shares = [share for group in folders(root, "cpu") if (share := _share(group))]
    except (OSError, ValueError):  # another system, or one that does not tell
        return None
    return min(shares, default=None)


def _share(group: Path) -> int | None:
    """Return a group's processors by the time that it has in each period, in microseconds; None where it has no limit."""
    try:
        if (group / "cpu.max").exists():
            time, period = read(group / "cpu.max").split()
        else:
            time, period = (read(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        return -(-int(time) // int(period)) if int(time) > 0 and int(period) > 0 else None  # -1: no limit
    except (OSError, ValueError):  # "max", or the top of all groups, which says nothing
        return None
