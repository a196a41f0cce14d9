"""Rare classes: which those are, where they lie, and that every third patch shows one; others are drawn as ever."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet.data import rare, sliced
from minunet.data.datasets import cells
from minunet.data.geometry import symmetry
from minunet.data.rare import class_counts, places_of_rare
from minunet.data.rng import generator
from minunet.data.sampling import Example, PatchSampler


def with_block(h, w, rows, cols, k=1, weight=None):
    """An example whose image shows where each pixel lies, and whose class k is a block."""
    label = np.zeros((h, w), np.int32)
    label[rows, cols] = k
    return Example(np.stack(np.indices((h, w)), axis=-1).astype(np.float32), label, weight, f"{h} x {w}")


def share_of_all_windows(example, k, size):
    """Return the share of windows that hold class k, by looking at each."""
    here = (example.label == k) & (True if example.weight is None else example.weight > 0)
    tops, lefts = (range(max(side - size, 0) + 1) for side in here.shape)
    return np.mean([here[i : i + size, j : j + size].any() for i in tops for j in lefts])


@given(
    h=st.integers(20, 70), w=st.integers(20, 70), top=st.integers(0, 60), left=st.integers(0, 60),
    height=st.integers(1, 30), width=st.integers(1, 30),
)  # fmt: skip
def test_a_class_is_rare_where_less_than_a_third_of_all_windows_hold_it(h, w, top, left, height, width):
    example = with_block(h, w, slice(top, top + height), slice(left, left + width))
    share = share_of_all_windows(example, 1, 16)
    found = places_of_rare([example], 16)
    if not (example.label == 1).any() or share > 0.4:
        assert found == []
    elif share < 0.27:  # every so-many-th window is looked at, not all
        (places,) = found
        np.testing.assert_array_equal(places[:, 1:], np.argwhere(example.label == 1))


def test_an_image_counts_by_its_area_as_it_is_drawn():
    small, large = with_block(32, 32, slice(None), slice(None)), with_block(32, 128, slice(0), slice(0))
    assert places_of_rare([small], 16) == []
    assert places_of_rare([small, large], 16)[0].shape == (32 * 32, 3)  # a fifth of the patches
    assert places_of_rare([small, small, large, small], 16) == []  # three sevenths of them


def test_pixels_without_weight_make_no_class_and_are_no_places():
    weight = np.ones((64, 64), np.float32)
    weight[:, :2] = 0
    example = with_block(64, 64, slice(0, 3), slice(0, 4), weight=weight)
    (places,) = places_of_rare([example], 16)
    assert {tuple(place) for place in places.tolist()} == {(0, i, j) for i in range(3) for j in (2, 3)}
    weight[:, :4] = 0
    assert places_of_rare([example], 16) == []


@given(size=st.integers(1, 60), patch=st.integers(1, 40), n=st.integers(1, 50))
def test_windows_begin_where_they_fit_each_in_the_middle_of_its_share(size, patch, n):
    free = max(size - patch, 0) + 1  # places there are
    starts = rare._starts(size, patch, n)
    assert starts == [int((i + 0.5) * free / min(n, free)) for i in range(min(n, free))]
    assert n < free or starts == list(range(free))


def test_of_many_places_some_are_kept_evenly_whatever_is_looked_at_at_a_time(monkeypatch):
    examples = [with_block(200, 30, slice(50, 60), slice(3, 13)), with_block(9, 9, slice(0), slice(0))] * 2
    (every,) = places_of_rare(examples, 16)
    assert len(every) == 200
    monkeypatch.setattr(rare, "MOST", 67)
    (some,) = places_of_rare(examples, 16)
    np.testing.assert_array_equal(some, every[::3])
    monkeypatch.setattr(sliced, "BAND", 1)
    np.testing.assert_array_equal(places_of_rare(examples, 16)[0], some)


def test_classes_are_counted_as_one_by_one(monkeypatch):
    rng = np.random.default_rng(0)
    label, weight = rng.integers(0, 5, (13, 7)), rng.integers(0, 2, (13, 7)).astype(np.float32)
    for band in (1, 120, 10**6):
        monkeypatch.setattr(sliced, "BAND", band)
        assert class_counts(label, weight, 6).tolist() == [((label == k) & (weight > 0)).sum() for k in range(6)]
        assert class_counts(label, None).tolist() == [(label == k).sum() for k in range(5)]


def test_every_third_patch_shows_a_rare_class_each_as_often_and_well_inside():
    label = np.zeros((200, 300), np.int32)
    label[40, 50], label[100:104, 200:210] = 1, 2
    example = Example(np.stack(np.indices(label.shape), axis=-1).astype(np.float32), label, None)
    sampler = PatchSampler([example], 16, random_state=3, rare=places_of_rare([example], 16))
    shown = []
    for number in range(900):
        x, labels = (array[0] for array in sampler.batch(4, number, 1)[:2])
        np.testing.assert_array_equal(labels, label[tuple(x.astype(int).transpose(2, 0, 1))])
        if number % 3 == 2:
            k = labels.max()
            assert (labels[4:12, 4:12] == k).any() and k > 0
            shown.append(k)
    assert np.bincount(shown)[1:].tolist() == pytest.approx([150, 150], abs=45)
    usual = PatchSampler([example], 16, random_state=3)
    for number in (0, 1, 3, 4):  # the others are what they were
        np.testing.assert_array_equal(sampler.batch(0, number, 1)[0], usual.batch(0, number, 1)[0])
    assert (sampler.batch(0, 2, 1)[0] != usual.batch(0, 2, 1)[0]).any()


def test_the_place_in_the_patch_varies():
    example = with_block(99, 99, slice(50, 51), slice(60, 61))
    sampler = PatchSampler([example], 16, augment=False, random_state=0, rare=places_of_rare([example], 16))
    found = [tuple(np.argwhere(sampler.batch(0, number, 1)[1][0])[0].tolist()) for number in range(2, 600, 3)]
    rows, columns = (set(of) for of in zip(*found, strict=True))
    assert rows == columns == set(range(4, 12)) and len(set(found)) > 50


@pytest.mark.parametrize("corner", [(0, 0), (39, 0), (0, 29), (39, 29)])
def test_at_a_border_the_patch_stays_on_the_image(corner):
    row, column = corner
    example = with_block(40, 30, slice(row, row + 1), slice(column, column + 1))
    sampler = PatchSampler([example], 16, random_state=1, rare=places_of_rare([example], 16))
    for number in range(2, 60, 3):
        assert sampler.batch(0, number, 1)[1].sum() == 1 and sampler.batch(0, number, 1)[2] is None


def test_it_is_told_which_image_a_patch_on_a_rare_class_is_of():
    examples = [with_block(50, 50 + i, slice(0, 1 if i in (2, 4) else 0), slice(0, 1)) for i in range(5)]
    sampler = PatchSampler(examples, 16, random_state=0, rare=places_of_rare(examples, 16))
    told = {sampler.drawn(1, number).name for number in range(2, 90, 3)}
    assert told == {"50 x 52", "50 x 54"}
    assert all(sampler.batch(1, number, 1)[1].any() for number in range(2, 90, 3))


def test_cells_are_drawn_as_ever_to_the_bit():
    """What is to be drawn stands here once more, draw by draw."""
    x, y = cells(3, random_state=0)
    examples = [Example(image[..., None], (mask > 0).astype(np.int32), None) for image, mask in zip(x, y, strict=True)]
    assert places_of_rare(examples, 64) == []
    found = PatchSampler(examples, 64, random_state=5, rare=places_of_rare(examples, 64)).batch(2, 1, 4)
    for i in range(4):
        rng = generator(5, "patch", 2, 4 + i)
        example = examples[int(rng.random() * 3)]
        top, left = (int(rng.integers(side - 64 + 1)) for side in example.label.shape)
        k = int(rng.integers(8))
        np.testing.assert_array_equal(found[0][i], symmetry(example.image[top : top + 64, left : left + 64], k))
        np.testing.assert_array_equal(found[1][i], symmetry(example.label[top : top + 64, left : left + 64], k))
