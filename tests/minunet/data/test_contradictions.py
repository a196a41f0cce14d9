"""Masks compared with each other: one class written in two ways, numbers of objects, values that say nothing; and honest sets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet.data import labels
from minunet.data.codes import Codes, codes_of
from minunet.data.contradictions import left_open, objects, strays, two_codes

SIDE = 24


def mask_of(values, seed=0, ground=0, dtype=np.int64, pieces=1):
    """Return a mask with a square of each value, or several, at places drawn by the seed, none touching another."""
    mask = np.full((SIDE, SIDE), ground, dtype)
    places = np.random.default_rng(seed).permutation(list(itertools.product(range(1, SIDE, 4), repeat=2)))
    for value, (row, column) in zip(np.repeat(values, pieces), places.tolist(), strict=False):
        mask[row : row + 3, column : column + 3] = value
    return mask


def masks_of(sets, **how):
    return [mask_of(values, seed, **how) for seed, values in enumerate(sets)]


def learn_classes(masks, classes=None):
    return labels.classes_of([codes_of(mask, name=f"y[{i}]") for i, mask in enumerate(masks)], classes)


def found_in(masks):
    return [codes_of(mask, name=f"{i}.png") for i, mask in enumerate(masks)]


TWO_CODES = [  # the values of each mask besides 0, and the classes that join them
    ([[1], [255]], [0, (255, 1)]),
    ([[251], [255], []], [0, (255, 251)]),
    ([[255], [65535]], [0, (65535, 255)]),
    ([[1], [], [65535]], [0, (65535, 1)]),
    ([[1], [251], [255]], [0, (255, 1, 251)]),
    ([[1, 2], [128, 255]], [0, (128, 1), (255, 2)]),
    ([[1], [2], [127], [255, 127]], [0, (127, 1), (255, 2)]),
    ([[1, 2, 3], [85, 170, 255]], [0, (85, 1), (170, 2), (255, 3)]),
]


@given(case=st.sampled_from(TWO_CODES), order=st.randoms(use_true_random=False), copies=st.integers(1, 3))
def test_one_class_in_two_codes_is_refused_and_joined_by_the_classes_that_are_offered(case, order, copies):
    sets, likely = case[0] * copies, case[1]
    order.shuffle(sets)
    masks = masks_of(sets)
    with pytest.raises(labels.ClassesError, match=r"differ in their codes: y\[\d\]") as refused:
        learn_classes(masks)
    assert refused.value.likely == likely
    classes = learn_classes(masks, classes=likely)
    assert classes.tolist() == [role[0] if isinstance(role, tuple) else role for role in likely]
    _, joined = labels.given_classes(likely)
    index = {value: i for i, role in enumerate(likely) for value in (role if isinstance(role, tuple) else [role])}
    for mask in masks:
        np.testing.assert_array_equal(labels.encode(mask, classes, joined), np.vectorize(index.get)(mask))


@pytest.mark.parametrize(("sets", "_"), TWO_CODES)
def test_what_is_listed_is_a_class_of_its_own(sets, _):
    everything = sorted({0}.union(*sets))
    assert learn_classes(masks_of(sets), classes=everything).tolist() == everything


def test_masks_of_other_dtypes_and_grounds_are_compared_by_role():
    white = mask_of([255], dtype=np.uint8)
    assert two_codes(found_in([white, mask_of([1]).astype(bool)])).likely == [0, (255, 1)]
    assert two_codes(found_in([white, mask_of([2], ground=1)])).likely == [(0, 1), (255, 2)]
    assert two_codes(found_in([white, np.ones((4, 4), np.uint8)])).likely == [0, (255, 1)]


def test_classes_that_would_make_another_class_of_one_of_two_codes_are_refused():
    masks = masks_of([[1], [255]])
    with pytest.raises(
        labels.ClassesError, match=r"Nearest to 1 is another class\. classes=\[0, \(255, 1\)\] \(--classes 0 255,1\)"
    ):
        learn_classes(masks, classes=[0, 255])
    assert learn_classes(masks_of([[251], [255]]), classes=[0, 255]).tolist() == [0, 255]  # 251 is near 255


DOUBTFUL = [[[128], [255]], [[1], [100]], [[200], [255]], [[1, 2, 3], [10, 20, 255]]]


@pytest.mark.parametrize("sets", DOUBTFUL)
def test_a_doubt_is_told_and_refuses_nothing(sets):
    masks = masks_of(sets, pieces=2)
    assert learn_classes(masks).tolist() == [0, *itertools.chain(*sets)]
    (text,) = labels.doubts(found_in(masks))
    assert "may be the same classes" in text and "0.png hold" in text and "1.png hold" in text
    assert labels.doubts(found_in(masks), classes=[0, *itertools.chain(*sets)]) == []


HONEST = [
    [[1], [2]], [[15], [12], [15, 7], [3]], [[1, 255], [255], [1]], [[1, 128], [1, 255]], [[85], [170], [255]],
    [[50], [100], [150], [200], [250]], [[1, 255], [2, 255], [7, 255]], [[7, 8, 11], [8, 23], [7, 26]],
]  # fmt: skip


@pytest.mark.parametrize("sets", HONEST)
def test_masks_that_show_different_classes_are_honest(sets):
    masks = masks_of(sets, pieces=2)
    assert learn_classes(masks).tolist() == sorted({0}.union(*sets))
    assert labels.doubts(found_in(masks)) == []


@given(st.lists(st.sets(st.integers(1, 20), max_size=4), min_size=2, max_size=6), st.booleans())
def test_numbered_classes_are_never_two_codes(sets, with_void):
    masks = masks_of([[*values, *([255] if with_void and values else [])] for values in map(sorted, sets)])
    assert two_codes(found_in(masks)) is None


@given(st.lists(st.integers(0, 20), min_size=2, max_size=6).filter(lambda n: max(n) >= 4 and len({*n} - {0}) > 1))
def test_numbers_of_objects_are_refused_as_such(counts):
    masks = masks_of([range(1, n + 1) for n in counts])
    with pytest.raises(labels.ClassesError, match=r"instance labels .* classes=\[0, 1\] \(--classes 0 1\)") as refused:
        learn_classes(masks)
    assert refused.value.likely == [0, 1]
    assert learn_classes(masks, classes=[0, 1]).tolist() == [0, 1]
    assert learn_classes(masks, classes=range(max(counts) + 1)).tolist() == [*range(max(counts) + 1)]


ORGANS = [
    [[1, 2, 3]] * 4, [[1, 2, 3, 4, 5]] * 3, [[1], [1, 2], [1, 2]], [[1, 2, 3], [1, 3], [2, 3]],
    [[3, 7, 12, 15], [3, 7], [12, 15], [3]],
]  # fmt: skip


@pytest.mark.parametrize("sets", ORGANS)
def test_classes_of_one_piece_each_are_honest(sets):
    assert objects(found_in(masks_of(sets))) is None


@pytest.mark.parametrize("sets", [[range(1, 6), range(1, 8)], [[1, 5, 8], [11, 14, 20]]])
def test_values_in_several_pieces_number_no_objects(sets):
    assert objects(found_in(masks_of(sets, pieces=2))) is None


@pytest.mark.parametrize("sets", [[[1, 2, 3], [1, 2]], [range(1, 14)], [[2, 9, 14], [3, 17, 20], [5, 21]]])
def test_what_may_number_objects_is_a_doubt(sets):
    (text,) = labels.doubts(found_in(masks_of(sets)))
    assert "may be instance labels" in text and "--classes 0 1)" in text


@pytest.mark.parametrize(
    ("sets", "value"), [([[1, 2, 255]], 255), ([[1, -1], [2]], -1), ([[1, 255], [3]], 255), ([[255]], None), ([[1, 2]], None),
                        ([[1, 100]], None), ([[1, -1, 255]], None)],
)  # fmt: skip
def test_a_last_value_beside_numbered_classes_may_say_nothing(sets, value):
    assert left_open(found_in(masks_of(sets))) == value


@pytest.mark.parametrize(
    ("values", "classes", "far"),
    [([1, 2, 255], [0, 1, 2], [255]), ([1, -1], [0, 1], [-1]), ([128, 255], [0, 255], [128]), ([1, 2, 3], [0, 1], []),
     ([1, 2, 3], [0, 1, 2], [3]), ([251, 4], [0, 255], []), ([1, 255], [0, (255, 1)], []), ([*range(20, 40)], [0, 1], [])],
)  # fmt: skip
def test_values_far_from_every_class_are_found(values, classes, far):
    assert strays(found_in([mask_of(values)]), *labels.given_classes(classes)) == far


@given(st.lists(st.lists(st.integers(-300, 300), min_size=1, max_size=3), min_size=2, max_size=4), st.integers(-400, 400))
def test_a_joined_value_is_as_near_as_its_class(groups, pixel):
    listed = [value for group in groups for value in group]
    if len(set(listed)) < len(listed):
        with pytest.raises(ValueError, match="classes is"):
            labels.given_classes([*groups, [listed[0], 999], [999]])
        return
    classes, joined = labels.given_classes(groups)
    place = int(labels.encode(np.array([[pixel]]), classes, joined)[0, 0])
    nearest = min(listed, key=lambda value: (abs(value - pixel), value))
    assert classes[place] == next(group[0] for group in groups if nearest in group)


@pytest.mark.parametrize("classes", [[0, (1, 0)], [(0, 1)], [0, ()], [0, "a"], "01", 5, [0, (1, 2.5)], [[0, 1], [1, 0]], None])
def test_joined_classes_that_cannot_be_meant(classes):
    with pytest.raises(ValueError, match="classes is"):
        labels.given_classes(classes)


# ---- Limits, each on both sides ----


def counted(values, *, solid=100, pieces=1):
    """Return a mask's codes by hand: 100 pixels a value."""
    hundred, each = np.full(len(values), 100), np.broadcast_to(pieces, len(values))
    return Codes("y", np.dtype(int), np.array(values), hundred, np.full(len(values), solid), hundred, each)


@pytest.mark.parametrize(
    ("sets", "certain"),
    [([[1], [87]], None), ([[1], [88]], False), ([[1], [229]], False), ([[1], [230]], True),
     ([[229], [255]], False), ([[230], [255]], True),
     ([[1, 2], [34078, 65535]], True), ([[1, 2], [34079, 65535]], False)],
)  # fmt: skip
def test_how_far_values_may_be_apart_to_be_one_class(sets, certain):
    """By rule: 88 is far from classes that are numbered; a tenth below white is white; 2 % of all is even."""
    doubt = two_codes(found_in(masks_of(sets)))
    assert (doubt and doubt.certain) is certain


@pytest.mark.parametrize(
    ("sets", "certain"),
    [([[1], [1, 2]], None), ([[1], [1, 2, 3]], False), ([[1], [1, 2, 3, 4]], True),
     ([range(1, 12)] * 2, None), ([range(1, 13)] * 2, False),
     ([[2, 5], [6, 8]], False), ([[2, 5], [6, 7]], None),
     ([[2, 9, 14], [9, 14, 20]], False), ([[2, 9, 14, 20], [9, 14, 20, 31]], None)],
)  # fmt: skip
def test_how_many_numbers_are_objects(sets, certain):
    """1 to 3 where they differ, 4 to be sure, 12 where they do not; with gaps, up to twice as far, 1.5 times as many at most."""
    doubt = objects(found_in(masks_of(sets)))
    assert (doubt and doubt.certain) is certain


@pytest.mark.parametrize(("several", "number"), [(10, True), (11, False)])
def test_nine_objects_in_ten_are_in_one_piece(several, number):
    pieces = np.repeat([2, 1], [several, 100 - several]).reshape(4, 25)
    assert (objects([counted(range(1, 26), pieces=own) for own in pieces]) is not None) is number


@pytest.mark.parametrize(
    ("values", "classes", "far"),
    [([21], [0, 1], []), ([22], [0, 1], [22]), ([25], [0, 100], []), ([26], [0, 100], [26]),
     ([100, 120], [0, 255], [100, 120]), ([100, 120, 140], [0, 255], [])],
)  # fmt: skip
def test_how_far_and_how_many_are_strays(values, classes, far):
    assert strays([counted(values)], *labels.given_classes(classes)) == far


@pytest.mark.parametrize(("solid", "far"), [(50, [128]), (49, [])])
def test_strays_have_half_of_their_pixels_in_squares(solid, far):
    assert strays([counted([128], solid=solid)], *labels.given_classes([0, 255])) == far


def test_three_masks_are_named_and_those_beyond_are_counted():
    three, four = (two_codes(found_in(masks_of([[255]] * n + [[1]]))).problem for n in (3, 4))
    assert "0.png, 1.png, 2.png hold 0, 255" in three and "0.png, 1.png, 2.png and 1 more hold 0, 255" in four
