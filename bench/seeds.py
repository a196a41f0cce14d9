"""Does the default train from any seed?

    python bench/seeds.py

Each of 20 seeds (weights, patches, augmentation) learns from ten made images, and is scored on four others: the mean Dice of both
classes. A training that stalls predicts one class alone, and scores below 0.5.
"""

from __future__ import annotations

import measure
import numpy as np

from minunet import UNet, datasets

STALLED = 0.5


def main() -> None:
    """Train with each seed; print each score, and their range."""
    parser = measure.parser(__doc__)
    parser.add_argument("--seeds", type=measure.whole, default=20, metavar="N", help="0 to N-1 (default: 20)")
    parser.add_argument("--epochs", type=measure.whole, default=2, metavar="N", help="default: 2, of 25 steps")
    parser.add_argument("--side", type=measure.whole, default=128, help="of the images (default: 128)")
    arguments = parser.parse_args()
    x, y = datasets.cells(14, arguments.side)
    report = measure.Report(__doc__, arguments.json)
    report.table("10 images, default settings", ["seed", "Dice", "loss"], width=8)
    found: dict[int, float] = {}
    for seed in range(arguments.seeds):
        unet = UNet(max_epochs=arguments.epochs, random_state=seed, verbose=0).fit(x[:10], y[:10])
        found[seed] = unet.score(x[10:], y[10:])
        report.row(str(seed), f"{found[seed]:.4f}", f"{unet.history_['loss'][-1]:.4f}")
    scores = np.array(list(found.values()))
    stalled = int((scores < STALLED).sum())
    told = f"Dice {scores.min():.4f} to {scores.max():.4f}, median {np.median(scores):.4f}; {stalled} of {len(scores)} stalled"
    report.note(told)
    report.write(found={str(seed): score for seed, score in found.items()})


if __name__ == "__main__":
    main()
