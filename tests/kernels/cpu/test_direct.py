"""The tiles of all three passes at the sizes where they cut: of vectors, panels, tiles, blocks, groups and chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import seeds
from three_passes import assert_exact

pytest.importorskip("numba")

from fused import cpu

from minunet.kernels.cpu import direct, direct_weight_grad
from minunet.kernels.cpu.isa import ISA
from minunet.testing.strategies import Geometry

DTYPES = [np.float32, np.float64]
PANELS = {dtype: ISA.panel_bytes // np.dtype(dtype).itemsize for dtype in DTYPES}  # columns
TILES = (ISA.tall, ISA.narrow)  # rows
CHANNELS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 40, 41, 64, 65, 130, 600, 2048]
PIXELS = [1, 5, 6, 7, 23, 24, 25, 63, 64, 65, 1023, 1024, 1025]


def around(*sizes):
    """Return each size, one less and one more, none below 1, each once."""
    return sorted({size + step for size in sizes for step in (-1, 0, 1)} - {0})


def channels_of_a_block(dtype, kernel):
    """Return how many channels of a convolution a block has, as the plan says."""
    size = np.dtype(dtype).itemsize
    return direct._channels({"c": 10**6, "r": kernel[0], "s": kernel[1], "size": size})


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_channels_goes_in_and_out(dtype):
    """A 3x3 kernel from c to few and from few to c, and a 1x1 kernel from c to many."""
    for c in CHANNELS:
        assert_exact(cpu, Geometry((1, 3, 2, c), (3, 3), 3, (1, 1), (1, 1)), c, dtype)
        assert_exact(cpu, Geometry((1, 2, 3, 3), (3, 3), c, (1, 1), (1, 1)), c, dtype)
        assert_exact(cpu, Geometry((1, 1, 3, c), (1, 1), 33, (1, 1)), c, dtype)
    assert_exact(cpu, Geometry((1, 1, 3, CHANNELS[-1]), (1, 1), CHANNELS[-1], (1, 1)), 0, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_pixels_is_cut_into_tiles_and_blocks(dtype):
    """As one row, as one column, as images of one pixel; panels of both widths."""
    panel = PANELS[dtype]
    tiles = around(*TILES, direct.ROWS)
    blocks = around(direct.BLOCK_PIXELS, direct_weight_grad.BLOCK_PIXELS)
    for size in sorted({*PIXELS, *tiles, *blocks}):
        for c, k in ((1, panel), (4, panel // 2), (5, panel + 1)):
            assert_exact(cpu, Geometry((1, 1, size, c), (1, 3), k, (1, 1), (0, 1)), size, dtype)
            assert_exact(cpu, Geometry((1, size, 1, c), (2, 1), k, (1, 1), (1, 0)), size, dtype)
            assert_exact(cpu, Geometry((size, 1, 1, c), (1, 1), k, (1, 1)), size, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_of_channels_and_groups_of_panels_are_all_there(dtype):
    """More channels than a block has, exactly as many, and one more; as many columns as fill groups of panels."""
    for kernel, shape in (((3, 3), (1, 4, 3)), ((1, 1), (1, 2, 2)), ((7, 7), (2, 5, 8)), ((1, 4), (1, 2, 6))):
        most = channels_of_a_block(dtype, kernel)
        for c in around(most, 2 * most):
            padding = (kernel[0] // 2, kernel[1] // 2)
            assert_exact(cpu, Geometry((*shape, c), kernel, 5, (1, 1), padding), c, dtype)
    groups = (direct.GROUP_COLUMNS, 3 * direct.GROUP_COLUMNS, direct_weight_grad.GROUP_COLUMNS)
    for k in around(PANELS[dtype] // 2, PANELS[dtype], *groups):
        assert_exact(cpu, Geometry((2, 3, 3, 5), (3, 3), k, (1, 1), (1, 1)), k, dtype)
        assert_exact(cpu, Geometry((2, 3, 3, k), (3, 3), k, (2, 2), (1, 1)), k, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_images_share_a_block_and_spread_over_many(dtype):
    """Batches whose images fill blocks evenly, unevenly and not at all; rows and columns that are cut in the image."""
    side = int(direct.BLOCK_PIXELS**0.5)
    for n, h, w in (
        (2, side, side), (3, side // 2, side), (9, side // 2, side // 2), (2, side + 1, side), (1, 2, direct.BLOCK_PIXELS + 3),
        (5, 3, 3), (1, 130, 9), (1, 9, 130), (1, 70, 70), (0, 4, 4),
    ):  # fmt: skip
        for c, stride in ((1, (1, 1)), (5, (1, 2)), (4, (2, 1)), (40, (1, 1))):
            assert_exact(cpu, Geometry((n, h, w, c), (3, 3), 3, stride, (1, 1)), n, dtype)


def test_the_partial_sums_of_many_chunks_are_all_added():
    """More elements of dw than one job adds, from several chunks; and chunks that share no group."""
    size = 4 * direct_weight_grad.CHUNK_BLOCKS * direct_weight_grad.BLOCK_PIXELS
    for c, k in ((64, 130), (1, 1), (direct_weight_grad.ELEMENTS // 64 + 1, 65)):
        assert_exact(cpu, Geometry((1, size // 64, 64, c), (1, 1), k, (1, 1)), c)


def test_paddings_wider_than_the_kernel_and_kernels_narrower_than_the_stride():
    """Windows that see no pixel at all; phases of dx that no tap reaches, or that begin within dy; ends that do not fit."""
    for kernel in ((1, 1), (2, 3), (3, 1), (7, 7), (1, 5)):
        for stride in ((1, 1), (2, 3), (4, 1), (9, 8)):
            for padding in ((0, 0), (1, 0), (0, 2), (3, 5), (8, 7)):
                for h, w in ((1, 1), (8, 7)):
                    if h + 2 * padding[0] >= kernel[0] and w + 2 * padding[1] >= kernel[1]:
                        for c in (1, 4):
                            assert_exact(cpu, Geometry((2, h, w, c), kernel, 3, stride, padding), h)


@pytest.mark.parametrize(
    ("shape", "stride"),
    [((1, 65, 65, 640), (2, 2)), ((1, 97, 97, 256), (3, 3)), ((1, 17, 257, 3), (1, 2)), ((5, 37, 257, 1), (2, 2))],
)
def test_phases_that_are_cut_otherwise_than_the_first_are_all_there(shape, stride):
    """dx of a stride that does not divide the side: the first phase's grid is larger, but not its number of blocks or groups."""
    assert_exact(cpu, Geometry(shape, (3, 3), 2, stride, (1, 1)))


def drawn(dtype):
    """Draw a convolution with sizes that the kernels cut at; of many channels only with few pixels."""
    panel = PANELS[dtype]
    line = direct_weight_grad.LINE // np.dtype(dtype).itemsize
    sizes = around(2, line, panel // 2, panel, direct.GROUP_COLUMNS, channels_of_a_block(dtype, (3, 3)), *TILES)
    pixels = around(direct.BLOCK_PIXELS // 16, direct_weight_grad.BLOCK_PIXELS // 8, *TILES)

    @st.composite
    def draw_geometry(draw):
        kernel = draw(st.sampled_from([(3, 3), (1, 1), (2, 2), (1, 3), (3, 2), (5, 4)]))
        stride = draw(st.sampled_from([(1, 1), (2, 2), (1, 2), (3, 1)]))
        padding = draw(st.sampled_from([(1, 1), (0, 0), (0, 2), (3, 1)]))
        c, k = draw(st.sampled_from(sizes)), draw(st.sampled_from(sizes))
        n = draw(st.sampled_from([2, 1, 3]))
        room = 2**23 // (c * k * kernel[0] * kernel[1] * n)  # pixels for about 10 ms
        least = [max(1, kernel[a] - 2 * padding[a]) for a in (0, 1)]
        h = draw(st.sampled_from([s for s in pixels if least[0] <= s <= max(room, least[0])] or least[:1]))
        w = draw(st.sampled_from([s for s in pixels if least[1] <= s <= max(room // h, least[1])] or least[1:]))
        return Geometry((n, h, w, c), kernel, k, stride, padding)

    return draw_geometry()


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_convolution_at_the_edges_of_its_blocks_is_exact(dtype):
    @given(g=drawn(dtype), seed=seeds)
    def prove(g, seed):
        assert_exact(cpu, g, seed, dtype)

    prove()
