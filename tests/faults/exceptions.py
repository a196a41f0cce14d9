"""Exceptions that arrive from outside, at drawn moments, while kernels run on several threads."""

from __future__ import annotations

import random
import re
from pathlib import Path

from .house import House
from .trial import ROOT, Fault, command, ended, require

AT_ONCE = 500  # interrupts of one process


def interrupts(house: House, room: Path, rng: random.Random) -> int:
    """Interrupt kernels, steps and updates under guard pages: no thread writes later, and what follows has the same bits."""
    call = f"interrupts.main({AT_ONCE}, {rng.randrange(2**32)})"
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import interrupts; {call}"
    outcome = ended(command("-c", program, cache=house.cache))
    require(outcome.status == 0, f"exit status {outcome.status}: {outcome.told}")
    found = re.fullmatch(r"(\d+) interrupts survived", outcome.out.strip())
    require(found, f"another answer: {outcome.told}")
    assert found
    return int(found[1])


FAULTS = (Fault("interrupts", "exceptions at drawn moments of kernels that run on several threads", interrupts),)
