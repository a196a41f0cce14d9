"""docs/gradients.md says what is so: its Python blocks run, in order, and print what stands below them."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "gradients.md"
BLOCKS = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Figures that rounding makes differ from one machine to another: relative errors far below their tolerances.
ROUNDING = re.compile(r"\b(?!1\.0e-10)(\d\.\de-(0[89]|1\d|2\d)|0\.0e\+00)\b")


def without_rounding(text: str) -> str:
    return "\n".join(line.rstrip() for line in ROUNDING.sub("<rounding>", text).splitlines())


def test_each_block_prints_what_the_page_says():
    blocks = BLOCKS.findall(PAGE.read_text(encoding="utf-8"))
    assert blocks[0][0] == "python"
    names: dict[str, object] = {"__name__": "gradients"}
    printed, outputs = "", 0
    for kind, text in blocks:
        if kind == "text":
            outputs += 1
            assert without_rounding(printed) == without_rounding(text)
            printed = ""
            continue
        assert not printed, f"what was printed before this block is not on the page:\n{printed}"
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(text, f"{PAGE.name}", "exec"), names)
        printed = out.getvalue()
    assert not printed
    assert outputs >= 10
