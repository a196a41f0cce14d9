"""One picture, however it is written: every packing, orientation and counting of grey reads as the same pixels."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from minunet.data.images import ImageFileError, read_image, read_mask, read_pages
from minunet.data.page import upright

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (13, 17), np.uint8)
RGB = RNG.integers(0, 256, (13, 17, 3), np.uint8)
BITS = RNG.random((13, 17)) < 0.4
ORIENTATION, PHOTOMETRIC, NODATA = 274, 262, 42113


def only(pages):
    (page,) = pages
    return page


def turned(array, orientation):
    """Return an array as Pillow turns it, by where each of its pixels goes."""
    places = Image.fromarray(np.arange(array.shape[0] * array.shape[1], dtype=np.int32).reshape(array.shape[:2]))
    places.getexif()[ORIENTATION] = orientation
    places = np.asarray(ImageOps.exif_transpose(places))
    return array.reshape(-1, *array.shape[2:])[places]


def read_of(content, path, reader=read_image):
    path.write_bytes(content)
    return only(reader(path))


@st.composite
def written(draw):
    """Return pixels as a viewer shows them, and options of tifffile that write them in one of the ways there are."""
    dtype = draw(st.sampled_from(["u1", "u2", "u4", "i2", "f4", "f8"]))
    n_channels = draw(st.sampled_from([0, 0, 3]))
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 40)), *([n_channels] if n_channels else []))
    shown = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, shape).astype(dtype)
    shown = shown * 257 if dtype == "u2" else shown
    orientation = draw(st.integers(1, 8))
    is_white_zero = not n_channels and draw(st.booleans())
    stored = shown if not is_white_zero or dtype[0] != "u" else np.iinfo(dtype).max - shown
    is_planar = bool(n_channels) and draw(st.booleans())
    compression = draw(st.sampled_from([None, "zlib", "lzma"]))
    cut = draw(st.sampled_from([{"rowsperstrip": 5}, {"tile": (16, 32)}, {}]))
    options = {
        "photometric": "rgb" if n_channels else "miniswhite" if is_white_zero else "minisblack",
        "byteorder": draw(st.sampled_from("<>")), "compression": compression, "metadata": None,
        "predictor": bool(compression) and dtype[0] != "f" and draw(st.booleans()),
        "planarconfig": "separate" if is_planar else "contig" if n_channels else None,
        "extratags": [(ORIENTATION, "H", 1, orientation, True)], **cut,
    }  # fmt: skip
    return shown, np.moveaxis(stored, -1, 0) if is_planar else stored, orientation, options


@given(written())
@settings(max_examples=60, deadline=None)
def test_a_picture_reads_the_same_however_a_tiff_holds_it(tmp_path_factory, case):
    shown, stored, orientation, options = case
    path = tmp_path_factory.mktemp("a") / "a.tif"
    tifffile.imwrite(path, stored, **options)
    page = only(read_pages(path))
    np.testing.assert_array_equal(page.pixels, turned(shown, orientation))
    assert page.pixels.dtype == shown.dtype and page.orientation == orientation


@pytest.mark.parametrize("zero", ["black", "white"])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("kind", "compression"),
    [(k, c) for k in ("bits", "grey") for c in ("raw", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits")]
    + [("bits", c) for c in ("group3", "group4", "tiff_ccitt")],
)
def test_a_picture_reads_the_same_however_libtiff_packs_it(tmp_path, kind, compression, orientation, zero):
    """Pillow writes what it is given in such a way that viewers show it."""
    array = BITS if kind == "bits" else GREY
    tags = {PHOTOMETRIC: 0 if zero == "white" else 1, ORIENTATION: orientation}
    Image.fromarray(array).save(tmp_path / "a.tif", compression=compression, tiffinfo=tags)
    for reader in (read_image, read_mask):
        np.testing.assert_array_equal(only(reader(tmp_path / "a.tif")), turned(array, orientation))


@pytest.mark.parametrize("bits", [2, 4, 12])
def test_where_white_is_zero_numbers_of_odd_bits_are_counted_from_theirs(tmp_path, bits):
    numbers = RNG.integers(0, 2**bits, (5, 8))
    each = (numbers[..., None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, bits), np.uint8), photometric="miniswhite", metadata=None)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        tags, place = file.pages[0].tags, file.pages[0].dataoffsets[0]
    for name, value in (("ImageWidth", 8), ("BitsPerSample", bits)):
        content[tags[name].valueoffset : tags[name].valueoffset + 2] = value.to_bytes(2, "little")
    content[place : place + 5 * bits] = np.packbits(each.reshape(5, -1), axis=1).tobytes()
    np.testing.assert_array_equal(read_of(content, tmp_path / "b.tif"), 2**bits - 1 - numbers)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_transparency_is_not_counted_from_white(tmp_path, planar):
    stored = np.stack([GREY, np.full_like(GREY, 255)], axis=0 if planar == "separate" else -1)
    options = {"photometric": "miniswhite", "planarconfig": planar, "extrasamples": ["unassalpha"], "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", stored, **options)
    np.testing.assert_array_equal(only(read_image(tmp_path / "a.tif")), 255 - GREY)


def test_a_jpeg_in_a_tiff_is_counted_from_white_as_others_are(tmp_path):
    smooth = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8) * 2
    Image.fromarray(smooth).save(tmp_path / "a.tif", compression="jpeg", quality=100, tiffinfo={PHOTOMETRIC: 0})
    assert np.abs(only(read_image(tmp_path / "a.tif")).astype(int) - smooth).max() <= 2


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "jpeg"])
def test_brightness_and_differences_of_colour_become_colours(tmp_path, compression):
    smooth = np.array(Image.fromarray(RGB).resize((64, 64), Image.Resampling.BICUBIC))
    image = Image.fromarray(smooth).convert("YCbCr")
    image.save(tmp_path / "a.tif", compression=compression, **({"quality": 100} if compression == "jpeg" else {}))
    error = np.abs(only(read_image(tmp_path / "a.tif")).astype(int) - np.asarray(image.convert("RGB")))
    assert error.max() <= (8 if compression == "jpeg" else 0)


@pytest.mark.parametrize("kind", ["imagej", "ome"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "tiff_deflate"])
def test_the_axes_of_a_stack_do_not_depend_on_its_compression(tmp_path, kind, compression):
    stack = RNG.integers(0, 256, (2, 3, 2, 19, 21), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, **{kind: True}, metadata={"axes": "TZCYX"}, photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        tags = {270: file.pages[0].description}
    pages = [Image.fromarray(page) for page in stack.reshape(-1, 19, 21)]
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=pages[1:], compression=compression, tiffinfo=tags)
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif"), np.moveaxis(stack, 2, -1).reshape(6, 19, 21, 2))


@pytest.mark.parametrize("orientations", [(6, 6, 3, 3), (1, 3, 1, 1)])
def test_pages_that_are_channels_are_turned_together_or_not_at_all(tmp_path, orientations):
    stack = RNG.integers(0, 256, (2, 2, 5, 6), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, ome=True, metadata={"axes": "ZCYX"}, photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        description = file.pages[0].description
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        for i, (page, orientation) in enumerate(zip(stack.reshape(4, 5, 6), orientations, strict=True)):
            tags = [(ORIENTATION, "H", 1, orientation, True)]
            file.write(page, description=description if i == 0 else None, extratags=tags, metadata=None, photometric="minisblack")
    if orientations[0] != orientations[1]:
        with pytest.raises(ImageFileError, match=r"b\.tif .* one image's channels, and have the orientations \[1, 3\]"):
            read_image(tmp_path / "b.tif")
        return
    pages = read_image(tmp_path / "b.tif")
    for page, channels, orientation in zip(pages, stack, (6, 3), strict=True):
        np.testing.assert_array_equal(page, turned(np.moveaxis(channels, 0, -1), orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_picture_is_turned_as_its_exif_part_says(tmp_path, ending, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(RGB).save(tmp_path / f"a.{ending}", exif=exif)
    with Image.open(tmp_path / f"a.{ending}") as image:
        expected = np.array(ImageOps.exif_transpose(image))
    page = only(read_pages(tmp_path / f"a.{ending}"))
    np.testing.assert_array_equal(page.pixels, expected)
    assert page.orientation == orientation and page.pixels.flags.c_contiguous


@pytest.mark.parametrize(("colour_type", "n"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_a_png_keeps_its_16_bits(tmp_path, colour_type, n):
    numbers = RNG.integers(0, 2**16, (5, 7, n)).astype(np.uint16)
    numbers[..., -1] = 2**16 - 1 if n in (2, 4) else numbers[..., -1]  # opaque
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in numbers)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 7, 5, 16, colour_type, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    expected = numbers[..., : n - (n in (2, 4))].squeeze()
    np.testing.assert_array_equal(read_of(content, tmp_path / "a.png"), expected)


def tiff_of(*pages):
    """Return a TIFF of pages, each an array with options of tifffile's writer."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for array, options in pages:
            writer.write(array, **{"metadata": None, "photometric": "rgb" if array.ndim == 3 else "minisblack"} | options)
    return file.getvalue()


VALIDITY, SMALL = ({"extratags": [(254, "I", 1, value, True)]} for value in (4, 5))  # NewSubfileType: a mask, a small one
INSIDE = RNG.random(GREY.shape) < 0.8


@pytest.mark.parametrize("mask", [INSIDE, INSIDE.astype(np.uint8) * 255])
@pytest.mark.parametrize("comes_first", [False, True])
@pytest.mark.parametrize("image", [GREY, RGB])
@pytest.mark.parametrize("orientation", [1, 8])
def test_a_mask_in_the_file_masks_its_page_and_is_none(tmp_path, image, mask, comes_first, orientation):
    other = RNG.integers(0, 256, (20, 21), np.uint8)
    pages = [(image, {"extratags": [(ORIENTATION, "H", 1, orientation, True)]}), (mask, VALIDITY)]
    (tmp_path / "a.tif").write_bytes(tiff_of(*(pages[::-1] if comes_first else pages), (other, {}), (mask[:6, :6], SMALL)))
    page, plain = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(page.data, turned(image, orientation))
    outside = turned(~INSIDE, orientation)
    np.testing.assert_array_equal(page.mask, outside if image.ndim == 2 else np.repeat(outside[..., None], 3, axis=2))
    np.testing.assert_array_equal(plain, other)
    assert not isinstance(plain, np.ma.MaskedArray)


def test_a_mask_that_leaves_nothing_out_masks_nothing_and_one_that_stands_alone_is_an_image(tmp_path):
    page = read_of(tiff_of((GREY, {}), (np.ones_like(INSIDE), {"subfiletype": 4})), tmp_path / "a.tif")
    assert type(page) is np.ndarray
    np.testing.assert_array_equal(read_of(tiff_of((INSIDE, {"subfiletype": 4})), tmp_path / "b.tif", read_mask), INSIDE)
    with pytest.raises(ImageFileError, match=r"c\.tif has no valid pixel"):
        read_of(tiff_of((GREY, {}), (np.zeros_like(INSIDE), {"subfiletype": 4})), tmp_path / "c.tif")


@pytest.mark.parametrize(
    "small",
    [{"subfiletype": 1}, {"subfiletype": 9}, {"extratags": [(255, "H", 1, 2, True)]}],
)
def test_smaller_copies_are_left_out(tmp_path, small):
    np.testing.assert_array_equal(read_of(tiff_of((RGB, {}), (RGB[:5, :6], small)), tmp_path / "a.tif"), RGB)
    np.testing.assert_array_equal(read_of(tiff_of((RGB[:5, :6], small), (RGB, {})), tmp_path / "b.tif"), RGB)
    below = tiff_of((RGB[:5, :6], {**small, "subifds": 1}), (RGB, {}))  # as cameras write it
    np.testing.assert_array_equal(read_of(below, tmp_path / "c.tif"), RGB)


def test_of_a_slide_only_the_image_is_read(tmp_path):
    """Scanners' thumbnails are not flagged as such."""
    slide = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    pages = [
        (slide, {"tile": (16, 16), "description": "Aperio Image Library v11\n64x64 |AppMag = 20|MPP = 0.4990"}),
        (slide[::3, ::3], {"description": "Aperio Image Library v11\n64x64 -> 22x22"}),
        (slide[::2, ::2], {"tile": (16, 16), "description": "Aperio Image Library v11\n64x64 -> 32x32"}),
        (slide[:9, :8], {"subfiletype": 1, "description": "Aperio Image Library v11\nlabel 8x9"}),
        (slide[:9, :30], {"subfiletype": 9, "description": "Aperio Image Library v11\nmacro 30x9"}),
    ]
    page = read_of(tiff_of(*pages), tmp_path / "a.tif", read_pages)
    np.testing.assert_array_equal(page.pixels, slide)
    assert page.size == (0.499, 0.499)


LEAST = float(np.finfo(np.float32).min)


def with_nodata(array, text, **options):
    return tiff_of((array, {"extratags": [(NODATA, "s", len(text) + 1, text, True)], **options}))


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("u1", 0, "0"), ("u1", 255, "255"), ("u2", 65535, "65535"), ("i2", -9999, "-9999"), ("f4", -9999, "-9999.0"),
        ("f4", np.nan, "nan"), ("f8", np.nan, "NaN"), ("f4", LEAST, "-3.4028234663852886e+38"),
        ("f4", LEAST, "-3.40282e+38"), ("f4", LEAST, "-1.79769313486232e+308"), ("f4", 0.1, "0.1"),
    ],
)  # fmt: skip
def test_pixels_of_the_nodata_value_are_masked(tmp_path, kind, value, text):
    image = RNG.integers(1, 200, (9, 8)).astype(kind)
    image[2:4, 3] = value
    page = read_of(with_nodata(image, text), tmp_path / "a.tif")
    np.testing.assert_array_equal(np.argwhere(page.mask), [[2, 3], [3, 3]])
    np.testing.assert_array_equal(page.data, image)
    if np.isfinite(value):  # in a mask it is a value like others
        labels = only(read_mask(tmp_path / "a.tif"))
        assert type(labels) is np.ndarray
        np.testing.assert_array_equal(labels, image)


@pytest.mark.parametrize("text", ["", "none", "256", "-1", "0.5", "1e999", "7" * 5000])
def test_a_nodata_value_that_no_pixel_can_have_masks_nothing(tmp_path, text):
    assert type(read_of(with_nodata(GREY, text), tmp_path / "a.tif")) is np.ndarray


def test_nodata_is_of_all_channels_of_colours_and_of_any_of_measurements(tmp_path):
    colours, measured = RGB.copy(), RGB.astype(np.float32)
    colours[colours == 0] = 1
    colours[0, 0], colours[0, 1, 0] = 0, 0
    measured[0, 0, 1] = -9999
    for image, text in ((colours, "0"), (measured, "-9999")):
        page = read_of(with_nodata(image, text), tmp_path / "a.tif")
        np.testing.assert_array_equal(np.argwhere(page.mask), [[0, 0, c] for c in range(3)])


def test_nodata_is_what_is_stored_where_white_is_zero(tmp_path):
    page = read_of(with_nodata(np.array([[0, 255, 7]], np.uint8), "255", photometric="miniswhite"), tmp_path / "a.tif")
    np.testing.assert_array_equal(page.data, [[255, 0, 248]])
    np.testing.assert_array_equal(page.mask, [[False, True, False]])


def test_what_is_not_finite_is_refused_unless_it_is_nodata(tmp_path):
    image = np.ones((4, 5), np.float32)
    image[1, 2], image[2, 3] = np.nan, np.inf
    for text in ("-9999", "nan"):
        with pytest.raises(ImageFileError, match="NaN or infinite"):
            read_of(with_nodata(image, text), tmp_path / "a.tif")


@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=30)
def test_turning_moves_pixels_and_invents_none(orientation, h, w):
    array = np.arange(h * w).reshape(h, w)
    np.testing.assert_array_equal(upright(array, orientation), turned(array, orientation))
