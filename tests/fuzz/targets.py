"""What is fuzzed: for each target a module with

test_one_input(data) -> verdict, message    judges one case; raises Broken, or what should not have been raised
SECONDS, MEMORY                             of the processor's time, and bytes, that a case may take
"""

from __future__ import annotations

import importlib
from types import ModuleType

SHARES = {"model": 3, "image": 3, "optimizer": 3, "layers": 2, "cli": 1}  # of the time, by target


def load(target: str) -> ModuleType:
    """Return the module of a target."""
    return importlib.import_module(f"fuzz.{target}")
