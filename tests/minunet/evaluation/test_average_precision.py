"""Average precision of objects, against every assignment tried, and scikit-image's notion of none."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minunet.evaluation.metrics import average_precision

LABELS = hnp.arrays(np.int32, (3, 4), elements=st.sampled_from([0, 0, 2, 5, 9]))


def matched(truth, prediction, iou):
    """Return the largest number of pairs with an IoU above `iou`, each object in one at most, by trying all."""
    t, p = (sorted(set(a.ravel().tolist()) - {0}) for a in (truth, prediction))
    if len(t) > len(p):
        return matched(prediction, truth, iou)

    def fits(i, j):
        a, b = truth == i, prediction == j
        return (a & b).sum() > iou * (a | b).sum()

    return max(sum(fits(i, j) for i, j in zip(t, chosen, strict=True)) for chosen in itertools.permutations(p, len(t)))


@settings(max_examples=100)
@given(truths=st.tuples(LABELS, LABELS), predictions=st.tuples(LABELS, LABELS), iou=st.sampled_from([0, 0.2, 1 / 3, 0.5, 0.75]))
def test_it_is_that_of_the_best_assignment(truths, predictions, iou):
    n = sum(len(set(a.ravel().tolist()) - {0}) for a in (*truths, *predictions))
    found = average_precision(list(truths), list(predictions), iou)
    if n == 0:
        assert np.isnan(found)
    else:
        tp = sum(matched(t, p, iou) for t, p in zip(truths, predictions, strict=True))
        assert found == pytest.approx(tp / (n - tp), abs=1e-12)


def test_half_is_not_more_than_half():
    truth, half, more = np.array([[1, 1, 0]]), np.array([[7, 0, 0]]), np.array([[7, 7, 7]])
    assert average_precision(truth, half) == 0 and average_precision(truth, half, 0.49) == 1
    assert average_precision(truth, more) == 1  # 2 of 3
    assert average_precision([truth, truth], [more, half]) == pytest.approx(1 / 3)


def test_objects_are_those_of_one_image():
    truth = np.array([[3, 3, 0, 0]])
    assert average_precision([truth, truth[:, ::-1]], [truth, truth[:, ::-1]]) == 1


@pytest.mark.parametrize("iou", [-0.1, 1, 2])
def test_a_threshold_that_is_none(iou):
    with pytest.raises(ValueError, match=r"iou is .*; it takes a number from 0 to below 1"):
        average_precision(np.eye(2, dtype=int), np.eye(2, dtype=int), iou)
