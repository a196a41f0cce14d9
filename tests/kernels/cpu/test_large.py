"""Images of more than 2^31 pixels: only the last jobs are run, on memory that is asked for and hardly touched."""

from __future__ import annotations

import math
import mmap
import sys

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

pytest.importorskip("numba")

from fused import cpu, reference

from minunet.kernels.cpu import columns, direct, direct_weight_grad, plans, pooling, threads
from minunet.kernels.cpu.threads import address

STEP = 64
SIDE = 725 * STEP + 3  # its square is above 2^31, and the last window of 3 at this step ends where the image ends
WINDOWS = {"stride": (STEP, STEP), "padding": (0, 0)}
NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)


@pytest.fixture
def huge():
    """Return a function that makes arrays of zeros which take memory only where they are written."""
    if sys.platform != "linux":
        pytest.skip("how to ask for memory without taking it is Linux's own")

    def make(shape, dtype=np.float32):
        size = math.prod(shape) * np.dtype(dtype).itemsize
        try:
            region = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE)
        except OSError as error:
            pytest.skip(f"no room for {size} bytes of addresses: {error}")
        return np.frombuffer(region, dtype).reshape(shape)

    return make


@pytest.fixture
def last_jobs(monkeypatch):
    """Return a function after which a module's launches run their last jobs only: where the counter starts is the trick."""

    def limit(module, most):
        def launch(kernel, n_jobs, scratch_bytes, *arguments):
            launched, scratch = np.zeros(24, np.int64), bytearray(scratch_bytes + STEP)
            launched[0] = max(0, n_jobs - most)
            place = address(np.frombuffer(scratch, np.uint8))
            assert kernel(address(launched), address(threads._process), threads.CALLER, n_jobs, place + -place % STEP, *arguments)

        monkeypatch.setattr(module, "launch", launch)

    return limit


@pytest.fixture
def x(huge):
    """One image of zeros, with whole numbers in its last corner."""
    x = huge((1, SIDE, SIDE, 1))
    x[:, -3:, -3:] = np.arange(1, 10).reshape(1, 3, 3, 1)
    return x


def test_the_last_window_of_a_large_image_is_seen(x, last_jobs):
    last_jobs(direct, 1)
    last_jobs(columns, 1)
    w = np.arange(18, dtype=np.float32).reshape(3, 3, 1, 2)
    expected = reference.conv2d(x[:, -3:, -3:], w, stride=(1, 1), padding=(0, 0))
    np.testing.assert_array_equal(cpu.conv2d(x, w, **WINDOWS)[:, -1:, -1:], expected)
    np.testing.assert_array_equal(cpu.im2col(x, (3, 3), **WINDOWS)[-1], np.arange(1, 10))


def test_the_last_window_of_a_large_image_counts_in_the_weight_gradient(x, last_jobs, monkeypatch):
    last_jobs(direct_weight_grad, 1)
    monkeypatch.setattr(np, "empty", np.zeros)  # partial sums of jobs that do not run
    dy = np.zeros((1, SIDE // STEP + 1, SIDE // STEP + 1, 2), np.float32)
    dy[0, -1, -1] = 2, 3
    dw, db = cpu.conv2d_weight_grad(x, dy, (3, 3, 1, 2), **WINDOWS)
    np.testing.assert_array_equal(dw[:, :, 0], x[0, -3:, -3:] * dy[0, -1, -1])
    np.testing.assert_array_equal(db, dy[0, -1, -1])


def test_the_last_pixels_of_a_large_gradient_are_written(huge, last_jobs):
    last_jobs(direct, 9)  # of each phase one; with this stride all are reached, and nothing is to be zeroed before
    side = 3 * 15_467
    dx, dy = huge((1, side, side, 1)), huge((1, side // 3, side // 3, 1))
    w = np.arange(1, 10, dtype=np.float32).reshape(3, 3, 1, 1)
    dy[0, -1, -1] = 2
    cpu.conv2d_input_grad(dy, w, dx.shape, out=dx, stride=(3, 3), padding=(0, 0))
    np.testing.assert_array_equal(dx[0, -3:, -3:], 2 * w[:, :, 0])
    assert not dx[0, -4, -3:].any() and not dx[0, 0, :9].any()


def test_pooling_a_large_image_sees_and_writes_its_last_pixels(x, huge, last_jobs, monkeypatch):
    last_jobs(pooling, 1)
    y, argmax = cpu.max_pool2d(x, (3, 3), (STEP, STEP))
    assert (y[0, -1, -1, 0], argmax[0, -1, -1, 0]) == (9, 8)
    monkeypatch.setattr(np, "empty", huge)
    dx = cpu.max_pool2d_grad(y, argmax, x.shape, (3, 3), (STEP, STEP))
    np.testing.assert_array_equal(dx[0, -3:, -2:, 0], [[0, 0], [0, 0], [0, 9]])


@pytest.mark.parametrize("shape", [(3, 50_000, 50_001, 1), (1, 40_000, 30_000, 17), (70_000, 256, 256, 64), (2, 1, 2**33, 3)])
def test_plans_hold_what_32_bits_do_not(shape):
    """Nothing lies behind these arrays: a plan only asks where they would."""
    n, h, w, c = shape
    pixel = (c + 2) * 4
    x = as_strided(np.zeros(1, np.float32), shape, (h * w * pixel, w * pixel, pixel, 4))
    source, target = plans.source(x, None, (3, 3), (1, 1), (1, 1)), plans.target(x)
    plan = {"x": source, "y": target, "blocks": plans.blocks(n, h, w, direct.BLOCK_PIXELS, direct.ROW_PIXELS)}
    record = plans.table([plan])[0]
    assert {part: {name: int(record[part][name]) for name in fields} for part, fields in plan.items()} == plan
    assert (target["image"], target["row"], target["pixel"], source["pixel"]) == (h * w * pixel, w * pixel, pixel, pixel)
    assert {record.dtype[part][name] for part, fields in plan.items() for name in fields} == {np.dtype(np.int64)}
    chunked = direct_weight_grad._plan(source, shape)["blocks"]
    assert chunked["count"] == n * -(-h // chunked["block_p"]) * -(-w // chunked["block_q"])
    assert chunked["block_p"] * chunked["block_q"] <= 4 * direct_weight_grad.BLOCK_PIXELS
