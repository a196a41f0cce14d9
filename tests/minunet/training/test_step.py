"""Memory in a training step, fit and predict: used again, given back, never taken from under an array that is kept."""

import contextlib
import gc
import sys
import threading
import weakref

import numpy as np
import pytest

from minunet import Network, UNet, kernels, ops, optim
from minunet.kernels import buffers
from minunet.kernels.buffers import pooled
from minunet.training import step

STEP = sys.modules["minunet.training.step"]

pytestmark = pytest.mark.skipif("cpu" not in kernels.available(), reason="the reference backend's arrays are NumPy's own")

CONFIGS = {
    "same": (32, {"base_channels": 8, "depth": 2, "dropout": 0.3}),
    "valid": (76, {"base_channels": 8, "depth": 2, "padding": "valid"}),
}


@pytest.fixture
def made(monkeypatch):
    """Every buffer that is made from now on, as weak references."""
    found = []

    class Buffer(buffers._Buffer):
        def __init__(self, size):
            super().__init__(size)
            found.append(weakref.ref(self))

    monkeypatch.setattr(buffers, "_Buffer", Buffer)
    return found


def alive(made):
    gc.collect()
    return [buffer() for buffer in made if buffer() is not None]


def batch(network, side, n=4):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, side, side, 1), np.float32)
    return x, rng.integers(0, 2, (n, *network.output_size(side, side)), np.uint8)


def trained(side, config, n_steps):
    network, optimizer, rng = Network(**config), optim.Adam(), np.random.default_rng(2)
    data = batch(network, side)
    losses = [float(step(network, optimizer, *data, rng=rng)) for _ in range(n_steps)]
    return losses, network.flat


@pytest.mark.parametrize(("side", "config"), CONFIGS.values(), ids=CONFIGS)
def test_a_step_gives_the_same_bits_with_the_pool_and_without(monkeypatch, side, config):
    with_pool = trained(side, config, 4)
    monkeypatch.setattr(STEP, "pooled", lambda pool: contextlib.nullcontext())
    without = trained(side, config, 4)
    assert with_pool[0] == without[0]
    assert with_pool[1].tobytes() == without[1].tobytes()


@pytest.mark.parametrize(("side", "config"), CONFIGS.values(), ids=CONFIGS)
def test_from_the_third_step_on_no_buffer_is_made(made, side, config):
    network, optimizer, rng = Network(**config), optim.Adam(), np.random.default_rng(0)
    data = batch(network, side)
    counts = []
    for _ in range(5):
        step(network, optimizer, *data, rng=rng)
        counts.append(len(made))
    assert counts[0] > 5
    assert counts[1:] == counts[1:2] * 4


def test_a_step_of_another_size_gives_back_what_it_cannot_use(made):
    network, optimizer = Network(base_channels=8, depth=2), optim.Adam()
    step(network, optimizer, *batch(network, 128))
    large = sum(buffer.size for buffer in alive(made))
    step(network, optimizer, *batch(network, 32))
    step(network, optimizer, *batch(network, 32))
    assert sum(buffer.size for buffer in alive(made)) < large / 4


def test_the_memory_goes_with_the_network(made):
    network = Network(base_channels=8, depth=2)
    step(network, optim.Adam(), *batch(network, 32))
    assert alive(made)
    del network
    assert not alive(made)


def keeping(kernel, kept):
    """Return the kernel, which also puts all that it returns into a list."""

    def keep(*args, **options):
        result = kernel(*args, **options)
        kept.extend(a for a in (result if isinstance(result, tuple) else [result]) if a is not None)
        return result

    return keep


def test_what_network_ops_and_a_step_returned_is_never_overwritten(monkeypatch):
    """Also what a layer of someone's own keeps from inside a step: all that forward and backward ever return."""
    network, optimizer = Network(base_channels=8, depth=2), optim.Adam()
    x, labels = batch(network, 32)
    kept = [network(x), *network.forward(x)[:1], ops.conv2d(x, np.ones((3, 3, 1, 8), np.float32))[0]]
    cpu = kernels.for_array(x)
    for name in ("conv2d", "conv2d_relu", "conv_transpose2d", "conv2d_relu_grads", "max_pool2d", "max_pool2d_grad_plus"):
        monkeypatch.setattr(cpu, name, keeping(getattr(cpu, name), kept))
    step(network, optimizer, x, labels)
    monkeypatch.undo()
    assert sum(a.nbytes >= buffers.SMALL for a in kept) >= 20
    copies = [a.copy() for a in kept]
    for _ in range(3):
        step(network, optimizer, x, labels)
    assert all(a.tobytes() == copy.tobytes() for a, copy in zip(kept, copies, strict=True))


def test_an_exception_inside_a_step_leaves_nothing_leased(made, monkeypatch):
    network, optimizer = Network(base_channels=8, depth=2), optim.Adam()
    data = batch(network, 32)
    step(network, optimizer, *data)
    monkeypatch.setattr(network.u.up, "backward", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        step(network, optimizer, *data)
    assert STEP._pools[network].idle_bytes == sum(buffer.size for buffer in alive(made))


def test_a_loss_that_is_not_finite_leaves_nothing_leased(made):
    network = Network(base_channels=8, depth=2)
    x, labels = batch(network, 32)
    x[0, 0, 0, 0] = np.nan
    assert np.isnan(step(network, optim.Adam(), x, labels))
    assert STEP._pools[network].idle_bytes == sum(buffer.size for buffer in alive(made)) > 0


def images(n=3, side=48):
    rng = np.random.default_rng(0)
    x = rng.random((n, side, side))
    return x, (x > 0.5).astype(np.uint8)


def unet(**options):
    return UNet(base_channels=8, depth=2, patch_size=32, max_epochs=1, random_state=0, verbose=0, **options)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_fit_and_predict_give_everything_back(made, padding):
    model = unet(padding=padding).fit(*images())
    assert made
    assert not alive(made)
    n_made = len(made)
    model.predict(images()[0])
    model.score(*images())
    assert len(made) > n_made
    assert not alive(made)


def test_a_fit_that_diverges_gives_everything_back(made):
    with pytest.raises(FloatingPointError):
        unet(optimizer="sgd", learning_rate=1e30).fit(*images())
    assert made
    assert not alive(made)


def test_predicting_many_images_makes_the_buffers_of_one(made):
    model = unet().fit(*images())
    counts = []
    for n in (1, 6):
        before = len(made)
        model.predict(images(n)[0])
        counts.append(len(made) - before)
    assert counts[0] > 0
    assert counts[1] <= counts[0] + 2


def test_threads_predict_at_once(made):
    model = unet().fit(*images())
    x = [images(2, side)[0] for side in (40, 48, 56, 64, 72, 80, 88, 96)]
    expected = [model.predict_proba(each) for each in x]
    found = [None] * len(x)

    def work(i):
        for _ in range(3):
            found[i] = model.predict_proba(x[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(x))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(found, expected, strict=True))
    assert not alive(made)


def test_the_callers_own_pool_serves_a_step_and_a_prediction(made):
    network = Network(base_channels=8, depth=2)
    data = batch(network, 32)
    with pooled():
        step(network, optim.Adam(), *data)
        n_made = len(made)
        network(data[0])
        assert len(made) == n_made
    del network
    assert not alive(made)
