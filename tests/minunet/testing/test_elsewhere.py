"""What is right at the point given and wrong at others is found there; what is defined at that point alone is not refused."""

from __future__ import annotations

import numpy as np
import pytest
from sample_ops import X, normal

from minunet import ops
from minunet.testing import GradientError, check_gradients, check_layer


def kept_by_shape(make, forward, backward):
    """Return an op whose backward reads what the first call of each shape made."""
    memo = {}

    def remembering(x):
        memo.setdefault(x.shape, make(x))
        return forward(x), x.shape

    return remembering, lambda dy, shape: (backward(dy, memo[shape]),)


def windows_of(x):
    return ops.max_pool2d(x)[1]


KEPT = {
    "the input": (lambda x: x.copy(), lambda x: x**3, lambda dy, x: 3 * x**2 * dy, "halved:"),
    "a slope": (lambda x: 1 - np.tanh(x) ** 2, np.tanh, lambda dy, slope: slope * dy, "halved:"),
    "a mask": (lambda x: x > 0, lambda x: np.maximum(x, 0), lambda dy, mask: mask * dy, "halved and turned round:"),
    "indices": (
        windows_of, lambda x: ops.max_pool2d(x)[0], lambda dy, cache: ops.max_pool2d_backward(dy, cache)[0],
        "halved and turned round:",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("full", [256, 0])
def test_what_is_kept_by_shape_is_found_where_it_is_wrong(kept, dtype, full):
    *op, where = KEPT[kept]
    says = rf"right at the point given and wrong with the arrays {where} along a random direction backward gives -?\d"
    with pytest.raises(GradientError, match=says) as caught:
        check_gradients(*kept_by_shape(*op), X[:, :4].astype(dtype), full=full)
    assert caught.value.error > caught.value.tolerance


def test_one_of_several_arguments_is_enough():
    memo = {}

    def forward(x, w):
        memo.setdefault("w", w.copy())
        return x @ w, (x, w)

    def backward(dy, cache):
        x, w = cache
        return 1e-3 * dy @ memo["w"].T + 0.999 * dy @ w.T, x.T @ dy

    x, w = normal(3, 4), 1e3 * normal(4, 2, seed=1)
    with pytest.raises(GradientError, match="wrong with the arrays halved"):
        check_gradients(forward, backward, x, w, linear=True)
    with pytest.raises(GradientError, match="wrong with the arrays halved"):
        check_gradients(forward, lambda dy, cache: (backward(dy, cache)[0], None), x, w)


def test_a_layer_is_told_that_it_keeps_state_between_calls():
    class Remembers:
        def __init__(self):
            self.parameters, self.masks = {"scale": normal(3)}, {}

        def forward(self, x):
            self.masks.setdefault(x.shape, x > 0)
            return np.maximum(x, 0) * self.parameters["scale"], x

        def backward(self, dy, x):
            return dy * self.parameters["scale"] * self.masks[x.shape], {"scale": (dy * np.maximum(x, 0)).sum(axis=0)}

    with pytest.raises(GradientError, match=r"^the layer keeps state between calls: the gradients are right at the point given"):
        check_layer(Remembers(), (5, 3))


def interpolated(x, knots):
    """Interpolate linearly between 1, 4, 9, 16 at knots, which must ascend."""
    i = np.clip(np.searchsorted(knots, x) - 1, 0, len(knots) - 2)
    return np.interp(x, knots, np.array([1.0, 4.0, 9.0, 16.0])), (x, i, knots[i], knots[i + 1])


def interpolated_backward(dy, cache):
    x, i, left, right = cache
    slope, dknots = dy * (2 * i + 3) / (right - left), np.zeros(4)
    np.add.at(dknots, i, slope * ((x - left) / (right - left) - 1))
    np.add.at(dknots, i + 1, -slope * (x - left) / (right - left))
    return slope, dknots


def refuses(x):
    if np.abs(x).max() < 1:
        raise RuntimeError("too small")
    return np.log(x), x


RIGHT = {
    "knots in order": (interpolated, interpolated_backward, (np.array([0.3, 1.9, 2.4]), np.array([0.0, 1.0, 2.0, 3.0]))),
    "undefined for halves": (refuses, lambda dy, x: (dy / x,), (np.array([1.5, 1.2, 1.7]),)),
    "not finite for halves": (lambda x: (np.arccosh(x), x), lambda dy, x: (dy / np.sqrt(x * x - 1),), (np.array([1.5, 1.9]),)),
    "a kink for halves": (lambda x: (np.abs(x - 1), x), lambda dy, x: (dy * np.sign(x - 1),), (np.array([2.0, 0.5]),)),
    "of two sizes": (lambda x, w: (x * w, (x, w)), lambda dy, c: (dy * c[1], dy * c[0]), (1e6 * normal(5), 1e-6 * normal(5))),
    "none checked": (lambda x, w: (x * w, (x, w)), lambda dy, c: (None, dy * c[0]), (normal(5), normal(5, seed=1))),
}


@pytest.mark.parametrize("name", RIGHT)
def test_an_op_that_other_points_do_not_suit_is_not_refused(name):
    forward, backward, arrays = RIGHT[name]
    for seed in range(3):
        check_gradients(forward, backward, *arrays, rng=seed)


def test_pairs_in_order_are_turned_round():
    """A maximum that is kept is right for all pairs whose second number is the larger one."""
    forward, backward = lambda x: x.max(axis=-1), lambda dy, first: np.where(first, dy[:, None], 0)
    x = np.sort(normal(3, 2))
    with pytest.raises(GradientError, match="wrong with the arrays halved and turned round"):
        check_gradients(*kept_by_shape(lambda x: x == x.max(axis=-1, keepdims=True), forward, backward), x)


def test_elements_of_other_sizes_do_not_hide_what_is_kept():
    x = np.array([2.0, 1e-9, 1e9])
    with pytest.raises(GradientError, match="wrong with the arrays halved:"):
        check_gradients(*kept_by_shape(lambda x: -1 / x**2, lambda x: 1 / x, lambda dy, slope: slope * dy), x)
