"""Blur, contrast and gamma: against SciPy, and by what each leaves as it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from minunet.data.intensity import blurred, contrasted, gamma_corrected


def image(h=20, w=15, channels=2, seed=0):
    found = np.random.default_rng(seed).standard_normal((h, w, channels)).astype(np.float32)
    found.flags.writeable = False
    return found


@given(h=st.integers(2, 20), w=st.integers(2, 20), sigma=st.floats(0.1, 3))
def test_a_blur_is_scipys_gaussian(h, w, sigma):
    radius = int(np.ceil(3 * sigma))
    expected = ndimage.gaussian_filter(image(h, w).astype(float), sigma, axes=(0, 1), mode="mirror", radius=radius)
    found = blurred(image(h, w), sigma)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32


def test_contrast_keeps_each_channels_mean_and_brightness_moves_it():
    found = contrasted(image(), np.array([1.5, 1.0]), np.array([0.0, 0.25]))
    assert found.mean(axis=(0, 1)) == pytest.approx(image().mean(axis=(0, 1)) + [0, 0.25], abs=1e-6)
    assert found.std(axis=(0, 1)) == pytest.approx(image().std(axis=(0, 1)) * [1.5, 1], rel=1e-6)
    assert found.dtype == np.float32


def test_gamma_bends_the_range_and_leaves_its_ends_and_what_lies_beyond():
    values = np.array([-3, -1.2, -1, -0.5, 0, 0.5, 1, 1.2, 7], np.float32)[:, None, None]
    found = gamma_corrected(np.concatenate([values, values], axis=2), np.array([2.0, 0.5]))
    expected = np.array([-3, -1.2, -1, 2 * 0.25**2 - 1, -0.5, 2 * 0.75**2 - 1, 1, 1.2, 7])
    np.testing.assert_allclose(found[:, 0, 0], expected, atol=1e-6)
    assert found[4, 0, 1] == pytest.approx(2 * np.sqrt(0.5) - 1) and found.dtype == np.float32


def test_gamma_one_and_contrast_one_change_nothing():
    np.testing.assert_allclose(gamma_corrected(image(), np.ones(2)), image(), atol=1e-6)
    np.testing.assert_allclose(contrasted(image(), np.ones(2), np.zeros(2)), image(), atol=1e-6)
