"""The U: shapes, names, parameters, memory manners. (Its gradient is proven in proof/.)"""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from oracles import assert_all_same

from minunet import Network, fusions, kernels, losses
from minunet.kernels import reference
from minunet.layers import places
from minunet.network import outlined
from minunet.summary import summarize
from minunet.training.step import passes

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
    plain = outlined(network.config).parameters
    assert [(name, p.shape) for name, p in network.parameters.items()] == [(name, p.shape) for name, p in plain.items()]


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
    shortcut = Network(1, 2, 32, 1, block="residual").parameters["encoder.1.shortcut.weight"]
    assert shortcut.std() == pytest.approx((1 / 32) ** 0.5, rel=0.1)  # no relu follows


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


@pytest.mark.parametrize("depth", [0, 2])
def test_loss_and_gradients_at_once_are_those_of_forward_loss_and_backward(backend, depth):
    network = Network(2, 3, 4, depth, dropout=0.3)
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((2, 8, 12, 2), np.float32), rng.integers(0, 3, (2, 8, 12))
    weights = rng.random(labels.shape, np.float32)
    logits, cache = network.forward(x, training=True, rng=np.random.default_rng(5))
    expected, dlogits = losses.softmax_cross_entropy(logits, labels, weights=weights)
    _, grads = network.backward(dlogits, cache, input_grad=False)
    loss, found = passes(network, losses.CrossEntropy(), x, losses.Target(labels, weights), np.random.default_rng(5))
    assert_all_same((loss, found), (expected, grads.flat))


def test_where_the_loss_is_not_finite_there_are_no_gradients(backend):
    network, x = Network(1, 2, 4, 1), np.full((1, 4, 4, 1), np.nan, np.float32)
    target = losses.Target(np.zeros((1, 4, 4), int), np.ones((1, 4, 4), np.float32))
    loss, grads = passes(network, losses.CrossEntropy(), x, target)
    assert np.isnan(loss) and grads is None
    with pytest.raises(ValueError, match=r"x has shape \(1, 4, 4\); this network takes"):
        passes(network, losses.CrossEntropy(), x[..., 0], target)


def test_gradients_that_do_not_fit_are_refused_and_the_cache_stays_whole(backend):
    network = Network(1, 2, 2, 1)
    x = np.random.default_rng(0).standard_normal((1, 4, 4, 1)).astype(np.float32)
    logits, cache = network.forward(x)
    with pytest.raises(ValueError, match=r"float64"):
        network.backward(logits.astype(float), cache)
    _, expected = network.backward(logits, network.forward(x)[1])
    np.testing.assert_array_equal(network.backward(logits, cache)[1].flat, expected.flat)


def test_the_input_gradient_that_nobody_wants_is_not_computed_but_every_other_is(backend, monkeypatch):
    asked = []

    def backward(dy, cache, *, input_grad=True):
        asked.append(input_grad)
        return compute(dy, cache, input_grad=input_grad)

    compute = fusions.conv2d_relu_backward
    monkeypatch.setattr(fusions, "conv2d_relu_backward", backward)
    network, x = Network(1, 2, 2, 2), np.ones((1, 8, 8, 1), np.float32)
    logits, cache = network.forward(x)
    network.backward(logits, cache, input_grad=False)
    target = losses.Target(np.zeros((1, 8, 8), int), np.ones((1, 8, 8), np.float32))
    passes(network, losses.CrossEntropy(), x, target)
    assert asked == 2 * [*9 * [True], False]  # two convolutions in each of two decoders and three encoders
    asked.clear()
    network.backward(*network.forward(x))
    assert asked == 10 * [True]


@pytest.mark.parametrize("depth", [1, 3])
def test_what_comes_up_is_written_beside_the_skip_so_that_to_join_them_costs_no_copy(backend, monkeypatch, depth):
    monkeypatch.setattr(reference, "concat", lambda left, right: pytest.fail("the halves were copied"))
    Network(1, 2, 4, depth)(np.zeros((2, 16, 8, 1), np.float32))


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
    assert (twin.u.encoder.parameters["conv1.weight"] == 7).all()
    np.testing.assert_array_equal(network.flat, before)


def test_inference_gives_the_same_bits(backend):
    network = Network(1, 2, 4, 2, dropout=0.5)
    x = np.random.default_rng(0).standard_normal((2, 16, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(network(x), network.forward(x)[0])


@pytest.mark.parametrize(
    ("settings", "shape", "says"),
    [
        ({}, (1, 8, 9, 1), r"width is 9; .* the nearest is 8 or 12"),
        ({}, (1, 11, 8, 1), r"height is 11; .* the nearest is 8 or 12"),
        ({}, (1, 2, 8, 1), r"height is 2; .* the nearest is 4"),
        ({"padding": "valid"}, (1, 45, 44, 1), r"height is 45; .* the nearest is 44 or 48"),
        ({}, (1, 8, 8, 3), r"shape \(1, 8, 8, 3\); this network takes \(N, H, W, 1\)"),
        ({}, (8, 8, 1), r"takes \(N, H, W, 1\)"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_with_what_would(settings, shape, says):
    with pytest.raises(ValueError, match=says):
        Network(1, 2, 2, 2, **settings)(np.zeros(shape, np.float32))


@pytest.mark.parametrize(("shape", "says"), [((1, 8, 10, 1), "level 1 is 4 x 5"), ((1, 10, 8, 1), "level 1 is 5 x 4")])
def test_a_level_pools_no_side_that_is_odd(shape, says):
    with pytest.raises(ValueError, match=rf"{says} pixels; it takes sides that halve evenly"):
        Network(1, 2, 2, 2).u.forward(np.zeros(shape, np.float32))


def test_an_input_of_another_dtype_is_refused():
    with pytest.raises(ValueError, match=r"float64; this network computes in float32"):
        Network(1, 2, 2, 1)(np.zeros((1, 4, 4, 1)))


@pytest.mark.parametrize(
    "settings",
    [
        {"in_channels": 0}, {"base_channels": 2.5}, {"depth": -1}, {"padding": "full"}, {"dropout": 1}, {"dtype": "int8"},
        {"algorithm": "fft"},
    ],
)  # fmt: skip
def test_what_no_network_can_be_is_refused_by_name(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Network(**({"base_channels": 2} | settings))


@pytest.mark.parametrize("block", ["double_conv", "residual"])
@pytest.mark.parametrize("algorithm", kernels.ALGORITHMS)
def test_the_algorithm_is_that_of_every_3x3_convolution_and_goes_with_copies(algorithm, block):
    network = Network(1, 2, 2, 1, algorithm=algorithm, block=block)
    for twin in (network, copy.deepcopy(network), pickle.loads(pickle.dumps(network)), Network(**network.config)):
        assert twin.algorithm == twin.config["algorithm"] == algorithm
        used = {name: getattr(layer, "algorithm", "auto") for name, (layer, _) in places(twin).items()}
        assert used == {name: algorithm if ".conv" in name else "auto" for name in used}
        assert repr(twin).count(f"algorithm={algorithm!r}") == (0 if algorithm == "auto" else 6)


@pytest.mark.parametrize("algorithm", kernels.ALGORITHMS)
def test_each_algorithm_computes_the_same_network(backend, algorithm):
    """Within what the largest error of each convolution lets expect; gradients where relu and pooling decide alike."""
    plain = Network(1, 2, 16, 2, dtype="float64", random_state=1)
    network = Network(1, 2, 16, 2, random_state=1, algorithm=algorithm)
    x = np.random.default_rng(0).standard_normal((2, 24, 20, 1))
    expected, cache = plain.forward(x)
    logits, single_cache = network.forward(x.astype(np.float32))
    assert np.abs(logits - expected).max() <= 5e-5 * np.abs(expected).max()
    _, expected_grads = plain.backward(expected, cache)
    _, grads = network.backward(expected.astype(np.float32), single_cache)
    for name, grad in grads.items():
        assert np.abs(grad - expected_grads[name]).max() <= 1e-3 * np.abs(expected_grads[name]).max(), name


def test_dropout_drops_in_training_alone(backend):
    network = Network(1, 2, 4, 1, dropout=0.5)
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 1)).astype(np.float32)
    dropped = [network.forward(x, training=True, rng=np.random.default_rng(seed))[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert (dropped[0] != dropped[2]).any()
    assert (dropped[0] != network(x)).any()


@pytest.mark.parametrize(("padding", "depth", "least"), [("same", 3, 8), ("valid", 1, 18), ("valid", 4, 188)])
def test_the_nearest_size_of_the_smallest_input_is_the_least_that_fits(padding, depth, least):
    network = Network(1, 2, 1, depth, padding=padding)
    with pytest.raises(ValueError, match=rf"is 1; .* the nearest is {least}\. "):
        network.output_size(1, 1)
    assert min(network.output_size(least, least)) > 0
