"""docs/backprop.md cannot rot: its code runs, its source is the source, its links and figures are there."""

from __future__ import annotations

import ast
import re
import runpy
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from minunet import ops

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "backprop.md"
MARK = re.compile(r"<!-- source: (\S+) (\S+) -->")


class Block(NamedTuple):
    """A fenced block of Python: where its code starts, the code, and the (file, function) it was taken from, if any."""

    line: int
    code: str
    source: tuple[str, str] | None


def blocks() -> list[Block]:
    found, source, start, lines = [], None, None, PAGE.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if start is not None and line == "```":
            found.append(Block(start, "\n".join(lines[start - 1 : number - 1]), source))
            start = source = None
        elif line == "```python":
            start = number + 1
        elif start is None and line.strip():
            mark = MARK.fullmatch(line)
            source = (mark[1], mark[2]) if mark else None
    assert start is None, f"the block at line {start} has no end"
    return found


TAKEN = [block for block in blocks() if block.source]
RUN = [block for block in blocks() if not block.source]


def function_source(path: Path, name: str) -> str:
    """Return a function, or a "Class.method", as the file has it, but for its docstring, indentation, and words to tools."""
    text = path.read_text(encoding="utf-8")
    node: Any = ast.parse(text)
    for part in name.split("."):
        node = next(child for child in node.body if getattr(child, "name", None) == part)
    lines = text.splitlines()
    kept = lines[node.lineno - 1 : node.end_lineno]
    if ast.get_docstring(node) is not None:
        first, last = node.body[0].lineno - node.lineno, node.body[0].end_lineno - node.lineno
        del kept[first : last + 1]
    return re.sub(r"  # (type: ignore|fmt: skip|noqa).*$", "", textwrap.dedent("\n".join(kept)), flags=re.MULTILINE)


def pieces(code: str) -> list[str]:
    """Cut a snippet where a line of three dots says that lines were left out."""
    return [piece.strip("\n") for piece in re.split(r"^ *\.\.\.$", code, flags=re.MULTILINE)]


def links(path: Path) -> list[str]:
    prose = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", prose) if not target.startswith("http")]


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("block", TAKEN, ids=lambda block: block.source[1])
def test_the_source_shown_is_the_source(block):
    file, name = block.source
    source = function_source(ROOT / file, name)
    end = 0
    for piece in pieces(block.code):
        at = f"\n{source}\n".find(f"\n{piece}\n", end)
        where = f"docs/backprop.md, line {block.line}"
        assert at >= 0, f"{where}: {file} {name} is now\n\n{source}\n\nand does not hold, in this order\n\n{piece}"
        end = at + len(piece)


def test_a_changed_line_is_noticed():
    """The comparison itself: it takes the function as it is, cut or whole, and no other."""
    source = function_source(ROOT / "minunet/ops.py", "relu_backward")
    assert source.startswith("def relu_backward(") and "Return dx" not in source and source.count("\n") == 2
    assert function_source(ROOT / "minunet/network.py", "Network.backward").startswith("def backward(\n    self, dlogits")
    assert pieces("def f():\n    ...\n    return 1") == ["def f():", "    return 1"]


def test_the_code_runs_in_order(backend):
    names: dict[str, Any] = {}
    for block in RUN:
        code = "\n" * (block.line - 1) + block.code  # so that a traceback names the page's line
        exec(compile(code, str(PAGE), "exec"), names)
    assert sum(block.code.count("assert ") for block in RUN) >= 60


@pytest.mark.parametrize("page", ["docs/backprop.md", "README.md"])
def test_links_and_figures_are_there(page):
    path = ROOT / page
    for target in links(path):
        file, _, anchor = target.partition("#")
        there = path.parent / file if file else path
        assert there.exists(), f"{page} links to {target}"
        assert not anchor or anchor in anchors(there), f"{page} links to {target}, a heading that is not there"


def test_the_figures_are_drawn_by_the_script_and_light():
    figures = [target for target in links(PAGE) if target.endswith(".png")]
    script = (ROOT / "docs" / "figures.py").read_text(encoding="utf-8")
    assert len(figures) == 3
    for figure in figures:
        assert f'"{figure}"' in script
        assert (ROOT / "docs" / figure).stat().st_size < 150_000


def test_the_figures_can_be_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    drawn = runpy.run_path(str(ROOT / "docs" / "figures.py"))
    drawn["main"](tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(drawn["FIGURES"])


def test_every_op_is_in_the_table_and_has_its_identity():
    """Each public pair `op`, `op_backward`: a row in the last table, and a proof in the backward's docstring."""
    table = PAGE.read_text(encoding="utf-8").rpartition("\n## ")[2]
    pairs = [name for name in vars(ops) if f"{name}_backward" in vars(ops)]
    assert len(pairs) == 8
    for name in pairs:
        assert f"| `{name}` |" in table
        assert "Proof: " in getattr(ops, f"{name}_backward").__doc__
