"""What `minunet predict` writes besides labels: the size of a pixel."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from minunet.cli.predict import _dots, encode_labels

LEAST, MOST = 1e6 / 2**31, 1e6  # micrometres: a PNG counts whole pixels a metre, in 31 bits


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (None, False), ((0.5, 0.25), True), ((MOST, MOST), True), ((0.5, 1.01 * MOST), False), ((1.01 * MOST, 0.5), False),
        ((0.5, LEAST), False), ((LEAST, 0.5), False), ((1.01 * LEAST, 0.5), True), ((0.5, 1.01 * LEAST), True),
    ],
)  # fmt: skip
def test_the_size_of_a_pixel_is_told_where_a_png_can_hold_both_sides(size, told):
    assert _dots(size) == ({"dpi": (25400 / size[1], 25400 / size[0])} if told else {})


def test_it_is_that_of_rows_and_columns(tmp_path):
    ending, content = encode_labels([np.zeros((3, 4))], np.array([0, 1]), (0.5, 0.25))
    (tmp_path / f"a{ending}").write_bytes(content)
    with Image.open(tmp_path / "a.png") as image:
        across, down = image.info["dpi"]
    assert (25400 / across, 25400 / down) == (pytest.approx(0.25), pytest.approx(0.5))
