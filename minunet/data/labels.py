"""Mask values to class indices and back, and what makes a mask suspicious."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import shown

MAX_CLASSES = 20
FREQUENT = 0.05  # a value with this share of the pixels is certainly meant ...
SOLID = 0.5  # ... and one that has this share of its pixels in 2 x 2 squares of its own: it forms regions
MIN_SUSPECTS = 2  # one thin class between two others (a drawn contour) is honest; several are what interpolation leaves

Weights = Sequence[NDArray | None]


class ClassesError(ValueError):
    """Raised where mask values cannot be classes: what is wrong with them, and the classes that may have been meant."""

    def __init__(self, problem: str, likely: list[int]) -> None:
        super().__init__(
            f"{problem} fit(x, y, classes={likely}) takes each pixel for the nearest of these values; list those that you mean."
        )
        self.problem, self.likely = problem, likely


def learn_classes(masks: Sequence[NDArray], weights: Weights = (), *, classes: Sequence[int] | None = None) -> NDArray:
    """Return the sorted values of the masks; with `classes`, those. ValueError where they cannot be classes.

    weights : for each mask (H, W) or None; a pixel of weight 0 is unlabelled, and its value counts for nothing.
    Bool masks give bool classes; masks of several dtypes, a dtype that holds them all.
    """
    dtype = np.result_type(*{mask.dtype for mask in masks})
    labelled = _labelled(masks, weights)
    counts = count_values([mask[here] for mask, here in zip(masks, labelled, strict=True)])
    if classes is not None:
        return _given_classes(classes, dtype, counts)
    if dtype.kind == "f":  # what NumPy makes of int64 and uint64 together
        dtype = np.dtype(np.int64 if max(counts) <= np.iinfo(np.int64).max else np.uint64)
    values = np.array(list(counts), dtype)
    if len(values) == 1:
        raise ValueError(
            f"all masks hold only the value {values[0]}: one class, so there is nothing to learn. "
            "Each class needs at least one pixel somewhere."
        )
    shares = np.array(list(counts.values())) / sum(counts.values())
    if len(values) > MAX_CLASSES or _are_spread(values):
        meant = (shares >= FREQUENT) | (_solidity(masks, labelled, counts) >= SOLID)
        if len(values) > MAX_CLASSES or _count_suspects(meant) >= MIN_SUSPECTS:
            raise _suspicion(values, shares, meant)
    return values


def encode(mask: NDArray, classes: NDArray) -> NDArray[np.int32]:
    """Return each pixel's index in the sorted classes: that of the nearest, the lower one of two equally near."""
    mask, classes = (a.astype(np.uint8) if a.dtype.kind == "b" else a for a in (mask, classes))
    above = np.clip(np.searchsorted(classes, mask), 1, len(classes) - 1)
    low, high = classes[above - 1], classes[above]
    nearer_low = mask.astype(np.float64) - low <= high - mask.astype(np.float64)
    return np.where(nearer_low & (mask != high), above - 1, above).astype(np.int32)


def require_known(masks: Sequence[NDArray], classes: NDArray, name: str = "y") -> None:
    """Refuse mask values that are not among a model's classes: the nearest class would be a guess."""
    unknown = sorted(set(count_values(masks)) - set(classes.tolist()))
    if unknown:
        more = f" and {len(unknown) - 8} more values" if len(unknown) > 8 else ""
        raise ValueError(
            f"{name} holds {', '.join(map(str, unknown[:8]))}{more}, unknown to this model, whose classes are "
            f"{classes.tolist()}. Masks take the values that it was trained on"
        )


def decode(indices: NDArray[np.integer], classes: NDArray) -> NDArray:
    """Return each pixel's mask value, in the masks' dtype."""
    return classes[indices]


def class_frequencies(labels: Sequence[NDArray[np.integer]], n_classes: int, weights: Weights = ()) -> NDArray[np.float64]:
    """Return each class's share of all pixels of a weight above 0: (K,)."""
    labelled = zip(labels, _labelled(labels, weights), strict=True)
    counts = np.sum([np.bincount(label[here], minlength=n_classes) for label, here in labelled], axis=0)
    return np.asarray(counts / counts.sum())


def _labelled(masks: Sequence[NDArray], weights: Weights) -> list[NDArray[np.bool_]]:
    """Return where each mask counts: everywhere, where it has no weights."""
    given = weights or [None] * len(masks)
    return [np.ones(mask.shape, bool) if w is None else w > 0 for mask, w in zip(masks, given, strict=True)]


def resolve_class_weight(class_weight: Any, classes: NDArray, frequencies: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return a weight for each class (K,), or None. "balanced" is 1 / (K frequency), as in scikit-learn."""
    listed = classes.tolist()
    if class_weight is None:
        return None
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"class_weight is {shown(class_weight)}; it takes {_WEIGHT_FORMS}")
        return np.divide(1.0, len(listed) * frequencies, out=np.zeros(len(listed)), where=frequencies > 0)
    if isinstance(class_weight, Mapping):
        if set(class_weight) != set(listed):
            raise ValueError(f"class_weight is for {list(class_weight)}; the masks hold {listed}: one weight for each")
        class_weight = [class_weight[value] for value in listed]
    try:
        weights = np.asarray(class_weight, np.float64)
    except (TypeError, ValueError, OverflowError):
        weights = np.empty(0)  # no numbers: refused below
    with np.errstate(over="ignore"):  # what exceeds float32 is infinite there, and refused as such
        finite = np.isfinite(weights.astype(np.float32)).all()
    if weights.shape != (len(listed),) or not (finite and (weights >= 0).all() and weights.any()):
        raise ValueError(f"class_weight is {shown(class_weight)}; for the classes {listed} it takes {_WEIGHT_FORMS}")
    return weights


_WEIGHT_FORMS = "None, 'balanced', {mask value: weight}, or one weight >= 0 a class, in sorted order"


def _given_classes(classes: Sequence[int], dtype: np.dtype, counts: dict[int, int]) -> NDArray:
    values = np.unique(np.asarray(classes))
    if values.dtype.kind not in "bui" or len(values) < 2:
        raise ValueError(f"classes is {shown(classes)}; it takes two or more different whole numbers, the mask values that count")
    found = np.array(list(counts))
    nearest = values[np.unique(encode(found, values))]
    if len(nearest) == 1:
        given = str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"
        raise ValueError(
            f"classes is {values.tolist()}, but all masks hold {given}, nearest to {nearest[0]}: one class, so there is "
            "nothing to learn. It takes values that the masks hold."
        )
    if dtype.kind not in "ui":
        return values
    info = np.iinfo(dtype)
    return values.astype(dtype) if info.min <= values.min() and values.max() <= info.max else values


def count_values(masks: Sequence[NDArray]) -> dict[int, int]:
    """Return {value: number of pixels}, sorted by value."""
    counts: dict[int, int] = {}
    for mask in masks:
        for value, count in zip(*(a.tolist() for a in np.unique(mask, return_counts=True)), strict=True):
            counts[value] = counts.get(value, 0) + count
    return dict(sorted(counts.items()))


def _are_spread(values: NDArray) -> bool:
    """Tell whether the values are unlike numbered classes: 0, 1, 2, ..., with small gaps, and perhaps a last one, 255."""
    return int(values[-2]) - int(values[0]) >= 2 * (len(values) - 1)


def _solidity(masks: Sequence[NDArray], labelled: Sequence[NDArray], counts: dict[int, int]) -> NDArray[np.float64]:
    """Return for each value the share of its pixels that lie in a 2 x 2 square of that value.

    Near 1 for what somebody drew, however rare; near 0 for most of what JPEG and interpolation leave along borders,
    where each pixel differs from the next.
    """
    solid = count_values([mask[_in_squares(mask) & here] for mask, here in zip(masks, labelled, strict=True)])
    return np.array([solid.get(value, 0) / count for value, count in counts.items()])


def _in_squares(mask: NDArray) -> NDArray[np.bool_]:
    (h, w), mask = mask.shape, np.pad(mask, [(0, int(side == 1)) for side in mask.shape], mode="edge")  # one row: its runs
    corner = mask[:-1, :-1]
    square = (corner == mask[1:, :-1]) & (corner == mask[:-1, 1:]) & (corner == mask[1:, 1:])
    square = np.pad(square, 1)  # of the four that a pixel is in, any
    return (square[1:, 1:] | square[1:, :-1] | square[:-1, 1:] | square[:-1, :-1])[:h, :w]


def _count_suspects(meant: NDArray[np.bool_]) -> int:
    """Return how many values lie between values that are meant without being meant themselves."""
    places = np.flatnonzero(meant)
    return int((~meant[places[0] : places[-1]]).sum()) if len(places) else 0


def _suspicion(values: NDArray, shares: NDArray[np.float64], meant: NDArray[np.bool_]) -> ClassesError:
    """Return the refusal: a histogram of the most frequent values, the likely causes, the remedy."""
    order = np.argsort(-shares, kind="stable")
    histogram = ", ".join(f"{values[i]}: {shares[i]:.2%}" for i in order[:8])
    more = f", and {len(values) - 8} more" if len(values) > 8 else ""
    problem = (
        f"the masks hold {len(values)} different values ({histogram}{more}). Classes would be few and form regions. "
        "Likely causes: masks saved as JPEG (its artefacts lie between the true values), masks resized with "
        "interpolation, or instance labels (one number an object; y > 0 makes two classes of them)."
    )
    return ClassesError(problem, _likely_classes(values[order], meant[order]))


def _likely_classes(values: NDArray, meant: NDArray[np.bool_]) -> list[int]:
    """Return what the classes may have been: of values by falling share, those that are meant and lie far apart."""
    apart = (int(values.max()) - int(values.min())) / 10
    kept: list[int] = []
    for value in [*values[meant].tolist(), *values.tolist()]:
        if all(abs(value - other) > apart for other in kept) and (len(kept) < 2 or value in values[meant]):
            kept.append(value)
    return sorted(kept)
