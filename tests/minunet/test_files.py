"""A file is replaced whole or not at all."""

import os
import subprocess
import sys
import textwrap

import pytest

from minunet import files


def test_a_new_file_and_its_replacement(tmp_path):
    path = tmp_path / "naïve name.bin"
    for data in (b"first", b"second, longer"):
        files.atomic_write(path, data)
        assert path.read_bytes() == data
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions, links and limits")


@posix
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_those_that_open_gives(tmp_path, mask):
    previous = os.umask(mask)
    try:
        files.atomic_write(tmp_path / "ours", b"")
        (tmp_path / "plain").write_bytes(b"")
    finally:
        os.umask(previous)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@posix
def test_a_private_file_stays_private(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"old")
    path.chmod(0o600)
    files.atomic_write(path, b"new")
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o600


@posix
def test_a_link_is_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "model.bin")
    for data in (b"first", b"second"):
        files.atomic_write(tmp_path / "link", data)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "folder" / "model.bin").read_bytes() == data


@posix
@pytest.mark.parametrize("ask", [files.require_writable, lambda path: files.atomic_write(path, b"")])
def test_a_device_or_a_pipe_is_not_replaced(tmp_path, ask):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="no ordinary file"):
        ask(tmp_path / "pipe")


def test_the_longest_name_that_the_system_takes(tmp_path):
    path = tmp_path / ("n" * 251 + ".bin")
    files.atomic_write(path, b"data")
    assert path.read_bytes() == b"data"


@pytest.mark.parametrize("step", ["os.fsync", "os.replace"])
def test_ctrl_c_at_any_step_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "model.bin"
    path.write_bytes(b"old")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.atomic_write(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["model.bin"] and path.read_bytes() == b"old"


@posix
def test_data_is_durable_before_it_takes_the_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr("os.fsync", lambda fd: (calls.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr("os.replace", lambda a, b, **ends: (calls.append("replace"), replace(a, b, **ends))[1])
    files.atomic_write(tmp_path / "model.bin", b"data")
    assert calls == ["fsync", "replace", "fsync"]  # the file, its name, its folder


@posix
def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"old")
    program = f"""
        import resource, signal
        from minunet.files import atomic_write
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            atomic_write({str(path)!r}, bytes(10**6))
        except OSError:
            print("refused")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.bin"]


def test_where_nothing_can_be_written(tmp_path):
    files.require_writable(tmp_path / "new.bin")
    with pytest.raises(IsADirectoryError, match="give the name of a file in it"):
        files.require_writable(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        files.require_writable(tmp_path / "absent" / "new.bin")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"is a file, so that new\.bin cannot be written"):
        files.require_writable(tmp_path / "file" / "new.bin")
    with pytest.raises(OSError, match="too long"):
        files.require_writable(tmp_path / ("n" * 300))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]  # asking leaves nothing behind


def test_a_file_that_is_read_only(tmp_path, monkeypatch):
    path = tmp_path / "model.bin"
    path.write_bytes(b"old")
    path.chmod(0o444)
    if os.access(path, os.W_OK):  # the superuser may write all
        monkeypatch.setattr("os.access", lambda *_, **__: False)
    for ask in (files.require_writable, lambda path: files.atomic_write(path, b"new")):
        with pytest.raises(PermissionError, match="may not be written"):
            ask(path)
    assert path.read_bytes() == b"old"


def test_a_folder_that_refuses_writing(tmp_path, monkeypatch):
    def refuse(*_, _open=os.open, **options):
        if _[1] & os.O_CREAT:
            raise OSError(30, "Read-only file system")
        return _open(*_, **options)

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(OSError, match=f"nothing can be written into {tmp_path}: Read-only file system"):
        files.require_writable(tmp_path / "new.bin")


def test_only_an_ordinary_file_is_opened(tmp_path):
    (tmp_path / "file").write_bytes(b"data")
    with files.open_regular(tmp_path / "file") as file:
        assert file.read() == b"data"
    with pytest.raises(IsADirectoryError, match="is a folder; a file is taken here"):
        files.open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        files.open_regular(tmp_path / "absent")


@posix
def test_a_pipe_or_a_device_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a pipe"), ("/dev/null", "a device")):
        with pytest.raises(OSError, match=f"is {kind}; an ordinary file is taken here"):
            files.open_regular(path)
