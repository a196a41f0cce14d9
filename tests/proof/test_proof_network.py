"""Random U-Nets: the gradient of the loss by every parameter and by the input, against finite differences."""

from __future__ import annotations

import numpy as np
import oracles
from hypothesis import given, settings
from hypothesis import strategies as st
from proof.counting import count
from proof.optable import each_network, n_examples
from proof.rows import serving

from minunet import kernels, losses
from minunet.kernels import composed
from minunet.supervision import judged
from minunet.testing import strategies
from minunet.training.levels import Levels


class Watched:
    """A backend that keeps which way each relu and each pooling went: `decisions`, in bytes."""

    def __init__(self, backend):
        self.backend, self.decisions = backend, []

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def conv2d_relu(self, *args, **options):
        with serving(self.backend):
            y = kernels.run(composed.conv2d_relu, *args, **options)
        self.decisions.append((y > 0).tobytes())
        return y

    def relu(self, x):
        y = self.backend.relu(x)
        self.decisions.append((y > 0).tobytes())
        return y

    def max_pool2d(self, *args):
        y, argmax = self.backend.max_pool2d(*args)
        self.decisions.append(argmax.tobytes())
        return y, argmax


class Problem:
    """The loss of a network as a function of its parameters and input, and of what relu and pooling decide meanwhile."""

    def __init__(self, row, case, seed):
        self.row, self.seed, self.network = row, seed, case.network()
        self.rng = np.random.default_rng(seed)
        self.x = self.rng.standard_normal(case.x_shape)
        shape = (case.x_shape[0], *self.network.output_size(*case.x_shape[1:3]))
        self.labels = self.rng.integers(0, self.network.out_channels, shape)
        self.weights = self.rng.uniform(0.1, 2, shape)

    def forward(self, x):
        """Return loss, dlogits, cache and decisions."""
        watched = Watched(self.row)
        with serving(watched):
            logits, cache = self.network.forward(x, training=True, rng=np.random.default_rng(self.seed))
            return *losses.softmax_cross_entropy(logits, self.labels, weights=self.weights), cache, watched.decisions

    def gradients(self):
        """Return the gradients by name, that of the input as "x"."""
        _, dlogits, cache, self.decided = self.forward(self.x)
        dx, grads = self.network.backward(dlogits, cache)
        return {"x": dx} | {name: grad.copy() for name, grad in grads.items()}

    def moved(self, name, change):
        """Return loss and decisions with `change` added to a parameter, or to the input."""
        if name == "x":
            loss, _, _, decisions = self.forward(self.x + change)
        else:
            p = self.network.parameters[name]
            value = p.copy()
            p += change
            loss, _, _, decisions = self.forward(self.x)
            p[...] = value
        return float(loss), decisions

    def slope(self, name, direction):
        """Return the derivative along a direction; None where every step crosses a kink.

        Between kinks the logits are linear in any one parameter and in the input, and if no relu and no pooling decides
        otherwise at the ends than at 0, none does in between (by induction, layer after layer): the loss is smooth there.
        """
        for exponent in (-11, -13, -15):
            h = 2.0**exponent
            ends = [self.moved(name, t * h * direction) for t in (-2, -1, 1, 2)]
            if all(decisions == self.decided for _, decisions in ends):
                far_below, below, above, far_above = (loss for loss, _ in ends)
                return (8 * (above - below) - (far_above - far_below)) / (12 * h)  # off by h^4 times a fifth derivative
        return None


class Deep(Problem):
    """The loss of all levels, under deep supervision."""

    def __init__(self, row, case, seed, loss):
        super().__init__(row, case, seed)
        self.loss, self.weights[self.rng.random(self.weights.shape) < 0.2] = loss, 0

    def forward(self, x):
        watched = Watched(self.row)
        target = losses.Target(self.labels, self.weights)
        levels = Levels(self.loss, target)
        with serving(watched):
            with judged(levels.judge):
                logits, cache = self.network.forward(x, training=True, rng=np.random.default_rng(self.seed))
            loss, dlogits = self.loss.value_and_grad(logits, target)
        self.share = levels.share
        return levels.mean(loss), dlogits, cache, watched.decisions

    def gradients(self):
        return {name: self.share * gradient for name, gradient in super().gradients().items()}


def agreeing(problem):
    """Hold each gradient against a slope; tell for each whether there was one."""
    gradients = problem.gradients()
    scale = max(np.abs(gradient).max() for gradient in gradients.values())
    for name, gradient in gradients.items():
        for _ in range(4):  # other directions meet other kinks
            direction = problem.rng.standard_normal(gradient.shape)
            direction /= np.sqrt((direction**2).sum())
            slope = problem.slope(name, direction)
            if slope is not None:
                break
        yield slope is not None
        if slope is not None:
            expected = (gradient * direction).sum()
            terms = np.abs(gradient * direction).sum()  # which do not cancel
            assert abs(slope - expected) <= 1e-7 * max(terms, 1e-2 * scale, 1e-9), name


@each_network
def test_every_gradient_of_a_random_unet_agrees_with_finite_differences(row):
    seen = []

    @settings(max_examples=n_examples(1 / 3))  # each has some 20 gradients
    @given(case=strategies.unets(), seed=oracles.seeds)
    def prove(case, seed):
        seen.extend(agreeing(Problem(row, case, seed)))
        count("jacobian", "Network", row)

    prove()
    assert sum(seen) > 0.95 * len(seen)  # the guard gives up on hardly any


@st.composite
def supervised(draw):
    """Draw a small U-Net with a side head, and an input for it."""
    config = {
        "out_channels": draw(st.integers(2, 3)), "base_channels": draw(st.integers(1, 2)), "depth": 2,
        "dropout": draw(st.sampled_from([0.4, 0.0])), "random_state": draw(st.integers(0, 2**20)),
        "block": draw(st.sampled_from(["double_conv", "residual"])), "deep_supervision": True,
    }  # fmt: skip
    return strategies.UNetCase(config, (1, 8, 4 * draw(st.integers(1, 2)), 1))


@each_network
def test_every_gradient_of_all_levels_agrees_with_finite_differences(row):
    seen = []

    @settings(max_examples=n_examples(1 / 100))
    @given(case=supervised(), seed=oracles.seeds)
    def prove(case, seed):
        for loss in losses.LOSSES if str(row) == "reference" else ("cross_entropy",):
            seen.extend(agreeing(Deep(row, case, seed, losses.LOSSES[loss])))
            count("jacobian", "Network", row)

    prove()
    assert sum(seen) > 0.95 * len(seen)


@each_network
def test_float64_is_kept_and_what_goes_in_is_left_as_it_was(row):
    @settings(max_examples=n_examples(1 / 2))
    @given(case=strategies.unets(), seed=oracles.seeds)
    def prove(case, seed):
        for dtype in ("float64", "float32"):
            network, rng = case.network(dtype), np.random.default_rng(seed)
            x = rng.standard_normal(case.x_shape).astype(dtype)
            flat, x_copy = network.flat.copy(), x.copy()
            x.flags.writeable = False
            logits, cache = network.forward(x, training=True, rng=rng)
            dlogits = np.ones_like(logits)
            dlogits.flags.writeable = False
            dx, grads = network.backward(dlogits, cache)
            assert {logits.dtype, dx.dtype, *(grad.dtype for grad in grads.values())} == {np.dtype(dtype)}
            assert {name: g.shape for name, g in grads.items()} == {name: p.shape for name, p in network.parameters.items()}
            assert dx.shape == x.shape
            np.testing.assert_array_equal(network.flat, flat)
            np.testing.assert_array_equal(x, x_copy)
            np.testing.assert_array_equal(dlogits, 1)

    prove()
