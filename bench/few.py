"""How good is a model of one annotated image, or of scribbles on it, beside a random forest on the same pixels?

    python bench/few.py                       on made tissue (minunet.datasets.cells)
    python bench/few.py --data isbi2012       on slice 00 of the ISBI 2012 stack, scored on 20-23

The peer is what scikit-image's guide to trainable segmentation has: features of several scales (intensity, edges, texture; sigma
1 to 16) and scikit-learn's random forest. Both get the same pixels, all of one image or scribbles on 2 % of it, the defaults of
minunet for at most --minutes. Dice is the mean over both classes, of the labels that `predict` gives.
"""

from __future__ import annotations

import time
from pathlib import Path

import measure
import numpy as np
from isbi import read
from numpy.typing import NDArray

from minunet import UNet, datasets
from minunet.evaluation import metrics

SHARE = 0.02  # of the pixels, that are scribbled on
UNLABELLED = 127  # between the masks' 0 and 255
STROKE = 25  # pixels long


def main() -> None:
    """Train both on one image and on scribbles; print their scores on others."""
    parser = measure.parser(__doc__)
    parser.add_argument("--data", type=Path, help="the folder with train/image and train/label")
    parser.add_argument("--minutes", type=float, default=3.0, help="of minunet, at most (default: 3)")
    parser.add_argument("--max-epochs", type=measure.whole, default=UNet().max_epochs, metavar="N", help="of minunet, at most")
    parser.add_argument("--side", type=measure.whole, default=256, help="of the made images, without --data (default: 256)")
    arguments = parser.parse_args()
    x, y = read(arguments.data) if arguments.data else datasets.cells(24, arguments.side)
    report = measure.Report(__doc__, arguments.json)
    report.table("learned from one image", ["", "pixels", "pixel error", "Dice", "seconds"], width=36, others=12)
    found: dict[str, dict[str, float]] = {}
    for pixels, mask in (("all", y[0]), ("scribbles", scribbled(y[0]))):
        length = {"max_minutes": arguments.minutes, "max_epochs": arguments.max_epochs}
        for name, learn in (("random forest", forest), ("minunet", lambda *of, length=length: unet(*of, **length))):
            start = time.perf_counter()
            predict = learn(x[0], mask)
            seconds = time.perf_counter() - start
            labels = predict(x[20:])
            error, dice = metrics.pixel_error(y[20:], labels), float(metrics.dice(y[20:], labels, classes=[0, 255]).mean())
            n = int((mask != UNLABELLED).sum())
            report.row(f"{name}, {pixels}", f"{n:,}", f"{error:.4f}", f"{dice:.4f}", f"{seconds:.0f}")
            found[f"{name}, {pixels}"] = {"pixel error": error, "dice": dice, "seconds": seconds}
    report.write(found=found)


def forest(image: NDArray, mask: NDArray):  # type: ignore[no-untyped-def]
    """Return what predicts images as a random forest on features of several scales that has learned these pixels."""
    ensemble = measure.load("sklearn.ensemble")
    classifier = ensemble.RandomForestClassifier(n_estimators=100, max_depth=20, n_jobs=-1, random_state=0)
    counted = mask != UNLABELLED
    classifier.fit(features(image)[counted], mask[counted])

    def predict(images: NDArray) -> NDArray:
        found = [features(image) for image in images]
        return np.stack([classifier.predict(f.reshape(-1, f.shape[-1])).reshape(f.shape[:2]) for f in found])

    return predict


def features(image: NDArray) -> NDArray:
    """Return the features (H, W, F) of an image (H, W)."""
    of = measure.load("skimage.feature").multiscale_basic_features
    return np.asarray(of(image, intensity=True, edges=True, texture=True, sigma_min=1, sigma_max=16))


def unet(image: NDArray, mask: NDArray, **length: float):  # type: ignore[no-untyped-def]
    """Return what predicts images as a UNet of defaults that has learned these pixels."""
    ignore = UNLABELLED if (mask == UNLABELLED).any() else None
    return UNet(random_state=0, verbose=0, **length).fit(image, mask, ignore_index=ignore).predict


def scribbled(mask: NDArray, seed: int = 0) -> NDArray:
    """Return the mask with its values on strokes that are SHARE of it, each in one class as a person draws, else UNLABELLED."""
    rng = np.random.default_rng(seed)
    out = np.full_like(mask, UNLABELLED)
    values = np.unique(mask)
    while (out != UNLABELLED).mean() < SHARE:
        value = values[int(rng.integers(len(values)))]
        rows, cols = np.nonzero(mask == value)
        i, angle = int(rng.integers(len(rows))), rng.uniform(0, np.pi)
        along = np.arange(-STROKE // 2, STROKE // 2)
        r = np.rint(rows[i] + along * np.sin(angle)).astype(int).clip(0, mask.shape[0] - 1)
        c = np.rint(cols[i] + along * np.cos(angle)).astype(int).clip(0, mask.shape[1] - 1)
        here = mask[r, c] == value
        out[r[here], c[here]] = value
    return out


if __name__ == "__main__":
    main()
