"""Which pixels count: masked arrays, values to ignore, NaN, and weights of 0 are one and the same thing."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minunet
from minunet import UNet
from minunet.data.weights import ignored_values, read_examples
from minunet.evaluation.metrics import dice

TINY = {
    "base_channels": 2, "depth": 1, "patch_size": 8, "batch_size": 1, "max_epochs": 1, "verbose": 0, "random_state": 0,
    "algorithm": "direct",
}  # fmt: skip
VOID = 255


@pytest.fixture(scope="module")
def data():
    """Images, masks of 0 and 1, and which pixels are to count: half of the first image, all of the second, most of the third."""
    rng = np.random.default_rng(0)
    y = np.zeros((3, 24, 24), np.uint8)
    y[:, 6:14, 4:20] = 1
    x = (60 + 90 * y + rng.normal(0, 9, y.shape)).astype(np.float32)
    counted = np.ones(y.shape, bool)
    counted[0, :, :12] = counted[2, 20:] = False
    return x, y, counted


def all_of(unet):
    """What a training came to, to the bit; a figure that is not known is NaN, which equals nothing but its name."""
    history = {name: values for name, values in unet.history_.items() if name != "seconds"}
    settled = unet.classes_.tolist(), unet.class_frequencies_.tolist(), unet.normalizer_.to_dict()
    return unet.network_.flat.tobytes(), *settled, repr(history)


WAYS = {
    "ignored": lambda x, y, here: ((x, np.where(here, y, VOID)), {"ignore_index": VOID}),
    "two values ignored": lambda x, y, here: (
        (x, np.where(here, y, np.where(np.arange(24) % 2, VOID, -1)).astype(np.int64)), {"ignore_index": [-1, VOID]},
    ),
    "a masked y": lambda x, y, here: ((x, np.ma.masked_where(~here, np.where(here, y, 77))), {}),
    "a masked y of NaN": lambda x, y, here: ((x, np.ma.masked_invalid(np.where(here, y, np.nan))), {}),
    "masked ys in a list": lambda x, y, here: ((list(x), [np.ma.array(m, mask=~h) for m, h in zip(y, here, strict=True)]), {}),
    "masked weights": lambda x, y, here: ((x, y), {"sample_weight": np.ma.array(np.ones(y.shape), mask=~here)}),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_what_is_ignored_or_masked_is_as_a_weight_of_0(data, way):
    x, y, here = data
    usual = UNet(**TINY).fit(x, y, sample_weight=here.astype(float))
    (given_x, given_y), settings = WAYS[way](x, y, here)
    assert all_of(UNet(**TINY).fit(given_x, given_y, **settings)) == all_of(usual)


@pytest.mark.parametrize("normalize", ["image", "dataset"])
def test_pixels_of_x_that_are_masked_or_nan_with_a_weight_of_0_teach_nothing(data, normalize):
    """Whatever lies there: they set no scale, and the network sees the middle of the range."""
    x, y, here = data
    unet = UNet(**TINY, normalize=normalize)
    far, nan, inf = (np.where(here, x, value) for value in (-9999, np.nan, np.inf))
    first = all_of(unet.fit(np.ma.array(far, mask=~here), y))
    assert all_of(unet.fit(list(np.ma.array(nan, mask=~here)), y)) == first
    assert all_of(unet.fit(inf, y, sample_weight=here.astype(float))) == first


def test_labels_of_masked_pixels_are_masked(data):
    x, y, here = data
    unet = UNet(**TINY).fit(x, y)
    masked = np.ma.array(np.where(here, x, np.nan), mask=~here)
    labels, p = unet.predict(masked), unet.predict_proba(masked)
    np.testing.assert_array_equal(labels.mask, ~here)
    np.testing.assert_array_equal(p.mask, np.repeat(~here[..., None], 2, axis=-1))
    np.testing.assert_array_equal(unet.predict(masked[0]).mask, ~here[0])
    first, second, _ = unet.predict(list(masked))
    np.testing.assert_array_equal(first.mask, ~here[0])
    assert type(second) is np.ndarray and type(unet.predict(np.ma.array(x))) is np.ndarray
    with pytest.raises(ValueError, match=r"x\[0\] holds 288 NaN values.*np.ma.masked_invalid hides"):
        unet.predict(np.asarray(masked))


@pytest.mark.parametrize("snap", [False, True])
def test_what_is_ignored_is_not_scored(data, tmp_path, snap):
    """A model keeps what it ignores; what is masked is left out beside it."""
    x, y, here = data
    void, masked = np.where(here, y, VOID), np.ma.array(y, mask=~here)
    unet = UNet(**TINY).fit(x, void, ignore_index=VOID, classes=[0, 1] if snap else None, validation_data=(x, void))
    unet.save(tmp_path / "m")
    expected = unet.score(x, masked)
    assert expected != unet.score(x, y)
    assert expected == unet.score(x, void) == minunet.load(tmp_path / "m").score(x, void)
    assert expected == unet.score(x, np.where(here, y, 7), ignore_index=7)
    masked = np.ma.array(x, mask=~here)
    assert unet.score(masked, y, average=None).tolist() == dice(y[here], unet.predict(masked)[here], [0, 1]).tolist()
    if not snap:
        with pytest.raises(ValueError, match="holds 7, unknown to this model"):
            unet.score(x, np.where(here, y, 7))


def test_a_score_counts_each_pixel_as_often_as_its_weight_says(data):
    x, y, here = data
    unet = UNet(**TINY).fit(x, np.where(here, y, VOID), ignore_index=VOID)
    times = np.random.default_rng(1).integers(0, 4, y.shape)
    often = [np.repeat(a.ravel(), (times * here).ravel()) for a in (y, unet.predict(x))]
    expected = dice(*often, [0, 1])
    odd = np.where(here, np.where(times == 0, 77, y), VOID)  # where nothing counts, any value may stand
    for scale in (1, 0.25):
        np.testing.assert_array_equal(unet.score(x, odd, sample_weight=times * scale, average=None), expected)
    assert unet.score(list(x), list(odd), sample_weight=list(times)) == expected.mean()
    assert unet.score(x, y, sample_weight=here, ignore_index=[77]) == unet.score(x, np.ma.array(y, mask=~here))
    with pytest.raises(ValueError, match=r"sample_weight\[1\] has shape \(\); it takes the image's"):
        unet.score(list(x), list(y), sample_weight=[times[0], 1, times[2]])


def test_an_images_weight_is_that_of_its_pixels_in_fit_and_in_score(data):
    x, y, _ = data
    of_images = np.array([2, 0.25, 1])
    of_pixels = np.broadcast_to(of_images[:, None, None], y.shape)
    unet, usual = UNet(**TINY).fit(x, y, sample_weight=of_images), UNet(**TINY).fit(x, y, sample_weight=of_pixels)
    assert all_of(unet) == all_of(usual)
    assert all_of(UNet(**TINY).fit(list(x), list(y), sample_weight=of_images.tolist())) == all_of(usual)
    assert all_of(UNet(**TINY).fit(x, y, sample_weight=np.ones(3))) == all_of(UNet(**TINY).fit(x, y)) != all_of(usual)
    assert unet.score(x, y, sample_weight=of_images) == unet.score(x, y, sample_weight=of_pixels) != unet.score(x, y)
    assert unet.score(x, y, sample_weight=[0, 1, 0]) == unet.score(x[1], y[1])


@pytest.mark.parametrize(
    ("given", "among"),
    [
        ({"classes": [0, 1, VOID]}, r"classes \(--classes\)"), ({"classes": [0, (1, VOID)]}, r"classes \(--classes\)"),
        ({"class_weight": {0: 1, 1: 2, VOID: 0}}, r"class_weight \(--class-weight\)"),
    ],
)  # fmt: skip
def test_a_value_is_a_class_or_is_ignored(data, given, among):
    x, y, here = data
    weight = {"class_weight": given.pop("class_weight")} if "class_weight" in given else {}
    says = rf"^ignore_index \(--ignore\) is 255, which is among {among}, too; a value is a class or says nothing: leave it out"
    with pytest.raises(ValueError, match=says):
        UNet(**TINY, **weight).fit(x, np.where(here, y, VOID), ignore_index=[7, VOID], **given)
    given.pop("classes", None)
    UNet(**TINY, class_weight={0: 1, 1: 2}).fit(x, np.where(here, y, VOID), ignore_index=VOID, classes=[0, 1])


@given(st.sampled_from(["x", "y", "ignored"]), st.integers(0, 2))
def test_an_image_of_which_nothing_is_left_is_refused_by_its_name(way, i):
    x, y = np.zeros((3, 4, 5)), np.zeros((3, 4, 5), int)
    here = np.zeros(y.shape, bool)
    here[i] = True
    given = {
        "x": (np.ma.array(x, mask=here), y), "y": (x, np.ma.array(y, mask=here)), "ignored": (x, np.where(here, VOID, y)),
    }[way]  # fmt: skip
    with pytest.raises(ValueError, match=rf"^y\[{i}\]: all pixels .*so it teaches nothing; leave it and its image out$"):
        read_examples(*given, ignore=[VOID])
    with pytest.raises(ValueError, match=rf"^b\[{i}\]: all pixels"):
        read_examples(*given, ignore=[VOID], name="a", mask_name="b")


def test_nothing_left_by_both_together_is_refused():
    x, y = np.zeros((2, 4, 4)), np.zeros((2, 4, 4), int)
    y[:, :2] = VOID
    with pytest.raises(ValueError, match="no pixel is left that counts"):
        read_examples(x, y, sample_weight=(y == VOID).astype(float), ignore=[VOID])


@pytest.mark.parametrize("value", ["255", 1.5, [[1, 2]], [], True, {255}])
def test_what_no_mask_value_is_is_refused(value):
    with pytest.raises(ValueError, match=r"^ignore_index \(--ignore\) is .*; it takes a whole number, or several"):
        ignored_values(value)


def test_values_to_ignore():
    assert [ignored_values(v) for v in (None, 255, np.uint8(3), (5, -1, 5))] == [[], [255], [3], [-1, 5]]


# ---- What is told of scales ----


def test_missing_data_is_told_unless_it_is_left_out(data):
    x, y, here = data
    here = np.repeat(here[:1], 3, axis=0)
    spoilt = np.where(here, x, -9999)
    unet = UNet(**TINY)
    with pytest.warns(UserWarning, match=r"^x\[0\] \(-9999\), x\[1\] \(-9999\), x\[2\] \(-9999\): a value far outside") as told:
        unet.fit(spoilt, y)
    assert len(told) == 1
    with pytest.warns(UserWarning, match=r"^x \(-9999\): a value far outside"):
        unet.predict(spoilt[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unet.fit(spoilt, y, sample_weight=here.astype(float))
        unet.fit(np.ma.masked_equal(spoilt, -9999), y).predict(np.ma.masked_equal(spoilt, -9999))


def test_an_image_that_is_not_scaled_by_its_own_range_is_told(data, tmp_path):
    x, y, _ = data
    UNet(**TINY).fit(x, y).save(tmp_path / "m")
    unet = minunet.load(tmp_path / "m")
    empty = 60 + np.random.default_rng(1).normal(0, 9, (2, 24, 24))
    with pytest.warns(UserWarning, match=r"^x\[1\] \(.* to .*, not .* to .*\): the percentiles span less") as told:
        unet.predict([x[0], empty[0]])
    assert len(told) == 1
