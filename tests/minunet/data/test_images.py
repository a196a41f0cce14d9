"""Reading one image file: every format and kind of pixel, and a sentence for what cannot be read."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from minunet.data import pillow
from minunet.data.images import ImageFileError, is_image, read_image, read_mask

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (13, 17), np.uint8)
RGB = RNG.integers(0, 256, (13, 17, 3), np.uint8)


def only(pages):
    (page,) = pages
    return page


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "TIFF", "gif", "PNG"])
def test_grey_pixels_come_back_as_they_are(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(GREY).save(path)
    np.testing.assert_array_equal(only(read_image(path)), GREY)
    np.testing.assert_array_equal(only(read_mask(path)), GREY)


@pytest.mark.parametrize("ending", ["png", "bmp", "tif"])
def test_colours_come_back_as_they_are(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(RGB).save(path)
    np.testing.assert_array_equal(only(read_image(path)), RGB)


def test_a_jpeg_is_near_its_original_and_turned_as_its_tag_says(tmp_path):
    smooth = np.add.outer(np.arange(16) * 4, np.arange(24) * 6).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to be seen upright
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(smooth).save(tmp_path / "b.jpeg", quality=95, exif=exif)
    upright, turned = only(read_image(tmp_path / "a.jpg")), only(read_image(tmp_path / "b.jpeg"))
    assert np.abs(upright.astype(int) - smooth).max() < 12
    np.testing.assert_array_equal(turned, np.rot90(upright, -1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_of_any_number_type(tmp_path, dtype, compression):
    image = (RNG.random((9, 11)) * 120).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", image, compression=compression)
    page = only(read_image(tmp_path / "a.tif"))
    assert page.dtype == dtype
    np.testing.assert_array_equal(page, image)


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "packbits", "tiff_deflate"])
def test_a_tiff_compressed_by_others(tmp_path, compression):
    Image.fromarray(np.full((16, 16), 90, np.uint8)).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(only(read_image(tmp_path / "a.tif")), 90)


def test_a_16_bit_png_keeps_its_bits(tmp_path):
    image = (GREY.astype(np.uint16) << 6) + 3
    Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(only(read_image(tmp_path / "a.png")), image)


@pytest.mark.parametrize(
    ("shape", "options", "order"),
    [
        ((4, 9, 11), {"photometric": "minisblack"}, (0, 1, 2)),
        ((4, 9, 11, 3), {"photometric": "rgb"}, (0, 1, 2, 3)),
        ((5, 2, 9, 11), {"imagej": True, "metadata": {"axes": "ZCYX"}}, (0, 2, 3, 1)),
        ((2, 9, 11), {"photometric": "minisblack", "metadata": {"axes": "CYX"}}, (1, 2, 0)),
        ((3, 9, 11), {"photometric": "rgb", "planarconfig": "separate"}, (1, 2, 0)),
    ],
)
def test_the_pages_of_a_stack_are_images_with_channels_last(tmp_path, shape, options, order):
    stack = RNG.integers(0, 200, shape).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, **options)
    ordered = stack.transpose(order)
    expected = ordered if order[0] == 0 else [ordered]  # pages, or one image of as many channels
    pages = read_image(tmp_path / "a.tif")
    assert len(pages) == len(expected)
    for page, image in zip(pages, expected, strict=True):
        np.testing.assert_array_equal(page, image)


def test_the_first_page_of_a_stack_is_its_first(tmp_path):
    stack = RNG.integers(0, 200, (3, 2, 9, 11)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[1], np.moveaxis(stack[1], 0, -1))


def palette_image(indices, colours):
    image = Image.fromarray(indices.astype(np.uint8)).convert("L")
    image.putpalette(np.asarray(colours, np.uint8).ravel().tolist())
    return image


@pytest.mark.parametrize("ending", ["png", "bmp", "tif"])
def test_a_palette_gives_masks_its_index_and_images_its_colours(tmp_path, ending):
    indices = np.arange(12).reshape(3, 4) % 3
    colours = np.array([(0, 0, 0), (200, 30, 0), (0, 90, 250)] + [(0, 0, 0)] * 253)
    path = tmp_path / f"a.{ending}"
    palette_image(indices, colours).save(path)
    np.testing.assert_array_equal(only(read_mask(path)), indices)
    np.testing.assert_array_equal(only(read_image(path)), colours[indices])


@pytest.mark.parametrize("values", [(0, 255), (255,), (0,)])
def test_a_gif_whose_palette_is_grey_gives_the_grey_values(tmp_path, values):
    """Pillow writes 255 alone as index 0 of a palette: by its index, an all-white mask would be black."""
    mask = RNG.choice(np.array(values, np.uint8), (6, 7))
    Image.fromarray(mask).save(tmp_path / "a.gif")
    np.testing.assert_array_equal(only(read_mask(tmp_path / "a.gif")), mask)


def test_colours_with_equal_channels_are_a_grey_mask_and_others_are_listed(tmp_path):
    mask = np.array([[0, 255], [255, 0]], np.uint8)
    Image.fromarray(np.repeat(mask[..., None], 3, axis=-1)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(only(read_mask(tmp_path / "grey.png")), mask)
    Image.fromarray(np.array([[[255, 0, 0], [255, 0, 0], [0, 0, 9]]], np.uint8)).save(tmp_path / "red.png")
    with pytest.raises(ImageFileError, match=r"red\.png is a mask in colours \(\(255, 0, 0\) 66\.7%, \(0, 0, 9\) 33\.3%\)"):
        read_mask(tmp_path / "red.png")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_alpha_channel_is_dropped_where_it_says_nothing_and_refused_where_it_does(tmp_path, mode):
    image = Image.fromarray(RGB).convert(mode)
    image.save(tmp_path / "a.png")
    page = only(read_image(tmp_path / "a.png"))
    np.testing.assert_array_equal(page, np.array(image)[..., :-1].squeeze())
    image.putpixel((2, 3), (*image.getpixel((2, 3))[:-1], 0))
    image.save(tmp_path / "b.png")
    with pytest.raises(ImageFileError, match=r"b\.png has transparent pixels"):
        read_image(tmp_path / "b.png")


def test_one_bit_images_are_bool(tmp_path):
    mask = GREY > 128
    Image.fromarray(mask).save(tmp_path / "a.png")
    np.testing.assert_array_equal(only(read_mask(tmp_path / "a.png")), mask)


def damaged(tmp_path, ending):
    path = tmp_path / f"whole.{ending}"
    Image.fromarray(RNG.integers(0, 256, (64, 64), np.uint8)).save(path)
    data = path.read_bytes()
    (tmp_path / f"cut.{ending}").write_bytes(data[: len(data) // 2])
    return tmp_path / f"cut.{ending}"


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "tif"])
def test_a_truncated_file_is_one_sentence(tmp_path, ending):
    with pytest.raises(ImageFileError, match=rf"cut\.{ending} ") as error:
        read_image(damaged(tmp_path, ending))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "tif"])
@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x00" * 200])
def test_what_is_no_image_is_one_sentence(tmp_path, ending, content):
    (tmp_path / f"a.{ending}").write_bytes(content)
    with pytest.raises(ImageFileError, match=rf"a\.{ending} (is|cannot)"):
        read_image(tmp_path / f"a.{ending}")


def test_a_mislabelled_file_is_named(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").rename(tmp_path / "a.png")
    with pytest.raises(ImageFileError, match=r"a\.png is a JPEG file in truth"):
        read_image(tmp_path / "a.png")


def test_a_tiff_that_promises_more_than_it_holds_takes_no_memory(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), np.uint8))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tiff:
        tiff.pages[0].tags["ImageLength"].overwrite(60000)
        tiff.pages[0].tags["ImageWidth"].overwrite(60000)
    with pytest.raises(ImageFileError, match=r"a\.tif is truncated, or lies: it promises 3,600,000,000 bytes"):
        read_image(tmp_path / "a.tif")


def test_floats_with_nan_are_refused_with_the_place(tmp_path):
    image = np.zeros((5, 6), np.float32)
    image[2, 3] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", image)
    with pytest.raises(ImageFileError, match=r"a\.tif holds 1 NaN or infinite values, the first at row 2, column 3"):
        read_image(tmp_path / "a.tif")


def test_a_folder_and_a_text_are_refused(tmp_path):
    with pytest.raises(ImageFileError, match="is a folder"):
        read_image(tmp_path)
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(ImageFileError, match=r"a\.txt has no image's name"):
        read_image(tmp_path / "a.txt")
    assert not is_image(tmp_path / ".a.png")


def test_a_name_with_a_newline_stays_on_one_line(tmp_path):
    path = tmp_path / "a\nb é.png"
    path.write_bytes(b"x")
    with pytest.raises(ImageFileError) as error:
        read_image(path)
    assert r"a\nb é.png" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzma"])
@pytest.mark.parametrize(
    ("shape", "cut"),
    [
        ((37, 53), {"rowsperstrip": 5}), ((37, 53), {"rowsperstrip": 1}), ((37, 53), {"tile": (16, 32)}),
        ((37, 53, 3), {"photometric": "rgb", "rowsperstrip": 7}), ((37, 53, 3), {"photometric": "rgb", "tile": (16, 16)}),
        ((3, 37, 53), {"photometric": "rgb", "planarconfig": "separate", "rowsperstrip": 7}),
        ((3, 37, 53), {"photometric": "rgb", "planarconfig": "separate", "tile": (16, 32)}),
        ((8, 37, 53), {"photometric": "minisblack", "volumetric": True, "tile": (4, 16, 16)}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_strips_tiles_and_planes_come_back_as_they_are(tmp_path, shape, cut, dtype, compression, byteorder):
    image = RNG.integers(0, 255, shape).astype(dtype)
    predictor = bool(compression) and dtype != np.float32
    tifffile.imwrite(tmp_path / "a.tif", image, byteorder=byteorder, compression=compression, predictor=predictor, **cut)
    pages = read_image(tmp_path / "a.tif")
    expected = [np.moveaxis(image, 0, -1)] if "planarconfig" in cut else image if "volumetric" in cut else [image]
    np.testing.assert_array_equal(pages, expected)
    assert pages[0].dtype == dtype and pages[0].dtype.isnative


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_stacks_of_microscopes_have_their_axes(tmp_path, kind, compression):
    stack = RNG.integers(0, 999, (2, 3, 2, 19, 21)).astype(np.uint16)
    options = {kind: True, "metadata": {"axes": "TZCYX"}, "compression": compression, "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", stack, **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.moveaxis(stack, 2, -1).reshape(6, 19, 21, 2))


@pytest.mark.parametrize("is_below", [True, False])
def test_the_smaller_levels_of_a_pyramid_are_left_out(tmp_path, is_below):
    image = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(image, photometric="rgb", tile=(16, 16), subifds=2 if is_below else 0, metadata=None)
        for step in (2, 4):
            file.write(image[::step, ::step], photometric="rgb", tile=(16, 16), subfiletype=1, metadata=None)
    np.testing.assert_array_equal(only(read_image(tmp_path / "a.tif")), image)


def test_pages_of_several_sizes_are_images_of_their_own(tmp_path):
    images = [RNG.integers(0, 256, shape, np.uint8) for shape in ((20, 21), (30, 31), (20, 21))]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for image in images:
            file.write(image, photometric="minisblack", metadata=None)
    pages = read_image(tmp_path / "a.tif")
    for page, image in zip(pages, (images[0], images[2], images[1]), strict=True):  # those of one size are one series
        np.testing.assert_array_equal(page, image)


def test_the_channels_of_scanimage_are_channels(tmp_path):
    """They come page after page; its own metadata lie between the header and the first directory."""
    frames = RNG.integers(0, 999, (6, 20, 20)).astype(np.int16)
    path = tmp_path / "a.tif"
    options = {"photometric": "minisblack", "metadata": None, "software": "SI.hChannels.channelSave = [1;2]\n", "bigtiff": True}
    tifffile.imwrite(path, frames, **options)
    assert len(read_image(path)) == 6
    raw = path.read_bytes().ljust(-(-path.stat().st_size // 8) * 8, b"\0")
    with tifffile.TiffFile(path) as file:
        start, n_tags = file.pages[0].offset, len(file.pages[0].tags)
    moved = bytearray(raw + raw[start : start + 16 + 20 * n_tags])  # the first directory, to the end
    moved[8:16] = len(raw).to_bytes(8, "little")
    moved[16:20] = (117637889).to_bytes(4, "little")
    path.write_bytes(moved)
    np.testing.assert_array_equal(read_image(path), np.moveaxis(frames.reshape(3, 2, 20, 20), 1, -1))


@pytest.mark.parametrize("ending", ["gif", "png"])
def test_the_frames_of_an_animation_are_pages(tmp_path, ending):
    frames = [Image.fromarray(RNG.integers(0, 256, (20, 30), np.uint8)) for _ in range(4)]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    pages = read_image(tmp_path / f"a.{ending}")
    assert len(pages) == 4
    np.testing.assert_array_equal(pages[0], np.array(frames[0]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_as_pillow_turns_it(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        expected = np.array(ImageOps.exif_transpose(image))
    page = only(read_image(tmp_path / "a.jpg"))
    np.testing.assert_array_equal(page, expected)
    assert page.flags.c_contiguous


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_what_pillow_writes_as_tiff(tmp_path, mode, compression):
    image = Image.fromarray(RGB).quantize(9) if mode == "P" else Image.fromarray(RGB).convert(mode)
    image.save(tmp_path / "a.tif", compression=compression)
    page = only(read_image(tmp_path / "a.tif"))
    if mode == "CMYK":
        assert page.shape[2] in (3, 4)  # Pillow's conversion, where Pillow reads it
    elif mode in ("RGBA", "LA"):
        np.testing.assert_array_equal(page, np.array(image)[..., :-1].squeeze())
    else:
        np.testing.assert_array_equal(page, np.array(image.convert("RGB") if mode == "P" else image))


def test_a_large_image_is_copied_in_bands(tmp_path, monkeypatch):
    monkeypatch.setattr(pillow, "BAND", 40)
    for ending in ("png", "bmp", "gif"):
        pixels = GREY if ending == "gif" else RGB
        Image.fromarray(pixels).save(tmp_path / f"a.{ending}")
        np.testing.assert_array_equal(only(read_image(tmp_path / f"a.{ending}")), pixels)


@pytest.mark.parametrize(("seen", "hides"), [([0, 1, 2], False), ([0, 1, 3], True)])
def test_a_palette_image_is_grey_where_all_that_is_seen_is_grey_and_opaque(tmp_path, seen, hides):
    """The fourth colour is no grey, and transparent; whoever does not use it hides nothing."""
    index, greys = np.resize(seen, (3, 4)).astype(np.uint8), np.array([10, 90, 200, 0])
    image = Image.fromarray(index, "P")
    image.putpalette([10, 10, 10, 90, 90, 90, 200, 200, 200, 9, 50, 80])
    image.save(tmp_path / "a.png", transparency=bytes([255, 255, 255, 0]))
    if hides:
        with pytest.raises(ImageFileError, match=r"a\.png has transparent pixels"):
            read_image(tmp_path / "a.png")
        return
    (found,) = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(found, greys[index])
