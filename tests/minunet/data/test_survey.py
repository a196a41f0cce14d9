"""What a survey of images and masks finds, and what it keeps quiet about."""

from __future__ import annotations

import io
import weakref
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from minunet.data.folders import Pair
from minunet.data.page import upright
from minunet.data.survey import survey
from minunet.datasets import cells


def pairs_of(x, y, names="{}.png"):
    return [Pair(names.format(i), image, mask, None) for i, (image, mask) in enumerate(zip(x, y, strict=True))]


def texts(found, level=None):
    return [finding.text for finding in found.findings if level in (None, finding.level)]


def only(found, level):
    """Return the text of the one finding of a level."""
    (text,) = texts(found, level)
    return text


@pytest.fixture(scope="module")
def tissue():
    """Return 10 images of cells and their masks: enough to say nothing about how few they are."""
    return cells(10, 96)


@pytest.fixture
def slices(isbi):
    """Return the first 12 ISBI slices as pairs."""
    paths = sorted((isbi / "train" / "image").iterdir())[:12]
    x = [np.array(Image.open(path)) for path in paths]
    return pairs_of(x, [np.array(Image.open(isbi / "train" / "label" / path.name)) for path in paths])


def changed(pairs, i, **parts):
    """Return the pairs with another image or mask for pair i."""
    parts = {"image": pairs[i].image, "mask": pairs[i].mask, **parts}
    return [*pairs[:i], Pair(pairs[i].name, parts["image"], parts["mask"], None), *pairs[i + 1 :]]


def test_honest_cells_give_no_alarm():
    found = survey(pairs_of(*cells(8, 128)))
    assert texts(found, "error") == texts(found, "warning") == []
    assert only(found, "note").startswith("there are 8 images only")


def test_the_facts(tissue):
    found = survey(pairs_of(*tissue))
    assert (found.n_pairs, found.sizes, found.dtypes) == (10, {(96, 96): 10}, {"uint8": 10})
    assert (found.mask_dtypes, found.channels, found.classes.tolist()) == ({"uint8": 10}, {1: 10}, [0, 255])
    assert found.values == {0: (tissue[1] == 0).sum(), 255: (tissue[1] == 255).sum()}
    assert sum(found.frequencies.values()) == pytest.approx(1)
    assert not found.findings


def test_the_isbi_slices_give_no_alarm(slices):
    assert survey(slices).findings == []


def test_a_shift_and_an_inversion_of_isbi_slices_are_found(slices):
    rolled = changed(slices, 3, mask=np.roll(slices[3].mask, (9, -6), (0, 1)))
    shifted, inverted = texts(survey(changed(rolled, 7, mask=255 - slices[7].mask)))
    assert shifted.startswith("3.png (+8 rows, -6 columns): the mask looks shifted")  # drawn one row too high before
    assert inverted.startswith("7.png: the mask looks inverted")


def test_a_shift_and_an_inversion_of_cells_are_found(tissue):
    pairs = pairs_of(*tissue)
    rolled = changed(pairs, 2, mask=np.roll(pairs[2].mask, (9, -6), (0, 1)))
    shifted, inverted = texts(survey(changed(rolled, 5, mask=255 - pairs[5].mask)))
    assert shifted.startswith("2.png (+9 rows, -6 columns): the mask looks shifted")
    assert inverted.startswith("5.png: the mask looks inverted")


def test_a_mask_moved_without_wrapping_round_is_found(tissue):
    (x, y), (down, right) = tissue, (7, 5)
    moved = pairs_of([image[down:, right:] for image in x], [mask[:-down, :-right] for mask in y])
    assert "0.png (+7 rows, +5 columns), 1.png (+7 rows, +5 columns)" in only(survey(moved), "warning")


def test_a_shift_in_colour_and_of_an_inverted_mask_is_found(tissue):
    colour = np.stack([tissue[0]] * 3, axis=-1)
    moved = pairs_of(colour, 255 - np.roll(tissue[1], (0, 8), (1, 2)))
    assert "0.png (+0 rows, +8 columns)" in only(survey(moved), "warning")


def test_noise_is_not_shifted_nor_inverted():
    rng = np.random.default_rng(0)
    y = np.repeat(np.repeat(rng.integers(0, 2, (30, 8, 8)), 8, axis=1), 8, axis=2)
    assert not texts(survey(pairs_of(rng.integers(0, 256, (30, 64, 64)), y)))


def test_shading_that_correlates_better_with_a_moved_mask_is_no_shift():
    rows, columns = np.mgrid[:96, :96]
    y = np.stack([np.hypot(rows - 40, columns - 30 - i) < 14 for i in range(10)])
    shading = np.hypot(rows - 60, columns - 70) / 20
    assert not texts(survey(pairs_of(shading + 0.3 * y + np.random.default_rng(0).normal(0, 0.05, y.shape), y)))


def test_boxes_around_objects_are_no_shift():
    rows, columns = np.mgrid[:96, :96]
    y = np.stack([np.maximum(abs(rows - 50), abs(columns - 30 - i)) < 20 for i in range(10)])
    x = np.stack([np.hypot(rows - 50, columns - 30 - i) < 14 for i in range(10)])
    assert not texts(survey(pairs_of(x + np.random.default_rng(0).normal(0, 0.2, y.shape), y)))


def test_bright_objects_and_dark_objects_in_one_set_are_not_inverted():
    rows, columns = np.mgrid[:64, :64]
    y = np.stack([np.hypot(rows - 20 - i, columns - 40 + i) < 12 for i in range(12)]).astype(np.uint8)
    sign = np.where(np.arange(12) % 4 == 0, -1, 1)[:, None, None]
    x = 128 + 60 * sign * y + np.random.default_rng(0).normal(0, 10, y.shape)
    assert not texts(survey(pairs_of(x, y)))


def test_different_channel_counts_are_an_error(tissue):
    pairs = pairs_of(*tissue)
    pairs = changed(pairs, 1, image=np.stack([pairs[1].image] * 3, axis=-1))
    found = survey(pairs)
    assert found.findings[0].level == "error"
    assert "(1: 0.png, 2.png, 3.png, 4.png, 5.png and 4 more; 3: 1.png)" in only(found, "error")


def test_pairs_that_fit_refuses_are_named_and_the_others_surveyed(tissue):
    pairs = pairs_of(*tissue)
    broken = pairs[0].image.astype(float)
    broken[3, 4] = np.nan
    pairs = changed(pairs, 0, image=broken)
    pairs = changed(pairs, 1, mask=pairs[1].mask[:50])
    pairs = changed(pairs, 2, mask=pairs[2].mask / 2)
    pairs = changed(pairs, 3, image=pairs[3].image.astype(object))
    found = survey(pairs)
    nan, size, fraction, kind = texts(found, "error")
    assert nan.startswith("0.png holds 1 NaN value, the first at row 3, column 4")
    assert size.startswith("1.png is 96 x 96 pixels, but the mask of 1.png is 50 x 96")
    assert fraction.startswith("the mask of 2.png holds fractions")
    assert kind.startswith("3.png is of dtype object")
    assert found.n_pairs == 10
    assert sum(found.sizes.values()) == 6


def test_swapped_images_and_masks_are_an_error(tissue):
    found = survey(pairs_of(tissue[1], tissue[0]))
    assert only(found, "error").startswith("0.png (2 values, its mask ")
    assert "look swapped; images come first" in only(found, "error")
    assert found.likely_classes == []


@pytest.mark.parametrize(
    ("n_values", "shape", "is_told"), [(8, (32, 32), True), (9, (32, 32), False), (8, (33, 31), False), (7, (41, 25), True)]
)
def test_eight_grey_values_of_1024_pixels_are_few(tissue, n_values, shape, is_told):
    pairs, places = pairs_of(*tissue), np.arange(shape[0] * shape[1]).reshape(shape)
    image, mask = (places * 11 % n_values * 5 + 60).astype(np.uint8), (places % 2 * 255).astype(np.uint8)
    told = texts(survey(changed(pairs, 3, image=image, mask=mask)))
    assert any(text.startswith(f"3.png ({n_values}): the image has very few grey values") for text in told) == is_told


@pytest.mark.parametrize(("n_values", "is_swapped"), [(31, False), (32, True), (33, True)])
def test_a_mask_of_four_times_an_images_values_is_taken_for_an_image(tissue, n_values, is_swapped):
    rng, pairs = np.random.default_rng(0), pairs_of(*tissue)
    image, mask = (rng.permutation(np.arange(96 * 96) % n).reshape(96, 96).astype(np.uint8) for n in (8, n_values))
    told = texts(survey(changed(pairs, 3, image=image, mask=mask)), "error")
    assert any(text.startswith(f"3.png (8 values, its mask {n_values})") for text in told) == is_swapped


def test_one_swapped_pair_is_an_error_beside_the_values_that_it_brings(tissue):
    pairs = pairs_of(*tissue)
    swapped, values = texts(survey(changed(pairs, 3, image=pairs[3].mask, mask=pairs[3].image)), "error")
    assert swapped.startswith("3.png (2 values, its mask ")
    assert values.startswith("the masks hold ")


def test_an_image_that_is_its_mask_is_an_error(tissue):
    pairs = pairs_of(*tissue)
    found = survey(changed(pairs, 4, image=pairs[4].mask))
    assert texts(found) == ["4.png: image and mask are the same; give the image itself"]
    colour = np.stack([pairs[4].mask] * 3, axis=-1)
    assert "4.png: image and mask are the same" in texts(survey(changed(pairs, 4, image=colour)), "error")[1]


def test_one_value_in_all_masks_is_an_error(tissue):
    found = survey(pairs_of(tissue[0], np.zeros_like(tissue[1])))
    assert only(found, "error").startswith("all masks hold only the value 0")
    assert found.classes is None


def test_empty_masks_are_a_warning(tissue):
    x, y = tissue[0], tissue[1].copy()
    y[2], y[4] = 0, 255
    assert only(survey(pairs_of(x, y)), "warning").startswith("2.png (0), 4.png (255): the mask holds one class only")


def as_jpeg(mask):
    """Return the mask as it comes back from a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "JPEG")
    return np.array(Image.open(file))


def test_values_that_cannot_be_classes_are_an_error_with_the_remedy(tissue):
    y = [as_jpeg(mask) for mask in tissue[1]]
    found = survey(pairs_of(tissue[0], y))
    assert found.likely_classes == [0, 255]
    assert ". classes=[0, 255] (--classes 0 255) takes each pixel for the nearest" in only(found, "error")
    repaired = survey(pairs_of(tissue[0], y), classes=[0, 255])
    assert not repaired.findings
    assert repaired.values == {0: sum((mask < 128).sum() for mask in y), 255: sum((mask >= 128).sum() for mask in y)}


def test_instance_labels_become_two_classes(tissue):
    y = np.repeat(np.repeat(np.arange(36).reshape(6, 6), 16, axis=0), 16, axis=1)
    found = survey(pairs_of(tissue[0], [y] * 10))
    assert found.likely_classes == [0, 1]
    assert "classes=[0, 1] (--classes 0 1) makes one class of all objects" in only(found, "error")
    assert "swapped" not in only(survey(pairs_of(tissue[1], [y] * 10)), "error")
    assert survey(pairs_of(tissue[0], [y] * 10), classes=[0, 1]).values == {0: 2560, 1: 96 * 960 - 2560}


def test_given_classes_that_no_mask_has_are_a_warning(tissue):
    found = survey(pairs_of(*tissue), classes=[0, 255, 999])
    assert only(found, "warning").startswith("class 999: no mask has a pixel nearest to it")
    assert found.values[999] == 0


def test_duplicates_are_a_warning_and_contradictions_another(tissue):
    x, y = tissue[0].copy(), tissue[1].copy()
    x[1], y[1] = x[0], y[0]
    x[5] = x[4]
    found = survey(pairs_of(x, y))
    contradiction, copy = texts(found, "warning")[:2]
    assert contradiction.startswith("4.png = 5.png: the same image with different masks")
    assert copy.startswith("0.png = 1.png: the same image more than once")


def test_images_that_tell_little_are_warnings(tissue):
    x = tissue[0].copy()
    x[0] = 7
    x[1] = x[1] // 64 * 64
    x[2, :20] = 255
    constant, few, saturated = texts(survey(pairs_of(x, tissue[1])), "warning")
    assert constant.startswith("0.png: the image is one value everywhere")
    assert few.startswith("1.png (4): the image has very few grey values")
    assert saturated.startswith("2.png (21%): many pixels have the image's highest value")


def test_a_rare_class_is_a_note():
    y = np.zeros((10, 96, 96), np.uint8)
    y[:, 10:15, 10:15] = 3
    x = 60 + 10 * y + np.random.default_rng(0).integers(0, 30, y.shape)
    found = survey(pairs_of(x, y))
    assert found.rare == [3]
    _, rare = texts(found, "note")
    assert rare.startswith("class 3 (0.27%): less than 1 % of the pixels")
    assert "--class-weight balanced" in rare


@pytest.mark.parametrize(("n", "start"), [(1, "there is one image only"), (2, "there are 2 images only")])
def test_few_images_are_a_note(tissue, n, start):
    assert only(survey(pairs_of(tissue[0][:n], tissue[1][:n])), "note").startswith(start)


def test_names_are_listed_up_to_five(tissue):
    text = only(survey(pairs_of(np.full_like(tissue[0], 9), tissue[1])), "warning")
    assert text.startswith("0.png, 1.png, 2.png, 3.png, 4.png and 5 more: the image is one value")


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2), (61, 97)])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint64, np.float32, np.float64])
def test_any_size_and_type_is_surveyed(size, dtype):
    rng = np.random.default_rng(0)
    images = [np.zeros(size, dtype), rng.integers(0, 2, (*size, 3)).astype(dtype), rng.integers(0, 2, (5, 7)).astype(dtype)]
    masks = [np.zeros(size, int), np.ones(size, bool), rng.integers(0, 2, (5, 7), np.uint64)]
    assert survey(pairs_of(images, masks)).n_pairs == 3


def test_extreme_values_are_surveyed(tissue):
    x = np.random.default_rng(0).choice([-1.0, 1.0], tissue[0].shape) * 1e308
    x *= np.random.default_rng(1).random(x.shape)
    assert survey(pairs_of(x, tissue[1])).findings == []


def test_no_pairs_are_no_findings():
    found = survey([])
    assert (found.n_pairs, found.findings, found.values, found.classes) == (0, [], {}, None)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_masks_drawn_on_pixels_as_they_are_stored_are_found(tissue, orientation):
    x, y = tissue
    turned = ([upright(each, orientation) for each in arrays] for arrays in (x, y))
    right = [replace(pair, orientation=orientation) for pair in pairs_of(*turned, "{}.jpg")]
    wrong = [replace(pair, mask=mask) for pair, mask in zip(right, y, strict=True)]
    assert texts(survey(right), "warning") == []
    assert only(survey(right), "note") == (
        "10 images were turned as the orientation tag (EXIF) says: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg and 5 more"
    )
    assert only(survey([*right[:8], *wrong[8:]]), "warning").startswith(
        "8.jpg, 9.jpg: the image was turned as its orientation tag says, and the mask seems drawn on its pixels as they are"
    )


def test_masks_that_fit_other_images_are_not_turned(tissue):
    x, y = tissue
    strange = [Pair(f"{i}.jpg", upright(x[i], 3), y[i - 1], None, 3) for i in range(10)]
    assert texts(survey(strange), "warning") == []


def test_pixels_of_several_sizes(tissue):
    pairs = pairs_of(*tissue)
    told = [replace(pair, pixel_size=(0.5, 0.5)) for pair in pairs]
    assert survey(told).pixel_size == 0.5 and survey(pairs).pixel_size is None
    mixed = survey([*told[:9], replace(told[9], pixel_size=(1.0, 1.0))])
    assert mixed.pixel_size is None
    assert "different sizes, 0.5 micrometres (0.png) to 1 micrometres (9.png)" in only(mixed, "warning")


def test_missing_data_and_empty_fields_are_told(tissue):
    x, y = tissue[0].astype(np.float32), tissue[1].copy()
    x[1, :10] = -9999
    x[2], y[2] = np.random.default_rng(0).normal(np.median(x[0]), 1, x[2].shape), y.flat[0]
    found = survey(pairs_of(x, y))
    assert any(text.startswith("1.png (-9999): a value far outside all others") for text in texts(found, "warning"))
    assert any(text.startswith("2.png (") and "percentiles span less" in text for text in texts(found, "note"))


def test_a_value_that_is_a_class_and_ignored_is_an_error(tissue):
    x, y = tissue
    found = survey(pairs_of(x, y), classes=[0, 255], ignore=[255])
    assert found.classes is None
    assert texts(found, "error")[0].startswith("ignore_index (--ignore) is 255, which is among classes")


def test_what_is_ignored_is_in_no_finding(tissue):
    x, y = tissue
    void = y.astype(np.int64)
    void[:, :9] = -1
    void[:, :2] = 200 + np.arange(2)[:, None]
    plain, without = survey(pairs_of(x, np.where(void < 0, y, void))), survey(pairs_of(x, void), ignore=[-1, 200, 201])
    assert len(plain.values) == 4 and list(without.values) == sorted(set(np.unique(y).tolist()))
    assert sum(without.values.values()) == y[:, 9:].size and not texts(without, "error")


def test_what_masks_contradict_each_other_in_is_told_as_fit_tells_it(tissue):
    codes = np.where(np.arange(10) % 2, 1, 255).astype(np.uint8)[:, None, None] * (tissue[1] > 0)
    found = survey(pairs_of(tissue[0], codes))
    assert found.likely_classes == [0, (255, 1)]
    assert "0.png, 2.png, 4.png and 2 more hold 0, 255; 1.png, 3.png, 5.png and 2 more hold 0, 1." in only(found, "error")
    joined = survey(pairs_of(tissue[0], codes), classes=found.likely_classes)
    assert joined.findings == [] and joined.values == survey(pairs_of(*tissue)).values
    assert "may be the same classes" in only(survey(pairs_of(tissue[0], np.where(codes == 1, np.uint8(128), codes))), "warning")


def test_values_that_may_say_nothing_are_told_of(tissue):
    y = (tissue[1] > 0).astype(np.uint8)
    y[:, :40] *= 2
    y[:, :6] = 255
    share = "6.25%"
    text = only(survey(pairs_of(tissue[0], y)), "warning")
    assert text.startswith(f"255 stands on {share} of the pixels") and "ignore_index=255 (--ignore 255)" in text
    text = only(survey(pairs_of(tissue[0], y), classes=[0, 1, 2]), "warning")
    assert text.startswith(f"255, on {share} of the pixels, is far from every class and counts as 2; ignore_index=255")
    assert not texts(survey(pairs_of(tissue[0], y), classes=[0, 1, 2, 255]), "warning")


def test_pairs_are_taken_one_by_one_and_let_go(tissue):
    class Watched(np.ndarray):
        pass

    alive, most = set(), []

    def read():
        for i, (image, mask) in enumerate(zip(*tissue, strict=True)):
            image = image.copy().view(Watched)
            alive.add(i)
            weakref.finalize(image, alive.discard, i)
            most.append(len(alive))
            yield Pair(f"{i}.png", image, mask, None)
            del image

    assert survey(read()).findings == survey(pairs_of(*tissue)).findings
    assert max(most) <= 5 and not alive  # two that are looked at, one that waits, one that is read, and one that goes
