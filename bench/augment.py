"""How long does augmentation take beside a training step, and how much longer does it make one?

    python bench/augment.py --config 4,256,16 --repeat 20

A configuration is batch, side, base channels. First a batch's preparation alone, on one thread: as it is, turned and flipped,
all of the default, and each change in every patch. Then steps with their batches, prepared on the thread beside them as in
`fit`: with augmentation and without, in turns; the ratio of medians is what it costs.
"""

from __future__ import annotations

import measure
import numpy as np
from measure import Config, Run

from minunet import Augmentation, Network, optim
from minunet.data.augment import SHARES
from minunet.data.sampling import Example, PatchSampler
from minunet.training import step
from minunet.training.ahead import Ahead

KINDS = {"none": False, "flips": "flips", "all": True}
STEPS = 5  # a run: one alone would find its batch prepared in the pause before it


def main() -> None:
    """Time each configuration and print its tables."""
    parser = measure.parser(__doc__, repeat=20)
    parser.add_argument(
        "--config", action="append", type=measure.config, metavar="BATCH,SIDE,BASE", help="may be repeated; default: 4,256,16"
    )
    arguments = parser.parse_args()
    report = measure.Report(__doc__, arguments.json)
    seconds = {}
    for config in arguments.config or [(4, 256, 16)]:
        batches = measure.medians({name: batches_of(config, how) for name, how in augmentations().items()}, arguments.repeat)
        report.table(f"a batch alone: {measure.name_of(*config)}", ("augmentation", "ms"))
        for name, value in batches.items():
            report.row(name, f"{1e3 * value:.1f}")
        steps = measure.medians({name: steps_with(config, how) for name, how in KINDS.items()}, arguments.repeat)
        report.table(f"a step: {measure.name_of(*config)}", ("augmentation", "ms", "of none"))
        for name, value in steps.items():
            report.row(name, f"{1e3 * value / STEPS:.1f}", f"{value / steps['none']:.3f}")
        seconds[",".join(map(str, config))] = {"batch": batches, "step": {name: s / STEPS for name, s in steps.items()}}
    report.write(seconds=seconds)


def augmentations() -> dict[str, bool | str | Augmentation]:
    """Return those that are timed by name: each change alone is drawn in every patch."""
    off, default = dict.fromkeys(SHARES, 0.0), Augmentation()
    alone = {name: Augmentation(**off | {name: getattr(default, name)}, flips=False, often=10) for name in SHARES}
    return {**KINDS, **alone}


def sampler_of(config: Config, how: bool | str | Augmentation) -> PatchSampler:
    """Return what draws patches of two noisy images, twice as large as they."""
    _, side, _ = config
    images, labels = measure.data(2, 2 * side)
    examples = [Example(image, label.astype(np.int32), None) for image, label in zip(images, labels, strict=True)]
    return PatchSampler(examples, side, augment=how, random_state=0)


def batches_of(config: Config, how: bool | str | Augmentation) -> Run:
    """Return what prepares batch after batch, on this thread."""
    sampler, numbers = sampler_of(config, how), iter(range(10**9))
    return lambda: sampler.batch(0, next(numbers), config[0])


def steps_with(config: Config, how: bool | str | Augmentation) -> Run:
    """Return what takes some steps, their batches prepared beside them."""
    batch, _, base = config
    network, optimizer, numbers = Network(1, 2, base), optim.Adam(), iter(range(10**9))
    ahead = Ahead(sampler_of(config, how), batch, 10**6, 1)

    def run() -> None:
        for _ in range(STEPS):
            x, labels, weights = ahead.batch(0, next(numbers))
            step(network, optimizer, x, labels, weights=weights)

    return run


if __name__ == "__main__":
    main()
