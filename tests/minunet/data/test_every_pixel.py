"""Each pixel of a file where it belongs, through `load_folder`: one picture without symmetry, held in every way."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from kept_in_files import GREY, LABELS, WAYS, turned
from PIL import Image

import minunet
from minunet.data.images import read_pages

NUMBERED = (GREY % 5).astype(np.uint8)


def folders(path):
    (path / "i").mkdir()
    (path / "m").mkdir()


@pytest.mark.parametrize("kind", WAYS)
def test_each_pixel_of_a_folder_is_where_it_was_written(tmp_path, kind):
    """No row, column, channel, bit or page takes another's place, and none takes on another number."""
    write, pages = WAYS[kind]
    folders(tmp_path)
    write(tmp_path / "i" / "a")
    tifffile.imwrite(tmp_path / "m" / "a.tif", np.stack([LABELS] * len(pages)), photometric="minisblack")
    x, y = minunet.load_folder(tmp_path / "i", tmp_path / "m")
    assert x.dtype == pages[0].dtype
    np.testing.assert_array_equal(x, np.stack(pages))
    np.testing.assert_array_equal(y, np.stack([LABELS] * len(pages)))


@pytest.mark.parametrize("ending", ["png", "tif", "gif", "bmp"])
def test_each_pixel_of_a_palettes_mask_is_its_number(tmp_path, ending):
    """Colours are in no order by which numbers could be guessed, and two numbers have nearly the same."""
    folders(tmp_path)
    Image.fromarray(GREY).save(tmp_path / "i" / "a.png")
    mask = Image.fromarray(NUMBERED, "L").convert("P")
    mask.putpalette([200, 0, 0, 0, 9, 250, 1, 1, 1, 200, 0, 1, 7, 255, 7] + [0] * 753)
    mask.save(tmp_path / "m" / f"a.{ending}")
    _, y = minunet.load_folder(tmp_path / "i", tmp_path / "m")
    np.testing.assert_array_equal(y[0], NUMBERED)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_an_image_and_its_mask_are_turned_alike_pixel_by_pixel(tmp_path, ending, orientation):
    """Both have the tag: each pixel of the mask stays on its pixel of the image, and both come to stand upright."""
    folders(tmp_path)
    for folder, pixels in (("i", GREY), ("m", LABELS)):
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(turned(pixels, orientation)).save(tmp_path / folder / f"a.{ending}", exif=exif)
    x, y = minunet.load_folder(tmp_path / "i", tmp_path / "m")
    np.testing.assert_array_equal(x[0], GREY)
    np.testing.assert_array_equal(y[0], LABELS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pixel_that_is_no_square_is_turned_with_its_page(tmp_path, orientation):
    """What is stored has pixels 4 micrometres high and 2 wide; from 5 on, its rows are columns of what is seen."""
    tag = [(274, "H", 1, orientation, True)]
    options = {"resolution": (5000, 2500), "resolutionunit": "CENTIMETER", "photometric": "minisblack", "extratags": tag}
    tifffile.imwrite(tmp_path / "a.tif", turned(GREY, orientation), **options)
    (page,) = read_pages(tmp_path / "a.tif")
    assert page.size == pytest.approx((2, 4) if orientation > 4 else (4, 2)) and page.orientation == orientation
    np.testing.assert_array_equal(page.pixels, GREY)
