"""What a training asks of its masks: which are shifted, and how they must be turned. The rest is tested with `check`."""

from __future__ import annotations

import numpy as np
import pytest

from minunet.data import alignment
from minunet.data.alignment import inverted, shifts, turned, without
from minunet.data.datasets import cells
from minunet.data.page import TURNS
from minunet.data.sampling import Example


def examples(n, move=lambda mask: mask, weight=None):
    images, masks = cells(n, 64)
    labels = [np.ascontiguousarray(move((mask > 0).astype(np.int32))) for mask in masks]
    return [Example((image / 255)[..., None], label, weight) for image, label in zip(images, labels, strict=True)]


def test_shifts_are_told_by_number():
    some = examples(3)
    some[1] = examples(2, lambda mask: np.roll(mask, (7, -5), (0, 1)))[1]
    assert shifts(some) == {1: (7, -5)}


def test_of_many_some_are_looked_at(monkeypatch):
    looked = []
    monkeypatch.setattr(alignment, "fit_of", lambda image, index: (looked.append(int(image[0, 0, 0])), (0, None))[1])
    many = [Example(np.full((4, 4, 1), i), np.zeros((4, 4), int), None) for i in range(50)]
    assert shifts(many) == {} and looked == [0, 7, 14, 21, 28, 35, 42, 49]
    looked.clear()
    shifts(many[:1])
    assert looked == [0]


@pytest.mark.parametrize("turn", TURNS)
def test_masks_are_turned_back_as_numpy_says(turn):
    back = {6: 8, 8: 6}.get(turn, turn)
    way = turned(examples(3, TURNS[back]))
    mask = np.arange(9).reshape(3, 3)
    assert np.array_equal(eval(way, {"np": np, "mask": TURNS[back](mask)}), mask)


def test_masks_that_fit_are_not_turned_and_few_of_many_are_no_rule():
    assert turned(examples(3)) is None
    assert turned(examples(4)[:2] + examples(4, lambda mask: mask.T)[2:]) is None
    assert turned([]) is None


def test_what_does_not_count_draws_no_edge():
    index, counted = np.array([[0, 1, 1, 2]]), np.array([[True, True, True, False]])
    assert without(index, counted).tolist() == [[0, 1, 1, 1]]
    assert without(index, ~counted | counted).tolist() == index.tolist()
    weight = np.ones((64, 64), np.float32)
    weight[:32] = 0
    some = examples(1, lambda mask: np.concatenate((np.roll(mask[:32], 9, axis=0), mask[32:])), weight)
    assert shifts(some) == {}


@pytest.mark.parametrize(
    ("signs", "shares", "found"),
    [
        ([1, 1, -1], [0.2, 0.3, 0.75], [2]),  # two are enough to tell what is usual, and half as many may be against it
        ([-1, -1, 1], [0.2, 0.3, 0.75], [2]),
        ([1, 1, 1, -1, -1], [0.2, 0.3, 0.2, 0.75, 0.75], []),  # more than half as many
        ([1, 1, -1], [0.2, 0.3, 0.45], []),  # whose share is not exchanged
        ([1, 1, -1], [0.5, 0.5, 0.9], [2]),  # as near to the one as to the other
        ([1, -1, 0], [0.2, 0.75, 0.2], []),
        ([1, 1, 0], [0.2, 0.3, 0.75], []),
    ],
)
def test_what_is_usual_is_told_by_two_masks_and_twice_as_many_as_are_against_it(signs, shares, found):
    assert inverted(signs, shares) == found
