"""A prediction laid over its image: every pixel's colour."""

from __future__ import annotations

import numpy as np
import pytest

from minunet.cli.overlay import STRENGTH, TINTS, overlay

DARK, BRIGHT = 10.0, 90.0  # of which half of all pixels are each: the 1st and the 99th percentile
IMAGE = np.where(np.add.outer(np.arange(8), np.arange(10)) % 2, BRIGHT, DARK)
GREY = np.repeat(np.where(IMAGE == BRIGHT, 255.0, 0.0)[..., None], 3, axis=-1)


def on_edge(labels, value):
    """Return the pixels of a class beside another; the image's own border is none."""
    around = np.pad(labels, 1, mode="edge")
    beside = [around[1:-1, 2:], around[1:-1, :-2], around[2:, 1:-1], around[:-2, 1:-1]]
    return (labels == value) & np.any([other != value for other in beside], axis=0)


def expected(base, labels, tinted):
    """Return the picture where classes of these tints lie over a base."""
    picture = base.copy()
    for value, tint in tinted.items():
        inside = labels == value
        picture[inside] = (1 - STRENGTH) * base[inside] + STRENGTH * np.array(tint)
        picture[on_edge(labels, value)] = tint
    return picture.astype(np.uint8)


def labelled(*blocks):
    labels = np.zeros(IMAGE.shape, int)
    for value, where in blocks:
        labels[where] = value
    return labels


BLOCKS = labelled((5, np.s_[1:5, 0:4]), (9, np.s_[4:8, 5:9]))


@pytest.mark.parametrize("scale", [1.0, -1.0, 1e-3])
def test_all_but_the_most_frequent_class_is_tinted_and_outlined(scale):
    base = GREY if scale > 0 else 255 - GREY
    shown = np.asarray(overlay(scale * IMAGE, BLOCKS, np.array([0, 5, 9])))
    np.testing.assert_array_equal(shown, expected(base, BLOCKS, {5: TINTS[1], 9: TINTS[2]}))
    assert tuple(shown[2, 0]) != TINTS[1] and tuple(shown[1, 0]) == TINTS[1], "no outline along the image's own border"


def test_the_ground_is_what_there_is_most_of_and_a_class_keeps_its_colour():
    most = np.where(BLOCKS == 0, 9, np.where(BLOCKS == 9, 0, BLOCKS))
    shown = np.asarray(overlay(IMAGE, most, np.array([0, 5, 9])))
    np.testing.assert_array_equal(shown, expected(GREY, most, {0: TINTS[0], 5: TINTS[1]}))
    np.testing.assert_array_equal(np.asarray(overlay(IMAGE, np.zeros_like(most), np.array([0, 5, 9]))), GREY.astype(np.uint8))


def test_an_eighth_class_has_the_colour_of_the_first():
    classes = np.arange(9)
    labels = labelled((7, np.s_[0:2, 0:3]), (8, np.s_[4:6, 0:3]))
    np.testing.assert_array_equal(
        np.asarray(overlay(IMAGE, labels, classes)), expected(GREY, labels, {7: TINTS[0], 8: TINTS[1]})
    )
    assert len(TINTS) == len(set(TINTS)) == 7


def test_three_channels_are_colours_and_of_others_the_first_is_shown():
    colours = np.stack([IMAGE, IMAGE[::-1], IMAGE], axis=-1)
    base = np.stack([GREY[..., 0], GREY[::-1, :, 0], GREY[..., 0]], axis=-1)
    classes = np.array([0, 5, 9])
    tinted = {5: TINTS[1], 9: TINTS[2]}
    np.testing.assert_array_equal(np.asarray(overlay(colours, BLOCKS, classes)), expected(base, BLOCKS, tinted))
    two = np.stack([IMAGE, IMAGE[::-1]], axis=-1)
    np.testing.assert_array_equal(np.asarray(overlay(two, BLOCKS, classes)), expected(GREY, BLOCKS, tinted))


def test_what_is_masked_has_no_say_in_the_brightness():
    image, labels = IMAGE.copy(), np.zeros(IMAGE.shape, int)
    image[0] = 1e6
    shown = np.asarray(overlay(np.ma.array(image, mask=image == 1e6), labels, np.array([0, 5])))
    np.testing.assert_array_equal(shown[1:], GREY[1:].astype(np.uint8))
