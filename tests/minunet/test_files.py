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
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
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
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        files.require_writable(tmp_path / "file" / "new.bin")


def test_a_folder_that_refuses_writing(tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(PermissionError, match="Read-only file system"):
        files.require_writable(tmp_path / "new.bin")
