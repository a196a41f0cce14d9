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


@pytest.mark.parametrize("inside", [0.01, 0.3, 0.9])
def test_however_little_is_inside_what_is_rather_object_than_ground_is_one(inside):
    assert parted([[inside] * 4], [[0.1] * 4]) == [[1] * 4]


@pytest.mark.parametrize(("rise", "n"), [(0.049, 1), (0.051, 2)])
@pytest.mark.parametrize("higher", [0.9, 0.8])
def test_two_are_told_apart_by_a_rise_of_a_twentieth_between_them(higher, rise, n):
    inside = [[higher] * 12 + [0.8 - rise] * 12 + [0.8] * 12]  # so wide that no blur reaches across
    for row in (inside, [inside[0][::-1]]):
        found = parted(row, [[0.0] * 36])[0]
        assert max(found) == n and (found[0] == found[-1]) == (n == 1) and 0 not in found


@pytest.mark.parametrize(("speck", "n"), [(0.17, 1), (0.18, 2)])
def test_of_a_single_pixel_a_quarter_counts(speck, n):
    """exp(0) / sum over x of exp(-x^2 / (2 1.4^2)) = 0.285 of it, of which the rise is to be a twentieth."""
    inside = np.full((1, 40), 0.5)
    inside[0, [10, 30]] += speck
    assert np.max(parted(inside, np.zeros((1, 40)))) == n


@pytest.mark.parametrize(("smallest", "kept"), [(4, True), (5, False)])
def test_what_is_smaller_than_half_the_smallest_object_is_none(smallest, kept):
    found = parted([[0.9, 0.9, 0.0, 0.9, 0.9, 0.9]], [[0, 0, 1, 0, 0, 0]], smallest)
    assert found == [[1, 1, 0, 2, 2, 2] if kept else [0, 0, 0, 1, 1, 1]]


def test_an_object_may_hang_together_by_a_corner_and_what_lies_between_is_shared_out():
    assert parted([[0.9, 0.1], [0.1, 0.8]], [[0, 1], [1, 0]]) == [[1, 0], [0, 1]]
    inside, square = np.zeros((5, 5)), np.s_[:4, :4]
    inside[square], inside[4, 4] = 0.9, 0.1  # which is no top
    assert parted(inside, inside == 0) == (inside > 0).astype(int).tolist()
    row = [0.9] * 8 + [0.3] * 4 + [0.8] * 8
    assert parted([row], [[0] * 20]) == [[1] * 10 + [2] * 10]
    assert parted([row], [[0] * 9 + [0.6] * 2 + [0] * 9]) == [[1] * 9 + [0] * 2 + [2] * 9]


def test_objects_are_numbered_without_gaps_whether_there_is_ground_or_not():
    assert parted([[0.9, 0.0, 0.9, 0.9, 0.0, 0.9]], [[0, 1, 0, 0, 1, 0]], 3) == [[0, 0, 1, 1, 0, 0]]
    assert parted([[0.9, 0.9, 0.1]], [[0, 0, 0]]) == [[1, 1, 1]]


def test_regions_hang_together_by_corners():
    assert objects.regions(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]], bool)).tolist() == [
        [1, 0, 0], [0, 1, 0], [0, 0, 0], [2, 0, 0]
    ]  # fmt: skip
