"""The demo's picture: each panel holds what its caption says, to the pixel."""

from __future__ import annotations

import numpy as np

from minunet.cli.picture import draw
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
