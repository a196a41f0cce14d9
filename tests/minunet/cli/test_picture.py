"""The demo's picture: each panel holds what its caption says, to the pixel."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageColor

from minunet.cli.picture import DICE, LOSS, _ceiling, _curve, draw
from minunet.plot import BLACK, INVENTED, MISSED, WHITE


def test_each_panel_holds_what_its_caption_says():
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (2, 12, 40)).astype(np.uint8)
    truths, predictions = (rng.choice([7, 200], images.shape) for _ in range(2))
    sure = rng.choice([0.0, 0.2, 1.0], images.shape)
    canvas = np.asarray(draw(images, truths, predictions, sure, {"loss": [1.0, 0.5], "val_dice": [0.2, 0.6]}, "title"))
    for i in range(2):
        colour = {(7, 7): BLACK, (7, 200): MISSED, (200, 7): INVENTED, (200, 200): WHITE}  # of truth and prediction
        compared = [[colour[pair] for pair in zip(*rows, strict=True)] for rows in zip(truths[i], predictions[i], strict=True)]
        grey = {0.0: 255, 0.2: 204, 1.0: 0}
        panels = [images[i], truths[i], compared, np.vectorize(grey.get)(sure[i])]
        for j, panel in enumerate(panels):
            seen = canvas[62 + 30 * i :, 18 + 58 * j :][:12, :40]
            np.testing.assert_array_equal(seen, np.broadcast_to(np.reshape(panel, (12, 40, -1)), (12, 40, 3)))


@pytest.mark.parametrize(
    ("dices", "losses"), [([1.0, 0.0, 0.25, 0.5], [2.0, 1.0, 0.5, 1.5]), ([0.75], [1.0]), ([0.5, 1.0], [0.6, 0.3])]
)
def test_the_curves_go_through_each_epochs_figures_from_axis_to_axis(dices, losses):
    width, height, (left, right, top, bottom) = 400, 200, (52, 348, 26, 162)
    shown = np.asarray(_curve({"loss": losses, "val_dice": dices}, width, height)).astype(int)
    ceiling, colours = max(losses), [ImageColor.getrgb(colour) for colour in (LOSS, DICE)]  # all round numbers already
    within = shown[top - 4 : bottom + 4, left - 4 : right + 4]
    for values, most, colour in zip((losses, dices), (ceiling, 1.0), colours, strict=True):
        n = len(values)
        places = [(left + (right - left) * i / max(n - 1, 1), bottom - (bottom - top) * v / most) for i, v in enumerate(values)]
        for x, y in places:
            assert tuple(shown[round(y), round(x)]) in colours  # where both meet, one lies over the other
        columns = np.flatnonzero((within == colour).all(axis=-1).any(axis=0)) + left - 4
        assert columns[-1] == round(places[-1][0]) + 3, "a marker's half beyond the last epoch, and nothing else"


def test_curves_are_three_pixels_wide():
    shown = np.asarray(_curve({"loss": [1.0, 1.0], "val_dice": [0.5, 0.5]}, 400, 200))
    for colour in (LOSS, DICE):
        assert (shown[:, 200] == ImageColor.getrgb(colour)).all(axis=-1).sum() == 3


@pytest.mark.parametrize(
    ("value", "ceiling"),
    [
        (0, 1), (1, 1), (1.01, 1.2), (1.2, 1.2), (1.21, 1.6), (1.7, 2), (2.5, 3), (3.5, 4), (5, 6), (7, 8), (9, 10),
        (0.013, 0.016), (42, 60),
    ],
)  # fmt: skip
def test_an_axis_ends_at_the_next_round_number(value, ceiling):
    assert _ceiling(value) == pytest.approx(ceiling)
