"""How many threads run at once: the affinity, and the share that control groups of either version leave, in made folders."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet import kernels
from minunet.kernels import cores

V2 = "30 24 0:26 {source} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 24 0:28 {source} /sys/fs/my\\040groups/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
)


def machine(root, version, group, source="/", limits=()):
    """Make what Linux tells of control groups: this process's group, what of them is mounted, and (folder, time, period)."""
    (root / "proc/self").mkdir(parents=True)
    listed = f"0::{group}\n" if version == 2 else f"4:memory:/elsewhere\n3:cpu,cpuacct:{group}\n0::/\n"
    (root / "proc/self/cgroup").write_text(listed)
    mounts = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n" + (V2 if version == 2 else V1).format(source=source)
    (root / "proc/self/mountinfo").write_text(mounts)
    for folder, time, period in limits:
        at = root / ("sys/fs/cgroup" if version == 2 else "sys/fs/my groups/cpu,cpuacct") / folder
        at.mkdir(parents=True, exist_ok=True)
        if version == 2:
            (at / "cpu.max").write_text(f"{'max' if time is None else time} {period}\n")
        else:
            (at / "cpu.cfs_quota_us").write_text(f"{-1 if time is None else time}\n")
            (at / "cpu.cfs_period_us").write_text(f"{period}\n")
    return root


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("group", "source", "limits", "expected"),
    [
        ("/", "/", [("", 200_000, 100_000)], 2),  # a container that sees its own group as the top
        ("/", "/", [("", 250_001, 100_000)], 3),
        ("/", "/", [("", 1_000, 100_000)], 1),
        ("/", "/", [("", 300_000, 50_000)], 6),
        ("/", "/", [("", None, 100_000)], None),
        ("/", "/", [], None),
        ("/pods/one", "/", [("", None, 100_000), ("pods", 300_000, 100_000), ("pods/one", 800_000, 100_000)], 3),
        ("/pods/one", "/", [("pods", 800_000, 100_000), ("pods/one", 300_000, 100_000), ("pods/two", 100_000, 100_000)], 3),
        ("/pods/one", "/", [("pods", 400_000, 100_000), ("pods/one", None, 100_000)], 4),
        ("/docker/ab", "/docker/ab", [("", 200_000, 100_000)], 2),  # only a part of all groups is mounted here
        ("/docker/ab/in", "/docker/ab", [("", 200_000, 100_000), ("in", 100_000, 100_000)], 1),
        ("/../other", "/", [("", 200_000, 100_000)], 2),  # outside what is seen: of that the top is known at most
    ],
)  # fmt: skip
def test_the_least_share_of_a_group_and_of_those_it_lies_in_counts(tmp_path, version, group, source, limits, expected):
    assert cores.quota(machine(tmp_path, version, group, source, limits)) == expected


@pytest.mark.parametrize("told", ["", "0::/\n", "nonsense\n", "3:cpu:/\n\n0:\n"])
def test_a_system_that_tells_nothing_or_nonsense_leaves_all(tmp_path, told):
    assert cores.quota(tmp_path) is None
    cores.quota.cache_clear()
    (machine(tmp_path, 2, "/") / "proc/self/cgroup").write_text(told)
    assert cores.quota(tmp_path) is None


@pytest.mark.parametrize("broken", ["", "max\n", "many 100000\n", "100000 0\n", "0 100000\n"])
def test_a_limit_that_is_none_leaves_all(tmp_path, broken):
    root = machine(tmp_path, 2, "/", limits=[("", 100_000, 100_000)])
    (root / "sys/fs/cgroup/cpu.max").write_text(broken)
    assert cores.quota(root) is None


@given(bound=st.integers(1, 256), share=st.none() | st.integers(1, 256), chosen=st.none() | st.integers(1, 40))
def test_a_number_that_was_given_counts_else_the_least_of_affinity_and_share(bound, share, chosen):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda pid: set(range(bound)), raising=False)
        patch.setattr(cores, "quota", lambda: share)
        for name in ("MINUNET_NUM_THREADS", "NUMBA_NUM_THREADS"):
            patch.delenv(name, raising=False)
        assert kernels.n_threads() == min(bound, share or bound)
        with kernels.threads(chosen):
            assert kernels.n_threads() == (chosen or min(bound, share or bound))
        patch.setenv("MINUNET_NUM_THREADS", "33")
        assert kernels.n_threads() == 33


@pytest.mark.parametrize(("told", "counts"), [("1", 1), ("3", 3), ("07", 7), ("90", 8), ("0", 8), ("all", 8), ("-2", 8), ("", 8)])
def test_a_process_of_joblibs_takes_the_share_that_it_is_told(monkeypatch, told, counts):
    """As many processes as there are processors, each with as many threads, would be their square."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "quota", lambda: None)
    monkeypatch.setenv("NUMBA_NUM_THREADS", told)
    assert cores.available() == counts
