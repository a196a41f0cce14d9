"""Code is read only from where nobody but this user, and root, can have put it."""

from __future__ import annotations

import os
import socket
import stat
import time

import pytest

from minunet.kernels.cpu import trust

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners and modes here")
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
NOBODY = 65534


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "a" / "b"
    trust.make_folder(folder)
    return folder


@pytest.fixture
def file(folder):
    trust.write_file(folder / "file", b"what was written")
    return folder / "file"


def refused(path, match):
    with pytest.raises(trust.UntrustedError, match=match):
        trust.check_folder(path)


def test_folders_and_files_that_we_make_are_for_this_user_alone(tmp_path):
    before = os.umask(0)
    try:
        trust.make_folder(tmp_path / "__pycache__" / "a" / "b")
        trust.write_file(tmp_path / "__pycache__" / "a" / "b" / "file", b"")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / "__pycache__" / name).stat().st_mode) for name in (".", "a", "a/b", "a/b/file")]
    assert modes == [0o755, 0o700, 0o700, 0o600]  # the first is Python's too


def test_what_was_written_is_read_up_to_a_limit(file):
    assert trust.read_file(file, 16) == b"what was written"
    with pytest.raises(trust.UntrustedError, match="16 bytes; at most 15"):
        trust.read_file(file, 15)
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_no_more_memory_is_asked_for_than_a_file_takes_however_large_it_might_be(file, monkeypatch):
    """Where `ulimit -v` leaves less, no kernel would be loaded."""
    trust.write_file(file, bytes(range(256)) * 10_000)
    read, most = os.read, []
    monkeypatch.setattr(os, "read", lambda descriptor, n: most.append(n) or read(descriptor, n))
    assert trust.read_file(file, 2**30) == bytes(range(256)) * 10_000
    assert max(most) <= 2**20


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777, 0o2770])
def test_a_folder_that_others_may_write_is_refused(folder, mode):
    folder.chmod(mode)
    refused(folder, f"others may write {folder} .mode {mode:04o}")


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o2755])
def test_a_folder_that_others_may_look_at_is_not(folder, mode):
    folder.chmod(mode)
    trust.check_folder(folder)


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_nor_may_others_put_another_folder_in_its_place(folder, mode):
    folder.parent.chmod(mode)
    refused(folder, f"others may write {folder.parent} ")
    folder.parent.chmod(mode | stat.S_ISVTX)  # as in /tmp: each removes only what is his own
    trust.check_folder(folder)


@as_root
def test_a_folder_of_somebody_else_is_refused_wherever_on_the_way(folder):
    for place in (folder, folder.parent):
        os.chown(place, NOBODY, 0)
        refused(folder, f"{place} belongs to another user .number {NOBODY}; this one is 0")
        os.chown(place, 0, 0)
    trust.check_folder(folder)


def test_nothing_is_made_in_a_place_of_others(folder):
    folder.chmod(0o777)
    with pytest.raises(trust.UntrustedError, match="others may write"):
        trust.make_folder(folder / "c")
    assert not (folder / "c").exists()


def test_a_link_leads_the_way_where_it_is_ours_but_is_not_the_folder_itself(folder, tmp_path):
    (tmp_path / "link").symlink_to("a")
    trust.check_folder(tmp_path / "link" / "b")
    (tmp_path / "to_b").symlink_to(folder)
    refused(tmp_path / "to_b", "is a link")


def test_every_folder_that_a_link_leads_through_counts(folder, tmp_path):
    """open/ is on the way to a/b only by the second of two links: a name that others can give to another folder."""
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    (open_to_all / "second").symlink_to(tmp_path / "a")
    (tmp_path / "first").symlink_to("../" + tmp_path.name + "/open/second")
    trust.check_folder(tmp_path / "first" / "b")
    open_to_all.chmod(0o777)
    refused(tmp_path / "first" / "b", f"others may write {open_to_all} ")


@as_root
def test_a_link_of_somebody_else_is_refused(folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to("a")
    os.lchown(link, NOBODY, 0)
    refused(link / "b", f"{link} belongs to another user")


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "x").symlink_to("y")
    (tmp_path / "y").symlink_to("x")
    refused(tmp_path / "x" / "b", "more than 40 links")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(file, mode):
    file.chmod(mode)
    with pytest.raises(trust.UntrustedError, match="others may write"):
        trust.read_file(file, 100)


@as_root
def test_a_file_of_somebody_else_is_refused(file):
    os.chown(file, NOBODY, 0)
    with pytest.raises(trust.UntrustedError, match="another user"):
        trust.read_file(file, 100)


def test_a_file_that_has_another_name_is_refused(file):
    os.link(file, file.with_name("other"))
    with pytest.raises(trust.UntrustedError, match="2 names"):
        trust.read_file(file, 100)


def test_what_is_no_ordinary_file_is_refused_at_once(folder):
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("pipe")
    (folder / "circle").symlink_to("circle")
    for name, match in (("pipe", "no ordinary file"), ("folder", "no ordinary file"), ("link", "a link"), ("circle", "a link")):
        with pytest.raises(trust.UntrustedError, match=match):
            trust.read_file(folder / name, 100)
    with pytest.raises(FileNotFoundError):
        trust.read_file(folder / "nothing", 100)


def test_a_socket_is_refused(folder, monkeypatch):
    monkeypatch.chdir(folder)  # its name may be no longer than 107 bytes
    with socket.socket(socket.AF_UNIX) as door:
        door.bind("socket")
        with pytest.raises((trust.UntrustedError, OSError)):
            trust.read_file(folder / "socket", 100)


def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(file, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("stays")
    file.unlink()
    file.symlink_to(outside)
    trust.write_file(file, b"new")
    assert outside.read_text() == "stays" and trust.read_file(file, 100) == b"new"


def test_where_a_write_fails_the_old_file_stays_and_nothing_else(file, monkeypatch):
    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=r"No space left.*file'"):
        trust.write_file(file, b"new")
    assert trust.read_file(file, 100) == b"what was written"
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_what_dead_processes_left_half_written_is_swept(file):
    old, young = file.with_name("file.1.tmp"), file.with_name("file.2.tmp")
    for path in (old, young):
        path.write_text("half")
    os.utime(old, (time.time() - 7200,) * 2)
    os.utime(file, (time.time() - 7200,) * 2)
    trust.sweep(file.parent)
    assert sorted(path.name for path in file.parent.iterdir()) == ["file", "file.2.tmp"]
    trust.sweep(file)  # where there is no folder there is nothing to do


def test_what_root_outside_a_container_owns_is_on_the_way_but_is_not_read(folder, file, monkeypatch):
    """There root's number is one that no user has; such a folder may lead to ours, as root's does."""
    monkeypatch.setattr(trust, "_owners_outside", lambda: frozenset({0, os.geteuid()}))
    monkeypatch.setattr(trust, "_owners", lambda: frozenset({12345}))
    refused(folder, f"^{folder} belongs")  # the folder, not those above it
    monkeypatch.setattr(trust, "_owners_outside", frozenset)
    refused(folder, "^/ belongs")
    with pytest.raises(trust.UntrustedError, match="another user"):
        trust.read_file(file, 100)
