"""Scores of a segmentation, from counts pooled over all pixels of all images.

truth and prediction are arrays of one shape, or lists of arrays (images of different sizes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import require


def confusion_matrix(truth: Any, prediction: Any, classes: Sequence[int] | None = None, weights: Any = None) -> NDArray:
    """Return the number of pixels of class i that were predicted as class j: (K, K). classes: sorted values, K of them.

    weights : how often each pixel counts, in the form of truth: sums of float64 instead of numbers of pixels.
    """
    t, p = _pixels(truth, prediction)
    counts = None if weights is None else _pixels(truth, weights, "weights")[1]
    values = np.union1d(t, p) if classes is None else np.asarray(classes)
    order = np.argsort(values)
    rows, cols = (_places(a, values, order) for a in (t, p))
    return np.bincount(rows * len(values) + cols, counts, minlength=len(values) ** 2).reshape(len(values), len(values))


def pixel_error(truth: Any, prediction: Any) -> float:
    """Return the share of pixels whose prediction is not the truth."""
    t, p = _pixels(truth, prediction)
    return float((t != p).mean())


def dice(truth: Any, prediction: Any, classes: Sequence[int] | None = None, weights: Any = None) -> NDArray[np.float64]:
    """Return 2 |A and B| / (|A| + |B|) for each class; NaN where it is in neither. weights : of `confusion_matrix`."""
    return dice_of(confusion_matrix(truth, prediction, classes, weights))


def dice_of(counts: NDArray) -> NDArray[np.float64]:
    """Return `dice` of a confusion matrix (K, K)."""
    return _ratio(2 * np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1))


def iou(truth: Any, prediction: Any, classes: Sequence[int] | None = None) -> NDArray[np.float64]:
    """Return |A and B| / |A or B| for each class; NaN where it is in neither."""
    counts = confusion_matrix(truth, prediction, classes)
    both = np.diag(counts)
    return _ratio(both, counts.sum(axis=0) + counts.sum(axis=1) - both)


def segments(mask: NDArray) -> NDArray[np.int32]:
    """Number the 4-connected components of the non-zero pixels from 1: a membrane mask's cells, say. 0 stays 0."""
    from scipy import ndimage  # here: it takes as long to import as all else that loading a model does

    return np.asarray(ndimage.label(np.asarray(mask) != 0)[0], np.int32)


def adapted_rand_error(truth: NDArray, prediction: NDArray) -> float:
    """Return 1 - F, F the harmonic mean of the Rand index's precision and recall; pixels of truth 0 do not count.

    truth and prediction number the segments of one image. Where S is the pairs of pixels that a labelling puts
    together, recall = |S_truth and S_prediction| / |S_truth|, precision the same over |S_prediction|; a pixel predicted
    as 0 is together with none. Arganda-Carreras et al. 2015, section 2.2, "foreground-restricted".
    """
    t, p = _pixels(truth, prediction)
    p, t = p[t != 0], t[t != 0]
    if not t.size:
        raise ValueError("truth is 0 everywhere: there is no segment to compare with")
    (_, i), (found, j) = (np.unique(a, return_inverse=True) for a in (t, p))
    _, joint = np.unique((i * len(found) + j)[p != 0], return_counts=True)  # one number for each pair of segments
    of_truth, of_prediction = (_pairs(np.unique(a, return_counts=True)[1]) for a in (t, p[p != 0]))
    together = _pairs(joint)
    return 1 - 2 * together / (of_truth + of_prediction) if of_truth + of_prediction else 0.0


def _pairs(sizes: NDArray[np.integer]) -> float:
    """Return the number of ordered pairs within segments of these sizes."""
    return float((sizes.astype(np.float64) * (sizes - 1)).sum())


def _pixels(truth: Any, prediction: Any, called: str = "prediction") -> tuple[NDArray, NDArray]:
    """Return all pixels of both, each as one flat array."""
    listed = isinstance(truth, (list, tuple))
    require(not listed or len(truth) > 0, "truth", "an empty list", "an array, or a list of one at least")
    alike = not listed or (isinstance(prediction, (list, tuple, np.ndarray)) and len(prediction) == len(truth))
    require(alike, called, f"of another length than the {len(truth) if listed else 1} of truth", "one array for each")
    pairs = zip(truth, prediction, strict=True) if listed else [(truth, prediction)]
    arrays = [(np.asarray(t), np.asarray(p)) for t, p in pairs]
    for i, (t, p) in enumerate(arrays):
        for name, a in (("truth", t), (called, p)):
            require(a.dtype.kind in "buif", f"{name} {i}", f"of dtype {a.dtype}", "numbers")
        if t.shape != p.shape:
            raise ValueError(f"{called} {i} has shape {p.shape}; it takes its truth's, {t.shape}")
    return np.concatenate([t.ravel() for t, _ in arrays]), np.concatenate([p.ravel() for _, p in arrays])


def _places(a: NDArray, values: NDArray, order: NDArray[np.intp]) -> NDArray[np.intp]:
    found = order[np.clip(np.searchsorted(values, a, sorter=order), 0, len(values) - 1)]
    if not (values[found] == a).all():
        raise ValueError(f"a pixel has the value {a[values[found] != a][0]}; the classes are {values.tolist()}")
    return found


def _ratio(part: NDArray, whole: NDArray) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
