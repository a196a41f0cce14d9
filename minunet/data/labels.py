"""Mask values to class indices and back, and what makes a mask suspicious."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import is_whole, shown
from .codes import SOLID, Codes, codes_of, form_regions, total
from .contradictions import INSTANCES, Class, Doubt, objects, told, two_codes, word
from .rare import class_counts

MAX_CLASSES = 22  # PASCAL VOC's 20 kinds of objects, the ground, and what is left open
FREQUENT = 0.05  # a value with this share of the pixels is certainly meant; one that forms regions is, too
MIN_SUSPECTS = 2  # one thin class between two others (a drawn contour) is honest; several are what interpolation leaves

Classes = Sequence[Class]
Weights = Sequence[NDArray | None]


class ClassesError(ValueError):
    """Raised where mask values cannot be classes: what is wrong with them, and the classes that may have been meant."""

    def __init__(self, problem: str, likely: list[Class], does: str) -> None:
        super().__init__(f"{problem} {told(likely)} {does}." if likely else problem)
        self.problem, self.likely = problem, likely


def classes_of(found: Sequence[Codes], classes: Classes | None = None) -> NDArray:
    """Return the sorted values of the masks; with `classes`, those. ValueError where they cannot be classes.

    Bool masks give bool classes; masks of several dtypes, a dtype that holds them all.
    """
    dtype = np.result_type(*{codes.dtype for codes in found})
    counts = total(found)
    if classes is not None:
        return _given_classes(classes, dtype, found)
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
            are_objects = len(values) > MAX_CLASSES and values[0] == 0 and form_regions(found)
            raise _suspicion(values, shares, meant, are_objects)
    for doubt in _doubts(found):
        if doubt.certain:
            raise ClassesError(doubt.problem, doubt.likely, doubt.does)
    return values


def doubts(found: Sequence[Codes], classes: Classes | None = None) -> list[str]:
    """Return what `fit` warns of in masks whose values `classes_of` has taken for classes: sentences with their remedies."""
    if classes is not None:
        return []
    return [f"{doubt.problem} {told(doubt.likely)} {doubt.does}" for doubt in _doubts(found)]


def _doubts(found: Sequence[Codes]) -> list[Doubt]:
    return [doubt for doubt in (two_codes(found), objects(found)) if doubt]


def with_model(
    found: Sequence[Codes], classes: Classes | None, known: NDArray, joined: Mapping[int, int], *, snap: bool
) -> tuple[list[Codes], Classes | None]:
    """Return masks with a model's classes as one more, and the classes to be given, where it is gone on with on these masks.

    snap : whether the model's classes were given, so that each value is taken for the nearest of them.
    """
    square = known.repeat(2)[None].repeat(2, axis=0)  # in which each class forms a region
    own: list[Class] = [(value, *(v for v, name in joined.items() if name == value)) for value in known.astype(int).tolist()]
    given = [*own, *(classes or ())] if classes is not None or snap else None
    return [*found, codes_of(square, name="the model")], given


def encode(mask: NDArray, classes: NDArray, joined: Mapping[int, int] | None = None) -> NDArray[np.int32]:
    """Return each pixel's index in the sorted classes: that of the nearest, the lower one of two equally near.

    joined : of further values, the class that each is one with; they are as near as a class's own.
    """
    if joined:
        listed = np.array(sorted([*classes.tolist(), *joined]))
        places = np.searchsorted(classes, [joined.get(value, value) for value in listed.tolist()])
        return places.astype(np.int32)[encode(mask, listed)]
    mask, classes = (a.astype(np.uint8) if a.dtype.kind == "b" else a for a in (mask, classes))
    above = np.clip(np.searchsorted(classes, mask), 1, len(classes) - 1)
    low, high = classes[above - 1], classes[above]
    nearer_low = mask.astype(np.float64) - low <= high - mask.astype(np.float64)
    return np.where(nearer_low & (mask != high), above - 1, above).astype(np.int32)


def pixels_of(codes: Codes, classes: NDArray, joined: Mapping[int, int] | None = None) -> NDArray[np.int64]:
    """Return how many pixels of a mask each class gets (K,)."""
    pixels = np.zeros(len(classes), np.int64)
    np.add.at(pixels, encode(codes.values, classes, joined), codes.counts)
    return pixels


def require_known(masks: Sequence[NDArray], classes: NDArray, name: str = "y") -> None:
    """Refuse mask values that are not among a model's classes: the nearest class would be a guess."""
    unknown = sorted(set(count_values(masks)) - set(classes.tolist()))
    if unknown:
        more = f" and {len(unknown) - 8} more values" if len(unknown) > 8 else ""
        raise ValueError(
            f"{name} holds {', '.join(map(str, unknown[:8]))}{more}, unknown to this model, whose classes are "
            f"{classes.tolist()}. Masks take the values that it was trained on"
        )


def require_same_code(found: Sequence[Codes], classes: NDArray, joined: Mapping[int, int]) -> None:
    """Refuse masks that are written in another way than a model's classes, so that each value's nearest is not what it means."""
    if misread := _misread(_beside(found, classes, joined), classes, joined):
        doubt, value = misread
        raise ValueError(
            f"{doubt.problem} Nearest to {value} is another class; masks take the values that it was trained on, and `minunet "
            f"evaluate` takes --classes {' '.join(map(word, joining(found, classes)))}"
        )


def joining(found: Sequence[Codes], classes: NDArray) -> list[Class]:
    """Return a model's classes with the masks' values joined to them, where those are written in another way."""
    misread = _misread(_beside(found, classes, {}), classes, {})
    roles = [role if isinstance(role, tuple) else (role,) for role in misread[0].likely] if misread else []
    others = {own: [v for v in role if v != own] for own in classes.astype(int).tolist() for role in roles if own in role}
    return [(own, *others[own]) if others.get(own) else own for own in classes.astype(int).tolist()]


def _beside(found: Sequence[Codes], classes: NDArray, joined: Mapping[int, int]) -> list[Codes]:
    """Return the codes of masks, and of the model's classes before them."""
    return [codes_of(np.array([sorted({*classes.tolist(), *joined})]), name="this model"), *found]


def decode(indices: NDArray[np.integer], classes: NDArray) -> NDArray:
    """Return each pixel's mask value, in the masks' dtype."""
    return classes[indices]


def class_frequencies(labels: Sequence[NDArray[np.integer]], n_classes: int, weights: Weights = ()) -> NDArray[np.float64]:
    """Return each class's share of all pixels of a weight above 0: (K,)."""
    labelled = zip(labels, weights or [None] * len(labels), strict=True)
    counts = np.sum([class_counts(label, weight, n_classes) for label, weight in labelled], axis=0)
    return np.asarray(counts / counts.sum())


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
        texts = np.asarray(class_weight).dtype.kind in "US"  # of which NumPy would make numbers, too
        weights = np.empty(0) if texts else np.asarray(class_weight, np.float64)
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


def given_classes(classes: Classes) -> tuple[NDArray, dict[int, int]]:
    """Return the classes that `fit` was given, in rising order, and of each value that is joined to one, that one.

    ValueError where they cannot be classes.
    """
    items = list(classes) if np.iterable(classes) and not isinstance(classes, (str, bytes)) else []
    groups = [list(item) if np.iterable(item) and not isinstance(item, (str, bytes)) else [item] for item in items]
    numbers = all(is_whole(value) or isinstance(value, (bool, np.bool_)) for group in groups for value in group)
    if not (all(groups) and numbers and len({group[0] for group in groups}) > 1):
        raise ValueError(
            f"classes is {shown(classes)}; it takes two or more different whole numbers, the mask values that count, or of a "
            "class that has several a tuple, as in [0, (255, 1)] (--classes 0 255,1)"
        )
    names: dict[int, int] = {}
    for value, name in ((int(value), int(group[0])) for group in groups for value in group):
        if names.setdefault(value, name) != name:
            raise ValueError(f"classes is {shown(classes)}, in which {value} is in two classes; it takes each value once")
    return np.unique([group[0] for group in groups]), {value: name for value, name in names.items() if value != name}


def _given_classes(classes: Classes, dtype: np.dtype, found: Sequence[Codes]) -> NDArray:
    values, joined = given_classes(classes)
    held = np.array(list(total(found)))
    nearest = values[np.unique(encode(held, values, joined))]
    if len(nearest) == 1:
        given = str(held[0]) if len(held) == 1 else f"{held[0]} to {held[-1]}"
        raise ValueError(
            f"classes is {values.tolist()}, but all masks hold {given}, nearest to {nearest[0]}: one class, so there is "
            "nothing to learn. It takes values that the masks hold."
        )
    if misread := _misread(found, values, joined):
        doubt, value = misread
        raise ClassesError(f"{doubt.problem} Nearest to {value} is another class.", doubt.likely, doubt.does)
    if dtype.kind not in "ui":
        return values
    info = np.iinfo(dtype)
    return values.astype(dtype) if info.min <= values.min() and values.max() <= info.max else values


def _misread(found: Sequence[Codes], values: NDArray, joined: Mapping[int, int]) -> tuple[Doubt, int] | None:
    """Return the value of one of two ways in which masks are written that these classes would silently make another class of."""
    doubt = two_codes(found)
    if doubt is None or not doubt.certain:
        return None
    for role in (item for item in doubt.likely if isinstance(item, tuple)):
        unlisted = [value for value in role if value not in joined and value not in values]
        if unlisted and len(set(encode(np.array(role), values, joined).tolist())) > 1:
            return doubt, unlisted[0]
    return None


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


def _count_suspects(meant: NDArray[np.bool_]) -> int:
    """Return how many values lie between values that are meant without being meant themselves."""
    places = np.flatnonzero(meant)
    return int((~meant[places[0] : places[-1]]).sum()) if len(places) else 0


def _suspicion(values: NDArray, shares: NDArray[np.float64], meant: NDArray[np.bool_], are_objects: bool) -> ClassesError:
    """Return the refusal: a histogram of the most frequent values, the likely causes, the remedy."""
    order = np.argsort(-shares, kind="stable")
    histogram = ", ".join(f"{values[i]}: {shares[i]:.2%}" for i in order[:8])
    more = f", and {len(values) - 8} more" if len(values) > 8 else ""
    problem = (
        f"the masks hold {len(values)} different values ({histogram}{more}). Classes would be few and form regions. "
        "Likely causes: masks saved as JPEG (its artefacts lie between the true values), masks resized with "
        f"interpolation, or {INSTANCES}."
    )
    if are_objects:  # 1 is the nearest to each object's number
        return ClassesError(problem, [0, 1], "makes one class of all objects")
    does = "takes each pixel for the nearest of these values; list those that you mean"
    return ClassesError(problem, list(_likely_classes(values[order], meant[order])), does)


def _likely_classes(values: NDArray, meant: NDArray[np.bool_]) -> list[int]:
    """Return what the classes may have been: of values by falling share, those that are meant and lie far apart."""
    apart = (int(values.max()) - int(values.min())) / 10
    kept: list[int] = []
    for value in [*values[meant].tolist(), *values.tolist()]:
        if all(abs(value - other) > apart for other in kept) and (len(kept) < 2 or value in values[meant]):
            kept.append(value)
    return sorted(kept)
