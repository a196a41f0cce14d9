"""Pixel values of any scale, brought to about -1 .. 1."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minunet.data import normalize
from minunet.data.normalize import Normalizer, View


def expected(image, low, high):
    """Return the definition: low to -1 and high to 1."""
    return 2 * (image.astype(float) - low) / (high - low) - 1


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float16", "float32", "float64"])
def test_percentiles_of_each_image_and_channel_become_minus_one_and_one(dtype):
    image = np.random.default_rng(0).normal([50, 90], [9, 6], (40, 51, 2)).astype(dtype)
    image.flags.writeable = False
    low, high = np.percentile(image, [1, 99], axis=(0, 1), method="nearest").astype(float)
    scaled = Normalizer("image")(image)
    assert scaled.dtype == np.float32 and scaled.shape == image.shape
    np.testing.assert_allclose(scaled, expected(image, low, high), rtol=1e-5, atol=1e-5)
    assert scaled.min() < -1 and scaled.max() > 1  # linear: not clipped


def test_bool_images_become_minus_one_and_one():
    image = np.random.default_rng(0).random((20, 20, 1)) > 0.5
    np.testing.assert_array_equal(Normalizer()(image), np.where(image, 1, -1))


def test_scale_and_offset_of_the_input_do_not_matter():
    image = np.random.default_rng(0).integers(0, 255, (30, 30, 1)).astype(float)
    reference = Normalizer()(image)
    for scale, offset in ((257, 0), (1e-6, 0), (1, 1e6), (1e300, -1e302)):
        np.testing.assert_allclose(Normalizer()(image * scale + offset), reference, atol=1e-5)


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=finite))
def test_no_finite_image_overflows(image):
    assert np.isfinite(Normalizer()(image)).all()
    assert np.isfinite(Normalizer("dataset").fit([image, image[::-1]])(image)).all()


@pytest.mark.parametrize("value", [0, 7, -1e300, 1.7e308, 1e-310])
def test_constant_channels_give_zero(value):
    image = np.full((9, 9, 2), value, float)
    image[..., 1] = np.arange(81).reshape(9, 9)
    scaled = Normalizer()(image)
    assert not scaled[..., 0].any() and scaled[..., 1].any()


def test_a_nearly_empty_image_keeps_its_few_bright_pixels():
    image = np.zeros((100, 100, 1), np.uint8)
    image[50, 50:55] = 200
    assert Normalizer()(image)[50, 52] == 1 and Normalizer()(image)[0, 0] == -1


def test_dataset_pools_all_images():
    rng = np.random.default_rng(0)
    images = [rng.normal(i, 1, (20 + i, 30, 2)) for i in range(4)]
    pooled = np.concatenate([image.reshape(-1, 2) for image in images])
    low, high = np.percentile(pooled, [1, 99], axis=0, method="nearest")
    normalizer = Normalizer("dataset").fit(images)
    for image in images:
        np.testing.assert_allclose(normalizer(image), expected(image, low, high), atol=1e-5)


def test_a_sample_of_many_pixels_is_close_to_all_and_weighs_images_by_area(monkeypatch):
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, 300)[:, None, None] * np.linspace(0, 1, 400)[:, None]  # no part of it looks like another
    images = [rng.random((10, 10, 1)) + 10, ramp]  # the small one is far below 1 % of the pixels
    full = Normalizer("dataset").fit(images)
    monkeypatch.setattr(normalize, "MAX_SAMPLES", 4000)
    sampled = Normalizer("dataset").fit(images)
    np.testing.assert_allclose([sampled.low, sampled.high], [full.low, full.high], atol=0.02)
    low, high = np.percentile(ramp, [1, 99])
    np.testing.assert_allclose(Normalizer()(ramp), expected(ramp, low, high), atol=0.1)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_sample_sees_every_row_and_column(monkeypatch, axis):
    image = np.zeros((64, 64, 1))
    np.moveaxis(image, axis, 0)[1::2] = 1  # every second one: an even step would see one kind only
    monkeypatch.setattr(normalize, "MAX_SAMPLES", 512)
    np.testing.assert_array_equal(np.unique(Normalizer()(image)), [-1, 1])


@pytest.mark.parametrize("mode", ["image", "dataset"])
def test_it_survives_json(mode):
    image = np.random.default_rng(0).random((12, 9, 3))
    normalizer = Normalizer(mode).fit([image])
    again = Normalizer.from_dict(json.loads(json.dumps(normalizer.to_dict())))
    assert again.mode == mode
    np.testing.assert_array_equal(again(image + 1), normalizer(image + 1))


def test_a_sample_of_several_images_sees_every_column_too(monkeypatch):
    image = np.zeros((64, 64, 1))
    image[:, 1::2] = 1
    monkeypatch.setattr(normalize, "MAX_SAMPLES", 512)
    np.testing.assert_array_equal(np.unique(Normalizer("dataset").fit([image, image])(image)), [-1, 1])


# ---- The range of the training images, pixels that do not count, and missing data ----


def field(n_cells, seed=0, size=96, contrast=100.0):
    """An image of cells on a noisy ground, and its mask of 0 and 1: each cell is 8 x 8."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size), int)
    places = rng.permutation((size // 12) ** 2)[:n_cells]
    for row, col in zip(12 * (places // (size // 12)), 12 * (places % (size // 12)), strict=True):
        mask[row + 2 : row + 10, col + 2 : col + 10] = 1
    return (60 + contrast * mask + rng.normal(0, 8, mask.shape))[..., None], mask


def learned(*fields, setting="image"):
    normalizer = Normalizer.of(setting)
    views = [View(image, label=mask) for image, mask in fields]
    return normalizer.learn(views, [normalizer.measure(view) for view in views])


@given(st.integers(0, 3), st.sampled_from([1, 3]), st.sampled_from([(1, 0), (1 / 300, 0), (200, 0), (1, 5000), (1, -3000)]))
def test_an_empty_field_and_one_of_few_objects_are_scaled_as_the_training_images_are(n_cells, channels, units):
    """In whatever units; and each channel by itself."""
    factor, offset = units
    normalizer = learned(*((np.repeat(image, channels, 2) * factor + offset, mask) for image, mask in map(field, (12, 16, 20))))
    image, mask = field(n_cells, seed=9)
    other = field(15, seed=8)[0]  # a channel that is like the training's
    stacked = np.concatenate([image] + [other] * (channels - 1), axis=2) * factor + offset
    scaled = normalizer(stacked)
    ground = scaled[..., 0][mask == 0]
    assert ground.max() < 0 and abs(np.median(ground) + 0.7) < 0.1
    assert (scaled[..., 0][mask == 1] > 0.4).all()
    if channels > 1:
        np.testing.assert_array_equal(scaled[..., 1:], Normalizer()(stacked[..., 1:]))


def test_an_empty_field_among_the_training_images_is_scaled_as_it_will_be_by_the_model():
    fields = [field(n, seed=n) for n in (12, 0, 16, 1)]
    normalizer = learned(*fields)
    for image, mask in fields:
        found = normalizer.measure(View(image, label=mask))
        np.testing.assert_array_equal(normalizer(image, found), normalizer(image))
    assert normalizer(fields[1][0]).max() < 0


@pytest.mark.parametrize(
    ("change", "of"),
    [
        (lambda a: a / 255, "floats up to 1"), (lambda a: a.astype(np.uint16) * 257, "16 bits"),
        (lambda a: a.astype(float) + 1000, "an offset"),
        (lambda a: (a / 3).astype(np.uint8), "a third of the exposure, and of the ground"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
@pytest.mark.parametrize("n_cells", [0, 12])
def test_an_image_in_other_units_keeps_its_own_scale(change, of, n_cells):
    normalizer = learned(*((image.astype(np.uint8), mask) for image, mask in map(field, (12, 16, 20))))
    image = change(field(n_cells, seed=5)[0].astype(np.uint8))
    np.testing.assert_array_equal(normalizer(image), Normalizer()(image))


def test_images_of_different_exposure_each_keep_their_own_scale():
    fields = [(image * factor, mask) for factor, (image, mask) in zip((1, 2, 40, 300), map(field, (12, 16, 20, 18)), strict=True)]
    normalizer = learned(*fields)
    for image, _ in fields:
        np.testing.assert_array_equal(normalizer(image), Normalizer()(image))


def sparse(size, seed):
    rng = np.random.default_rng(seed)
    image, mask = rng.normal(100, 5, (size, size, 1)), np.zeros((size, size), int)
    mask[30:50, 10:70] = 1
    image[mask == 1] = 5000
    return image, mask


@pytest.mark.parametrize("trained", [[96, 96, 96], [512]], ids=["on crops", "on whole images"])
def test_a_small_bright_object_is_scaled_alike_in_a_crop_and_in_the_whole(trained):
    normalizer = learned(*(sparse(size, seed) for seed, size in enumerate(trained)))
    for size in (96, 512):
        image, mask = sparse(size, 7)
        scaled = normalizer(image)[..., 0]
        np.testing.assert_allclose(scaled[mask == 1], 1, atol=1e-5)
        np.testing.assert_allclose(scaled[mask == 0], -1, atol=0.02)


@given(st.floats(1e3, 1e300))
def test_nothing_is_far_outside_however_bright(value):
    image = np.random.default_rng(0).normal(100, 5, (64, 64, 1))
    image[3, 4] = value
    assert 1 < np.abs(Normalizer()(image)).max() <= normalize.LIMIT


def test_other_percentiles():
    image = np.random.default_rng(0).random((60, 70, 2))
    low, high = np.percentile(image, [2, 99.8], axis=(0, 1), method="nearest")
    np.testing.assert_allclose(Normalizer.of((2, 99.8))(image), expected(image, low, high), atol=1e-5)
    assert [Normalizer.of(setting).setting for setting in ("image", "dataset", (2, 99.8))] == ["image", "dataset", (2, 99.8)]


@pytest.mark.parametrize("setting", ["image", "dataset", (5, 95)])
@given(value=st.sampled_from([0.0, 1e30, -1e30, 80.0, np.nan]), share=st.sampled_from([0.03, 0.4, 0.97]))
def test_what_does_not_count_sets_no_scale(setting, value, share):
    rng = np.random.default_rng(0)
    counted = rng.random((64, 64)) > share
    images = [rng.normal(50, 9, (64, 64, 2)) for _ in range(3)]
    label = rng.integers(0, 2, counted.shape)

    def scales(images):
        views = [View(image, hidden=~np.isfinite(image).all(axis=2), counted=counted, label=label) for image in images]
        normalizer = Normalizer.of(setting)
        ranges = [normalizer.measure(view) for view in views]
        normalizer.learn(views, ranges)
        return normalizer.to_dict(), [
            normalizer(image, found, view.hidden)[counted] for image, view, found in zip(images, views, ranges, strict=True)
        ]

    spoilt = [np.where(counted[..., None], image, value) for image in images]
    (numbers, scaled), (others, rescaled) = scales(images), scales(spoilt)
    assert numbers == others
    np.testing.assert_array_equal(scaled, rescaled)


@pytest.mark.parametrize("setting", ["image", "dataset"])
@pytest.mark.parametrize(
    ("value", "dtype"),
    [(-9999, float), (-3.4e38, np.float32), (np.finfo(np.float64).min, float), (-32768, np.int16), (65535, np.uint16),
     (1e20, float), (0, float), (2**31 - 1, np.int32)],
)  # fmt: skip
def test_missing_data_that_fills_a_block_sets_no_scale(setting, value, dtype):
    image = np.random.default_rng(0).normal(3000, 20, (64, 64, 2)).astype(dtype)
    image[..., 1] += 7
    spoilt = image.copy()
    spoilt[:, :6] = value
    normalizer = Normalizer(setting).fit([spoilt])
    assert normalizer.measure(View(spoilt)).blanks == [float(dtype(value))] * 2
    scaled = normalizer(spoilt)
    np.testing.assert_allclose(scaled[:, 6:], Normalizer(setting).fit([image[:, 6:]])(image[:, 6:]), atol=1e-4)
    assert (np.abs(scaled[:, :6]) == normalize.BLANK_AT).all()


HONEST = {
    "a black ground": lambda a, block: np.where(block, a, 0),
    "a bright object": lambda a, block: np.where(block, 5000, a),
    "pixels here and there": lambda a, block: np.where(np.arange(a.size).reshape(a.shape) % 40 == 0, -9999, a),
    "a value near the others": lambda a, block: np.where(block, 0, a - 2900),
    "varied values": lambda a, block: np.where(block, -a, a),
    "two values": lambda a, block: np.where(block, -9999, 1),
}


@pytest.mark.parametrize("kind", HONEST)
def test_honest_values_are_not_taken_for_missing_data(kind):
    block = np.zeros((64, 64, 1), bool)
    block[10:20, 10:40] = True
    image = HONEST[kind](np.random.default_rng(0).normal(3000, 20, block.shape), block)
    assert Normalizer().measure(View(image)).blanks == [None]


def test_what_is_hidden_becomes_the_middle_of_the_range():
    image = np.random.default_rng(0).normal(50, 9, (20, 20, 1))
    hidden = np.zeros((20, 20), bool)
    hidden[:5] = True
    image[:3], image[3:5] = np.nan, np.inf
    scaled = Normalizer()(image, hidden=hidden)
    assert not scaled[:5].any()
    np.testing.assert_array_equal(scaled[5:], Normalizer()(image[5:]))


def test_the_normalizer_of_an_older_file_scales_as_it_did():
    image = field(0)[0]
    image[0, 0], image[5:9] = 1e9, -9999
    old = Normalizer.from_dict({"mode": "image", "low": None, "high": None})
    low, high = np.percentile(image, [1, 99], method="nearest")
    np.testing.assert_allclose(old(image), expected(image, low, high), rtol=1e-5)
    assert old(image).max() > 1e4
