"""What fit and predict take: every form, checked, and refused with one sentence where it cannot be meant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet.data.inputs import read_images, read_masks, read_weights

# (shape of x, shape of y, form, shape of each image)
FORMS = [
    ((8, 6), (8, 6), "HW", (8, 6, 1)),
    ((8, 6), (8, 6, 1), "HW", (8, 6, 1)),
    ((8, 6, 3), (8, 6), "HWC", (8, 6, 3)),
    ((8, 6, 3), (8, 6, 1), "HWC", (8, 6, 3)),
    ((40, 40, 3), (40, 40), "HWC", (40, 40, 3)),
    ((4, 8, 6), (4, 8, 6), "NHW", (8, 6, 1)),
    ((4, 8, 6), (4, 8, 6, 1), "NHW", (8, 6, 1)),
    ((4, 8, 6, 2), (4, 8, 6), "NHWC", (8, 6, 2)),
    ((1, 1, 1), (1, 1, 1), "NHW", (1, 1, 1)),
]


@pytest.mark.parametrize(("x_shape", "y_shape", "form", "image_shape"), FORMS)
def test_masks_decide_the_form(x_shape, y_shape, form, image_shape):
    x, y = np.random.default_rng(0).random(x_shape), np.zeros(y_shape, np.uint8)
    images = read_images(x, y)
    assert images.form == form and images.channel_axis == form.endswith("C") and images.n_channels == image_shape[2]
    assert {image.shape for image in images.arrays} == {image_shape}
    assert {mask.shape for mask in read_masks(y, images)} == {image_shape[:2]}
    np.testing.assert_array_equal(np.stack(images.arrays).ravel(), x.ravel())
    assert all(np.shares_memory(image, x) for image in images.arrays)


@pytest.mark.parametrize(("x_shape", "y_shape", "form", "image_shape"), FORMS)
def test_results_go_back_in_the_form_in_which_x_came(x_shape, y_shape, form, image_shape):
    x = np.random.default_rng(0).random(x_shape)
    images = read_images(x, np.zeros(y_shape))
    np.testing.assert_array_equal(np.ravel(images.restore([a[..., 0] for a in images.arrays])), x.ravel()[:: image_shape[2]])
    per_class = images.restore([np.zeros((*a.shape[:2], 5)) for a in images.arrays])
    leading = x_shape[:1] if form.startswith("N") else ()
    assert per_class.shape == (*leading, *image_shape[:2], 5)


def test_without_masks_the_fitted_model_tells_stacks_from_channels():
    x = np.zeros((7, 8, 3))
    assert read_images(x, channel_axis=False).form == "NHW"
    assert read_images(x, channel_axis=True, n_channels=3).form == "HWC"
    assert read_images(x[0], channel_axis=True).form == "HW"


def test_a_list_keeps_sizes_and_order():
    x = [np.full((h, w), i) for i, (h, w) in enumerate([(1, 1), (37, 5), (4, 96)])]
    images = read_images(x)
    assert images.form == "list" and not images.channel_axis
    assert [a.shape for a in images.arrays] == [(1, 1, 1), (37, 5, 1), (4, 96, 1)]
    assert [r.shape for r in images.restore([a[..., 0] for a in images.arrays])] == [a.shape for a in x]
    assert read_images(tuple(a[..., None] for a in x)).channel_axis


def test_an_array_of_arrays_gives_one_back_whether_its_images_are_alike_or_not():
    for sizes in ([(4, 5), (4, 5)], [(4, 5), (4, 6)], [(4, 5)]):
        given = np.empty(len(sizes), object)
        for i, size in enumerate(sizes):
            given[i] = np.full(size, i)
        images = read_images(given)
        found = images.restore([a[..., 0] for a in images.arrays])
        assert found.dtype == object and found.shape == given.shape
        for a, b in zip(found, given, strict=True):
            np.testing.assert_array_equal(a, b)
        assert isinstance(read_images(list(given)).restore(list(given)), list)


NUMBERS = ["bool", "int8", "uint8", "int16", "uint16", "int64", "uint64", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", NUMBERS)
def test_any_number_type_is_taken_as_it_is(dtype):
    x = np.ones((2, 4, 4), dtype)
    x.flags.writeable = False
    assert all(image.dtype == dtype and not image.flags.writeable for image in read_images(x).arrays)


@given(st.integers(0, 2), st.integers(0, 5), st.integers(0, 6), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_the_first_pixel_that_is_not_finite_is_named(image, row, column, bad):
    x = np.zeros((3, 6, 7))
    x[image, row, column] = bad
    what = "NaN" if np.isnan(bad) else "infinite"
    with pytest.raises(ValueError, match=rf"^x\[{image}\] holds 1 {what} value, the first at row {row}, column {column};"):
        read_images(x)


def test_non_finite_pixels_are_counted():
    x = np.zeros((6, 7))
    x[2, 3:] = [np.nan, np.nan, np.inf, 0]
    with pytest.raises(ValueError, match=r"^x holds 3 NaN or infinite values, the first at row 2, column 3"):
        read_images(x)


@pytest.mark.parametrize(
    ("x", "says"),
    [
        ([], "x holds no images"),
        (np.zeros((0, 4, 4)), "x holds no images"),
        (np.zeros((0, 4)), "x has shape .0, 4.: no pixels"),
        (np.zeros((3, 4, 0)), r"x\[0\] has shape .4, 0.: no pixels"),
        ([np.zeros((4, 4)), np.zeros((0, 4))], r"x\[1\] has shape .0, 4.: no pixels"),
        (np.zeros(4), r"x has 1 axes, shape .4,.; it takes H x W, H x W x C"),
        (np.zeros((2, 2, 4, 4, 3)), "x has 5 axes"),
        (np.zeros((2, 4, 4), object), "dtype object.*go in a list"),
        (np.array([["a", "b"]]), "dtype <U1; it takes numbers"),
        (np.zeros((2, 4, 4), complex), "dtype complex128"),
        ([np.zeros((4, 4)), np.zeros((4, 4, 3))], r"x\[1\] has shape .4, 4, 3.*alike for all"),
        ([np.zeros((4, 4, 1)), np.zeros((4, 4, 1)), np.zeros((4, 4, 3))], r"x\[2\] has 3 channels, but x\[0\] has 1"),
    ],
)
def test_images_that_cannot_be_used_are_refused(x, says):
    with pytest.raises(ValueError, match=says):
        read_images(x)


def test_a_fitted_model_refuses_other_channels():
    with pytest.raises(ValueError, match=r"x has 3 channels; this model was fitted on 1"):
        read_images(np.zeros((8, 8, 3)), channel_axis=True, n_channels=1)
    with pytest.raises(ValueError, match=r"x has 1 channel; this model was fitted on 3"):
        read_images(np.zeros((8, 8)), channel_axis=True, n_channels=3)
    with pytest.raises(ValueError, match=r"x\[0\] has 8 channels \(channels come last: H x W x C\)"):
        read_images(np.zeros((2, 3, 9, 8)), channel_axis=True, n_channels=3)


@pytest.mark.parametrize(
    ("y_shape", "says"), [(None, "takes images without a channel axis"), ((64, 48, 3), "its mask y is H x W")]
)
def test_one_colour_image_is_not_taken_for_a_stack_of_narrow_ones(y_shape, says):
    x = np.zeros((64, 48, 3))
    with pytest.raises(ValueError, match=rf"64 images of 48 x 3 pixels.*one image of 3 channels, .*{says}.*list\(x\)"):
        read_images(x, None if y_shape is None else np.zeros(y_shape), channel_axis=False)
    assert len(read_images(list(x), None if y_shape is None else list(np.zeros(y_shape))).arrays) == 64


def in_colours(shape):
    """Return a mask in red and black."""
    return np.stack([255 * np.random.default_rng(0).integers(0, 2, shape), *np.zeros((2, *shape))], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (np.zeros((20, 8, 8)), np.zeros((19, 8, 8)), "20 images but y 19 masks"),
        ([np.zeros((8, 8))] * 2, [np.zeros((8, 8))] * 3, "2 images but y 3 masks"),
        ([np.zeros((6, 9))] * 2, [np.zeros((6, 9)), np.zeros((9, 6))],
         r"x\[1\] is 6 x 9 pixels, but y\[1\] is 9 x 6 \(turned by 90 degrees\?\)"),
        (np.zeros((8, 9)), np.zeros((8, 7)), r"^x is 8 x 9 pixels, but y is 8 x 7; a mask has its image's size"),
        (np.zeros((2, 3, 40, 40)), np.zeros((2, 40, 40)), r"channels come last: np.moveaxis\(x, 1, -1\)"),
        (np.zeros((8, 8)), in_colours((8, 8)), r"y has shape \(8, 8, 3\): 3 on its last axis.*convert colours to one channel"),
        (np.zeros((2, 8, 8, 3)), in_colours((2, 8, 8)), r"y\[0\].*convert colours to one channel"),
        (np.zeros((8, 8)), np.full((8, 8), 0.5), "y holds fractions"),
        (np.zeros((8, 8)), np.full((8, 8), np.nan), "y holds NaN or infinite values.*sample_weight of 0"),
        (np.zeros((8, 8)), np.full((8, 8), "cell"), "y is of dtype <U4"),
        (np.zeros((2, 8, 8)), 3, "2 images but y 1 masks"),
    ],
)  # fmt: skip
def test_masks_that_do_not_fit_are_refused(x, y, says):
    images = read_images(x, y)
    with pytest.raises(ValueError, match=says):
        read_masks(y, images)


def test_a_grey_mask_that_was_saved_in_colours_is_taken_in_its_images_size_alone():
    grey = np.random.default_rng(0).integers(0, 3, (8, 9))
    colours = np.repeat(grey[..., None], 3, axis=-1)
    (mask,) = read_masks(colours, read_images(np.zeros((8, 9)), colours))
    np.testing.assert_array_equal(mask, grey)
    for other in (colours[:6], colours[:, :7]):
        with pytest.raises(ValueError, match=rf"y\[0\] has shape \({other.shape[0]}, {other.shape[1]}, 3\)"):
            read_masks([other], read_images([np.zeros((8, 9))], [other]))


@pytest.mark.parametrize(
    ("mask", "probable"), [([0.0, 0.5, 1.0], True), ([0.5], True), ([0.5, 1.1], False), ([-0.1, 0.5], False), ([0.0, 1.5], False)]
)
def test_fractions_from_0_to_1_may_be_probabilities_and_others_are_resized_masks(mask, probable):
    y = np.array([mask])
    with pytest.raises(ValueError, match="y holds fractions") as told:
        read_masks(y, read_images(np.zeros(y.shape), y))
    assert ("> 0.5 makes two classes of probabilities" in str(told.value)) is probable
    assert ("np.rint(y)" in str(told.value)) is not probable


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint64", "float16", "float32", "float64"])
def test_masks_come_back_as_whole_numbers(dtype):
    y = np.random.default_rng(0).integers(0, 2, (2, 5, 6)).astype(dtype)
    y.flags.writeable = False
    masks = read_masks(y, read_images(np.zeros((2, 5, 6)), y))
    assert all(mask.dtype.kind in "bui" for mask in masks)
    np.testing.assert_array_equal(np.stack(masks), y)


def test_weights_are_read_for_each_pixel():
    images = read_images(np.zeros((2, 4, 5)))
    assert read_weights(None, images) == [None, None]
    given_weights = np.random.default_rng(0).random((2, 4, 5))
    for weight, expected in zip(read_weights(given_weights, images), given_weights, strict=True):
        assert weight.dtype == np.float32
        np.testing.assert_allclose(weight, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (np.zeros((2, 4, 5)), "zero everywhere"),
        (np.full((2, 4, 5), -1.0), r"sample_weight\[0\] holds negative"),
        (np.stack([np.ones((4, 5)), np.full((4, 5), np.nan)]), r"sample_weight\[1\] holds negative or non-finite"),
        (np.full((2, 4, 5), 1e300), "non-finite"),
        (np.ones((2, 5, 4)), r"sample_weight\[0\] has shape .5, 4.*.4, 5."),
        (np.ones((3, 4, 5)), "2 images but sample_weight has 3"),
        (1.0, "2 images but sample_weight has 1"),
        (np.zeros(2), "^sample_weight is zero everywhere"),
        ([1, -1], "^sample_weight holds negative or non-finite values; it takes numbers from 0 up"),
        (np.array([1, np.nan]), "^sample_weight holds negative or non-finite"),
        (np.ones(3), "^2 images but sample_weight has 3 numbers; it takes one for each image, or an array for each, of a weight"),
        ([1.0], "^2 images but sample_weight has 1 numbers"),
        (np.ones(0), "^2 images but sample_weight has 0 numbers"),
        ([1, np.ones((4, 5))], r"^sample_weight\[0\] has shape \(\); .*np.full\(mask.shape, weight\)"),
        (np.full((2, 4, 5), "a"), "dtype"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(weights, says):
    with pytest.raises(ValueError, match=says):
        read_weights(weights, read_images(np.zeros((2, 4, 5))))


@pytest.mark.parametrize("given_weights", [[2, 0.5], np.array([2, 0.5]), np.float32([2, 0.5]), (np.float64(2), 0.5)])
def test_one_number_an_image_is_the_weight_of_all_its_pixels(given_weights):
    for x in (np.zeros((2, 4, 5)), np.zeros((2, 4, 5, 3)), [np.zeros((4, 5)), np.zeros((2, 2))], np.zeros((2, 2, 2))):
        images = read_images(x)
        for weight, image, expected in zip(read_weights(given_weights, images), images.arrays, (2, 0.5), strict=True):
            assert weight.dtype == np.float32
            np.testing.assert_array_equal(weight, np.full(image.shape[:2], expected))


def test_of_one_image_a_row_of_numbers_is_no_weight_for_each_pixel():
    """Of an image as high as there are numbers, too: an image alone has one number, or a weight a pixel."""
    image = read_images(np.zeros((4, 5)))
    np.testing.assert_array_equal(read_weights([3], image)[0], np.full((4, 5), 3))
    with pytest.raises(ValueError, match=r"^1 image but sample_weight has 4 numbers; .* for each pixel, \(4, 5\)$"):
        read_weights(np.ones(4), image)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="a long double is a double here")
def test_long_doubles_are_taken_as_doubles_and_refused_beyond_them():
    x = np.array([[1, 2], [3, 4]], np.longdouble)
    (image,) = read_images([x]).arrays
    assert image.dtype == np.float64
    np.testing.assert_array_equal(image[..., 0], [[1, 2], [3, 4]])
    with pytest.raises(ValueError, match=r"x\[0\] holds numbers beyond 1.8e\+308; it takes what a double can hold"):
        read_images([x * np.longdouble("1e400")])


BROKEN = [None, "a.png", np.full((4, 4), None), np.zeros(4), np.zeros((1, 4, 4, 1)), np.full((4, 4), np.nan), {"a": 1}, 3.0]


@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_a_broken_member_of_a_list_is_named(broken, place):
    x, y = ([np.arange(16).reshape(4, 4) % 2] * 4 for _ in range(2))
    for given_, name in ((x, "x"), (y, "y")):
        good, given_[place] = given_[place], broken
        with pytest.raises(ValueError, match=rf"^{name}\[{place}\] (is|has|holds) "):
            read_masks(y, read_images(x, y))
        given_[place] = good
    assert len(read_masks(y, read_images(x, y))) == 4
