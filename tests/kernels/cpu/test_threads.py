"""Threads change no bit: ours, those of the caller, those of a forked child, or none on a machine with one core."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import trainings

pytest.importorskip("numba")

from minunet import Network, UNet, kernels, ops
from minunet.kernels.cpu import threads
from minunet.kernels.geometry import address

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


@pytest.mark.parametrize("verbose", [False, True])
def test_helpers_work_in_the_context_of_the_launch(verbose):
    """Each thread compiles what it comes to first, and says so, or does not."""
    told, helped = {}, threading.Event()

    def kernel(launched, process, role, *arguments):
        told[role] = kernels.tells()
        if role == threads.HELPER:
            helped.set()
        return helped.wait(10)

    with kernels.threads(2), kernels.telling(verbose):
        threads.launch(kernel, 2, 64)
    assert told == {threads.CALLER: verbose, threads.HELPER: verbose}


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


def scratch_of(n_jobs, size):
    """Return the addresses of the scratch that the threads of a launch had, of two threads where a second one comes in time."""
    for _ in range(100):
        found, inside = np.zeros(n_jobs, np.int64), np.zeros(1, np.int64)
        threads.launch(_notes_its_scratch, n_jobs, size, address(found), address(inside))
        assert found.all()
        if len(set(found.tolist())) > 1:
            break
    return sorted(set(found.tolist()))


@threads.jobs
def _notes_its_scratch(job, base, found, inside):
    threads.poke(found + 8 * job, base)
    threads.add(inside, 1)
    patience = 100000
    while threads.peek(inside) < 2 and patience > 0:  # the other thread shall have one, too
        threads.rest()
        patience -= 1


def test_each_thread_has_scratch_of_its_own_that_is_large_enough():
    if (os.cpu_count() or 1) == 1:
        pytest.skip("one core: there is one thread")
    for size in (100, 5000, 200):
        with kernels.threads(2):
            one, other = scratch_of(2, size)
        assert other - one >= size
        assert one % 64 == other % 64 == 0


def conv_bits():
    x, w = np.random.default_rng(0).random((1, 64, 64, 16), np.float32), np.ones((3, 3, 16, 16), np.float32)
    return ops.conv2d(x, w)[0].tobytes()


def test_where_a_helper_has_no_memory_the_others_do_its_jobs(monkeypatch):
    expected, plain = conv_bits(), threads.scratch

    def short(size):
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError("short")
        return plain(size)

    monkeypatch.setattr(threads, "scratch", short)
    with kernels.threads(4):
        assert all(conv_bits() == expected for _ in range(20))
    monkeypatch.setattr(threads, "scratch", plain)
    with kernels.threads(2):
        scratch_of(2, 100)  # and the helpers are there still


def test_where_the_caller_has_no_memory_nothing_is_begun(monkeypatch):
    def short(size):
        raise MemoryError("short")

    with monkeypatch.context() as patched:
        patched.setattr(threads, "scratch", short)
        with pytest.raises(MemoryError, match="short"):
            conv_bits()
    assert conv_bits() == conv_bits()


def test_a_system_that_has_no_thread_to_give(monkeypatch):
    expected = conv_bits()

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_helpers", [])
    monkeypatch.setattr(threads, "_most", 4)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with kernels.threads(4):
        assert conv_bits() == expected
    assert threads._most == 0  # it is not asked again


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer that interrupts")
def test_no_thread_writes_after_a_call_that_was_interrupted():
    said = printed("import interrupts; interrupts.main(150, 0)")
    assert said[1:] == ["interrupts", "survived"]
    assert int(said[0]) >= 150


WORKER = """
import threading
import trainings

def work():
    threading.main_thread().join()
    print(trainings.digest())

threading.Thread(target=work).start()
"""


def test_a_thread_trains_on_when_the_main_thread_has_ended(digest):
    assert printed(WORKER) == [digest]


DAEMONS = """
import random, threading, time
import numpy as np
from minunet import Network, optim
from minunet.training import step

network, x = Network(1, 2, 8, 2), np.ones((1, 128, 128, 1), np.float32)
step(network, optim.Adam(), x, np.zeros((1, 128, 128), int))

def train():
    while True:
        step(network, optim.Adam(), x, np.zeros((1, 128, 128), int))

def predict():
    while True:
        network(x)

for work in (train, predict):
    threading.Thread(target=work, daemon=True).start()
time.sleep(random.Random({seed}).uniform(0, 0.05))
print("over")
"""


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.rare) for n in range(1, 5))])
def test_the_interpreter_ends_in_order_while_threads_train_and_predict(seed):
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    done = subprocess.run([sys.executable, "-c", DAEMONS.format(seed=seed)], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")


AT_EXIT = """
import atexit
atexit.register(lambda: print(trainings.digest()))  # runs after what the import registers
import trainings
"""


def test_what_a_program_does_at_its_exit_may_train(digest):
    assert printed(AT_EXIT) == [digest]
