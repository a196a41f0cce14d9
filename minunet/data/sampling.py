"""Examples, and patches of them for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .mirror import mirror
from .rng import generator

N_SYMMETRIES = 8  # of a square: quarter turns and flips


@dataclass(frozen=True)
class Example:
    """An image (H, W, C), its class indices (H, W), its pixels' weights (H, W) or None, and what to call it."""

    image: NDArray
    label: NDArray
    weight: NDArray[np.float32] | None
    name: str = ""

    def crop(self, rows: slice, cols: slice) -> Example:
        """Return a part of it, as views."""
        weight = None if self.weight is None else self.weight[rows, cols]
        return Example(self.image[rows, cols], self.label[rows, cols], weight, self.name)


class PatchSampler:
    """Draw square patches, every one from a generator seeded by (random_state, epoch, number of the patch).

    margin is how far the network's input extends beyond its output on each side (valid convolutions): taken from the
    image where there is one, mirrored where there is none. An image shorter than the patch is mirrored up to it; those
    pixels have weight 0.
    """

    def __init__(
        self, examples: Sequence[Example], patch_size: int, *, margin: int = 0, augment: bool = True, random_state: int
    ) -> None:
        self.examples, self.patch_size, self.margin = list(examples), patch_size, margin
        self.augment, self.random_state = augment, random_state
        areas = np.array([e.label.size for e in self.examples], np.float64)
        self.training_pixels = int(areas.sum())
        self._cumulative = np.cumsum(areas / areas.sum())

    def batch(
        self, epoch: int, index: int, batch_size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32] | None]:
        """Return batch `index` of an epoch: x (B, P+2m, P+2m, C), labels (B, P, P), weights (B, P, P), None if all 1."""
        patches = [self._patch(epoch, index * batch_size + i) for i in range(batch_size)]
        images, labels, weights = zip(*patches, strict=True)
        joined = np.stack(weights)
        return np.stack(images), np.stack(labels), None if (joined == 1).all() else joined

    def drawn(self, epoch: int, number: int) -> Example:
        """Return the example that patch `number` of an epoch is of."""
        return self._example(generator(self.random_state, "patch", epoch, number))

    def _example(self, rng: np.random.Generator) -> Example:
        return self.examples[min(int(np.searchsorted(self._cumulative, rng.random(), side="right")), len(self.examples) - 1)]

    def _patch(self, epoch: int, number: int) -> tuple[NDArray, NDArray, NDArray]:
        rng = generator(self.random_state, "patch", epoch, number)
        example = self._example(rng)
        (rows, wide_rows), (cols, wide_cols) = (self._window(rng, size) for size in example.label.shape)
        h, w = example.label.shape
        image = example.image[np.ix_(mirror(wide_rows, h), mirror(wide_cols, w))]
        inside = np.ix_(mirror(rows, h), mirror(cols, w))
        label = example.label[inside]
        weight = (_within(rows, h)[:, None] & _within(cols, w)).astype(np.float32)
        if example.weight is not None:
            weight *= example.weight[inside]
        k = int(rng.integers(N_SYMMETRIES)) if self.augment else 0
        return tuple(symmetry(array, k) for array in (image, label, weight))  # type: ignore[return-value]

    def _window(self, rng: np.random.Generator, size: int) -> tuple[NDArray, NDArray]:
        """Return the patch's indices along one side, and those of the input with its margin."""
        start = int(rng.integers(max(size - self.patch_size, 0) + 1))
        return np.arange(start, start + self.patch_size), np.arange(start - self.margin, start + self.patch_size + self.margin)


def symmetry(square: NDArray, k: int) -> NDArray:
    """Return symmetry k, 0 to 7, of an array (P, P, ...): k % 4 quarter turns, then for k >= 4 a flip. 0 changes nothing."""
    turned = np.rot90(square, k % 4)
    return turned[:, ::-1] if k >= 4 else turned


def _within(indices: NDArray, size: int) -> NDArray[np.bool_]:
    return (indices >= 0) & (indices < size)
