"""Reading an image between its pixels: splines of SciPy's, and what cubic convolution promises; each backend alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicHermiteSpline

from minunet import kernels, use_backend
from minunet.kernels import run, warping


@pytest.fixture(params=kernels.available())
def backend(request):
    with use_backend(request.param):
        yield


def image(h, w, channels=1, seed=0):
    return np.random.default_rng(seed).standard_normal((h, w, channels)).astype(np.float32)


def spline(values, at):
    """Interpolate along the first axis, by a cubic with slopes of central differences: SciPy's."""
    inner = values[1:-1]
    return CubicHermiteSpline(np.arange(1, len(values) - 1), inner, (values[2:] - values[:-2]) / 2)(at)


@pytest.mark.usefixtures("backend")
def test_it_is_a_cubic_hermite_spline_along_each_axis():
    picture, rng = image(12, 15, 3).astype(float), np.random.default_rng(1)
    rows, cols = rng.uniform(1, 10, (4, 6)), rng.uniform(1, 13, (4, 6))
    expected = [spline(spline(picture, r).T.swapaxes(0, 1), c) for r, c in zip(rows.flat, cols.flat, strict=True)]
    found = run(warping.warp, picture.astype(np.float32), rows, cols)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.reshape(-1, 3), [column.reshape(3) for column in expected], atol=2e-6)


@pytest.mark.usefixtures("backend")
def test_a_quadratic_stays_one_and_pixels_stay_themselves():
    """Keys 1981: exact for polynomials of degree 2, and interpolating. A linear or a blurring kernel is not."""
    y, x = np.mgrid[:10, :11].astype(np.float32)
    picture = (0.5 * y * y - x * y + 0.25 * x * x + y - 3)[..., None]
    rng = np.random.default_rng(0)
    rows, cols = rng.uniform(1, 8, (5, 5)), rng.uniform(1, 9, (5, 5))
    expected = 0.5 * rows**2 - rows * cols + 0.25 * cols**2 + rows - 3
    np.testing.assert_allclose(run(warping.warp, picture, rows, cols)[..., 0], expected, atol=2e-5)
    np.testing.assert_array_equal(run(warping.warp, picture, y.astype(float), x.astype(float)), picture)


@pytest.mark.usefixtures("backend")
def test_beyond_its_border_an_image_goes_on_with_its_edge():
    picture = image(5, 6)
    wide = np.pad(picture, ((40, 40), (40, 40), (0, 0)), mode="edge")
    places = np.random.default_rng(2).uniform(-30, 34, (2, 9, 9))
    np.testing.assert_array_equal(run(warping.warp, picture, *places), run(warping.warp, wide, *(places + 40)))


@given(h=st.integers(1, 8), w=st.integers(1, 8), channels=st.integers(1, 3), seed=st.integers(0, 99))
def test_the_backends_agree(h, w, channels, seed):
    rng = np.random.default_rng(seed)
    wide = rng.standard_normal((h, 2 * w, channels)).astype(np.float32)
    picture = wide[:, ::2]  # with gaps
    rows, cols = rng.uniform(-3, h + 3, (4, 3)), rng.uniform(-3, w + 3, (4, 3))
    np.testing.assert_allclose(run(warping.warp, picture, rows, cols), warping.warp(picture, rows, cols), atol=1e-6)
