"""Winograd's algorithm: its matrices, exact where it can be, and how far it is from exact where it cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from oracles import assert_all_same, assert_same, seeds

pytest.importorskip("numba")

from fused import cpu, reference

from minunet import fusions, kernels
from minunet.kernels.cpu import plans, winograd, winograd_matrices, winograd_weight_grad
from minunet.kernels.cpu.isa import ISA
from minunet.testing import strategies
from minunet.testing.strategies import LAYOUTS, Geometry

ALGORITHMS = {"winograd2x2": 2, "winograd4x4": 4}
algorithms = st.sampled_from(list(ALGORITHMS))
DTYPES = st.sampled_from([np.float32, np.float64])
SIDES = st.integers(1, 19)
PANEL = ISA.panel_bytes // 4
CHANNELS = st.sampled_from([1, 2, 3, 5, PANEL // 2, PANEL // 2 + 1, PANEL, PANEL + 3, 2 * PANEL, winograd.LEAST_COLUMNS + 1])
PADDINGS = st.tuples(st.integers(0, 4), st.integers(0, 4))  # beyond 2, dx looks at less than all of dy
WHOLE = 24**2  # what U, or D, of F(4x4) is divided by: on its multiples the quotient is a whole number


@st.composite
def geometries(draw):
    """Return shapes of x and w, and the padding."""
    padding = draw(PADDINGS)
    h, w = (max(3 - 2 * pad, draw(SIDES)) for pad in padding)
    return (draw(st.integers(0, 3)), h, w, draw(CHANNELS)), (3, 3, 0, draw(CHANNELS)), padding


def problem(g, seed, dtype, scale=1):
    """Return whole numbers x, w, b, dy; w and dy are multiples of `scale`; and the options."""
    x_shape, (_, _, _, k), padding = g
    y_shape = (x_shape[0], *(x_shape[1 + a] + 2 * padding[a] - 2 for a in (0, 1)), k)
    rng = np.random.default_rng(seed)
    x, w, b, dy = (strategies.integers(rng, s, dtype) for s in (x_shape, (3, 3, x_shape[3], k), (k,), y_shape))
    return x, w * dtype(scale), b, dy * dtype(scale), {"stride": (1, 1), "padding": padding}


def three_passes(backend, x, w, b, dy, mask=None, **options):
    """Return y, dx, dx as the transposed convolution has it, dw, db, with bias and relu; the mask is y if none is given."""
    y = backend.conv2d(x, w, b, relu=True, **options)
    mask = y if mask is None else mask
    dx = backend.conv2d_input_grad(dy, w, x.shape, mask=mask, **options)
    free = backend.conv2d_input_grad(dy, w, x.shape, b=x[0, 0, 0] if len(x) else None, relu=True, **options)
    return [y, dx, free, *backend.conv2d_weight_grad(x, dy, w.shape, mask=mask, **options)]


def plan(x, dy, algorithm):
    """Return how the weight gradient, padded by 1, is cut."""
    g = plans.source(x, None, (3, 3), (1, 1), (1, 1))
    return winograd_weight_grad._plan(g, dy.shape, ALGORITHMS[algorithm])


@given(st.sampled_from([2, 4]), seeds)
def test_the_matrices_correlate_exactly(m, seed):
    """In whole numbers of Python, of any size: A^T [(G g) * (B^T d)] is the divisor times the correlation."""
    rng = np.random.default_rng(seed)
    for found, taps, outputs in ((winograd_matrices.FORWARD[m], 3, m), (winograd_matrices.WEIGHT_GRAD[m], m, 3)):
        d, g = (rng.integers(-9, 10, size).astype(object) for size in (m + 2, taps))
        at, gg, bt = (np.array(matrix, dtype=object) for matrix in (found.at, found.g, found.bt))
        expected = [found.divisor * sum(d[i : i + taps] * g) for i in range(outputs)]
        assert (at @ ((gg @ g) * (bt @ d))).tolist() == expected


@given(geometries(), seeds, DTYPES)
def test_f2x2_is_exact_on_whole_numbers(g, seed, dtype):
    x, w, b, dy, options = problem(g, seed, dtype)
    found = three_passes(cpu, x, w, b, dy, algorithm="winograd2x2", **options)
    assert_all_same(found, three_passes(reference, x, w, b, dy, **options))


@given(geometries(), seeds)
def test_f4x4s_weight_gradient_is_exact_on_whole_numbers(g, seed):
    """What it divides by, 24, it divides by at the end, but for a power of two."""
    x, _, _, dy, options = problem(g, seed, np.float64)
    w_shape = (3, 3, x.shape[3], dy.shape[3])
    found = cpu.conv2d_weight_grad(x, dy, w_shape, mask=dy, algorithm="winograd4x4", **options)
    assert_all_same(found, reference.conv2d_weight_grad(x, dy, w_shape, mask=dy, **options))


@given(geometries(), seeds)
def test_f4x4_is_exact_on_multiples_of_what_it_divides_by(g, seed):
    x, w, b, dy, options = problem(g, seed, np.float64, WHOLE)
    found = three_passes(cpu, x, w, b, dy, algorithm="winograd4x4", **options)
    assert_all_same(found, three_passes(reference, x, w, b, dy, **options))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("shape", [(1, 70, 37, 9), (40, 8, 8, 5), (2, 33, 34, 260), (1, 5, 260, 3), (1, 67, 66, 16)], ids=str)
def test_blocks_of_tiles_and_of_channels_are_all_there(algorithm, shape):
    """Several blocks an image, several images a block, more channels than a block has, several chunks."""
    scale = WHOLE if algorithm == "winograd4x4" else 1
    x, w, b, dy, options = problem((shape, (3, 3, 0, shape[3] + 65), (1, 1)), 0, np.float64, scale)
    found = three_passes(cpu, x, w, b, dy, algorithm=algorithm, **options)
    assert_all_same(found, three_passes(reference, x, w, b, dy, **options))
    assert plan(x, dy, algorithm)["blocks"]["count"] > 1


@pytest.mark.parametrize(("algorithm", "bound"), [("direct", 2e-6), ("winograd2x2", 4e-6), ("winograd4x4", 5e-5)])
def test_how_far_float32_is_from_exact(algorithm, bound):
    """Largest error over the largest result, for normal numbers and 64 to 256 channels, where oneDNN's is 1e-6."""
    for c, seed in ((64, 0), (256, 1)):
        rng = np.random.default_rng(seed)
        x, w, b, dy = (rng.standard_normal(s) for s in ((1, 32, 32, c), (3, 3, c, 48), (48,), (1, 32, 32, 48)))
        options = {"stride": (1, 1), "padding": (1, 1)}
        expected = three_passes(reference, x, w, b, dy, **options)
        mask = expected[0].astype(np.float32)  # the same for both: beside 0, an error decides what counts
        single = [a.astype(np.float32) for a in (x, w, b, dy)]
        found = three_passes(cpu, *single, mask=mask, algorithm=algorithm, **options)
        for one, exact in zip(found, expected, strict=True):
            assert np.abs(one - exact).max() <= bound * np.abs(exact).max()


@given(geometries(), seeds, algorithms, DTYPES)
@example(((3, 5, 6, winograd.CHANNELS + 5), (3, 3, 0, 2), (1, 1)), 0, "winograd4x4", np.float32)  # some blocks of channels
def test_an_image_alone_or_in_a_batch_gives_the_same_bits(g, seed, algorithm, dtype):
    x, w, b, _, options = problem(g, seed, dtype)
    x = x + dtype(0.3)
    y = cpu.conv2d(x, w, b, algorithm=algorithm, **options)
    for n in range(len(x)):
        assert_same(cpu.conv2d(x[n : n + 1], w, b, algorithm=algorithm, **options)[0], y[n])


@given(geometries(), seeds, algorithms, DTYPES, st.data())
def test_any_layout_and_any_threads_give_the_same_bits(g, seed, algorithm, dtype, data):
    arrays = [array + dtype(0.3) for array in problem(g, seed, dtype)[:4]]
    padding = g[2]
    views = [LAYOUTS[data.draw(st.sampled_from(list(LAYOUTS)))](array) for array in arrays]
    for view in views:
        view.flags.writeable = False

    def run(x, w, b, dy):
        with kernels.use_backend("cpu"), kernels.algorithm(algorithm):
            y, cache = fusions.conv2d_relu(x, w, b, padding=padding)
            return [y, *fusions.conv2d_relu_backward(dy, cache)]

    expected = run(*(view.copy(order="C") for view in views))
    for n in (1, 4):
        with kernels.threads(n):
            assert_all_same(run(*views), expected)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_sums_of_many_chunks_have_the_same_bits_by_any_threads(algorithm):
    x, _, _, dy, options = problem(((3, 70, 37, 9), (3, 3, 0, 5), (1, 1)), 0, np.float32)
    x, dy = x + np.float32(0.3), dy + np.float32(0.3)
    found = []
    for n in (1, 2, 3, 4):
        with kernels.threads(n):
            found.append(cpu.conv2d_weight_grad(x, dy, (3, 3, 9, 5), algorithm=algorithm, **options))
    for one in found:
        assert_all_same(one, found[0])
    assert plan(x, dy, algorithm)["shares"]["n_chunks"] > 4


@given(seeds, algorithms)
def test_a_slice_of_channels_goes_out_and_nothing_beside_it(seed, algorithm):
    x, w, b, dy, options = problem(((2, 9, 7, 5), (3, 3, 0, 11), (1, 1)), seed, np.float32)
    for kernel, arguments in ((cpu.conv2d, (x, w, b)), (cpu.conv2d_input_grad, (dy, w, x.shape))):
        expected = kernel(*arguments, algorithm=algorithm, **options)
        buffer = np.full((2, 9, 7, expected.shape[3] + 9), 7, np.float32)
        kernel(*arguments, out=buffer[..., 4:-5], algorithm=algorithm, **options)
        assert_same(buffer[..., 4:-5], expected)
        assert (buffer[..., :4] == 7).all()
        assert (buffer[..., -5:] == 7).all()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_nan_reaches_every_window_that_sees_it_and_no_further_than_its_tiles(algorithm):
    m = ALGORITHMS[algorithm]
    x, w = np.ones((1, 24, 24, 3), np.float32), np.zeros((3, 3, 3, 9), np.float32)
    x[0, 11, 13, 1] = np.nan
    seen = np.isnan(cpu.conv2d(x, w, stride=(1, 1), padding=(1, 1), relu=True, algorithm=algorithm))[0]
    assert seen[10:13, 12:15].all()
    near = np.zeros((24, 24), bool)
    near[math.floor(10 / m) * m : math.ceil(13 / m) * m, math.floor(12 / m) * m : math.ceil(15 / m) * m] = True
    assert not seen[~near].any()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("g", [((1, 8, 8, 2), (3, 3), 3, (2, 1)), ((1, 8, 8, 2), (2, 3), 3, (1, 1))])
def test_what_it_does_not_serve_is_computed_as_auto_does(algorithm, g):
    g = Geometry(*g, padding=(0, 0))
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(g.x_shape), rng.standard_normal(g.w_shape)
    assert_same(cpu.conv2d(x, w, algorithm=algorithm, **g.options), cpu.conv2d(x, w, **g.options))
