"""Classes that patches drawn alike would hardly show, and where their pixels lie: one of three patches is put there.

nnU-Net (Isensee et al. 2021) draws a third of its patches so that they hold foreground. Here a third goes to rare classes where
there are such, and only there: what most patches show needs no help, and sampling otherwise than alike has its price. A network
that sees a class more often takes it for more frequent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .sliced import bands

if TYPE_CHECKING:
    from .sampling import Example

ONE_OF = 3  # patches lies on a rare class, and a class is rare that fewer than one of so many shows by itself
TRIED = 300  # patches that are looked at, at least: of each image one, of larger ones more
MOST = 100_000  # places of a class that are kept: every k-th

Places = NDArray[np.int32]


def places_of_rare(examples: Sequence[Example], patch_size: int) -> list[Places]:
    """Return for each rare class where its pixels lie, (M, 3): the example, the row and the column; no list where none is rare.

    A class is rare where less than a third of all patches hold a pixel of it that counts. It depends on no random number.
    """
    counts = _stacked([class_counts(example.label, example.weight) for example in examples])  # (N, K)
    shares = _shares(examples, patch_size, counts.shape[1])
    rare = np.flatnonzero((counts.sum(axis=0) > 0) & (shares < 1 / ONE_OF))
    return [_places(examples, k, counts[:, k]) for k in rare.tolist()]


def class_counts(label: NDArray[np.integer], weight: NDArray | None, n_classes: int = 0) -> NDArray[np.int64]:
    """Return how many pixels of a weight above 0 each class has in a mask's indices (H, W), for n_classes at least."""
    found = [
        np.bincount(label[rows].ravel() if weight is None else label[rows][weight[rows] > 0], minlength=n_classes)
        for rows in bands(label)
    ]
    return np.asarray(_stacked(found).sum(axis=0), np.int64)


def _shares(examples: Sequence[Example], patch_size: int, n_classes: int) -> NDArray[np.float64]:
    """Return which share of all patches holds each class (K,), by patches that lie evenly spread on each image."""
    areas = np.array([example.label.size for example in examples], np.float64)
    shares = np.zeros(n_classes)
    for example, part in zip(examples, areas / areas.sum(), strict=True):
        a_side = math.ceil(math.sqrt(TRIED * part))
        tops, lefts = (_starts(size, patch_size, a_side) for size in example.label.shape)
        for at in ((slice(i, i + patch_size), slice(j, j + patch_size)) for i in tops for j in lefts):
            weight = None if example.weight is None else example.weight[at]
            shares += part / (len(tops) * len(lefts)) * (class_counts(example.label[at], weight, n_classes) > 0)
    return shares


def _starts(size: int, patch_size: int, n: int) -> list[int]:
    """Return n places, or as many as there are, where a patch may begin along one side: each for as many of all."""
    free = max(size - patch_size, 0) + 1
    n = min(n, free)
    return [(2 * i + 1) * free // (2 * n) for i in range(n)]


def _places(examples: Sequence[Example], k: int, counts: NDArray[np.int64]) -> Places:
    """Return where every so-many-th pixel of class k lies. counts : how many each example has of it."""
    step, before, found = -(-int(counts.sum()) // MOST), 0, list[Places]()
    for i in np.flatnonzero(counts).tolist():
        label, weight = examples[i].label, examples[i].weight
        for rows in bands(label):
            here = label[rows] == k if weight is None else (label[rows] == k) & (weight[rows] > 0)
            row, column = np.nonzero(here)
            kept = slice(-before % step, None, step)
            found.append(np.stack([np.full_like(row, i), row + rows.start, column], axis=1)[kept].astype(np.int32))
            before += len(row)
    return np.concatenate(found)


def _stacked(counts: Sequence[NDArray[np.integer]]) -> NDArray[np.int64]:
    """Return counts of classes (N, K), each of which ends with the last class that it has."""
    k = max(map(len, counts))
    return np.stack([np.pad(found, (0, k - len(found))) for found in counts]).astype(np.int64)
