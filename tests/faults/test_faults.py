"""A sample of the faults, the same in every run; `make faults` tries them for ten minutes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Those that take no process of their own.
SAMPLE = "points: (save|kernel)|kill: (save|check)|full, save|limit: (size of files|memory|threads)|clocks|interrupt: fit"


@pytest.mark.rare
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the children of faults are forks")
def test_a_sample_of_the_faults_breaks_nothing():
    order = [sys.executable, "-m", "faults.run", "--trials", "1", "--only", SAMPLE]
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    done = subprocess.run(order, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    tried = [line for line in done.stdout.splitlines() if line.startswith(("cut", "kill", "disk", "limit", "clock", "interrupt"))]
    assert len(tried) == 10, done.stdout
