"""norm= of a network: what it computes, and its state, which goes wherever the weights go."""

import copy
import itertools
import json
import os
import pickle
import signal
import struct

import numpy as np
import pytest

import minunet
from minunet import ModelFileError, Network, UNet, blocks, kernels, layers, losses, modelfile, ops, optim, sizes
from minunet.evaluation.tiles import predict_proba
from minunet.tape import listening
from minunet.testing import check_network
from minunet.training import loop, step
from minunet.warmstart import take_weights

SMALL = {
    "base_channels": 2, "depth": 1, "patch_size": 16, "batch_size": 2, "max_epochs": 3, "verbose": 0, "random_state": 5,
    "validation_fraction": 0.0, "norm": "batch", "device": "cpu",
}  # fmt: skip
NORMS = list(blocks.NORMS)


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    monkeypatch.setattr("minunet.training.schedule.MIN_STEPS", 4)


def images(seed=0, n=3):
    x = np.random.default_rng(seed).random((n, 20, 24), np.float32)
    return x, (x > 0.6).astype(int)


def noise():
    """Return images and masks that have nothing to do with each other: some epoch in the midst is the best."""
    rng = np.random.default_rng(3)
    return rng.random((5, 20, 24), np.float32), rng.integers(0, 2, (5, 20, 24))


def example(seed=0, n=2, side=16):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, side, side, 1)).astype(np.float32), rng.integers(0, 2, (n, side, side))


def trained(norm="batch", **settings):
    """Return a network whose weights and state are not those of its beginning."""
    network, (x, labels) = Network(1, 2, 2, 1, norm=norm, **settings), example()
    for _ in range(3):
        step(network, optim.Adam(0.01), x, labels)
    return network


def arrays(network):
    return {name: a.copy() for name, a in {**network.parameters, **network.state}.items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, a in expected.items():
        np.testing.assert_array_equal(found[name], a, err_msg=name)


# ---- What it computes ----


@pytest.mark.parametrize("settings", [
    {"norm": "batch"}, {"norm": "batch", "block": "residual"}, {"norm": "group", "block": "residual"},
    {"norm": "instance", "padding": "valid"},
], ids=str)  # fmt: skip
def test_gradients_are_those_of_differences(settings):
    network = Network(1, 2, 2, 1, dtype="float64", random_state=3, **settings)
    side = network.fitting_output(4) + 2 * network.margin
    check_network(network, np.random.default_rng(0).standard_normal((2, side, side, 1)), directions=1)


@pytest.mark.parametrize(("norm", "groups"), [("group", 4), ("instance", 12), ("batch", None)])
def test_a_block_is_convolution_norm_relu_twice(backend, norm, groups):
    """Of 12 channels there are 4 groups: 8 do not cut them evenly."""
    block = blocks.double_conv(2, 12, padding=1, norm=norm, rng=np.random.default_rng(0), dtype="float64")
    assert list(block.children) == ["conv1", "norm1", "relu1", "conv2", "norm2", "relu2"]
    assert [type(layer) for layer in block.steps.values()] == [layers.Conv2d, layers.NormReLU] * 2
    assert "conv1.bias" not in block.parameters  # a norm takes away what it adds
    x = np.random.default_rng(1).standard_normal((2, 6, 7, 2))
    y, _ = block.forward(x, training=True)
    for i in "12":
        x, _ = ops.conv2d(x, block.parameters[f"conv{i}.weight"], padding=1)
        of = block.parameters[f"norm{i}.weight"], block.parameters[f"norm{i}.bias"]
        if norm == "batch":
            x, *_ = ops.batch_norm(x, *of, np.zeros(12), np.ones(12), training=True)
        else:
            x, _ = ops.group_norm(x, *of, groups=groups)
        x, _ = ops.relu(x)
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("norm", NORMS)
def test_a_residual_block_is_normalised_before_the_sum(backend, norm):
    block = blocks.Residual(2, 4, norm=norm, rng=np.random.default_rng(0), dtype="float64")
    assert list(block.path.children) == ["conv1", "norm1", "relu1", "conv2", "norm2"]
    x = np.random.default_rng(1).standard_normal((2, 6, 7, 2))
    path, shortcut = block.path.forward(x)[0], block.shortcut.forward(x)[0]
    np.testing.assert_array_equal(block.forward(x)[0], np.maximum(path + shortcut, 0))


@pytest.mark.parametrize("norm", NORMS)
def test_a_training_gives_the_same_bits_on_any_number_of_threads(norm):
    found = []
    for n in (1, 3):
        with kernels.threads(n):
            found.append(arrays(trained(norm)))
    assert_same(found[0], found[1])


def test_the_statistics_of_a_batch_are_those_of_loops(backend):
    rng = np.random.default_rng(0)
    x, old = rng.normal(5, 3, (3, 4, 5, 2)), (np.array([1.0, -2.0]), np.array([3.0, 0.5]))
    gamma, beta = rng.standard_normal((2, 2))
    y, (mean, variance), _ = ops.batch_norm(x, gamma, beta, *old, training=True, momentum=0.25, epsilon=0.5)
    for c in range(2):
        values = x[..., c].ravel().tolist()
        of_batch = sum(values) / 60
        squares = sum((v - of_batch) ** 2 for v in values)
        np.testing.assert_allclose(mean[c], 0.75 * old[0][c] + 0.25 * of_batch, rtol=1e-12)
        np.testing.assert_allclose(variance[c], 0.75 * old[1][c] + 0.25 * squares / 59, rtol=1e-12)
        normal = (x[..., c] - of_batch) / (squares / 60 + 0.5) ** 0.5
        np.testing.assert_allclose(y[..., c], gamma[c] * normal + beta[c], rtol=1e-11, atol=1e-12)
    y, statistics, _ = ops.batch_norm(x, gamma, beta, *old, training=False, epsilon=0.5)
    np.testing.assert_allclose(y, gamma * (x - old[0]) / np.sqrt(old[1] + 0.5) + beta, rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(statistics, old)


@pytest.mark.parametrize("shape", [(1, 1, 1, 2), (0, 4, 4, 2)])
def test_a_batch_of_one_number_a_channel_is_too_small(backend, shape):
    x, of = np.ones(shape), [np.ones(2)] * 4
    with pytest.raises(ValueError, match=r'n. number a channel, .*batch norm .*batch_size .*norm="group"'):
        ops.batch_norm(x, *of, training=True)
    assert ops.batch_norm(x, *of, training=False)[0].shape == shape


def test_a_batch_that_is_too_small_is_told_before_anything_is_trained():
    unet = UNet(**SMALL | {"depth": 2, "patch_size": 4, "batch_size": 1})
    with pytest.raises(ValueError, match=r"^batch_size is 1 with patches of 4 x 4 pixels, .* \(depth=2\) has one number"):
        unet.fit(np.random.default_rng(0).random((3, 4, 4)), np.eye(4, dtype=int)[None].repeat(3, 0))
    assert not hasattr(unet, "network_")


# ---- Its state ----


def test_a_step_moves_the_statistics_and_a_forward_changes_nothing(backend):
    network, (x, labels) = Network(1, 2, 2, 1, norm="batch", random_state=1), example()
    before = arrays(network)
    first, _ = ops.conv2d(x, network.parameters["encoder.0.conv1.weight"], padding=1)
    logits, cache = network.forward(x, training=True)
    network.backward(losses.softmax_cross_entropy(logits, labels)[1], cache)
    assert_same(arrays(network), before)
    assert cache.state.keys() == network.state.keys()
    step(network, optim.Adam(), x, labels)
    assert_same(arrays(network) | {}, arrays(network) | dict(cache.state))
    mean, variance = (network.state[f"encoder.0.norm1.running_{of}"] for of in ("mean", "var"))
    np.testing.assert_allclose(mean, 0.1 * first.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(variance, 0.9 + 0.1 * first.var(axis=(0, 1, 2), ddof=1), rtol=1e-5)
    network(x)
    assert_same(arrays(network) | dict(cache.state), arrays(network))


@pytest.mark.parametrize("value", [np.nan, 1e22])
def test_a_step_that_cannot_be_made_leaves_the_statistics(value):
    """Of 1e22 the squares overflow: normalised, the batch would be 0 with a loss like any other."""
    network, (x, labels) = trained(), example()
    before, x[0, 0, 0] = arrays(network), value
    try:
        assert not np.isfinite(step(network, optim.Adam(), x, labels))
    except FloatingPointError as error:
        assert "is not finite: the network was left as it is" in str(error)
    assert_same(arrays(network), before)


def test_a_layer_leaves_its_statistics_only_in_training():
    layer, x = layers.BatchNorm(2), example()[0].repeat(2, axis=3)
    with listening() as left:
        layer.forward(x)
    assert not left
    with listening() as left:
        layer.forward(x, training=True)
    assert left[layer].keys() == layer.state.keys()
    np.testing.assert_array_equal(layer.state["running_mean"], 0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_copies_have_it(copied):
    network = trained()
    twin = copied(network)
    assert_same(arrays(twin), arrays(network))
    step(twin, optim.Adam(), *example(1))
    assert (twin.state.flat != network.state.flat).any()
    x = example()[0]
    np.testing.assert_array_equal(network(x), copied(network)(x))


def test_a_model_file_has_it(tmp_path):
    network = trained()
    modelfile.save(tmp_path / "model", network, {})
    loaded, _ = modelfile.load(tmp_path / "model")
    assert loaded.norm == "batch"
    assert_same(arrays(loaded), arrays(network))
    x = example()[0]
    np.testing.assert_array_equal(loaded(x), network(x))


def damaged(path, name, change):
    """Write a file's tensor anew, without the sums that would tell."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8:start]), bytearray(data[start:])
    text = header["__metadata__"]
    model = json.loads(text["model"])
    del text["sha256_description"], text["sha256_weights"], model["sealed"]
    text["model"] = json.dumps(model)
    first, last = header[name]["data_offsets"]
    body[first:last] = change(np.frombuffer(body[first:last], "<f4").copy()).tobytes()
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + body)


@pytest.mark.parametrize(("value", "told"), [(-1e-3, "below 0, which no variance has"), (np.nan, "that are not finite")])
def test_statistics_that_none_can_be_are_refused(tmp_path, value, told):
    name = "encoder.1.norm2.running_var"
    modelfile.save(tmp_path / "model", trained(), {})
    damaged(tmp_path / "model", name, lambda a: np.where(np.arange(len(a)) == 1, np.float32(value), a))
    with pytest.raises(ModelFileError, match=f"{name} holds values {told}"):
        modelfile.load(tmp_path / "model")
    network = trained()
    network.state[name][1] = value
    with pytest.raises(ValueError, match=f"{name} holds values {told}"):
        modelfile.save(tmp_path / "other", network, {})
    assert not (tmp_path / "other").exists()


def test_what_a_file_says_of_its_norm_is_held_against_its_tensors(tmp_path):
    modelfile.save(tmp_path / "model", trained(), {})
    data = (tmp_path / "model").read_bytes()
    others = {'"group"': "running_mean' is not of this network", '"layer"': "network.norm is 'layer'; this minunet"}
    for other, told in others.items():
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        network = header["__metadata__"]["network"]
        header["__metadata__"]["network"] = network.replace('"norm": "batch"', f'"norm": {other}')
        raw = json.dumps(header).encode()
        (tmp_path / "model").write_bytes(struct.pack("<Q", len(raw)) + raw + data[start:])
        with pytest.raises(ModelFileError, match=told):
            modelfile.load(tmp_path / "model")


def stopping(monkeypatch, after):
    left = itertools.count(after, -1)

    def pressed(*arguments, **options):
        if next(left) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(*arguments, **options)

    monkeypatch.setattr(loop, "step", pressed)


BEST = {"early_stopping": True, "validation_fraction": 0.4, "learning_rate": 0.1, "max_epochs": 5}


@pytest.mark.parametrize("settings", [{}, {"norm": "group"}, BEST], ids=str)
def test_a_training_that_is_gone_on_with_is_the_one_that_was_never_stopped(tmp_path, monkeypatch, settings):
    settings, data = SMALL | settings, noise() if settings is BEST else images()
    whole = UNet(**settings).fit(*data)
    for after in (6, 4 * settings["max_epochs"] - 2):  # within an epoch, the last one too
        stopping(monkeypatch, after)
        with pytest.warns(UserWarning, match="interrupted"):
            UNet(**settings).fit(*data, checkpoint=tmp_path / f"{after}")
        stopping(monkeypatch, 10**9)
        resumed = UNet(**settings).fit(*data, checkpoint=tmp_path / f"{after}", resume=True)
        assert_same(arrays(resumed.network_), arrays(whole.network_))
        assert_same(arrays(minunet.load(tmp_path / f"{after}").network_), arrays(whole.network_))


def test_the_model_of_the_best_epoch_has_the_best_epochs_statistics(monkeypatch):
    def recorded(network, *arguments, **options):
        made.append(arrays(network))
        return step(network, *arguments, **options)

    made = []
    monkeypatch.setattr(loop, "step", recorded)
    unet = UNet(**SMALL | BEST).fit(*noise())
    best = int(np.argmax(unet.history_["val_dice"]))
    assert len(made) == 20 and best < 4  # or there would be nothing to see
    assert_same(arrays(unet.network_), made[4 * (best + 1)])


def test_what_fails_leaves_the_weights_and_the_statistics_of_one_moment(monkeypatch):
    def failing(network, *arguments, **options):
        made.append(arrays(network))
        if len(made) == 7:
            raise MemoryError("short")
        return step(network, *arguments, **options)

    made, unet = [], UNet(**SMALL)
    monkeypatch.setattr(loop, "step", failing)
    with pytest.raises(MemoryError):
        unet.fit(*images())
    assert unet.n_iter_ == 1
    assert_same(arrays(unet.network_), made[4])  # an epoch has 4 steps


def test_a_warm_start_goes_on_with_them():
    older, network = trained(), Network(1, 3, 2, 1, norm="batch")
    take_weights(network, np.arange(3), older, np.array([0, 2]))
    np.testing.assert_array_equal(network.state.flat, older.state.flat)
    unet = UNet(**SMALL).fit(*images())
    with pytest.raises(ValueError, match="norm is 'group'; it takes 'batch', as the model has that warm_start"):
        unet.set_params(norm="group", warm_start=True).fit(*images())


# ---- Prediction, and blocks of one's own ----


@pytest.mark.parametrize("norm", [None, *NORMS])
def test_tiles_see_all_that_they_must(norm):
    """With the running statistics a pixel sees no further than without a norm; with an image's own, all of it."""
    network = trained(norm, algorithm="direct")
    assert sizes.halo(network) == (sizes.halo(Network(1, 2, 2, 1)) if norm in (None, "batch") else None)
    image = np.random.default_rng(2).standard_normal((83, 41, 1)).astype(np.float32)
    np.testing.assert_allclose(predict_proba(network, image, max_bytes=1), predict_proba(network, image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_a_summary_tells_how_far_a_pixel_sees(norm):
    plain, found = (UNet(**SMALL | {"norm": of}).summary((32, 32)) for of in (None, norm))
    fields = {step.name: step.receptive_field for step in plain.steps}
    for step_ in found.steps:
        name = step_.name.replace("norm", "conv")
        assert step_.receptive_field == (fields[name] if norm == "batch" or step_.name == "encoder.0.conv1" else None)
    assert found.norm == norm and found.flops == plain.flops


@pytest.mark.parametrize("norm", NORMS)
def test_a_network_keeps_where_it_lies_and_what_it_is_in_a_config(norm):
    network = trained(norm)
    assert Network(**network.config).norm == norm and network.to("cpu") is network
    assert bool(network.state) == (norm == "batch")
    names = {name.split(".", 2)[-1] for name in network.parameters if ".norm1." in name}
    assert names == {"norm1.weight", "norm1.bias"}


def test_a_block_of_ones_own_is_told_the_norm_if_it_asks():
    def asks(c, k, *, norm, **settings):
        told.append(norm)
        return blocks.double_conv(c, k, norm=norm, **settings)

    def plain(c, k, **settings):
        return layers.Conv2d(c, k, 3, **settings)

    told = []
    assert Network(1, 2, 2, 1, block=asks, norm="batch").state
    assert set(told) == {"batch"}
    Network(1, 2, 2, 1, block=plain)
    with pytest.raises(ValueError, match=r"norm is 'batch'; it takes None with the block .*, a function without a parameter"):
        Network(1, 2, 2, 1, block=plain, norm="batch")
    for wrong in ("layer", 3, ["batch"]):
        with pytest.raises(ValueError, match=r"norm is .*; it takes None or 'batch' or 'group' or 'instance'"):
            Network(1, 2, 2, 1, norm=wrong)


@pytest.mark.parametrize("depth", [0, 1])
def test_a_batch_too_small_is_told_in_the_words_of_the_one_who_trains(depth):
    x, y = np.arange(64.0).reshape(1, 8, 8), np.eye(8, dtype=int)[None]
    unet = UNet(base_channels=2, depth=depth, norm="batch", batch_size=1, patch_size=2**depth, max_epochs=1, verbose=0)
    for call in (unet.fit, unet.find_learning_rate):
        with pytest.raises(ValueError, match=rf"^batch_size is 1 with patches of (1 x 1|2 x 2) pixels, .*depth={depth}\) has"):
            call(x, y)
    assert not hasattr(unet, "network_")
    assert unet.set_params(batch_size=2).fit(x, y).n_iter_ == 1
