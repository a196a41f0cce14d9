"""What killed writers leave behind is swept at the next write, and nothing else."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from minunet import files, leftovers
from minunet.writing import Folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills processes with signals")

WRITER = """
    import sys
    from minunet.files import Output, atomic_write
    print("ready", flush=True)
    for i in range(10**9):
        path, data = sys.argv[1], bytes([i % 2]) * 3_000_000
        atomic_write(path, data)
        try:
            atomic_write(Output(f"{path}.{i}"), data)
        except FileExistsError:
            pass
"""


def start(path):
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def temporary(folder):
    return [name for name in os.listdir(folder) if name.endswith(".minunet-tmp")]


def test_a_write_killed_at_any_moment_leaves_whole_files_and_the_next_one_sweeps(tmp_path):
    draw = random.Random(0)
    n_swept = 0
    for _ in range(12):
        process = start(tmp_path / "model.bin")
        time.sleep(draw.uniform(0, 0.05))
        process.kill()
        process.communicate()
        for path in tmp_path.iterdir():
            if not path.name.endswith(".minunet-tmp"):
                content = path.read_bytes()
                assert len(content) == 3_000_000 and len(set(content)) == 1
        n_swept += len(temporary(tmp_path))
        files.atomic_write(tmp_path / "other.bin", b"\0" * 3_000_000)
        assert temporary(tmp_path) == []
    assert n_swept  # or nothing was tried


def test_a_living_writers_file_stays(tmp_path):
    process = start(tmp_path / "model.bin")
    try:
        deadline = time.monotonic() + 30
        while not temporary(tmp_path) and time.monotonic() < deadline:
            pass
        process.send_signal(signal.SIGSTOP)
        before = temporary(tmp_path)
        files.atomic_write(tmp_path / "other.bin", b"")
        assert temporary(tmp_path) == before
    finally:
        process.kill()
        process.communicate()


def test_our_own_file_stays_while_it_is_written(tmp_path):
    with Folder(tmp_path) as folder:
        name, descriptor = folder._temporary("model.bin", private=True)
        files.atomic_write(tmp_path / "other.bin", b"")
        assert temporary(tmp_path) == [name]
        os.close(descriptor)
        files.atomic_write(tmp_path / "other.bin", b"")
        assert temporary(tmp_path) == [name]  # this process lives


def dead(name="model.bin", **changes):
    """Return a temporary name of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    parts = {"host": leftovers._host(), "life": leftovers._life(), "process": process.pid, "start": 12345} | changes
    return f".{name}.{parts['host']}-{parts['life']}-{parts['process']}-{parts['start']}-0123abcd.minunet-tmp"


def test_what_is_swept_and_what_is_not(tmp_path):
    swept = [dead(), dead("new\nline"), dead(life="00000000"), dead(process=os.getpid()), dead(start=0)]
    kept = [dead(host="00000000"), dead()[1:], f"{dead()}.png", ".model.bin.minunet-tmp", "model.bin.0123456789abcdef.tmp"]
    for name in (*swept, *kept):
        (tmp_path / name).write_bytes(b"partial")
    files.atomic_write(tmp_path / "model.bin", b"")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "model.bin"])


def test_no_link_is_followed_and_nothing_but_files_is_touched(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "out").mkdir()
    link, folder, pipe = dead("link"), dead("folder"), dead("pipe")
    (tmp_path / "out" / link).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / folder).mkdir()
    os.mkfifo(tmp_path / "out" / pipe)
    files.atomic_write(tmp_path / "out" / "model.bin", b"")
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path / "out")) == sorted([link, folder, pipe, "model.bin"])


def test_a_file_that_another_container_writes_is_locked_and_stays(tmp_path):
    name = dead(life="00000000")  # its number says nothing here
    with open(tmp_path / name, "wb") as file:
        assert leftovers.lock(file.fileno())
        files.atomic_write(tmp_path / "model.bin", b"")
        assert temporary(tmp_path) == [name]
    files.atomic_write(tmp_path / "model.bin", b"")
    assert temporary(tmp_path) == []


def test_where_nothing_can_be_locked_only_the_dead_of_this_boot_are_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers, "lock", lambda descriptor: None)
    known, unknown = dead(), dead(life="00000000")
    for name in (known, unknown):
        (tmp_path / name).write_bytes(b"")
    files.atomic_write(tmp_path / "model.bin", b"data")
    assert temporary(tmp_path) == [unknown] and (tmp_path / "model.bin").read_bytes() == b"data"


def test_a_temporary_file_that_was_swept_before_it_was_locked_is_made_anew(tmp_path, monkeypatch):
    taken = []

    def swept_once(descriptor, _lock=leftovers.lock):
        if not taken:
            taken.append(temporary(tmp_path)[0])
            os.unlink(tmp_path / taken[0])
        return _lock(descriptor)

    monkeypatch.setattr(leftovers, "lock", swept_once)
    files.atomic_write(tmp_path / "model.bin", b"data")
    assert taken and (tmp_path / "model.bin").read_bytes() == b"data" and os.listdir(tmp_path) == ["model.bin"]


def test_a_temporary_name_is_short_and_its_own():
    names = {leftovers.temporary_name("é" * 200) for _ in range(100)}
    assert len(names) == 100 and max(len(os.fsencode(name)) for name in names) <= 143  # eCryptfs takes no longer ones
