"""The kernels of normalisation: the definition's numbers, in float64 to its last digits, whoever computes them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba")

from minunet import kernels
from minunet.kernels import cpu, reference
from minunet.testing import strategies

KERNELS = ("normalize", "normalize_relu", "normalize_grads", "normalize_relu_grads")


def batch(seed, shape, groups, dtype, mean=3.0):
    """Return x, a channel slice of a wider array, dy, and a mean and a scale for each of the groups."""
    rng = np.random.default_rng(seed)
    n, h, w, c = shape
    wide = (mean + rng.standard_normal((n, h, w, c + 3))).astype(dtype)
    rows = (n, 1, groups, 1) if groups else (1, 1, c, 1)
    scale = rng.uniform(0.5, 2, rows).astype(dtype)
    return wide[..., 2 : 2 + c], rng.standard_normal(shape).astype(dtype), wide.mean(dtype=dtype) + 0 * scale, scale


def listed(found):
    return found if isinstance(found, tuple) else (found,)


def arguments(kernel, x, dy, mean, scale, gamma, beta):
    given = (x, dy) if kernel.endswith("grads") else (x,)
    return (*given, mean, scale, gamma, *(() if kernel == "normalize_grads" else (beta,)))


# Sizes: less than a vector, several blocks of a job, and several jobs of an image.
SHAPES = st.sampled_from([(2, 1, 1, 6), (2, 9, 7, 2), (3, 5, 4, 34), (1, 150, 31, 24), (2, 90, 40, 40)])


@given(seed=strategies.seeds(), shape=SHAPES, groups=st.sampled_from([0, 1, 2, "all"]), dtype=st.sampled_from(["f4", "f8"]))
def test_kernels_give_what_the_definitions_give_of_the_same_numbers_in_float64(seed, shape, groups, dtype):
    groups = shape[3] if groups == "all" else groups
    x, dy, mean, scale = batch(seed, shape, groups, dtype)
    gamma, beta = np.random.default_rng(seed + 1).standard_normal((2, shape[3])).astype(dtype)
    exact = [a.astype(np.float64) for a in (x, dy, mean, scale, gamma, beta)]
    some = {"f4": 1e-5, "f8": 1e-13}[dtype]
    for found, expected in zip(cpu.moments(x, groups), reference.moments(exact[0], groups), strict=True):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=some, atol=some)
    for own in (True, False):
        found = cpu.normalize_grads(x, dy, mean, scale, gamma, own)
        for a, b in zip(found, reference.normalize_grads(*exact[:5], own), strict=True):
            assert a.dtype == dtype
            np.testing.assert_allclose(a, b, rtol=10 * some, atol=10 * some * abs(b).max())
    np.testing.assert_allclose(cpu.normalize(x, mean, scale, gamma, beta), reference.normalize(exact[0], *exact[2:]),
                               rtol=some, atol=10 * some)  # fmt: skip


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("far", [1e3, -1e5])
def test_a_mean_that_is_large_beside_the_spread_costs_no_digits(dtype, far):
    """The textbook's mean of squares less square of the mean would be wrong by the square of their ratio."""
    x = (far + np.random.default_rng(0).standard_normal((2, 90, 80, 20))).astype(dtype)
    exact = x.astype(np.longdouble)
    for groups, axes in ((0, (0, 1, 2)), (20, (1, 2))):
        mean, variance = cpu.moments(x, groups)
        some = {"f4": 1e-6, "f8": 1e-10}[dtype]
        np.testing.assert_allclose(mean.ravel(), exact.mean(axis=axes).ravel().astype(float), rtol=some)
        np.testing.assert_allclose(variance.ravel(), exact.var(axis=axes).ravel().astype(float), rtol=some)


@pytest.mark.parametrize("groups", [0, 1, 4, 24])
def test_bits_depend_on_neither_threads_nor_layout_nor_on_other_images(groups):
    x, dy, mean, scale = batch(3, (3, 130, 70, 24), groups, "f4")
    gamma, beta = np.random.default_rng(4).standard_normal((2, 24)).astype("f4")

    def all_of(x, dy, mean, scale):
        calls = [getattr(cpu, name)(*arguments(name, x, dy, mean, scale, gamma, beta)) for name in KERNELS]
        return [a for found in (cpu.moments(x, groups), *calls) for a in listed(found)]

    with kernels.threads(1):
        expected = all_of(x, dy, mean, scale)
    for n in (2, 3):
        with kernels.threads(n):
            for a, b in zip(all_of(x.copy(), dy, mean, scale), expected, strict=True):
                np.testing.assert_array_equal(a, b)
    if groups:
        of_images = [i for i, a in enumerate(expected) if len(a) == 3]  # all but dgamma and dbeta
        assert len(of_images) == 6
        for n in range(3):
            alone = all_of(*(a[n : n + 1] for a in (x, dy, mean, scale)))
            for i in of_images:
                np.testing.assert_array_equal(alone[i], expected[i][n : n + 1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_spoils_its_group_and_no_other(value):
    x = np.random.default_rng(0).standard_normal((2, 60, 50, 32)).astype("f4")
    x[1, 59, 0, 9] = value
    mean, variance = cpu.moments(x, 4)
    spoilt = np.zeros((2, 1, 4, 1), bool)
    spoilt[1, 0, 1] = True
    np.testing.assert_array_equal(np.isnan(variance), spoilt)
    np.testing.assert_array_equal(~np.isfinite(mean), spoilt)
    ones, zeros = np.ones(32, "f4"), np.zeros(32, "f4")
    y = cpu.normalize_relu(x, mean, 1 / np.sqrt(variance + 1), ones, zeros)
    assert np.isnan(y[1, :, :, 8:16]).all() and np.isnan(y).sum() == 60 * 50 * 8


def test_y_is_written_where_it_shall_lie_and_nowhere_else():
    x, _, mean, scale = batch(1, (2, 30, 20, 24), 2, "f4")
    gamma, beta = np.ones(24, "f4"), np.zeros(24, "f4")
    for name in KERNELS[:2]:
        buffer = np.full((2, 30, 20, 50), 7, "f4")
        out = buffer[..., 10:34]
        assert getattr(cpu, name)(x, mean, scale, gamma, beta, out=out) is out
        np.testing.assert_array_equal(out, getattr(cpu, name)(x, mean, scale, gamma, beta))
        assert (buffer[..., :10] == 7).all() and (buffer[..., 34:] == 7).all()
