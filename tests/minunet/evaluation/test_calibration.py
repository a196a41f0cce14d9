"""Calibration against a loop over pixels, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet.evaluation import metrics


def by_hand(truth, probabilities, n, weights):
    """Return confidence, accuracy and weight of each bin, and the error: Guo et al. 2017, a pixel at a time."""
    sums = np.zeros((3, n))
    for t, p, w in zip(truth, probabilities, weights, strict=True):
        (m,) = (i for i in range(n) if i / n < p.max() <= (i + 1) / n or (i == n - 1 and p.max() > 1))
        sums[:, m] += w * p.max(), w * (p.argmax() == t), w
    with np.errstate(invalid="ignore"):
        confidence, accuracy = sums[:2] / sums[2]
    filled = sums[2] > 0
    error = (sums[2] / sums[2].sum())[filled] @ np.abs(accuracy - confidence)[filled]
    return confidence, accuracy, sums[2], error


@given(seed=st.integers(0, 10**6), k=st.integers(2, 4), n=st.sampled_from([1, 4, 10, 16]))
def test_it_is_its_definition(seed, k, n):
    rng = np.random.default_rng(seed)
    sizes, classes = [(3, 5), (4, 2)], np.sort(rng.choice(100, k, replace=False)) - 50
    p = [rng.dirichlet(np.full(k, 0.5), size) for size in sizes]
    truth, weights = [rng.integers(0, k, size) for size in sizes], [rng.integers(0, 3, size) + 0.5 for size in sizes]
    found = metrics.calibration([classes[t] for t in truth], p, n, classes.tolist(), weights)
    flat = (np.concatenate([a.reshape(-1, *a.shape[2:]) for a in of]) for of in (truth, p))
    expected = by_hand(*flat, n, np.concatenate([w.ravel() for w in weights]))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_a_bin_holds_its_upper_end():
    p = np.array([[0.5, 0.5], [0.25, 0.75], [0.0, 1.0], [0.75, 0.25]])
    found = metrics.calibration(np.array([0, 1, 0, 0]), p, 4)
    assert found.counts.tolist() == [0, 1, 2, 1] and found.accuracy[1:].tolist() == [1, 1, 0]
    assert found.confidence[1:].tolist() == [0.5, 0.75, 1] and math.isnan(found.confidence[0])
    assert found.error == (0.5 + 2 * 0.25 + 1) / 4


def test_what_does_not_fit_is_told():
    truth, p = np.zeros((2, 2), int), np.full((2, 2, 2), 0.5)
    for arguments, says in (
        ((truth, p, 0), "bins is 0; it takes a whole number from 1 up"),
        ((truth, p, 10, [0, 1, 2]), r"probabilities is of shape \(2, 2, 2\); it takes real numbers \(..., K\) for K = 3 classes"),
        ((truth[:1], p), r"prediction 0 has shape \(2, 2\); it takes its truth's, \(1, 2\)"),
        ((truth, np.zeros((2, 2, 2), int)), "probabilities is of shape .*; it takes real numbers"),
    ):
        with pytest.raises(ValueError, match=says):
            metrics.calibration(*arguments)
