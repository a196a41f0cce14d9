"""Kernels touch their arrays, and not one byte beside them: memory that nobody may touch begins where each ends, or starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

TESTS = Path(__file__).resolve().parents[2]
SKIP = 77


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is not of this system")
@pytest.mark.parametrize("kernels", ["convolutions", "winograd", "others"])
def test_no_byte_outside_an_array_is_read_or_written(kernels):
    program = [sys.executable, "-X", "faulthandler", str(TESTS / "guarded.py"), kernels]
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    done = subprocess.run(program, env=environment, capture_output=True, text=True)
    if done.returncode == SKIP:
        pytest.skip(done.stdout.strip())
    last = "\n".join(done.stdout.splitlines()[-1:])
    assert done.returncode == 0, f"exit status {done.returncode} at: {last}\n{done.stderr[-3000:]}"
    assert last == "all done"
