"""Object numbers become ground, inside and border: against loops over all pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from minunet.data.instances import are_scattered, numbered, smallest, three_classes


def rim(mask, reach):
    """Return which pixels have another value within `reach`, by looking at each; of 1, at the corners too."""
    here = np.zeros(mask.shape, bool)
    for i, j in np.ndindex(mask.shape):
        for p, q in np.ndindex(mask.shape):
            near = max(abs(i - p), abs(j - q)) <= 1 if reach == 1 else (i - p) ** 2 + (j - q) ** 2 <= reach**2
            here[i, j] |= near and mask[i, j] != mask[p, q]
    return here


@given(mask=hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.sampled_from([0, 1, 700])),
       zoom=st.sampled_from([1, 2]))  # fmt: skip
def test_each_pixel_is_what_its_neighbours_make_it(mask, zoom):
    mask = mask.repeat(zoom, axis=0).repeat(zoom, axis=1)
    expected = (mask != 0).astype(np.uint8)
    for reach in (1, 2):
        for number in set(mask.ravel().tolist()) - {0}:
            own = mask == number
            if (own & ~rim(mask, reach)).any():  # an inside is left
                expected[own] = np.where(rim(mask, reach)[own], 2, 1)
    np.testing.assert_array_equal(three_classes(mask), expected)


def test_insides_of_objects_that_touch_never_do():
    rng = np.random.default_rng(0)
    for _ in range(5):
        seeds = ndimage.distance_transform_edt(rng.random((60, 60)) < 0.995, return_distances=False, return_indices=True)
        mask = np.unique(seeds[0] * 60 + seeds[1], return_inverse=True)[1].reshape(60, 60) + 1  # Voronoi's cells, no ground
        inside, n = ndimage.label(three_classes(mask) == 1, np.ones((3, 3)))
        assert all(len(set(mask[inside == i].tolist())) == 1 for i in range(1, n + 1))
        assert set(mask[inside > 0].tolist()) == set(mask.ravel().tolist())  # and none is lost


def test_the_smallest_object_is_whole_if_one_is():
    mask = np.zeros((9, 9), int)
    mask[0, 0] = 4
    assert smallest([mask]) == 1
    mask[3:6, 3:6] = 8
    assert smallest([mask]) == 9
    mask[7, 7] = 2
    assert smallest([mask, np.zeros((3, 3), int)]) == 1


def test_objects_are_scattered_where_half_of_them_are():
    whole, halves = np.array([[7, 0, 9], [0, 7, 9]]), np.array([[5, 0, 5], [0, 0, 3]])  # corners connect
    assert not are_scattered([whole]) and not are_scattered([whole * 0])
    assert are_scattered([halves]) and are_scattered([halves.astype(np.uint64) * 2**60])
    assert not are_scattered([whole, halves]) and are_scattered([whole, np.array([[5, 0, 5], [3, 0, 3]])])


def test_one_number_in_several_pieces_is_several_objects():
    corners = np.array([[255, 0, 255], [0, 255, 0]], np.uint8)
    assert numbered([corners]) is None  # corners connect
    (found,) = numbered([np.array([[1, 0, 1]])])
    assert found.tolist() == [[1, 0, 2]]
    assert numbered([np.array([[5, 5, 0]]), np.array([[0, 5, 5]])]) is None  # one object each
    assert numbered([np.array([[1, 0, 2]])]) is None
    assert numbered([np.zeros((2, 3), int)]) is None
    empty, _ = numbered([np.zeros((2, 3), int), np.array([[1, 0, 1]])])
    assert not empty.any()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_any_type_of_numbers(dtype):
    mask = np.zeros((9, 9), dtype)
    mask[2:7, 2:7] = 1
    expected = np.zeros((9, 9), int)
    expected[2:7, 2:7] = 2
    expected[4, 4] = 1
    assert three_classes(mask).tolist() == expected.tolist()
