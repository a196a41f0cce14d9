"""The synthetic tissue: deterministic, and hard for a threshold."""

import numpy as np
import pytest

from minunet.datasets import cells
from minunet.evaluation.baseline import BlurThreshold
from minunet.evaluation.metrics import pixel_error


def test_images_and_masks_have_their_form_and_depend_on_their_number_alone():
    x, y = cells(3, 64, 5)
    assert x.shape == y.shape == (3, 64, 64)
    assert x.dtype == y.dtype == np.uint8
    assert np.unique(y).tolist() == [0, 255]
    np.testing.assert_array_equal(cells(2, 64, 5)[0], x[:2])
    assert (cells(3, 64, 6)[0] != x).any()


def test_the_images_are_those_that_all_figures_are_quoted_of():
    """Within a grey level or two, and a pixel of the mask in a hundred: another machine's exp rounds otherwise."""
    x, y = cells(2, 96)
    shown = [[[163, 174, 129], [179, 191, 162], [153, 168, 195]], [[97, 175, 166], [179, 174, 152], [47, 164, 132]]]
    assert np.abs(x[:, ::32, ::32].astype(int) - shown).max() <= 2
    assert x.mean(axis=(1, 2)) == pytest.approx([167.69, 147.99], abs=0.5)
    assert (y == 0).sum(axis=(1, 2)) == pytest.approx([2376, 1849], rel=0.01)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_tuned_blur_and_threshold_scores_between_8_and_25_percent(seed):
    x, y = cells(12, 256, seed)
    error = pixel_error(y[8:], BlurThreshold().fit(x[:8], y[:8]).predict(x[8:]))
    assert 0.08 < error < 0.25
    assert 0.1 < (y == 0).mean() < 0.35


def test_sizes_that_cannot_be():
    with pytest.raises(ValueError, match="at least 16 pixels"):
        cells(1, 8)
