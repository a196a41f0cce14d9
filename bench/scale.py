"""How are empty fields, few objects and small bright ones predicted, by the percentiles of each image alone, and by the rule?

    python bench/scale.py

The rule: an image whose own range is far narrower than the training images' takes theirs (docs/choices.md). Each row is trained
and predicted twice, with the rule and without, on made images: blobs on noise, and a bright block on noise, in crops of which
each has a part and in the whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import measure
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from minunet import UNet
from minunet.data.normalize import Normalizer

SMALL = {"base_channels": 8, "depth": 2, "patch_size": 64, "random_state": 0, "verbose": 0}
EPOCHS = 8
N_CELLS = (0, 1, 2, 3, 4, 6, 12)  # of a field that is predicted
N_FIELDS = 6
Found = dict[str, tuple[float, float]]


def main() -> None:
    """Train on fields and on crops; print what was predicted of others."""
    parser = measure.parser(__doc__)
    parser.add_argument("--epochs", type=measure.whole, default=EPOCHS, metavar="N", help=f"default: {EPOCHS}")
    arguments = parser.parse_args()
    report = measure.Report(__doc__, arguments.json)
    report.table("fields and blocks", ["", "alone", "with the rule"], width=52, others=15)
    found: Found = {}
    for name, numbers in [*fields(arguments.epochs).items(), *blocks(arguments.epochs).items()]:
        report.row(name, *(f"{number:,.0f}" if number >= 2 else f"{number:.3f}" for number in numbers))
        found[name] = numbers
    report.write(found=found)


def fields(epochs: int) -> Found:
    """Train on fields with a fifth of cells: pixels taken for cells in empty ones, and the Dice of the cells in others."""
    x, y = zip(*(field(seed, 96, 14, (4, 9)) for seed in range(6)), strict=True)
    others = {n: [field(100 + seed, 128, n, (4, 4)) for seed in range(N_FIELDS)] for n in N_CELLS}
    by_rule: list[list[float]] = []
    for ruled in (False, True):
        with scaled(ruled):
            unet = UNet(**SMALL, max_epochs=epochs).fit(np.stack(x), np.stack(y))
            labels = {n: [unet.predict(image) for image, _ in pairs] for n, pairs in others.items()}
        truths = {n: [mask for _, mask in pairs] for n, pairs in others.items()}
        dices = [dice(truths[n], labels[n]) for n in N_CELLS if n]
        by_rule.append([float(np.sum(labels[0])), *dices])
    names = [f"{N_FIELDS} empty fields: pixels taken for cells", *(f"{n} cells a field: Dice of the cells" for n in N_CELLS if n)]
    return {name: (alone, ruled) for name, alone, ruled in zip(names, *by_rule, strict=True)}


def blocks(epochs: int) -> Found:
    """Train on crops of noise with a bright block: the block after scaling, and its Dice in crops and in whole images."""
    x, y = zip(*(block(seed) for seed in range(4)), strict=True)
    crops = [(slice(r, r + 96), slice(c, c + 96)) for r in (200, 232) for c in (180, 232)]
    cut_x, cut_y = ([image[crop] for image in images for crop in crops] for images in (x, y))
    by_rule = []
    for ruled in (False, True):
        with scaled(ruled):
            unet = UNet(**SMALL, max_epochs=epochs).fit(cut_x, cut_y)
            largest = float(np.abs(unet.normalizer_(x[0][..., None])).max())
            whole = dice(y, [unet.predict(image) for image in x])
            by_rule.append([largest, dice(cut_y, unet.predict(cut_x)), whole])
    names = ("a block at 5000 on N(100, 5): the largest, scaled", "the same: Dice in crops", "the same: Dice in whole images")
    return {name: (alone, ruled) for name, alone, ruled in zip(names, *by_rule, strict=True)}


@contextmanager
def scaled(ruled: bool) -> Iterator[None]:
    """Scale by the rule, or each image by its percentiles alone, without a limit."""
    is_narrow, of = Normalizer.is_narrow, Normalizer.of
    if not ruled:
        Normalizer.is_narrow = lambda self, found: np.zeros(len(found.low), bool)  # type: ignore[method-assign]
        Normalizer.of = lambda setting: Normalizer(setting, limit=None)  # type: ignore[method-assign, assignment]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it tells what this script is about
        try:
            yield
        finally:
            Normalizer.is_narrow, Normalizer.of = is_narrow, of  # type: ignore[method-assign]


def field(seed: int, side: int, n: int, radii: tuple[float, float]) -> tuple[NDArray, NDArray]:
    """Return a field (side, side) of uint8 with n blurred cells on noise, and where they are."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    here = np.zeros((side, side), bool)
    for _ in range(n):
        row, column = rng.uniform(10, side - 10, 2)
        here |= (rows - row) ** 2 + (columns - column) ** 2 < rng.uniform(*radii) ** 2
    image = 60 + 110 * ndimage.gaussian_filter(here.astype(float), 1) + rng.normal(0, 12, here.shape)
    return image.clip(0, 255).astype(np.uint8), here


def block(seed: int) -> tuple[NDArray, NDArray]:
    """Return an image (512, 512) of noise with a bright block of 20 x 60, and where that is."""
    rng = np.random.default_rng(seed)
    here = np.zeros((512, 512), bool)
    row, column = rng.integers(236, 264), rng.integers(220, 250)
    here[row : row + 20, column : column + 60] = True
    return np.where(here, 5000, rng.normal(100, 5, here.shape)).astype(np.float32), here


def dice(truths: list[NDArray], labels: list[NDArray]) -> float:
    """Return the Dice of what is not ground, all images together."""
    both = sum(int((t & p).sum()) for t, p in zip(truths, labels, strict=True))
    return 2 * both / max(1, sum(int(t.sum()) + int(p.sum()) for t, p in zip(truths, labels, strict=True)))


if __name__ == "__main__":
    main()
