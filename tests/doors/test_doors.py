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

from minunet import Network, fusions, layers, losses, ops, optim
from minunet.training import step

TESTS = Path(__file__).resolve().parents[1]
SKIP = 77


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is not of this system")
@pytest.mark.parametrize("part", [*PARTS, "numbers"])
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
