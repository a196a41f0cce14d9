"""Where an object begins and ends: each limit of the watershed, from both sides."""

from __future__ import annotations

import numpy as np
import pytest

from minunet.evaluation import objects

pytest.importorskip("skimage", reason="scikit-image is not installed: pip install 'minunet[instances]'")


def parted(inside, ground, smallest=1):
    """Return the objects of rows of probabilities of being inside and ground; the border has the rest."""
    inside, ground = np.asarray(inside, float), np.asarray(ground, float)
    return objects.parted(np.stack([ground, inside, 1 - inside - ground], axis=-1), smallest).tolist()


@pytest.mark.parametrize(("ground", "found"), [(0.49, 1), (0.5, 0), (0.51, 0)])
def test_an_object_grows_into_what_is_rather_object_than_ground(ground, found):
    assert parted([[0.9, 0.2]], [[0.0, ground]]) == [[1, found]]


@pytest.mark.parametrize(("inside", "found"), [(0.49, 0), (0.5, 0), (0.51, 1)])
def test_it_grows_from_what_is_surely_inside(inside, found):
    assert parted([[inside, 0.1]], [[0.1, 0.4]]) == [[found, found]]


@pytest.mark.parametrize(("smallest", "kept"), [(4, True), (5, False)])
def test_what_is_smaller_than_half_the_smallest_object_is_none(smallest, kept):
    found = parted([[0.9, 0.9, 0.0, 0.9, 0.9, 0.9]], [[0, 0, 1, 0, 0, 0]], smallest)
    assert found == [[1, 1, 0, 2, 2, 2] if kept else [0, 0, 0, 1, 1, 1]]


def test_insides_that_meet_at_a_corner_are_two_and_a_border_is_shared_out():
    assert parted([[0.9, 0.1], [0.1, 0.8]], [[0, 1], [1, 0]]) == [[1, 0], [0, 2]]
    assert parted([[0.9, 0.3, 0.2, 0.3, 0.8]], [[0, 0, 0.6, 0, 0]]) == [[1, 1, 0, 2, 2]]


def test_objects_are_numbered_without_gaps_whether_there_is_ground_or_not():
    assert parted([[0.9, 0.0, 0.9, 0.9, 0.0, 0.9]], [[0, 1, 0, 0, 1, 0]], 3) == [[0, 0, 1, 1, 0, 0]]
    assert parted([[0.9, 0.9, 0.1]], [[0, 0, 0]]) == [[1, 1, 1]]


def test_regions_hang_together_by_corners():
    assert objects.regions(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]], bool)).tolist() == [
        [1, 0, 0], [0, 1, 0], [0, 0, 0], [2, 0, 0]
    ]  # fmt: skip
