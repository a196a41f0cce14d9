"""How much memory may still be taken, by made files of /proc and of control groups of either version."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet import room
from minunet.room import GROUP, scarcest, size_text, tightest

KB, PAGE, INFINITE = 1024, os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096, float("inf")
MEMINFO = "MemTotal:  16000 kB\nMemFree:  1000 kB\nMemAvailable:  8000 kB\nSwapTotal: {total} kB\nSwapFree: {free} kB\n"
ROOT_FS = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
V2 = "30 24 0:26 {source} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 24 0:27 {source} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 24 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    "38 24 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
LIMITS = (
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max cpu time              7                    unlimited            seconds   \n"
    "Max data size             {data:<21}unlimited            bytes     \n"
    "Max address space         {addresses:<21}unlimited            bytes     \n"
)


def machine(root, files=None, *, total=0, free=0):
    """Make a /proc of a machine of 16000 kB, 8000 of them available, and other files by name."""
    made = {"proc/meminfo": MEMINFO.format(total=total, free=free)} | (files or {})
    for name, text in made.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def groups(version, group, folders, source="/"):
    """Return the files of a process in a group, and of the folders below the mount: {folder: {file: number or text}}."""
    top = "sys/fs/cgroup" if version == 2 else "sys/fs/cgroup/memory"
    own = f"0::{group}\n" if version == 2 else f"4:memory:{group}\n3:cpu:/elsewhere\n0::/\n"
    mounts = ROOT_FS + (V2 if version == 2 else V1).format(source=source)
    files = {f"{top}/{folder}/memory.{name}": f"{value}\n" for folder, of in folders.items() for name, value in of.items()}
    return files | {"proc/self/cgroup": own, "proc/self/mountinfo": mounts}


def left(root):
    """Return whose limit leaves the least room, how much, and how much is free."""
    limit = tightest(root=root)
    return limit.whose, limit.room, scarcest(root=root).free


def test_a_machine_without_groups_or_limits(tmp_path):
    assert left(machine(tmp_path)) == ("this machine", 16000 * KB, 8000 * KB)


def test_swap_is_room_and_not_free_and_what_this_process_has_is_neither(tmp_path):
    root = machine(tmp_path, {"proc/self/statm": "1000 500 100 9 0 300 0\n"}, total=4000, free=3000)
    assert left(root) == ("this machine with its swap", 20000 * KB - 400 * PAGE, 8000 * KB)


OWN = {"max": 300_000, "current": 100_000, "stat": "anon 40000\ninactive_file 20000\nactive_file 5000\n"}
WIDE = {"max": 900_000, "current": 100_000, "stat": "inactive_file 0\nactive_file 0\n"}


@pytest.mark.parametrize(
    ("group", "source", "folders", "whose", "room", "free"),
    [
        ("/", "/", {".": OWN}, GROUP, 225_000, 220_000),  # a container that sees its own group as the top
        ("/", "/", {".": OWN | {"max": "max"}}, "this machine", 16000 * KB, 8000 * KB),
        ("/", "/", {".": {"max": 300_000}}, "this machine", 16000 * KB, 8000 * KB),  # of which nothing tells what is taken
        ("/", "/", {".": {"max": 300_000, "current": 100_000}}, GROUP, 200_000, 200_000),
        ("/", "/", {".": OWN | {"current": 340_000}}, GROUP, -15_000, 0),
        ("/", "/", {".": OWN | {"max": "plenty"}}, "this machine", 16000 * KB, 8000 * KB),
        ("/", "/", {".": OWN | {"high": 150_000}}, GROUP, 225_000, 70_000),
        ("/", "/", {".": OWN | {"max": "max", "high": 150_000}}, "this machine", 16000 * KB, 70_000),
        ("/", "/", {".": {"high": 150_000}}, "this machine", 16000 * KB, 150_000),
        ("/a/b", "/", {"a": OWN, "a/b": WIDE}, GROUP, 225_000, 220_000),  # the one around it is stricter
        ("/a/b", "/", {"a": WIDE, "a/b": OWN}, GROUP, 225_000, 220_000),
        ("/a/b", "/", {"a": OWN, "a/b": {}}, GROUP, 225_000, 220_000),
        ("/a/b", "/", {"a/c": OWN, "c": OWN}, "this machine", 16000 * KB, 8000 * KB),  # others' groups
        ("/docker/ab/in", "/docker/ab", {".": WIDE, "in": OWN}, GROUP, 225_000, 220_000),  # a part of all is mounted
        ("/../other", "/", {".": OWN}, GROUP, 225_000, 220_000),  # outside of what is seen: the top is known at most
    ],
)  # fmt: skip
def test_of_version_2_the_strictest_of_a_group_and_those_around_it_counts(tmp_path, group, source, folders, whose, room, free):
    assert left(machine(tmp_path, groups(2, group, folders, source))) == (whose, room, free)


@pytest.mark.parametrize(
    ("swap", "of_the_parent", "free_swap", "more"),
    [(0, "max", 500, 0), ("max", "max", 500, 500 * KB), (70_000, "max", 500, 60_000), ("max", 30_000, 500, 20_000),
     (70_000, 0, 500, 0), ("max", "max", 0, 0), (5_000, "max", 500, 0)],
)  # fmt: skip
def test_swap_is_room_in_a_group_as_far_as_it_and_those_around_it_may_have_some(tmp_path, swap, of_the_parent, free_swap, more):
    folders = {"a": {"swap.max": of_the_parent, "swap.current": 10_000}, "a/b": OWN | {"swap.max": swap, "swap.current": 10_000}}
    root = machine(tmp_path, groups(2, "/a/b", folders), total=free_swap, free=free_swap)
    assert left(root) == (GROUP, 225_000 + more, 220_000)


V1_OWN = {
    "limit_in_bytes": 300_000, "usage_in_bytes": 100_000,
    "stat": "inactive_file 7\ntotal_inactive_file 20000\ntotal_active_file 5000\n",
}  # fmt: skip
NO_LIMIT = {"limit_in_bytes": 2**63 - PAGE, "usage_in_bytes": 100_000}


@pytest.mark.parametrize(
    ("group", "folders", "whose", "room", "free"),
    [
        ("/", {".": V1_OWN}, GROUP, 225_000 + 500 * KB, 220_000),
        ("/", {".": V1_OWN | {"memsw.limit_in_bytes": 310_000, "memsw.usage_in_bytes": 105_000}}, GROUP, 230_000, 220_000),
        ("/", {".": NO_LIMIT}, "this machine with its swap", 16500 * KB, 8000 * KB),
        ("/a/b", {".": NO_LIMIT, "a": V1_OWN, "a/b": NO_LIMIT}, GROUP, 225_000 + 500 * KB, 220_000),
        ("/a/b", {".": NO_LIMIT, "a": NO_LIMIT, "a/b": V1_OWN}, GROUP, 225_000 + 500 * KB, 220_000),
    ],
)
def test_of_version_1_beside_which_version_2_may_be_mounted(tmp_path, group, folders, whose, room, free):
    assert left(machine(tmp_path, groups(1, group, folders), total=500, free=500)) == (whose, room, free)


@given(
    levels=st.lists(
        st.fixed_dictionaries(
            {"current": st.integers(0, 10**6), "inactive_file": st.integers(0, 10**5), "active_file": st.integers(0, 10**5)},
            optional={"max": st.integers(0, 10**7), "high": st.integers(0, 10**7)},
        ),
        min_size=1, max_size=4,
    ),
    top=st.integers(0, 3),
)  # fmt: skip
def test_a_process_has_what_each_of_its_groups_leaves(levels, top):
    """However deep they lie, and whichever of them is mounted."""
    top = min(top, len(levels) - 1)
    paths = ["/" + "/".join(f"g{i}" for i in range(1, n + 1)) for n in range(len(levels))]
    rooms, frees, folders = [16000 * KB], [8000 * KB], {}
    for i, level in enumerate(levels[top:], top):
        most, used = level.get("max", INFINITE), level["current"] - level["inactive_file"]
        rooms.append(most - used + level["active_file"])
        frees.append(min(most, level.get("high", INFINITE)) - used)
        stat = f"anon 1\ninactive_file {level['inactive_file']}\nactive_file {level['active_file']}\n"
        folder = "/".join(f"g{j}" for j in range(top + 1, i + 1)) or "."
        folders[folder] = {name: level.get(name, "max") for name in ("max", "high", "current")} | {"stat": stat}
    with tempfile.TemporaryDirectory() as folder:
        _, room, free = left(machine(Path(folder), groups(2, paths[-1], folders, paths[top])))
    assert (room, free) == (min(rooms), max(min(frees), 0))


@pytest.mark.parametrize(
    ("addresses", "data", "whose", "room"),
    [
        ("unlimited", "unlimited", "this machine", 16000 * KB - 400 * PAGE),
        (3000 * PAGE, "unlimited", "`ulimit -v`", 2000 * PAGE),
        ("unlimited", 1500 * PAGE, "`ulimit -d`", 1200 * PAGE),
        (3000 * PAGE, 1500 * PAGE, "`ulimit -d`", 1200 * PAGE),
        (900 * PAGE, 1500 * PAGE, "`ulimit -v`", -100 * PAGE),
    ],
)
def test_what_a_shell_limits_less_what_is_mapped(tmp_path, addresses, data, whose, room):
    files = {"proc/self/limits": LIMITS.format(addresses=addresses, data=data), "proc/self/statm": "1000 500 100 9 0 300 0\n"}
    assert left(machine(tmp_path, files))[:2] == (whose, room)
    (tmp_path / "proc/self/statm").unlink()  # of what is not known to be taken nothing can be left
    assert left(tmp_path)[0] == "this machine"


@pytest.mark.parametrize(("built_in", "half"), [({"SC_PHYS_PAGES": 1000}, 500 * PAGE), ({}, 2**32)])
def test_a_system_that_tells_nothing_has_half_of_what_is_built_in_free(tmp_path, monkeypatch, built_in, half):
    def sysconf(name):
        if name not in built_in:
            raise ValueError("unrecognized configuration name")
        return built_in[name]

    monkeypatch.setattr(os, "sysconf", sysconf, raising=False)
    assert left(tmp_path) == ("this machine", INFINITE, half)


@pytest.mark.parametrize(
    "text", ["", "\n", "nonsense\n", "MemTotal: a lot\nMemAvailable:\n", "1 2 3\n", "0::\n", "4:memory\n", "\udc80 - \n"]
)
def test_nonsense_is_no_limit(tmp_path, text):
    files = ("proc/meminfo", "proc/self/cgroup", "proc/self/mountinfo", "proc/self/limits", "proc/self/statm")
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, errors="surrogateescape")
    assert left(tmp_path)[1] == INFINITE


def test_this_process_has_room(tmp_path):
    assert 0 < scarcest().free <= tightest().room + 2**20 and "leaves" in tightest().told_room


def test_limits_are_told_for_people():
    assert room.Limit("`ulimit -v`", 2**31, 1.5 * 2**30, 0).told_room == "`ulimit -v` leaves 1.50 GB of 2.00 GB"
    assert room.Limit("gpu:0", None, 7 * 2**20, 7 * 2**20).told_room == "gpu:0 has 7 MB free"
    assert (size_text(2**30), size_text(2**30 - 2**20), size_text(-5)) == ("1.00 GB", "1023 MB", "0 MB")
