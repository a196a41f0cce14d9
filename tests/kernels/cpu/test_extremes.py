"""Huge and tiny numbers, NaN and infinity: how far each algorithm may be off, and how far what is not a number reaches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from oracles import assert_all_same, assert_same, seeds

pytest.importorskip("numba")

from fused import cpu, reference

from minunet.kernels.cpu.isa import ISA
from minunet.kernels.cpu.winograd_matrices import FORWARD, WEIGHT_GRAD, amplification

pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")  # that is the point
SINGLE = np.finfo(np.float32)
OUTPUTS = {"direct": 1, "im2col": 1, "winograd2x2": 2, "winograd4x4": 4}  # a side of a tile
every_algorithm = pytest.mark.parametrize("algorithm", OUTPUTS)
SIDES = st.integers(1, 11)
CHANNELS = st.sampled_from([1, 2, 5, ISA.vector_bytes // 4 + 1])
PADDINGS = st.tuples(st.integers(0, 2), st.integers(0, 2))
MAGNITUDES = st.sampled_from([0, 1e-44, 1e-38, 1e-30, 1e-10, 1, 1e10, 1e30, 1e35, 3e38])
MIXED = st.lists(MAGNITUDES, min_size=1, max_size=3)


@st.composite
def geometries(draw):
    """Return shapes of x, w and dy, and the padding."""
    padding = draw(PADDINGS)
    h, w = (max(3 - 2 * pad, draw(SIDES)) for pad in padding)
    n, c, k = draw(st.integers(1, 2)), draw(CHANNELS), draw(CHANNELS)
    return (n, h, w, c), (3, 3, c, k), (n, h + 2 * padding[0] - 2, w + 2 * padding[1] - 2, k), padding


def mixed(rng, shape, magnitudes):
    """Return numbers of the first magnitude, and one in twenty of each of the others."""
    which = rng.random(shape) // 0.05
    chosen = np.array(magnitudes)[np.where(which < len(magnitudes), which, 0).astype(int)]
    return (chosen * rng.uniform(0.5, 1, shape) * rng.choice([-1, 1], shape)).astype(np.float32)


def three_passes(backend, x, w, dy, padding, mask=None, algorithm="auto"):
    """Return y, dx, dw, db."""
    options = {"stride": (1, 1), "padding": padding, "algorithm": algorithm}
    return [
        backend.conv2d(x, w, **options),
        backend.conv2d_input_grad(dy, w, x.shape, mask=mask, **options),
        *backend.conv2d_weight_grad(x, dy, w.shape, mask=mask, **options),
    ]


def largest(a, shape, padding, m, halo=2):
    """Return max |a| in each tile's window, by channel: (N, tiles down, tiles across, C); `shape` (N, P, Q, K) is tiled."""
    tiles = [-(-size // m) for size in shape[1:3]]
    after = [m * tiles[i] + halo - padding[i] - a.shape[1 + i] for i in (0, 1)]
    padded = np.pad(np.abs(a), ((0, 0), *((padding[i], max(0, after[i])) for i in (0, 1)), (0, 0)))
    windows = sliding_window_view(padded, (m + halo, m + halo), axis=(1, 2))[:, ::m, ::m][:, : tiles[0], : tiles[1]]
    return windows.max(axis=(-2, -1))


def spread(tiles, shape, m):
    """Give each pixel its tile's number: (N, tiles down, tiles across, K) -> shape (N, P, Q, K)."""
    return np.repeat(np.repeat(tiles, m, 1), m, 2)[:, : shape[1], : shape[2]]


def sums(x, w, dy, padding, m):
    """Give for y, dx and dw: a, the largest factors of each term, as matrices whose product bounds the sum, and how tiles spread.

    a is how many times larger than that the numbers may grow on the way. The direct product is tiles of one pixel.
    """
    forward, backward = (9, 9) if m == 1 else (float(amplification(of[m])) for of in (FORWARD, WEIGHT_GRAD))
    back = (2 - padding[0], 2 - padding[1])
    weight, tile = np.abs(w).max(axis=(0, 1)), largest(x, dy.shape, padding, m)
    yield forward, tile, weight, lambda t: spread(t, dy.shape, m)
    yield forward, largest(dy, x.shape, back, m), weight.T, lambda t: spread(t, x.shape, m)
    by_tile = largest(dy, dy.shape, (0, 0), m, halo=0)
    yield backward, tile.reshape(-1, x.shape[3]).T, by_tile.reshape(-1, dy.shape[3]), lambda t: np.broadcast_to(t, w.shape)


@every_algorithm
@given(geometries(), seeds, st.tuples(MIXED, MIXED, MIXED))
def test_an_error_is_small_beside_the_largest_numbers_of_its_tile(algorithm, g, seed, magnitudes):
    """The bound of docs/kernels.md, a theorem; finite where the numbers have room in float32, else right or not finite."""
    rng, m = np.random.default_rng(seed), OUTPUTS[algorithm]
    arrays = [mixed(rng, shape, chosen) for shape, chosen in zip(g[:3], magnitudes, strict=True)]
    double = [a.astype(float) for a in arrays]
    found, expected = three_passes(cpu, *arrays, g[3], algorithm=algorithm), three_passes(reference, *double, g[3])
    for one, exact, (a, left, right, place) in zip(found[:3], expected[:3], sums(*double, g[3], m), strict=True):
        n, total = left.shape[-1] * (9 if m == 1 else 1), left.sum(axis=-1, keepdims=True)
        off = a * ((n + 40) * SINGLE.eps / 2 * (left @ right) + 16 * SINGLE.smallest_subnormal * (n + total))
        grown = a * np.maximum(left @ right, np.maximum(left.max(axis=-1, keepdims=True), right.max(axis=0)))
        finite = np.isfinite(one)
        assert finite[place(grown < SINGLE.max)].all()
        assert (np.abs(one - exact) <= place(off))[finite].all()


@every_algorithm
@given(geometries(), seeds, st.lists(st.sampled_from([-100, -99, -50, 0, 1, 77, 100]), min_size=3, max_size=3))
def test_a_scale_changes_no_digit(algorithm, g, seed, exponents):
    """Powers of two times x, w and dy, from 1e-30 to 1e30, come out as powers of two times y, dx, dw and db.

    But for what cancels down to near the smallest numbers, or comes of such: there are fewer digits there.
    """
    i, j, k = exponents
    assume(max(abs(i + j), abs(k + j), abs(i + k)) <= 100)
    rng = np.random.default_rng(seed)
    x, w, dy = (mixed(rng, shape, [1, 0.1, 0]) for shape in g[:3])
    plain = three_passes(cpu, x, w, dy, g[3], algorithm=algorithm)
    scaled = [np.ldexp(a, exponent) for a, exponent in zip((x, w, dy), exponents, strict=True)]
    found = three_passes(cpu, *scaled, g[3], algorithm=algorithm)
    for one, a, exponent in zip(found, plain, (i + j, k + j, i + k, k), strict=True):
        expected = np.ldexp(a, exponent)
        small = np.abs(expected) < 2**12 * SINGLE.smallest_normal
        assert_same(one[~small], expected[~small])
        assert (np.abs(one - expected)[small] <= 2**6 * SINGLE.smallest_subnormal).all()


@every_algorithm
@given(geometries(), seeds, st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 1e30]), st.sampled_from(["x", "w", "dy"]))
def test_a_number_out_of_range_reaches_what_it_must_and_nothing_beyond_its_tiles(algorithm, g, seed, number, where):
    """NaN and infinity leave nothing finite whose window sees them; whose tile does not see the number has its own bits."""
    rng = np.random.default_rng(seed)
    arrays = {name: mixed(rng, shape, [1]) for name, shape in zip(("x", "w", "dy"), g[:3], strict=True)}
    at = tuple(rng.integers(0, arrays[where].shape))
    plain = three_passes(cpu, **arrays, padding=g[3], algorithm=algorithm)
    arrays[where][at] = number
    found = three_passes(cpu, **arrays, padding=g[3], algorithm=algorithm)
    seen = [~np.isfinite(a) for a in three_passes(reference, **arrays, padding=g[3])]
    touched = near(where, at, g, OUTPUTS[algorithm])
    for one, without, sees, may in zip(found, plain, seen, touched, strict=True):
        assert not np.isfinite(one[sees]).any()
        assert_same(one[~may], without[~may])


def near(where, at, g, m):
    """Return which elements of y, dx, dw, db may depend on element `at` of x, w or dy."""
    x_shape, w_shape, y_shape, padding = g
    y, dx, dw, db = (np.zeros(shape, bool) for shape in (y_shape, x_shape, w_shape, y_shape[3:]))
    if where == "w":
        y[..., at[3]] = dx[..., at[2]] = True
        return y, dx, dw, db
    one = np.zeros(x_shape if where == "x" else y_shape)
    one[at] = 1
    if where == "x":
        y |= spread(largest(one, y_shape, padding, m).any(axis=-1, keepdims=True), y_shape, m)
        dw[:, :, at[3]] = True
    else:
        back = (2 - padding[0], 2 - padding[1])
        dx |= spread(largest(one, x_shape, back, m).any(axis=-1, keepdims=True), x_shape, m)
        dw[..., at[3]] = db[at[3]] = True
    return y, dx, dw, db


@every_algorithm
@given(geometries(), seeds)
def test_what_the_mask_hides_reaches_nothing(algorithm, g, seed):
    """dy where the mask is 0, less, or NaN: whatever stands there counts as 0."""
    rng = np.random.default_rng(seed)
    x, w, dy = (mixed(rng, shape, [1]) for shape in g[:3])
    mask = np.array([1, 0, -1, np.nan], np.float32)[rng.integers(0, 4, dy.shape)]
    hidden = np.where(mask > 0, dy, rng.choice([np.nan, np.inf, 3e38], dy.shape).astype(np.float32))
    found = three_passes(cpu, x, w, hidden, g[3], mask=mask, algorithm=algorithm)
    assert_all_same(found, three_passes(cpu, x, w, np.where(mask > 0, dy, np.float32(0)), g[3], algorithm=algorithm))


@pytest.mark.parametrize("f", [*FORWARD.values(), *WEIGHT_GRAD.values()])
def test_the_largest_sum_of_terms_is_that_of_the_worst_output(f):
    at, g, bt = (np.abs(np.array(matrix, float)) for matrix in (f.at, f.g, f.bt))
    of_outputs = at @ (g.sum(axis=1) * bt.sum(axis=1)) / f.divisor
    assert float(amplification(f)) == pytest.approx(of_outputs.max() ** 2)
