"""What is held out: never trained on, never beside what is, no part of a group, and never all there is of a class."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet.data.rng import generator
from minunet.data.sampling import Example, PatchSampler
from minunet.data.splitting import FEW, LEAST, MIN_STRIP, read_groups, split, stacks

FRACTIONS = st.sampled_from([0.01, 0.1, 0.3, 0.5, 0.9])


def images(parts):
    return [part.image for part in parts]


def counted(labels, weights=None):
    """Return the function that counts the pixels of each class in a part of these labels."""
    k = max(label.max() for label in labels) + 1
    kept = [np.ones(label.shape, bool) for label in labels] if weights is None else weights
    return lambda part: np.bincount(labels[part.image][part.rows, part.cols][kept[part.image][part.rows, part.cols]], minlength=k)


def marked(shapes, parts):
    """Return for each image how many of the parts each pixel is in."""
    found = [np.zeros(shape, int) for shape in shapes]
    for part in parts:
        found[part.image][part.rows, part.cols] += 1
    return found


@given(n=st.integers(FEW, 60), fraction=FRACTIONS, seed=st.integers(0, 99))
def test_of_ten_images_or_more_whole_ones_are_held_out_as_the_seed_draws_them(n, fraction, seed):
    shapes = [(8 + i % 3, 9) for i in range(n)]
    training, held, _ = split(shapes, fraction, seed)
    drawn = generator(seed, "split").permutation(n)[: min(math.ceil(fraction * n), n - 1)]
    assert images(held) == sorted(drawn.tolist())
    assert sorted(images(training) + images(held)) == list(range(n))
    assert all(part.shape == shapes[part.image] for part in training + held)


@given(
    sides=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=FEW - 1), fraction=FRACTIONS,
    alike=st.booleans(),
)  # fmt: skip
def test_of_fewer_the_end_of_each_ones_longer_side_is_held_out(sides, fraction, alike):
    training, held, _ = split(sides, fraction, 0, groups=[0] * len(sides) if alike else None)
    assert all((np.add(*both) == 1).all() for both in zip(marked(sides, training), marked(sides, held), strict=True))
    strips = {part.image: part for part in held}
    for i, (h, w) in enumerate(sides):
        strip = max(MIN_STRIP, round(fraction * max(h, w)))
        if max(h, w) - strip < MIN_STRIP:
            assert i not in strips
        elif h >= w:
            assert (strips[i].rows, strips[i].cols) == (slice(h - strip, h), slice(0, w))
        else:
            assert (strips[i].rows, strips[i].cols) == (slice(0, h), slice(w - strip, w))


@given(groups=st.lists(st.integers(0, 6), min_size=2, max_size=40), fraction=FRACTIONS, seed=st.integers(0, 9))
def test_groups_are_never_cut(groups, fraction, seed):
    n, sizes = len(groups), [groups.count(group) for group in set(groups)]
    if len(sizes) == 1:
        return
    training, held, _ = split([(20, 20)] * n, fraction, seed, groups=[f"patient {group}" for group in groups])
    assert training and held and sorted(images(training) + images(held)) == list(range(n))
    assert not {groups[i] for i in images(training)} & {groups[i] for i in images(held)}
    assert len(held) <= max(math.ceil(fraction * n), min(sizes))
    left = [groups.count(group) for group in {groups[i] for i in images(training)}]
    assert len(held) + min(left) > min(math.ceil(fraction * n), n - 1)  # no other would have fitted, too


@given(n=st.integers(FEW, 40), fraction=FRACTIONS, seed=st.integers(0, 99), only=st.integers(0, 39))
def test_no_page_that_is_held_out_of_a_stack_has_its_neighbour_in_training(n, fraction, seed, only):
    labels = [np.full((4, 4), int(page == only % n)) for page in range(n)]  # a class on one page alone
    training, held, _ = split([(4, 4)] * n, fraction, seed, groups=["stack"] * n, count=counted(labels))
    assert only % n in images(training)
    block = images(held)
    if block:
        assert block == list(range(block[0], block[0] + min(math.ceil(fraction * n), n - 2)))
        assert images(training) == [page for page in range(n) if page < block[0] - 1 or page > block[-1] + 1]
    else:
        assert fraction > 0.4 and images(training) == list(range(n))  # every block, or the page beside it, has the class


def test_of_a_stack_the_seed_draws_an_end():
    blocks = {tuple(images(split([(9, 9)] * 30, 0.1, seed, groups=[0] * 30).held_out)) for seed in range(12)}
    assert blocks == {(0, 1, 2), (27, 28, 29)}


@given(data=st.data(), n=st.sampled_from([1, 3, 12]), fraction=st.sampled_from([0.1, 0.4]), seed=st.integers(0, 99))
def test_each_class_is_trained_on_wherever_it_lies(data, n, fraction, seed):
    """Classes 1 and 2 lie in boxes on some images; weights leave out some of their pixels."""
    shapes = [(24, 20 + 8 * (i % 2)) for i in range(n)]
    labels, weights = [np.zeros(shape, int) for shape in shapes], [np.ones(shape, bool) for shape in shapes]
    for value in (1, 2):
        for i in data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=3)):
            row, col = data.draw(st.integers(0, 23)), data.draw(st.integers(0, 19))
            labels[i][row : row + 6, col : col + 6] = value
            weights[i][row : row + 3, col : col + 3] = data.draw(st.booleans())
    groups = data.draw(st.sampled_from([None, [i // 2 for i in range(n)], [0] * n]))
    count = counted(labels, weights)
    whole = split(shapes, 0, seed).training
    total = np.sum([count(part) for part in whole], axis=0)
    training, held, scarce = split(shapes, fraction, seed, groups=groups, count=count)
    trained = np.sum([count(part) for part in training], axis=0)
    assert (trained >= LEAST * (1 - fraction) * total).all()
    assert max(map(np.max, marked(shapes, training + held))) == 1
    assert held or (scarce and training == whole)
    if held:
        assert np.sum([count(part) for part in held], axis=0).any()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("n", [1, 4, 9])
def test_where_a_class_fills_the_end_of_all_images_their_starts_are_held_out(n, turned):
    label = np.zeros((64, 48), int)
    label[59:] = 1
    label = label.T if turned else label
    training, held, _ = split([label.shape] * n, 0.1, 0, count=counted([label] * n))
    assert [(part.cols if turned else part.rows) for part in held] == [slice(0, 8)] * n
    assert sum(counted([label] * n)(part)[1] for part in training) == n * 5 * 48


def test_a_class_at_each_side_leaves_nothing_to_hold_out():
    label = np.zeros((40, 40), int)
    label[:, :6], label[:, -6:], label[:6], label[-6:] = 1, 2, 3, 4
    training, held, scarce = split([label.shape], 0.15, 0, count=counted([label]))
    assert (images(training), held, scarce) == ([0], [], [1, 2, 3, 4])
    other = np.zeros((40, 40), int)  # which has none of them, so that a strip of it can be spared
    _, held, _ = split([label.shape] * 2, 0.15, 0, count=counted([label, other]))
    assert images(held) == [1]


@given(seed=st.integers(0, 99), margin=st.sampled_from([0, 5]), fraction=st.sampled_from([0.1, 0.3]), n=st.integers(1, 3))
def test_no_patch_contains_a_pixel_of_the_held_out_strip(seed, margin, fraction, n):
    shapes = [(60 + 10 * i, 40 + 20 * i) for i in range(n)]
    training, held, _ = split(shapes, fraction, seed)
    values = [1000 * inside for inside in marked(shapes, held)]
    examples = [Example(value[..., None].astype(np.float32), value, None) for value in values]
    kept = [examples[part.image].crop(part.rows, part.cols) for part in training]
    sampler = PatchSampler(kept, 32, margin=margin, random_state=seed)
    assert len(held) == n and max(sampler.batch(0, index, 4)[0].max() for index in range(4)) < 1000


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        (["a", "b"], r"groups is of length 2; it takes a label for each of the 3 images"),
        ("abc", r"groups is 'abc'; it takes a label for each"),
        (7, r"groups is 7; it takes a label for each"),
        (np.array(7), r"groups is .*7.*; it takes a label for each"),
        ({"a", "b", "c"}, r"groups is \{.*; it takes a label for each of the 3 images, in their order"),
        (["a", None, "b"], r"groups\[1\] is None; it takes a label"),
        ([0.0, 1.0, float("nan")], r"groups\[2\] is nan; it takes a label"),
        (np.ma.array([0, 1, 2], mask=[True, False, False]), r"groups\[0\] is masked; it takes a label"),
        (np.array(["2020-01-01", "NaT", "NaT"], "datetime64[ns]"), r"groups\[1\] is .*NaT.*; it takes a label"),
        (np.zeros((3, 2)), r"groups\[0\] is array.*; it takes a label"),
    ],
)
def test_groups_that_name_nothing_are_refused(groups, says):
    with pytest.raises(ValueError, match=says):
        read_groups(groups, 3)


def test_labels_of_any_kind_name_groups():
    class Tensor:
        """Like those of other libraries, whose elements are each equal to none."""

        def __array__(self, dtype=None, copy=None):
            return np.array([4, 4, 5])

    for groups in (["a", "a", 1], ((1, 2), (1, 2), 3), np.array([4, 4, 5]), Tensor(), iter([4, 4, 5])):
        a, b, c = read_groups(groups, 3)
        assert a == b != c


def test_pages_of_one_file_are_a_group():
    assert stacks(["a.tif", "a.tif", "b.tif"]) == ["a.tif", "a.tif", "b.tif"]
    assert stacks(["a.tif", "b.tif"]) is None


@pytest.mark.parametrize(("n", "n_held"), [(9, None), (10, 1), (11, 2), (20, 2), (21, 3)])
def test_ten_images_are_enough_to_hold_out_whole_ones(n, n_held):
    """Numbers of our own: a tenth, rounded up, of ten images or more; of nine, a strip of each."""
    training, held, _ = split([(40, 30)] * n, 0.1, 3)
    if n_held is None:
        assert [(part.rows, part.cols) for part in held] == [(slice(32, 40), slice(0, 30))] * 9 and len(training) == 9
        assert [(part.rows, part.cols) for part in training] == [(slice(0, 32), slice(0, 30))] * 9
    else:
        assert (len(training), len(held)) == (n - n_held, n_held) and all(part.shape == (40, 30) for part in held)
    # Pages of one stack: a block of ten or more at one end, beside which one page is left out; of fewer, a strip of each.
    pages, block, _ = split([(40, 30)] * n, 0.1, 3, groups=["a stack"] * n)
    assert (len(pages), len(block)) == ((9, 9) if n_held is None else (n - n_held - 1, n_held))


@pytest.mark.parametrize(("side", "strip"), [(15, None), (16, 8), (17, 8), (84, 8), (85, 8), (86, 9)])
def test_a_strip_is_of_eight_pixels_at_least_and_leaves_as_many(side, strip):
    """A tenth of 85 is 8.5, and round() goes to the even number."""
    training, held, _ = split([(side, 9)], 0.1, 0)
    assert [part.rows for part in held] == ([] if strip is None else [slice(side - strip, side)])
    assert [part.rows for part in training] == [slice(0, side - (strip or 0))]


@pytest.mark.parametrize(("left", "is_spared"), [(4, False), (5, True), (6, True)])
def test_a_class_may_be_held_out_while_a_tenth_of_its_fair_share_is_trained_on(left, is_spared):
    """Half is held out, so that of 100 pixels 50 would be trained on if the class lay evenly: 5 are enough."""
    pixels = np.array([[50, 100 - left]] + [[50, 0]] * 8 + [[50, left]])
    held = [images(split([(20, 20)] * 10, 0.5, seed, count=lambda part: pixels[part.image])[1]) for seed in range(20)]
    assert any(0 in each for each in held) == is_spared
    assert not any({0, 9} <= set(each) for each in held)


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_each_place_of_a_stacks_block_is_tried_from_the_second_page_on(is_mirrored):
    """Two pages of twelve are held out. All other places show no class, or would take the only page of one out of training."""
    pixels = np.zeros((12, 2), int)
    pixels[2, 0] = pixels[5, 0] = pixels[4, 1] = 10  # what lies on pages 1 and 2 can be spared; on 0 and 1 is nothing
    pixels = pixels[::-1] if is_mirrored else pixels
    for seed in range(4):
        training, held, _ = split([(20, 20)] * 12, 0.1, seed, groups=[0] * 12, count=lambda part: pixels[part.image])
        assert images(held) == ([9, 10] if is_mirrored else [1, 2])
        assert images(training) == ([*range(8)] if is_mirrored else [*range(4, 12)])
