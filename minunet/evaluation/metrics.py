"""Scores of a segmentation, from counts pooled over all pixels of all images.

truth and prediction are arrays of one shape, or lists of arrays (images of different sizes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import is_number, is_whole, require
from .boundary import TOLERANCE, boundary_counts, boundary_f_of


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
    return iou_of(confusion_matrix(truth, prediction, classes))


def iou_of(counts: NDArray) -> NDArray[np.float64]:
    """Return `iou` of a confusion matrix (K, K)."""
    both = np.diag(counts)
    return _ratio(both, counts.sum(axis=0) + counts.sum(axis=1) - both)


def boundary_f(
    truth: Any, prediction: Any, tolerance: float = TOLERANCE, classes: Sequence[int] | None = None, weights: Any = None
) -> NDArray[np.float64]:
    """Return for each class the harmonic mean of the shares of its true and its predicted boundary that the other one meets.

    truth, prediction : masks (H, W), stacks of them (N, H, W), or lists. A pixel is on its class's boundary where one of its 4
    neighbours is of another class, and met where the other mask has such a pixel of that class within `tolerance`, in pixels
    (Euclidean). All images are pooled. NaN for a class without boundary in either. weights : in the form of truth; pixels of
    weight 0 are on no boundary, and make none. Csurka et al. 2013, section 2.2; Martin et al. 2004.
    """
    require(is_number(tolerance) and tolerance >= 0, "tolerance", tolerance, "a number of pixels from 0 up")
    t, p = _pixels(truth, prediction)
    counted = None if weights is None else _pixels(truth, weights, "weights")[1] > 0
    values = np.union1d(t[counted], p[counted]) if classes is None else np.asarray(classes)
    if counted is not None:  # where pixels do not count, any value may stand
        t, p = (np.where(counted, a, values[0] if len(values) else 0) for a in (t, p))
    order, start, found = np.argsort(values), 0, np.zeros((4, len(values)), np.int64)
    for array in truth if isinstance(truth, (list, tuple)) else [truth]:
        shape = np.shape(array)
        require(len(shape) > 1, "truth", f"of shape {shape}", "masks of (H, W): a boundary lies between neighbours")
        for _ in range(int(np.prod(shape[:-2]))):
            here = slice(start, start := start + shape[-2] * shape[-1])
            true, predicted = (_places(a[here], values, order).reshape(shape[-2:]) for a in (t, p))
            where = None if counted is None else counted[here].reshape(shape[-2:])
            found += boundary_counts(true, predicted, len(values), float(tolerance), where)
    return boundary_f_of(found)


class Calibration(NamedTuple):
    """Pixels by confidence, in bins of equal width: the means of confidence and of being right in each, NaN where it is empty.

    counts : pixels in each bin, or the sums of their weights. error : the mean distance of the two, weighed by the counts: the
    expected calibration error. Guo et al. 2017, equations 2 to 5.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    counts: NDArray[np.float64]
    error: float


def calibration(
    truth: Any, probabilities: Any, bins: int = 10, classes: Sequence[int] | None = None, weights: Any = None
) -> Calibration:
    """Return how often the most probable class is right, by how probable it was said to be.

    truth : masks, or lists of them; probabilities : those of `predict_proba`, with an axis for the K classes behind those of
    truth. classes : the masks' values in the order of the classes; 0 .. K-1 unless given. weights : of `confusion_matrix`.
    Bin i of n holds confidences above i / n, up to (i + 1) / n. With two classes none is below a half.
    """
    require(is_whole(bins) and bins > 0, "bins", bins, "a whole number from 1 up")
    arrays = [np.asarray(p) for p in (probabilities if isinstance(probabilities, (list, tuple)) else [probabilities])]
    k = arrays[0].shape[-1] if arrays and arrays[0].ndim else 0
    values = np.arange(k) if classes is None else np.asarray(classes)
    alike = all(p.ndim and p.shape[-1] == len(values) > 0 and p.dtype.kind == "f" for p in arrays)
    shapes = ", ".join(str(p.shape) for p in arrays[:4])
    require(alike, "probabilities", f"of shape {shapes}", f"real numbers (..., K) for K = {len(values)} classes")
    listed = isinstance(truth, (list, tuple))
    t, found = _pixels(truth, [values[p.argmax(axis=-1)] for p in arrays] if listed else values[arrays[0].argmax(axis=-1)])
    confidence = np.concatenate([p.max(axis=-1).ravel() for p in arrays]).astype(np.float64)
    w = np.ones(len(t)) if weights is None else _pixels(truth, weights, "weights")[1].astype(np.float64)
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts, sure, right = (
        np.bincount(bin_of, w * part, minlength=bins).astype(np.float64) for part in (np.ones(len(t)), confidence, t == found)
    )
    error = float(np.abs(right - sure).sum() / counts.sum()) if counts.any() else float("nan")
    return Calibration(_ratio(sure, counts), _ratio(right, counts), counts, error)


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


def average_precision(truth: Any, prediction: Any, iou: float = 0.5) -> float:
    """Return TP / (TP + FP + FN) over the objects of all images: NaN where there are none at all.

    truth and prediction number the objects of each image, 0 is the ground. A TP is an object of each that overlap with an IoU of
    more than `iou`; each is matched once, as many of them as can be, which from 0.5 up is no choice. The 2018 Data Science Bowl
    (Caicedo et al. 2019), at one threshold.
    """
    require(0 <= iou < 1, "iou", iou, "a number from 0 to below 1")
    counts = np.sum([_matches(t, p, iou) for t, p in _each(truth, prediction)], axis=0)
    matched, n_true, n_found = counts.tolist()
    return float(matched / (n_true + n_found - matched)) if n_true + n_found else float("nan")


def _matches(truth: NDArray, prediction: NDArray, iou: float) -> tuple[int, int, int]:
    """Return how many objects are matched, how many there are, and how many were predicted."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    (t, i), (p, j) = (np.unique(a, return_inverse=True) for a in (truth.ravel(), prediction.ravel()))
    codes, both = np.unique(i * len(p) + j, return_counts=True)  # one number for each pair that overlaps
    i_of, j_of = np.divmod(codes, len(p))
    either = np.bincount(i)[i_of] + np.bincount(j)[j_of] - both
    fits = (t[i_of] != 0) & (p[j_of] != 0) & (both > iou * either)
    partners = csr_array((np.ones(fits.sum(), bool), (i_of[fits], j_of[fits])), shape=(len(t), len(p)))
    matched = (maximum_bipartite_matching(partners, perm_type="column") >= 0).sum()
    return int(matched), int((t != 0).sum()), int((p != 0).sum())


def _pairs(sizes: NDArray[np.integer]) -> float:
    """Return the number of ordered pairs within segments of these sizes."""
    return float((sizes.astype(np.float64) * (sizes - 1)).sum())


def _pixels(truth: Any, prediction: Any, called: str = "prediction") -> tuple[NDArray, NDArray]:
    """Return all pixels of both, each as one flat array."""
    arrays = _each(truth, prediction, called)
    return np.concatenate([t.ravel() for t, _ in arrays]), np.concatenate([p.ravel() for _, p in arrays])


def _each(truth: Any, prediction: Any, called: str = "prediction") -> list[tuple[NDArray, NDArray]]:
    """Return both as arrays of one shape, one pair an image of a list."""
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
    return arrays


def _places(a: NDArray, values: NDArray, order: NDArray[np.intp]) -> NDArray[np.intp]:
    found = order[np.clip(np.searchsorted(values, a, sorter=order), 0, len(values) - 1)]
    if not (values[found] == a).all():
        raise ValueError(f"a pixel has the value {a[values[found] != a][0]}; the classes are {values.tolist()}")
    return found


def _ratio(part: NDArray, whole: NDArray) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
