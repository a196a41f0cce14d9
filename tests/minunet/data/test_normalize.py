"""Pixel values of any scale, brought to about -1 .. 1."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minunet.data import normalize
from minunet.data.normalize import Normalizer


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
    images = [rng.random((10, 10, 1)) + 10, rng.random((300, 400, 1))]  # the small one is far below 1 % of the pixels
    full = Normalizer("dataset").fit(images)
    monkeypatch.setattr(normalize, "MAX_SAMPLES", 4000)
    sampled = Normalizer("dataset").fit(images)
    np.testing.assert_allclose([sampled.low, sampled.high], [full.low, full.high], atol=0.02)
    np.testing.assert_allclose(Normalizer()(images[1]), expected(images[1], 0.01, 0.99), atol=0.1)


def test_a_sample_sees_every_column(monkeypatch):
    image = np.zeros((64, 64, 1))
    image[:, 1::2] = 1  # every second column: an even step would see one kind only
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
