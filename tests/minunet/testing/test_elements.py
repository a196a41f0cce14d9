"""Each element is held to its own size, as far as differences know it: small wrong ones are found, right ones never refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minunet.testing import GradientError, check_gradients, strategies


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True), e / e.sum(axis=-1, keepdims=True)


def normalised(x):
    z = (x - x.mean(axis=-1, keepdims=True)) / x.std(axis=-1, keepdims=True)
    return z, (z, x.std(axis=-1, keepdims=True))


def normalised_backward(dy, cache):
    z, std = cache
    mean = lambda a: a.mean(axis=-1, keepdims=True)  # noqa: E731
    return ((dy - mean(dy) - z * mean(dy * z)) / std,)


SMOOTH = {
    "square": (lambda x: (x**2, x), lambda dy, x: (2 * x * dy,)),
    "fifth power": (lambda x: (x**5, x), lambda dy, x: (5 * x**4 * dy,)),
    "tanh": (lambda x: (np.tanh(x), np.tanh(x)), lambda dy, y: (dy * (1 - y**2),)),
    "bell": (lambda x: (np.exp(-x * x), x), lambda dy, x: (-2 * dy * x * np.exp(-x * x),)),
    "softmax": (softmax, lambda dy, y: (y * (dy - (dy * y).sum(axis=-1, keepdims=True)),)),
    "normalised": (normalised, normalised_backward),
    "running sum": (lambda x: (np.cumsum(x), x), lambda dy, x: (np.cumsum(dy[::-1])[::-1].reshape(x.shape),)),
    "sum": (lambda x: (x.sum(), x), lambda dy, x: (np.broadcast_to(dy, x.shape),)),
}


@settings(max_examples=60)
@given(
    name=st.sampled_from(list(SMOOTH)), seed=strategies.seeds(), spread=st.sampled_from([0, 3, 6]),
    dtype=st.sampled_from([np.float64, np.float32]),
)  # fmt: skip
def test_right_gradients_of_elements_of_any_sizes_pass(name, seed, spread, dtype):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((2, 4)) * 10.0 ** rng.uniform(-spread, spread if name != "fifth power" else 0, (2, 4))).astype(dtype)
    report = check_gradients(*SMOOTH[name], x, rng=seed % 1000)
    assert 0 <= report.rows[0].own <= report.rows[0].tolerance


@settings(max_examples=25)
@given(seed=strategies.seeds(), exponent=st.integers(0, 8), error=st.sampled_from([0.5, 0.01, -1.0]))
def test_one_wrong_small_element_is_named_whatever_stands_beside_it(seed, exponent, error):
    rng = np.random.default_rng(seed)
    x = rng.uniform(1, 2, 4) * 10.0 ** np.array([exponent, 0, exponent // 2, -exponent])
    wrong = np.array([1, 1, 1, 1 + error])
    with pytest.raises(GradientError, match=r"is wrong at \[3\]") as caught:
        check_gradients(lambda x: (x**2, x), lambda dy, x: (2 * x * dy * wrong,), x, rng=seed % 1000)
    told = caught.value
    assert told.index == (3,)
    np.testing.assert_allclose(told.analytic, told.numeric * (1 + error), rtol=1e-3, atol=1e-12 * abs(told.numeric))
    if exponent > 5:
        assert "error relative to this element itself (the largest is" in str(told)
        np.testing.assert_allclose(told.error, abs(error) / max(1, 1 + error), rtol=1e-3)


def test_a_report_tells_the_largest_error_of_an_element():
    report = check_gradients(lambda x: (np.exp(x), x), lambda dy, x: (np.exp(x) * dy,), np.array([0.0, -12.0]))
    assert report.rows[0].error <= report.rows[0].own < 1e-7
    assert "own error" in str(report).splitlines()[0]
    assert check_gradients(lambda x: (np.exp(x), x), lambda dy, x: (np.exp(x) * dy,), np.zeros(9), full=8).rows[0].own is None


@pytest.mark.parametrize("size", [1e6, 1e9, 1e15])
def test_numbers_so_large_that_a_small_step_drowns_are_compared(size):
    x = np.array([size, 1.0])
    report = check_gradients(lambda x: (x**2, x), lambda dy, x: (2 * x * dy,), x)
    assert report.error <= report.rows[0].tolerance < 1e-6
    with pytest.raises(GradientError, match=r"is wrong at \[0\]"):
        check_gradients(lambda x: (x**2, x), lambda dy, x: (2.00001 * x * dy,), x)


@pytest.mark.parametrize(("near", "pole"), [(1e-6, False), (-1e-12, False), (1e-6, True), (-1e-6, True)])
def test_an_element_near_a_kink_or_a_pole_beside_larger_ones_is_checked_at_its_own_size(near, pole):
    forward = (lambda x: (1 / x, x)) if pole else (lambda x: (np.abs(x), x))
    backward = (lambda dy, x: (-dy / x**2,)) if pole else (lambda dy, x: (dy * np.sign(x),))
    x, wrong = np.array([2.0, near, -0.3]), np.array([1, 1.01, 1])
    assert check_gradients(forward, backward, x).rows[0].tolerance < 1e-6
    with pytest.raises(GradientError, match=r"is wrong at \[1\]"):
        check_gradients(forward, lambda dy, x: (backward(dy, x)[0] * wrong,), x)


def test_a_gradient_that_rounding_hides_is_told_to_be_so():
    def forward(b):
        y = np.arange(12.0).reshape(4, 3) ** 2 + b
        return (y - y.mean(axis=0)) / y.std(axis=0), b

    report = check_gradients(forward, lambda dy, b: (1e-17 * np.ones_like(b),), np.array([0.3, 0.1, 0.7]))
    assert "b: its gradient lies below what rounding hides; it may be 0." in str(report)


def test_a_tiny_gradient_of_what_no_output_shows_is_rounding():
    report = check_gradients(lambda x, b: (2 * x, b), lambda dy, b: (2 * dy, 1e-17 * np.ones_like(b)), np.ones(3), np.ones(2))
    assert "b: its gradient lies below what rounding hides" in str(report)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_element_whose_output_cancels_is_not_refused(dtype):
    def gelu(x):
        t = np.tanh(0.8 * (x + 0.044715 * x**3))
        return x * (1 + t) / 2, (x, t)

    def backward(dy, cache, slip=1):
        x, t = cache
        return (dy * slip * ((1 + t) / 2 + x * (1 - t**2) * 0.4 * (1 + 0.134145 * x**2)),)

    for seed in range(5):
        x = np.append(np.random.default_rng(seed).uniform(-9, -2, 40), 2).astype(dtype)
        check_gradients(gelu, backward, x, rng=seed)
    x = np.array([2, -3.5], dtype)
    with pytest.raises(GradientError, match=r"is wrong at \[1\]"):
        check_gradients(gelu, lambda dy, c: backward(dy, c, np.array([1, 1.5], dtype)), x)


@pytest.mark.parametrize("top", [1.0, 40.0, 200.0])
def test_an_element_that_reaches_outputs_below_their_rounding_is_not_refused(top):
    x = np.array([[top, -top / 2, top - 1], [0.1, top, -top / 2]])
    check_gradients(softmax, lambda dy, y: (y * (dy - (dy * y).sum(axis=-1, keepdims=True)),), x)
