"""docs/your-images.md says what is so of scikit-learn: its block runs, without a warning, and prints what stands below it."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "your-images.md"
BLOCK = re.compile(r"^## With scikit-learn$.*?^```python\n(.*?)^```\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_block_prints_what_the_page_says():
    pytest.importorskip("sklearn", minversion="1.6")
    found = BLOCK.search(PAGE.read_text(encoding="utf-8"))
    assert found
    out = io.StringIO()
    with contextlib.redirect_stdout(out), warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(found[1], PAGE.name, "exec"), {"__name__": "scikit"})
    assert out.getvalue() == found[2]
