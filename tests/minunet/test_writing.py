"""Files go into the folder that was opened, through no link, and over nothing that they were not told to replace."""

import errno
import os
import sys
import threading

import pytest

from minunet import files
from minunet.writing import Folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX links, owners and permissions")


def write(folder, name, data=b"new", *, replace=False):
    with Folder(folder) as opened:
        opened.write(name, data, replace=replace)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def elsewhere(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "there.png").write_bytes(b"precious")
    return tmp_path / "elsewhere"


@pytest.mark.parametrize("target", ["there.png", "absent.png", "."])
def test_a_link_counts_as_there_and_is_replaced_itself(out, elsewhere, target):
    (out / "a.png").symlink_to(elsewhere / target)
    with pytest.raises(FileExistsError, match=r"a\.png is there already"):
        write(out, "a.png")
    assert (out / "a.png").is_symlink()
    write(out, "a.png", replace=True)
    assert not (out / "a.png").is_symlink() and (out / "a.png").read_bytes() == b"new"
    assert (out / "a.png").stat().st_mode & 0o777 != 0o777  # a link's own mode is no file's
    assert os.listdir(elsewhere) == ["there.png"] and (elsewhere / "there.png").read_bytes() == b"precious"


def test_an_output_of_a_path_follows_no_link_either(out, elsewhere):
    (out / "a.png").symlink_to(elsewhere / "absent.png")
    for ask in (lambda path: files.atomic_write(path, b""), files.require_writable):
        with pytest.raises(FileExistsError, match="is there already"):
            ask(files.Output(out / "a.png"))
    files.atomic_write(files.Output(out / "a.png", replace=True), b"new")
    assert (out / "a.png").read_bytes() == b"new" and os.listdir(elsewhere) == ["there.png"]


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(out, elsewhere):
    with Folder(out) as folder:
        out.rename(out.with_name("moved"))
        out.symlink_to(elsewhere)
        folder.write("a.png", b"new", replace=True)
    assert os.listdir(elsewhere) == ["there.png"] and os.listdir(out.with_name("moved")) == ["a.png"]


def test_a_link_that_appears_at_any_moment_is_not_written_through(out, elsewhere):
    done = threading.Event()

    def plant():
        while not done.is_set():
            for lay in (lambda: os.symlink(elsewhere / "there.png", out / "a.png"), lambda: os.unlink(out / "a.png")):
                try:
                    lay()
                except OSError:
                    pass

    attacker = threading.Thread(target=plant)
    attacker.start()
    try:
        for i in range(300):
            try:
                write(out, "a.png", replace=bool(i % 2))
            except FileExistsError:
                pass
    finally:
        done.set()
        attacker.join()
    assert (elsewhere / "there.png").read_bytes() == b"precious" and os.listdir(elsewhere) == ["there.png"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b.png", "/a.png", "../a.png"])
def test_only_plain_names_are_written(out, name):
    with pytest.raises(ValueError, match="no plain name"):
        write(out, name)
    assert os.listdir(out.parent) == ["out"] and os.listdir(out) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_during_the_write_is_not_replaced(out, monkeypatch, links):
    def late(descriptor, _fsync=os.fsync):
        if not (out / "a.png").exists():
            (out / "a.png").write_bytes(b"theirs")
        _fsync(descriptor)

    def refuse(*args, **options):
        raise PermissionError(errno.EPERM, "Operation not permitted")  # FAT

    monkeypatch.setattr("os.fsync", late)
    if not links:
        monkeypatch.setattr("os.link", refuse)
    with pytest.raises(FileExistsError, match=r"a\.png appeared meanwhile, and was not replaced"):
        write(out, "a.png")
    assert os.listdir(out) == ["a.png"] and (out / "a.png").read_bytes() == b"theirs"


def test_without_hard_links_a_new_file_is_written_all_the_same(out, monkeypatch):
    monkeypatch.setattr("os.link", lambda *args, **options: (_ for _ in ()).throw(NotImplementedError))
    write(out, "a.png")
    assert os.listdir(out) == ["a.png"] and (out / "a.png").read_bytes() == b"new"


def test_of_many_who_write_one_new_file_one_does(out):
    won = []

    def race(i):
        try:
            write(out, "a.png", bytes([i]) * 1000)
            won.append(i)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=race, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and (out / "a.png").read_bytes() == bytes(won) * 1000 and os.listdir(out) == ["a.png"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files to others")
def test_owner_and_group_stay(out):
    (out / "a.png").write_bytes(b"old")
    os.chown(out / "a.png", 12345, 23456)
    (out / "a.png").chmod(0o640)
    write(out, "a.png", replace=True)
    status = (out / "a.png").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (12345, 23456, 0o640)


def test_a_group_that_may_not_be_given_gets_what_everybody_has(out, monkeypatch):
    (out / "a.png").write_bytes(b"old")
    (out / "a.png").chmod(0o664)
    real = os.fstat

    def of_another_group(descriptor):
        status = list(real(descriptor))
        status[5] += 1
        return os.stat_result(status)

    def refuse(*args):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.fchown", refuse)
    monkeypatch.setattr("os.fstat", of_another_group)
    write(out, "a.png", replace=True)
    assert (out / "a.png").stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="no extended attributes here")
def test_extended_attributes_stay(out):
    (out / "a.png").write_bytes(b"old")
    try:
        os.setxattr(out / "a.png", "user.origin", b"microscope 3")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    write(out, "a.png", replace=True)
    assert os.getxattr(out / "a.png", "user.origin") == b"microscope 3" and (out / "a.png").read_bytes() == b"new"


@pytest.mark.parametrize(("step", "number"), [("os.fsync", errno.ENOSPC), ("os.link", errno.EROFS), ("os.replace", errno.EIO)])
def test_an_error_names_the_file_and_the_cause(out, monkeypatch, step, number):
    def fail(*args, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(step, fail)
    if step == "os.link":
        monkeypatch.setattr("os.rename", fail)
    with pytest.raises(OSError, match=rf"out/a\.png could not be written: {os.strerror(number)}") as caught:
        write(out, "a.png", replace=step == "os.replace")
    assert caught.value.errno == number and os.listdir(out) == []


def test_a_name_that_is_too_long_is_told_with_its_cause(out):
    with pytest.raises(OSError, match=r"nnn could not be written: File name too long"):
        write(out, "n" * 300)
    assert os.listdir(out) == []


def test_a_disk_without_room_is_found_before_anything_is_written(out, monkeypatch):
    files.require_writable(out / "m", 1000)
    free = os.statvfs(out)
    with pytest.raises(OSError, match=r"out/m takes about [\d,]+ bytes, but only [\d,]+ are free there") as caught:
        files.require_writable(out / "m", free.f_bfree * free.f_frsize * 2 + 2**40)
    assert caught.value.errno == errno.ENOSPC and os.listdir(out) == []


def test_asking_about_a_name_tells_of_links_and_of_names_that_cannot_be(out):
    (out / "dangling").symlink_to("nowhere")
    assert files.taken(out / "dangling") and not files.taken(out / "absent") and not files.taken(out / "absent" / "deeper")
    with pytest.raises(OSError, match="too long"):
        files.taken(out / ("n" * 300))
