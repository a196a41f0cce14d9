"""Whether arrays of a device share memory, told from where they lie, beside what NumPy finds of the same arrays."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minunet.kernels.geometry import overlap

BUFFER = np.zeros((3, 2, 4, 6), np.float32)


def on_a_device(a):
    """Return what CuPy tells of an array, which NumPy cannot ask about."""
    data = SimpleNamespace(ptr=a.__array_interface__["data"][0])
    told = {name: getattr(a, name) for name in ("shape", "strides", "size", "itemsize", "nbytes", "flags")}
    return SimpleNamespace(data=data, **told)


@st.composite
def activations(draw):
    """Images and channels of the buffer that follow each other: the rows of each are whole, as dense activations are."""
    (n, more_n), (c, more_c) = (draw(st.tuples(st.integers(0, size - 1), st.integers(1, size))) for size in (3, 6))
    return BUFFER[n : n + more_n, ..., c : c + more_c]


@given(a=activations(), b=activations())
@example(BUFFER[:2, ..., :3], BUFFER[1:, ..., 2:])
@example(BUFFER[:2, ..., :2], BUFFER[1:, ..., 2:4])  # between the same pixels
@example(BUFFER[:1, ..., 1:4], BUFFER[1:, ..., :3])  # right behind it
def test_channels_of_a_buffer_overlap_where_they_share_an_element(a, b):
    assert overlap(on_a_device(a), on_a_device(b)) == np.shares_memory(a, b) == overlap(a, b)


@pytest.mark.parametrize(("first", "shared"), [(43, True), (44, True), (45, False), (46, False)])
def test_memory_is_shared_up_to_the_last_pixels_last_channel(first, shared):
    a, flat = BUFFER[:1, ..., :3], BUFFER.reshape(-1)
    assert overlap(on_a_device(a), on_a_device(flat[first : first + 1])) is overlap(a, flat[first : first + 1]) is shared


def test_what_has_no_element_shares_none():
    assert not overlap(on_a_device(BUFFER), on_a_device(BUFFER[:0]))
    assert not overlap(on_a_device(BUFFER[..., :0]), on_a_device(BUFFER))
