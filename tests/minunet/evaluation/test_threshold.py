"""Which class a probability is: one function for all; and the threshold that is chosen, against trying each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet.evaluation.threshold import GRID, Choice, decide


@given(seed=st.integers(0, 10**6), dtype=st.sampled_from([np.float32, np.float64]), skew=st.floats(0.2, 5))
def test_the_choice_is_the_best_of_all_thresholds_tried_one_by_one(seed, dtype, skew):
    rng = np.random.default_rng(seed)
    parts = [(rng.random((5, 7)) ** skew, rng.integers(0, 2, (5, 7))) for _ in range(2)]
    parts[0][0].flat[:4] = GRID[[0, 34, 56, 98]]  # on a threshold a pixel counts as reached
    choice, scores = Choice(), []
    for p, truth in parts:
        choice.add(p.astype(dtype).ravel(), truth.ravel())
    for threshold in GRID:
        both = [(decide(np.stack([1 - p, p], -1).astype(dtype), threshold), truth) for p, truth in parts]
        found, true = (np.concatenate([pair[i].ravel() for pair in both]) for i in (0, 1))
        scores.append(2 * (found & true).sum() / (found.sum() + true.sum()))
    best = choice.best()
    assert scores[list(GRID).index(best)] == max(scores)
    equal = [t for t, score in zip(GRID, scores, strict=True) if score == max(scores)]
    assert abs(best - 0.5) <= min(abs(t - 0.5) for t in equal) + 1e-12


def test_of_equal_ones_it_is_the_nearest_to_a_half():
    choice = Choice()
    assert choice.best() is None
    choice.add(np.array([0.1, 0.9], np.float32), np.array([0, 1]))
    assert choice.best() == 0.5
    choice.add(np.array([0.3], np.float32), np.array([1]))
    assert choice.best() == 0.3


def test_one_pixel_is_of_the_second_class_from_the_threshold_on():
    p = np.array([[0.8, 0.2], [0.7, 0.3], [0.5, 0.5], [0.4, 0.6]], np.float32)
    assert decide(p).tolist() == [0, 0, 0, 1]  # of equal ones the first
    assert decide(p, 0.3).tolist() == [0, 1, 1, 1] and decide(p, 0.5).tolist() == [0, 0, 1, 1]
    assert decide(p.reshape(2, 2, 2), 0.6).shape == (2, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_of_the_grid_are_reached_in_any_precision(dtype):
    p = GRID.astype(dtype)
    assert [decide(np.stack([1 - p, p], -1), t).sum() for t in GRID] == list(range(len(GRID), 0, -1))
