"""Layers on their own: their ops, their gradients' names, how their weights start, and what Sequential fuses."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet import kernels, ops
from minunet.layers import Conv2d, ConvReLU, ConvTranspose2d, Dropout, GroupNorm, Layer, MaxPool2d, ReLU, Sequential
from minunet.tape import forgetting
from minunet.testing import strategies


def rng(seed=0):
    return np.random.default_rng(seed)


LAYERS = {
    "Conv2d": lambda: Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0), rng=rng(), dtype="float64"),
    "ConvTranspose2d": lambda: ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1, rng=rng(), dtype="float64"),
    "MaxPool2d": lambda: MaxPool2d(3, stride=2),
    "ReLU": ReLU,
    "Dropout": lambda: Dropout(0.25),
    "Sequential": lambda: Sequential(
        ReLU(), Conv2d(2, 3, 3, rng=rng(), dtype="float64"), ReLU(), MaxPool2d(2, stride=1),
        Conv2d(3, 1, 1, rng=rng(1), dtype="float64"),
    ),
}  # fmt: skip


def same_gradients(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("name", LAYERS)
@given(seed=oracles.seeds)
def test_a_layer_alone_gives_its_jacobian_and_names_its_gradients(backend, name, seed):
    layer, random = LAYERS[name](), rng(seed)
    x = strategies.tie_free(random, (2, 6, 5, 2))  # neither near a kink nor tied
    for p in layer.parameters.values():
        p[...] = random.standard_normal(p.shape)

    def forward(*arrays):
        for p, value in zip(layer.parameters.values(), arrays[1:], strict=True):
            p[...] = value
        return layer.forward(arrays[0], training=True, rng=rng(seed))

    arrays = [x, *(p.copy() for p in layer.parameters.values())]
    y, cache = forward(*arrays)
    dy = random.standard_normal(y.shape)
    dx, grads = layer.backward(dy, cache)
    assert sorted(grads) == sorted(layer.parameters)
    assert {key: grad.shape for key, grad in grads.items()} == {key: p.shape for key, p in layer.parameters.items()}
    gradients = [dx, *(grads[key] for key in layer.parameters)]
    if name != "Sequential":  # linear in each argument between kinks: no truncation error
        error = oracles.directional_error(lambda *a: forward(*a)[0], arrays, gradients, dy, random, step=2.0**-3)
        assert error < 1e-10
    if layer.children:
        with pytest.raises(ValueError, match="the cache is empty: a backward has used it up"):
            layer.backward(dy, cache)
        return
    before = [g.copy() for g in gradients]
    dx, grads = layer.backward(dy, cache)  # the cache of a layer that has no children serves again
    for a, b in zip([dx, *(grads[key] for key in layer.parameters)], before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_are_their_ops(backend, dtype):
    x = rng().standard_normal((2, 7, 6, 3)).astype(dtype)
    conv = Conv2d(3, 4, (3, 2), stride=(2, 1), padding=1, rng=rng(), dtype=dtype)
    up = ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1, rng=rng(), dtype=dtype)
    for layer, op, backward, options in (
        (conv, ops.conv2d, ops.conv2d_backward, {"stride": (2, 1), "padding": 1}),
        (up, ops.conv_transpose2d, ops.conv_transpose2d_backward, {"stride": 2, "padding": 1, "output_padding": 1}),
        (MaxPool2d(3, 2), ops.max_pool2d, ops.max_pool2d_backward, {"window": 3, "stride": 2}),
        (ReLU(), ops.relu, ops.relu_backward, {}),
        (GroupNorm(3, 3, dtype=dtype), ops.group_norm, ops.group_norm_backward, {"groups": 3}),
    ):
        y, cache = layer.forward(x)
        expected, op_cache = op(x, *layer.parameters.values(), **options)
        np.testing.assert_array_equal(y, expected)
        assert y.dtype == dtype
        dx, grads = layer.backward(y, cache)
        for found, gradient in zip([dx, *grads.values()], backward(y, op_cache), strict=True):
            np.testing.assert_array_equal(found, gradient)
            assert found.dtype == dtype


@pytest.mark.parametrize("algorithm", kernels.ALGORITHMS)
def test_a_convolution_is_computed_forth_and_back_by_its_algorithm(backend, algorithm):
    """In float32, where Winograd's round otherwise than the plain sum."""
    x = rng().standard_normal((2, 9, 10, 40)).astype(np.float32)
    layer = Conv2d(40, 48, padding=1, algorithm=algorithm, rng=rng())
    y, cache = layer.forward(x)
    dx, grads = layer.backward(y, cache)
    with kernels.algorithm(algorithm):
        expected, op_cache = ops.conv2d(x, *layer.parameters.values(), padding=1)
        gradients = ops.conv2d_backward(y, op_cache)
    np.testing.assert_array_equal(y, expected)
    for found, gradient in zip([dx, *grads.values()], gradients, strict=True):
        np.testing.assert_array_equal(found, gradient)
    if algorithm.startswith("winograd") and not backend.__name__.endswith("reference"):
        with kernels.algorithm("direct"):
            assert (y != ops.conv2d(x, *layer.parameters.values(), padding=1)[0]).any()


@pytest.mark.parametrize(
    ("layer", "variance"),
    [
        (lambda: Conv2d(64, 48, 3, rng=rng()), 2),
        (lambda: Conv2d(64, 48, (1, 5), rng=rng(), gain=1.0), 1),
        (lambda: Conv2d(256, 48, 1, rng=rng()), 2),
        (lambda: ConvTranspose2d(128, 48, 2, rng=rng()), 2),
        (lambda: ConvTranspose2d(64, 48, 4, rng=rng()), 2),  # each output pixel is reached through 4 of the 16 taps
        (lambda: ConvTranspose2d(64, 48, 3, stride=1, rng=rng()), 2),
    ],
)
def test_weights_start_so_that_a_unit_input_gives_the_variance_of_the_gain(layer, variance):
    layer = layer()
    y, _ = layer.forward(rng(1).standard_normal((4, 20, 20, layer.in_channels)).astype(np.float32))
    assert y[:, 4:-4, 4:-4].var() == pytest.approx(variance, rel=0.08)
    weight = layer.parameters["weight"]
    assert abs(weight.mean()) < 4 * weight.std() / np.sqrt(weight.size)
    assert (np.abs(weight) < 2 * weight.std()).mean() == pytest.approx(0.9545, abs=0.01)  # normal, not uniform
    assert (layer.parameters["bias"] == 0).all()
    assert {p.dtype for p in layer.parameters.values()} == {np.dtype("float32")}


def test_the_generator_decides_the_weights():
    first, second, other = (Conv2d(2, 3, rng=rng(seed)).parameters["weight"] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    assert (Conv2d(2, 3).parameters["weight"] != Conv2d(2, 3).parameters["weight"]).any()


def test_shapes_of_parameters():
    shapes = {name: p.shape for name, p in Conv2d(2, 3, (5, 4)).parameters.items()}
    assert shapes == {"weight": (5, 4, 2, 3), "bias": (3,)}
    shapes = {name: p.shape for name, p in ConvTranspose2d(2, 3, (5, 4)).parameters.items()}
    assert shapes == {"weight": (5, 4, 3, 2), "bias": (3,)}


def test_repr_says_how_to_make_it_again():
    assert repr(Conv2d(1, 64, 3, padding=1)) == "Conv2d(1, 64, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))"
    up = "ConvTranspose2d(8, 4, kernel_size=(2, 2), stride=(2, 2), padding=(0, 0), output_padding=(1, 1))"
    assert repr(ConvTranspose2d(8, 4, output_padding=1)) == up
    plain = "Conv2d(1, 64, kernel_size=(3, 3), stride=(1, 1), padding=(0, 0), algorithm='direct')"
    assert repr(Conv2d(1, 64, algorithm="direct")) == repr(eval(plain)) == plain
    assert repr(MaxPool2d(2)) == "MaxPool2d(kernel_size=(2, 2), stride=(2, 2))"
    assert repr(MaxPool2d((3, 2), 1)) == "MaxPool2d(kernel_size=(3, 2), stride=(1, 1))"
    assert repr(Sequential(ReLU(), Dropout(0.5))) == "Sequential(\n  (0): ReLU()\n  (1): Dropout(rate=0.5)\n)"
    for text in (repr(make()) for name, make in LAYERS.items() if name != "Sequential"):
        assert repr(eval(text)) == text


def test_dropout_works_in_training_alone():
    x = np.ones((1, 50, 50, 4), np.float32)
    layer = Dropout(0.5)
    for y, cache in (layer.forward(x), Dropout(0.0).forward(x, training=True)):
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(layer.backward(2 * x, cache)[0], 2 * x)
    y, cache = layer.forward(x, training=True, rng=rng())
    assert set(np.unique(y)) == {0, 2}
    np.testing.assert_array_equal(layer.backward(3 * x, cache)[0], 3 * y)
    np.testing.assert_array_equal(y, layer.forward(x, training=True, rng=rng())[0])
    with pytest.raises(ValueError, match=r"rng is None; Dropout in training takes a numpy.random.Generator"):
        layer.forward(x, training=True)


ACTIVE = {"0": Conv2d(2, 3, 3, padding=1, rng=rng(0)), "2": Conv2d(3, 2, 1, rng=rng(1))}


@given(seed=oracles.seeds)
def test_a_fused_row_equals_its_layers_one_by_one_bit_for_bit(backend, seed):
    layers = [ACTIVE["0"], ReLU(), ACTIVE["2"], ReLU(), ReLU(), MaxPool2d(2)]
    row, x = Sequential(*layers), rng(seed).standard_normal((2, 6, 5, 2)).astype(np.float32)
    y, caches = row.forward(x)
    assert len(caches) == 4  # conv and relu, conv and relu, the second relu alone, the pooling
    a, tape = x, []
    for layer in layers:
        a, cache = layer.forward(a)
        tape.append(cache)
    np.testing.assert_array_equal(y, a)
    dy = rng(seed + 1).standard_normal(y.shape).astype(np.float32)
    dx, grads = row.backward(dy, caches)
    expected = {}
    for i, layer in reversed(list(enumerate(layers))):
        dy, layer_grads = layer.backward(dy, tape[i])
        expected |= {f"{i}.{name}": grad for name, grad in layer_grads.items()}
    np.testing.assert_array_equal(dx, dy)
    same_gradients(grads, expected)
    assert list(row.parameters) == list(grads) == ["2.weight", "2.bias", "0.weight", "0.bias"]  # as backward makes them


def test_a_row_fuses_conv_and_relu_in_one_call(monkeypatch):
    monkeypatch.setattr("minunet.ops.relu", lambda x: pytest.fail("relu ran on its own"))
    row = Sequential(ACTIVE["0"], ReLU(), ACTIVE["2"])
    row.forward(np.ones((1, 3, 3, 2), np.float32))
    assert {name: type(step) for name, step in row.steps.items()} == {"0": ConvReLU, "2": Conv2d}
    assert row.steps["0"].parameters is ACTIVE["0"].parameters


def test_rows_can_hold_rows_and_have_names():
    inner = Sequential(conv=ACTIVE["0"], relu=ReLU())
    row = Sequential(first=inner, second=ACTIVE["2"])
    names = ["second.weight", "second.bias", "first.conv.weight", "first.conv.bias"]
    assert list(row.parameters) == names
    assert row.parameters["first.conv.weight"] is ACTIVE["0"].parameters["weight"]
    y, caches = row.forward(np.ones((1, 4, 4, 2), np.float32))
    assert sorted(row.backward(y, caches)[1]) == sorted(names)


def test_a_row_writes_into_out_spares_dx_and_consumes_its_cache(backend):
    row = Sequential(ACTIVE["0"], ReLU(), ACTIVE["2"], ReLU())
    x = rng().standard_normal((1, 4, 4, 2)).astype(np.float32)
    buffer = np.full((1, 4, 4, 5), 9, np.float32)
    y, caches = row.forward(x, out=buffer[..., 2:4])
    assert np.shares_memory(y, buffer)
    np.testing.assert_array_equal(buffer[..., 2:4], row.forward(x)[0])
    assert (buffer[..., [0, 1, 4]] == 9).all()
    _, grads = row.backward(y, row.forward(x)[1])
    dx, again = row.backward(y, caches, input_grad=False)
    assert dx is None
    same_gradients(again, grads)
    assert caches == []


def test_a_row_keeps_nothing_for_a_backward_where_there_will_be_none(backend):
    row, x = Sequential(first=Sequential(ACTIVE["0"], ReLU()), second=ACTIVE["2"]), np.ones((1, 4, 4, 2), np.float32)
    with forgetting():
        y, caches = row.forward(x)
    assert caches == []
    np.testing.assert_array_equal(y, row.forward(x)[0])
    with pytest.raises(ValueError, match="the cache is empty: a backward has used it up"):
        row.backward(y, caches)


def test_a_layer_of_ones_own_needs_two_methods():
    class Twice(Layer):
        def forward(self, x, *, training=False, rng=None):
            return 2 * x, None

        def backward(self, dy, cache):
            return 2 * dy, {}

    row = Sequential(ACTIVE["0"], ReLU(), Twice())
    x = rng().standard_normal((1, 4, 4, 2)).astype(np.float32)
    y, caches = row.forward(x)
    np.testing.assert_array_equal(y, 2 * Sequential(ACTIVE["0"], ReLU()).forward(x)[0])
    assert list(row.backward(y, caches)[1]) == ["0.weight", "0.bias"]
    assert repr(row).endswith("(2): Twice()\n)")
    with pytest.raises(TypeError, match="Layer has no forward; a layer defines forward and backward"):
        Layer().forward(x)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Conv2d(0, 1), "in_channels is 0; it takes a whole number from 1 up"),
        (lambda: ConvTranspose2d(1, -2), "out_channels is -2; it takes a whole number from 1 up"),
        (lambda: Conv2d(1, 1, 0), "kernel_size is 0"),
        (lambda: Conv2d(1, 1, (3, 0)), r"kernel_size is \(3, 0\)"),
        (lambda: ConvTranspose2d(1, 1, 2, stride=0), "stride is 0"),
        (lambda: Conv2d(1, 1, algorithm="fft"), "algorithm is 'fft'; it takes auto or direct or .* or im2col"),
        (lambda: Conv2d(1, 1, (3, 5), algorithm="winograd2x2"), "algorithm is 'winograd2x2', with a 3 x 5 kernel .*'direct'"),
        (lambda: Conv2d(1, 1, stride=2, algorithm="winograd4x4"), r"algorithm is .* stride \(2, 2\); .*'auto', 'direct' and"),
        (lambda: Dropout(1.0), "rate is 1.0; it takes 0 <= rate < 1"),
        (lambda: Dropout(-0.1), "rate is -0.1; it takes 0 <= rate < 1"),
    ],
)
def test_what_no_layer_can_be_is_refused_by_name(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@given(size=st.integers(1, 12), kernel=st.integers(1, 4), stride=st.integers(1, 3), padding=st.integers(0, 2))
def test_layers_give_the_sizes_of_the_helpers(size, kernel, stride, padding):
    x = np.ones((1, size, size, 1), np.float32)
    if size + 2 * padding >= kernel:
        side = ops.output_size(size, kernel, stride=stride, padding=padding)
        assert Conv2d(1, 2, kernel, stride=stride, padding=padding).forward(x)[0].shape == (1, side, side, 2)
    side = ops.transposed_output_size(size, kernel, stride=stride, padding=padding, output_padding=stride - 1)
    if side > 0:
        up = ConvTranspose2d(1, 2, kernel, stride=stride, padding=padding, output_padding=stride - 1)
        assert up.forward(x)[0].shape == (1, side, side, 2)
