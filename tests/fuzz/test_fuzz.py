"""The fuzzers see what they are to see; and what they drive keeps its promises, for as long as a test may take."""

from __future__ import annotations

import sys

import pytest
from fuzz import run, targets
from fuzz.plants import PLANTS
from fuzz.source import Source, by_chance, shrink

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and signals are as on Linux")


def fuzzed(target, most, seed="test", *more):
    tally = run.Tally(target)
    while tally.next_case < most:
        left = most - tally.next_case
        arguments = ["--seed", seed, "--first", str(tally.next_case), "--most", str(left), "--seconds", "60", *more]
        if run.work(tally, arguments, seed):
            break
    return tally


@pytest.mark.parametrize("target", targets.SHARES)
def test_promises_are_kept(target):
    tally = fuzzed(target, 150 if target != "cli" else 100)
    faults = [f"{kind}: {record['error']} (--data {record['data']})" for kind, record in tally.failures.items()]
    assert not faults, "\n".join(faults)
    assert tally.executions >= 100
    assert tally.refused and tally.accepted, "a target that refuses all, or nothing, tries little"


@pytest.mark.rare
def test_what_is_wrong_is_seen():
    tally = fuzzed("planted", 600)
    kinds = {
        "a promise", "KeyError in planted.py:test_one_input", "dies of SIGSEGV", "nothing is printed on stderr",
        "it takes at most 64 MiB", "it takes at most 0.5 s of the processor",
    }  # fmt: skip
    assert set(tally.failures) == kinds
    assert len(tally.failures["a promise"]["data"]) <= 4, "what fails is shrunk"
    assert tally.executions > 500


@pytest.mark.nightly
@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_fault_is_found(plant):
    """In a few hundred cases, where a minute has tens of thousands."""
    found, tally, seed = PLANTS[plant].finds, run.Tally(PLANTS[plant].target), PLANTS[plant].seed
    while tally.next_case < 12_000 and not any(found in kind for kind in tally.failures):
        arguments = ["--seed", seed, "--first", str(tally.next_case), "--most", "200", "--seconds", "20", "--shrink", "0"]
        run.work(tally, [*arguments, "--plant", plant], seed)
    assert any(found in kind for kind in tally.failures), f"{tally.executions} cases: {list(tally.failures)}"


def test_a_case_is_a_function_of_seed_target_and_number():
    assert by_chance("7", "model", 3) == by_chance("7", "model", 3)
    assert len({by_chance(seed, target, n) for seed in "78" for target in targets.SHARES for n in range(20)}) == 200


def test_shrinking_keeps_what_matters():
    assert shrink(bytes(range(200)), lambda data: 77 in data and 150 in data) == bytes([77, 150])
    assert shrink(b"abc", lambda data: True) == b""


def test_decisions_end_in_the_plainest():
    source = Source(b"")
    assert source.below(10) == 0 and source.choice("abc") == "a" and not source.once_in(2) and source.rest() == b""
