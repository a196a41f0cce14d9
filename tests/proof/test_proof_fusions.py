"""Every fusion of every backend is its composition, bit for bit: composed.py states each, and each has its arguments here."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from oracles import assert_all_same, assert_same
from proof.counting import count
from proof.optable import every_row, over
from proof.rows import serving

from minunet import kernels
from minunet.kernels import composed, reference
from minunet.testing import strategies
from minunet.testing.strategies import CONVOLUTIONS

RATES = {"learning_rate": 0.1, "weight_decay": 0.01}
ADAM = RATES | {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "t": 3}


def floats(rng, *shapes):
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def pooled(rng, g):
    x, dskip = floats(rng, g.x_shape, g.x_shape)
    y, argmax = reference.max_pool2d(x, (1, 1), (1, 1))
    return [*floats(rng, y.shape), argmax, x.shape, (1, 1), (1, 1), dskip]


def normal(rng, g, n_images=1):
    """Return x, as many more images as there are, and a mean, a scale, gamma and beta: of its channels, or of each image's."""
    n, *_, c = g.x_shape
    rows, groups = ((1, c), (n, 1), (n, c))[rng.integers(3)]
    mean, scale = floats(rng, *[(rows, 1, groups, 1)] * 2)
    return [*floats(rng, *[g.x_shape] * n_images), mean, abs(scale), *floats(rng, (c,), (c,))]


def head(rng, g):
    labels = rng.integers(0, g.k, g.x_shape[:3]).astype(np.int32)
    return [*floats(rng, g.x_shape, (1, 1, g.x_shape[3], g.k), (g.k,)), labels, *map(np.abs, floats(rng, g.x_shape[:3]))]


def halves(rng, g):
    (buffer,) = floats(rng, (*g.x_shape[:3], g.x_shape[3] + g.k))
    left, right = buffer[..., : g.x_shape[3]], buffer[..., g.x_shape[3] :]
    return [left, right] if rng.integers(2) else [left.copy(), right]


def updated(rng, g, n):
    """Return n flat arrays, and a loss that is finite."""
    return [np.asarray(abs(a)) for a in floats(rng, *[(9 * g.k,)] * n, ())]


ARGUMENTS = {
    "conv2d_relu": lambda rng, g: floats(rng, g.x_shape, g.w_shape, (g.k,)),
    "conv2d_relu_grads": lambda rng, g: floats(rng, g.x_shape, g.y_shape, g.w_shape, g.y_shape),
    "conv_transpose2d": lambda rng, g: [*floats(rng, g.y_shape, g.w_shape, g.x_shape[3:]), g.x_shape],
    "conv_transpose2d_grads": lambda rng, g: floats(rng, g.y_shape, g.x_shape, g.w_shape),
    "normalize_relu": normal,
    "normalize_relu_grads": lambda rng, g: [*normal(rng, g, 2), bool(rng.integers(2))],
    "max_pool2d_grad_plus": pooled,
    "concat_channels": halves,
    "linear_cross_entropy": head,
    "guarded_sgd_update": lambda rng, g: updated(rng, g, 3),
    "guarded_adam_update": lambda rng, g: updated(rng, g, 4),
}  # fmt: skip
OPTIONS = {"guarded_sgd_update": RATES | {"momentum": 0.9, "nesterov": True}, "guarded_adam_update": ADAM}
ROUNDS_LESS = {"linear_cross_entropy"}  # on a GPU, whose logits are never stored


def test_every_fusion_is_compared():
    functions = inspect.getmembers(composed, inspect.isfunction)
    assert {name for name, f in functions if f.__module__ == composed.__name__} == ARGUMENTS.keys()


@every_row
@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_fusion_is_its_composition(row, name):
    def found(function, arguments, g):
        """Return the result, and what was written: without it, what was not."""
        arguments = [a.copy() if isinstance(a, np.ndarray) and "update" in name else a for a in arguments]
        geometry = g.options if name.startswith("conv") and name != "concat_channels" else {}
        result = function(*arguments, **OPTIONS.get(name, geometry if "conv" in name else {}))
        written = arguments if "update" in name else []
        return [a for a in (*(result if isinstance(result, tuple) else (result,)), *written) if a is not None]

    @over(strategies.geometries(empty=False), CONVOLUTIONS, 0.4)
    def prove(g, seed):
        rng = np.random.default_rng(seed)
        arguments = ARGUMENTS[name](rng, g)
        fused = found(getattr(row, name, vars(composed)[name]), arguments, g)
        with serving(row):
            expected = found(vars(composed)[name], arguments, g)
        if row.backend in ("gpu", "cuda") and name in ROUNDS_LESS:
            for a, b in zip(fused, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 if row.precision == "float32" else 1e-2)
        else:
            assert_all_same(fused, expected)
        count("peer", name, row)


@every_row
@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_a_guarded_update_changes_nothing_where_the_loss_is_not_finite(row, loss):
    rng = np.random.default_rng(0)
    for name in ("guarded_sgd_update", "guarded_adam_update"):
        arrays = [np.abs(a) for a in floats(rng, *[(100,)] * (3 if "sgd" in name else 4))]
        copies = [a.copy() for a in arrays]
        with serving(row):
            kernels.run(vars(composed)[name], *arrays, np.array(loss, np.float32), **OPTIONS[name])
        assert_all_same(arrays, copies)


def test_what_a_backend_lacks_is_computed_as_it_is_defined(backend):
    def cubed(x):
        return x**3

    x = np.arange(6.0).reshape(1, 1, 2, 3)
    assert_same(kernels.run(cubed, x), x**3)
    out = np.zeros_like(x)
    assert kernels.run(cubed, x, out=out) is out
    assert_same(out, x**3)
