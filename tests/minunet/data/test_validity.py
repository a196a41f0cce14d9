"""Which values mean nothing: where each limit lies."""

from __future__ import annotations

import numpy as np
import pytest

from minunet.data.validity import without_data


@pytest.mark.parametrize("nodata", [-1e38, 1e38, -1.7976931348623157e308])
def test_a_vast_nodata_value_is_met_but_for_its_last_digits(nodata):
    """A double's least number in a file of float32 means that of float32; the others may be a hundred-thousandth nearer to 0."""
    vast = np.clip(nodata, -3.4028234663852886e38, None)
    shares = np.array([[1, 1 - 0.9e-5, 1 - 1.1e-5, 0.5, -1, 0]])
    found = without_data((vast * shares).astype(np.float32), nodata)
    assert found.tolist() == [[True, True, False, False, False, False]]


@pytest.mark.parametrize("nodata", [-9999.0, 0.1, 9.99e29])
def test_any_other_is_met_exactly(nodata):
    image = np.array([[nodata, nodata * (1 + 1e-6), -nodata]], np.float32)
    assert without_data(image, nodata).tolist() == [[True, False, False]]


@pytest.mark.parametrize(
    ("dtype", "value", "fits"), [("u1", 255, True), ("u1", 256, False), ("i2", -32768, True), ("u2", 7.5, False)]
)
def test_whole_numbers_have_what_they_can_hold(dtype, value, fits):
    image = np.array([[np.iinfo(dtype).max, np.iinfo(dtype).min, 7]], dtype)
    assert without_data(image, value).tolist() == [[fits and value > 0, fits and value < 0, False]]
