"""Run as a program: exceptions arrive from outside, at drawn moments, while kernels run: Ctrl-C, a timeout, both at once.

    PYTHONPATH=. python tests/interrupts.py N SEED

What the interrupted call had made is freed as it raises, and lies between pages that nobody may touch: a thread that still
wrote there would end the process. What follows an interrupt has the bits that it has without one.
"""

from __future__ import annotations

import contextvars
import gc
import random
import signal
import sys
import time

import numpy as np
from guarded import results_guarded

from minunet import Network, kernels, losses, ops, optim
from minunet.training import step

LARGE = 2**14  # bytes; less is no result of a kernel here
MOST = 3  # exceptions that follow each other: a second Ctrl-C, a third


class Stop(BaseException):
    """What nothing in the library expects."""


class Alarm:
    """Raises at drawn moments of a call."""

    def __init__(self, rng):
        self.rng, self.left = rng, 0
        signal.signal(signal.SIGALRM, self.ring)

    def ring(self, number, frame):
        while frame is not None and frame.f_code is not within.__code__:
            frame = frame.f_back
        if frame is not None and self.left > 0:
            self.left -= 1
            if self.left == 0:
                signal.setitimer(signal.ITIMER_REAL, 0)
            raise Stop

    def interrupted(self, call, seconds):
        """Run a call that takes so many seconds. Return whether an exception cut it short."""
        self.left = self.rng.randint(1, MOST)
        first, again = self.rng.uniform(1e-6, 1.1 * seconds), self.rng.choice((2e-4, 1e-3))
        signal.setitimer(signal.ITIMER_REAL, first, again)
        try:
            within(call)
        except Stop:
            return True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return False


def within(call):
    """Only what this runs is interrupted. A `with` of the call's own that is cut in its first or last step ends with it."""
    contextvars.copy_context().run(call)


def calls():
    """Give (name, call that returns what it made): jobs of some tenths of a millisecond, of every kind of kernel."""
    rng = np.random.default_rng(0)
    x, w = rng.random((1, 64, 64, 32), np.float32), rng.random((3, 3, 32, 32), np.float32)
    logits, labels = rng.random((1, 128, 128, 8), np.float32), rng.integers(0, 8, (1, 128, 128))
    for name in ("direct", "winograd4x4", "im2col"):

        def convolution(name=name):
            with kernels.algorithm(name):
                y, cache = ops.conv2d(x, w, padding=1)
                return y, *ops.conv2d_backward(y, cache)

        yield name, convolution
    yield "pooling", lambda: ops.max_pool2d_backward(*ops.max_pool2d(x))
    yield "loss", lambda: losses.softmax_cross_entropy(logits, labels)
    yield "update", updated
    yield "step", stepped


def updated():
    flat, optimizer = np.ones(2**18, np.float32), optim.Adam()
    optimizer.update(flat, flat.copy())
    return flat, *optimizer.moments


def stepped():
    network, x = Network(1, 2, 8, 2, random_state=0), np.random.default_rng(0).random((1, 64, 64, 1), np.float32)
    step(network, optim.Adam(), x, (x[..., 0] > 0.5).astype(int))
    return (network.flat,)


def main(n, seed):
    alarm, cut = Alarm(random.Random(seed)), 0
    found = list(calls())
    with kernels.threads(4), results_guarded(True, least=LARGE):
        expected = [[a.tobytes() for a in call()] for _, call in found]
        for turn in range(sys.maxsize):
            i = turn % len(found)
            name, call = found[i]
            start = time.perf_counter()
            assert [a.tobytes() for a in call()] == expected[i], f"{name} gives other bits after an interrupt"
            took = time.perf_counter() - start
            for _ in range(16):
                cut += alarm.interrupted(call, took)
            if cut >= n:
                break
            gc.collect()  # what a traceback keeps in a circle: there are only so many pages with a guard
    print(f"{cut} interrupts survived")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
