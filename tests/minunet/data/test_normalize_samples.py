"""Which pixels set the scale of an image: all up to the limit, beyond it every k-th, of those that count."""

from __future__ import annotations

import numpy as np
import pytest

from minunet.data import normalize
from minunet.data.normalize import Normalizer, View
from minunet.data.sliced import OnDisk


def comb(height, width):
    """An image whose k-th pixels span a range of their own for each k up to 6: a sample of other places has another range."""
    place = np.arange(height * width)
    factor = 1 + (place % 2 > 0) + 3 * (place % 3 > 0) + 9 * (place % 5 > 0)
    return (1000 + factor * (place * 37 % 101 - 50)).reshape(height, width, 1)


def ends(values):
    return np.percentile(values, [1, 99], method="nearest").tolist()


# The limit is 400 pixels here. The step divides no width: 4 for 3, where an image is 801 = 3 x 267 pixels wide.
STEPS = [((19, 21), 1), ((20, 20), 1), ((1, 401), 2), ((32, 25), 2), ((1, 801), 4), ((9, 89), 3), ((20, 40), 3)]


@pytest.mark.parametrize(("shape", "step"), STEPS)
@pytest.mark.parametrize("lies_on_disk", [False, True])
def test_up_to_the_limit_all_pixels_set_the_scale_and_beyond_every_kth(monkeypatch, shape, step, lies_on_disk):
    monkeypatch.setattr(normalize, "MAX_SAMPLES", 400)
    image = comb(*shape)
    expected = ends(image.ravel()[::step])
    assert all(ends(image.ravel()[::other]) != expected for other in (1, 2, 3, 4) if other != step)
    found = Normalizer().measure(View(OnDisk(image, None, has_channels=True, name="x") if lies_on_disk else image))
    assert [found.low[0], found.high[0]] == expected


@pytest.mark.parametrize(("shape", "step"), [((1023, 1025), 1), ((1024, 1024), 1), ((17, 61681), 2)])
def test_the_limit_is_a_million_pixels(shape, step):
    """2^20 - 1, 2^20 and 2^20 + 1 of them."""
    image = comb(*shape)
    found = Normalizer().measure(View(image))
    assert [found.low[0], found.high[0]] == ends(image.ravel()[::step]) != ends(image.ravel()[:: 3 - step])


@pytest.mark.parametrize(
    ("shapes", "step"), [([(9, 11), (7, 43)], 1), ([(9, 11), (7, 43), (1, 1)], 2), ([(20, 20), (19, 22)], 3)]
)
def test_in_a_dataset_the_limit_is_that_of_all_images_together(monkeypatch, shapes, step):
    monkeypatch.setattr(normalize, "MAX_SAMPLES", 400)
    images = [comb(*shape) + 40 * i for i, shape in enumerate(shapes)]
    assert sum(image.size for image in images) == {1: 400, 2: 401, 3: 818}[step]
    fitted = Normalizer("dataset").fit(images)
    pooled = np.concatenate([image.ravel()[::step] for image in images])
    assert [fitted.low[0], fitted.high[0]] == ends(pooled)


def test_of_every_kth_pixel_those_that_count_set_the_scale_and_their_classes_the_medians(monkeypatch):
    monkeypatch.setattr(normalize, "MAX_SAMPLES", 400)
    image, place = comb(1, 601), np.arange(601)
    hidden, label = (place % 7 == 0)[None], (place % 11 == 4)[None].astype(int)
    seen = (place % 2 == 0) & (place % 7 > 0)
    image[0, label[0] > 0] += 5000  # a rare class: its median is beyond the percentiles
    image = np.where((place % 11 == 4)[None, :, None], image, np.minimum(image, 1400))
    found = Normalizer().measure(View(image, hidden, None, label))
    assert [found.low[0], found.high[0]] == ends(image[0, seen, 0])
    counted = ~hidden & (place < 40)[None]
    few = Normalizer().measure(View(image, hidden, counted, label))
    assert [few.low[0], few.high[0]] == ends(image[0, seen & (place < 40), 0])
    medians = [np.median(image[0, seen & (place < 40) & (label[0] == k), 0]) for k in (0, 1)]
    assert few.most[0] == max(ends(image[0, seen & (place < 40), 0])[1], *medians) and few.n_classes == 2


def test_where_no_kth_pixel_counts_every_kth_of_those_that_do_is_taken(monkeypatch):
    monkeypatch.setattr(normalize, "MAX_SAMPLES", 400)
    image, odd = comb(1, 601), (np.arange(601) % 2 > 0)[None]
    found = Normalizer().measure(View(image, None, odd))
    assert [found.low[0], found.high[0]] == ends(image[0, 1::4, 0]) != ends(image[0, ::2, 0])


@pytest.mark.parametrize("n_channels", [1, 2])
def test_each_channel_is_sampled_at_the_same_places(monkeypatch, n_channels):
    monkeypatch.setattr(normalize, "MAX_SAMPLES", 400)
    image = np.concatenate([comb(1, 401), 3 * comb(1, 401) + 7], axis=2)[..., :n_channels]
    found = Normalizer().measure(View(image))
    for c in range(n_channels):
        assert [found.low[c], found.high[c]] == ends(image[0, ::2, c])


def test_a_pixels_class_is_that_of_its_own_place(monkeypatch):
    """Two bright pixels of 301 are beyond the 99th percentile; their median is the upper end all the same."""
    monkeypatch.setattr(normalize, "MAX_SAMPLES", 400)
    image, label = comb(1, 601), np.zeros((1, 601), int)
    image[0, 300:303:2], label[0, 300:303:2] = 5000, 1
    found = Normalizer().measure(View(image, None, None, label))
    assert found.most[0] == 5000 > found.high[0] and found.n_classes == 2
    image[0, 300:303:2], label[0, 300:303:2] = -5000, 1
    assert Normalizer().measure(View(image, None, None, label)).least[0] == -5000
