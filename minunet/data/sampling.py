"""Examples, and patches of them for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .augment import Augmentation, Function, resolve
from .geometry import Patch, Window
from .rare import ONE_OF, Places
from .rng import generator
from .sliced import Image, cut


@dataclass(frozen=True)
class Example:
    """An image (H, W, C), its class indices (H, W), its pixels' weights (H, W) or None, and what to call it."""

    image: Image
    label: NDArray
    weight: NDArray[np.float32] | None
    name: str = ""

    def crop(self, rows: slice, cols: slice) -> Example:
        """Return a part of it, as views, or unread."""
        weight = None if self.weight is None else self.weight[rows, cols]
        return Example(cut(self.image, rows, cols), self.label[rows, cols], weight, self.name)


Batch = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32] | None]


class PatchSampler:
    """Draw square patches, every one from a generator seeded by (random_state, epoch, number of the patch).

    margin is how far the network's input extends beyond its output on each side (valid convolutions): taken from the
    image where there is one, mirrored where there is none. An image shorter than the patch is mirrored up to it; those
    pixels have weight 0. Where there are rare classes, every third patch lies on a pixel of one of them, each as often.
    """

    def __init__(
        self, examples: Sequence[Example], patch_size: int, *, margin: int = 0,
        augment: bool | str | Augmentation | Function = "flips", n_classes: int = 2, random_state: int,
        rare: Sequence[Places] = (),
    ) -> None:  # fmt: skip
        """augment : as UNet takes it; n_classes : those that a function's masks may have.

        rare : as `places_of_rare` finds them in the examples.
        """
        self.examples, self.patch_size, self.margin = list(examples), patch_size, margin
        self.transform, self.random_state, self.rare = resolve(augment, self.examples, n_classes), random_state, rare
        areas = np.array([e.label.size for e in self.examples], np.float64)
        self.training_pixels = int(areas.sum())
        self._cumulative = np.cumsum(areas / areas.sum())

    def batch(self, epoch: int, index: int, batch_size: int) -> Batch:
        """Return batch `index` of an epoch: x (B, P+2m, P+2m, C), labels (B, P, P), weights (B, P, P), None if all 1."""
        first = self._patch(epoch, index * batch_size)
        x, labels, weights = (np.empty((batch_size, *part.shape), part.dtype) for part in first)
        for i in range(batch_size):  # into its place at once: of many patches a second copy would be as much as the batch
            patch = self._patch(epoch, index * batch_size + i) if i else first
            x[i], labels[i], weights[i] = patch
        return x, labels, None if (weights == 1).all() else weights

    def drawn(self, epoch: int, number: int) -> Example:
        """Return the example that patch `number` of an epoch is of."""
        return self._place(epoch, number)[1]

    def _place(self, epoch: int, number: int) -> tuple[np.random.Generator, Example, tuple[int, int]]:
        """Return a patch's example, its first row and column there, and the generator for what else is to be drawn of it."""
        rng = generator(self.random_state, "patch", epoch, number)
        if self.rare and number % ONE_OF == ONE_OF - 1:
            return rng, *self._on_rare(rng)
        cumulated = int(np.searchsorted(self._cumulative, rng.random(), side="right"))
        example = self.examples[min(cumulated, len(self.examples) - 1)]
        top, left = (int(rng.integers(most + 1)) for most in self._last(example))
        return rng, example, (top, left)

    def _on_rare(self, rng: np.random.Generator) -> tuple[Example, tuple[int, int]]:
        """Draw a rare class, one of its pixels, and where that lies in the patch: in its middle half, if the image allows."""
        places = self.rare[int(rng.integers(len(self.rare)))]
        i, *pixel = places[int(rng.integers(len(places)))].tolist()
        quarter = self.patch_size // 4
        starts = (at - int(rng.integers(quarter, self.patch_size - quarter)) for at in pixel)
        top, left = (min(max(start, 0), most) for start, most in zip(starts, self._last(self.examples[i]), strict=True))
        return self.examples[i], (top, left)

    def _last(self, example: Example) -> tuple[int, int]:
        """Return the last row and column at which a patch may begin."""
        h, w = example.label.shape
        return max(h - self.patch_size, 0), max(w - self.patch_size, 0)

    def _patch(self, epoch: int, number: int) -> Patch:
        rng, example, (top, left) = self._place(epoch, number)
        return self.transform.patch(Window(example, top, left, self.patch_size, self.margin), rng)
