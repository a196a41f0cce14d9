"""Mask values learned, refused, snapped, weighted."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from minunet.data import labels
from minunet.data.codes import codes_of


def learn_classes(masks, classes=None):
    return labels.classes_of([codes_of(mask, name=f"y[{i}]") for i, mask in enumerate(masks)], classes)


def blobs(seed=0, size=96, value=255):
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size]
    r, c = rng.uniform(0.3, 0.7, 2) * size
    return np.where((rows - r) ** 2 + (cols - c) ** 2 < (0.25 * size) ** 2, value, 0).astype(np.uint8)


@given(values=st.sets(st.integers(-(2**40), 2**40), min_size=2, max_size=20), seed=st.integers(0, 99))
def test_values_that_are_all_frequent_are_classes_and_come_back(values, seed):
    values = np.array(sorted(values))
    mask = np.random.default_rng(seed).permutation(np.repeat(values, 50))[None]
    classes = learn_classes([mask])
    np.testing.assert_array_equal(classes, values)
    np.testing.assert_array_equal(labels.decode(labels.encode(mask, classes), classes), mask)


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_masks_from_jpeg_are_refused_with_the_remedy_and_snapped_by_it(quality):
    mask = blobs()
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "JPEG", quality=quality)
    damaged = np.asarray(Image.open(file))
    with pytest.raises(ValueError, match=r"JPEG.*classes=\[0, 255\]"):
        learn_classes([damaged])
    classes = learn_classes([damaged], classes=[0, 255])
    np.testing.assert_array_equal(labels.decode(labels.encode(damaged, classes), classes), mask)


def test_masks_resized_with_interpolation_are_refused():
    resized = np.asarray(Image.fromarray(blobs()).resize((70, 70), Image.Resampling.BILINEAR))
    with pytest.raises(ValueError, match="interpolation"):
        learn_classes([resized])


def test_instance_labels_are_refused_with_a_histogram():
    with pytest.raises(ValueError, match=r"30 different values \(0: .*%.*and 22 more\).*instance labels"):
        learn_classes([np.arange(30).repeat(40).reshape(30, 40)])


@pytest.mark.parametrize("values", [[0, 1, 2], [0, 128, 255], [1, 2, 255], list(range(10)), [0, 7, 8, 9, 50]])
def test_a_rare_class_is_honest(values):
    mask = np.full(100_000, values[0])
    mask[50_000:] = values[-1]
    for i, value in enumerate(values[1:-1]):
        mask[i * 300 : i * 300 + (30 if i == 0 else 200)] = value
    assert learn_classes([mask[None]]).tolist() == values


def test_one_class_only():
    with pytest.raises(ValueError, match="only the value 3: one class"):
        learn_classes([np.full((4, 4), 3)])


@pytest.mark.parametrize("classes", [[1], [], [0.5, 1.5], [2, 2]])
def test_classes_that_cannot_be_meant(classes):
    with pytest.raises(ValueError, match="classes is"):
        learn_classes([np.zeros((2, 2), int)], classes=classes)


def test_bool_masks_stay_bool():
    classes = learn_classes([np.array([[True, False]])])
    assert labels.decode(labels.encode(np.array([[True, False]]), classes), classes).tolist() == [[True, False]]


def test_the_dtype_of_the_masks_is_kept():
    assert learn_classes([np.array([[0, 60000]], np.uint16)]).dtype == np.uint16


def test_balanced_weights_are_those_of_scikit_learn():
    frequencies = labels.class_frequencies([np.array([[0, 0, 0, 1]])], 2)
    np.testing.assert_allclose(frequencies, [0.75, 0.25])
    weights = labels.resolve_class_weight("balanced", np.array([0, 255]), frequencies)
    np.testing.assert_allclose(weights, [4 / (2 * 3), 4 / (2 * 1)])


def test_weights_by_value_and_by_order():
    classes, half = np.array([0, 255]), np.array([0.5, 0.5])
    assert labels.resolve_class_weight({255: 3, 0: 1}, classes, half).tolist() == [1, 3]
    assert labels.resolve_class_weight([1, 3], classes, half).tolist() == [1, 3]
    assert labels.resolve_class_weight(None, classes, half) is None


@pytest.mark.parametrize("weight", [{0: 1, 1: 5}, {False: 1, True: 5}, {np.bool_(True): 5, np.int8(0): 1}, [1, 5]], ids=repr)
@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_masks_of_one_bit_are_weighed_as_0_and_1(weight, dtype):
    assert labels.resolve_class_weight(weight, np.array([0, 1], dtype), np.array([0.5, 0.5])).tolist() == [1, 5]
    with pytest.raises(ValueError, match=r"masks hold \[0, 1\].*\{0: 1, 1: 1\} \(--class-weight 0=1,1=1\)"):
        labels.resolve_class_weight({0: 1, 255: 5}, np.array([0, 1], dtype), np.array([0.5, 0.5]))


def tissue(seed, size=64, scale=5.0):
    """Smooth random regions of 0 and 255."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((size, size)), scale)
    return np.where(noise > np.quantile(noise, 0.6), 255, 0).astype(np.uint8)


@given(seed=st.integers(0, 10**6), scale=st.floats(2, 8), quality=st.integers(50, 98))
def test_any_mask_from_jpeg_is_refused(seed, scale, quality):
    file = io.BytesIO()
    mask = tissue(seed, scale=scale)
    Image.fromarray(mask).save(file, "JPEG", quality=quality)
    damaged = np.asarray(Image.open(file))
    with pytest.raises(ValueError, match="JPEG"):
        learn_classes([damaged])
    classes = learn_classes([damaged], classes=[0, 255])
    assert (labels.decode(labels.encode(damaged, classes), classes) == mask).mean() > 0.99


FILTERS = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS]


@given(
    seed=st.integers(0, 10**6), scale=st.floats(2, 8), resampling=st.sampled_from(FILTERS),
    size=st.integers(32, 160).filter(lambda size: size != 64),
)  # fmt: skip
def test_any_mask_resized_with_interpolation_is_refused(seed, scale, resampling, size):
    image = Image.fromarray(tissue(seed, scale=scale))
    with pytest.raises(ValueError, match=r"interpolation.*classes=\[0, (\d+, )*255\]"):
        learn_classes([np.asarray(image.resize((size, size), resampling))])
    nearest = np.asarray(image.resize((size, size), Image.Resampling.NEAREST))
    assert learn_classes([nearest]).tolist() == [0, 255]


HONEST = [
    [0, 1, 2], [0, 128, 255], [1, 2, 255], list(range(10)), [0, 50, 100, 150, 200, 250], [-7, 0, 90, 4000], [0, 1, 2, 3, 255],
]  # fmt: skip


@given(values=st.sampled_from(HONEST), seed=st.integers(0, 10**6), radius=st.integers(2, 6))
def test_rare_regions_are_honest_whatever_their_codes(values, seed, radius):
    mask = np.where(tissue(seed, 128) > 0, values[-1], values[0])
    for i, value in enumerate(values[1:-1]):  # one disc each: 0.08 % of the pixels and up
        rows, cols = np.ogrid[:128, :128]
        mask[(rows - 8 - 14 * (i % 9)) ** 2 + (cols - 20) ** 2 <= radius**2] = value
    assert learn_classes([mask]).tolist() == values


@pytest.mark.parametrize("values", [[0, 128, 255], [0, 1, 2], [0, 1, 2, 255]])
def test_thin_classes_are_honest(values):
    mask = tissue(0)
    inner = ndimage.binary_erosion(mask > 0)
    lines = np.where((mask > 0) & ~inner, values[1], np.where(inner, values[-1], values[0]))
    if len(values) == 4:
        lines[0, ::7] = values[2]  # single points
    assert learn_classes([lines]).tolist() == values


@pytest.mark.parametrize("mask", [[[0, 1]], [[False, True]], [[7]]])
def test_given_classes_that_all_pixels_miss_but_one_are_refused(mask):
    with pytest.raises(ValueError, match=r"classes is \[0, 255\], but all masks hold .* nearest to 0: one class"):
        learn_classes([np.array(mask)], classes=[0, 255])


@given(
    st.lists(st.integers(-1000, 1000), min_size=2, max_size=6, unique=True),
    st.lists(st.integers(-1200, 1200), min_size=1, max_size=20),
)
def test_pixels_snap_to_the_nearest_class(classes, pixels):
    classes = sorted(classes)
    found = labels.encode(np.array([pixels]), np.array(classes))
    assert found.dtype == np.int32
    assert found[0].tolist() == [int(np.argmin([abs(p - c) for c in classes])) for p in pixels]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([2**60, 2**60 + 1], "int64"), ([0, 2**63, 2**64 - 1], "uint64"), ([-(2**63), 2**63 - 1], "int64")],
)
def test_values_beyond_doubles_stay_apart(values, dtype):
    mask = np.array([values * 3], dtype)
    classes = learn_classes([mask])
    assert classes.tolist() == values
    np.testing.assert_array_equal(labels.decode(labels.encode(mask, classes), classes), mask)


def test_masks_of_several_dtypes_share_one():
    signed, unsigned = np.array([[0, 1]], np.int64), np.array([[1, 2]], np.uint64)
    assert learn_classes([signed, unsigned]).dtype == np.int64
    assert learn_classes([signed == 1, unsigned.astype(np.uint8)]).dtype == np.uint8


def test_frequencies_are_pooled_over_images_of_different_sizes():
    found = labels.class_frequencies([np.zeros((1, 3), np.int32), np.full((1, 1), 2, np.int32)], 3)
    np.testing.assert_allclose(found, [0.75, 0, 0.25])


@pytest.mark.parametrize(
    ("weight", "says"),
    [
        ("uniform", "'uniform'; it takes None, 'balanced'"),
        ({0: 1.0}, r"is for \[0\]; the masks hold \[0, 255\]"),
        ({0: 1.0, "255": 1.0}, "one weight for each"),
        ({0: 1.0, 255: -1.0}, "weight >= 0"),
        ({0: 1.0, 255: float("nan")}, "weight >= 0"),
        ([1.0], r"the masks hold \[0, 255\]: one weight for each"),
        ([0.0, 0.0], "weight >= 0"),
        ([1.0, "b"], "weight >= 0"),
        (2.0, "weight >= 0"),
    ],
)
def test_class_weights_that_cannot_be_meant(weight, says):
    with pytest.raises(ValueError, match=says):
        labels.resolve_class_weight(weight, np.array([0, 255]), np.array([0.5, 0.5]))
