"""The U: shapes, names, parameters, memory manners; its gradient against finite differences; parity with PyTorch's numbers."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import oracles
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minunet import Network, losses
from minunet.network import parameter_shapes
from minunet.summary import summarize

FIXTURES = sorted((Path(__file__).parents[1] / "data").glob("torch_*.npz"))

# The seed's comments, (B, C, H, W), and the same step here, (N, H, W, C).
SEED_SHAPES = {
    "encoder.0.conv2": (1, 64, 512, 512),
    "pool.0": (1, 64, 256, 256),
    "encoder.1.conv2": (1, 128, 256, 256),
    "pool.1": (1, 128, 128, 128),
    "encoder.2.conv2": (1, 256, 128, 128),
    "pool.2": (1, 256, 64, 64),
    "encoder.3.conv2": (1, 512, 64, 64),
    "pool.3": (1, 512, 32, 32),
    "encoder.4.conv2": (1, 1024, 32, 32),
    "decoder.3.up": (1, 512, 64, 64),
    "decoder.3.conv2": (1, 512, 64, 64),
    "decoder.2.up": (1, 256, 128, 128),
    "decoder.2.conv2": (1, 256, 128, 128),
    "decoder.1.up": (1, 128, 256, 256),
    "decoder.1.conv2": (1, 128, 256, 256),
    "decoder.0.up": (1, 64, 512, 512),
    "decoder.0.conv2": (1, 64, 512, 512),
    "head": (1, 2, 512, 512),
}


def test_31_030_658_parameters_and_the_shape_of_every_step():
    network = Network()
    assert network.n_parameters == 31_030_658
    steps = {step.name: step for step in summarize(network, (512, 512)).steps}
    for name, (n, c, h, w) in SEED_SHAPES.items():
        assert steps[name].shape == (n, h, w, c), name
    assert sum(step.n_parameters for step in steps.values()) == network.n_parameters


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_forward_pass_has_the_shapes_that_the_summary_says(backend, padding, monkeypatch):
    network = Network(1, 2, 2, 2, padding=padding)
    seen = []
    for name in ("conv2d", "conv_transpose2d", "max_pool2d"):
        op = getattr(__import__("minunet.ops", fromlist=[name]), name)

        def record(*args, _op=op, **options):
            y, cache = _op(*args, **options)
            seen.append(y.shape)
            return y, cache

        monkeypatch.setattr(f"minunet.ops.{name}", record)
    side = 16 if padding == "same" else 44
    network(np.zeros((1, side, side, 1), np.float32))
    assert seen == [step.shape for step in summarize(network, (side, side)).steps]


def test_valid_convolutions_map_572_to_388_and_the_paper_steps_between():
    steps = [step.shape[1] for step in summarize(Network(1, 2, 2, padding="valid"), (572, 572)).steps]
    assert steps == [
        570, 568, 284, 282, 280, 140, 138, 136, 68, 66, 64, 32, 30, 28,
        56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388, 388,
    ]  # fmt: skip
    assert Network(1, 2, 2, padding="valid").output_size(572, 572) == (388, 388)
    assert Network(1, 2, 2, padding="valid").margin == 92


def test_parameters_are_named_in_the_order_in_which_backward_makes_them():
    network = Network(1, 2, 2, 2)
    layers = ["head"]
    layers += [f"decoder.{i}.{layer}" for i in (0, 1) for layer in ("conv2", "conv1", "up")]
    layers += [f"encoder.{i}.{layer}" for i in (2, 1, 0) for layer in ("conv2", "conv1")]
    assert list(network.parameters) == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    assert {name: p.shape for name, p in network.parameters.items()} == parameter_shapes(**network.config)


def test_parameters_are_aligned_views_of_one_array_and_cannot_be_rebound():
    network = Network(1, 2, 3, 1)
    network.flat[:] = 7
    for p in network.parameters.values():
        assert (p == 7).all()
        assert p.ctypes.data % 64 == 0
    network.parameters["head.bias"][...] = 3
    np.testing.assert_array_equal(network.head.parameters["bias"], 3)
    with pytest.raises(TypeError, match=r"parameters\['head.bias'\]\[\.\.\.\] = value"):
        network.parameters["head.bias"] = np.zeros(2)


def test_weights_start_as_he_normal_and_biases_at_zero():
    network = Network(1, 2, 32, 2)
    for name, fan_in, gain in (("encoder.1.conv2", 9 * 64, 2), ("decoder.1.up", 128, 2), ("decoder.0.conv1", 9 * 64, 2)):
        w = network.parameters[f"{name}.weight"]
        assert w.std() == pytest.approx((gain / fan_in) ** 0.5, rel=0.05)
        assert abs(w.mean()) < 4 * w.std() / w.size**0.5
        assert (network.parameters[f"{name}.bias"] == 0).all()
    assert Network(1, 64, 64, 0).parameters["head.weight"].std() == pytest.approx((1 / 64) ** 0.5, rel=0.1)


def test_the_seed_decides_the_weights():
    np.testing.assert_array_equal(Network(1, 2, 2, 1, random_state=3).flat, Network(1, 2, 2, 1, random_state=3).flat)
    assert (Network(1, 2, 2, 1, random_state=3).flat != Network(1, 2, 2, 1, random_state=4).flat).any()


def test_repr_is_the_tree_of_layers():
    text = repr(Network(1, 2, 64, 1))
    assert text.startswith("Network(\n  (encoder.0): Sequential(\n    (conv1): Conv2d(1, 64, kernel_size=(3, 3), stride")
    assert "(pool): MaxPool2d(kernel_size=(2, 2), stride=(2, 2))" in text
    assert "(decoder.0.up): ConvTranspose2d(128, 64, kernel_size=(2, 2), stride=(2, 2)" in text
    assert text.endswith("(head): Conv2d(64, 2, kernel_size=(1, 1), stride=(1, 1), padding=(0, 0))\n)")


def test_a_cache_serves_one_backward(backend):
    network = Network(1, 2, 2, 1)
    logits, cache = network.forward(np.zeros((1, 4, 4, 1), np.float32))
    dx, grads = network.backward(logits, cache, input_grad=False)
    assert dx is None
    assert list(grads) == list(network.parameters)
    with pytest.raises(ValueError, match="run forward again"):
        network.backward(logits, cache)


def test_gradients_that_do_not_fit_are_refused_and_the_cache_stays_whole(backend):
    network = Network(1, 2, 2, 1)
    x = np.random.default_rng(0).standard_normal((1, 4, 4, 1)).astype(np.float32)
    logits, cache = network.forward(x)
    with pytest.raises(ValueError, match=r"float64"):
        network.backward(logits.astype(float), cache)
    _, expected = network.backward(logits, network.forward(x)[1])
    np.testing.assert_array_equal(network.backward(logits, cache)[1].flat, expected.flat)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_a_copy_of_a_network_is_a_network_of_its_own_whose_parameters_are_views_too(duplicate):
    network = Network(1, 2, 3, 1)
    before = network.flat.copy()
    twin = duplicate(network)
    np.testing.assert_array_equal(twin.flat, before)
    twin.flat[:] = 7  # what an optimiser does
    for name, p in twin.parameters.items():
        assert (p == 7).all(), name
        assert p.ctypes.data % 64 == 0
    assert (twin.head.parameters["weight"] == 7).all()
    assert (twin.encoder[0].parameters["conv1.weight"] == 7).all()
    np.testing.assert_array_equal(network.flat, before)


def test_inference_gives_the_same_bits(backend):
    network = Network(1, 2, 4, 2, dropout=0.5)
    x = np.random.default_rng(0).standard_normal((2, 16, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(network(x), network.forward(x)[0])


@pytest.mark.parametrize(
    ("settings", "shape", "says"),
    [
        ({}, (1, 8, 9, 1), r"width is 9; .* the nearest is 8 or 12"),
        ({}, (1, 2, 8, 1), r"height is 2; .* the nearest is 4"),
        ({"padding": "valid"}, (1, 45, 44, 1), r"height is 45; .* the nearest is 44 or 48"),
        ({}, (1, 8, 8, 3), r"shape \(1, 8, 8, 3\); this network takes \(N, H, W, 1\)"),
        ({}, (8, 8, 1), r"takes \(N, H, W, 1\)"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_with_what_would(settings, shape, says):
    with pytest.raises(ValueError, match=says):
        Network(1, 2, 2, 2, **settings)(np.zeros(shape, np.float32))


def test_an_input_of_another_dtype_is_refused():
    with pytest.raises(ValueError, match=r"float64; this network computes in float32"):
        Network(1, 2, 2, 1)(np.zeros((1, 4, 4, 1)))


@pytest.mark.parametrize(
    "settings",
    [{"in_channels": 0}, {"base_channels": 2.5}, {"depth": -1}, {"padding": "full"}, {"dropout": 1}, {"dtype": "int8"}],
)
def test_what_no_network_can_be_is_refused_by_name(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Network(**({"base_channels": 2} | settings))


configurations = st.fixed_dictionaries(
    {
        "in_channels": st.integers(1, 3), "out_channels": st.integers(1, 3), "base_channels": st.integers(1, 3),
        "depth": st.integers(0, 2), "padding": st.sampled_from(["same", "valid"]), "dropout": st.sampled_from([0.0, 0.4]),
        "random_state": st.integers(0, 10**6),
    }
)  # fmt: skip


@given(config=configurations, seed=oracles.seeds)
def test_the_loss_gradient_agrees_with_finite_differences(backend, config, seed):
    network = Network(**config, dtype="float64")
    rng = np.random.default_rng(seed)
    cell = 2**network.depth
    h, w = (cell * int(k) for k in rng.integers(1, 3, 2)) if network.padding == "same" else (
        network.fitting_output(int(k)) + 2 * network.margin for k in rng.integers(1, 3, 2)
    )  # fmt: skip
    x = rng.standard_normal((2, h, w, network.in_channels))
    for name, p in network.parameters.items():
        if name.endswith("bias"):
            p[...] = rng.normal(0, 0.3, p.shape)
    labels = rng.integers(0, network.out_channels, (2, *network.output_size(h, w)))
    weights = rng.uniform(0.1, 2, labels.shape)

    def loss(values):
        network.flat[:] = flat
        network.parameters[name][...] = values
        logits = network.forward(x, training=True, rng=np.random.default_rng(seed))[0]
        return float(losses.softmax_cross_entropy(logits, labels, weights=weights)[0])

    flat = network.flat.copy()
    logits, cache = network.forward(x, training=True, rng=np.random.default_rng(seed))
    _, dlogits = losses.softmax_cross_entropy(logits, labels, weights=weights)
    dx, grads = network.backward(dlogits, cache)
    scale = max(np.abs(g).max() for g in grads.values())
    agree = 0
    for name, p in list(network.parameters.items()):
        value = p.copy()
        direction = rng.standard_normal(value.shape)
        direction /= np.sqrt((direction**2).sum())
        slope = slope_between_kinks(lambda t, v=value, d=direction: loss(v + t * d))
        if slope is None:  # a relu or a pooling changed its mind within every step: no derivative to compare with
            continue
        agree += 1
        expected = (grads[name] * direction).sum()
        assert abs(slope - expected) <= 1e-7 * max(abs(slope), abs(expected), 1e-2 * scale, 1e-9), name
    assume(agree)
    network.flat[:] = flat
    direction = rng.standard_normal(x.shape)

    def loss_of_input(t):
        logits = network.forward(x + t * direction, training=True, rng=np.random.default_rng(seed))[0]
        return float(losses.softmax_cross_entropy(logits, labels, weights=weights)[0])

    slope = slope_between_kinks(loss_of_input)
    if slope is not None:
        expected = (dx * direction).sum()
        assert abs(slope - expected) <= 1e-7 * max(abs(slope), abs(expected), np.abs(dx * direction).max(), 1e-9)


def slope_between_kinks(function):
    """Return the derivative at 0 by fourth-order central differences whose two steps agree; None across kinks."""
    for exponent in range(-10, -19, -2):
        estimates = [fourth_order(function, 2.0 ** (exponent - k)) for k in (0, 1)]
        if abs(estimates[0] - estimates[1]) <= 2e-8 * max(map(abs, estimates)) + 1e-11:
            return estimates[1]
    return None


def fourth_order(function, h):
    """(8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12 h, with an error of order h^4."""
    return (8 * (function(h) - function(-h)) - (function(2 * h) - function(-2 * h))) / (12 * h)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_logits_and_every_gradient_equal_pytorch_numbers(backend, path):
    with np.load(path) as saved:
        arrays = dict(saved)
    network = Network(**json.loads(str(arrays["config"])), dtype="float64")
    for name, p in network.parameters.items():
        p[...] = arrays["p." + name]
    logits, cache = network.forward(arrays["x"])
    _, dlogits = losses.softmax_cross_entropy(logits, arrays["labels"])
    dx, grads = network.backward(dlogits, cache)
    assert oracles.relative_error(logits, arrays["logits"]) < 1e-12
    assert oracles.relative_error(dx, arrays["dx"]) < 1e-12
    for name, grad in grads.items():
        assert oracles.relative_error(grad, arrays["g." + name]) < 1e-12, name


def test_the_fixtures_are_there_and_small():
    assert [path.stem for path in FIXTURES] == ["torch_same", "torch_valid"]
    assert sum(path.stat().st_size for path in FIXTURES) < 200_000
