"""What holds for all three passes, whatever computes them: one image, any place in memory, and numbers that are none."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_all_same, assert_same, seeds
from three_passes import assert_exact

pytest.importorskip("numba")

from fused import cpu, reference

from minunet import fusions, kernels, ops
from minunet.kernels.cpu import choice, convolution
from minunet.testing import strategies
from minunet.testing.strategies import LAYOUTS, Geometry

# One pixel more or less than a tile, edges, one channel, many channels, phases that no tap reaches.
SOME = [
    Geometry((2, 9, 13, 5), (3, 3), 9, (1, 1), (1, 1)), Geometry((2, 9, 13, 1), (3, 3), 17, (1, 1), (1, 1)),
    Geometry((2, 6, 7, 33), (2, 2), 8, (2, 2)), Geometry((3, 6, 7, 8), (1, 1), 2, (1, 1)),
    Geometry((2, 7, 6, 4), (1, 2), 33, (3, 2), (0, 1)), Geometry((1, 5, 5, 130), (3, 3), 3, (1, 2), (2, 0)),
]  # fmt: skip
EXACT = st.sampled_from(["direct", "im2col"])
ANY_GEOMETRY = st.sampled_from([a for a in kernels.ALGORITHMS if not a.startswith("winograd")])
CHOICES = ["direct", "winograd2x2", "winograd4x4"]
SIZES = st.integers(1, 2048)
DTYPES = st.sampled_from([np.float32, np.float64])


def floats(g, seed, dtype):
    """Return x, w, b, dy of any floats: sums of these are rounded, so that their order shows."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in (g.x_shape, g.w_shape, (g.k,), g.y_shape)]


def three_passes(g, x, w, b, dy, **options):
    options = options | g.options
    y = cpu.conv2d(x, w, b, relu=True, **options)
    dx = cpu.conv2d_input_grad(dy, w, g.x_shape, mask=y, **options)
    return [y, dx, *cpu.conv2d_weight_grad(x, dy, g.w_shape, mask=y, **options)]


@pytest.mark.parametrize("g", [*SOME, Geometry((2, 9, 11, 70), (3, 3), 40, (1, 1), (0, 3))], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("algorithm", CHOICES)
def test_auto_is_bit_for_bit_what_is_chosen_by_sizes_and_dtype(g, dtype, algorithm, monkeypatch):
    """So that what is proven of an algorithm is proven of auto. Each pass asks for itself; only 3x3 of stride 1 has a choice."""
    asked = []
    monkeypatch.setattr(convolution, "fastest", lambda *sizes: asked.append(sizes) or algorithm)
    arrays, served = floats(g, 0, dtype), (g.kernel, g.stride) == ((3, 3), (1, 1))
    found = three_passes(g, *arrays)
    (_, h, w, c), (_, p, q, k) = g.x_shape, g.y_shape
    assert asked == ([(p, q, c, k, dtype), (h, w, k, c, dtype), (p, q, c, k, dtype)] if served else [])
    assert_all_same(found, three_passes(g, *arrays, algorithm=algorithm if served else "direct"))


@given(h=SIZES, w=SIZES, c=SIZES, k=SIZES, dtype=DTYPES)
def test_the_choice_is_one_that_serves_and_plain_in_float64(h, w, c, k, dtype):
    """float64 is asked for by whoever wants its digits: gradients to 1e-10, whole numbers that are equal."""
    assert choice.fastest(h, w, c, k, dtype) in (CHOICES if dtype is np.float32 else ["direct"])


@given(g=strategies.geometries(most=9, channels=(5, 9, 2, 17, 1, 33)), seed=seeds, algorithm=ANY_GEOMETRY, dtype=DTYPES)
def test_an_image_alone_or_in_a_batch_gives_the_same_bits(g, seed, algorithm, dtype):
    x, w, b, dy = floats(g, seed, dtype)
    y, dx, *_ = three_passes(g, x, w, b, dy, algorithm=algorithm)
    for n in range(len(x)):
        alone = Geometry((1, *g.x_shape[1:]), g.kernel, g.k, g.stride, g.padding)
        y_alone, dx_alone, *_ = three_passes(alone, x[n : n + 1], w, b, dy[n : n + 1], algorithm=algorithm)
        assert_all_same([y_alone, dx_alone], [y[n : n + 1], dx[n : n + 1]])


@pytest.mark.parametrize("algorithm", ["auto", *CHOICES])
@pytest.mark.parametrize("size", [16, 31, 33, 64, 96])
def test_large_images_give_the_same_bits_alone_and_at_any_number_of_threads(size, algorithm):
    for c, k in ((1, 16), (16, 16), (70, 40)):
        g = Geometry((3, size, size + 1, c), (3, 3), k, (1, 1), (1, 1))
        x, w, b, dy = floats(g, size, np.float32)
        y, dx, *rest = three_passes(g, x, w, b, dy, algorithm=algorithm)
        alone = Geometry((1, size, size + 1, c), (3, 3), k, (1, 1), (1, 1))
        for n in range(3):
            y_alone, dx_alone, *_ = three_passes(alone, x[n : n + 1], w, b, dy[n : n + 1], algorithm=algorithm)
            assert_all_same([y_alone, dx_alone], [y[n : n + 1], dx[n : n + 1]])
        for threads in (1, 2, 4):
            with kernels.threads(threads):
                assert_all_same(three_passes(g, x, w, b, dy, algorithm=algorithm), [y, dx, *rest])


def off_by_one_element(a):
    """Return a copy whose elements are aligned, and whose vectors are not."""
    place = np.empty(a.size + 32, a.dtype)
    aligned = -place.__array_interface__["data"][0] % 64 // a.itemsize  # the first element at a multiple of 64 bytes
    moved = place[aligned + 1 : aligned + 1 + a.size].reshape(a.shape)
    moved[...] = a
    return moved


@pytest.mark.parametrize("g", SOME, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_data_need_not_begin_where_a_vector_may(g, dtype):
    arrays = floats(g, 1, dtype)
    expected = three_passes(g, *arrays)
    assert_all_same(three_passes(g, *map(off_by_one_element, arrays)), expected)
    x, w, b, _ = arrays
    out = off_by_one_element(np.zeros(g.y_shape, dtype))
    assert_same(cpu.conv2d(x, w, b, relu=True, out=out, **g.options), expected[0])
    assert_same(out, expected[0])


@given(g=strategies.geometries(), seed=seeds, dtype=DTYPES, data=st.data())
def test_any_layout_at_the_door_of_the_ops_gives_the_same_bits(g, seed, dtype, data):
    """Misaligned, transposed, strided, reversed, read-only: on numbers whose sums are rounded too."""
    arrays = floats(g, seed, dtype)
    x, w, b, dy = (LAYOUTS[data.draw(st.sampled_from(list(LAYOUTS)))](array) for array in arrays)
    plain = [array.copy(order="C") for array in (x, w, b, dy)]
    for array in (x, w, b, dy):
        array.flags.writeable = False
    with kernels.use_backend("cpu"):
        y, cache = fusions.conv2d_relu(x, w, b, **g.options)
        found = [y, *fusions.conv2d_relu_backward(dy, cache)]
    assert_all_same(found, three_passes(g, *plain))


class Watched:
    """The kernels, which refuse what does not lie as the contract says."""

    def __getattr__(self, name):
        kernel = getattr(cpu, name)

        def watched(*args, **options):
            arrays = [a for a in (*args, *options.values()) if isinstance(a, np.ndarray)]
            assert all(a.flags.aligned for a in arrays), f"{name} was given an array that is not aligned"
            return kernel(*args, **options)

        return watched


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_misaligned_arrays_are_copied_at_the_door(which):
    check_that_kernels_see_aligned_arrays(which)


def check_that_kernels_see_aligned_arrays(which):
    arrays = floats(SOME[0], 0, np.float32)
    arrays[which] = LAYOUTS["misaligned"](arrays[which])
    x, w, b, dy = arrays
    with mock.patch.object(kernels, "for_array", lambda x: Watched()):
        _, cache = fusions.conv2d_relu(x, w, b, **SOME[0].options)
        fusions.conv2d_relu_backward(dy, cache)
        up, cache = ops.conv_transpose2d(dy, w)
        ops.conv_transpose2d_backward(up, cache)


@given(
    g=strategies.geometries(empty=False), seed=seeds, dtype=DTYPES, algorithm=EXACT,
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
)  # fmt: skip
def test_a_nan_or_an_infinity_is_seen_where_its_window_is_and_nowhere_else(g, seed, dtype, algorithm, bad):
    """Whole numbers elsewhere, so that what does not see it is exact; zeros among the weights, which make NaN of infinity."""
    rng = np.random.default_rng(seed)
    x, w, b, dy = (strategies.integers(rng, s, dtype) for s in (g.x_shape, g.w_shape, (g.k,), g.y_shape))
    options = {"algorithm": algorithm} | g.options
    bad_x, bad_dy = x.copy(), dy.copy()
    bad_x[tuple(rng.integers(0, g.x_shape))] = bad
    if dy.size:
        bad_dy[tuple(rng.integers(0, g.y_shape))] = bad
    with np.errstate(invalid="ignore"):
        seen = reference.conv2d(bad_x, w, b, relu=True, **g.options)
        assert_same(cpu.conv2d(bad_x, w, b, relu=True, **options), seen)
        for mask in (None, reference.conv2d(x, w, b, relu=True, **g.options), seen):
            expected = reference.conv2d_input_grad(bad_dy, w, g.x_shape, mask=mask, **g.options)
            assert_same(cpu.conv2d_input_grad(bad_dy, w, g.x_shape, mask=mask, **options), expected)
            for one, other in ((bad_x, dy), (x, bad_dy), (bad_x, bad_dy)):
                expected = reference.conv2d_weight_grad(one, other, g.w_shape, mask=mask, **g.options)
                assert_all_same(cpu.conv2d_weight_grad(one, other, g.w_shape, mask=mask, **options), expected)


def test_a_nan_in_the_oracle_is_where_the_window_is():
    """The test above leans on the specification: that it is right about NaN, told by a picture."""
    x = np.zeros((1, 5, 5, 1))
    x[0, 1, 3] = np.nan
    y = cpu.conv2d(x, np.zeros((3, 3, 1, 2)), None, stride=(1, 1), padding=(1, 1), relu=True)
    picture = ["  ###", "  ###", "  ###", "     ", "     "]
    for k in range(2):
        assert ["".join("# "[not value] for value in row) for row in np.isnan(y[0, ..., k])] == picture


@pytest.mark.parametrize("algorithm", ["direct", "im2col"])
def test_no_image_and_images_of_one_pixel(algorithm):
    for n in (0, 1, 40):
        for c, k in ((1, 1), (3, 17), (17, 3)):
            for kernel, padding in (((1, 1), (0, 0)), ((3, 3), (1, 1)), ((2, 2), (1, 1))):
                assert_exact(cpu, Geometry((n, 1, 1, c), kernel, k, (1, 1), padding), n, np.float32, algorithm)
    dw, db = cpu.conv2d_weight_grad(
        np.zeros((0, 4, 4, 3)), np.zeros((0, 4, 4, 2)), (3, 3, 3, 2), stride=(1, 1), padding=(1, 1), algorithm=algorithm
    )
    assert_all_same([dw, db], [np.zeros((3, 3, 3, 2)), np.zeros(2)])
