"""How well are touching nuclei told apart, by instances and by the connected components of a plain foreground?

    python bench/nuclei.py --data dsb2018 --minutes 10       train/ learned from, report/ scored
    python bench/nuclei.py --data dsb2018 --select           train/ 00-29 learned from, 30-39 scored: how choices are made
    python bench/nuclei.py                                   touching discs, made here

Average precision TP / (TP + FP + FN) over the objects of all images, matched at an intersection over union above 0.5 and at
higher ones, as the 2018 Data Science Bowl and StarDist count it. Both sides have the default settings, the same seed and time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import measure
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from minunet import UNet
from minunet.evaluation.metrics import average_precision

IOUS = (0.5, 0.6, 0.7, 0.8, 0.9)
Pairs = tuple[list[NDArray], list[NDArray]]


def main() -> None:
    """Train on numbered objects, and on the foreground; print the average precision of both on others."""
    parser = measure.parser(__doc__)
    parser.add_argument("--data", type=Path, help="the folder with train/ and report/")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each training, at most (default: 10)")
    parser.add_argument("--epochs", type=measure.whole, default=100_000, metavar="N", help="of each training, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--select", action="store_true", help="learn from train/ 00-29, score 30-39")
    parser.add_argument("--skip-plain", action="store_true", help="leave out the plain foreground")
    parser.add_argument("--side", type=measure.whole, default=256, help="of the made images, without --data (default: 256)")
    arguments = parser.parse_args()
    (x, y), (others, truths) = read(arguments) if arguments.data else made(arguments.side)
    report = measure.Report(__doc__, arguments.json)
    report.table(f"{len(x)} images learned from, {len(others)} scored", ["", *(f"AP {iou}" for iou in IOUS), "epochs"], width=34)
    length = {"max_minutes": arguments.minutes, "max_epochs": arguments.epochs, "random_state": arguments.seed, "verbose": 0}
    found: dict[str, list[float]] = {}
    for name in ("instances",) if arguments.skip_plain else ("instances", "plain"):
        unet = UNet(target="instances" if name == "instances" else "classes", **length)  # type: ignore[arg-type]
        unet.fit(x, y if name == "instances" else [(mask > 0).astype(np.uint8) for mask in y])
        for tta in (False, True):
            objects = unet.predict_instances(others, tta=tta)
            row = f"{'instances' if name == 'instances' else 'components of the foreground'}{', tta' if tta else ''}"
            found[row] = [average_precision(truths, objects, iou=iou) for iou in IOUS]
            report.row(row, *(f"{value:.3f}" for value in found[row]), str(unet.n_iter_))
    report.write(found=found)


def read(arguments: argparse.Namespace) -> tuple[Pairs, Pairs]:
    """Return the images and their objects' numbers that are learned from, and those that are scored."""
    train = _folder(arguments.data / "train")
    if arguments.select:
        return tuple(part[:30] for part in train), tuple(part[30:40] for part in train)  # type: ignore[return-value]
    return train, _folder(arguments.data / "report")


def _folder(folder: Path) -> Pairs:
    images, labels = (
        [np.asarray(Image.open(path)) for path in sorted((folder / kind).glob("*.png"))] for kind in ("image", "label")
    )
    return images, labels


def made(side: int) -> tuple[Pairs, Pairs]:
    """Return twelve images of discs, many of which touch, and their numbers; and four others."""
    images, labels = zip(*(_discs(seed, side) for seed in range(16)), strict=True)
    return (list(images[:12]), list(labels[:12])), (list(images[12:]), list(labels[12:]))


def _discs(seed: int, side: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    rng = np.random.default_rng([seed, side])
    label, rows = np.zeros((side, side), np.int32), np.mgrid[:side, :side]
    centres: list[tuple[float, float, float]] = []
    for _ in range(side * side // 250):
        radius, near = rng.uniform(7, 12), centres and rng.random() < 0.7
        if near:  # beside another, so that they touch
            r, c, of = centres[int(rng.integers(len(centres)))]
            angle, apart = rng.uniform(0, 2 * np.pi), radius + of - rng.uniform(0, 2)
            place = r + apart * np.sin(angle), c + apart * np.cos(angle)
        else:
            place = rng.uniform(0, side), rng.uniform(0, side)
        if not all(0 <= p < side for p in place):
            continue
        if any(np.hypot(place[0] - r, place[1] - c) < radius + of - 2 for r, c, of in centres):
            continue
        centres.append((*place, radius))
        here = np.hypot(*(rows - np.array(place)[:, None, None])) < radius
        label[here & (label == 0)] = len(centres)
    brightness = np.concatenate([[30.0], rng.uniform(90, 200, len(centres))])
    image = ndimage.gaussian_filter(brightness[label], 1.2) + rng.normal(0, 10, label.shape)
    return image.clip(0, 255).astype(np.uint8), label


if __name__ == "__main__":
    main()
