"""Philox4x32-10: each of our copies gives its authors' numbers, and words lie where they are said to."""

from __future__ import annotations

import functools

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet import kernels
from minunet.kernels import philox

# Random123's tests/kat_vectors: counter, key, block.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words_of(text):
    return [np.uint64(int(word, 16)) for word in text.split()]


def of_numba(counter, key):
    return callable_from_python("philox4x32")(*counter, *key)


@functools.cache
def callable_from_python(part):
    """Compile a way into what kernels are made of, which has none of its own."""
    import numba

    from minunet.kernels.cpu import pointwise

    part = getattr(pointwise, part)
    return numba.njit(lambda *arguments: part(*arguments))


COPIES = [philox.philox4x32, *([of_numba] if "cpu" in kernels.available() else [])]


@pytest.mark.parametrize("philox4x32", COPIES)
@pytest.mark.parametrize(("counter", "key", "block"), KNOWN)
def test_known_answers(philox4x32, counter, key, block):
    assert list(philox4x32(words_of(counter), words_of(key))) == words_of(block)


@given(block=st.integers(0, 2**62), seed=st.integers(0, 2**63 - 1), n=st.integers(1, 70))
def test_word_i_is_number_i_mod_4_of_block_i_div_4_also_beyond_32_bits(block, seed, n):
    words = philox.words(n, seed)
    i = n - 1
    for first, drawn in ((0, words), (block, drawn_by_numba(block, seed, n))):
        counter = [np.uint64((first + i // 4) >> shift & 0xFFFFFFFF) for shift in (0, 32, 64, 96)]
        key = [np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)]
        assert drawn is None or drawn[i] == philox.philox4x32(counter, key)[i % 4]


def drawn_by_numba(block, seed, n):
    if "cpu" not in kernels.available():
        return None
    words = np.empty(4 * -(-n // 4), np.uint32)
    callable_from_python("_draw")(words, block, seed)
    return words


@given(rate=st.floats(0, 1, exclude_max=True))
def test_the_limit_is_the_rate_to_32_bits(rate):
    assert 0 <= philox.limit(rate) / 2**32 <= rate < (philox.limit(rate) + 1) / 2**32 <= 1


@given(seed=oracles.seeds)
def test_neither_neighbours_nor_seeds_agree_more_than_chance(seed):
    """Of n fair coins, two of which are compared at a time, 6 standard deviations from n / 2 come once in 5e8."""
    n = 2**14
    coins = philox.words(n + 8, seed) < philox.limit(0.5)
    pairs = [(coins[:n], coins[i : n + i]) for i in (1, 2, 3, 4, 8)]
    pairs += [(coins[:n], philox.words(n, seed ^ bit) < philox.limit(0.5)) for bit in (1, 2**32, 2**62)]
    for one, other in pairs:
        assert abs(int((one == other).sum()) - n / 2) < 6 * np.sqrt(n) / 2
