"""Buffers that are used again: only when nobody sees them any more, the one that fits, and never for longer than wanted."""

import gc
import os
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

from minunet.kernels import buffers
from minunet.kernels.buffers import Pool, best_fit, empty, pooled

LARGE = (4, buffers.SMALL)  # bytes


def address(a):
    return a.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_a_lease_is_a_writable_aligned_array_of_its_own(dtype):
    with pooled():
        a, b = empty((3, 1000, 41), dtype), empty((3, 1000, 41), dtype)
    assert a.shape == (3, 1000, 41)
    assert a.dtype == dtype
    assert a.flags.c_contiguous
    assert a.flags.writeable
    assert address(a) % buffers.ALIGNMENT == address(b) % buffers.ALIGNMENT == 0
    assert not np.shares_memory(a, b)
    a[...], b[...] = 1, 2
    assert (a == 1).all()


def test_outside_of_a_pool_and_for_small_arrays_empty_is_numpys():
    assert empty(LARGE, np.uint8).flags.owndata
    with pooled():
        assert empty((buffers.SMALL // 4 - 1,), np.float32).flags.owndata
        assert not empty((buffers.SMALL // 4,), np.float32).flags.owndata
    assert empty(LARGE, np.uint8).flags.owndata


VIEWS = {
    "slice": lambda a: a[1:, ::2],
    "one element": lambda a: a[3, 5:6],
    "view of a view": lambda a: a.T[7:].reshape(-1)[:3] if a.T[7:].flags.c_contiguous else a[2:].reshape(-1)[:3],
    "dtype": lambda a: a.view(np.int32),
    "strides": lambda a: np.lib.stride_tricks.as_strided(a[1], (3, 3), (8, 1)),
    "memoryview": memoryview,
    "broadcast": lambda a: np.broadcast_to(a[0], (9, a.shape[1])),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_buffer_returns_when_its_last_view_dies(view):
    pool = Pool()
    a = pool.lease(LARGE, np.uint8)
    start, seen = address(a), view(a)
    del a
    assert pool.idle_bytes == 0
    assert address(pool.lease(LARGE, np.uint8)) != start
    del seen
    assert pool.idle_bytes == 2 * np.prod(LARGE)
    assert start in {address(a) for a in [pool.lease(LARGE, np.uint8) for _ in range(2)]}


def test_what_is_kept_is_never_overwritten():
    pool, kept = Pool(), []
    for i in range(20):
        a = pool.lease(LARGE, np.uint8)
        a[...] = i
        if i % 3 == 0:
            kept.append((i, a[2:]))
    assert all((a == i).all() for i, a in kept)


@pytest.mark.parametrize(
    ("sizes", "wanted", "place"),
    [
        ([], 10, None),
        ([9], 10, None),
        ([10], 10, 0),
        ([30, 20, 40], 15, 1),
        ([20, 20, 20], 15, 2),  # the one that came last
        ([40], 10, 0),
        ([41], 10, None),  # too much of it would lie waste
        ([41, 12], 10, 1),
    ],
)
def test_the_smallest_buffer_that_is_enough_serves_unless_it_is_too_large(sizes, wanted, place):
    assert best_fit(sizes, wanted) == place


def test_idle_buffers_go_when_a_block_had_no_use_for_them():
    pool = Pool()
    with pooled(pool):
        empty(LARGE, np.uint8)
        empty((100, buffers.SMALL), np.uint8)
    assert pool.idle_bytes == 104 * buffers.SMALL
    with pooled(pool):
        empty(LARGE, np.uint8)
    assert pool.idle_bytes == 4 * buffers.SMALL


def test_an_inner_block_uses_the_outer_blocks_pool():
    inner, outer = Pool(), Pool()
    with pooled(outer):
        with pooled(inner):
            empty(LARGE, np.uint8)
        assert outer.idle_bytes == 4 * buffers.SMALL
    assert inner.idle_bytes == 0


def test_a_pool_gives_everything_back_when_it_goes_and_so_do_its_leases_later():
    pool = Pool()
    a, b = pool.lease(LARGE, np.uint8), pool.lease(LARGE, np.uint8)
    memory = [weakref.ref(x.base._buffer.memory) for x in (a, b)]
    a[...] = 7
    del b, pool
    assert memory[1]() is None
    assert (a == 7).all()
    del a
    assert memory[0]() is None


def test_returns_from_the_garbage_collector_and_from_other_threads():
    pool = Pool()
    cycle = [pool.lease(LARGE, np.uint8)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    held = [pool.lease((8, buffers.SMALL), np.uint8)]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert pool.idle_bytes == 12 * buffers.SMALL


def test_threads_that_share_a_pool_never_share_a_buffer():
    pool, wrong = Pool(), []

    def work(i):
        for _ in range(200):
            a = pool.lease(LARGE, np.uint8)
            a[:, ::512] = i
            b = pool.lease(LARGE, np.uint8)
            b[:, ::512] = 100 + i
            wrong.append((a[:, ::512] != i).any() or (b[:, ::512] != 100 + i).any())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 1200
    assert not any(wrong)
    assert pool.idle_bytes <= 18 * np.prod(LARGE)  # two that a thread has, and the one that takes the place of a


def test_a_thread_has_no_pool_of_its_parents():
    found = []
    with pooled():
        thread = threading.Thread(target=lambda: found.append(empty(LARGE, np.uint8).flags.owndata))
        thread.start()
        thread.join()
    # Python from 3.14 on may pass contexts on to threads; then the pool is shared, which is safe.
    assert found == [True] or getattr(sys.flags, "thread_inherit_context", False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_after_a_fork_parent_and_child_have_memory_of_their_own():
    code = f"""
import os, sys
import numpy as np
from minunet.kernels.buffers import Pool
pool = Pool()
a, b = pool.lease({LARGE}, np.uint8), pool.lease({LARGE}, np.uint8)
a[...] = 1
del b
child = os.fork()
c = pool.lease({LARGE}, np.uint8)  # where b was, in both
c[...] = a[...] = 2 if child else 3
if child == 0:
    os._exit(0 if (a == 3).all() and (c == 3).all() else 1)
status = os.waitpid(child, 0)[1]
sys.exit(status or not ((a == 2).all() and (c == 2).all()))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_backend_has_its_empty(backend):
    with pooled():
        a, b = backend.empty((2, 3, 100, 41), np.float32), backend.empty((2, 3, 100, 41), np.float32)
    assert a.shape == (2, 3, 100, 41)
    assert a.dtype == np.float32
    assert a.flags.c_contiguous
    assert not np.shares_memory(a, b)
