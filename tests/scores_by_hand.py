"""The scores of segmentations by the words of their definitions, pair by pair and pixel by pixel, for small images."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import ndimage


def pixels(truths, predictions, here):
    """Return what counts of all images, in two rows."""
    return (np.concatenate([mask[w] for mask, w in zip(masks, here, strict=True)]) for masks in (truths, predictions))


def dice(truths, predictions, here, c):
    t, p = (a == c for a in pixels(truths, predictions, here))
    return 2 * (t & p).sum() / (t.sum() + p.sum()) if t.any() or p.any() else np.nan


def iou(truths, predictions, here, c):
    t, p = (a == c for a in pixels(truths, predictions, here))
    return (t & p).sum() / (t | p).sum() if t.any() or p.any() else np.nan


def pixel_error(truths, predictions, here):
    t, p = pixels(truths, predictions, here)
    return sum(int(a != b) for a, b in zip(t, p, strict=True)) / len(t)


def adapted_rand(truth, prediction, here, lowest):
    """Of one image: over the pairs of pixels inside objects of the truth. NaN where it has none."""
    true, found = ((mask != lowest) & counts for mask, counts in ((truth, here), (prediction, np.ones_like(here))))
    (t, n), (p, _) = ndimage.label(true), ndimage.label(found)
    inside = list(zip(t[t > 0], p[t > 0], strict=True))
    pairs = [(a[0] == b[0], a[1] == b[1] != 0) for a, b in itertools.permutations(inside, 2)]
    by_truth, by_prediction, by_both = (sum(map(f, pairs)) for f in (lambda s: s[0], lambda s: s[1], all))
    if not n:
        return np.nan
    return 1 - 2 * by_both / (by_truth + by_prediction) if by_truth + by_prediction else 0.0


def boundary_f(truths, predictions, here, c, tolerance=2):
    on = [[edge(mask, w, c) for mask, w in zip(masks, here, strict=True)] for masks in (truths, predictions)]
    met = [sum(near(a, b, tolerance) for a, b in zip(these, others, strict=True)) for these, others in (on, on[::-1])]
    n_true, n_found = (sum(int(e.sum()) for e in edges) for edges in on)
    if not n_true + n_found:
        return np.nan
    recall, precision = (m / n if n else 0.0 for m, n in zip(met, (n_true, n_found), strict=True))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def edge(mask, here, c):
    """Return the pixels of class c that count, beside one of another class that counts."""
    return (mask == c) & here & ndimage.binary_dilation((mask != c) & here)


def near(these, others, tolerance):
    """Return how many of these have one of the others within the tolerance."""
    return int((these & (ndimage.distance_transform_edt(~others) <= tolerance)).sum()) if others.any() else 0


def mean(numbers):
    """Return the mean of what is defined."""
    known = [n for n in numbers if n == n]
    return sum(known) / len(known) if known else np.nan
