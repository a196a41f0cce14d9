"""The size of a pixel: what files of microscopes and maps tell, and what programs write unasked."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minunet.data import pixelsize
from minunet.data.images import read_pages

GREY = np.arange(30, dtype=np.uint8).reshape(5, 6)
NONE, INCH, CENTIMETRE = 1, 2, 3
GEO, FEET, DEGREES = ((1, 1, 0, 2, 1024, 0, 1, model, 3076, 0, 1, unit) for model, unit in ((1, 9001), (1, 9002), (2, 9001)))


def written(path, **options):
    """Write a TIFF, and return the pixel size that is read from it."""
    tifffile.imwrite(path, GREY, **{"photometric": "minisblack", "metadata": None} | options)
    (page,) = read_pages(path)
    return page.size


def ome(**attributes):
    return {"ome": True, "metadata": {"axes": "YX", **attributes}}


def imagej(unit, **options):
    return {"imagej": True, "metadata": {"axes": "YX", "unit": unit}, "resolution": (2.0, 4.0), **options}


def geo(keys, *scale):
    return {"extratags": [(33550, "d", 3, (*scale, 0), True), (34735, "H", len(keys), keys, True)]}


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (ome(PhysicalSizeX=0.325, PhysicalSizeY=0.65), (0.65, 0.325)), (ome(PhysicalSizeX=0.325), (0.325, 0.325)),
        (ome(PhysicalSizeX=325, PhysicalSizeXUnit="nm", PhysicalSizeY=650, PhysicalSizeYUnit="nm"), (0.65, 0.325)),
        (ome(PhysicalSizeX=1, PhysicalSizeXUnit="pixel", PhysicalSizeY=1, PhysicalSizeYUnit="pixel"), None),
        (imagej("micron"), (0.25, 0.5)), (imagej("um"), (0.25, 0.5)), (imagej(r"\u00B5m"), (0.25, 0.5)),
        (imagej("nm"), (0.00025, 0.0005)),
        (imagej("mm"), (250, 500)), (imagej("pixel"), None), (imagej("inch"), None),
        ({"resolution": (1 / 0.325e-4, 1 / 0.65e-4), "resolutionunit": CENTIMETRE}, (0.65, 0.325)),
        ({"resolution": (25400 / 0.5, 25400 / 0.5), "resolutionunit": INCH}, (0.5, 0.5)),
        *(({"resolution": (dots, dots), "resolutionunit": INCH}, None) for dots in (1, 72, 96, 300, 600, 1200)),
        ({"resolution": (28.35, 28.35), "resolutionunit": CENTIMETRE}, None),
        ({"resolution": (20000, 20000), "resolutionunit": NONE}, None),
        ({}, None),
        (geo(GEO, 10, 20), (20e6, 10e6)), (geo(FEET, 1, 1), (304800, 304800)), (geo(DEGREES, 0.01, 0.01), None),
        (geo(GEO[:7], 10, 20), None), (geo(GEO, np.nan, 20), None),
        ({"extratags": [(33550, "d", 2, (10.0, 20.0), True), (34735, "H", len(GEO), GEO, True)]}, (20e6, 10e6)),
        ({"extratags": [(33550, "d", 1, 10.0, True), (34735, "H", len(GEO), GEO, True)]}, None),
    ],
)  # fmt: skip
def test_a_tiff_tells_its_pixel_size_where_it_is_meant(tmp_path, options, size):
    found = written(tmp_path / "a.tif", **options)
    assert found == (None if size is None else pytest.approx(size, rel=1e-5))


@pytest.mark.parametrize(
    ("fraction", "size"), [((20000, 1), (0.5, 1.0)), ((20000, 0), None), ((0, 1), None), ((0, 0), None), ((2**32 - 1, 1), None)]
)
def test_a_resolution_that_cannot_be_is_none(tmp_path, fraction, size):
    tifffile.imwrite(tmp_path / "a.tif", GREY, resolution=(1e4, 1e4), resolutionunit=CENTIMETRE)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags[283].overwrite(fraction)
    (page,) = read_pages(tmp_path / "a.tif")
    assert page.size == (None if size is None else pytest.approx(size))


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
@pytest.mark.parametrize(("dots", "size"), [((72, 72), None), ((300, 300), None), ((50800, 25400), (1.0, 0.5))])
def test_other_files_tell_it_as_their_resolution(tmp_path, ending, dots, size):
    Image.fromarray(GREY).save(tmp_path / f"a.{ending}", dpi=dots)
    (page,) = read_pages(tmp_path / f"a.{ending}")
    assert page.size == (None if size is None else pytest.approx(size, rel=1e-4))


def test_rows_and_columns_exchange_their_sizes_when_a_page_is_turned(tmp_path):
    turned = {"extratags": [(274, "H", 1, 6, True)]}
    assert written(tmp_path / "a.tif", resolution=(1e4, 2e4), resolutionunit=CENTIMETRE, **turned) == pytest.approx((1.0, 0.5))


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=5), st.booleans())
def test_several_images_have_one_size_where_all_tell_about_the_same(sizes, is_one_unknown):
    found = pixelsize.common([*((size, size) for size in sizes), *([None] if is_one_unknown else [])])
    if is_one_unknown or max(sizes) / min(sizes) >= 1.5:
        assert found is None
    else:
        assert min(sizes) * (1 - 1e-9) <= found <= max(sizes) * (1 + 1e-9)


@pytest.mark.parametrize(("size", "is_told"), [(0.5, False), (0.7, False), (0.75, True), (0.34, False), (1 / 3, True), (9, True)])
def test_a_model_is_told_of_pixels_from_one_and_a_half_times_its_own(size, is_told):
    found = pixelsize.mismatch((size, size), 0.5)
    assert (found is not None) == is_told
    if found:
        assert f"pixels are of {size:.3g} micrometres, the model was trained on pixels of 0.5 micrometres" in found
        assert f"rescale the image by {size / 0.5:.3g} first" in found
    assert pixelsize.mismatch(None, 0.5) is pixelsize.mismatch((9, 9), None) is None
