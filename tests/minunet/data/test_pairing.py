"""Names of images and masks, as people and tools write them: each finds its own, and no number is guessed."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minunet.data.folders import load_folder, match
from minunet.data.pairing import Named, pair
from minunet.text import folded


def paired(images, masks):
    """Return which masks images get, by names of files."""
    found = pair(*([Named(Path(name), Path(name).stem) for name in files] for files in (images, masks)))
    return {str(image): str(mask) for image, mask in found}


TOOLS = [
    ("00.png", "00_cp_masks.png"), ("wells_000_img.tif", "wells_000_masks.tif"), ("a.png", "a_seg.png"),  # Cellpose
    ("x.tif", "label.x.tif"), ("x.tif", "x - Label Image.tif"), ("x.tif", "x_stardist_labels.tif"),  # StarDist
    ("x.tif", "x_Simple Segmentation.tif"), ("x.tif", "x_Object Predictions.tiff"), ("x.tif", "x-Object-Identities.tif"),
    ("x.tif", "x_Multicut Segmentation.png"), ("x_raw.tif", "x_raw_Simple_Segmentation_Stage_2.tif"),  # ilastik
    ("x.tif", "x-labelled.tif"), ("x.jpg", "x-labels.png"), ("x (1.0,0,9,8).jpg", "x (1.0,0,9,8)-mask.png"),  # QuPath
    ("x [x=0,y=0,w=512].tif", "x [x=0,y=0,w=512]-labelled.png"),
    ("img.png", "label.png"), ("a_img.png", "a_label.png"), ("2011_000003.jpg", "2011_000003.png"),  # LabelMe
    ("x.tif", "Mask of x.tif"), ("x.tif", "Mask of x.tif.tif"), ("x.tif", "segmentation of x.tif"), ("x.tif", "x-lbl.tif"),
    ("21_training.tif", "21_manual1.gif"), ("34_training.tif", "34manual1.gif"), ("01_test.tif", "01_manual1.gif"),  # DRIVE
    ("Image_01L.jpg", "Image_01L_1stHO.png"), ("train_1.bmp", "train_1_anno.bmp"), ("train-volume.tif", "train-labels.tif"),
    ("ISIC_0000000.jpg", "ISIC_0000000_segmentation.png"), ("benign (1).png", "benign (1)_mask.png"),
    ("case_0000.png", "case.png"),
    ("x.ome.tif", "x_mask.tif"), ("x.tif", "x.ome.tif"), ("x.jpg", "x.jpg.png"), ("x.tif", "x.tif_mask.png"),
    ("cell 7.png", "cell7_mask.png"), ("cell7.png", "cell 7 _mask.png"), ("a  b .png", "a b.png"), ("a.png", "a .png"),
    ("CellA.png", "cellaMask.png"), ("Cell_7.PNG", "cell_7_MASK.png"), ("caf\u00e9.png", "cafe\u0301-mask.png"),
]  # fmt: skip


@pytest.mark.parametrize(("image", "mask"), TOOLS)
def test_the_names_of_tools_and_data_sets_pair(image, mask):
    assert paired([image, "other_5.png"], ["other_5_mask.png", mask]) == {image: mask, "other_5.png": "other_5_mask.png"}


ALIKE = {"2011_000003.jpg", "case_0000.png", "x.tif", "x.jpg", "a  b .png", "a.png", "CellA.png"}  # where no word tells


@pytest.mark.parametrize(("image", "mask"), [(i, m) for i, m in TOOLS if i not in ALIKE or re.search("(?i)lab|seg.*x|x.*seg", m)])
def test_so_they_do_in_one_folder(tmp_path, image, mask):
    for name in (image, mask, "5.png", "5_mask.png"):
        (tmp_path / name).write_bytes(b"")
    found = match(tmp_path, tmp_path)
    assert {p.image.name: p.mask.name for p in found.pairs} == {image: mask, "5.png": "5_mask.png"}
    assert not found.images_alone and not found.masks_alone


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("img1.png", "mask11.png"), ("img1.png", "mask1_2.png"), ("img12.png", "mask1_2.png"), ("2.png", "manual12.png"),
        ("5.png", "0000_5.png"), ("0000_5.png", "5_mask.png"), ("1.png", "10000.png"), ("00001.png", "1_mask.png"),
        ("1_2.png", "12.png"), ("1 2.png", "12_mask.png"), ("1.5.png", "15_mask.png"), ("x.png", "x_mask_2.png"),
        ("x.png", "x2_mask.png"), ("x_0001.png", "x_mask.png"), ("z-5.png", "z5.png"), ("straw.png", "st_mask.png"),
    ],
)  # fmt: skip
def test_what_differs_in_a_number_or_a_letter_never_pairs(image, mask):
    assert paired([image, "other.png"], [mask, "other.png"]) == {"other.png": "other.png"}


WORDS = ["{}", "{}_mask", "mask_{}", "{}-labels", "{} seg", "{}_cp_masks", "{}_Simple Segmentation", "GT_{}", "{}_manual1"]
ROLES = ["{}", "{}_training", "img_{}", "raw-{}", "{}.ome", "{}_image"]
BASES = st.from_regex(r"\A[a-dé]{1,3}([ _]{0,2}[0-9]{1,3}){1,3}([ _]?[xyö])?\Z")


def numbers(name):
    return re.findall("[0-9]+", name)


def loose(name):
    """Return what may not differ between the names of a pair."""
    return re.sub(r"(?<=\d)[ _]+(?=\d)", "+", folded(name)).replace(" ", "").replace("_", "")


@st.composite
def written(draw, base):
    """Write a name otherwise: capitals, the way accents are stored, blanks and underscores that separate no two numbers."""
    gap = st.sampled_from(["", " ", "_", "  "])
    text = re.sub(r"(?<=\d)([ _]+)(?=\d)|[ _]+", lambda found: found[1] or draw(gap), base)
    text = draw(st.sampled_from([str.upper, str.lower, str.title]))(text)
    return unicodedata.normalize(draw(st.sampled_from(["NFC", "NFD"])), text)


@given(data=st.data(), bases=st.lists(BASES, min_size=1, max_size=6, unique_by=loose))
@settings(max_examples=40)
def test_each_image_gets_its_own_mask_however_the_names_are_written(data, bases):
    images = [data.draw(st.sampled_from(ROLES)).format(data.draw(written(base))) + ".tif" for base in bases]
    masks = [data.draw(st.sampled_from(WORDS)).format(data.draw(written(base))) + ".png" for base in bases]
    mixed = data.draw(st.permutations(masks))
    assert paired(images, mixed) == dict(zip(images, masks, strict=True))
    missing = data.draw(st.sampled_from(masks))
    left = {image: mask for image, mask in zip(images, masks, strict=True) if mask != missing}
    assert paired(images, [mask for mask in mixed if mask != missing]) == left


@given(data=st.data(), image=BASES, mask=BASES)
@settings(max_examples=40)
def test_names_of_other_numbers_never_pair(data, image, mask):
    assume(numbers(image) != numbers(mask))
    role, word = data.draw(st.sampled_from(ROLES)), data.draw(st.sampled_from(WORDS))
    assert paired([role.format(image) + ".png"], [word.format(mask) + ".png"]) == {}


def test_the_nearest_name_wins_and_equally_near_ones_are_refused():
    assert paired(["x.png", "x_gt.png"], ["x_mask.png", "x_gt_mask.png"]) == {"x.png": "x_mask.png", "x_gt.png": "x_gt_mask.png"}
    assert paired(["a.png", "A.png"], ["A.png", "a.png"]) == {"a.png": "a.png", "A.png": "A.png"}
    assert paired(["a 1.png", "a1.png"], ["a1_mask.png"]) == {"a1.png": "a1_mask.png"}
    assert paired(["a.png"], ["a.png", "a_mask.png"]) == {"a.png": "a.png"}
    with pytest.raises(ValueError, match=r"a 1\.png has 2 masks, a1_mask\.png, a_1_gt\.png: which is meant"):
        paired(["a 1.png"], ["a1_mask.png", "a_1_gt.png"])
    with pytest.raises(ValueError, match=r"a_1\.png and a  1\.png both fit the mask a1\.png"):
        paired(["a_1.png", "a  1.png"], ["a1.png"])


def test_of_several_peoples_masks_the_refusal_gives_a_pattern_that_chooses(tmp_path):
    for i in (1, 2):
        for ending in (".jpg", "_1stHO.png", "_2ndHO.png"):
            (tmp_path / f"Image_0{i}L{ending}").write_bytes(b"")
    with pytest.raises(ValueError, match="--mask-pattern") as refused:
        match(tmp_path, tmp_path)
    pattern = re.search("'(.*)'", str(refused.value))[1]
    found = match(tmp_path, tmp_path, mask_pattern=pattern)
    assert [p.mask.name for p in found.pairs] == ["Image_01L_1stHO.png", "Image_02L_1stHO.png"]
    assert [path.name for path in found.ignored] == ["Image_01L_2ndHO.png", "Image_02L_2ndHO.png"] and not found.images_alone


def test_what_was_made_of_a_mask_to_look_at_is_no_mask_unless_an_image_has_its_name(tmp_path):
    files = ("img.png", "label.png", "label_viz.png", "5.tif", "5_cp_masks.png", "5_cp_output.png", "5_Probabilities.tif")
    for name in files:
        (tmp_path / name).write_bytes(b"")
    found = match(tmp_path, tmp_path)
    assert {p.image.name: p.mask.name for p in found.pairs} == {"img.png": "label.png", "5.tif": "5_cp_masks.png"}
    assert [path.name for path in found.ignored] == ["5_Probabilities.tif", "5_cp_output.png", "label_viz.png"]
    assert not found.images_alone and not found.masks_alone
    assert paired(["x.png", "x_overlay.png"], ["x_overlay.png", "x.png"]) == {"x.png": "x.png", "x_overlay.png": "x_overlay.png"}


def test_a_pattern_finds_names_whose_accents_are_stored_otherwise(tmp_path):
    for folder in ("i", "m"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / (unicodedata.normalize("NFD", "Zürich-1") + ".png")).write_bytes(b"")
    pattern = unicodedata.normalize("NFC", "Zürich-*")
    assert len(match(tmp_path / "i", tmp_path / "m", image_pattern=pattern, mask_pattern=pattern).pairs) == 1


def test_files_without_a_partner_are_refused_with_the_ways_on(tmp_path):
    for name in ("a.png", "b.png", "a_mask.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 image without a mask \(b\.png\): .*--mask-pattern.*--skip-unpaired"):
        load_folder(tmp_path, tmp_path)
