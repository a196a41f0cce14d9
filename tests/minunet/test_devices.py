"""A network on a GPU: the same as on the CPU. The device is a stand-in, which runs the same CUDA sources on the processor.

Its arrays refuse to meet NumPy's, as CuPy's do: what passes here never mixes the two.
"""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from cuda_on_cpu.door import Counted, emulated
from cuda_on_cpu.strict import DeviceArray
from ml_dtypes import bfloat16

import minunet
from minunet import Network, UNet, devices, kernels, layers, losses, ops, optim
from minunet.cli.check import _plan
from minunet.kernels import reference
from minunet.kernels.gpu import device
from minunet.training import step
from minunet.training.memory import training_bytes
from minunet.training.step import passes

BENCH = Path(__file__).parents[2] / "bench"
CONFIG = {"base_channels": 4, "depth": 2, "random_state": 3}


@pytest.fixture
def gpu():
    """A machine with two GPUs."""
    with emulated(strict=True, count=2) as door:
        yield door


@pytest.fixture(params=["stand-in", pytest.param("cuda", marks=pytest.mark.gpu)])
def any_gpu(request):
    """A machine with a GPU, or one with two of which it is pretended."""
    if request.param == "cuda":
        if trouble := device.trouble():
            pytest.skip(f"no GPU to run on: {trouble}")
        yield device.door()
    else:
        with emulated(strict=True, count=2) as door:
            yield door


def batch(network, side=16, n=2, dtype=np.float32):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, side, side, 1)).astype(dtype)
    return x, rng.integers(0, 2, (n, *network.output_size(side, side)))


@pytest.mark.parametrize(("side", "padding"), [(16, "same"), (44, "valid")])
def test_forward_and_backward_are_those_of_the_cpu(any_gpu, side, padding):
    network = Network(**CONFIG, padding=padding, dtype="float64")
    there = network.to("gpu")
    assert kernels.place(there.flat) == "gpu:0" and there.to("gpu") is there
    x, labels = batch(network, side, dtype=np.float64)
    results = []
    for net in (network, there):
        on_device = kernels.for_array(net.flat).asarray(x)
        logits, cache = net.forward(on_device, training=True)
        loss, dlogits = losses.softmax_cross_entropy(logits, labels)
        dx, grads = net.backward(dlogits, cache)
        results.append([kernels.to_host(a) for a in (logits, loss, dx, grads.flat)])
    for here, found in zip(*results, strict=True):
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, here, rtol=1e-11, atol=1e-13 * max(1, np.abs(here).max()))


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-6), ("bf16", 0.01)])
@pytest.mark.parametrize("base_channels", [8, 10])  # with 8 the head is fused with the loss
def test_loss_and_gradients_at_once_are_those_of_forward_loss_and_backward(any_gpu, precision, tolerance, base_channels):
    network = Network(1, 3, base_channels, 1).to("gpu")
    x, labels = batch(network)
    weights = np.random.default_rng(0).random(labels.shape, np.float32)
    with kernels.precision(precision):
        logits, cache = network.forward(any_gpu.asarray(x), training=True)
        expected, dlogits = losses.softmax_cross_entropy(logits, labels, weights=weights)
        _, grads = network.backward(dlogits, cache, input_grad=False)
        target = losses.Target(labels, weights)
        loss, found = passes(network, losses.CrossEntropy(), any_gpu.asarray(x), target)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    found, grads = found.get(), grads.flat.get()
    assert np.linalg.norm(found - grads) < tolerance * np.linalg.norm(grads)


@pytest.mark.parametrize(
    ("loss", "precision", "tolerance"),
    [("cross_entropy", "float32", 1e-5), ("cross_entropy+dice", "float32", 1e-5), ("cross_entropy", "bf16", 0.05)],
)
def test_all_levels_are_those_of_the_cpu(any_gpu, loss, precision, tolerance):
    here = Network(1, 3, 4, 3, random_state=3, deep_supervision=True)
    there, (x, labels) = here.to("gpu"), batch(here)
    target = losses.Target(labels, np.random.default_rng(0).random(labels.shape, np.float32))
    expected, gradient = passes(here, losses.LOSSES[loss], x, target)
    with kernels.precision(precision):
        value, found = passes(there, losses.LOSSES[loss], any_gpu.asarray(x), target)
    assert float(value) == pytest.approx(float(expected), rel=tolerance)
    found = here.parameters.split(found.get())
    for name, grad in here.parameters.split(gradient).items():
        assert np.linalg.norm(found[name] - grad) <= 10 * tolerance * np.linalg.norm(grad), name


@pytest.mark.parametrize("make", [optim.Adam, lambda: optim.SGD(0.05, weight_decay=1e-3)])
def test_twenty_steps_are_those_of_the_cpu(any_gpu, make):
    here = Network(**CONFIG)
    there = here.to("gpu")
    x, labels = batch(here)
    curves = []
    for network in (here, there):
        optimizer = make()
        curves.append([float(step(network, optimizer, x, labels)) for _ in range(20)])
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-4)
    assert curves[1][-1] < curves[1][0]


@pytest.mark.parametrize("precision", kernels.PRECISIONS)
def test_steps_again_give_the_same_bits(any_gpu, precision):
    x, labels = batch(Network(**CONFIG), 32)
    found = set()
    with kernels.precision(precision):
        for _ in range(2 if hasattr(any_gpu, "free") else 20):
            network, optimizer = Network(**CONFIG).to("gpu"), optim.Adam()
            for _ in range(2):
                step(network, optimizer, x, labels)
            found.add(network.flat.get().tobytes())
    assert len(found) == 1


@pytest.mark.parametrize(("side", "padding"), [(16, "same"), (44, "valid")])
def test_in_bf16_activations_are_kept_in_bfloat16_and_all_else_in_float32(any_gpu, side, padding, monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    rounding = importlib.import_module("precision")  # the script that trains on the CPU with numbers rounded as on a GPU
    network = Network(8, 3, base_channels=8, depth=2, padding=padding, random_state=3)
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal((4, side, side, 8), np.float32), rng.integers(0, 3, (4, *network.output_size(side, side)))

    def everything(net, x):
        logits, cache = net.forward(x, training=True)
        kept = [a.dtype.name for a in arrays_of(cache) if a.ndim == 4 and a.dtype != np.uint8 and a.shape[0] == 4]
        loss, dlogits = losses.softmax_cross_entropy(logits, labels)
        dx, grads = net.backward(dlogits, cache)
        return set(kept), [kernels.to_host(a) for a in (logits, loss, dx, grads.flat)]

    with kernels.precision("bf16"):
        kept, found = everything(network.to("gpu"), any_gpu.asarray(x))
    assert kept == {"bfloat16"}
    specification = rounding.Rounded(reference, "bf16")
    with mock.patch.object(kernels, "for_array", lambda a: specification):
        _, expected = everything(network, rounding.bfloat16_of(x))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        assert np.linalg.norm(one - other) < 0.01 * np.linalg.norm(other)
    exact = network.forward(x)[0]
    assert 1e-3 < np.linalg.norm(found[0] - exact) / np.linalg.norm(exact) < 0.05


def arrays_of(cache):
    """Give all arrays that a cache holds."""
    for item in cache:
        if isinstance(item, (list, tuple)):
            yield from arrays_of(item)
        elif hasattr(item, "dtype") and hasattr(item, "ndim"):
            yield item


def test_in_bf16_twenty_steps_learn_as_in_float32_with_half_of_the_memory(any_gpu):
    here = Network(base_channels=8, depth=2, random_state=3)
    x, labels = batch(here)
    labels = (x[..., 0] > 0).astype(int)
    curves, needs = [], []
    for network, precision in ((here, "float32"), (here.to("gpu"), "bf16")):
        with kernels.precision(precision):
            optimizer = optim.Adam(0.01)
            curves.append([float(step(network, optimizer, x, labels)) for _ in range(20)])
    np.testing.assert_allclose(curves[1], curves[0], atol=0.03)
    assert curves[0][-1] < 0.8 * curves[0][0]
    for precision in ("tf32", "bf16"):
        with kernels.precision(precision):
            needs.append(training_bytes(network, 64, 256, 256))
    assert needs[1] < 0.55 * needs[0]


def test_in_bf16_views_give_what_their_copies_give(gpu):
    """A network, and an op: of a crop of some of the channels, and of gradients that are a slice."""
    network = Network(8, 3, base_channels=8, depth=1, random_state=3).to("gpu")
    rng = np.random.default_rng(0)
    x = gpu.asarray(rng.standard_normal((2, 12, 10, 16), np.float32))[:, 2:10, :8, 3:11]
    dlogits = gpu.asarray(rng.standard_normal((2, 8, 8, 6), np.float32))[..., 2:5]
    found = []
    with kernels.precision("bf16"):
        for a, dy in ((x, dlogits), (x.copy(order="C"), dlogits.copy(order="C"))):
            logits, cache = network.forward(a, training=True)
            dx, grads = network.backward(dy, cache)
            found.append([b.get().tobytes() for b in (logits, dx, grads.flat)])
    assert found[0] == found[1]


def test_bfloat16_is_refused_where_it_is_not_known(gpu):
    x = kernels.cast(gpu.asarray(np.ones((1, 4, 4, 8), np.float32)), np.dtype(bfloat16))
    with pytest.raises(ValueError, match=r"logits is of dtype bfloat16; it takes float32 or float64"):
        losses.softmax_cross_entropy(x, np.zeros((1, 4, 4), int))
    w, out = gpu.asarray(np.ones((2, 2, 4, 8), np.float32)), gpu.empty((1, 8, 8, 4), np.float32)
    with pytest.raises(ValueError, match=r"out is a float32 array .*; it takes a writable bfloat16 array \(1, 8, 8, 4\)"):
        ops.conv_transpose2d(x, w, out=out)
    with pytest.raises(ValueError, match=r"x is of dtype bfloat16; it takes float32 or float64; on a GPU bfloat16 too"):
        ops.relu(np.ones((1, 4, 4, 8), bfloat16))


def test_each_precision_has_a_graph_of_its_own(gpu):
    network = Network(8, 8, base_channels=8, depth=1).to("gpu")
    x, labels = np.random.default_rng(0).standard_normal((2, 8, 8, 8), np.float32), np.zeros((2, 8, 8), int)
    found = []
    for precision in (*kernels.PRECISIONS, "float32"):
        with kernels.precision(precision):
            found.append(float(step(network, optim.SGD(1e-30), x, labels)))
    assert len(set(found[:3])) == 3 and found[0] == found[3]


@pytest.mark.parametrize("settings", [
    {}, {"out_channels": 100}, {"deep_supervision": True},
    *(pytest.param(settings, marks=pytest.mark.rare) for settings in (
        {"dropout": 0.3}, {"in_channels": 16, "base_channels": 16}, {"padding": "valid"},
    )),
])  # fmt: skip
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_the_memory_of_a_step_is_what_the_estimate_says_or_little_less(gpu, precision, settings):
    network = Network(**{"base_channels": 8, "depth": 2} | settings).to("gpu")
    side = 44 if network.padding == "valid" else 32
    x = gpu.asarray(np.ones((2, side, side, network.in_channels), np.float32))
    labels = np.zeros((2, *network.output_size(side, side)), int)
    counted = Counted(gpu)
    with kernels.precision(precision), mock.patch.object(gpu, "empty", counted):
        target = losses.Target(labels, np.ones(labels.shape, np.float32))
        passes(network, losses.CrossEntropy(), x, target, np.random.default_rng(0))
        estimate = training_bytes(network, 2, side, side)
    assert estimate / 1.35 <= counted.most + x.nbytes + 3 * network.flat.nbytes <= estimate


def test_what_fits_in_bf16_alone_is_not_refused(gpu):
    """By the memory that half of the numbers would take in float32."""
    x = np.random.default_rng(0).random((2, 32, 32))
    settings = {"base_channels": 8, "depth": 1, "patch_size": 32, "batch_size": 8, "max_epochs": 1, "verbose": 0}
    unet = UNet(**settings, device="gpu")
    with kernels.precision("tf32"):
        gpu.free = int(0.7 * training_bytes(Network(1, 2, 8, 1).to("gpu"), 8, 32, 32))
    with pytest.raises(ValueError, match=r"and gpu:0 has \d MB free: batch_size=\d \(--batch-size \d\) would take"):
        unet.fit(x, (x > 0.5).astype(int))
    unet.set_params(precision="bf16", max_minutes=1e-9).fit(x, (x > 0.5).astype(int))


def test_check_foretells_the_memory_of_the_precision_that_is_asked_for(gpu):
    found = SimpleNamespace(
        classes=np.arange(2), frequencies={0: 0.5, 1: 0.5}, channels={1: 4}, paths=[Path(f"{i}.png") for i in range(4)],
        shapes=[(64, 64, 1)] * 4,
    )  # fmt: skip
    usual, half = (
        _plan(UNet(base_channels=8, depth=1, precision=of, device="gpu"), found)[0].training.takes for of in ("auto", "bf16")
    )
    assert half < 0.6 * usual


def test_bf16_where_its_type_is_missing(gpu, monkeypatch):
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"precision is 'bf16', and the package ml_dtypes, .* is missing: pip install ml_dtypes"):
        UNet(device="gpu", precision="bf16").fit(np.zeros((8, 8)), np.eye(8, dtype=int))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_step_waits_for_nothing(gpu, dropout):
    network, optimizer, rng = Network(**CONFIG, dropout=dropout).to("gpu"), optim.Adam(), np.random.default_rng(0)
    data = batch(network)
    step(network, optimizer, *data, rng=rng)
    before = DeviceArray.waits
    losses_ = [step(network, optimizer, *data, rng=rng) for _ in range(3)]
    assert DeviceArray.waits == before
    assert len({float(loss) for loss in losses_}) == 3  # each its own, though a graph fills the same buffer again
    assert DeviceArray.waits == before + 3


@pytest.mark.parametrize("deep_supervision", [False, True])  # whose labels are made in the graph
def test_a_graph_repeats_the_launches_on_the_next_batch(gpu, monkeypatch, caplog, deep_supervision):
    """What a graph must not do: keep a batch, weights or a learning rate from when it was recorded."""

    def refuse(run):
        raise RuntimeError("no graph today")

    runs = []
    for recorded in (True, False):
        network, optimizer = Network(**CONFIG, deep_supervision=deep_supervision).to("gpu"), optim.Adam()
        if not recorded:
            monkeypatch.setattr(gpu, "capture", refuse)
        rng = np.random.default_rng(0)
        for i in range(4):
            x, labels = rng.standard_normal((2, 16, 16, 1), np.float32), rng.integers(0, 2, (2, 16, 16))
            optimizer.learning_rate = 0.01 / (i + 1)
            weights = rng.random((2, 16, 16)).astype(np.float32)
            loss = float(step(network, optimizer, x, labels, weights=weights))
        runs.append((loss, network.flat.get().tobytes()))
    assert runs[0] == runs[1]
    assert "no CUDA graph, each kernel is launched by itself: RuntimeError: no graph today" in caplog.text


def test_a_graph_drops_what_the_same_steps_drop_without_one_and_on_the_cpu(any_gpu, monkeypatch):
    """To the bit on a GPU; on the CPU within rounding, where other draws would be far off."""
    recordings, capture = [], any_gpu.capture
    monkeypatch.setattr(any_gpu, "capture", lambda run: recordings.append(capture(run)) or recordings[-1])
    config = CONFIG | {"dropout": 0.4}
    recorded, plain, here = Network(**config).to("gpu"), Network(**config).to("gpu"), Network(**config)
    x, labels = batch(here)
    weights, there = np.ones(labels.shape, np.float32), any_gpu.asarray(x)
    optimizers, rngs = [optim.SGD(0.05) for _ in range(3)], [np.random.default_rng(5) for _ in range(3)]
    curves = []
    for _ in range(4):
        by_graph = step(recorded, optimizers[0], x, labels, rng=rngs[0])
        loss, gradient = passes(plain, losses.CrossEntropy(), there, losses.Target(labels, weights), rngs[1])
        optimizers[1].update(plain.flat, gradient, loss=loss)
        curves.append([float(by_graph), float(loss), float(step(here, optimizers[2], x, labels, rng=rngs[2]))])
        assert curves[-1][0] == curves[-1][1]
        assert curves[-1][0] == pytest.approx(curves[-1][2], rel=1e-5)
    assert recorded.flat.get().tobytes() == plain.flat.get().tobytes()
    assert len(recordings) == 1


def test_each_launch_of_a_graph_draws_anew(any_gpu):
    network, rng = Network(**CONFIG, dropout=0.4).to("gpu"), np.random.default_rng(0)
    data = batch(network)
    with pytest.raises(ValueError, match=r"rng is None; it takes a numpy.random.Generator, for the network has dropout"):
        step(network, optim.SGD(0), *data)
    assert len({float(step(network, optim.SGD(0), *data, rng=rng)) for _ in range(4)}) == 4
    assert len({float(step(network, optim.SGD(0), *data, rng=np.random.default_rng(0))) for _ in range(3)}) == 1


def test_a_loss_that_is_not_finite_changes_nothing(any_gpu):
    network, optimizer = Network(**CONFIG).to("gpu"), optim.Adam()
    x, labels = batch(network)
    step(network, optimizer, x, labels)
    before = [a.get().tobytes() for a in (network.flat, *optimizer.moments)]
    assert np.isnan(float(step(network, optimizer, np.full_like(x, np.nan), labels)))
    assert [a.get().tobytes() for a in (network.flat, *optimizer.moments)] == before


def test_a_model_trained_on_one_device_predicts_on_the_other(any_gpu, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.random((3, 24, 24))
    y = (x > 0.5).astype(np.uint8)
    settings = {"base_channels": 4, "depth": 1, "patch_size": 16, "max_epochs": 1, "verbose": 0, "random_state": 0}
    unet = UNet(**settings, device="gpu", precision="float32", dropout=0.1).fit(x, y)
    assert kernels.place(unet.network_.flat) == "gpu:0" and isinstance(unet.predict(x), np.ndarray)
    unet.save(tmp_path / "model.safetensors")
    loaded = minunet.load(tmp_path / "model.safetensors").set_params(device="cpu")
    np.testing.assert_allclose(loaded.predict_proba(x), unet.predict_proba(x), atol=1e-5)
    assert kernels.place(loaded.network_.flat) == "cpu"
    copy = pickle.loads(pickle.dumps(unet))
    assert kernels.place(copy.network_.flat) == "cpu"
    np.testing.assert_array_equal(copy.predict_proba(x), unet.predict_proba(x))
    assert kernels.place(copy.network_.flat) == "gpu:0"


def test_auto_takes_the_gpu_and_tf32_there(gpu):
    assert devices.resolve("auto") == "gpu:0"
    assert devices.precision_at("gpu:0", "auto") == "tf32" and devices.precision_at("cpu", "auto") == "float32"
    assert "tf32" in str(UNet(device="gpu").summary((32, 32)))
    assert "bf16 (8 bits" in str(UNet(device="gpu", precision="bf16").summary((32, 32)))


def test_the_second_gpu(gpu):
    assert devices.resolve("gpu:1") == "gpu:1"
    with pytest.raises(ValueError, match=r"device is 'gpu:2'; this machine has 2: gpu:0 to gpu:1"):
        devices.resolve("gpu:2")
    network = Network(**CONFIG).to("gpu:1")
    assert kernels.place(network.flat) == "gpu:1"
    assert np.isfinite(float(step(network, optim.Adam(), *batch(network))))


@pytest.mark.parametrize("name", ["cuda", "gpu:", "gpu:one", 0, None])
def test_a_device_that_is_none(name):
    with pytest.raises(ValueError, match=r"device is .*; it takes 'auto', 'cpu', 'gpu' or 'gpu:1'"):
        UNet(device=name).fit(np.zeros((8, 8)), np.eye(8, dtype=int))


def test_without_a_gpu_auto_is_the_cpu_and_gpu_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(device, "trouble", lambda: "CuPy is not installed: pip install it")
    assert devices.resolve("auto") == "cpu"
    with pytest.raises(ValueError, match=r"device is 'gpu', but CuPy is not installed: pip install"):
        UNet(device="gpu").fit(np.zeros((8, 8)), np.eye(8, dtype=int))
    with pytest.raises(ValueError, match=r"precision is 'tf32'; on the CPU it takes"):
        UNet(precision="tf32").fit(np.zeros((8, 8)), np.eye(8, dtype=int))


def test_auto_says_so_where_a_gpu_lies_idle(monkeypatch, capsys):
    monkeypatch.setattr(device, "trouble", lambda: "CuPy is not installed: pip install it")
    monkeypatch.setattr(devices.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    devices.say_if_unused("cpu")
    assert capsys.readouterr().err == "minunet: training on the CPU, for CuPy is not installed: pip install it\n"


def test_arrays_of_two_places_do_not_meet(any_gpu):
    x, w = np.ones((1, 4, 4, 2), np.float32), np.ones((3, 3, 2, 3), np.float32)
    there = any_gpu.asarray(x)
    with pytest.raises(ValueError, match=r"w is an array on cpu; it takes one on gpu:0, where x lies"):
        ops.conv2d(there, w)
    with pytest.raises(ValueError, match=r"w is an array on gpu:0; it takes one on cpu"):
        ops.conv2d(x, any_gpu.asarray(w))
    _, cache = ops.conv2d(there, any_gpu.asarray(w))
    with pytest.raises(ValueError, match=r"dy is an array on cpu; it takes one on gpu:0"):
        ops.conv2d_backward(np.ones((1, 2, 2, 3), np.float32), cache)
    with pytest.raises(ValueError, match=r"x is an array on cpu; it takes one on gpu:0"):
        Network(**CONFIG).to("gpu")(np.ones((1, 4, 4, 1), np.float32))
    with minunet.use_backend("reference"), pytest.raises(ValueError, match=r"x lies on gpu:0; the reference backend"):
        ops.relu(there)


def test_a_batch_that_does_not_fit_is_refused_before_the_first_step(gpu):
    x = np.random.default_rng(0).random((2, 32, 32))
    y = (x > 0.5).astype(int)
    unet = UNet(base_channels=2, depth=1, patch_size=32, batch_size=1, max_epochs=1, verbose=0, device="gpu").fit(x, y)
    before = unet.network_.flat.get()
    gpu.free = 2**18
    with pytest.raises(ValueError, match=r"training on 8 patches of 32 x 32 a step takes about \d MB, and gpu:0 has 0 MB free"):
        unet.set_params(batch_size=8).fit(x, y)
    np.testing.assert_array_equal(unet.network_.flat.get(), before)


@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
@pytest.mark.parametrize("settings", [{}, {"padding": "valid", "block": "residual"}], ids=str)
def test_norms_are_those_of_the_cpu(any_gpu, norm, settings):
    """Gradients in float64, and the weights and statistics that a few steps leave."""
    here = Network(**CONFIG | {"depth": 1}, norm=norm, dtype="float64", **settings)
    x, labels = batch(here, here.fitting_output(8) + 2 * here.margin, dtype=np.float64)
    results = []
    for network in (here, here.to("gpu")):
        logits, cache = network.forward(kernels.for_array(network.flat).asarray(x), training=True)
        dx, grads = network.backward(losses.softmax_cross_entropy(logits, labels)[1], cache)
        found, optimizer = [logits, dx, grads.flat, *cache.state.values()], optim.SGD(0.05)
        for _ in range(3):
            step(network, optimizer, x, labels)
        results.append([kernels.to_host(a).copy() for a in (*found, network.flat, network.state.flat)])
        twin = pickle.loads(pickle.dumps(network))
        np.testing.assert_array_equal(twin.state.flat, results[-1][-1])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-12 * max(1, np.abs(a).max(initial=0)))
    assert bool(here.state) == (norm == "batch")


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_norms_serve_activations_of_half_the_bytes(any_gpu, norm):
    here = Network(**CONFIG | {"depth": 1}, norm=norm)
    there, (x, labels) = here.to("gpu"), batch(here, 8)
    expected = float(step(here, optim.SGD(0.05), x, labels))
    with kernels.precision("bf16"):
        assert float(step(there, optim.SGD(0.05), x, labels)) == pytest.approx(expected, rel=0.02)
    for a, b in ((here.flat, there.flat), (here.state.flat, there.state.flat)):
        assert np.linalg.norm(b.get() - a) <= 0.02 * np.linalg.norm(a)


def test_a_gpus_step_that_cannot_be_made_leaves_the_statistics(any_gpu):
    network = Network(**CONFIG | {"depth": 1}, norm="batch").to("gpu")
    x, labels = batch(network, 8)
    step(network, optim.SGD(0.05), x, labels)
    before, x[0, 0, 0] = network.state.flat.get(), np.nan
    assert not np.isfinite(float(step(network, optim.SGD(0.05), x, labels)))
    np.testing.assert_array_equal(network.state.flat.get(), before)


def doubled(x):
    return x * 2


class Doubled(layers.Layer):
    """A layer of a user's, of which a GPU has no kernel."""

    def forward(self, x, *, training=False, rng=None):
        return kernels.run(doubled, x), None

    def backward(self, dy, cache):
        return kernels.run(doubled, dy), {}


def normed(c, k, **settings):
    """A block with what a GPU has no kernel of, and dropout of its own."""
    norm = layers.GroupNorm(k, 1, dtype=settings["dtype"])
    return layers.Sequential(layers.Conv2d(c, k, 3, **settings), norm, layers.ReLU(), Doubled(), layers.Dropout(0.3))


@pytest.mark.parametrize(
    ("settings", "loss"), [({}, "dice"), ({}, "cross_entropy+dice"), ({"block": "residual"}, "dice"), ({"block": normed}, "dice")]
)
def test_what_a_gpu_has_no_kernel_of_runs_there_as_it_is_defined_and_says_so_once(gpu, settings, loss, caplog):
    here = Network(1, 3, 4, 1, **settings)
    there = here.to("gpu")
    x, labels = batch(here)
    kernels._say_inherited.cache_clear()
    with caplog.at_level("INFO", "minunet.gpu"):
        curves = []
        for network in (here, there):
            optimizer, rng = optim.Adam(), np.random.default_rng(3)
            curves.append([float(step(network, optimizer, x, labels, loss=loss, rng=rng)) for _ in range(3)])
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-5)
    said = [line for line in caplog.messages if "doubled " in line]
    assert len(said) == ("block" in settings and settings["block"] is normed)
    assert not any("no CUDA graph" in line for line in caplog.messages)
