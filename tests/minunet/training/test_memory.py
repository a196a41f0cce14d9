"""The estimate of memory, against what NumPy really allocates (tracemalloc), and the free memory it is held against."""

from __future__ import annotations

import os
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from minunet import Network, kernels, optim
from minunet.kernels.buffers import pooled
from minunet.summary import summarize
from minunet.training import memory, step

CASES = [  # n, side, network; activations weigh most in some, parameters in others
    (4, 128, {"base_channels": 16, "depth": 3}),
    (2, 64, {"base_channels": 32, "depth": 3, "dropout": 0.5}),
    (1, 256, {"base_channels": 8, "depth": 1, "in_channels": 3}),
    (4, 64, {"base_channels": 16, "depth": 0, "out_channels": 5}),
    (1, 188, {"base_channels": 8, "depth": 4, "padding": "valid"}),
    (1, 64, {"base_channels": 16, "depth": 2, "dtype": "float64"}),
    *((3, 64, {"base_channels": 16, "depth": 2, "algorithm": algorithm}) for algorithm in kernels.ALGORITHMS),
]


PREVIOUS_STEPS = sys.modules["minunet.training.step"]._pools


def traced(run, *inputs):
    """Return the most bytes that were taken during run(), the thread's scratch among them, with its inputs' own."""
    from minunet.kernels.cpu import threads

    run()
    PREVIOUS_STEPS.clear()
    threads._local.__dict__.clear()
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1] + sum(array.nbytes for array in inputs)
    finally:
        tracemalloc.stop()


@pytest.mark.skipif("cpu" not in kernels.available(), reason="Numba does not work here; the estimate is of the CPU kernels")
@pytest.mark.parametrize(("n", "side", "config"), CASES)
def test_the_estimates_are_what_a_step_and_a_prediction_allocate(n, side, config):
    network, optimizer = Network(**config), optim.Adam()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, side, side, network.in_channels)).astype(network.dtype)
    labels = rng.integers(0, network.out_channels, (n, *network.output_size(side, side)), np.uint8)

    def predict():
        with pooled():
            network(x)

    with kernels.threads(1):  # with more, how much scratch there is depends on which threads came to do something
        training = traced(lambda: step(network, optimizer, x, labels, rng=rng), network.flat, x)
        training += sum(moment.nbytes for moment in optimizer.moments)  # made in the first run
        inference = traced(predict, network.flat, x)
        estimates = [f(network, n, side, side) for f in (memory.training_bytes, memory.inference_bytes)]

        off = 0.15 if config.get("algorithm") == "im2col" else 0.07  # of the columns' three passes the largest counts
        assert estimates[0] == pytest.approx(training, rel=off)
        assert estimates[1] == pytest.approx(inference, rel=off)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_activations_grow_with_the_batch_and_parameters_do_not(padding):
    network = Network(base_channels=8, depth=2, padding=padding)
    one, two, three = (memory.training_bytes(network, n, 124, 124) for n in (4, 8, 12))
    assert 0 < two - one == pytest.approx(three - two, rel=0.05)
    assert memory.training_bytes(network, 4, 124, 124) > memory.inference_bytes(network, 4, 124, 124)


def test_the_summary_gives_the_same_estimates():
    network = Network(base_channels=4, depth=2)
    summary = summarize(network, (3, 32, 48))
    assert summary.training_bytes == memory.training_bytes(network, 3, 32, 48)
    assert summary.inference_bytes == memory.inference_bytes(network, 3, 32, 48)


def pretend_files(monkeypatch, files):
    """Let files be read from a dict of their texts; all others are absent."""

    def read_text(self, *args, **options):
        try:
            return files[self.as_posix()]
        except KeyError:
            raise FileNotFoundError(self) from None

    monkeypatch.setattr(Path, "read_text", read_text)


MEMINFO = {"/proc/meminfo": "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    8000 kB\n"}
V2 = "/sys/fs/cgroup/memory."
V1 = "/sys/fs/cgroup/memory/memory."


@pytest.mark.parametrize(
    ("files", "available"),
    [
        (MEMINFO, 8000 * 1024),
        (MEMINFO | {f"{V2}max": "max\n", f"{V2}current": "5000\n"}, 8000 * 1024),
        (MEMINFO | {f"{V2}max": "300000\n", f"{V2}current": "100000\n"}, 200_000),
        (MEMINFO | {f"{V1}limit_in_bytes": "300000\n", f"{V1}usage_in_bytes": "100000\n"}, 200_000),
        (MEMINFO | {f"{V2}max": "300000\n", f"{V2}current": "300001\n"}, 0),
    ],
)
def test_available_memory_is_what_the_system_and_the_cgroup_leave(monkeypatch, files, available):
    pretend_files(monkeypatch, files)
    assert memory.available_memory() == available


def test_available_memory_without_proc_is_half_of_what_is_built_in(monkeypatch):
    pretend_files(monkeypatch, {})
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}.__getitem__, raising=False)
    assert memory.available_memory() == 4096 * 1000 // 2


def test_available_memory_never_raises(monkeypatch):
    pretend_files(monkeypatch, {"/proc/meminfo": "MemAvailable: a lot\n", f"{V2}max": ""})
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert memory.available_memory() > 0
