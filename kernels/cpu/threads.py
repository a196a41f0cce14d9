"""Our own threads: jobs whose number depends on the shape alone, claimed by whichever thread is free.

A launch may be cut short anywhere in Python: by Ctrl-C, a timeout, the end of the interpreter. So all that matters happens within
one compiled call, where nothing of that kind can arrive: who calls lets helpers in, does jobs, lets nobody in any more, and waits
until the last helper has left. A helper that comes too early or too late goes away: the caller does its jobs.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from types import FunctionType
from typing import Any

import numpy as np

from .. import n_threads
from ..buffers import counted
from ..geometry import address
from .generated import add, claim, peek, poke, rest
from .jit import jit, part

CALLER, GUEST, HELPER = 0, 1, 2  # who takes part; a guest calls from another thread than the main one
WAITING, OPEN, CLOSED = 0, 1, 2  # whether helpers may come in
CLAIMED, DOOR, INSIDE = 0, 64, 128  # of a launch: the jobs that were claimed, the door, how many helpers are in; in bytes
CALLS, ENDING = 0, 64  # of the process: how many callers are in a kernel, and whether it ends
PATIENCE = 1000  # how often a helper looks whether the door is open

_process = np.zeros(16, np.int64)
_local = threading.local()


def jobs(function: Callable[..., None]) -> Any:
    """Make the kernel that does all the jobs it can claim, from function(job, base, *arguments), which does one.

    From the address `base` on lies the thread's scratch. Each kernel is the same loop, with a job of its own among its
    globals: Numba never finds a function again in its cache that has another in its closure.
    """
    names = {"claim": claim, "comes_in": _comes_in, "leaves": _leaves, "one_job": part(function), "__name__": function.__module__}
    kernel = FunctionType(_take_part.__code__, names, function.__name__)
    kernel.__qualname__ = f"{function.__module__}.{function.__qualname__}"  # by which the cache tells one from another
    return jit(kernel)


def _take_part(launched: int, process: int, role: int, n_jobs: int, scratch: int, *arguments: Any) -> bool:
    if not comes_in(launched, process, role):  # type: ignore[name-defined]  # noqa: F821
        return False
    job = claim(launched)
    while job < n_jobs:
        one_job(job, scratch, *arguments)  # type: ignore[name-defined]  # noqa: F821
        job = claim(launched)
    leaves(launched, process, role)  # type: ignore[name-defined]  # noqa: F821
    return True


@part
def _comes_in(launched: int, process: int, role: int) -> bool:
    """Tell whether there is something to do; if so, this thread is counted."""
    if role == HELPER:
        add(launched + INSIDE, 1)  # first: a caller who has closed the door sees it, or is seen to have closed
        patience = PATIENCE
        while peek(launched + DOOR) == WAITING and patience > 0:
            rest()
            patience -= 1
        if peek(launched + DOOR) == OPEN:
            return True
        add(launched + INSIDE, -1)
        return False
    add(process + CALLS, 1)
    if role == GUEST and peek(process + ENDING) != 0:
        add(process + CALLS, -1)
        return False
    poke(launched + DOOR, OPEN)
    return True


@part
def _leaves(launched: int, process: int, role: int) -> None:
    """Count this thread out; the caller stays until all helpers have left."""
    if role == HELPER:
        add(launched + INSIDE, -1)
        return
    poke(launched + DOOR, CLOSED)
    while peek(launched + INSIDE) > 0:
        rest()
    add(process + CALLS, -1)


def launch(kernel: Any, n_jobs: int, scratch_bytes: int, *arguments: Any) -> None:
    """Run a kernel, as `jobs` makes it, on up to `kernels.n_threads()` threads, but no more than there are cores.

    Each thread's scratch (an address, 64-byte aligned) has what was in it: working memory, never a result. When this returns or
    raises, nobody writes any more. Where memory is only counted, nothing runs.
    """
    if (book := counted()) is not None:
        book.scratch = max(book.scratch, scratch_bytes)
        return
    launched, base = np.zeros(24, np.int64), scratch(scratch_bytes)
    _call_helpers(min(n_threads(), n_jobs) - 1, (kernel, launched, n_jobs, scratch_bytes, arguments))
    role = CALLER if threading.get_ident() == _main else GUEST
    if not kernel(address(launched), address(_process), role, n_jobs, base, *arguments):
        raise SystemExit  # the interpreter ends, and takes with it all memory: this thread, too


def scratch(size: int) -> int:
    """Return the address of `size` bytes that are this thread's, 64-byte aligned, with what was in them."""
    buffer = _local.__dict__.get("scratch")
    if buffer is None or buffer.size < size + 64:
        _local.scratch = buffer = None  # before the new one is there: its memory may serve
        _local.scratch = buffer = np.empty(size + 64, np.uint8)
    return -(-address(buffer) // 64) * 64


# ---- Helpers ----

_main = threading.main_thread().ident
_calls: SimpleQueue[Any] = SimpleQueue()
_helpers: list[threading.Thread] = []
_most = os.cpu_count() or 1  # each keeps scratch of its own. Fewer than asked for change nothing but time


def _call_helpers(n: int, call: Any) -> None:
    """Let up to n helpers know of a launch. They hold what they were told until they have looked at it, so it is alive.

    They work in its context: whichever thread comes first to a kernel that is to be compiled, it is said where it is to be said.
    """
    global _most
    while len(_helpers) < min(n, _most):
        helper = threading.Thread(target=_help, args=(_calls,), name="minunet", daemon=True)  # no program waits for one
        try:
            helper.start()
        except RuntimeError:  # the system has no more threads for us
            _most = len(_helpers)
            break
        _helpers.append(helper)
    for _ in range(min(n, len(_helpers) - _calls.qsize())):
        _calls.put((copy_context(), call))


def _help(calls: SimpleQueue[Any]) -> None:
    while True:
        context, (kernel, launched, n_jobs, scratch_bytes, arguments) = calls.get()
        try:
            if launched[DOOR // 8] != CLOSED:
                context.run(kernel, address(launched), address(_process), HELPER, n_jobs, scratch(scratch_bytes), *arguments)
        except Exception:  # no memory for scratch: the others do its jobs. What else there is, the caller meets too
            pass
        del context, kernel, launched, arguments  # or they would live until the next call


def _forget_helpers() -> None:
    """A child has none of its parent's threads."""
    global _main, _calls, _helpers
    _main, _calls, _helpers = threading.get_ident(), SimpleQueue(), []
    _process[:] = 0


def _end() -> None:
    """Let no other thread begin a kernel any more, and wait for those that are in one: their code and memory are about to go."""
    _process[ENDING // 8] = 1
    time.sleep(0)  # gives the lock of the interpreter away and takes it again: all threads see what was written
    while _process[CALLS // 8] > 0:
        time.sleep(0.001)


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)
