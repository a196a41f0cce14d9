"""Boundary F against its definition, pixel by pixel, and against scipy's distances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from minunet.evaluation import metrics


def boundary(mask, counted, c):
    """Return the boundary pixels of class c, as a set of places, by the words of the definition."""
    h, w = mask.shape
    found = set()
    for i, j in itertools.product(range(h), range(w)):
        around = [(i + a, j + b) for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1)) if 0 <= i + a < h and 0 <= j + b < w]
        if mask[i, j] == c and counted[i, j] and any(counted[p] and mask[p] != c for p in around):
            found.add((i, j))
    return found


def met(these, others, tolerance):
    return sum(any((a - c) ** 2 + (b - d) ** 2 <= tolerance**2 for c, d in others) for a, b in these)


def by_hand(pairs, k, tolerance):
    """Return F of each class, pooled over images (truth, prediction, counted)."""
    found = []
    for c in range(k):
        both = [(boundary(t, here, c), boundary(p, here, c)) for t, p, here in pairs]
        n_t, n_p = sum(len(t) for t, _ in both), sum(len(p) for _, p in both)
        met_t, met_p = (sum(met(*of, tolerance) for of in order) for order in (both, [pair[::-1] for pair in both]))
        recall, precision = met_t / n_t if n_t else 0, met_p / n_p if n_p else 0
        f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        found.append(f if n_t + n_p else np.nan)
    return found


@given(seed=st.integers(0, 10**6), k=st.integers(2, 4), tolerance=st.sampled_from([0, 1, 1.5, 2, 2.9, 40]))
def test_it_is_its_definition_pooled_over_images_of_different_sizes(seed, k, tolerance):
    rng = np.random.default_rng(seed)
    sizes = [(7, 5), (1, 6), (4, 9)]
    truth, prediction = ([rng.integers(0, k, size) for size in sizes] for _ in range(2))
    weights = [rng.random(size) * (rng.random(size) > 0.3) for size in sizes]
    pairs = zip(truth, prediction, [w > 0 for w in weights], strict=True)
    found = metrics.boundary_f(truth, prediction, tolerance, range(k), weights)
    np.testing.assert_allclose(found, by_hand(list(pairs), k, tolerance), rtol=1e-12)


@given(seed=st.integers(0, 10**6), tolerance=st.integers(0, 6))
def test_it_is_what_distance_transforms_tell(seed, tolerance):
    rng = np.random.default_rng(seed)
    t, p = (ndimage.gaussian_filter(rng.standard_normal((40, 50)), 3) > 0 for _ in range(2))
    expected = []
    for c in (False, True):
        edges = [(m == c) & ndimage.binary_dilation(m != c) for m in (t, p)]
        within = [ndimage.distance_transform_edt(~edge) <= tolerance for edge in edges]
        recall, precision = within[1][edges[0]].mean(), within[0][edges[1]].mean()
        expected.append(2 * precision * recall / max(precision + recall, 1e-300))
    np.testing.assert_allclose(metrics.boundary_f(t, p, tolerance), expected, rtol=1e-12)


def test_what_is_shifted_by_two_pixels_is_met_and_by_three_is_not():
    t = np.zeros((1, 20, 30), int)
    t[..., 10:] = 7
    near, far = (np.where(np.arange(30) >= 10 + d, 7, 0) + 0 * t for d in (2, 3))
    assert metrics.boundary_f(t, near).tolist() == [1, 1] and metrics.boundary_f(t, far).tolist() == [0, 0]
    assert metrics.boundary_f(t, far, 3).tolist() == [1, 1]
    assert np.isnan(metrics.boundary_f(t, t, classes=[-3, 0, 7])).tolist() == [True, False, False]
    assert metrics.boundary_f(np.zeros((4, 4)), np.tri(4), classes=[0, 1]).tolist() == [0, 0]


def test_what_is_no_mask_or_no_distance_is_told():
    with pytest.raises(ValueError, match=r"truth is of shape \(4,\); it takes masks of \(H, W\)"):
        metrics.boundary_f(np.zeros(4), np.zeros(4))
    with pytest.raises(ValueError, match=r"tolerance is -1; it takes a number of pixels from 0 up"):
        metrics.boundary_f(np.zeros((4, 4)), np.zeros((4, 4)), -1)
    with pytest.raises(ValueError, match=r"weights 0 has shape \(3, 4\); it takes its truth's, \(4, 4\)"):
        metrics.boundary_f(np.zeros((4, 4)), np.zeros((4, 4)), weights=np.ones((3, 4)))
