"""The cache of compiled code: never old code, where it says, and no need of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

from minunet.kernels import telling
from minunet.kernels.cpu import jit

ROOT = Path(__file__).resolve().parents[3]
RELU = """
import numpy as np
from minunet.kernels import cpu, telling
with telling(True):
    print(*cpu.relu(np.array([-1, 2], np.float32).reshape(1, 1, 1, 2)).ravel().tolist())
"""


def copied(folder):
    for package in ("kernels", "minunet"):
        shutil.copytree(ROOT / package, folder / package, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return folder


@pytest.fixture
def tree(tmp_path):
    """A copy of both packages, to change."""
    return copied(tmp_path)


def run(tree, **variables):
    """Run RELU on the tree's kernels; return what it printed and what it said."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_", "PYTHON"))}
    environment = kept | {"PYTHONPATH": str(tree)} | {name: str(value) for name, value in variables.items()}
    done = subprocess.run([sys.executable, "-c", RELU], cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.splitlines()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A cache of what RELU compiles, to copy: the kernels' folder is named by the sources' text, not by their place."""
    tree = copied(tmp_path_factory.mktemp("compiled"))
    run(tree, NUMBA_CACHE_DIR=tree / "cache")
    return tree / "cache"


@pytest.fixture
def cache(tree, compiled):
    """The tree's own cache, filled."""
    return Path(shutil.copytree(compiled, tree / "cache"))


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


posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners and modes here")


@posix
def test_a_folder_that_others_may_write_is_not_used_and_that_is_said_in_one_line(tree, cache):
    cache.chmod(0o777)
    result, said = run(tree, NUMBA_CACHE_DIR=cache)
    assert result == "0.0 2.0"
    assert len(said) == 1 and "compiling" in said[0]
    assert f"in each process: no folder is safe for them: others may write {cache} (mode 0777)" in said[0]


@posix
def test_beside_the_sources_either_the_users_own_folder_is_taken_then_and_nothing_is_said(tree):
    beside = tree / "kernels" / "cpu" / "__pycache__"
    beside.mkdir()
    beside.chmod(0o777)
    users = tree / "users"
    _, said = run(tree, XDG_CACHE_HOME=users)
    assert len(said) == 1 and "once ..." in said[0]
    assert list((users / "minunet").rglob("*.nbi")) and not list(beside.rglob("*.nb?"))
    assert run(tree, XDG_CACHE_HOME=users) == ("0.0 2.0", [])


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_a_cut_file_is_said_in_the_line_that_announces_the_compilation_and_is_mended(tree, cache, ending):
    (path,) = cache.rglob(f"*.{ending}")
    os.truncate(path, path.stat().st_size // 2)
    result, said = run(tree, NUMBA_CACHE_DIR=cache)
    assert result == "0.0 2.0"
    assert len(said) == 1 and f"once, anew: {path} is damaged" in said[0]
    assert run(tree, NUMBA_CACHE_DIR=cache) == ("0.0 2.0", [])


def test_no_home_at_all_is_no_folder_called_tilde(here, monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where there is neither HOME nor an entry of the user
    monkeypatch.chdir(tmp_path)
    (here / "__pycache__").write_text("in the way")
    assert cache_folder() is None
    assert not (tmp_path / "~").exists()


def test_a_folder_named_from_here_stays_the_same_where_the_process_goes(here, monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "told")
    monkeypatch.chdir(tmp_path)
    assert cache_folder().parent == tmp_path / "told"
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert cache_folder() is None


def test_what_cannot_be_written_or_read_is_said_once_and_a_stderr_that_is_closed_stops_nothing(monkeypatch, capsys):
    said = jit._Said()
    with telling(True):
        for _ in range(2):
            said.unkept("the disk is full")
        said.compiling = True
        for why in ("a is damaged", "b is damaged"):
            said.lost(why)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "the disk is full" in lines[0] and "a is damaged" in lines[1]
    with open(os.devnull) as not_for_writing, telling(True):
        for stream in (None, not_for_writing):
            monkeypatch.setattr(sys, "stderr", stream)
            jit._Said().unkept("the disk is full")
    with telling(True):
        jit._Said().unkept("the disk is full")  # a closed one
    assert capsys.readouterr().out == ""


def test_a_numba_with_another_cache_inside_compiles_in_each_process(monkeypatch, capsys, tmp_path):
    def kernel(x):
        return x + x

    kernel.__module__ = "minunet.kernels.cpu.of_a_test"
    monkeypatch.setattr(jit, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(jit, "_said", jit._Said())
    monkeypatch.setattr("minunet.kernels.cpu.cache.KernelCache.__abstractmethods__", frozenset({"more"}))
    with telling(True):
        assert jit.jit(kernel)(3) == 6
    assert "this Numba's cache is made otherwise" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_only_minunets_kernels_are_kept_for_only_their_sources_name_the_folder(monkeypatch, tmp_path):
    def kernel(x):
        return x + x

    monkeypatch.setattr(jit, "cache_folder", lambda: tmp_path)
    assert jit.jit(kernel)(3) == 6 and not list(tmp_path.iterdir())
    kernel.__module__ = "minunet.kernels.cpu.of_a_test"
    assert jit.jit(kernel)(3) == 6 and len(list(tmp_path.iterdir())) == 2


def test_numbas_own_cache_of_others_functions_is_left_alone(tmp_path):
    program = "import numba, minunet.kernels.cpu; from numba.core.caching import FunctionCache, NullCache\n"
    program += "f = numba.njit(cache=True)(minunet.kernels.cpu.jit.part)\nassert type(f._cache) is FunctionCache"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)})


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


@posix
def test_a_folder_whose_name_commands_the_terminal_is_shown_with_escapes(tree):
    cache = tree / "\x1b[31m\n"
    cache.mkdir()
    cache.chmod(0o777)
    result, said = run(tree, NUMBA_CACHE_DIR=cache)
    assert result == "0.0 2.0" and len(said) == 1 and r"\x1b[31m\n (mode 0777)" in said[0]


def test_where_numba_is_switched_off_the_reference_serves_and_that_is_said(tree):
    program = "import numpy as np, minunet; print(minunet.ops.relu(np.array([-1, 2], np.float32).reshape(1, 1, 1, 2))[0].ravel())"
    environment = os.environ | {"PYTHONPATH": str(tree), "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=tree, env=environment, capture_output=True, text=True)
    assert done.stdout == "[0. 2.]\n" and "it is switched off by NUMBA_DISABLE_JIT" in done.stderr
