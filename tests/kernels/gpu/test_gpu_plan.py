"""How convolutions are planned for a GPU: no device and no compiler is needed for that."""

from __future__ import annotations

import logging
import math
import re

import ml_dtypes  # noqa: F401  # NumPy knows bfloat16 by its name now
import numpy as np
import pytest
from cuda_on_cpu.door import emulated
from hypothesis import given
from hypothesis import strategies as st

from minunet.kernels import algorithm as computed_by
from minunet.kernels import gpu, shapes
from minunet.kernels.gpu import plan as planning
from minunet.kernels.gpu.explicit import MOST_BYTES
from minunet.kernels.gpu.plan import DEPTH, LEAST_PART, LIMIT, MOST_PART, PASSES, TILES, Tile, chosen_path, cut, plan, tile
from minunet.testing import strategies

CHANNELS = st.integers(1, 2048)
SHARED = {75: 64, 80: 163, 86: 99, 90: 227}  # KiB that a block may have: CUDA C++ Programming Guide, "Compute Capabilities"
DTYPES = st.sampled_from(["float32", "float64", "bfloat16"])
PLAIN = {"stride": (1, 1), "padding": (1, 1), "path": "fma"}


@pytest.fixture(autouse=True)
def _nothing_forced(monkeypatch):
    monkeypatch.delenv("MINUNET_GPU_PATH", raising=False)


@pytest.mark.parametrize("shape", TILES, ids=str)
def test_each_tile_fits_a_block_of_each_device_that_has_its_path(shape):
    least = 80 if shape.path == "tensor" else 75
    assert all(shape.shared <= kib * 1024 for capability, kib in SHARED.items() if capability >= least)
    two_blocks = 2 * (shape.shared + 1024)  # a kilobyte of each block is the system's
    assert two_blocks <= 164 * 1024


@given(c=CHANNELS, k=CHANNELS, dtype=DTYPES, path=st.sampled_from(planning.PATHS), vectors=st.booleans(), back=st.booleans())
def test_each_tile_that_is_chosen_is_in_the_list_and_no_wider_than_four_times_what_is_asked(c, k, dtype, path, vectors, back):
    path = "fma" if dtype == "float64" else path
    columns = c if back else k
    shape = tile(columns, c, k, dtype, path=path, vectors=vectors)
    assert shape in TILES
    alike = [t for t in TILES if (t.path, t.store, t.vector) == (shape.path, shape.store, shape.vector)]
    assert shape.columns <= 4 * columns or shape.columns == min(t.columns for t in alike)
    if shape.vector > 1:
        assert vectors
        assert c % shape.vector == k % shape.vector == 0


@pytest.mark.parametrize(
    "precision, capability, dtype, c, k, path",
    [
        ("tf32", 80, "float32", 64, 64, "tensor"), ("tf32", 90, "float32", 8, 8, "tensor"),
        ("tf32", 75, "float32", 64, 64, "fma"), ("float32", 90, "float32", 64, 64, "fma"),
        ("tf32", 90, "float64", 64, 64, "fma"), ("tf32", 90, "float32", 1, 64, "fma"), ("tf32", 90, "float32", 64, 2, "fma"),
        ("bf16", 80, "bfloat16", 64, 64, "tensor"), ("bf16", 75, "bfloat16", 64, 64, "fma"),
        ("bf16", 90, "bfloat16", 1, 64, "fma"), ("bf16", 90, "float32", 64, 64, "tensor"),
    ],
)  # fmt: skip
def test_tensor_cores_multiply_where_tf32_or_bf16_is_asked_for_and_there_is_something_to_multiply(
    precision, capability, dtype, c, k, path
):
    assert chosen_path(c, k, dtype, capability=capability, precision=precision) == path


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_the_environment_forces_a_path(precision, monkeypatch):
    for path in planning.PATHS:
        monkeypatch.setenv("MINUNET_GPU_PATH", path)
        for c in (1, 64):
            assert chosen_path(c, 64, "float32", capability=80, precision=precision) == path
        assert chosen_path(64, 64, "float64", capability=80, precision=precision) == "fma"


@pytest.mark.parametrize("path, capability, says", [("tensor", 75, "7.5.*8.0"), ("cuda", 90, "'cuda'; it takes fma or tensor")])
def test_a_path_that_the_device_has_not_is_refused(path, capability, says, monkeypatch):
    monkeypatch.setenv("MINUNET_GPU_PATH", path)
    with pytest.raises(ValueError, match=f"MINUNET_GPU_PATH is '{path}'" if path == "tensor" else says) as refused:
        chosen_path(64, 64, "float32", capability=capability, precision="float32")
    assert re.search(says, str(refused.value))


@given(rows=st.integers(1, 2**15), columns=CHANNELS, pixels=st.integers(0, 2**24))
def test_parts_cover_the_pixels_once_and_are_as_long_as_they_should_be(rows, columns, pixels):
    parts, each = cut(rows, columns, pixels)
    assert parts >= 1
    assert each % DEPTH == each % planning.NARROW_DEPTH == 0
    assert parts * each >= pixels
    assert (parts - 1) * each < max(pixels, 1)
    assert each < MOST_PART + planning.NARROW_DEPTH
    assert parts == 1 or each >= LEAST_PART


def test_a_weight_gradient_keeps_a_large_gpu_busy_where_it_is_long_and_is_not_cut_where_it_is_wide():
    tiles_and_parts = [5 * cut(9 * 64, 64, 512 * 512)[0], 9 * cut(9 * 128, 128, 256 * 256)[0]]
    assert all(planning.BUSY * 0.9 <= blocks <= planning.BUSY * 1.2 for blocks in tiles_and_parts)
    assert cut(9 * 1024, 1024, 32 * 32) == (1, 32 * 32)


@given(g=strategies.geometries(most=40, channels=(64, 1, 130, 20)), vectors=st.booleans())
def test_blocks_cover_each_product(g, vectors):
    (n, h, w, c), (_, p, q, k), (r, s) = g.x_shape, g.y_shape, g.kernel
    plans = {name: plan(name, g.x_shape, g.w_shape, "float32", path="fma", vectors=vectors, **g.options) for name in PASSES}
    wide = {name: int(dict(o.split("=") for o in made.kernel.options)["COLUMNS"]) for name, made in plans.items()}
    assert {made.kernel.name: made.kernel.name for made in plans.values()} == {name: name for name in PASSES}
    assert plans["conv2d"].grid == math.ceil(n * p * q / 128) * math.ceil(k / wide["conv2d"])
    gradient = plans["conv2d_weight_grad"]
    rows, columns = (k, r * s * c) if gradient.few_taps else (r * s * c, k)
    assert gradient.grid == gradient.parts * math.ceil(rows / 128) * math.ceil(columns / wide["conv2d_weight_grad"])
    assert wide["conv2d_weight_grad"] == 16 or not gradient.few_taps
    back = plans["conv2d_input_grad"]
    phases = [(a, b) for a in range(min(g.stride[0], h)) for b in range(min(g.stride[1], w))]
    assert back.grid == len(phases) * back.blocks_of_a_phase
    assert back.phases_w == len({b for _, b in phases})
    for a, b in phases:
        pixels = n * len(range(a, h, g.stride[0])) * len(range(b, w, g.stride[1]))
        assert math.ceil(pixels / 128) * math.ceil(c / wide["conv2d_input_grad"]) <= back.blocks_of_a_phase


@pytest.mark.parametrize(
    "x_shape, w_shape, what",
    [
        ((1, 2**15, 2**15, 1), (3, 3, 1, 1), "pixels with padding"),
        ((2**20, 32, 32, 1), (1, 1, 1, 1), "pixels with padding"),
        ((1, 3, 3, 2**28), (3, 3, 2**28, 1), "taps times channels"),
        ((1, 3, 3, 1), (3, 3, 1, 2**28), "taps times channels"),
    ],
)
@pytest.mark.parametrize("name", PASSES)
def test_what_kernels_cannot_count_is_refused(name, x_shape, w_shape, what):
    with pytest.raises(ValueError, match=f"{what}; on a GPU fewer than 2\\^30: cut the batch"):
        plan(name, x_shape, w_shape, "float32", **PLAIN)


@pytest.mark.parametrize(
    "w_shape, few",
    [((3, 3, 1, 64), True), ((3, 3, 3, 64), True), ((1, 1, 64, 2), False), ((3, 3, 16, 16), False), ((3, 3, 64, 64), False)],
)
def test_taps_of_few_channels_are_the_columns_of_a_weight_gradient(w_shape, few):
    assert plan("conv2d_weight_grad", (8, 512, 512, w_shape[2]), w_shape, "float32", **PLAIN).few_taps == few
    assert not plan("conv2d_weight_grad", (8, 512, 512, w_shape[2]), w_shape, "float32", **PLAIN | {"path": "tensor"}).few_taps


def test_what_is_just_not_too_large_is_planned():
    """Of one channel, and of 1024: pixels times channels pass 2^31, which kernels count in 64 bits."""
    wide = (1, 2**15 - 2, 2**15 - 3, 1)
    assert plan("conv2d", wide, (3, 3, 1, 64), "float32", **PLAIN).grid == math.ceil(wide[1] * wide[2] / 128)
    assert plan("conv2d", (16, 512, 512, 1024), (3, 3, 1024, 1024), "float32", **PLAIN).grid == 2**15 * 16
    assert LIMIT == 2**30
    with pytest.raises(ValueError, match="blocks, and a GPU 2147483647: cut the batch"):
        plan("conv2d_weight_grad", (1, 3, 3, 2**26), (3, 3, 2**26, 2**26), "float32", **PLAIN)


def test_one_line_of_the_log_names_the_path(caplog):
    plan.cache_clear()
    with caplog.at_level(logging.DEBUG, logger="minunet.gpu"):
        for _ in range(2):
            plan("conv2d", (2, 9, 9, 8), (3, 3, 8, 68), "float32", **PLAIN | {"path": "tensor"})
    (line,) = caplog.messages
    assert "conv2d of (2, 9, 9, 8) with (3, 3, 8, 68)" in line
    assert str(Tile("tensor", "float", 128, 4)) in line


@pytest.mark.parametrize("algorithm", ["winograd2x2", "winograd4x4"])
def test_winograd_is_refused_and_what_is_not_is_named(algorithm):
    x, w = np.ones((1, 9, 9, 3), np.float32), np.ones((3, 3, 3, 3), np.float32)
    says = f"algorithm is '{algorithm}'; a GPU takes auto or direct or im2col"
    with computed_by(algorithm), pytest.raises(ValueError, match=says):
        gpu.conv2d(x, w, stride=(1, 1), padding=(1, 1))


def test_columns_are_taken_memory_for_by_the_piece():
    x, w = (shapes.outline(shape, "float32", "gpu:0") for shape in ((8, 512, 512, 64), (3, 3, 64, 64)))
    with emulated(), shapes.counting("gpu:0") as book, computed_by("im2col"):
        gpu.conv2d(x, w, stride=(1, 1), padding=(1, 1))
    assert MOST_BYTES < book.peak - x.nbytes < 8 * 512 * 512 * 9 * 64 * 4 / 2
