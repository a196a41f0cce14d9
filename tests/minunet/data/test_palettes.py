"""Masks of numbers that stand for colours: one colour each, in all files."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from minunet.data.contradictions import two_palettes
from minunet.data.folders import Matched, match, read_pair, read_pairs
from minunet.data.images import ImageFileError
from minunet.data.survey import survey

RED, BLACK, BLUE = (255, 0, 0), (0, 0, 0), (0, 0, 255)


def save_indexed(path, index, palette):
    """Write a mask of numbers of a palette."""
    image = Image.fromarray(index, "P")
    image.putpalette([channel for colour in palette for channel in colour])
    image.save(path, optimize=False)  # a GIF's colours would be numbered anew


@pytest.mark.parametrize("ending", ["png", "gif", "bmp", "tif"])
@pytest.mark.parametrize(
    ("palette", "value", "says"),
    [([BLACK, RED, BLUE], 1, None), ([BLACK, RED], 1, None),
     ([RED, BLACK], 1, "0 is the colour \\(0, 0, 0\\) in the palette of 0"),
     ([BLACK, BLUE], 1, "1 is the colour \\(255, 0, 0\\) .* and \\(0, 0, 255\\) in that of 1"),
     ([BLACK, BLUE, RED], 2, "the colour \\(255, 0, 0\\) is 1 .* and 2 in that of 1")],
)  # fmt: skip
def test_a_number_of_a_palette_is_one_colour_in_all_masks(tmp_path, ending, palette, value, says):
    mask = np.zeros((6, 9), np.uint8)
    mask[2:4, 3:] = 1
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i, (colours, number) in enumerate([([BLACK, RED, BLUE], 1), (palette, value)]):
        Image.fromarray(np.arange(54, dtype=np.uint8).reshape(6, 9) + i).save(tmp_path / f"images/{i}.png")
        save_indexed(tmp_path / f"masks/{i}.{ending}", mask * np.uint8(number), colours)
    pairs = [pair for files in match(tmp_path / "images", tmp_path / "masks").pairs for pair in read_pair(files)]
    assert [pair.mask.max() for pair in pairs] == [1, value]
    assert pairs[0].colours == {0: BLACK, 1: RED}
    told = [finding.text for finding in survey(pairs).findings if "palette" in finding.text]
    if says is None:
        assert not told and len(read_pairs(tmp_path / "images", tmp_path / "masks")) == 2
    else:
        assert len(told) == 1 and re.search(says, told[0])
        with pytest.raises(ImageFileError, match=says):
            read_pairs(tmp_path / "images", tmp_path / "masks")


def test_one_mask_may_have_two_numbers_for_a_colour():
    assert two_palettes([("a", {0: BLACK, 1: RED, 2: BLACK}), ("b", None), ("c", {0: BLACK, 1: RED})]) is None


def test_greys_stand_for_no_colours(tmp_path):
    mask = np.full((4, 5), 7, np.uint8)
    mask[:2] = 200
    for name, image in (("a.png", Image.fromarray(mask)), ("b.png", Image.fromarray(np.stack([mask] * 3, 2))), ("c.bmp", None)):
        if image is None:
            save_indexed(tmp_path / name, mask, [(i, i, i) for i in range(256)])
        else:
            image.save(tmp_path / name)
        path = tmp_path / name
        assert read_pair(Matched(path, path))[0].colours is None
