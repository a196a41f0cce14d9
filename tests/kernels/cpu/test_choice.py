"""What algorithm="auto" chooses: what its own formula says is cheapest, by an image's shape and dtype."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

pytest.importorskip("numba")

from minunet import kernels
from minunet.kernels.cpu.choice import BATCH, COSTS, fastest, work
from minunet.kernels.cpu.isa import ISA

LANES = ISA.vector_bytes // 4
SIDES, CHANNELS = st.integers(1, 700), st.integers(1, 1100)
MANY = st.integers(24, 700)  # so many pixels that transforming the weights costs less than the products that it saves


# What 16 channels into as many cost on 8 x 8 pixels, 2 x 2 tiles of 36 products, with one price each of 1. An image:
DIRECTLY = {"multiply": 9 * 8 * 8 * 16 * 16, "pixel": 8 * 8 * (16 + 16)}
IN_TILES = {"product": 36 * 4 * 16 * 16, "input": 36 * 4 * 16, "output": 36 * 4 * 16, "weight": 36 * 16 * 16 / BATCH}


@pytest.mark.parametrize("one", DIRECTLY)
@pytest.mark.parametrize("other", IN_TILES)
def test_the_cheapest_is_chosen_on_both_sides_of_where_they_cost_alike(one, other):
    """By two of the prices, the others being 0: the work is that of a batch, which shares the weights' transforms."""
    even = DIRECTLY[one] / IN_TILES[other]
    for price, cheapest in ((0.999 * even, "winograd4x4"), (1.001 * even, "direct")):
        prices = dict.fromkeys(COSTS, 0.0) | {one: 1.0, other: price}
        assert fastest(8, 8, 16, 16, np.float32, prices) == cheapest


@given(SIDES, SIDES, CHANNELS, CHANNELS)
@example(512, 512, 1, 64)
def test_it_is_an_algorithm(h, w, c, k):
    assert fastest(h, w, c, k, np.float32) in {*kernels.ALGORITHMS} - {"auto"}


@given(SIDES, SIDES, CHANNELS, CHANNELS)
def test_float64_is_direct(h, w, c, k):
    assert fastest(h, w, c, k, np.float64) == "direct"


@given(MANY, MANY, st.integers(32, 1100), st.integers(32, 1100))
@example(512, 512, 64, 64)
@example(32, 32, 1024, 1024)
def test_wide_layers_of_a_unet_are_winograd_s(h, w, c, k):
    assert fastest(h, w, c, k, np.float32) == fastest(h, w, c, k, np.dtype("float32")) == "winograd4x4"


@given(CHANNELS, CHANNELS)
def test_a_single_pixel_is_direct(c, k):
    assert fastest(1, 1, c, k, np.float32) == "direct"


@given(MANY, MANY, CHANNELS, CHANNELS)
@example(64, 64, 8, 8)
def test_twice_the_channels_never_turn_back_to_direct(h, w, c, k):
    assume(fastest(h, w, c, k, np.float32) != "direct")
    assert fastest(h, w, 2 * c, 2 * k, np.float32) != "direct"


@given(SIDES, SIDES, CHANNELS, CHANNELS, st.sampled_from(["direct", "winograd4x4"]))
def test_what_costs_nothing_is_chosen(h, w, c, k, free):
    prices = {name: float(name not in work(h, w, c, k)[free]) for name in COSTS}
    assert fastest(h, w, c, k, np.float32, prices) == free


def test_work_counts_by_the_formula():
    """9 x 5 pixels are 3 x 2 tiles; of 11 images, 66: two blocks."""
    c, wide_c, k, wide_k = LANES - 1, LANES, LANES + 1, 2 * LANES
    assert work(9, 5, c, k, 11) == {
        "direct": {"multiply": 9 * 495 * c * wide_k, "pixel": 495 * (wide_c + wide_k)},
        "winograd4x4": {
            "product": 36 * 66 * c * wide_k, "input": 36 * 66 * wide_c, "output": 36 * 66 * wide_k, "weight": 36 * 2 * c * wide_k,
        },
    }  # fmt: skip


@given(SIDES, SIDES, CHANNELS, CHANNELS, st.integers(1, 9))
def test_images_share_nothing_but_blocks(h, w, c, k, n):
    one, many = work(h, w, c, k, 1), work(h, w, c, k, n)
    assert many["winograd4x4"].pop("weight") <= n * one["winograd4x4"].pop("weight")
    assert many == {name: {what: n * count for what, count in done.items()} for name, done in one.items()}
