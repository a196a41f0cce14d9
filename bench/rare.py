"""Does a class of 1 % of the pixels, in thin lines, end as all background? And how near are the defaults to the best setting?

    python bench/rare.py

Made images: curves two to three pixels wide on textured noise, about 1 % of the pixels, among blobs and edges that are as bright.
Each setting learns from eight images with the same seed and the same epochs, and is scored on four others: the Dice of the lines.
"""

from __future__ import annotations

from typing import Any

import measure
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from minunet import UNet
from minunet.evaluation import metrics

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "class_weight balanced": {"class_weight": "balanced"},
    "loss dice": {"loss": "dice"},
    "loss cross_entropy+dice": {"loss": "cross_entropy+dice"},
    "loss focal": {"loss": "focal"},
    "loss tversky": {"loss": "tversky"},
    "threshold validation": {"threshold": "validation"},
}
N_TRAIN, N_TEST = 8, 4


def main() -> None:
    """Train with each setting; print the Dice of the lines in other images."""
    parser = measure.parser(__doc__)
    parser.add_argument("--epochs", type=measure.whole, default=40, metavar="N", help="default: 40")
    parser.add_argument("--side", type=measure.whole, default=256, help="of the images (default: 256)")
    parser.add_argument("--only", action="append", choices=SETTINGS, metavar="NAME", help=f"one of: {', '.join(SETTINGS)}")
    arguments = parser.parse_args()
    images, masks = zip(*(lines(seed, arguments.side) for seed in range(N_TRAIN + N_TEST)), strict=True)
    x, y = np.stack(images), np.stack(masks)
    report = measure.Report(__doc__, arguments.json)
    report.note(f"{y.mean():.2%} of the pixels are lines")
    report.table(f"{arguments.epochs} epochs", ["setting", "Dice", "predicted", "seconds"], width=28, others=12)
    found: dict[str, dict[str, float]] = {}
    for name in arguments.only or SETTINGS:
        unet = UNet(max_epochs=arguments.epochs, random_state=0, verbose=0, **SETTINGS[name]).fit(x[:N_TRAIN], y[:N_TRAIN])
        labels = unet.predict(x[N_TRAIN:])
        dice = float(metrics.dice(y[N_TRAIN:], labels, classes=[0, 1])[1])
        found[name] = {"dice": dice, "predicted": float(labels.mean()), "seconds": unet.history_["seconds"][-1]}
        report.row(name, f"{dice:.4f}", f"{labels.mean():.2%}", f"{found[name]['seconds']:.0f}")
    report.write(found=found)


def lines(seed: int, side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return an image (side, side) with curves on it, and where they are: 1, else 0."""
    rng = np.random.default_rng([seed, side])
    here = np.zeros((side, side), bool)
    while here.mean() < 0.0075:
        place, angle, bend = rng.uniform(0, side, 2), rng.uniform(0, 2 * np.pi), rng.normal(0, 0.02)
        for _ in range(int(rng.integers(side // 4, side))):
            place, angle = place + [np.sin(angle), np.cos(angle)], angle + bend + rng.normal(0, 0.05)
            r, c = np.floor(place).astype(int)
            if not (0 <= r < side - 1 and 0 <= c < side - 1):
                break
            here[r : r + 2, c : c + 2] = True
    image = 0.5 + 0.12 * ndimage.gaussian_filter(rng.standard_normal((side, side)), 6) * 6
    image += 0.16 * ndimage.gaussian_filter(here.astype(float), 0.7)
    for _ in range(side // 12):  # blobs and edges, as bright as a line, that are none
        r, c = rng.integers(0, side, 2)
        d = np.hypot(*(np.mgrid[:side, :side] - np.array([r, c])[:, None, None]))
        image += 0.16 * (d < rng.uniform(2, 8))
    image += 0.06 * rng.standard_normal((side, side))
    return (255 * image).clip(0, 255).astype(np.uint8), here.astype(np.uint8)


if __name__ == "__main__":
    main()
