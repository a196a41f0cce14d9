"""The eight symmetries of a square."""

from __future__ import annotations

import numpy as np

from minunet.data import augment


def test_they_are_the_eight_isometries_of_the_square():
    square = np.arange(9).reshape(3, 3)
    seen = {augment.apply(square, k).tobytes() for k in range(augment.N_SYMMETRIES)}
    transposed = (square, square.T)  # the group, written another way: transposition and the two flips
    expected = {s[::i, ::j].tobytes() for s in transposed for i in (1, -1) for j in (1, -1)}
    assert seen == expected and len(seen) == 8
    np.testing.assert_array_equal(augment.apply(square, 0), square)


def test_an_image_and_its_labels_move_alike_and_nothing_is_written():
    image = np.random.default_rng(0).random((6, 6, 2))
    label = image[..., 1].copy()
    image.flags.writeable = label.flags.writeable = False
    for k in range(augment.N_SYMMETRIES):
        np.testing.assert_array_equal(augment.apply(image, k)[..., 1], augment.apply(label, k))
