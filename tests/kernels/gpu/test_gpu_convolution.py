"""The convolutions' CUDA kernels, on the emulated device, against the specification."""

from __future__ import annotations

import contextlib
import os
from unittest import mock

import numpy as np
import pytest
from cuda_on_cpu import strict
from cuda_on_cpu.door import Counted, emulated
from fused import Fused, reference
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ml_dtypes import bfloat16
from oracles import assert_all_same, assert_same, seeds
from three_passes import assert_exact, sliced

from minunet.kernels import gpu, parameter_dtype, shapes
from minunet.kernels.gpu import device, explicit, implicit
from minunet.kernels.gpu.plan import PASSES, TILES
from minunet.testing import strategies
from minunet.testing.strategies import Geometry

# The path and the device's capability
PLACES = [("fma", 75), ("tensor", 80), ("fma", 90), ("tensor", 90)]
ALGORITHMS = ["direct", "im2col"]
convolution = Fused(gpu)
DTYPES = st.sampled_from([np.float32, np.float64, bfloat16])
KINDS = {"float": np.float32, "double": np.float64, "bf16": bfloat16}
GEOMETRIES = strategies.geometries(most=6, channels=(5, 8, 17, 1, 2))
UP = Geometry((2, 10, 12, 8), (2, 2), 20, (2, 2))  # an up-convolution's forward is its input gradient
SPLIT = Geometry((2, 17, 19, 4), (3, 3), 20, (1, 1), (1, 1))  # its weight gradient has three parts
FEW_TAPS = Geometry((2, 17, 19, 1), (3, 3), 130, (1, 1), (1, 1))  # two tiles of dy's channels
# Of TF32, about 3e-4 where factors are rounded to it; they would be 7e-4 off if they were cut, as tensor cores do. Of bf16 both
# w and what is stored are rounded, to 2^-9 at most each.
TOLERANCE = {
    ("fma", "float32"): 1e-6, ("tensor", "float32"): 4.5e-4, ("fma", "float64"): 1e-12,
    ("fma", "bfloat16"): 3e-3, ("tensor", "bfloat16"): 3e-3,
}  # fmt: skip


@contextlib.contextmanager
def on(path, capability=80, **options):
    """Compute on an emulated device by that path."""
    with mock.patch.dict(os.environ, MINUNET_GPU_PATH=path), emulated(capability=capability, **options) as door:
        yield door


def floats(g, seed, dtype):
    """Return x, w, b and dy of any floats: sums of these are rounded, so that their order shows."""
    rng = np.random.default_rng(seed)
    types = dtype, parameter_dtype(dtype), parameter_dtype(dtype), dtype
    shapes = g.x_shape, g.w_shape, (g.k,), g.y_shape
    return [rng.standard_normal(shape).astype(of) for shape, of in zip(shapes, types, strict=True)]


def three_passes(g, x, w, b, dy, backend=convolution, mask=None, **options):
    """Return y, dx, dw and db; dy counts where the mask, or y if there is none, is > 0."""
    options = options | g.options
    y = backend.conv2d(x, w, b, relu=True, **options)
    mask = y if mask is None else mask
    dx = backend.conv2d_input_grad(dy, w, g.x_shape, mask=mask, **options)
    return [y, dx, *backend.conv2d_weight_grad(x, dy, g.w_shape, mask=mask, **options)]


@settings(max_examples=40)
@example(g=UP, seed=0, dtype=np.float32, algorithm="direct", place=("tensor", 80))
@example(g=SPLIT, seed=0, dtype=np.float32, algorithm="direct", place=("tensor", 80))
@example(g=UP, seed=0, dtype=bfloat16, algorithm="direct", place=("tensor", 80))
@example(g=SPLIT, seed=0, dtype=np.float64, algorithm="direct", place=("fma", 80))
@example(g=SPLIT, seed=0, dtype=bfloat16, algorithm="im2col", place=("tensor", 80))
@example(g=FEW_TAPS, seed=0, dtype=np.float32, algorithm="direct", place=("fma", 80))
@given(g=GEOMETRIES, seed=seeds, dtype=DTYPES, algorithm=st.sampled_from(ALGORITHMS), place=st.sampled_from(PLACES))
def test_all_passes_equal_the_specification(g, seed, dtype, algorithm, place):
    with on(*place):
        assert_exact(convolution, g, seed, dtype, algorithm)


@pytest.mark.parametrize("shape", TILES, ids=str)
def test_each_variant_equals_the_specification(shape, monkeypatch):
    """With channels that choose it for all three passes: of rows more than one tile, of columns less than one at last."""
    c = {16: 9, 32: 24, 64: 40, 128: 72}[shape.columns]
    c += 0 if c % 8 else {1: 1, 2: 2, 4: 4, 8: 0}[shape.vector]
    g = Geometry((2, 12, 13, c), (3, 3), c, (1, 1), (1, 1))
    used = []
    monkeypatch.setattr(implicit, "launch", lambda kernel, *a, **o: used.append(kernel) or device.launch(kernel, *a, **o))
    with on(shape.path):
        assert_exact(convolution, g, dtype=KINDS[shape.store], room=8)
    wanted = [shape.kernel(name) for name in PASSES]
    assert {kernel for kernel in used if kernel.name in PASSES} == set(wanted)


BAD = st.sampled_from([np.nan, np.inf, -np.inf])


@given(seed=seeds, bad=BAD, place=st.sampled_from(PLACES), algorithm=st.sampled_from(ALGORITHMS))
@settings(max_examples=12)
def test_a_nan_or_an_infinity_is_seen_where_its_window_is_and_nowhere_else(seed, bad, place, algorithm):
    g = Geometry((2, 6, 7, 5), (3, 2), 8, (2, 1), (1, 0))
    rng = np.random.default_rng(seed)
    x, w, b, dy = (strategies.integers(rng, s, np.float32) for s in (g.x_shape, g.w_shape, (g.k,), g.y_shape))
    x[tuple(rng.integers(0, g.x_shape))] = bad
    dy[tuple(rng.integers(0, g.y_shape))] = bad
    with np.errstate(invalid="ignore"), on(*place):
        assert_all_same(three_passes(g, x, w, b, dy, algorithm=algorithm), three_passes(g, x, w, b, dy, reference))


@pytest.mark.parametrize("path, dtype", TOLERANCE)
@pytest.mark.parametrize("g", [UP, SPLIT], ids=["up", "split"])
def test_rounding_is_that_of_the_path(path, dtype, g):
    arrays = floats(g, 3, dtype)
    exact = three_passes(g, *(a.astype(np.longdouble) for a in arrays), reference)
    with on(path):
        found = three_passes(g, *arrays, mask=exact[0].astype(dtype))  # which of them are > 0 is not what is asked
    assert [a.dtype for a in found] == [dtype, dtype, parameter_dtype(dtype), parameter_dtype(dtype)]
    found = [a.astype(np.float64) for a in found]
    errors = [np.linalg.norm(one - other) / np.linalg.norm(other) for one, other in zip(found, exact, strict=True)]
    assert max(errors) < TOLERANCE[path, dtype]
    if (path, dtype) == ("tensor", "float32"):
        assert min(errors[:3]) > 1e-5  # tensor cores did it, and db has no product
    if dtype == "bfloat16":
        assert max(errors[2:]) < 1e-6  # products of what is stored, summed and kept in float32


@pytest.mark.parametrize("k, path", [(2, "fma"), (8, "tensor")])
def test_float32_comes_of_bfloat16_where_out_is_that_and_goes_back(k, path):
    """The head, whose logits are float32, and so is what the loss gives back."""
    g = Geometry((2, 9, 11, 16), (1, 1), k, (1, 1))
    rng = np.random.default_rng(0)
    x, w, b, dy = (strategies.integers(rng, shape, np.float32) for shape in (g.x_shape, g.w_shape, (k,), g.y_shape))
    stored = x.astype(bfloat16)
    with on(path):
        y = convolution.conv2d(stored, w, b, out=np.full(g.y_shape, np.nan, np.float32), **g.options)
        found = convolution.conv2d_grads(stored, dy, w, **g.options)
    assert_same(y, reference.conv2d(x, w, b, **g.options))
    dx, dw, db = reference.conv2d_grads(x, dy, w, **g.options)
    assert_all_same(found, (dx.astype(bfloat16), dw, db))


@pytest.mark.parametrize("path, dtype", [("fma", np.float32), ("tensor", np.float32), ("fma", bfloat16), ("tensor", bfloat16)])
@pytest.mark.parametrize("g", [UP, SPLIT], ids=["up", "split"])
def test_bits_do_not_depend_on_the_order_of_threads_on_a_rerun_on_addresses_or_on_the_batch(path, dtype, g):
    arrays = floats(g, 5, dtype)
    with on(path, seed=0):
        first = three_passes(g, *arrays)
        assert_all_same(three_passes(g, *arrays), first)
        x, w, b, dy = arrays
        assert_all_same(three_passes(g, sliced(x), w, b, sliced(dy)), first)  # no loads of 16 bytes
        room = np.zeros((*g.y_shape[:3], g.k + 1), dtype)[..., 1:]
        assert convolution.conv2d(x, w, b, relu=True, out=room, **g.options) is room
        assert_same(room, first[0])
        alone = Geometry((1, *g.x_shape[1:]), g.kernel, g.k, g.stride, g.padding)
        for n in range(2):
            assert_all_same(three_passes(alone, x[n : n + 1], w, b, dy[n : n + 1])[:2], [a[n : n + 1] for a in first[:2]])
    for seed in (1, 2):
        with on(path, capability=90, seed=seed):
            assert_all_same(three_passes(g, *arrays), first)


PIECES = [Geometry((2, 9, 6, 3), (3, 3), 5, (1, 1), (1, 1)), Geometry((1, 9, 6, 3), (2, 3), 5, (3, 2), (1, 2))]


@pytest.mark.parametrize("g", PIECES, ids=str)
def test_columns_are_built_piece_by_piece(g, monkeypatch):
    """Two rows at once, of which the last is one: pieces overlap where kernels are larger than strides, and leave gaps."""
    row = g.y_shape[2] * g.kernel[0] * g.kernel[1] * g.x_shape[3] * 4
    monkeypatch.setattr(explicit, "MOST_BYTES", 2 * row)
    sizes = []
    build = explicit.im2col
    monkeypatch.setattr(explicit, "im2col", lambda *a, **o: sizes.append(build(*a, **o)) or sizes[-1])
    with on("fma"):
        assert_exact(convolution, g, algorithm="im2col")
    assert max(cols.nbytes for cols in sizes) == min(2, g.y_shape[1]) * row


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("g", [SPLIT, UP, Geometry((3, 9, 8, 3), (3, 3), 5, (1, 1), (1, 1))], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, bfloat16])
def test_what_is_said_to_be_taken_of_memory_is_taken(algorithm, g, dtype):
    x, w, b, dy = floats(g, 0, dtype)
    options = {"algorithm": algorithm} | g.options
    y = np.ones_like(dy)
    runs = {
        "conv2d": lambda x, w, b, dy, y: convolution.conv2d(x, w, b, relu=True, **options),
        "conv2d_input_grad": lambda x, w, b, dy, y: convolution.conv2d_input_grad(dy, w, g.x_shape, mask=y, **options),
        "conv2d_weight_grad": lambda x, w, b, dy, y: convolution.conv2d_weight_grad(x, dy, g.w_shape, mask=y, **options),
    }
    for run in runs.values():
        with on("fma") as door:
            counted = Counted(door)
            with mock.patch.object(door, "empty", counted):
                run(x, w, b, dy, y)
            with shapes.counting("gpu:0") as book:
                run(*(shapes.outline(a.shape, a.dtype, "gpu:0") for a in (x, w, b, dy, y)))
        assert book.scratch == 0
        assert counted.most <= book.peak <= 1.5 * counted.most  # the pool of the estimate rounds up


def test_a_path_that_the_device_has_not_is_refused_before_anything_runs():
    g = SPLIT
    x, w, b, dy = floats(g, 0, np.float32)
    with on("tensor", 75) as door, pytest.raises(ValueError, match=r"compute capability 7\.5"):
        convolution.conv2d(x, w, b, **g.options)
    assert not door.launched


def test_stores_of_both_halves_of_a_skip_buffer_meet_nowhere():
    """Two producers, one buffer (N, H, W, 2 K), as the network's concatenation wants it."""
    g = Geometry((1, 6, 7, 8), (3, 3), 8, (1, 1), (1, 1))
    x, w, b, _ = floats(g, 0, np.float32)
    for path in ("fma", "tensor"):
        with on(path):
            alone = convolution.conv2d(x, w, b, **g.options)
            both = np.full((*g.y_shape[:3], 16), np.nan, np.float32)
            for half in (both[..., :8], both[..., 8:]):
                convolution.conv2d(x, w, b, out=half, **g.options)
            assert_same(both, np.concatenate([alone, alone], axis=3))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_arrays_that_only_a_device_can_read_serve_and_nothing_waits(algorithm):
    g = Geometry((2, 6, 7, 5), (3, 3), 8, (2, 1), (1, 0))
    rng = np.random.default_rng(0)
    arrays = [strategies.integers(rng, s, np.float32) for s in (g.x_shape, g.w_shape, (g.k,), g.y_shape)]
    with on("fma", strict=True) as door:
        waits = strict.DeviceArray.waits
        found = three_passes(g, *map(door.asarray, arrays), algorithm=algorithm)
        assert strict.DeviceArray.waits == waits
        assert_all_same([a.get() for a in found], three_passes(g, *arrays, reference))
