"""The update rules on sizes about those at which work is cut: 16,384 elements are a job."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minunet.kernels import run, updates

JOB = 16_384  # a number of our own: what the kernel thinks of as a job is what is tried
SIZES = [1, JOB - 1, JOB, JOB + 1, 2 * JOB - 1, 2 * JOB, 2 * JOB + 1]


def drawn(n, size):
    """Return arrays of which no two elements are alike, so that one taken for another is seen; and their copies in float64."""
    arrays = list(np.random.default_rng(size).standard_normal((n, size + 2)))
    return [array[:size] for array in arrays], [array.copy() for array in arrays], arrays


def assert_only(written, expected, before, size):
    """Expect the formula's numbers, and behind the end, where memory goes on, what was there."""
    np.testing.assert_allclose(written[:size], expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(written[size:], before[size:])


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_sgd_updates_each_element_once_at_any_size(size, nesterov):
    (param, grad, velocity), (p, g, v), whole = drawn(3, size)
    options = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": nesterov}
    run(updates.sgd_update, param, grad, velocity, **options)
    decayed = (g + 0.01 * p)[:size]
    moved = 0.9 * v[:size] + decayed
    assert_only(whole[2], moved, v, size)
    assert_only(whole[0], p[:size] - 0.1 * (decayed + 0.9 * moved if nesterov else moved), p, size)
    np.testing.assert_array_equal(whole[1], g)


@pytest.mark.parametrize("size", SIZES)
def test_adam_updates_each_element_once_at_any_size(size):
    (param, grad, m, s), (p, g, em, es), whole = drawn(4, size)
    s[:] = es[:size] = np.abs(es[:size])
    options = {"learning_rate": 0.1, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "weight_decay": 0.05, "t": 3}
    run(updates.adam_update, param, grad, m, s, **options)
    mean, square = 0.9 * em[:size] + 0.1 * g[:size], 0.99 * es[:size] + 0.01 * g[:size] ** 2
    assert_only(whole[2], mean, em, size)
    assert_only(whole[3], square, es, size)
    step = mean / (1 - 0.9**3) / (np.sqrt(square / (1 - 0.99**3)) + 1e-8)
    assert_only(whole[0], p[:size] - 0.1 * (step + 0.05 * p[:size]), p, size)


@pytest.mark.parametrize("size", SIZES)
def test_the_mean_of_updates_takes_in_each_element_once_at_any_size(size):
    (mean, param), (before, p), whole = drawn(2, size)
    run(updates.average_update, mean, param, keep=0.75)
    assert_only(whole[0], 0.75 * before[:size] + 0.25 * p[:size], before, size)
    np.testing.assert_array_equal(whole[1], p)


@pytest.mark.parametrize("size", SIZES)
def test_the_last_element_counts_in_a_norm_and_may_be_the_one_not_finite_and_no_other_is_looked_at(size):
    whole = np.zeros(size + 1)
    grad, whole[size] = whole[:size], np.nan  # which is behind the end
    for place in {0, size - 1, min(size - 1, JOB - 1), min(size - 1, JOB)}:
        grad[place] = 3.0
        assert run(updates.clip_norm, grad, most=9.0) == 3 and run(updates.is_finite, grad)
        grad[place] = np.inf
        assert not run(updates.is_finite, grad)
        grad[place] = 0
    grad[:] = np.arange(size) % 7
    assert float(run(updates.clip_norm, grad, most=math.inf)) == pytest.approx(
        math.sqrt(sum((i % 7) ** 2 for i in range(size))), rel=1e-12
    )
