"""Tables that say which test shows what a setting, or a flag, is for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

TESTS = Path(__file__).parent


def assert_there(shown: Mapping[str, tuple[str, str]]) -> None:
    """Expect each test, (file, name), of a table where it says."""
    for what, (file, test) in shown.items():
        assert re.search(rf"^def {test}\(", (TESTS / file).read_text(encoding="utf-8"), re.M), f"{what}: no {test} in {file}"
