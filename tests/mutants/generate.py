"""Planted errors, drawn: single-token edits at random sites of the sources.

The draw depends on the seed and on each site's own line, not on its number: an edit elsewhere in a file leaves the
others' mutants as they are. What changes no behaviour by design is no site: texts, annotations, block sizes.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .mutant import Mutant, read
from .quotas import QUOTAS

SEED = "minunet"

# Functions whose numbers decide how work is cut, or foretell its memory, not what comes out.
CUTTING = {
    "_blocks", "_channels", "_plan", "_run", "evenly", "_cut", "_transpose", "tile_side", "n_threads", "scratch", "_fastest",
    "_samples", "working", "blocks", "most_points", "shared", "strip_bytes",
}  # fmt: skip
NOT_CODE = {"__repr__"}
# Words for functions of these names, in any file but Winograd's, whose tests have other names.
FOUND_BY: dict[str, tuple[str, ...]] = {
    "pool": ("as_many_elements", "first_largest", "pool"),
    "conv2d": ("exact_adjoints", "sums_over", "seven_loops"),
    "relu": ("relu",),
    "transpose": ("exact_adjoints", "transpose"),
    "dropout": ("dropout",),
    "concat": ("concat",),
    "group_norm": ("each_group", "group_norm"),
    "bias": ("sums_over",),
    "joined": ("concat",),
    "is_dense": ("halves_of_one_buffer", "cache_serves"),
    "sgd": ("sgd", "updates"),
    "adam": ("adam", "updates"),
    "clip": ("scaled_to", "that_is_not_finite"),
    "squares": ("scaled_to",),
    "average": ("takes_in", "is_the_mean"),
    "plateau": ("plateau",),
    "col2im": ("col2im",),
    "cross_entropy": ("cross_entropy",),
}
MESSAGES = {"hint", "more", "has", "takes", "says", "one", "where", "n_chunks"}  # names that hold texts, or cut work

SWAPPED = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "+": "-", "-": "+", "*": "+", "/": "*", "//": "*",
    "%": "//", "&": "|", "|": "&", "+=": "=", "-=": "+=", "*=": "=", "|=": "=", "and": "or", "or": "and", "min": "max",
    "max": "min", "minimum": "maximum", "maximum": "minimum", "any": "all", "all": "any",
}  # fmt: skip
EITHER_WAY = {"min", "max", "minimum", "maximum", "isinstance", "require", "hypot", "gcd"}  # whose arguments have no order
AXES = {-1: 0, 0: 1, 1: 0, 2: 1, 3: 2}
OPERATORS: dict[type[ast.AST], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Add: "+", ast.Sub: "-",
    ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.BitAnd: "&", ast.BitOr: "|", ast.And: "and", ast.Or: "or",
}  # fmt: skip


@dataclass(frozen=True)
class Site:
    """A token that may be changed, by character, and the kind of its change."""

    start: int
    old: str
    new: str
    kind: str
    function: str = ""  # "Class.method" or "function"


def mutants(seed: str = SEED) -> list[Mutant]:
    """Return the drawn mutants of all files: the same for the same sources and seed."""
    return [mutant for file in QUOTAS for mutant in _of_file(file, seed)]


def _of_file(file: str, seed: str) -> list[Mutant]:
    source = read(file)
    quota, words = QUOTAS[file]
    ranked = [(rank(seed, file, source, site), site) for site in sites(source)]
    chosen: list[tuple[str, Site]] = []
    for key, site in sorted(ranked, key=lambda pair: (pair[0], pair[1].start)):
        # The kinds take turns: a file of many sums still shows an index and a comparison.
        if len(chosen) < quota and [s.kind for _, s in chosen].count(site.kind) <= len(chosen) // 3:
            chosen.append((key, site))
    return [_mutant(file, words, key, site) for key, site in chosen]


def _mutant(file: str, words: tuple[str, ...], key: str, site: Site) -> Mutant:
    name = f"{file.rsplit('/', 1)[1].removesuffix('.py')}-{key[:6]}"
    own = [w for key, found_by in FOUND_BY.items() if key in site.function and "winograd" not in file for w in found_by]
    return Mutant(name, file, site.start, site.old, site.new, (*own, *words))


def rank(seed: str, file: str, source: str, site: Site) -> str:
    """Return what decides whether a site is drawn: a hash of the seed and of what stands at the site."""
    begin = source.rfind("\n", 0, site.start) + 1
    line = source[begin : source.find("\n", site.start)]
    column = site.start - begin - (len(line) - len(line.lstrip()))
    return hashlib.sha256(repr((seed, file, site.function, line.strip(), column, site.new)).encode()).hexdigest()


def sites(source: str) -> list[Site]:
    """Return every token of a module's functions that may be changed."""
    return [site for site in _Sites(source).found() if source.startswith(site.old, site.start)]


class _Sites:
    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)
        self.lines = source.splitlines(keepends=True)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))
        self.steps = _steps(self.tree)
        self.tokens = [
            (self._at(*token.start), token.string)
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type in (tokenize.OP, tokenize.NAME, tokenize.NUMBER)
        ]

    def _at(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column

    def _text(self, node: ast.expr) -> str:
        """Return what stands there, of one line: ast.get_source_segment cuts all lines of a file for each."""
        if node.lineno != node.end_lineno:
            return ""
        return self.lines[node.lineno - 1].encode()[node.col_offset : node.end_col_offset].decode()

    def found(self) -> Iterator[Site]:
        yield from self._in_functions(self.tree, "")

    def _in_functions(self, node: ast.AST, outer: str) -> Iterator[Site]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                name = f"{outer}.{child.name}".lstrip(".")
                yield from self._in_functions(child, name)
                if isinstance(child, ast.FunctionDef) and child.name not in CUTTING | NOT_CODE:
                    for statement in child.body:
                        yield from (replace(site, function=name) for site in self._visit(statement, in_index=False))
            else:
                yield from self._in_functions(child, outer)

    def _visit(self, node: ast.AST, in_index: bool) -> Iterator[Site]:
        if _is_text(node) or isinstance(node, (ast.Raise, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)):
            return
        yield from self._sites_of(node, in_index)
        if isinstance(node, ast.keyword) and node.arg == "axis":
            return
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list"):
                continue
            children = value if isinstance(value, list) else [value]
            if isinstance(node, ast.Call) and field == "args" and getattr(node.func, "id", "").lstrip("_") == "require":
                children = children[:1]  # the rest is what the error says
            for child in children:
                if isinstance(child, ast.AST):
                    yield from self._visit(child, isinstance(node, ast.Subscript) and field == "slice")

    def _sites_of(self, node: ast.AST, in_index: bool) -> Iterator[Site]:
        if isinstance(node, ast.Compare):
            for op, left, right in zip(node.ops, [node.left, *node.comparators], node.comparators, strict=False):
                yield from self._operator(OPERATORS.get(type(op)), left, right, "comparison")
        elif isinstance(node, ast.BinOp):
            yield from self._operator(OPERATORS.get(type(node.op)), node.left, node.right, "operator")
        elif isinstance(node, ast.BoolOp):
            yield from self._operator(OPERATORS[type(node.op)], node.values[0], node.values[1], "comparison")
        elif isinstance(node, ast.AugAssign) and node not in self.steps:
            yield from self._operator(f"{OPERATORS.get(type(node.op))}=", node.target, node.value, "accumulation")
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield Site(self._at(node.lineno, node.col_offset), "not ", "", "comparison")
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            yield Site(self._at(node.lineno, node.col_offset), "-", "", "sign")
        elif isinstance(node, ast.keyword) and node.arg == "axis":
            yield from self._axis(node.value)
        elif isinstance(node, ast.Call):
            yield from self._name(node.func)
            yield from self._arguments(node)
        elif isinstance(node, ast.Constant):
            yield from self._constant(node, in_index)

    def _operator(self, old: str | None, left: ast.expr, right: ast.expr, kind: str) -> Iterator[Site]:
        if old not in SWAPPED:
            return
        begin, end = self._at(left.end_lineno or 0, left.end_col_offset or 0), self._at(right.lineno, right.col_offset)
        for start, text in self.tokens[bisect_left(self.tokens, (begin, "")) :]:
            if start >= end:
                return
            if text == old:
                yield Site(start, old, SWAPPED[old], kind)
                return

    def _axis(self, value: ast.expr) -> Iterator[Site]:
        text = self._text(value)
        if text.lstrip("-").isdecimal() and int(text) in AXES:
            yield Site(self._at(value.lineno, value.col_offset), text, str(AXES[int(text)]), "axis")

    def _name(self, function: ast.expr) -> Iterator[Site]:
        name = function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
        if name in SWAPPED:
            yield Site(
                self._at(function.end_lineno or 0, (function.end_col_offset or 0) - len(name)), name, SWAPPED[name], "name"
            )

    def _arguments(self, call: ast.Call) -> Iterator[Site]:
        """Give a call's first two arguments, exchanged, where both are names: others mostly end in a TypeError."""
        first, second = call.args[:2] if len(call.args) > 1 else (None, None)
        if not (isinstance(first, ast.Name) and isinstance(second, ast.Name)) or first.id == second.id:
            return
        if ast.unparse(call.func).rsplit(".", 1)[-1] not in EITHER_WAY:
            start = self._at(first.lineno, first.col_offset)
            yield Site(start, f"{first.id}, {second.id}", f"{second.id}, {first.id}", "arguments")

    def _constant(self, node: ast.Constant, in_index: bool) -> Iterator[Site]:
        if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
            return
        text = self._text(node)
        start = self._at(node.lineno, node.col_offset)
        if isinstance(node.value, float):
            yield Site(start, text, repr(2 * node.value or 1.0), "constant")
        elif node.value < 16:  # larger ones are limits of memory and of what a byte holds
            yield Site(
                start, text, "0" if in_index and node.value == 1 else str(node.value + 1), "index" if in_index else "constant"
            )


def _steps(tree: ast.Module) -> set[ast.AST]:
    """Return what brings a while loop nearer to its end: without it nothing but patience is tried."""
    loops = [(loop, _names(loop.test)) for loop in ast.walk(tree) if isinstance(loop, ast.While)]
    return {
        step for loop, names in loops for step in ast.walk(loop)
        if isinstance(step, ast.AugAssign) and _names(step.target) & names
    }  # fmt: skip


def _names(node: ast.AST) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


def _is_text(node: ast.AST) -> bool:
    """Tell whether a node only makes a message, names types, or says how work is cut."""
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id in MESSAGES for target in node.targets)
    if isinstance(node, ast.Compare) and ast.unparse(node.left) == "sys.version_info":
        return True  # which of two ways is gone is the machine's to say
    if isinstance(node, ast.IfExp):
        return any(isinstance(branch, ast.JoinedStr) or _is_string(branch) for branch in (node.body, node.orelse))
    if isinstance(node, ast.Call) and (getattr(node.func, "attr", "") == "warn" or ast.unparse(node.func).startswith("types.")):
        return True  # a kernel's signature is an annotation: of its types Numba takes as many as there are arguments
    return isinstance(node, ast.JoinedStr) or _is_string(node)


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
