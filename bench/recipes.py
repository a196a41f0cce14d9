"""Which recipe gives the best segmentation after the same minutes: the default, the paper's, one ingredient less, or another?

    python bench/recipes.py --data isbi2012                      3 minutes and two seeds each, the ingredients of the default
    python bench/recipes.py --data isbi2012 --long               every recipe below
    python bench/recipes.py --only default --only "loss dice"    on made tissue (minunet.datasets.cells), where no data are given

With --data, trained on slices 00-15 of the ISBI 2012 stack and scored on 16-19: this is how defaults are chosen, and no quoted
figure is of these slices. Pixel error and membrane IoU at the threshold of least pixel error, adapted Rand error at that of least
Rand error; with --tta, of the mean over eight turns and flips. Scoring does not count as time, validation after an epoch does.
--epochs trains each for so many epochs instead of minutes, as many pixels for each: the same on any machine, however busy.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import measure
import numpy as np
from isbi import Judge, Scores, read

from minunet import Augmentation, UNet, datasets

Recipe = dict[str, Any]

PAPER = "paper"  # UNet.ronneberger2015, at the width of the others: 64 channels see hardly a slice in these minutes
INGREDIENTS: dict[str, Recipe] = {
    "default": {},
    PAPER: {"base_channels": 16},
    "no augmentation": {"augment": False},
    "flips": {"augment": "flips"},
    "no elastic": {"augment": Augmentation(elastic=0)},
    "no rotation, scale": {"augment": Augmentation(rotation=0, scale=0)},
    "no intensity": {"augment": Augmentation(blur=0, contrast=0, brightness=0, gamma=0, noise=0)},
}
ALTERNATIVES: dict[str, Recipe] = {
    "augment less": {"augment": Augmentation(often=0.5)},
    "augment more": {"augment": Augmentation(often=2)},
    "loss dice": {"loss": "dice"},
    "loss cross_entropy+dice": {"loss": "cross_entropy+dice"},
    "loss focal": {"loss": "focal"},
    "loss tversky": {"loss": "tversky"},
    "class_weight balanced": {"class_weight": "balanced"},
    "border_weight": {"border_weight": True},
    "norm batch": {"norm": "batch"},
    "norm group": {"norm": "group"},
    "norm instance": {"norm": "instance"},
    "block residual": {"block": "residual"},
    "dropout": {"dropout": 0.5},
    "deep_supervision": {"deep_supervision": True},
    "context": {"context": 1},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.01},
    "sgd": {"optimizer": "sgd", "learning_rate": 1e-2},
    "nesterov": {"optimizer": "nesterov", "learning_rate": 1e-2},
    "schedule cosine": {"schedule": "cosine"},
    "schedule step": {"schedule": "step"},
    "schedule plateau": {"schedule": "plateau"},
    "schedule one_cycle": {"schedule": "one_cycle", "learning_rate": 3e-3},
    "schedule constant": {"schedule": "constant"},
    "warm_up": {"warm_up": 0.05},
    "clip_norm": {"clip_norm": 1.0},
    "average": {"average": 0.99},
    "no validation": {"validation_fraction": 0.0},
    "base 8": {"base_channels": 8},
    "base 32": {"base_channels": 32},
    "learning_rate 3e-4": {"learning_rate": 3e-4},
    "learning_rate 3e-3": {"learning_rate": 3e-3},
    "batch 2": {"batch_size": 2},
    "patch 128": {"patch_size": 128, "batch_size": 16},
}
FIGURES = ("pixel error", "membrane IoU", "adapted Rand", "steps", "seconds")


def main() -> None:
    """Train each recipe with each seed; print its scores as they come, and the means as a table for docs/training.md."""
    every = INGREDIENTS | ALTERNATIVES
    parser = measure.parser(__doc__)
    parser.add_argument("--data", type=Path, help="the folder with train/image and train/label")
    parser.add_argument("--minutes", type=float, default=3.0, help="of each training (default: 3)")
    parser.add_argument("--epochs", type=measure.whole, metavar="N", help="of each training, instead of minutes")
    parser.add_argument("--seeds", type=measure.whole, default=2, metavar="N", help="0 to N-1 (default: 2)")
    parser.add_argument("--only", action="append", choices=every, metavar="NAME", help=f"one of: {', '.join(every)}")
    parser.add_argument("--long", action="store_true", help="all recipes, not the default's ingredients alone")
    parser.add_argument("--tta", action="store_true", help="score the mean over eight turns and flips")
    parser.add_argument("--side", type=measure.whole, default=256, help="of the made images, without --data (default: 256)")
    arguments = parser.parse_args()
    chosen = {name: every[name] for name in arguments.only} if arguments.only else every if arguments.long else INGREDIENTS
    x, y = read(arguments.data) if arguments.data else datasets.cells(24, arguments.side)
    report = measure.Report(__doc__, arguments.json)
    report.table("on 16-19, means over seeds", ["recipe", *FIGURES], width=26, others=14)
    found: dict[str, list[Scores]] = {}
    for name, recipe in chosen.items():
        found[name] = [scored(name, recipe, seed, x, y, arguments) for seed in range(arguments.seeds)]
        means = [float(np.mean([scores[figure] for scores in found[name]])) for figure in FIGURES]
        report.row(name, *(f"{mean:.4f}" if mean < 1 else f"{mean:.0f}" for mean in means))
    report.write(found=found)


def scored(name: str, recipe: Recipe, seed: int, x: np.ndarray, y: np.ndarray, arguments: argparse.Namespace) -> Scores:
    """Train a recipe on the first sixteen images, and return its scores on the next four."""
    minutes: Recipe = {"max_epochs": 100_000, "max_minutes": arguments.minutes}
    length = {"max_epochs": arguments.epochs} if arguments.epochs else minutes
    settings = recipe | length | {"random_state": seed, "verbose": 0}
    unet = UNet.ronneberger2015(**settings) if name == PAPER else UNet(**settings)
    unet.fit(x[:16], y[:16])
    judge = Judge(x, y, slice(16, 20), name)
    steps, seconds = (unet.history_[name][-1] for name in ("steps", "seconds"))
    judge(lambda images: unet.predict_proba(images, tta=arguments.tta)[..., 1], int(steps), seconds)
    return judge.curve[-1]


if __name__ == "__main__":
    main()
