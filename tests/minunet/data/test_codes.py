"""What is counted of a mask, value by value."""

from __future__ import annotations

from collections import Counter
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from minunet.data import codes as mask_codes


def test_a_mask_is_counted_value_by_value():
    mask = np.array([[1, 1, 0, 2], [1, 1, 0, 2], [0, 0, 0, 2], [3, 0, 0, 2]])
    codes = mask_codes.codes_of(mask)
    assert (codes.values.tolist(), codes.counts.tolist()) == ([0, 1, 2, 3], [7, 4, 4, 1])
    assert (codes.solid.tolist(), codes.alike.tolist()) == ([4, 4, 0, 0], [3, 2, 0, 0])
    rows = [np.array([[4, 4, 5]]), np.array([[6]])]
    assert mask_codes.total([mask_codes.codes_of(row) for row in rows], "solid") == {4: 2, 5: 0, 6: 1}


DTYPES = st.sampled_from([bool, np.int8, np.uint8, np.int16, ">u2", np.int32, np.int64, np.uint64])


@given(data=st.data(), dtype=DTYPES.map(np.dtype), shape=st.tuples(st.integers(1, 6), st.integers(1, 6)))
def test_counts_are_those_of_a_plain_loop_whatever_the_values(data, dtype, shape):
    low, high = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    some = data.draw(st.lists(st.integers(low, high) | st.sampled_from([low, high, low + 1]), min_size=1, max_size=4))
    mask = np.array(data.draw(st.lists(st.sampled_from(some), min_size=36, max_size=36)), dtype)[: np.prod(shape)].reshape(shape)
    weight = np.array(data.draw(st.lists(st.integers(0, 2), min_size=36, max_size=36)))[: np.prod(shape)].reshape(shape)
    codes = mask_codes.codes_of(mask, weight)
    plain = Counter(mask[weight > 0].tolist())
    assert dict(zip(codes.values.tolist(), codes.counts.tolist(), strict=True)) == dict(sorted(plain.items()))
    assert codes.values.dtype == codes.dtype == dtype
    alike = Counter(v for v, u, w in zip(mask[:, 1:].flat, mask[:, :-1].flat, weight[:, 1:].flat, strict=True) if v == u and w)
    assert {v: n for v, n in zip(codes.values.tolist(), codes.alike.tolist(), strict=True) if n} == alike


@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(1, 5))
def test_pieces_are_connected_regions_less_their_holes(seed, shape, n_values):
    mask = np.random.default_rng(seed).integers(0, n_values, shape)
    codes = mask_codes.codes_of(mask)
    for value, n in zip(codes.values, codes.pieces, strict=True):
        regions = ndimage.label(mask == value, np.ones((3, 3)))[1]
        holes = ndimage.label(np.pad(mask != value, 1, constant_values=True))[1] - 1
        assert n == regions - holes


@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.sampled_from([1, 7]), st.integers(1, 40))
def test_a_large_mask_is_looked_at_in_parts_with_the_same_result(seed, shape, band, n_values):
    rng = np.random.default_rng(seed)
    mask, weight = rng.integers(0, n_values, shape), rng.integers(0, 3, shape)
    whole = mask_codes.codes_of(mask, weight)
    with mock.patch.object(mask_codes, "BAND", band):
        parts = mask_codes.codes_of(mask, weight)
    for name in ("values", "counts", "solid", "alike", "pieces"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize(("n", "pieces"), [(31, [2] * 31), (32, [2] * 32), (33, None)])
def test_pieces_are_counted_of_32_values_at_most(n, pieces):
    mask = np.repeat([*range(n), *range(n)], 3).reshape(-1, 3)  # each value has two rows, far apart
    found = mask_codes.codes_of(mask).pieces
    assert (found if found is None else found.tolist()) == pieces


@pytest.mark.parametrize(("alike", "n", "forms"), [(50, 20, True), (50, 18, True), (50, 17, False), (49, 20, False)])
def test_regions_are_of_nine_values_in_ten_half_of_whose_pixels_are_beside_their_own(alike, n, forms):
    own = np.repeat([alike, 0], [n, 20 - n])
    found = mask_codes.Codes("y", np.dtype(int), np.arange(20), np.full(20, 100), own, own, None)
    assert mask_codes.form_regions([found]) is forms
