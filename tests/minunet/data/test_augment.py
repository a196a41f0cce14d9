"""Augmentation: what is drawn, what each strength does, and what a function of the user's may do."""

import dataclasses
import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet import Augmentation, UNet
from minunet.data import augment
from minunet.data.augment import MOST, SHARES
from minunet.data.geometry import Window
from minunet.data.rng import generator
from minunet.data.sampling import Example, PatchSampler

OFF = dict.fromkeys(SHARES, 0.0)
MOVES = ("rotation", "scale", "elastic")


def example(h=60, w=50, channels=2, seed=0, weight=None):
    rng = np.random.default_rng(seed)
    return Example(rng.uniform(-1, 1, (h, w, channels)).astype(np.float32), rng.integers(0, 3, (h, w), np.int32), weight, "x[0]")


def batches(how, n=6, *, of=None, margin=0, seed=0, **options):
    """Return the patches of one batch, together."""
    sampler = PatchSampler([of or example()], 16, margin=margin, augment=how, random_state=seed, n_classes=3, **options)
    x, labels, weights = sampler.batch(0, 0, n)
    return x, labels, np.ones(labels.shape) if weights is None else weights


def alone(name, **others):
    """Return an augmentation of one strength, in every patch."""
    return Augmentation(flips=False, **OFF | {name: getattr(Augmentation(), name)} | others, often=10)


@pytest.mark.parametrize("name", SHARES)
def test_each_strength_acts_and_0_switches_it_off(name):
    """On the image alone where it is of intensity; and it leaves what else is drawn as it was."""
    plain, changed = batches(False), batches(alone(name))
    assert (changed[0] != plain[0]).reshape(6, -1).any(axis=1).all()
    assert (name in MOVES) == bool((plain[1] != changed[1]).any())
    assert name in MOVES or (changed[2] == 1).all()
    everything = Augmentation(often=10)
    for a, b in zip(batches(dataclasses.replace(everything, **OFF)), batches("flips"), strict=True):
        np.testing.assert_array_equal(a, b)
    others = {other: 0.0 for other in SHARES if other != name}
    turned = batches(dataclasses.replace(everything, **others))
    np.testing.assert_array_equal(np.sort(turned[0][0], axis=None), np.sort(changed[0][0], axis=None))


@pytest.mark.parametrize("name", SHARES)
def test_it_is_drawn_as_often_as_is_said(name):
    how = dataclasses.replace(alone(name), often=2.0)
    plain, changed = batches(False, 400), batches(how, 400)
    share = (plain[0] != changed[0]).reshape(400, -1).any(axis=1).mean()
    assert share == pytest.approx(2 * SHARES[name], abs=0.1)  # 4 standard deviations


def test_patches_of_which_nothing_is_drawn_are_those_of_flips_to_the_bit():
    plain, some = batches("flips", 60), batches(Augmentation(), 60)
    same = (plain[0] == some[0]).reshape(60, -1).all(axis=1)
    assert 0.1 < same.mean() < 0.5  # 0.8^4 0.85^2 0.7 0.9: 0.19 of them
    np.testing.assert_array_equal(plain[1][same], some[1][same])


def test_the_largest_changes_are_the_strengths():
    values = np.linspace(-1, 1, 3600, dtype=np.float32).reshape(60, 60, 1)
    of = Example(values, np.zeros((60, 60), np.int32), None)
    plain = batches(False, 300, of=of)[0]
    shift = batches(alone("brightness"), 300, of=of)[0] - plain
    assert 0.19 < np.abs(shift).max() <= 0.2 + 1e-6 and abs(shift.mean()) < 0.03
    spread = batches(alone("contrast"), 300, of=of)[0].std(axis=(1, 2, 3)) / plain.std(axis=(1, 2, 3))
    assert 1.45 < spread.max() < 1.5 + 1e-4 and 1 / 1.5 - 1e-4 < spread.min() < 0.69
    assert np.log(spread).mean() == pytest.approx(0, abs=0.05)
    noise = (batches(alone("noise"), 300, of=of)[0] - plain).std(axis=(1, 2, 3))
    assert 0.045 < noise.max() < 0.055 and noise.min() < 0.005


@given(seed=st.integers(0, 10**6), margin=st.sampled_from([0, 4]), strength=st.sampled_from(["flips", *SHARES, "all"]))
def test_image_labels_and_weights_move_together(seed, margin, strength):
    """What is painted into the image is found in the label and the weight; where the image is resampled, but for edges."""
    y, x = np.mgrid[:60, :50]
    label = ((x - 23) ** 2 + (y - 31) ** 2 < 200).astype(np.int32) + (x + y > 70)
    image = np.stack([label == k for k in range(3)], axis=2).astype(np.float32)
    how = Augmentation(often=10, **{} if strength == "all" else OFF | {strength: getattr(Augmentation(), strength)})
    of = Example(image, label, (label + 1).astype(np.float32))
    found, labels, weights = batches(how, 3, of=of, margin=margin, seed=seed)
    inner = found[:, margin : margin + 16, margin : margin + 16]
    counted = weights > 0
    np.testing.assert_array_equal(weights[counted], labels[counted] + 1)
    assert set(np.unique(labels)) <= {0, 1, 2} and labels.dtype == np.int32
    agree = (inner.argmax(axis=3) == labels) | ~counted
    assert agree.mean() == 1 if strength in ("flips", "brightness", "gamma", "noise") else agree.mean() > 0.9


def test_a_patch_that_would_count_nowhere_is_left_where_it_is():
    """Its one pixel with a weight would be moved out."""
    weight = np.zeros((60, 60), np.float32)
    weight[0, 0] = 1
    how = Augmentation(**OFF | {"rotation": 180, "scale": 1}, flips=False, often=10)
    window = Window(example(60, 60, weight=weight), 0, 0, 16)
    patches = [how.patch(window, generator(0, "patch", 0, i)) for i in range(60)]
    left = [np.array_equal(patch.image, window.plain().image) for patch in patches]
    assert all(patch.weight.any() for patch in patches) and 0 < sum(left) < 60


def test_a_patch_is_the_same_at_any_place_in_a_batch_and_differs_between_patches():
    sampler = PatchSampler([example(), example(seed=1)], 16, augment=True, random_state=3)
    one_by_one = np.concatenate([sampler.batch(2, i, 1)[0] for i in range(6)])
    np.testing.assert_array_equal(sampler.batch(2, 0, 6)[0], one_by_one)
    assert len({patch.tobytes() for patch in one_by_one}) == 6


def test_the_same_places_are_drawn_whatever_the_augmentation_and_told():
    of = [Example(np.full((20, 20 + i, 1), i, np.float32), np.zeros((20, 20 + i), np.int32), None, f"x[{i}]") for i in range(4)]
    for how in (False, "flips", Augmentation(**OFF | {"rotation": 45, "elastic": 10}, often=10)):
        sampler = PatchSampler(of, 16, augment=how, random_state=3)
        seen = [round(float(patch.mean())) for index in range(10) for patch in sampler.batch(2, index, 4)[0]]
        assert [sampler.drawn(2, number).name for number in range(40)] == [f"x[{i}]" for i in seen]


# ---- The settings ----


def test_strengths_are_plain_numbers_and_equal_by_value():
    how = Augmentation(rotation=np.int8(30), flips=np.bool_(False), noise=np.float32(0.5))
    assert [type(value) for value in dataclasses.asdict(how).values()] == [bool, *[float] * 9]
    assert how == Augmentation(flips=False, rotation=30, noise=0.5) != Augmentation()
    assert augment.restored(augment.described(how)) == how
    assert set(MOST) == set(dataclasses.asdict(how)) - {"flips"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("rotation", 181), ("rotation", -1), ("scale", 1.5), ("noise", float("nan")), ("gamma", "1"), ("often", None),
     ("elastic", True), ("blur", float("inf")), ("flips", 1)],
)  # fmt: skip
def test_a_strength_that_cannot_be_is_named(name, value):
    with pytest.raises(ValueError, match=rf"^{name} is .* it takes "):
        Augmentation(**{name: value})


@pytest.mark.parametrize("value", ["no", "flip", None, 1, {"rotation": 3}, Augmentation, dict])
def test_what_is_no_augmentation_is_refused(value):
    with pytest.raises(ValueError, match=r"^augment is .* it takes True, False, 'flips', a minunet.Augmentation, or a function"):
        augment.check(value)
    for fine in (True, np.bool_(False), "flips", np.str_("flips"), Augmentation(), lambda image, mask, rng: (image, mask)):
        augment.check(fine)


# ---- A function of the user's ----


@pytest.mark.parametrize("margin", [0, 4])
def test_a_function_is_given_the_plain_patch_and_its_answer_is_what_the_network_sees(margin):
    weight = np.where(example().label == 2, 0, np.float32(0.5))
    of, given = example(weight=weight), []

    def flipped(image, mask, rng):
        given.append((image.copy(), mask.copy(), rng.random()))
        image[...] = image[:, ::-1].copy()  # it may write what it is given
        return image.astype(np.float64), mask[:, ::-1].astype(np.int8)

    x, labels, weights = batches(flipped, of=of, margin=margin)
    plain, plain_labels, plain_weights = batches(False, of=of, margin=margin)
    inner = slice(margin, margin + 16)
    np.testing.assert_array_equal(x, plain[:, :, ::-1])
    assert x.dtype == weights.dtype == np.float32 and labels.dtype == np.int32
    np.testing.assert_array_equal(weights, plain_weights[:, :, ::-1])
    counted = weights > 0
    np.testing.assert_array_equal(labels[counted], plain_labels[:, :, ::-1][counted])
    for (image, mask, _), of_image, of_label, of_weight in zip(given, plain, plain_labels, plain_weights, strict=True):
        np.testing.assert_array_equal(image, of_image)
        assert mask.shape == image.shape[:2] and image.dtype == np.float32
        np.testing.assert_array_equal(mask[inner, inner], np.where(of_weight > 0, of_label, -1))
    assert len({draw for *_, draw in given}) == 6
    assert [draw for *_, draw in given[:6]] == [draw for *_, draw in given]
    np.testing.assert_array_equal(batches(flipped, of=of, margin=margin)[0], x)
    assert [draw for *_, draw in given[6:]] == [draw for *_, draw in given[:6]]


WRONG = {
    "an image of shape (8, 16, 2)": lambda image, mask: (image[::2], mask),
    "a mask of shape (8, 16)": lambda image, mask: (image, mask[::2]),
    "an image of dtype int64": lambda image, mask: (image.astype(int), mask),
    "a mask of dtype float64": lambda image, mask: (image, mask.astype(float)),
    "an image with NaN or infinity": lambda image, mask: (np.where(image > 0, np.inf, image), mask),
    "a mask of values from 0 to 3": lambda image, mask: (image, mask * 0 + np.eye(16, dtype=int) * 3),
    "a mask of values from -2 to -2": lambda image, mask: (image, np.full_like(mask, -2)),
    "something else than a pair": lambda image, mask: image,
    "an image that is a list of 2, and no array": lambda image, mask: ([[1], [1, 2]], mask),
    "a mask that is masked": lambda image, mask: (image, np.ma.masked_less(mask, 1)),
}


@pytest.mark.parametrize("says", WRONG)
def test_what_a_function_may_not_return_is_told(says):
    def mine(image, mask, rng):
        return WRONG[says](image, mask)

    with pytest.raises(ValueError, match=rf"^augment, the function .*mine.*, returned {re.escape(says)}; it is to return "):
        batches(mine)


@pytest.mark.filterwarnings("error")
def test_what_float32_does_not_hold_is_told_of_the_function():
    with pytest.raises(ValueError, match=r"returned an image with NaN or infinity; it is to return finite numbers, of float32$"):
        batches(lambda image, mask, rng: (np.full(image.shape, 1e300), mask))


def test_what_is_no_pair_is_told_by_its_kind():
    with pytest.raises(ValueError, match=r"returned something else than a pair; .*\(image, mask\), and not a tuple of 3$"):
        batches(lambda image, mask, rng: (image, mask, mask))


@pytest.mark.parametrize("function", [lambda: None, lambda image, mask: (image, mask), lambda image, *, mask, rng: (image, mask)])
def test_a_function_of_other_arguments_is_refused_at_once(function):
    with pytest.raises(ValueError, match=r"^augment is .*, a function of other arguments \(.+\); it takes True, False"):
        augment.check(function)


def test_a_function_that_leaves_nothing_that_counts_is_passed_over():
    x, labels, weights = batches(lambda image, mask, rng: (image * 0, np.full_like(mask, -1)))
    for found, plain in zip((x, labels, weights), batches(False), strict=True):
        np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize("every", [1, 7])
def test_a_function_that_never_leaves_anything_is_told_of_once(every):
    calls, x = [], np.random.default_rng(0).random((3, 32, 32))

    def mine(image, mask, rng):
        calls.append(1)
        return image, mask if len(calls) % every else np.full_like(mask, -1)

    unet = UNet(base_channels=1, depth=1, patch_size=16, max_epochs=3, augment=mine, verbose=0, random_state=0, device="cpu")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        unet.fit(x, x > 0.5)
    found = [re.search(r"^augment, a function, left nothing that counts of any of (\d+) patches", str(w.message)) for w in told]
    counts = [int(match[1]) for match in found if match]
    assert len(counts) == (every == 1) and all(unet.batch_size <= n <= len(calls) for n in counts)


def test_a_function_is_refused_where_it_could_not_move_the_weights():
    weight = np.ones((60, 50), np.float32)
    weight[3, 4] = 2
    with pytest.raises(ValueError, match=r"^augment is a function, and the weights of x\[0\] differ from pixel to pixel"):
        batches(lambda image, mask, rng: (image, mask), of=example(weight=weight))
