"""The generated code for other processors than this one: a few exact convolutions with each width of vectors."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("numba")

from minunet.kernels.cpu import isa

TESTS = Path(__file__).resolve().parents[2]

BASELINE = "+64bit,+cx8,+cx16,+cmov,+sse,+sse2"  # of x86-64

EXACT = """
import numpy as np
from minunet.kernels import cpu
from minunet.kernels.cpu.isa import ISA
from minunet.testing.strategies import Geometry
from three_passes import assert_exact
panel = ISA.panel_bytes // 4
for c, k in ((1, panel + 1), (5, panel // 2), (9, panel)):
    for size in (1, ISA.tall + 1, 2 * ISA.narrow + 3):
        assert_exact(cpu, Geometry((1, 2, size, c), (3, 3), k, (1, 1), (1, 1)))
        assert_exact(cpu, Geometry((2, 1, size, c), (1, 2), k, (1, 2), (0, 1)))
print(ISA.vector_bytes, ISA.tall)
"""
# The tiles of a processor with wider vectors, compiled for this one, which does them in parts.
AS_IF = """
import numba
numba.njit(lambda: 0)()  # compiled for this processor, as all that follows
numba.config.CPU_FEATURES = {features!r}
import minunet.kernels.cpu.isa
numba.config.CPU_FEATURES = None
"""


def printed(program, folder, **variables):
    paths = os.pathsep.join((str(TESTS.parent), str(TESTS)))
    quick = {"NUMBA_OPT": "1", "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | quick | variables, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.rare
def test_other_vectors_give_exact_results(tmp_path):
    """Of an unknown processor; and AVX-512's tiles, wherever this runs. Both at once: they compile long."""
    # For a name that it does not know, LLVM itself wants to be told what all of these processors have.
    intel = platform.machine().lower() in ("x86_64", "amd64")
    name, features = ("no-such-processor", BASELINE) if intel else ("generic", "")
    as_if = AS_IF.format(features="+avx512f,+fma") + EXACT
    with ThreadPoolExecutor(2) as pool:
        narrow = pool.submit(printed, EXACT, tmp_path / "narrow", NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=features)
        wide = pool.submit(printed, as_if, tmp_path / "wide")
    assert narrow.result()[0] == "16"
    assert wide.result() == ["64", "8"]


@pytest.mark.parametrize(
    ("features", "vector_bytes", "fma"),
    [
        ("+avx512f,+avx2,+avx,+fma", 64, True), ("+avx2,+avx,+fma", 32, True), ("+avx", 32, False),
        ("+sse2,-avx", 16, False), ("", 16, False),
    ],
)  # fmt: skip
def test_vectors_are_as_wide_as_the_features_allow(features, vector_bytes, fma, monkeypatch):
    monkeypatch.setattr(isa.config, "CPU_FEATURES", features)
    monkeypatch.setattr(isa.llvm, "get_process_triple", lambda: "x86_64-unknown-linux-gnu")
    found = isa.detect()
    assert (found.vector_bytes, found.fma, found.panel_bytes) == (vector_bytes, fma, 2 * vector_bytes)
    monkeypatch.setattr(isa.llvm, "get_process_triple", lambda: "arm64-apple-darwin")
    assert isa.detect().fma or features == "+avx"
