"""No public call hands an address on that it has not looked at, and none gives a number that nobody can mean."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from doors.table import NUMBERS, PARTS
from doors.walk import SENTENCE

from minunet import Network, blocks, fusions, layers, losses, ops, optim
from minunet.training import step

TESTS = Path(__file__).resolve().parents[1]
SKIP = 77
LONG = ("estimator", "networks")  # whose every call trains


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is not of this system")
@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=[pytest.mark.rare] if part in LONG else []) for part in (*PARTS, "numbers")]
)
def test_hostile_arrays_are_refused_or_used_rightly(part):
    program = [sys.executable, "-X", "faulthandler", "-m", "doors.walk", part]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(TESTS.parent), str(TESTS)))}
    done = subprocess.run(program, env=environment, capture_output=True, text=True)
    if done.returncode == SKIP:
        pytest.skip(done.stdout.strip())
    last = "\n".join(done.stdout.splitlines()[-1:])
    assert done.returncode == 0, f"exit status {done.returncode} at: {last}\n{done.stderr[-3000:]}"
    assert " calls: " in last


# Doors of classes that have no arrays of their own: what they are made of is in the table.
WITHOUT = {"Layer", "Composite", "Tape", "Dropout", "output_size", "transposed_output_size", "Loss", "Target", "Optimizer"}


@pytest.mark.parametrize("module", [ops, fusions])
def test_every_operation_is_in_the_table(module):
    own = [name for name, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__]
    listed = {door.split(" ")[0] for door in PARTS["ops"]()} | {f"ops.{name.split()[0]}" for name in NUMBERS}
    assert {f"{module.__name__.rpartition('.')[2]}.{name}" for name in own} <= listed


def test_every_layer_loss_and_rule_is_in_the_table():
    own = {name for name, c in vars(layers).items() if inspect.isclass(c) and issubclass(c, layers.Layer) and name[0] != "_"}
    assert {f"{name}.{way}" for name in own - WITHOUT for way in ("forward", "backward")} <= PARTS["layers"]().keys()
    assert {f"{name} {way}" for name in losses.LOSSES for way in ("value_and_grad", "through")} <= PARTS["losses"]().keys()
    rules = {name for name, c in vars(optim).items() if inspect.isclass(c) and issubclass(c, optim.Optimizer)}
    assert {f"{name}.update" for name in rules - WITHOUT} == PARTS["updates"]().keys()


def test_a_refusal_by_python_itself_is_no_sentence():
    for text in ("too many values to unpack (expected 4)", "'list' object", "unsupported operand type(s) for +", "bad operand"):
        assert not any(word in text for word in SENTENCE)


# ---- Optimizers that have served others, and networks whose parts were replaced ----


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_an_optimizer_serves_one_network(make):
    optimizer = make()
    x, labels = np.zeros((1, 8, 8, 1), np.float32), np.zeros((1, 8, 8), int)
    first, other, larger = (Network(1, 2, base, 1, random_state=base) for base in (2, 2, 24))
    step(first, optimizer, x, labels)
    moments = [m.copy() for m in optimizer.moments]
    for network, says in ((larger, "like the parameters"), (other, "make one for each network")):
        before = network.flat.copy()
        with pytest.raises(ValueError, match=says):
            step(network, optimizer, x, labels)
        np.testing.assert_array_equal(network.flat, before)
        assert optimizer.n_updates == 1
        for one, m in zip(moments, optimizer.moments, strict=True):
            np.testing.assert_array_equal(one, m)
    step(first, optimizer, x, labels)
    optimizer.moments = ()  # and begins anew
    step(larger, optimizer, x, labels)
    assert optimizer.moments[0].size == larger.flat.size


def test_a_copy_of_an_optimizer_serves_a_copy_of_its_network():
    x, labels = np.ones((1, 8, 8, 1), np.float32), np.zeros((1, 8, 8), int)
    network, optimizer = Network(1, 2, 2, 1), optim.Adam()
    step(network, optimizer, x, labels)
    pairs = [copy.deepcopy((network, optimizer)), pickle.loads(pickle.dumps((network, optimizer)))]
    step(network, optimizer, x, labels)
    for other, its in pairs:
        step(other, its, x, labels)
        np.testing.assert_array_equal(other.flat, network.flat)


def test_a_network_whose_head_was_replaced_is_refused():
    network = Network(1, 2, 2, 1)
    with pytest.raises(ValueError, match="head is one of the layers that this one is made of"):
        network.head = layers.Conv2d(50, 2, 1)
    network.head.parameters["weight"] = np.zeros((1, 1, 50, 2), np.float32)
    x, labels = np.zeros((1, 8, 8, 1), np.float32), np.zeros((1, 8, 8), int)
    for use in (lambda: network(x), lambda: step(network, optim.SGD(), x, labels)):
        with pytest.raises(ValueError, match=r"head\.weight is an array in the place of the network's"):
            use()


def test_a_gradient_of_another_shape_is_never_spread_over_the_parameter():
    network = Network(1, 2, 2, 1)
    gradients = {name: np.zeros_like(p) for name, p in network.parameters.items()}
    with pytest.raises(ValueError, match=r"the shape of the gradient of head\.bias is \(1,\); it takes \(2,\)"):
        network.gradients(gradients | {"head.bias": np.zeros(1, np.float32)})
    with pytest.raises(ValueError, match="the gradient of foot"):
        network.gradients(gradients | {"foot": np.zeros(1, np.float32)})
    del gradients["head.bias"]
    with pytest.raises(ValueError, match=r"the gradient of head\.bias is None"):
        network.gradients(gradients)


CACHES = {
    "conv2d": (ops.conv2d_backward, lambda x, w: ops.conv2d(x, w)),
    "conv_transpose2d": (ops.conv_transpose2d_backward, lambda x, w: ops.conv_transpose2d(x, w)),
    "conv2d_relu": (fusions.conv2d_relu_backward, lambda x, w: fusions.conv2d_relu(x, w)),
    "max_pool2d": (ops.max_pool2d_backward, lambda x, w: ops.max_pool2d(x)),
    "relu": (ops.relu_backward, lambda x, w: ops.relu(x)),
    "dropout": (ops.dropout_backward, lambda x, w: ops.dropout(x, 0.5, np.random.default_rng(0))),
}


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_of_another_op_or_one_that_was_tampered_with_is_refused(name):
    x, w = np.ones((1, 8, 8, 4), np.float32), np.ones((2, 2, 4, 4), np.float32)
    backward, forward = CACHES[name]
    y, cache = forward(x, w)
    for other, (_, of) in CACHES.items():
        wrong = of(x, w)[1]
        if other != name and [type(part) for part in wrong] != [type(part) for part in cache]:
            with pytest.raises(ValueError, match=r"^(cache|dy) is "):
                backward(y, wrong)
    for wrong in (None, (), cache[:-1], [*cache], "cache"):
        with pytest.raises(ValueError, match="cache is of type"):
            backward(y, wrong)
    if name in ("conv2d", "conv_transpose2d", "conv2d_relu"):
        for i, part in enumerate(cache[:2]):
            with pytest.raises(ValueError, match=r"^(cache|dy) is "):
                backward(y, (*cache[:i], part[..., :1], *cache[i + 1 :]))


def hostile_parts(part):
    """Give what may stand in the place of a part of a cache, and cannot be meant."""
    yield from (None, -1, 2**63, "x", float("nan"), (), (1,), (0, -1), ("a", "b"), (2**62, 2**62), [1, 1], (-2, 8, 8, 4))
    yield from (np.dtype("O"), np.dtype("V4"), np.zeros(3), np.timedelta64(1))
    if isinstance(part, np.ndarray):
        for dtype in {"f2", "f8", "O", ">f4", "i4"} - {part.dtype.str[1:]}:
            yield np.zeros(part.shape, dtype)
        if part.shape[-1] > 1:
            yield part[..., ::-1]
        yield np.broadcast_to(part.reshape(-1)[:1], part.shape)
        yield np.ma.masked_array(part)
        yield np.zeros((*part.shape[:-1], part.shape[-1] + 1), part.dtype)


@pytest.mark.parametrize("name", [*CACHES, "group_norm", "norm_relu", "concat_skip"])
def test_a_part_of_a_cache_that_kernels_could_not_read_is_refused(name):
    """Of another dtype, byte order or place, an array would be read beyond its end, or its bytes as other numbers."""
    x, w, b = np.ones((1, 8, 8, 4), np.float32), np.ones((2, 2, 4, 4), np.float32), np.ones(4, np.float32)
    more = {
        "group_norm": (ops.group_norm_backward, lambda x, w: ops.group_norm(x, b, b, groups=2)),
        "norm_relu": (fusions.norm_relu_backward, lambda x, w: fusions.group_norm_relu(x, b, b, groups=2)),
        "concat_skip": (ops.concat_skip_backward, lambda x, w: ops.concat_skip(x, x[:, 1:-1, 1:-1])),
    }
    backward, forward = (CACHES | more)[name]
    y, cache = forward(x, w)
    backward(np.ones_like(y), cache)
    for i, part in enumerate(cache):
        for wrong in hostile_parts(part):
            with pytest.raises(ValueError, match=r"^(cache|dy) is .*; it takes "):
                backward(np.ones_like(y), (*cache[:i], wrong, *cache[i + 1 :]))


def test_statistics_of_no_groups_are_refused():
    x, b = np.ones((1, 8, 8, 4), np.float32), np.ones(4, np.float32)
    y, (_, mean, scale, *others) = ops.group_norm(x, b, b, groups=2)
    with pytest.raises(ValueError, match=r"^cache is one whose parts do not belong together"):
        ops.group_norm_backward(y, (x, mean[:, :, :0].copy(), scale[:, :, :0].copy(), *others))


# ---- What is computed with is what is trained, copied and saved ----


def poked(network, poke):
    """Poke a network that has made a step; return the TypeError or ValueError with which it said no, then or at the next."""
    x, labels = np.ones((1, 8, 8, 1), np.float32), np.zeros((1, 8, 8), int)
    step(network, optim.SGD(), x, labels)
    with pytest.raises((ValueError, TypeError)) as refused:
        poke(network)
        step(network, optim.SGD(), x, labels)
    return str(refused.value)


POKES = {
    "a fused step": lambda n: n.u.encoder.steps.update(conv1=layers.Conv2d(1, 2, padding=1)),
    "one step less": lambda n: n.u.encoder.steps.pop("conv2"),
    "no steps": lambda n: n.u.encoder.steps.clear(),
    "other steps": lambda n: setattr(n.u.encoder, "steps", {}),
    "a child": lambda n: n.u.encoder.children.__setitem__("conv1", layers.Conv2d(1, 2, padding=1)),
    "one child less": lambda n: n.children.__delitem__("head"),
    "other children": lambda n: setattr(n, "children", {}),
    "a layer that is deleted": lambda n: delattr(n.u, "encoder"),
    "a child of all layers": lambda n: layers.ReLU().children.__ior__({"more": layers.ReLU()}),
    **{
        f"its {name}": lambda n, name=name, value=value: setattr(n, name, value)
        for name, value in {
            "in_channels": 3, "out_channels": 5, "base_channels": 7, "depth": 2, "padding": "valid", "dropout": 0.5,
            "random_state": 1, "dtype": np.dtype("f8"), "algorithm": "im2col", "block": "residual", "outline": None,
            "deep_supervision": True,
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("what", POKES)
def test_what_a_network_is_made_of_is_fixed(what):
    network = Network(1, 2, 2, 1, random_state=0)
    network.outline  # noqa: B018  (made at its first use)
    said = poked(network, POKES[what])
    assert "; it takes no other " in said or "are fixed; it takes a new one" in said


def test_the_convolution_of_a_fused_pair_is_the_one_that_is_trained():
    fused = layers.ConvReLU(layers.Conv2d(1, 2))
    with pytest.raises(AttributeError):
        fused.convolution = layers.Conv2d(1, 2)
    with pytest.raises(ValueError, match="convolution is of type ReLU; it takes a Conv2d"):
        layers.ConvReLU(layers.ReLU())


def test_a_copy_of_layers_has_layers_of_its_own():
    row = layers.Sequential(layers.Conv2d(1, 2, padding=1), layers.ReLU())
    x = np.ones((1, 4, 4, 1), np.float32)
    for other in (copy.deepcopy(row), pickle.loads(pickle.dumps(row))):
        np.testing.assert_array_equal(other.forward(x)[0], row.forward(x)[0])
        other.parameters["0.weight"][...] = 0
        assert row.parameters["0.weight"].any() and not other.forward(x)[0].any()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_copy_of_parameters_is_views_of_one_array_of_its_own(copied):
    network = Network(1, 2, 2, 1)
    other = copied(network.parameters)
    np.testing.assert_array_equal(other.flat, network.flat)
    other["head.bias"][...] = 5
    assert (other.flat == 5).sum() == 2 and not (network.flat == 5).any()


def test_no_network_takes_the_tape_of_another():
    x = np.ones((1, 8, 8, 1), np.float32)
    one, other = Network(1, 2, 2, 1, random_state=0), Network(1, 2, 2, 1, random_state=1)
    (logits, _), (_, foreign) = one.forward(x), other.forward(x)
    for cache, says in ((foreign, "cache is that of another Network"), (None, "NoneType"), ([], "list"), ((), "tuple")):
        with pytest.raises(ValueError, match=rf"{says}; it takes the tape that forward of this Network returned"):
            one.backward(logits, cache)
    other.backward(logits, foreign)
    for layer in (layers.Sequential(layers.ReLU()), blocks.Residual(2, 2), one.u):
        with pytest.raises(ValueError, match="; it takes the tape that forward of this"):
            layer.backward(x, None)


# ---- Code of the user's: a block, a loss ----


class Given(losses.Loss):
    """Returns what a test gives."""

    def __init__(self, returns):
        self.returns = returns

    def value_and_grad(self, logits, target):
        return self.returns(logits)


@pytest.mark.parametrize(
    ("returns", "says"),
    [
        (lambda z: None, "what value_and_grad of Given returns is of type NoneType; it takes a pair"),
        (lambda z: (1.0, z, z), "of type tuple; it takes a pair"),
        (lambda z: ("1", z), "the value of Given is of dtype <U1"),
        (lambda z: (None, z), "the value of Given is of dtype object"),
        (lambda z: (1j, z), "the value of Given is of dtype complex128"),
        (lambda z: (np.ones(3), z), r"the value of Given is of dtype float64 and shape \(3,\); it takes one real number, 0-d"),
        (lambda z: (1.0, None), r"the gradient of Given is a \? array \?; it takes that of the logits"),
        (lambda z: (1.0, z.astype("f8")), "the gradient of Given is a float64 array"),
        (lambda z: (1.0, z[:, 1:]), r"the gradient of Given is a float32 array \(1, 7, 8, 2\)"),
        (lambda z: (1.0, np.ma.masked_array(z)), "dy is a masked array"),
    ],
)
@pytest.mark.parametrize("added", [False, True])
def test_a_loss_that_gives_no_loss_is_told(returns, says, added):
    network, x, labels = Network(1, 2, 2, 1), np.ones((1, 8, 8, 1), np.float32), np.zeros((1, 8, 8), int)
    before, loss = network.flat.copy(), Given(returns)
    with pytest.raises(ValueError, match=says):
        step(network, optim.SGD(), x, labels, loss=loss + losses.Dice() if added else loss)
    np.testing.assert_array_equal(network.flat, before)


def test_a_gradient_that_is_not_finite_beside_a_value_that_is_moves_nothing():
    network, x, labels = Network(1, 2, 2, 1), np.ones((1, 8, 8, 1), np.float32), np.zeros((1, 8, 8), int)
    before = network.flat.copy()
    with pytest.raises(FloatingPointError, match=r"the gradient of Given is not finite, while its value is 1\.0"):
        step(network, optim.SGD(), x, labels, loss=Given(lambda z: (1.0, z * np.nan)))
    assert np.isnan(step(network, optim.SGD(), x, labels, loss=Given(lambda z: (np.nan, z * np.nan))))
    np.testing.assert_array_equal(network.flat, before)


def block_of(forward=lambda y, cache: (y, cache), backward=lambda dx, grads: (dx, grads)):
    """Return a block, a convolution, that returns what a test makes of what it would."""

    class Block(layers.Composite):
        def __init__(self, c, k, **settings):
            self.conv = layers.Conv2d(c, k, 3, **settings)
            super().__init__(conv=self.conv)

        def forward(self, x, *, training=False, rng=None):
            return forward(*self.conv.forward(x))

        def backward(self, dy, cache):
            dx, grads = self.conv.backward(dy, cache)
            return backward(dx, {f"conv.{name}": grad for name, grad in grads.items()})

    return Block


@pytest.mark.parametrize(
    ("backward", "says"),
    [
        (lambda dx, grads: None, "what backward of Block returns is of type NoneType; it takes dx, grads"),
        (lambda dx, grads: (dx, None), "what backward of Block returns is of type ndarray, NoneType; it takes dx, grads"),
        (lambda dx, grads: (dx, list(grads)), "of type ndarray, list"),
        (lambda dx, grads: (dx, {}), r"the gradient of \S*conv.bias is None"),
        (lambda dx, grads: (dx, {1: dx}), "the gradient of "),
        (lambda dx, grads: (None, grads), "dy is of type NoneType|dskip is|dx is|array"),
        (lambda dx, grads: (dx, {k: g * 1j for k, g in grads.items()}), "is of dtype complex64; it takes real numbers: float32"),
        (lambda dx, grads: (dx, {k: g.astype("U9") for k, g in grads.items()}), "is of dtype <U9; it takes real numbers"),
        (lambda dx, grads: (dx, {k: g.astype(object) for k, g in grads.items()}), "is of dtype object; it takes real numbers"),
        (lambda dx, grads: (dx, {k: np.ma.masked_array(g) for k, g in grads.items()}), "is a masked array"),
    ],
)
def test_a_block_whose_backward_gives_no_gradients_is_told(backward, says):
    network = Network(1, 2, 2, 1, block=block_of(backward=backward))
    before = network.flat.copy()
    with pytest.raises(ValueError, match=says):
        step(network, optim.SGD(), np.ones((1, 8, 8, 1), np.float32), np.zeros((1, 8, 8), int))
    np.testing.assert_array_equal(network.flat, before)


# ---- Moments that were set by hand ----


@pytest.mark.parametrize(
    ("moments", "says"),
    [
        (None, "moments is of type NoneType; it takes a tuple of arrays"),
        (7, "moments is of type int"),
        ({}, "moments is of type dict"),
        ((np.ones(4, np.float32), -np.ones(4, np.float32)), r"moments\[1\] is -1.0 to -1.0; it takes finite numbers from 0 up"),
        ((np.full(4, np.nan, np.float32), np.ones(4, np.float32)), r"moments\[0\] is nan to nan; it takes finite numbers"),
    ],
)
def test_moments_that_no_update_left_are_refused(moments, says):
    optimizer, flat = optim.Adam(), np.ones(4, np.float32)
    optimizer.update(flat, flat.copy())
    before = flat.copy()
    optimizer.moments = moments
    with pytest.raises(ValueError, match=says):
        optimizer.update(flat, flat.copy())
    np.testing.assert_array_equal(flat, before)


def test_a_duration_is_no_number():
    """NumPy counts its timedelta64 among the whole numbers."""
    for call in (
        lambda n: layers.Conv2d(n, 2), lambda n: Network(n), lambda n: Network(depth=n), lambda n: ops.output_size(8, n),
        lambda n: layers.Dropout(n), lambda n: optim.SGD(learning_rate=n).update(np.ones(2), np.ones(2)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="; it takes "):
            call(np.timedelta64(1))
