"""Each pixel of a file where it belongs, through `load_folder`: one picture without symmetry, held in every way."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import tifffile
from kept_in_files import GREY, LABELS, RGB, WAYS, turned
from PIL import Image

import minunet
from minunet.data.images import ImageFileError, read_pages

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


@pytest.mark.parametrize(("largest", "is_refused"), [(2, False), (3, True)])
def test_a_palette_of_three_colours_has_none_for_the_number_3(tmp_path, largest, is_refused):
    numbers = np.arange(12, dtype=np.uint8).reshape(3, 4) % (largest + 1)
    image = Image.fromarray(numbers).convert("P")
    colours = np.array([[9, 1, 2], [200, 3, 4], [7, 250, 6], [1, 1, 90]], np.uint8)
    image.putpalette(colours.ravel().tolist())
    image.save(tmp_path / "a.png", bits=2)
    data = (tmp_path / "a.png").read_bytes()
    start = data.index(b"PLTE")
    chunk = b"PLTE" + colours[:3].tobytes()
    old = 8 + int.from_bytes(data[start - 4 : start], "big")
    new = struct.pack(">I", 9) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(data[: start - 4] + new + data[start + old :])
    if is_refused:
        with pytest.raises(ImageFileError, match="pixels of colour 3, and its palette ends before colour 3"):
            read_pages(tmp_path / "a.png")
    else:
        np.testing.assert_array_equal(read_pages(tmp_path / "a.png")[0].pixels, colours[numbers])


@pytest.mark.parametrize("entry", ["00030000000100000000", "00030000000100090000", "00020000000236000000"])
def test_an_orientation_that_is_none_turns_nothing(tmp_path, entry):
    """0, 9, and a text of the digit 6: type, count and value of tag 274, the only one of a directory."""
    exif = b"Exif\0\0MM\0*" + bytes.fromhex("00000008" + "0001" + "0112" + entry + "00000000")
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    (page,) = read_pages(tmp_path / "a.png")
    assert page.orientation == 1
    np.testing.assert_array_equal(page.pixels, RGB)
