"""What `evaluate` counts as objects: all that is not of the first class, where pixels count, of truth and prediction alike."""

from __future__ import annotations

import numpy as np
import pytest

from minunet.cli.evaluate import score
from minunet.evaluation.metrics import adapted_rand_error

CLASSES = np.array([0, 5, 9])
TWO = np.array([[5, 5, 0, 9, 9], [5, 0, 0, 0, 9], [0, 0, 0, 0, 0]])  # an object of each class
ALL = np.ones(TWO.shape, bool)


@pytest.mark.parametrize("values", [[0, 5, 9], [0, 9, 5], [0, 5, 5]])
def test_objects_that_are_found_as_they_are_have_no_error_whatever_their_classes(values):
    found = np.choose(np.searchsorted(CLASSES, TWO), values)
    assert score("a", [TWO], [found], [ALL], CLASSES).adapted_rand == 0


def test_objects_that_are_joined_have_the_error_of_one_object():
    joined = TWO.copy()
    joined[0, 2] = 5
    apart, one = (TWO == 5) + 2 * (TWO == 9), (joined > 0).astype(int)
    expected = adapted_rand_error(apart, one)
    assert expected > 0 and score("a", [TWO], [joined], [ALL], CLASSES).adapted_rand == pytest.approx(expected)


def test_what_does_not_count_is_no_object_of_the_truth():
    here = ALL.copy()
    here[:, 3:] = False
    found = np.where(here, TWO, 5)
    row = score("a", [TWO], [found], [here], CLASSES)
    assert row.adapted_rand == 0 and row.pixel_error == 0
