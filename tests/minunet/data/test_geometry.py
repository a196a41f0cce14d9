"""Where the pixels of a warped patch come from: against SciPy, and against the image."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.interpolate import CubicHermiteSpline

from minunet.data.geometry import LEAST_SPACING, Window, basis, coordinates, displacements
from minunet.data.mirror import mirror, mirrored
from minunet.data.sampling import Example

ANGLES, FACTORS = st.floats(-math.pi, math.pi), st.floats(0.5, 2)


def example(h, w, channels=1, seed=0, weight=None):
    rng = np.random.default_rng(seed)
    return Example(rng.standard_normal((h, w, channels)).astype(np.float32), rng.integers(0, 5, (h, w), np.int32), weight)


def nodes(sigma, side, seed=0):
    return displacements(np.random.default_rng(seed).standard_normal((2, 3, 3)), sigma, side)


def spline(values, at):
    """Interpolate values at 0, 1, 2, ... along the first axis with slopes of central differences, the ends mirrored: SciPy's."""
    wide = np.concatenate([values[1:2], values, values[-2:-1]])
    return CubicHermiteSpline(np.arange(len(values)), values, (wide[2:] - wide[:-2]) / 2)(at)


@pytest.mark.parametrize("side", [1, 2, 3, 16, 41])
def test_the_elastic_field_is_a_bicubic_interpolation_of_its_nodes(side):
    grid = np.random.default_rng(side).standard_normal((2, 3, 3))
    still = coordinates(side, (7.0, 9.0))
    at = np.linspace(0, 2, side) if side > 1 else np.ones(1)
    for moved, place, values in zip(coordinates(side, (7.0, 9.0), nodes=grid), still, grid, strict=True):
        expected = spline(spline(values, at).T, at).T
        np.testing.assert_allclose(moved - place, expected, atol=1e-12)
    if side % 2:
        middle = (side - 1) // 2
        assert basis(side)[middle].tolist() == [0, 1, 0]


@given(angle=ANGLES, factor=FACTORS, side=st.integers(1, 30))
def test_turning_and_scaling_are_an_isometry_times_a_factor_about_the_centre(angle, factor, side):
    rows, cols = coordinates(side, (3.5, -2.0), angle, factor)
    assert (rows.mean(), cols.mean()) == pytest.approx((3.5, -2.0), abs=1e-9)
    z = rows + 1j * cols
    from_middle = np.arange(side)[:, None] + 1j * np.arange(side) - (1 + 1j) * (side - 1) / 2
    np.testing.assert_allclose(z, 3.5 - 2j + np.exp(-1j * angle) / factor * from_middle, atol=1e-9)


@given(
    h=st.integers(1, 60), w=st.integers(1, 60), margin=st.sampled_from([0, 5]), angle=ANGLES, factor=FACTORS,
    sigma=st.sampled_from([0.0, 10.0]), seed=st.integers(0, 99), own=st.booleans(),
)  # fmt: skip
def test_a_warped_patch_is_what_scipy_reads_at_its_coordinates(h, w, margin, angle, factor, sigma, seed, own):
    """Labels and weights are the nearest pixel's of the mirrored image; and weights 0 beyond it, found without mirroring."""
    size, rng = 16, np.random.default_rng(seed)
    of = example(h, w, seed=seed, weight=rng.random((h, w)).astype(np.float32) if own else None)
    top, left = (int(rng.integers(max(n - size, 0) + 1)) for n in (h, w))
    window = Window(of, top, left, size, margin)
    patch = window.warped(angle, factor, nodes(sigma, window.side, seed))
    centre = [start + 7.5 if n >= size else (n - 1) / 2 for start, n in ((top, h), (left, w))]
    places = np.array(coordinates(size + 2 * margin, tuple(centre), angle, factor, nodes(sigma, window.side, seed)))
    inner = places[:, margin : margin + size, margin : margin + size]
    sure = (np.abs(inner - np.rint(inner)) < 0.499).all(axis=0)  # SciPy may round a half the other way
    read = [ndimage.map_coordinates(a, inner, order=0, mode="mirror") for a in (of.label, of.weight if own else np.ones((h, w)))]
    np.testing.assert_array_equal(patch.label[sure], read[0][sure])
    inside = ndimage.map_coordinates(np.ones((h, w)), inner, order=0, mode="grid-constant", cval=0)
    np.testing.assert_allclose(patch.weight[sure], (read[1] * inside)[sure], rtol=1e-6)
    assert patch.image.shape == (window.side, window.side, 1) and patch.image.dtype == patch.weight.dtype == np.float32
    assert patch.label.dtype == np.int32


@given(angle=ANGLES, factor=FACTORS, seed=st.integers(0, 99), margin=st.sampled_from([0, 6]))
def test_a_mask_that_is_painted_into_the_image_stays_where_it_is(angle, factor, seed, margin):
    """Of a smooth blob, the image after warping is the mask after warping, but for its edge."""
    y, x = np.mgrid[:80, :80]
    cy, cx = np.random.default_rng(seed).uniform(25, 55, 2)
    blob = np.float32(15 - np.hypot(y - cy, 1.3 * (x - cx)))
    of = Example(blob[..., None], (blob > 0).astype(np.int32), (blob > 5).astype(np.float32) + 1)
    patch = Window(of, 20, 22, 32, margin).warped(angle, factor, nodes(10, 32 + 2 * margin, seed))
    inner = patch.image[margin : margin + 32, margin : margin + 32, 0]
    inside = patch.weight > 0
    for level, found in ((0, patch.label == 1), (5, patch.weight == 2)):
        clear = inside & (np.abs(inner - level) > 1.1)  # further than a half pixel's diagonal of slope 1.3
        np.testing.assert_array_equal((inner > level)[clear], found[clear])


def test_nothing_moved_is_the_plain_patch():
    window = Window(example(40, 50, 2), 5, 9, 16, 3)
    for warped, plain in zip(window.warped(), window.plain(), strict=True):
        np.testing.assert_array_equal(warped, plain)


def test_a_quarter_turn_is_the_symmetry():
    window = Window(example(40, 40), 12, 12, 16)
    for warped, plain in zip(window.warped(math.pi / 2), window.plain(), strict=True):
        np.testing.assert_allclose(warped, np.rot90(plain), atol=1e-6)


def test_an_image_smaller_than_the_patch_turns_about_its_own_middle():
    """About the patch's, much of it would be moved out."""
    window = Window(example(10, 10), 0, 0, 32)
    for angle in np.linspace(0, 6, 9):
        weight = window.warped(angle).weight
        assert weight.sum() == pytest.approx(100, abs=12) and weight[0].sum() == weight[:, -1].sum() == 0


@given(seed=st.integers(0, 300), side=st.sampled_from([9, 32, 64, 257]))
def test_no_patch_is_folded(seed, side):
    rows, cols = coordinates(side, (0.0, 0.0), nodes=nodes(1000.0, side, seed))
    area = np.diff(rows, axis=0)[:, :-1] * np.diff(cols, axis=1)[:-1] - np.diff(rows, axis=1)[:-1] * np.diff(cols, axis=0)[:, :-1]
    assert area.min() > 0


def test_displacements_are_of_the_strength_that_is_asked_for_in_large_patches():
    unit = np.ones((2, 3, 3))
    assert (displacements(unit, 10.0, 256) == 10).all()
    assert displacements(unit, 10.0, 65)[0, 0, 0] == 32 / LEAST_SPACING


class Sliced:
    """What can be read by plain slices alone, as a file."""

    def __init__(self, array):
        self.array, self.shape, self.read = array, array.shape, 0

    def __getitem__(self, key):
        assert all(isinstance(part, slice) and part.step is None for part in key)
        found = self.array[key]
        self.read += found.size
        return found


def test_only_what_a_patch_spans_is_read_by_plain_slices():
    of = example(500, 500)
    sliced = Example(Sliced(of.image), of.label, None)
    for window in (Window(of, 480, 100, 16, 4), Window(of, 200, 100, 16, 4)):
        same = Window(sliced, *(window.top, window.left, 16, 4))
        for a, b in ((window.plain(), same.plain()), (window.warped(0.5, 1.2), same.warped(0.5, 1.2))):
            np.testing.assert_array_equal(a.image, b.image)
    assert sliced.image.read < 6000


@given(n=st.integers(1, 9), start=st.integers(-20, 20), count=st.integers(1, 12))
def test_mirrored_is_indexing_by_mirror(n, start, count):
    image, rows = np.arange(n * 3).reshape(n, 3), np.arange(start, start + count)
    np.testing.assert_array_equal(mirrored(image, rows, np.arange(3)), image[mirror(rows, n)])
    assert not np.shares_memory(mirrored(image, rows, np.arange(3)), image)
