"""Patches: where they come from, and what they weigh."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet.data.geometry import N_SYMMETRIES, symmetry
from minunet.data.mirror import mirror
from minunet.data.rng import generator
from minunet.data.sampling import Example, PatchSampler


def example(h, w, value=0.0, seed=0):
    rng = np.random.default_rng(seed)
    image = (rng.random((h, w, 1)) + value).astype(np.float32)
    return Example(image, (image[..., 0] > value + 0.5).astype(np.int32), None)


@given(size=st.integers(1, 9), before=st.integers(0, 30), after=st.integers(0, 30))
def test_mirror_is_numpys_reflection(size, before, after):
    image = np.arange(size)
    expected = np.pad(image, (before, after), mode="reflect")
    np.testing.assert_array_equal(image[mirror(np.arange(-before, size + after), size)], expected)


@pytest.mark.parametrize("size", [1, 37, 96, 256, 300])
def test_a_side_shorter_than_the_patch_is_mirrored_with_no_weight(size):
    sampler = PatchSampler([example(size, size)], 256, augment=False, random_state=0)
    x, labels, weights = sampler.batch(0, 0, 2)
    assert x.shape == (2, 256, 256, 1)
    assert labels.shape == (2, 256, 256)
    inside = min(size, 256)
    if size >= 256:
        assert weights is None
    else:
        assert weights.sum() == 2 * inside * inside
        below = (0, 256 - size)
        expected = np.pad(sampler.examples[0].image, (below, below, (0, 0)), mode="reflect" if size > 1 else "edge")
        np.testing.assert_array_equal(x[0], expected)


def test_labels_and_weights_move_with_the_image():
    base = example(50, 70)
    weighted = Example(base.image, base.label, (base.label + 1).astype(np.float32))
    x, labels, weights = PatchSampler([weighted], 32, random_state=1).batch(3, 2, 8)
    np.testing.assert_array_equal(labels, x[..., 0] > 0.5)
    np.testing.assert_array_equal(weights, labels + 1)


def test_the_margin_is_the_images_surroundings():
    e = example(64, 64)
    wide, _, _ = PatchSampler([e], 16, margin=8, random_state=5).batch(0, 0, 4)
    narrow, _, _ = PatchSampler([e], 16, margin=0, random_state=5).batch(0, 0, 4)
    np.testing.assert_array_equal(wide[:, 8:-8, 8:-8], narrow)


def test_a_patch_depends_on_its_number_alone():
    sampler = PatchSampler([example(64, 64), example(90, 70, seed=1)], 16, random_state=7)
    one_by_one = np.concatenate([sampler.batch(2, i, 1)[0] for i in range(4)])
    np.testing.assert_array_equal(sampler.batch(2, 0, 4)[0], one_by_one)
    assert (sampler.batch(3, 0, 4)[0] != one_by_one).any()


def test_it_is_told_which_image_a_patch_is_of():
    examples = [Example(np.full((8, 8 + i, 1), i), np.zeros((8, 8 + i), int), None, f"x[{i}]") for i in range(4)]
    sampler = PatchSampler(examples, 4, random_state=3)
    told = [sampler.drawn(2, number).name for number in range(40)]
    assert told == [f"x[{int(x[0, 0, 0])}]" for index in range(10) for x in sampler.batch(2, index, 4)[0]]
    assert len(set(told)) == 4


def test_images_are_drawn_in_proportion_to_their_area():
    sampler = PatchSampler([example(16, 16), example(48, 16, value=10)], 16, random_state=0)
    share = np.mean([sampler.batch(0, i, 20)[0][:, 0, 0, 0] >= 10 for i in range(30)])
    assert share == pytest.approx(0.75, abs=0.06)


def test_generators_differ_by_purpose_and_counter():
    draws = {generator(*key).random() for key in ((0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1))}
    assert len(draws) == 4
    assert generator(0, "a", 1).random() == generator(0, "a", 1).random()


def numbered(h, w):
    """An image whose pixels all differ, with labels that repeat it."""
    label = np.arange(h * w, dtype=np.int32).reshape(h, w)
    return Example(label[..., None].astype(np.float32), label, None)


@given(
    h=st.sampled_from([1, 2, 5, 16, 37]), w=st.sampled_from([1, 3, 16, 40]), margin=st.sampled_from([0, 4, 20]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_a_patch_is_a_window_of_the_mirrored_image(h, w, margin, seed):
    example, size = numbered(h, w), 16
    x, labels, weights = PatchSampler([example], size, margin=margin, augment=False, random_state=seed).batch(1, 1, 3)
    assert x.dtype == np.float32 and labels.dtype == np.int32
    around = ((margin, margin + size),) * 2
    mirrored = np.pad(example.label, around, mode="reflect")
    for i in range(3):
        top, left = divmod(int(labels[i, 0, 0]), w)
        window = mirrored[top : top + size + 2 * margin, left : left + size + 2 * margin]
        np.testing.assert_array_equal(x[i, ..., 0], window)
        np.testing.assert_array_equal(x[i, margin : margin + size, margin : margin + size, 0], labels[i])
        weight = np.ones((size, size)) if weights is None else weights[i]
        counted = labels[i][weight == 1]
        assert set(np.unique(weight)) <= {0, 1}
        assert len(counted) == len(set(counted.tolist())) == min(h, size) * min(w, size)  # each pixel once at most


def test_every_position_and_every_symmetry_is_drawn_alike():
    sampler = PatchSampler([numbered(10, 9)], 8, random_state=0)
    corners = np.concatenate([sampler.batch(epoch, 0, 48)[1][:, ::7, ::7].reshape(48, 4) for epoch in range(50)])
    counts = np.unique(corners, axis=0, return_counts=True)[1]
    assert len(counts) == 3 * 2 * 8  # positions and symmetries
    expected = 50 * 48 / 48
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 85  # 47 degrees of freedom: exceeded once in 1,500 seeds
    unturned = PatchSampler([numbered(10, 9)], 8, augment=False, random_state=0).batch(0, 0, 48)[1]
    assert (unturned[:, 0, 1] - unturned[:, 0, 0] == 1).all()


def test_patches_are_the_callers_and_the_images_stay():
    source = numbered(20, 20)
    source.image.flags.writeable = source.label.flags.writeable = False
    sampler = PatchSampler([source], 16, random_state=0)
    x, labels, _ = sampler.batch(0, 0, 2)
    before = x.copy()
    x[...], labels[...] = -1, -1
    np.testing.assert_array_equal(sampler.batch(0, 0, 2)[0], before)
    assert sampler.training_pixels == 400


def test_weights_and_padding_multiply():
    e = example(10, 10)
    weighted = Example(e.image, e.label, np.full((10, 10), 0.5, np.float32))
    weights = PatchSampler([weighted], 16, augment=False, random_state=0).batch(0, 0, 1)[2]
    assert (weights[0, :10, :10] == 0.5).all() and weights.sum() == 50


def test_the_symmetries_are_the_eight_isometries_of_the_square():
    square = np.arange(9).reshape(3, 3)
    seen = {symmetry(square, k).tobytes() for k in range(N_SYMMETRIES)}
    transposed = (square, square.T)  # the group, written another way: transposition and the two flips
    expected = {s[::i, ::j].tobytes() for s in transposed for i in (1, -1) for j in (1, -1)}
    assert seen == expected and len(seen) == 8
    np.testing.assert_array_equal(symmetry(square, 0), square)


def test_a_symmetry_moves_an_image_and_its_labels_alike_and_writes_nothing():
    image = np.random.default_rng(0).random((6, 6, 2))
    label = image[..., 1].copy()
    image.flags.writeable = label.flags.writeable = False
    for k in range(N_SYMMETRIES):
        np.testing.assert_array_equal(symmetry(image, k)[..., 1], symmetry(label, k))
