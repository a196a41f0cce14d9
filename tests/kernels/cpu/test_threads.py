"""Threads change no bit: ours, those of the caller, those of a forked child, or none on a machine with one core."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import trainings

pytest.importorskip("numba")

from minunet import Network, UNet, kernels
from minunet.kernels.cpu import threads

TESTS = Path(__file__).resolve().parents[2]


def printed(program, **variables):
    """Run a program on the modules of this tree and of its tests, and return what it prints."""
    paths = os.pathsep.join((str(TESTS.parent), str(TESTS)))
    environment = {k: v for k, v in os.environ.items() if k != "MINUNET_NUM_THREADS"} | {"PYTHONPATH": paths} | variables
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def digest():
    return trainings.digest(n_threads=1)


@pytest.mark.parametrize("n", [2, 4])
def test_a_training_has_the_same_bits_at_any_number_of_threads(digest, n):
    assert trainings.digest(n_threads=n) == digest


@pytest.mark.parametrize("algorithm", ["direct", "winograd2x2", "winograd4x4"])
def test_so_it_has_by_each_algorithm_that_auto_may_choose(algorithm):
    one, two, four = (trainings.digest(n, algorithm) for n in (1, 2, 4))
    assert one == two == four


ONE_CORE = """
import os
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from minunet import kernels
import trainings
print(kernels.n_threads(), trainings.digest())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not say which cores a process may use")
def test_a_machine_with_one_core_gives_the_same_bits(digest):
    assert printed(ONE_CORE) == ["1", digest]


FORK = """
import multiprocessing, threading
import trainings

def child(pipe):
    pipe.send(trainings.digest())

def train_on():
    while not over.is_set():
        trainings.digest()

print(trainings.digest())  # the parent's threads are there by now; another of its own computes while it forks
over = threading.Event()
other = threading.Thread(target=train_on)
other.start()
ours, theirs = multiprocessing.Pipe()
process = multiprocessing.get_context("fork").Process(target=child, args=(theirs,))
process.start()
over.set()
print(ours.recv() if ours.poll(120) else "none")
other.join()
process.join()
print(process.exitcode, trainings.digest())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_forked_after_the_first_use_gives_the_same_bits(digest):
    assert printed(FORK, MINUNET_NUM_THREADS="4") == [digest, digest, "0", digest]


def in_threads(calls):
    """Return what each call returns, each in a thread of its own, all let go at once."""
    start = threading.Barrier(len(calls))

    def run(call):
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@pytest.mark.parametrize("algorithm", ["auto", "winograd4x4"])
def test_eight_threads_that_predict_at_once_get_what_one_gets(monkeypatch, algorithm):
    monkeypatch.setenv("MINUNET_NUM_THREADS", "2")
    network = Network(2, 3, base_channels=5, depth=2, random_state=0, algorithm=algorithm)
    rng = np.random.default_rng(0)
    images = [rng.random((1 + i % 2, 16 + 4 * i, 32 - 4 * (i % 4), 2), np.float32) for i in range(8)]
    expected = [network(x).tobytes() for x in images]
    for _ in range(5):
        assert in_threads([lambda x=x: network(x).tobytes() for x in images]) == expected


@pytest.mark.parametrize("algorithm", ["auto", "winograd4x4"])
def test_eight_threads_that_train_networks_of_their_own_get_what_one_gets(monkeypatch, algorithm):
    monkeypatch.setenv("MINUNET_NUM_THREADS", "2")

    def gradients(i):
        network = Network(1, 2, base_channels=3 + i, depth=1, random_state=i, algorithm=algorithm)
        x = np.random.default_rng(i).random((2, 16 + 2 * i, 18, 1), np.float32)
        y, cache = network.forward(x, training=True)
        return network.backward(y, cache)[1].flat.tobytes()

    expected = [gradients(i) for i in range(8)]
    for _ in range(3):
        assert in_threads([lambda i=i: gradients(i) for i in range(8)]) == expected


@pytest.mark.parametrize("algorithm", ["auto", "winograd4x4"])
@pytest.mark.parametrize("base_channels", [1, 4, 7, 16])
def test_a_network_gives_an_image_the_same_bits_alone_and_in_a_batch(base_channels, algorithm):
    network = Network(3, 2, base_channels, depth=3, random_state=1, algorithm=algorithm)
    for size in (16, 24, 40, 64, 96) if base_channels < 16 else (16, 48):
        x = np.random.default_rng(size).standard_normal((3, size, size + 8, 3)).astype(np.float32)
        whole = network(x)
        for i in range(3):
            assert network(x[i : i + 1]).tobytes() == whole[i : i + 1].tobytes()


def test_a_fitted_model_predicts_from_many_threads():
    rng = np.random.default_rng(0)
    x = rng.random((2, 24, 24))
    unet = UNet(base_channels=2, depth=1, patch_size=16, max_epochs=1, verbose=0, random_state=0, n_threads=2).fit(x, x > 0.5)
    images = [rng.random((20 + i, 30 - i)) for i in range(8)]
    expected = [unet.predict_proba(image).tobytes() for image in images]
    assert in_threads([lambda image=image: unet.predict_proba(image).tobytes() for image in images]) == expected


def test_what_fails_in_a_thread_is_raised_and_the_next_call_works():
    """A compiled kernel raises nothing, but memory for a thread's scratch may be short."""
    claimed, lock, helping = [], threading.Lock(), threading.Event()

    def kernel(claims, n_jobs, scratch):
        if threading.current_thread() is not threading.main_thread():
            helping.set()
            raise MemoryError("short")
        helping.wait(60)

    with kernels.threads(2), pytest.raises(MemoryError, match="short"):
        threads.launch(kernel, 20, 0)

    def whole(claims, n_jobs, scratch):
        with lock:
            claimed.append((n_jobs, scratch % 64))

    with kernels.threads(2):
        threads.launch(whole, 20, 100)
    assert set(claimed) == {(20, 0)}
    assert 1 <= len(claimed) <= 2


def test_each_thread_has_scratch_of_its_own_that_is_large_enough():
    found, all_in = [], threading.Barrier(2)

    def kernel(claims, n_jobs, scratch):
        found.append(scratch)
        all_in.wait(60)

    for size in (100, 5000, 200):
        found.clear()
        with kernels.threads(2):
            threads.launch(kernel, 2, size)
        assert abs(found[0] - found[1]) >= size
