"""A turned image as a view gives what the turned array gives, whichever part is asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet.data.geometry import symmetry
from minunet.evaluation.turned import Turned, inverse


@pytest.mark.parametrize("k", range(8))
def test_its_inverse_undoes_a_symmetry(k):
    image = np.arange(5 * 7 * 2).reshape(5, 7, 2)
    np.testing.assert_array_equal(symmetry(symmetry(image, k), inverse(k)), image)


@given(
    k=st.integers(0, 7), rows=st.tuples(st.integers(0, 4), st.integers(1, 5)),
    cols=st.tuples(st.integers(0, 6), st.integers(1, 7)),
)  # fmt: skip
def test_parts_are_those_of_the_turned_array(k, rows, cols):
    rows, cols = (min(rows), max(rows) + (rows[0] == rows[1])), (min(cols), max(cols) + (cols[0] == cols[1]))
    image = np.arange(6 * 8).reshape(6, 8, 1)
    turned, whole = Turned(image, k), symmetry(image, k)
    assert turned.shape == whole.shape
    (p0, p1), (q0, q1) = turned.where(rows, cols)
    part = turned[p0:p1, q0:q1]
    np.testing.assert_array_equal(part, whole[p0:p1, q0:q1])
    np.testing.assert_array_equal(symmetry(part, inverse(k)), image[slice(*rows), slice(*cols)])
