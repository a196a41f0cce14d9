"""What launchers decide from shapes alone: how sums are cut, how many blocks there are, what a thread takes at once."""

import math
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet.kernels import gpu
from minunet.kernels.geometry import output_hw
from minunet.kernels.gpu import device
from minunet.kernels.gpu.device import BLOCK, blocks
from minunet.kernels.gpu.layout import pixel, unit
from minunet.kernels.gpu.loss import MOST_PARTS, parts
from minunet.kernels.gpu.pointwise import FEW_COLUMNS, MOST_BLOCKS, Cut, add_bias_relu, columns_of

ROWS = st.one_of(st.integers(0, 3000), st.integers(0, 2**34))
CHANNELS = st.integers(1, 3000)
ITEMSIZES = st.sampled_from([2, 4, 8])
MOST_X, MOST_Y = 2**31 - 1, 2**16 - 1  # the limits of a grid: CUDA C++ Programming Guide, table of technical specifications
HUGE = (2, 2**16, 2**15, 2)  # 2^33 elements: an index is beyond 32 bits, signed or not


def imagined(shape, dtype):
    """Return an array of that shape that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


@given(rows=ROWS, c=CHANNELS, itemsize=ITEMSIZES)
def test_the_chunks_of_a_sum_cover_each_row_once_and_none_is_empty(rows, c, itemsize):
    cut = Cut.of(rows, c, itemsize)
    assert cut.chunk * cut.chunks >= rows
    assert cut.chunk * (cut.chunks - 1) < max(rows, 1)


@given(rows=ROWS, c=CHANNELS, itemsize=ITEMSIZES)
def test_the_grid_of_a_sum_is_bounded_and_its_columns_halve_a_block(rows, c, itemsize):
    cut = Cut.of(rows, c, itemsize)
    assert c % cut.width == 0
    assert cut.width * itemsize <= 16
    for columns, among in ((cut.columns, c // cut.width), (columns_of(c, FEW_COLUMNS), c)):
        assert BLOCK % columns == 0
        assert columns < 2 * among  # less than half of the threads have no column
    assert cut.chunks * blocks(c // cut.width, cut.columns) <= max(MOST_BLOCKS, blocks(c // cut.width, cut.columns))
    assert cut.chunks <= min(MOST_Y, MOST_BLOCKS)


@given(pixels=ROWS)
def test_a_sum_over_pixels_has_few_parts_and_each_thread_a_pixel_first(pixels):
    assert 1 <= parts(pixels) <= MOST_PARTS
    assert parts(pixels) == MOST_PARTS or (parts(pixels) - 1) * BLOCK < max(pixels, 1) <= parts(pixels) * BLOCK


def aligned(shape, dtype, offset=0):
    """Return an array that starts so many bytes behind a multiple of 64."""
    memory = np.zeros(math.prod(shape) * np.dtype(dtype).itemsize + 128, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    return memory[start : start + math.prod(shape) * np.dtype(dtype).itemsize].view(dtype).reshape(shape)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_unit_is_16_bytes_wherever_all_pixels_start_at_a_multiple_of_that(dtype):
    full = 16 // np.dtype(dtype).itemsize
    wide = aligned((2, 3, 3, 16), dtype)
    assert unit(wide) == unit(wide[..., :4]) == unit(wide[..., 8:12]) == unit(wide, wide[..., 4:]) == full
    assert unit(wide[0, 0, 0]) == unit(aligned((12,), dtype)) == full
    assert unit(wide[..., :3]) == unit(wide[..., 1:5]) == unit(wide, wide[..., 1:5]) == 1
    assert unit(aligned((2, 3, 3, 16), dtype, offset=8)) == unit(aligned((13,), dtype)) == 1
    odd = aligned((2, 3, 3, 17), dtype)
    assert unit(odd[..., :16]) == unit(odd[:, :, 1:, :16]) == 1  # the second pixel does not
    assert unit(odd[:1, :1, :1, :16]) == full  # there is none
    assert (pixel(odd), pixel(odd[..., :16]), pixel(wide[..., 4:8])) == (17, 17, 16)


class Noting:
    """A door behind which arrays take no memory and nothing runs: it notes what would."""

    def __init__(self):
        self.launches = []

    def empty(self, shape, dtype):
        return imagined(shape, dtype)

    def asarray(self, a):
        return a

    def launch(self, kernel, grid, block, arguments, shared):
        self.launches.append((kernel.name, (grid, 1, 1) if isinstance(grid, int) else grid))
        assert block == BLOCK
        assert shared <= 48 * 1024  # what any device has


@contextmanager
def noted():
    door = Noting()
    with mock.patch.object(device, "door", lambda: door):
        yield door.launches


X = imagined(HUGE, np.float32)
WINDOW = ((2, 2), (2, 2))
UNPADDED = {"stride": (2, 2), "padding": (0, 0)}
RATES = {"learning_rate": 0.1, "weight_decay": 0}
HALVED = (2, *output_hw(HUGE, *WINDOW, (0, 0)), 2)
HUGE_CALLS = {
    "im2col": lambda: gpu.im2col(X, (2, 2), **UNPADDED),
    "col2im": lambda: gpu.col2im(imagined((math.prod(HALVED[:3]), 8), np.float32), HUGE, (2, 2), **UNPADDED),
    "add_bias_relu": lambda: gpu.relu(X),
    "relu_grad": lambda: gpu.relu_grad(X, X),
    "dropout": lambda: gpu.dropout(X, 0.5, 3),
    "max_pool_grad": lambda: gpu.max_pool2d_grad(imagined(HALVED, np.float32), imagined(HALVED, np.uint8), HUGE, *WINDOW),
    "sgd": lambda: gpu.sgd_update(X.reshape(-1), X.reshape(-1), X.reshape(-1), momentum=0.9, **RATES),
    "average": lambda: gpu.average_update(X.reshape(-1), X.reshape(-1), keep=0.9),
    "adam": lambda: gpu.adam_update(*(X.reshape(-1),) * 4, beta1=0.9, beta2=0.99, epsilon=1e-8, t=1, **RATES),
}


@pytest.mark.parametrize("name", HUGE_CALLS)
def test_more_elements_than_32_bits_count_have_a_thread_each_in_a_grid_that_cuda_takes(name):
    with noted() as launches:
        HUGE_CALLS[name]()
    ((kernel, (x, y, z)),) = launches
    assert kernel == name
    assert (y, z) == (1, 1)
    assert x <= MOST_X
    assert math.prod(HUGE) in (x * BLOCK, x * BLOCK * 4)  # one element a thread, or a unit


def test_aligned_arrays_take_a_thread_for_16_bytes():
    x = aligned((1, 32, 32, 8), np.float32)
    calls = {
        "im2col": (lambda: gpu.im2col(x, (1, 1), stride=(1, 1), padding=(0, 0)), x.size),
        "col2im": (lambda: gpu.col2im(x.reshape(-1, 8), x.shape, (1, 1), stride=(1, 1), padding=(0, 0)), x.size),
        "add_bias_relu": (lambda: add_bias_relu(x, None, relu=True, out=x), x.size),
        "relu_grad": (lambda: gpu.relu_grad(x, x), x.size),
        "dropout": (lambda: gpu.dropout(x, 0.5, 3), x.size),
        "max_pool": (lambda: gpu.max_pool2d(x, *WINDOW), x.size // 4),
        "max_pool_grad": (lambda: gpu.max_pool2d_grad(x, x, (1, 64, 64, 8), *WINDOW), 4 * x.size),
        "sgd": (lambda: gpu.sgd_update(*(x.reshape(-1),) * 3, momentum=0.9, **RATES), x.size),
    }
    for call, _ in calls.values():
        with noted() as launches:
            call()
        ((name, grid),) = launches
        assert grid == (calls[name][1] // BLOCK // 4, 1, 1)


def test_a_norm_is_of_few_sums_however_many_numbers_there_are():
    with noted() as launches:
        gpu.clip_norm(X.reshape(-1), most=1.0)
        gpu.clip_norm(np.ones(3, np.float32), most=1.0)
    assert [name for name, _ in launches] == ["sum_squares", "norm_of_sums", "clip"] * 2
    assert [grid[0] for _, grid in launches] == [2048, 1, math.prod(HUGE) // BLOCK // 4, 1, 1, 1]


def test_nothing_is_launched_for_no_images():
    x = np.zeros((0, 4, 4, 3), np.float32)
    with noted() as launches:
        y, argmax = gpu.max_pool2d(x, *WINDOW)
        gpu.max_pool2d_grad(y, argmax, x.shape, *WINDOW)
        gpu.relu_grad(gpu.relu(gpu.dropout(x, 0.5, 3)), x)
        gpu.col2im(gpu.im2col(x, (2, 2), **UNPADDED), x.shape, (2, 2), **UNPADDED)
    assert launches == []
