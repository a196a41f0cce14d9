"""The planted errors themselves: each is one, each can be planted, and none stays in the sources."""

from __future__ import annotations

import ast
import functools
from collections import Counter
from pathlib import Path

import pytest
from mutants import catalogue, equivalent, generate, quotas
from mutants.mutant import ROOT, place, read
from mutants.plan import files_for
from mutants.run import Tree

BY_HAND = catalogue.mutants()  # a ValueError here names a text that does not occur exactly once
DRAWN = generate.mutants()


@functools.cache
def parsed(source):
    return ast.parse(source)


def around(tree, line):
    """Return what stands at the top of a module around a line, without its layout: to dump all of it takes longest."""
    first = {node: min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) for node in tree.body}
    return [ast.dump(node) for node in tree.body if first[node] <= line <= node.end_lineno]


TRIED = ((BY_HAND, pytest.mark.rare), (DRAWN, pytest.mark.nightly))  # what is drawn is drawn from what was parsed


@pytest.mark.parametrize("mutant", [pytest.param(m, id=m.name, marks=mark) for mutants, mark in TRIED for m in mutants])
def test_each_mutant_parses_and_differs_in_more_than_layout(mutant):
    source = read(mutant.file)
    where = place(mutant, source)
    if mutant.file.endswith(".py"):  # of CUDA sources a compiler says whether they parse
        assert around(ast.parse(mutant.applied(source)), where.line) != around(parsed(source), where.line)
    assert where.old != where.new


@pytest.mark.parametrize("file", sorted({mutant.file for mutant in BY_HAND + DRAWN}))
def test_each_file_has_tests_that_try_its_mutants(file):
    assert files_for(file)


@pytest.mark.parametrize(
    ("file", "first"),
    [
        ("minunet/cli/train.py", "tests/minunet/cli/"), ("minunet/cli/report.py", "tests/minunet/cli/test_report.py"),
        ("minunet/unet.py", "tests/minunet/test_unet.py"), ("minunet/data/folders.py", "tests/minunet/data/test_folders.py"),
        ("minunet/files.py", "tests/minunet/test_files.py"), ("minunet/fitting.py", "tests/minunet/test_fitting.py"),
    ],
)  # fmt: skip
def test_what_users_touch_is_tried_by_its_own_tests_and_not_by_the_mathematics(file, first):
    tests = files_for(file)
    assert tests[0].startswith(first) and not any(test.startswith(("tests/kernels/", "tests/proof/")) for test in tests)


def test_there_are_enough_of_each_kind_and_no_two_alike():
    assert len(catalogue.HISTORY) >= 6 and len(catalogue.THOUGHTFUL) >= 15 and len(DRAWN) >= 40
    assert len({mutant.name for mutant in BY_HAND + DRAWN}) == len(BY_HAND + DRAWN)
    assert len({place(mutant, read(mutant.file)).key for mutant in DRAWN}) == len(DRAWN)
    kernels_to_training = {mutant.file.rsplit("/", 1)[0] for mutant in DRAWN}
    assert kernels_to_training >= {"kernels", "kernels/cpu", "minunet", "minunet/data", "minunet/training"}


def test_each_source_file_gives_errors_or_has_a_reason_to_give_none():
    sources = {p.relative_to(ROOT).as_posix() for p in (ROOT / "minunet").glob("**/*.py")}
    sources = {file for file in sources if not file.startswith("minunet/kernels/")}
    assert set(quotas.NONE) <= sources - {mutant.file for mutant in DRAWN}
    assert {mutant.file for mutant in BY_HAND + DRAWN} | set(quotas.NONE) >= sources
    assert all(len(reason.split()) > 1 for reason in quotas.NONE.values())
    drawn = Counter(mutant.file for mutant in DRAWN)
    assert not {file: quota for file, (quota, _) in quotas.QUOTAS.items() if drawn[file] != quota}, "too few sites for a quota"


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("g(a, b, c)", ["g(b, a, c)"]), ("x.g(a, b)", ["x.g(b, a)"]), ("g(a, a)", []), ("g(a, b + c)", ["g(a, b - c)"]),
        ("sys.version_info >= (3, 14)", []),
        ("isinstance(a, b)", []), ("not a", ["a"]), ("a in b", []), ("not (a or b)", ["(a or b)", "not (a and b)"]),
    ],
)  # fmt: skip
def test_arguments_are_exchanged_and_negations_dropped(line, changed):
    source = f"def f(a, b, c):\n    return {line}\n"
    found = [source[: s.start] + s.new + source[s.start + len(s.old) :] for s in generate.sites(source)]
    assert sorted(text.splitlines()[1].strip().removeprefix("return ") for text in found) == sorted(changed)


@pytest.mark.rare
def test_what_is_drawn_depends_on_the_seed_alone():
    assert generate.mutants() == DRAWN
    assert set(generate.mutants("another")) != set(DRAWN)


def test_an_edit_elsewhere_in_a_file_moves_no_mutant():
    source = "def f(x):\n    return x[0] + 1 < 2\n"
    shifted = "# a line more\n\n" + source
    assert [(s.old, s.new) for s in generate.sites(shifted)] == [(s.old, s.new) for s in generate.sites(source)]
    ranks = [[generate.rank("s", "f.py", text, site) for site in generate.sites(text)] for text in (source, shifted)]
    assert ranks[0] == ranks[1]


def test_texts_annotations_and_block_sizes_are_no_sites():
    source = '''
BLOCK = 1 + 2


def f(x: Literal[1] | None) -> Literal[2] | None:
    """1 + 1"""
    require(x > 0, "x" + "y", x + 1, f"{x + 1}")
    hint = "a" + "b" * 2
    signature = types.void(zero, *[types.int64] * 3)
    if x < 0:
        raise ValueError("x" + str(x - 1))
    return x if x == 256 else -x


def __repr__(self):
    return 1 + 1
'''
    found = [(site.old, site.new) for site in generate.sites(source)]
    assert sorted(found) == sorted([(">", ">="), ("0", "1"), ("<", "<="), ("0", "1"), ("==", "!="), ("-", "")])


def test_what_ends_a_loop_is_no_site():
    source = """
def f(x):
    n = step = 0
    while step < x:
        n += 2
        step += 3
    step += 4
    return n
"""
    found = [source[site.start :].splitlines()[0] for site in generate.sites(source) if site.kind == "accumulation"]
    assert found == ["+= 2", "+= 4"]


def test_equivalents_are_of_mutants_that_there_are_and_have_a_reason():
    keys = {place(mutant, read(mutant.file)).key for mutant in BY_HAND + DRAWN}
    for key, proof in equivalent.PROOFS.items():
        assert key in keys, "no mutant is this one any more: take the line out"
        assert len(proof.split()) > 5


def test_a_mutant_is_planted_in_a_copy_and_taken_out_again(tmp_path, monkeypatch):
    sources = {mutant.file: read(mutant.file) for mutant in BY_HAND + DRAWN}
    tree = Tree(tmp_path / "tree")
    assert not {file: text for file, text in sources.items() if read(file, tree.root) != text}
    seen = []

    def attempt(tests, cache, mutant, only_likely):
        seen.append((read(BY_HAND[0].file, tree.root), Path(cache)))
        return 1, [["start", "a"], ["failed", "a"]]

    monkeypatch.setattr(tree, "attempt", attempt)
    outcome = tree.try_mutant(BY_HAND[0])
    assert (outcome.state, outcome.by) == ("killed", "a")
    assert seen[0][0] == BY_HAND[0].applied(sources[BY_HAND[0].file])
    assert tree.root in seen[0][1].parents
    assert all(read(file, tree.root) == text and read(file) == text for file, text in sources.items())
    assert (tree.root / "minunet" / "kernels").is_symlink() == (ROOT / "minunet" / "kernels").is_symlink()
