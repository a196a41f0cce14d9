"""What is to be done whole is, whatever signals raise meanwhile; and kernels are imported and compiled so."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from minunet import kernels
from minunet.kernels.whole import whole

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="timers that raise are POSIX's")


class Stop(BaseException):
    pass


@pytest.fixture
def stopping():
    """Return a function that raises Stop in the main thread, from another: as soon as that one waits in `whole`."""

    def stop(*_):
        raise Stop

    def send():
        while sys._current_frames()[threading.main_thread().ident].f_code is not whole.__code__:
            time.sleep(0.001)
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, stop)
    yield send
    signal.signal(signal.SIGALRM, before)


def test_it_returns_what_the_function_returns_and_raises_what_it_raises():
    assert whole(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        whole(divmod, 7, 0)


def test_what_signals_raise_waits_for_the_end(stopping):
    done = []

    def work():
        for moment in range(3):
            stopping()
            done.append(moment)

    with pytest.raises(Stop):
        whole(work)
    assert done == [0, 1, 2]


def test_a_kernel_is_compiled_whole(monkeypatch, stopping):
    pytest.importorskip("numba")
    from numba.core.dispatcher import Dispatcher

    from minunet.kernels.cpu import jit

    def compile_(self, signature, whole=Dispatcher.compile):
        stopping()
        return whole(self, signature)

    monkeypatch.setattr(jit, "cache_folder", lambda: None)
    monkeypatch.setattr(Dispatcher, "compile", compile_)
    kernel = jit.jit(lambda x: x + 1)
    with pytest.raises(Stop):
        kernel(1)
    assert len(kernel.signatures) == 1  # the end of it was waited for
    assert kernel(1) == 2


@pytest.mark.parametrize("called", ["import", "probe"])
def test_a_backend_is_imported_and_tried_whole(monkeypatch, called):
    """Half of Numba is none, and the specification would serve for the rest of the process."""
    threads = []
    cpu = kernels._load("cpu")

    def noted(*_):
        threads.append(threading.current_thread())
        return cpu

    for cached in (kernels._load, kernels._fastest):
        cached.cache_clear()
    if called == "import":
        monkeypatch.setattr(kernels.importlib, "import_module", noted)
    else:
        monkeypatch.setattr(cpu, "probe", noted)
    kernels._fastest()
    assert threads and threading.main_thread() not in threads
    for cached in (kernels._load, kernels._fastest):
        cached.cache_clear()
