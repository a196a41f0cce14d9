"""The cache of compiled code: never old code, where it says, and no need of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

from minunet.kernels.cpu import jit

ROOT = Path(__file__).resolve().parents[3]
RELU = """
import numpy as np
from minunet.kernels import cpu
print(*cpu.relu(np.array([-1, 2], np.float32).reshape(1, 1, 1, 2)).ravel().tolist())
"""


@pytest.fixture
def tree(tmp_path):
    """A copy of both packages, to change."""
    for package in ("kernels", "minunet"):
        shutil.copytree(ROOT / package, tmp_path / package, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return tmp_path


def run(tree, **variables):
    """Run RELU on the tree's kernels; return what it printed and what it said."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_", "PYTHON"))}
    environment = kept | {"PYTHONPATH": str(tree)} | {name: str(value) for name, value in variables.items()}
    done = subprocess.run([sys.executable, "-c", RELU], cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.splitlines()


def test_a_changed_intrinsic_is_never_served_from_the_cache(tree):
    """It is inlined in kernels of other files, whose own text and time do not change."""
    cache = tree / "cache"
    result, said = run(tree, NUMBA_CACHE_DIR=cache)
    assert result == "0.0 2.0"
    assert len(said) == 1 and "compiling" in said[0] and "once" in said[0]
    assert list(cache.glob("minunet-*/**/*.nbi"))
    assert not list((tree / "kernels").rglob("*.nbi"))
    assert run(tree, NUMBA_CACHE_DIR=cache) == ("0.0 2.0", [])  # from the cache: nothing to say
    source = tree / "kernels" / "cpu" / "generated.py"
    source.write_text(source.read_text() + "\n\ncopy_relu = copy\n")
    result, said = run(tree, NUMBA_CACHE_DIR=cache)
    assert result == "-1.0 2.0"
    assert len(said) == 1


def test_where_no_folder_is_writable_kernels_compile_in_each_process_and_say_so(tree):
    nowhere = tree / "file"
    nowhere.write_text("in the way of any folder")
    shutil.copy(nowhere, tree / "kernels" / "cpu" / "__pycache__")
    result, said = run(tree, HOME=nowhere, XDG_CACHE_HOME=nowhere)
    assert result == "0.0 2.0"
    assert len(said) == 1 and "in each process: no folder is writable" in said[0] and "NUMBA_CACHE_DIR" in said[0]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Kernels whose sources are one file in a folder of their own, and no cache chosen yet."""
    folder = tmp_path / "cpu"
    folder.mkdir()
    (folder / "a.py").write_text("a = 1\n")
    monkeypatch.setattr(jit, "HERE", folder)
    monkeypatch.setattr(jit, "sources_stamp", jit.sources_stamp.__wrapped__)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    return folder


def cache_folder():
    return jit.cache_folder.__wrapped__()


def test_the_cache_is_beside_the_sources_or_the_users_own_or_where_numba_is_told(here, tmp_path, monkeypatch):
    assert cache_folder().parent == here / "__pycache__"
    shutil.rmtree(here / "__pycache__")
    (here / "__pycache__").write_text("in the way")
    assert cache_folder().parent == tmp_path / "users" / "minunet"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "told"))
    assert cache_folder().parent == tmp_path / "told"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(here / "a.py"))  # told a place that is none: no other is taken
    assert cache_folder() is None


def test_any_change_of_any_source_takes_another_folder(here):
    def change(name, text):
        (here / name).write_text(text)
        return cache_folder().name

    names = [cache_folder().name, change("a.py", "a = 2\n"), change("b.py", ""), change("b.py", "a = 2\n")]
    (here / "b.py").rename(here / "c.py")
    names.append(cache_folder().name)
    assert len(set(names)) == 5
    (here / "c.py").unlink()
    assert cache_folder().name == names[1]
