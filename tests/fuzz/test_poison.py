"""No pixel is what memory held before: each is written by a decoder, or the file is refused."""

from __future__ import annotations

import sys

import pytest
from fuzz import poison

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="malloc fills memory as glibc's does")


@pytest.mark.rare
def test_pixels_do_not_depend_on_what_memory_held():
    first, second = (poison.lines(byte, "poison", 500) for byte in (1, 254))
    assert first == second
    assert 130 < sum(not line.endswith("refused") for line in first) < len(first)


def test_what_memory_held_would_be_seen():
    script = "from fuzz import poison; poison._fill(7); import numpy as np; print(np.empty(9, np.uint8).sum())"
    import subprocess

    from fuzz.run import ROOT, environment

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment("image"), capture_output=True, text=True)
    assert done.stdout.strip() == "63"
