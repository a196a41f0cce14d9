"""Which mask belongs to which image, and what cannot be told."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

import minunet
from minunet.data.folders import match, read_pairs

RNG = np.random.default_rng(1)


def write(folder, *names, size=(8, 10), value=None):
    folder.mkdir(exist_ok=True, parents=True)
    for name in names:
        pixels = RNG.integers(0, 256, size, np.uint8) if value is None else np.full(size, value, np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def matched(tmp_path, images, masks, **options):
    write(tmp_path / "images", *images)
    write(tmp_path / "masks", *masks)
    found = match(tmp_path / "images", tmp_path / "masks", **options)
    return {pair.image.name: pair.mask.name for pair in found.pairs}, found


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.png", "a.png"), ("a.jpg", "a.gif"), ("a.png", "a_mask.png"), ("a.png", "mask_a.png"), ("007.png", "mask_007.png"),
        ("007.png", "mask007.png"), ("a.tif", "a-labels.tif"), ("a.png", "a_label.png"), ("a.png", "a_seg.png"),
        ("21_training.tif", "21_manual1.gif"), ("case_0000.png", "case.png"), ("img_3.png", "label_3.png"),
        ("image_1.png", "mask_1.png"), ("a b.png", "a b_mask.png"), ("é.png", "é-mask.png"), ("A.PNG", "a_MASK.png"),
        ("a.png", "a.mask.png"), ("train-volume_1.tif", "train-volume_1_gt.tif"),
    ],
)  # fmt: skip
def test_pairs_are_found_by_name(tmp_path, image, mask):
    assert matched(tmp_path, [image, "other.png"], [mask, "other.png"])[0] == {image: mask, "other.png": "other.png"}


def test_images_and_masks_in_one_folder(tmp_path):
    write(tmp_path, "a.png", "a_mask.png", "b.png", "mask_b.png")
    found = match(tmp_path, tmp_path)
    assert [(p.image.name, p.mask.name) for p in found.pairs] == [("a.png", "a_mask.png"), ("b.png", "mask_b.png")]


def test_a_pattern_tells_masks_of_one_folder(tmp_path):
    write(tmp_path, "a.png", "a_cells.png", "b.png", "b_cells.png")
    found = match(tmp_path, tmp_path, mask_pattern="*_cells.png")
    assert [(p.image.name, p.mask.name) for p in found.pairs] == [("a.png", "a_cells.png"), ("b.png", "b_cells.png")]


def test_the_pattern_s_star_is_the_name(tmp_path):
    pairs, _ = matched(tmp_path, ["scan1.png", "scan2.png"], ["truth-1.png", "truth-2.png", "notes-1.png"],
                       image_pattern="scan*.png", mask_pattern="truth-*.png")  # fmt: skip
    assert pairs == {"scan1.png": "truth-1.png", "scan2.png": "truth-2.png"}


def test_two_masks_for_one_image_are_refused_and_a_pattern_chooses(tmp_path):
    names = (["a.png"], ["a_mask.png", "a_label.png"])
    with pytest.raises(ValueError, match=r"a\.png has 2 masks, a_label\.png, a_mask\.png: .*--mask-pattern"):
        matched(tmp_path, *names)
    assert matched(tmp_path, *names, mask_pattern="*_label.png")[0] == {"a.png": "a_label.png"}


def test_the_nearer_name_wins(tmp_path):
    pairs, _ = matched(tmp_path, ["a.png", "a_train.png"], ["a_mask.png", "a_train_mask.png"])
    assert pairs == {"a.png": "a_mask.png", "a_train.png": "a_train_mask.png"}


def test_two_images_for_one_mask_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png both fit the mask a\.png: .*--image-pattern"):
        matched(tmp_path, ["a.png", "a.jpg"], ["a.png"])


def test_what_has_no_partner_is_listed_and_may_be_left_out(tmp_path):
    images, masks = write(tmp_path / "i", "a.png", "b.png", "c.png"), write(tmp_path / "m", "a.png", "d.png", value=1)
    with pytest.raises(ValueError, match=r"2 images without a mask \(b\.png, c\.png\) and 1 mask without an image \(d\.png\)"):
        minunet.load_folder(images, masks)
    x, y = minunet.load_folder(images, masks, skip_unpaired=True)
    assert x.shape == y.shape == (1, 8, 10)


def test_names_that_have_nothing_in_common_are_shown(tmp_path):
    with pytest.raises(ValueError, match=r"the images are named p1\.png, the masks q1\.png"):
        matched(tmp_path, ["p1.png"], ["q1.png"])


def test_other_files_are_ignored_and_told(tmp_path):
    images = write(tmp_path / "images", "a.png")
    (images / "notes.txt").write_text("x")
    (images / ".DS_Store").write_text("x")
    _, found = matched(tmp_path, ["a.png"], ["a.png"])
    assert [path.name for path in found.ignored] == ["notes.txt"]


def test_an_empty_folder_says_what_is_in_it(tmp_path):
    masks = write(tmp_path / "m", "a.png")
    empty = tmp_path / "i"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"i holds no image .*: it is empty"):
        match(empty, masks)
    (empty / "train").mkdir()
    (empty / "a.npy").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"its 1 files are named a\.npy; it has folders in it \(train\)"):
        match(empty, masks)


def test_a_folder_and_a_file_and_nothing_at_all(tmp_path):
    images = write(tmp_path / "i", "a.png")
    with pytest.raises(ValueError, match=r"is a file and .* a folder"):
        match(images, images / "a.png")
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere"):
        match(images, tmp_path / "nowhere")


def test_two_stacks_are_as_many_pairs(tmp_path):
    stack, labels = RNG.integers(0, 4000, (3, 8, 9), np.uint16), RNG.integers(0, 2, (3, 8, 9), np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", stack, photometric="minisblack")
    tifffile.imwrite(tmp_path / "y.tif", labels, photometric="minisblack")
    x, y = minunet.load_folder(tmp_path / "x.tif", tmp_path / "y.tif")
    np.testing.assert_array_equal(x, stack)
    np.testing.assert_array_equal(y, labels)
    assert [pair.name for pair in read_pairs(tmp_path / "x.tif", tmp_path / "y.tif")][2] == "x.tif, page 3"
    tifffile.imwrite(tmp_path / "y.tif", labels[:2], photometric="minisblack")
    with pytest.raises(ValueError, match=r"x\.tif has 3 pages, but its mask y\.tif 2"):
        minunet.load_folder(tmp_path / "x.tif", tmp_path / "y.tif")


def test_different_sizes_come_as_lists(tmp_path):
    images, masks = write(tmp_path / "i", "a.png"), write(tmp_path / "m", "a.png")
    write(images, "b.png", size=(4, 5))
    write(masks, "b.png", size=(4, 5))
    x, y = minunet.load_folder(images, masks)
    assert [a.shape for a in x] == [a.shape for a in y] == [(8, 10), (4, 5)]


def test_a_mask_drawn_on_an_image_before_it_was_turned_is_recognised(tmp_path):
    images, masks = tmp_path / "i", write(tmp_path / "m", "a.png", size=(8, 10))
    images.mkdir()
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.zeros((8, 10), np.uint8)).save(images / "a.jpg", exif=exif)
    with pytest.raises(ValueError, match=r"a\.jpg is 10 x 8 .* 8 x 10; the image was turned as its orientation tag says \(6\)"):
        minunet.load_folder(images, masks)


def test_masked_pages_stay_masked_in_a_stack(tmp_path):
    nodata = [(42113, "s", 2, "7", True)]
    (tmp_path / "i").mkdir()
    for name in "ab":
        pixels = np.full((8, 10), 7 if name == "a" else 8, np.uint8)
        pixels[0, 0] = 9
        tifffile.imwrite(tmp_path / "i" / f"{name}.tif", pixels, photometric="minisblack", extratags=nodata)
    x, _ = minunet.load_folder(tmp_path / "i", write(tmp_path / "m", "a.png", "b.png", value=1))
    assert x.mask.sum(axis=(1, 2)).tolist() == [79, 0]


def test_a_mask_of_another_size_is_named_and_a_turned_one_recognised(tmp_path):
    images, masks = write(tmp_path / "i", "a.png"), write(tmp_path / "m", "a_mask.png", size=(10, 8))
    with pytest.raises(ValueError, match=r"a\.png is 8 x 10 pixels, but its mask a_mask\.png is 10 x 8; turned by 90 degrees"):
        minunet.load_folder(images, masks)
    write(masks, "a_mask.png", size=(8, 9))
    with pytest.raises(ValueError, match=r"is 8 x 9; a mask has its image's size"):
        minunet.load_folder(images, masks)


def test_images_and_masks_exchanged_are_told(tmp_path):
    images, masks = write(tmp_path / "i", "a.png"), write(tmp_path / "m", "a.png", value=1)
    with pytest.raises(ValueError, match=r"a\.png holds 1 different values and its mask \d\d: .* exchanged"):
        minunet.load_folder(masks, images)


def test_all_files_that_cannot_be_read_are_named(tmp_path):
    images, masks = write(tmp_path / "i", "a.png", "b.png", "c.png"), write(tmp_path / "m", "a.png", "b.png", "c.png")
    for name in ("a.png", "c.png"):
        (images / name).write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"a\.png .*; c\.png "):
        minunet.load_folder(images, masks)


@pytest.mark.parametrize("name", ["with space", "naïve 細胞", "new\nline", "semi;colon 'quote\""])
def test_any_name_works(tmp_path, name):
    images, masks = write(tmp_path / "i", f"{name}.png"), write(tmp_path / "m", f"{name}_mask.png")
    assert minunet.load_folder(images, masks)[0].shape == (1, 8, 10)


def test_the_isbi_folder(isbi):
    x, y = minunet.load_folder(isbi / "train" / "image", isbi / "train" / "label")
    assert x.shape == y.shape == (24, 512, 512)
    assert np.unique(y).tolist() == [0, 255]
