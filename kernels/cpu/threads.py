"""Our own threads: jobs whose number depends on the shape alone, claimed by whichever thread is free."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FunctionType
from typing import Any

import numpy as np

from .. import n_threads
from ..buffers import counted
from ..geometry import address
from .generated import claim
from .jit import jit, part

_local = threading.local()


def jobs(function: Callable[..., None]) -> Any:
    """Make the kernel that does all the jobs it can claim, from function(job, base, *arguments), which does one.

    From the address `base` on lies the thread's scratch. Each kernel is the same loop, with a job of its own among its
    globals: Numba never finds a function again in its cache that has another in its closure.
    """
    names = {"claim": claim, "one_job": part(function), "__name__": function.__module__}
    kernel = FunctionType(_claim_all.__code__, names, function.__name__)
    kernel.__qualname__ = f"{function.__module__}.{function.__qualname__}"  # by which the cache tells one from another
    return jit(kernel)


def _claim_all(claims: int, n_jobs: int, scratch: int, *arguments: Any) -> None:
    job = claim(claims)
    while job < n_jobs:
        one_job(job, scratch, *arguments)  # type: ignore[name-defined]  # noqa: F821
        job = claim(claims)


def launch(kernel: Any, n_jobs: int, scratch_bytes: int, *arguments: Any) -> None:
    """Run kernel(counter, n_jobs, scratch, *arguments) on up to `kernels.n_threads()` threads.

    The kernel, as `jobs` makes it, claims jobs from the counter, until it gets n_jobs or more. Each thread's scratch (an
    address, 64-byte aligned) has what was in it: working memory, never a result. Where memory is only counted, nothing runs.
    """
    if (book := counted()) is not None:
        book.scratch = max(book.scratch, scratch_bytes)
        return
    counter = np.zeros(1, np.int64)  # alive until all threads are done
    claims = address(counter)

    def work() -> None:
        kernel(claims, n_jobs, scratch(scratch_bytes), *arguments)

    helpers = [_pool().submit(work) for _ in range(min(n_threads(), n_jobs) - 1)]
    try:
        work()
    finally:
        for helper in helpers:
            helper.cancel() or helper.exception()  # wait; one that never started has nothing left to do
    for helper in helpers:
        if not helper.cancelled():
            helper.result()


def scratch(size: int) -> int:
    """Return the address of `size` bytes that are this thread's, 64-byte aligned, with what was in them."""
    buffer = _local.__dict__.get("scratch")
    if buffer is None or buffer.size < size + 64:
        _local.scratch = buffer = None  # before the new one is there: its memory may serve
        _local.scratch = buffer = np.empty(size + 64, np.uint8)
    return -(-address(buffer) // 64) * 64


@functools.cache
def _pool() -> ThreadPoolExecutor:
    # No more than cores: each worker keeps scratch of its own. Fewer than asked for change nothing but time.
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="minunet")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads: it starts its own
