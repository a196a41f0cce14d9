"""Our own threads: jobs whose number depends on the shape alone, claimed by whichever thread is free."""

from __future__ import annotations

import functools
import itertools
import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import DTypeLike, NDArray
from threadpoolctl import ThreadpoolController

from .. import n_threads

_local = threading.local()


def run(n_jobs: int, job: Callable[[int], None]) -> None:
    """Call job(0) ... job(n_jobs - 1), each once, on up to `kernels.n_threads()` threads; the first error is raised."""
    claim = itertools.count()  # next() on it is atomic

    def work() -> None:
        while (i := next(claim)) < n_jobs:
            job(i)

    with _one_blas_thread:
        helpers = [_pool().submit(work) for _ in range(min(n_threads(), n_jobs) - 1)]
        try:
            work()
        finally:
            for helper in helpers:
                helper.cancel() or helper.exception()  # wait; one that never started has nothing left to do
        for helper in helpers:
            if not helper.cancelled():
                helper.result()


def scratch(name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """Return this thread's buffer of that name, with what was in it: a kernel's working memory, never its result."""
    buffers = _local.__dict__
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if name not in buffers or buffers[name].size < size:
        buffers[name] = np.empty(size, np.uint8)
    return buffers[name][:size].view(dtype).reshape(shape)


def chunks(size: int, chunk: int) -> Iterator[tuple[int, int]]:
    """Cut range(size) into (start, stop) pieces of `chunk`, the last one shorter."""
    return ((start, min(start + chunk, size)) for start in range(0, size, chunk))


@functools.cache
def _pool() -> ThreadPoolExecutor:
    # No more than cores: each worker keeps scratch buffers of its own. Fewer than asked for change nothing but time.
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="minunet")


class _OneBlasThread:
    """Hold BLAS at one thread while any of our kernels runs: our threads are the parallelism, and fix the bits."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.controller: ThreadpoolController | None = None

    def __enter__(self) -> None:
        with self.lock:
            self.users += 1
            if self.users == 1:
                self.controller = self.controller or ThreadpoolController()
                self.limit = self.controller.limit(limits=1, user_api="blas")

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0:
                self.limit.restore_original_limits()


_one_blas_thread = _OneBlasThread()


def _after_fork() -> None:
    """A forked child has none of its parent's threads: it starts its own."""
    _pool.cache_clear()
    _one_blas_thread.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
