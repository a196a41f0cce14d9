"""What a mutant is: one planted error, in one file, in one function."""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# By hand: (name, file, the text, what it becomes, words in the names of the tests that should find it)
Row = tuple[str, str, str, str, tuple[str, ...]]


@dataclass(frozen=True)
class Mutant:
    """`old`, which starts at character `start` of `file`, becomes `new`."""

    name: str
    file: str
    start: int
    old: str
    new: str
    first: tuple[str, ...] = ()  # words in the names of the tests that should find it: those run before the others

    def applied(self, source: str) -> str:
        """Return the file's text with the error in it."""
        end = self.start + len(self.old)
        if source[self.start : end] != self.old:
            raise ValueError(f"{self.name}: {self.file} has changed: {self.old!r} is no longer where it was")
        return source[: self.start] + self.new + source[end:]


@dataclass(frozen=True)
class Place:
    """Where a mutant stands, told by what does not move when other lines do."""

    file: str
    function: str  # "Class.method" or "function"; "" at the top of a module, and in CUDA C++
    line: int
    old: str  # the changed lines as they were and as they are, without indentation
    new: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What the table of equivalents is looked up by."""
        return self.file, self.function, self.old, self.new


def read(file: str, root: Path = ROOT) -> str:
    """Return the text of a source file."""
    return (root / file).read_text(encoding="utf-8")


def place(mutant: Mutant, source: str) -> Place:
    """Return where a mutant stands in the file's text."""
    changed = mutant.applied(source)
    begin = source.rfind("\n", 0, mutant.start) + 1
    ends = (_line_end(source, mutant.start + len(mutant.old)), _line_end(changed, mutant.start + len(mutant.new)))
    line = source.count("\n", 0, mutant.start) + 1
    old, new = (_plain(text[begin:end]) for text, end in zip((source, changed), ends, strict=True))
    function = function_at(_parsed(source), line) if mutant.file.endswith(".py") else ""
    return Place(mutant.file, function, line, old, new)


def function_at(tree: ast.Module, line: int) -> str:
    """Return the dotted name of the innermost function around a line."""
    names: list[str] = []
    node: ast.AST = tree
    while True:
        inner = [
            child for child in ast.walk(node)
            if child is not node and isinstance(child, (ast.FunctionDef, ast.ClassDef))
            and child.lineno <= line <= (child.end_lineno or 0)
        ]  # fmt: skip
        if not inner:
            return ".".join(names)
        node = inner[0]  # ast.walk goes level by level: the first is the outermost
        names.append(inner[0].name)


@functools.cache
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _plain(lines: str) -> str:
    """Return the code of some lines, without indentation and without the comment at the end of one line."""
    stripped = " ".join(line.strip() for line in lines.splitlines())
    return stripped.split("  # ")[0].rstrip()
