"""The weights of the 2015 paper's equation 2: narrow gaps between objects count more, so that touching ones are kept apart."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import is_number, require, shown
from .mistakes import arrays_in, as_array
from .sampling import Example

W0, SIGMA = 10.0, 5.0  # the paper's; pixels
ROWS = 512  # whose distances are in memory at a time: 50 bytes a pixel
REACH = 4.0  # sigmas: where d1 + d2 is more, the term is below w0 exp(-8), a 3000th of w0, and taken for 0
FORMS = "H x W, N x H x W or a list of masks H x W, from 1 x 1 up"
PAIR = "a pair of numbers (w0, sigma), w0 from 0 up and sigma above 0"


def border_weight_map(mask: Any, *, w0: float = W0, sigma: float = SIGMA, instances: bool = False) -> Any:
    """Return w0 exp(-(d1 + d2)^2 / (2 sigma^2)) at each pixel of the background, and 0 in objects: float32, in the mask's form.

    d1 and d2 are the distances in pixels to the nearest and to the second nearest object, between the centres of pixels: in a gap
    of one pixel both are 1. With fewer than two objects all is 0, and so it is where d1 + d2 > 4 sigma: there the term is less
    than 0.0004 w0. Added to a pixel's class weight, it is equation 2 of Ronneberger et al. 2015, which weighs the gaps that
    separate; objects have their class weight alone.

    mask : H x W, N x H x W or a list of masks, whole numbers. The lowest of all values is the background; an object is what is
        connected (by sides) of one other value, be it a class or an object's number.
    instances : True, where a value is an object's number and 0 the background: then all of one value is one object, in however
        many pieces.
    """
    _check_setting((w0, sigma), "w0 and sigma are {}; they take {}")
    require(isinstance(instances, (bool, np.bool_)), "instances", shown(instances), "True or False")
    given = arrays_in(mask, "mask")
    several = isinstance(given, list) or given.ndim == 3
    masks = [_read(m, f"mask[{i}]" if several else "mask") for i, m in enumerate(given if several else [given])]
    require(len(masks) > 0, "mask", "without masks", FORMS)
    ground = 0 if instances else min(int(m.min()) for m in masks)
    maps = [_term(_numbered(m, ground) if instances else _pieces(m, ground), w0, sigma) for m in masks]
    return maps if isinstance(given, list) else np.stack(maps) if several else maps[0]


def setting(border_weight: Any) -> tuple[float, float] | None:
    """Return w0 and sigma of what UNet(border_weight=...) was given, None for None; ValueError where it cannot be meant."""
    if border_weight is None:
        return None
    if border_weight is True or (isinstance(border_weight, np.bool_) and border_weight):
        return W0, SIGMA
    takes = "it takes None, True for the paper's (10, 5), or {} (--border-weight 10,5)"
    _check_setting(border_weight, f"border_weight is {{}}; {takes}")
    return float(border_weight[0]), float(border_weight[1])


def weighed(example: Example, border: tuple[float, float], class_weight: NDArray[np.float64] | None) -> Example:
    """Return an example with weights which, times its pixels' class weights, are (class weight + border term) times its own.

    Its objects are what is connected of a class other than the first; pixels of weight 0 are of none. A class that has no weight
    keeps none.
    """
    counted = example.label if example.weight is None else np.where(example.weight > 0, example.label, 0)
    term = _term(_pieces(counted, 0), *border)
    if class_weight is not None:
        of_class = class_weight[example.label]
        term = np.divide(term, of_class, out=np.zeros_like(term), where=of_class > 0, casting="same_kind")
    return replace(example, weight=(1 + term) if example.weight is None else example.weight * (1 + term))


def _check_setting(pair: Any, text: str) -> None:
    listed = isinstance(pair, (tuple, list)) or (isinstance(pair, np.ndarray) and pair.ndim == 1)
    fits = listed and len(pair) == 2 and all(map(is_number, pair))
    if not (fits and 0 <= pair[0] < np.finfo(np.float32).max and 0 < pair[1] < math.inf):
        raise ValueError(text.format(shown(pair), PAIR))


def _read(mask: Any, name: str) -> NDArray:
    array = as_array(mask, name)
    require(array.ndim == 2 and array.size > 0, name, f"of shape {array.shape}", FORMS)
    whole = array.dtype.kind in "bui" or (array.dtype.kind == "f" and bool((array == np.rint(array)).all()))
    require(whole, name, f"of dtype {array.dtype}, not all whole numbers", "whole numbers: classes, or a number for each object")
    return array


def _numbered(mask: NDArray, ground: int) -> NDArray[np.int32]:
    """Number values from 1; the background is 0."""
    numbers: NDArray[np.int32] = np.unique(mask, return_inverse=True)[1].reshape(mask.shape).astype(np.int32) + 1
    return np.where(mask == ground, np.int32(0), numbers)


def _pieces(mask: NDArray, ground: int) -> NDArray[np.int32]:
    """Number from 1 what is connected by sides of one value other than the background, which is 0."""
    from scipy import ndimage  # here: it takes as long to import as all else that loading a model does

    n, numbers = 0, _numbered(mask, ground)
    boxes = ndimage.find_objects(numbers)
    for value, box in enumerate(boxes, start=1):
        if box is not None:
            here = numbers[box] == value
            pieces, more = ndimage.label(here)
            numbers[box] = np.where(here, -(pieces + n), numbers[box])  # below 0: no value that is still to come
            n += more
    return -numbers


def _term(objects: NDArray[np.int32], w0: float, sigma: float) -> NDArray[np.float32]:
    """Return the term for objects numbered from 1, 0 inside them: of some rows at a time, and of those that they can see."""
    found, see = np.zeros(objects.shape, np.float32), int(min(REACH * sigma, len(objects))) + 1
    for top in range(0, len(objects), ROWS):
        before = min(top, see)
        around = objects[top - before : top + ROWS + see]
        if (around > around[around > 0].min(initial=0x7FFFFFFF)).any():  # two objects, at least
            found[top : top + ROWS] = _term_of(around, w0, sigma)[before : before + ROWS]
    return found


def _term_of(objects: NDArray[np.int32], w0: float, sigma: float) -> NDArray[np.float32]:
    first, second = _two_distances(objects, REACH * sigma)
    both = first + second
    term = np.float32(w0) * np.exp(-(both**2) / np.float32(2 * sigma**2))
    return np.where((objects == 0) & (both <= REACH * sigma), term, np.float32(0))


def _two_distances(objects: NDArray[np.int32], reach: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return each pixel's distances to the nearest and the second nearest object; the latter up to `reach`, or more than that.

    The second nearest is, in some column, the nearest object or, where that is the pixel's nearest, the nearest other one: so of
    a column two are looked at, however many there are.
    """
    from scipy import ndimage

    first, (i, j) = ndimage.distance_transform_edt(objects == 0, return_indices=True)
    nearest, w = objects[i, j], objects.shape[1]
    second = np.full(objects.shape, np.inf, np.float32)  # squared
    d1, n1, d2 = _along_columns(objects)
    for step in range(-min(int(reach), w - 1), min(int(reach), w - 1) + 1):
        here, there = slice(max(0, -step), w - max(0, step)), slice(max(0, step), w - max(0, -step))
        other = np.where(n1[:, there] == nearest[:, here], d2[:, there], d1[:, there])
        np.minimum(second[:, here], other + np.float32(step**2), out=second[:, here])
    return first.astype(np.float32), np.sqrt(second)


def _along_columns(objects: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """Return each pixel's nearest object in its column: the squared distance, the number; and that distance to the next one."""
    d1, n1, d2, _ = _from_above(objects)
    below = [a[::-1] for a in _from_above(objects[::-1])]
    for d, n in (below[:2], below[2:]):
        same, closer = n == n1, d < d1
        d2 = np.where(same, d2, np.where(closer, d1, np.minimum(d2, d)))
        n1 = np.where(closer, n, n1)
        d1 = np.minimum(d1, d)
    return d1, n1, d2


def _from_above(objects: NDArray[np.int32]) -> list[NDArray]:
    """Return squared distance and number of the nearest object at or above each pixel, and of the next one."""
    found = [np.empty(objects.shape, dtype) for dtype in (np.float32, np.int32, np.float32, np.int32)]
    d1, d2 = (np.full(objects.shape[1], np.inf, np.float32) for _ in range(2))
    n1, n2 = (np.zeros(objects.shape[1], np.int32) for _ in range(2))
    for row, numbers in enumerate(objects):
        inside, d1, d2 = numbers != 0, d1 + 1, d2 + 1
        new = inside & (numbers != n1)
        d1, n1, d2, n2 = np.where(inside, 0, d1), np.where(new, numbers, n1), np.where(new, d1, d2), np.where(new, n1, n2)
        for array, values in zip(found, (d1**2, n1, d2**2, n2), strict=True):
            array[row] = values
    return found
