"""What holds for every op of the contract: its backward is its adjoint and its Jacobian; images do not meet; its manners."""

from __future__ import annotations

import numpy as np
import oracles
from oracles import assert_all_same, assert_same
from proof.counting import count
from proof.optable import SMALL, drawn_dtype, each_differenced_op, each_op, each_op_on_every_row, each_op_on_images, over
from proof.rows import SPECIFICATION, serving

from minunet.testing import strategies
from minunet.testing.strategies import LAYOUTS


def run(op, g, arrays, dy=None):
    """Return y and the gradients, for a dy of whole numbers unless one is given."""
    y, cache = op.forward(*arrays, **op.options(g))
    dy = strategies.integers(np.random.default_rng(0), y.shape, y.dtype) if dy is None else dy
    return [y, *op.backward(dy, cache)]


def whole_numbers(rng, op, g, dtype=np.float64):
    return [array.astype(dtype) for array in op.arrays(rng, op.shapes(g), strategies.integers)]


@each_op
def test_backward_is_the_adjoint_of_forward(row, op):
    """<f(a + d) - f(a - d), dy> = <2 d, J^T dy>, to the last bit, for each argument: nothing here is rounded."""

    @over(op.geometries(), op.named, op.times)
    def prove(g, seed):
        rng = np.random.default_rng(seed)
        arrays = whole_numbers(rng, op, g)
        y, cache = op.forward(*arrays, **op.options(g))
        dy = strategies.integers(rng, y.shape)
        for i, gradient in enumerate(op.backward(dy, cache)):
            d = op.step * rng.integers(-1, 2, arrays[i].shape)
            ends = [op.forward(*arrays[:i], arrays[i] + sign * d, *arrays[i + 1 :], **op.options(g))[0] for sign in (1, -1)]
            assert ((ends[0] - ends[1]) * dy).sum() == (2 * d * gradient).sum()
        count("exact", op.counts_for, row, g)


@each_differenced_op
def test_gradients_are_the_jacobian_element_by_element(row, op):
    """Full central differences for every argument. The numbers are such that the differences are not rounded either."""

    @over(op.geometries(**SMALL), {name: g for name, g in op.named.items() if g.x_shape[0]}, op.jacobians)
    def prove(g, seed):
        rng = np.random.default_rng(seed)
        arrays = op.arrays(rng, op.shapes(g), strategies.dyadics)
        y, cache = op.forward(*arrays, **op.options(g))
        dy = strategies.dyadics(rng, y.shape)
        for i, gradient in enumerate(op.backward(dy, cache)):
            if op.definition:
                numeric = oracles.complex_jacobian_product(lambda *a: op.definition(*a, **op.options(g)), arrays, i, dy)
            else:
                numeric = oracles.jacobian_product(lambda *a: op.forward(*a, **op.options(g))[0], arrays, i, dy, op.step)
            assert oracles.relative_error(gradient, numeric) < 1e-10
        count("jacobian", op.counts_for, row, g)


@each_op_on_images
def test_images_of_a_batch_do_not_meet(row, op):
    @over(op.geometries(), op.named, op.times / 2)
    def prove(g, seed):
        rng = np.random.default_rng(seed)
        arrays = whole_numbers(rng, op, g, drawn_dtype(rng))
        y, *gradients = run(op, g, arrays, dy := strategies.integers(rng, run(op, g, arrays)[0].shape, arrays[0].dtype))
        assert len(y) == g.x_shape[0]
        for n in range(len(y)):
            alone = [array[n : n + 1] if i < op.batched else array for i, array in enumerate(arrays)]
            y_alone, *gradients_alone = run(op, g, alone, dy[n : n + 1])
            assert_same(y_alone, y[n : n + 1])
            assert_all_same(gradients_alone[: op.batched], [gradient[n : n + 1] for gradient in gradients[: op.batched]])
        count("exact", op.counts_for, row, g)


@each_op_on_every_row
def test_any_layout_gives_the_same_and_is_left_as_it_was(row, op):
    """Read-only arrays in every layout; dtype, kind and shape are kept, nothing is shared, and a cache serves again."""

    @over(op.geometries(), op.named, op.times / 2)
    def prove(g, seed):
        rng = np.random.default_rng(seed)
        plain = whole_numbers(rng, op, g, drawn_dtype(rng))
        arrays = [LAYOUTS[name](array) for name, array in zip(rng.choice(list(LAYOUTS), len(plain)), plain, strict=True)]
        copies = [array.copy(order="C") for array in arrays]
        y_shape = op.forward(*copies, **op.options(g))[0].shape
        dy = LAYOUTS[rng.choice(list(LAYOUTS))](strategies.integers(rng, y_shape, plain[0].dtype))
        dy_copy = dy.copy(order="C")
        expected = run(op, g, copies, dy_copy)
        for array in (*arrays, dy):
            array.flags.writeable = False
        y, cache = op.forward(*arrays, **op.options(g))
        gradients = op.backward(dy, cache)
        assert_all_same([y, *gradients], expected)
        assert_all_same(op.backward(dy, cache), gradients)
        assert_all_same([*arrays, dy], [*copies, dy_copy])
        assert {type(array) for array in (y, *gradients)} == {np.ndarray}
        assert [(a.shape, a.dtype) for a in gradients] == [(a.shape, a.dtype) for a in arrays]
        if op.name != "concat_skip":  # its gradients are views of dy, which it promises
            assert not any(np.may_share_memory(a, b) for a in (y, *gradients) for b in (*arrays, dy))
        count("exact", op.counts_for, row, g)


@each_op
def test_every_row_agrees_with_the_specification(row, op):
    """On sizes beyond the loops' patience: several vectors of channels, several jobs a thread."""
    sizes = {"most": 24, "channels": (17, 5, 33, 8)}

    @over(op.geometries(**sizes), op.named, op.times / 2)
    def prove(g, seed):
        rng = np.random.default_rng(seed)
        arrays = whole_numbers(rng, op, g, drawn_dtype(rng, row.exact_dtypes))
        with serving(SPECIFICATION):
            expected = run(op, g, arrays)
        assert_all_same(run(op, g, arrays), expected)
        if row != SPECIFICATION:
            count("exact", op.counts_for, row, g)
