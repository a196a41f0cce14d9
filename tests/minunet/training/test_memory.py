"""The estimate of memory, against what NumPy really allocates (tracemalloc)."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest

from minunet import Network, kernels, losses, optim
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
    (2, 64, {"base_channels": 16, "depth": 2, "block": "residual"}),
    *((2, 64, {"base_channels": 16, "depth": 2, "norm": norm}) for norm in ("batch", "instance")),
    (2, 128, {"base_channels": 8, "depth": 0, "loss": "dice"}),  # made by NumPy, most of it
    (2, 64, {"base_channels": 8, "depth": 1, "out_channels": 9, "loss": "cross_entropy+dice"}),
    (2, 64, {"base_channels": 8, "depth": 0, "out_channels": 3, "loss": "focal"}),
    (1, 32, {"base_channels": 32, "depth": 3, "optimizer": "sgd"}),
    (2, 64, {"base_channels": 16, "depth": 3, "deep_supervision": True}),
    (2, 64, {"base_channels": 8, "depth": 2, "out_channels": 9, "deep_supervision": True, "loss": "dice"}),
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
        run()  # what is made besides lies beside what the pool has kept by now
        return tracemalloc.get_traced_memory()[1] + sum(array.nbytes for array in inputs)
    finally:
        tracemalloc.stop()


@pytest.mark.skipif("cpu" not in kernels.available(), reason="Numba does not work here; the estimate is of the CPU kernels")
@pytest.mark.parametrize(("n", "side", "config"), CASES)
def test_the_estimates_are_what_a_step_and_a_prediction_allocate(n, side, config):
    kind = optim.OPTIMIZERS[config.get("optimizer", "adam")]
    loss, optimizer = losses.resolve(config.get("loss", "cross_entropy")), kind()
    network = Network(**{name: value for name, value in config.items() if name not in ("loss", "optimizer")})
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, side, side, network.in_channels)).astype(network.dtype)
    labels = rng.integers(0, network.out_channels, (n, *network.output_size(side, side)), np.uint8)

    def predict():
        with pooled():
            network(x)

    with kernels.threads(1):  # with more, how much scratch there is depends on which threads came to do something
        training = traced(lambda: step(network, optimizer, x, labels, loss=loss, rng=rng), network.flat, x)
        training += sum(moment.nbytes for moment in optimizer.moments)  # made in the first run
        inference = traced(predict, network.flat, x)
        estimates = [memory.training_bytes(network, n, side, side, loss, optimizer=kind)]
        estimates.append(memory.inference_bytes(network, n, side, side))

        off = 0.15 if config.get("algorithm") == "im2col" else 0.07  # of the columns' three passes the largest counts
        assert estimates[0] == pytest.approx(training, rel=off)
        assert estimates[1] == pytest.approx(inference, rel=off)


@pytest.mark.skipif("cpu" not in kernels.available(), reason="Numba does not work here; the estimate is of the CPU kernels")
def test_what_is_predicted_between_steps_lies_beside_what_the_pool_has_kept():
    network, optimizer = Network(base_channels=8, depth=1), optim.Adam()
    x, labels = np.ones((1, 32, 32, 1), np.float32), np.zeros((1, 32, 32), int)
    image = np.ones((1, 200, 100, 1), np.float32)

    def epoch():
        with pooled():
            step(network, optimizer, x, labels)
            with pooled():
                beside = np.ones(10**6, np.uint8)
                network(image)
                del beside

    with kernels.threads(1):
        measured = traced(epoch, network.flat, x) + sum(moment.nbytes for moment in optimizer.moments)
        estimate = memory.training_bytes(network, 1, 32, 32, predicting=(200, 100), meanwhile=10**6)
    assert estimate == pytest.approx(measured, rel=0.07)


def test_a_mean_of_the_weights_takes_as_much_as_they_do():
    network = Network(base_channels=8, depth=2)
    usual, more = (memory.training_bytes(network, 1, 32, 32, averages=averages) for averages in (False, True))
    assert more - usual == network.flat.nbytes


def test_an_image_more_takes_what_backward_reads_of_it_and_at_most_as_much_for_gradients():
    """By hand: a level's first convolution, what is joined, and the two that follow; the lowest has two alone."""
    network = Network(base_channels=8, depth=2)
    numbers = 124**2 * (8 + 16 + 8 + 8) + 62**2 * (16 + 32 + 16 + 16) + 31**2 * (32 + 32)
    one, two, three = (memory.training_bytes(network, n, 124, 124) for n in (4, 8, 12))
    assert two - one == pytest.approx(three - two, rel=0.05)
    assert 4 * 4 * numbers <= two - one <= 2 * 4 * 4 * numbers


def test_the_summary_gives_the_same_estimates():
    network = Network(base_channels=4, depth=2)
    summary = summarize(network, (3, 32, 48))
    assert summary.training_bytes == memory.training_bytes(network, 3, 32, 48)
    assert summary.inference_bytes == memory.inference_bytes(network, 3, 32, 48)


@pytest.mark.parametrize("estimate", ["inference", "training"])
def test_each_thread_takes_scratch_of_its_own(monkeypatch, estimate):
    network, found = Network(1, 2, 8, 2), []
    for n in (1, 2, 5):
        monkeypatch.setattr(kernels, "n_threads", lambda n=n: n)
        of = {"inference": memory.inference_bytes, "training": memory.training_bytes}[estimate]
        found.append(of(network, 2, 64, 64))
    scratch = found[1] - found[0]
    assert scratch > 1000 and found[2] - found[0] == 4 * scratch
