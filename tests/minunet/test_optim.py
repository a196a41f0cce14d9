"""The update rules against their formulas, written out in float64; their state; and what they refuse."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet import kernels
from minunet.optim import SGD, Adam, AdamW, Optimizer

RATES = st.sampled_from([0.5, 0.1, 1e-3])
DECAYS = st.sampled_from([0.0, 0.01, 0.25])


def problem(seed, size=37, steps=4):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(size), rng.standard_normal((steps, size))


@given(
    seed=oracles.seeds, rate=RATES, momentum=st.sampled_from([0.0, 0.5, 0.99]), decay=DECAYS, nesterov=st.booleans()
)  # fmt: skip
def test_sgd_follows_its_formula(backend, seed, rate, momentum, decay, nesterov):
    flat, grads = problem(seed)
    p, v = flat.copy(), 0.0
    optimizer = SGD(rate, momentum, decay, nesterov)
    for grad in grads:
        optimizer.update(flat, grad)
        g = grad + decay * p
        v = momentum * v + g
        p = p - rate * (g + momentum * v if nesterov else v)
        np.testing.assert_allclose(flat, p, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(optimizer.moments[0], v, rtol=1e-13, atol=1e-14)


@given(seed=oracles.seeds, rate=RATES, betas=st.sampled_from([(0.9, 0.999), (0.0, 0.5), (0.5, 0.0)]), decay=DECAYS)
def test_adam_follows_its_formula(backend, seed, rate, betas, decay):
    flat, grads = problem(seed)
    p, m, v = flat.copy(), 0.0, 0.0
    optimizer = Adam(rate, *betas, 1e-6, decay)
    for t, grad in enumerate(grads, 1):
        optimizer.update(flat, grad)
        m, v = betas[0] * m + (1 - betas[0]) * grad, betas[1] * v + (1 - betas[1]) * grad**2
        mean, square = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        p = p - rate * mean / (np.sqrt(square) + 1e-6) - rate * decay * p
        np.testing.assert_allclose(flat, p, rtol=1e-12, atol=1e-13)
    assert optimizer.n_updates == len(grads)


def test_nesterov_is_the_gradient_from_where_the_momentum_leads(backend):
    """Sutskever et al. 2013, equations 3 and 4, of a bowl whose gradient anywhere is known: ours is a step of theirs ahead."""
    curve, start = np.linspace(0.1, 2.0, 20), np.linspace(-1.0, 1.0, 20)
    theta, v, rate, momentum = start.copy(), 0.0, 0.1, 0.9
    flat, optimizer = start.copy(), SGD(rate, momentum, nesterov=True)
    for _ in range(10):
        optimizer.update(flat, curve * flat)
        v = momentum * v - rate * curve * (theta + momentum * v)
        theta = theta + v
        np.testing.assert_allclose(flat, theta + momentum * v, rtol=1e-12, atol=1e-14)


def test_adamw_is_adam_with_weight_decay(backend):
    flat, grads = problem(0)
    others = {kind: flat.copy() for kind in ("adamw", "adam", "plain")}
    rules = AdamW(0.1), Adam(0.1, weight_decay=0.01), Adam(0.1)
    for p, rule in zip(others.values(), rules, strict=True):
        for grad in grads:
            rule.update(p, grad)
    np.testing.assert_array_equal(others["adamw"], others["adam"])
    assert (others["adamw"] != others["plain"]).all()


@pytest.mark.parametrize("value", [None, 1, "yes", float("nan")])
def test_whether_it_is_nesterovs_is_true_or_false(value):
    with pytest.raises(ValueError, match=r"^nesterov is .*; it takes True or False"):
        SGD(nesterov=value).update(np.ones(2), np.ones(2))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_adams_first_step_has_the_size_of_the_learning_rate_at_any_scale(backend, scale):
    flat, grads = problem(0)
    start = flat.copy()
    Adam(0.01, epsilon=1e-30).update(flat, scale * grads[0])
    np.testing.assert_allclose(flat - start, -0.01 * np.sign(grads[0]), rtol=1e-8)


def test_weight_decay_is_decoupled_in_adam_and_an_l2_penalty_in_sgd(backend):
    start, _ = problem(0)
    nothing = np.zeros_like(start)
    flat, adam = start.copy(), Adam(0.1, weight_decay=0.5)
    for _ in range(3):
        adam.update(flat, nothing)
    np.testing.assert_allclose(flat, start * (1 - 0.1 * 0.5) ** 3, rtol=1e-14)
    flat, plain = start.copy(), start.copy()
    SGD(0.1, 0.9, weight_decay=0.5).update(flat, nothing)
    SGD(0.1, 0.9).update(plain, 0.5 * start)
    np.testing.assert_allclose(flat, plain, rtol=1e-15)


@pytest.mark.parametrize("make", [SGD, Adam])
def test_the_learning_rate_may_change_between_updates(backend, make):
    flat, grads = problem(0)
    optimizer = make(0.1)
    optimizer.update(flat, grads[0])
    before = flat.copy()
    optimizer.learning_rate = 0.0
    optimizer.update(flat, grads[1])
    np.testing.assert_array_equal(flat, before)
    assert optimizer.n_updates == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("make", "n_moments"), [(SGD, 1), (Adam, 2)])
def test_an_update_is_in_place_keeps_the_dtype_and_never_writes_the_gradient(backend, make, n_moments, dtype):
    flat, grads = (a.astype(dtype) for a in problem(0))
    gradient = grads[0]
    gradient.flags.writeable = False
    start, optimizer = flat.copy(), make()
    assert optimizer.moments == ()
    optimizer.update(flat, gradient)
    assert (flat != start).all()
    assert flat.dtype == dtype
    assert [(m.dtype, m.shape) for m in optimizer.moments] == [(dtype, flat.shape)] * n_moments
    assert not any(np.shares_memory(m, gradient) or np.shares_memory(m, flat) for m in optimizer.moments)


@pytest.mark.parametrize("make", [SGD, Adam])
def test_what_has_no_gradient_stays_zero(backend, make):
    """The gaps between the aligned parameters of a network."""
    flat = np.zeros(8)
    optimizer = make()
    for _ in range(3):
        optimizer.update(flat, np.zeros(8))
    np.testing.assert_array_equal(flat, 0)


@pytest.mark.parametrize("make", [lambda: SGD(0.05), lambda: SGD(0.05, nesterov=True), lambda: Adam(0.05)])
def test_a_bowl_is_descended(backend, make):
    target, _ = problem(0)
    flat, optimizer = np.zeros_like(target), make()
    for _ in range(400):
        optimizer.update(flat, flat - target)
    np.testing.assert_allclose(flat, target, atol=1e-3)


@pytest.mark.parametrize("make", [lambda: SGD(weight_decay=0.01), lambda: SGD(nesterov=True), lambda: Adam(weight_decay=0.01)])
def test_the_thread_count_changes_no_bit(backend, make):
    """Far more elements than one thread's job."""
    start, grads = (a.astype(np.float32) for a in problem(0, 200_001, 2))

    def bits(n):
        flat, optimizer = start.copy(), make()
        with kernels.threads(n):
            for grad in grads:
                optimizer.update(flat, grad)
        return flat.tobytes(), *(m.tobytes() for m in optimizer.moments)

    assert bits(1) == bits(2) == bits(3)


@pytest.mark.parametrize("gradient", [np.zeros(3), np.zeros(4, np.float32), np.zeros((1, 4))])
def test_a_gradient_of_another_shape_or_dtype_is_refused_and_counts_for_nothing(gradient):
    optimizer = SGD()
    with pytest.raises(ValueError, match=r"flat_gradient is a float\d\d array .*; it takes float64, \(4,\)"):
        optimizer.update(np.zeros(4), gradient)
    assert optimizer.n_updates == 0


def test_the_base_class_has_no_rule():
    with pytest.raises(TypeError, match="Optimizer has no rule; use SGD or Adam"):
        Optimizer(0.1, 0.0).update(np.zeros(2), np.zeros(2))
