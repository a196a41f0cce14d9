"""What is to be done whole is, whatever signals raise meanwhile; and kernels are imported and compiled so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from minunet import kernels
from minunet.whole import whole

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


def test_in_another_thread_it_is_the_call_alone():
    threads = []
    caller = threading.Thread(target=lambda: threads.append(whole(threading.current_thread)))
    caller.start(), caller.join()
    assert threads == [caller]


def test_what_a_public_name_imports_is_imported_whole():
    """Half of NumPy stays half: it says "cannot load module more than once per process"."""
    program = """
import os, signal, sys
import minunet
class Press:
    pressed = False
    def find_spec(self, name, *others):
        if name == "numpy._core.multiarray" and not Press.pressed:
            Press.pressed = True
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Press())
try:
    minunet.UNet
except KeyboardInterrupt:
    print("interrupted", "numpy" in sys.modules, minunet.UNet(depth=1))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("interrupted True UNet(depth=1)\n", "")


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
