"""docs/data.md names a test for each thing that it says: each is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", TEXT)


def test_each_row_names_a_test():
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| kind ")]
    assert len(rows) >= 50 and all(re.search(r"test_\w+\.py", row.rpartition(" | ")[2]) for row in rows)


@pytest.mark.parametrize("file, name", sorted(set(NAMED)))
def test_the_test_is_there(file, name):
    path = ROOT / "tests" / file
    assert path.is_file()
    assert not name or f"def {name}(" in path.read_text(encoding="utf-8")
