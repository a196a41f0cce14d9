"""Mask values to class indices and back, and what makes a mask suspicious."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_CLASSES = 20
FREQUENT = 0.01  # a value with this share of the pixels is certainly meant
RARE = 0.001  # below this, a value between two frequent ones may be an artefact ...
MIN_RARE = 3  # ... where there are several such values


def learn_classes(masks: Sequence[NDArray], *, classes: Sequence[int] | None = None) -> NDArray:
    """Return the sorted values of the masks; with `classes`, those. ValueError where they cannot be classes."""
    dtype = np.result_type(*masks)
    if classes is not None:
        return _given_classes(classes, dtype)
    counts = _count_values(masks)
    values = np.array(list(counts), dtype)
    if len(values) == 1:
        raise ValueError(
            f"all masks hold only the value {values[0]}: one class, so there is nothing to learn. "
            "Each class needs at least one pixel somewhere."
        )
    shares = np.array(list(counts.values())) / sum(counts.values())
    if len(values) > MAX_CLASSES or _looks_resampled(values, shares):
        raise ValueError(_suspicion(values, shares))
    return values


def encode(mask: NDArray, classes: NDArray) -> NDArray[np.int32]:
    """Return each pixel's index in the sorted classes: that of the nearest, the lower one of two equally near."""
    if mask.dtype.kind == "b" or classes.dtype.kind == "b":
        mask, classes = mask.astype(np.uint8), classes.astype(np.uint8)
    above = np.clip(np.searchsorted(classes, mask), 1, len(classes) - 1)
    value, low, high = mask.astype(np.float64), classes.astype(np.float64)[above - 1], classes.astype(np.float64)[above]
    return np.where(value - low <= high - value, above - 1, above).astype(np.int32)


def decode(indices: NDArray[np.integer], classes: NDArray) -> NDArray:
    """Return each pixel's mask value, in the masks' dtype."""
    return classes[indices]


def class_frequencies(labels: Sequence[NDArray[np.integer]], n_classes: int) -> NDArray[np.float64]:
    """Return each class's share of all pixels: (K,)."""
    counts = np.sum([np.bincount(label.ravel(), minlength=n_classes) for label in labels], axis=0)
    return np.asarray(counts / counts.sum())


def resolve_class_weight(class_weight: Any, classes: NDArray, frequencies: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return a weight for each class (K,), or None. "balanced" is 1 / (K frequency), as in scikit-learn."""
    listed = classes.tolist()
    if class_weight is None:
        return None
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"class_weight is {class_weight!r}; it takes {_WEIGHT_FORMS}")
        return np.divide(1.0, len(listed) * frequencies, out=np.zeros(len(listed)), where=frequencies > 0)
    if isinstance(class_weight, Mapping):
        if set(class_weight) != set(listed):
            raise ValueError(f"class_weight is for {sorted(class_weight)}; the masks hold {listed}: one weight for each")
        class_weight = [class_weight[value] for value in listed]
    weights = np.asarray(class_weight, np.float64)
    if weights.shape != (len(listed),) or not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError(f"class_weight is {class_weight!r}; for the classes {listed} it takes {_WEIGHT_FORMS}")
    return weights


_WEIGHT_FORMS = "None, 'balanced', {mask value: weight}, or one weight >= 0 a class, in sorted order"


def _given_classes(classes: Sequence[int], dtype: np.dtype) -> NDArray:
    values = np.unique(np.asarray(classes))
    if values.dtype.kind not in "bui" or len(values) < 2:
        raise ValueError(f"classes is {classes!r}; it takes two or more different whole numbers, the mask values that count")
    if dtype.kind == "b":
        return values
    info = np.iinfo(dtype)
    return values.astype(dtype) if info.min <= values.min() and values.max() <= info.max else values


def _count_values(masks: Sequence[NDArray]) -> dict[int, int]:
    """Return {value: number of pixels}, sorted by value."""
    counts: dict[int, int] = {}
    for mask in masks:
        for value, count in zip(*(a.tolist() for a in np.unique(mask, return_counts=True)), strict=True):
            counts[value] = counts.get(value, 0) + count
    return dict(sorted(counts.items()))


def _looks_resampled(values: NDArray, shares: NDArray[np.float64]) -> bool:
    """Tell whether several rare values lie between frequent ones: what JPEG and interpolation leave of 0 and 255.

    An honest rare class is one value, or a run of consecutive codes (0, 1, 2, ...) whatever its share.
    """
    frequent = np.flatnonzero(shares >= FREQUENT)
    if len(frequent) < 2 or int(values[-1]) - int(values[0]) < 2 * len(values):
        return False
    between = np.arange(frequent[0] + 1, frequent[-1])
    return int((shares[between] < RARE).sum()) >= MIN_RARE


def _suspicion(values: NDArray, shares: NDArray[np.float64]) -> str:
    """Return the refusal: a histogram of the most frequent values, the likely causes, the remedy."""
    order = np.argsort(-shares, kind="stable")
    histogram = ", ".join(f"{values[i]}: {shares[i]:.2%}" for i in order[:8])
    more = f", and {len(values) - 8} more" if len(values) > 8 else ""
    largest = sorted(values[order[:2]].tolist())
    return (
        f"the masks hold {len(values)} different values ({histogram}{more}). Classes would be few and each frequent. "
        "Likely causes: masks saved as JPEG (its artefacts lie between the true values), masks resized with "
        "interpolation, or instance labels (one number an object). "
        f"fit(x, y, classes={largest}) takes each pixel for the nearest of these values; list those that you mean."
    )
