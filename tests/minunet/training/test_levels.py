"""The loss of all levels: the weighted sum of those of networks that end at a level, in value and gradient."""

from __future__ import annotations

import numpy as np
import pytest

from minunet import Network, kernels, losses, optim
from minunet.layers import Conv2d, Sequential, places
from minunet.losses import LOSSES, Loss, Target
from minunet.training import diverged, step
from minunet.training.levels import Levels, middles
from minunet.training.step import passes

DEPTH = 3
WEIGHTS = [4 / 7, 2 / 7, 1 / 7]  # 1, 1/2 and 1/4 over their sum


def problem(seed=0, dtype="float64", **settings):
    """Return a network, images and a target, some of whose pixels have no weight, and labels that are none."""
    network = Network(2, 3, 2, DEPTH, dtype=dtype, random_state=seed, deep_supervision=True, **settings)
    rng = np.random.default_rng(seed)
    for name, p in network.parameters.items():
        if name.endswith("bias"):
            p[...] = rng.normal(0, 0.3, p.shape)
    x, labels = rng.standard_normal((2, 16, 24, 2)).astype(dtype), rng.integers(0, 3, (2, 16, 24))
    weights = rng.uniform(0.1, 2, labels.shape).astype(dtype)
    out = rng.random(labels.shape) < 0.3
    labels[out], weights[out] = 255, 0
    return network, x, Target(labels, weights)


def truncated(network, i):
    """Return the layers of the network that ends at level i, with the head there."""
    level, above = network.u, []
    for _ in range(i):
        above += [level.encoder, level.pool]
        level = level.inner
    return Sequential(*above, level, network.head if i == 0 else level.decoder.children["head"].head)


def looped(a, size):
    """Return the pixel right below the middle of each size x size, by loops."""
    n, h, w = a.shape
    rows = [[[a[m, p * size + size // 2, q * size + size // 2] for q in range(w // size)] for p in range(h // size)]
            for m in range(n)]  # fmt: skip
    return np.array(rows, a.dtype)


@pytest.mark.parametrize("block", ["double_conv", "residual"])
@pytest.mark.parametrize("name", LOSSES)
def test_it_is_the_weighted_sum_of_the_losses_of_networks_that_end_at_a_level(backend, name, block):
    network, x, target = problem(block=block)
    names = {(id(leaf), key): name for name, (leaf, key) in places(network).items()}
    value, expected = 0.0, {name: np.zeros_like(p) for name, p in network.parameters.items()}
    for i, weight in enumerate(WEIGHTS):
        part = truncated(network, i)
        logits, cache = part.forward(x)
        loss, dlogits = LOSSES[name].value_and_grad(logits, Target(*(looped(a, 2**i) for a in target)))
        _, grads = part.backward(dlogits, cache)
        value += weight * float(loss)
        for key, place in places(part).items():
            expected[names[id(place[0]), place[1]]] += weight * grads[key]
    found, gradient = passes(network, LOSSES[name], x, target)
    assert float(found) == pytest.approx(value, rel=1e-12)
    found = network.parameters.split(gradient)
    scale = max(np.abs(grad).max() for grad in expected.values())
    for key, grad in expected.items():
        np.testing.assert_allclose(found[key], grad, rtol=1e-10, atol=1e-13 * scale, err_msg=key)
        assert np.abs(grad).max() > 1e-6 * scale, key


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_level_sees_the_middles(size):
    a = np.random.default_rng(0).integers(0, 9, (2, 8, 12))
    found = middles(a, size)
    np.testing.assert_array_equal(found, looped(a, size))
    assert found.flags.c_contiguous and not np.shares_memory(found, a)


def test_a_level_without_a_labelled_pixel_learns_nothing_and_changes_nothing_but_the_weights():
    """One labelled pixel, which no level but the top and level 1 sees."""
    network, x, target = problem()
    labels, weights = np.full_like(target.labels, 255), np.zeros_like(target.weights)
    labels[0, 1, 3], weights[0, 1, 3] = 1, 2.5
    value, gradient = passes(network, losses.CrossEntropy(), x, Target(labels, weights))
    found = network.parameters.split(gradient)
    assert not found["decoder.2.head.weight"].any() and found["decoder.1.head.weight"].any()
    parts = [float(losses.CrossEntropy().value_and_grad(truncated(network, i).forward(x)[0], Target(
        *(looped(a, 2**i) for a in (labels, weights))))[0]) for i in range(DEPTH)]  # fmt: skip
    assert parts[2] == 0 and float(value) == pytest.approx(np.dot(parts, WEIGHTS), rel=1e-12)


class Seen(Loss):
    """A loss of a user's, that keeps what it was given."""

    def __init__(self):
        self.given = []

    def value_and_grad(self, logits, target):
        self.given.append((logits.shape, target.labels.shape, target.weights.shape))
        return losses.CrossEntropy().value_and_grad(logits, target)


def test_a_loss_of_the_users_is_asked_at_each_level_from_below():
    network, x, target = problem(dtype="float32")
    seen = Seen()
    value, _ = passes(network, seen, x, target)
    sizes = [(2, 4, 6), (2, 8, 12), (2, 16, 24)]
    assert seen.given == [((*size, 3), size, size) for size in sizes]
    assert float(value) == pytest.approx(float(passes(network, losses.CrossEntropy(), x, target)[0]), rel=1e-6)


def test_without_side_heads_the_loss_is_that_of_the_top_itself():
    target = Target(np.zeros((1, 4, 4), int), np.ones((1, 4, 4)))
    levels, value = Levels(losses.CrossEntropy(), target), np.float64(0.3)
    assert levels.mean(value) is value and levels.share == 1


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_has_the_same_bits_at_any_number_of_threads(name):
    bits = []
    for n_threads in (1, 2, 3):
        network, x, target = problem(dtype="float32", dropout=0.3)
        with kernels.threads(n_threads):
            optimizer, rng = optim.Adam(), np.random.default_rng(1)
            found = [
                step(network, optimizer, x, target.labels, weights=target.weights, loss=name, rng=rng, ignore_index=255)
                for _ in range(2)
            ]
        bits.append((network.flat.tobytes(), *map(float, found)))
    assert bits[0] == bits[1] == bits[2]


@pytest.mark.parametrize("spoilt", ["decoder.1.head.weight", "decoder.2.head.weight"])
def test_a_side_head_whose_logits_are_not_finite_is_named_and_the_network_left(spoilt):
    network, x, target = problem(dtype="float32")
    network.parameters[spoilt][...] = np.finfo(np.float32).max
    before = network.flat.copy()
    with np.errstate(all="ignore"):
        value, gradient = passes(network, losses.CrossEntropy(), x, target)
        assert gradient is None and not np.isfinite(value)
        place = diverged.first(network, losses.CrossEntropy(), x, target)
    assert str(place) == f"the output of {spoilt.removesuffix('.weight')}" and isinstance(place.made_by, Conv2d)
    np.testing.assert_array_equal(network.flat, before)
