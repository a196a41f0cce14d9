"""Mask values to class indices and back, and what makes a mask suspicious."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import shown

MAX_CLASSES = 20
FREQUENT = 0.05  # a value with this share of the pixels is certainly meant ...
SOLID = 0.5  # ... and one that has this share of its pixels in 2 x 2 squares of its own: it forms regions
MANY = 2**16  # values from the least to the largest, up to which pixels are counted by value rather than sorted
MIN_SUSPECTS = 2  # one thin class between two others (a drawn contour) is honest; several are what interpolation leaves
HERE, IN_SQUARE, ALIKE = map(np.uint8, (1, 2, 4))  # bits: what a pixel is counted for
N_KINDS = 8

Weights = Sequence[NDArray | None]


class ClassesError(ValueError):
    """Raised where mask values cannot be classes: what is wrong with them, and the classes that may have been meant."""

    def __init__(self, problem: str, likely: list[int]) -> None:
        super().__init__(
            f"{problem} fit(x, y, classes={likely}) takes each pixel for the nearest of these values; list those that you mean."
        )
        self.problem, self.likely = problem, likely


@dataclass(frozen=True)
class Codes:
    """What a mask (H, W) says value by value, without its pixels: arrays of one number a value, in rising order of the values.

    solid : pixels that lie in a 2 x 2 square of their value. Nearly all of what somebody drew, however rare; few of what JPEG
        and interpolation leave along borders, where each pixel differs from the next.
    alike : pixels whose left neighbour has their value.
    """

    dtype: np.dtype
    values: NDArray
    counts: NDArray[np.int64]
    solid: NDArray[np.int64]
    alike: NDArray[np.int64]


def codes_of(mask: NDArray, weight: NDArray | None = None) -> Codes:
    """Look at a mask (H, W); a pixel of weight 0 is unlabelled, and its value counts for nothing."""
    values, index = _indexed(mask)
    bits = IN_SQUARE * _in_squares(mask) + (HERE if weight is None else HERE * (weight > 0))
    bits[:, 1:] += ALIKE * (mask[:, 1:] == mask[:, :-1])
    table = np.bincount((N_KINDS * index + bits).ravel(), minlength=N_KINDS * len(values)).reshape(-1, N_KINDS)
    holds = np.arange(N_KINDS)
    counts, solid, alike = (table[:, holds & bit == bit].sum(axis=1) for bit in (HERE, HERE + IN_SQUARE, HERE + ALIKE))
    there = counts > 0
    return Codes(mask.dtype, values[there], counts[there], solid[there], alike[there])


def learn_classes(masks: Sequence[NDArray], weights: Weights = (), *, classes: Sequence[int] | None = None) -> NDArray:
    """Return the sorted values of the masks; with `classes`, those. ValueError where they cannot be classes.

    weights : for each mask (H, W) or None; a pixel of weight 0 is unlabelled, and its value counts for nothing.
    Bool masks give bool classes; masks of several dtypes, a dtype that holds them all.
    """
    given = weights or [None] * len(masks)
    return classes_of([codes_of(mask, weight) for mask, weight in zip(masks, given, strict=True)], classes)


def classes_of(found: Sequence[Codes], classes: Sequence[int] | None = None) -> NDArray:
    """Return what `learn_classes` does, of masks that were looked at one by one."""
    dtype = np.result_type(*{codes.dtype for codes in found})
    counts = total(found)
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
    solidity = np.array(list(total(found, "solid").values())) / list(counts.values())
    if len(values) > MAX_CLASSES or _are_spread(values):
        meant = (shares >= FREQUENT) | (solidity >= SOLID)
        if len(values) > MAX_CLASSES or _count_suspects(meant) >= MIN_SUSPECTS:
            raise _suspicion(values, shares, meant)
    return values


def total(found: Sequence[Codes], what: str = "counts") -> dict[int, int]:
    """Return {value: pixels} of all masks together, sorted by value; or another of the numbers of Codes."""
    sums: dict[int, int] = {}
    for codes in found:
        for value, number in zip(codes.values.tolist(), getattr(codes, what).tolist(), strict=True):
            sums[value] = sums.get(value, 0) + number
    return dict(sorted(sums.items()))


def form_regions(found: Sequence[Codes]) -> bool:
    """Tell whether nearly every value has most of its pixels beside one of the same value, as objects' numbers have."""
    counts, alike = total(found), total(found, "alike")
    return sum(alike[value] >= SOLID * count for value, count in counts.items()) >= 0.9 * len(counts)


def _indexed(mask: NDArray) -> tuple[NDArray, NDArray[np.intp]]:
    """Return values in rising order, all that occur among them, and each pixel's place in them."""
    low, high = mask.min(), mask.max()
    span = int(high) - int(low)
    if mask.dtype.kind == "b" or span >= MANY:
        values, index = np.unique(mask, return_inverse=True)
        return values, index.reshape(mask.shape)
    values = np.array([int(low) + i for i in range(span + 1)], mask.dtype)
    return values, (mask - low).view(f"u{mask.dtype.itemsize}").astype(np.intp)  # which is right if the difference wrapped


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
    if hasattr(class_weight, "to_dict"):  # pandas' Series: its index tells the values, in any order
        class_weight = class_weight.to_dict()
    if isinstance(class_weight, Mapping):
        if set(class_weight) != set(listed):
            raise ValueError(f"class_weight is for {shown(list(class_weight))}; {_one_for_each(classes)}")
        class_weight = [class_weight[value] for value in listed]
    try:
        weights = np.asarray(class_weight, np.float64)
    except (TypeError, ValueError, OverflowError):
        weights = np.empty(0)  # no numbers: refused below
    with np.errstate(over="ignore"):  # what exceeds float32 is infinite there, and refused as such
        finite = np.isfinite(weights.astype(np.float32)).all()
    if weights.shape != (len(listed),) or not (finite and (weights >= 0).all() and weights.any()):
        raise ValueError(f"class_weight is {shown(class_weight)}; it takes {_WEIGHT_FORMS}; {_one_for_each(classes)}")
    return weights


def _one_for_each(classes: NDArray) -> str:
    """Return what weights by mask value would be of these classes, in Python and on the command line."""
    numbers = [int(value) for value in classes.tolist()]
    bits = " (1 bit a pixel)" if classes.dtype.kind == "b" else ""
    flag = ",".join(f"{number}=1" for number in numbers)
    return f"the masks hold {numbers}{bits}: one weight for each, as in {dict.fromkeys(numbers, 1)} (--class-weight {flag})"


_WEIGHT_FORMS = "None, 'balanced', {mask value: weight}, or one weight >= 0 a class, in sorted order, not all 0"


def given_classes(classes: Sequence[int]) -> NDArray:
    """Return the classes that `fit` was given, in rising order; ValueError where they cannot be."""
    values = np.unique(np.asarray(classes))
    if values.dtype.kind not in "bui" or len(values) < 2:
        raise ValueError(f"classes is {shown(classes)}; it takes two or more different whole numbers, the mask values that count")
    return values


def _given_classes(classes: Sequence[int], dtype: np.dtype, counts: dict[int, int]) -> NDArray:
    values = given_classes(classes)
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
