"""Bring pixel values of any scale to about -1 .. 1.

An image is scaled by its own percentiles, so that dark and bright ones, 8 and 16 bits, look alike. An empty field has none but
those of its noise: an image whose range is far narrower than that of every training image takes the training's. docs/choices.md
has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .sliced import Image, Scaled, Sliced, bands, pixels_at

PERCENTILES = (1.0, 99.0)  # a hot pixel or a black border does not set the scale
MAX_SAMPLES = 2**20  # pixels that percentiles are taken from; beyond, every k-th
LIMIT = 10.0  # what is further out after scaling, hot pixels and missing data, is cut: it would drown all else
BLANK_AT = 2.0  # where missing data comes to lie: outside the range of the others, and no further
NARROW = 0.5  # a range of less than this share of the narrowest one in training is not that of an image with objects ...
NEARLY = 0.9  # ... or of less than this share, while its extremes have it: the objects are too few for the percentiles ...
EXTREMES = (0.1, 99.9)  # percentiles
SLACK = 0.1  # ... if it lies among theirs, give or take this share of them: elsewhere, the exposure or the units are others
FAR = 5.0  # missing data lies further from the others than so many times their range ...
MIN_BLANK = 1e-3  # ... and fills this share of the pixels at least,
MIN_SOLID = 0.4  # in blocks: as many 2 x 2 squares as this share of its pixels
FILLERS = 1e20  # formats that fill with a large number take one from here up

BLANK = (
    "a value far outside all others fills a block, as missing data does, so it sets no scale; numpy.ma.masked_equal, or the "
    "file's nodata tag, leaves it out of all else, too"
)
NARROWER = (
    "the percentiles span less than is usual where there are objects, as in fields with few or none, so the usual range of the "
    "training images sets the scale; where only the exposure is another, scale the image to theirs first"
)

Setting = str | tuple[float, float]


class View(NamedTuple):
    """An image (H, W, C), or what gives image[rows, cols] of one, and what is known of its pixels (H, W)."""

    image: Image
    hidden: NDArray[np.bool_] | None = None  # which say nothing, and may be NaN
    counted: NDArray[np.bool_] | None = None  # which set the scale, of those that are not hidden; all of these, if none does
    label: NDArray[np.integer] | None = None  # the index of each one's class


class Range(NamedTuple):
    """What an image (H, W, C) spans, by channel (C,)."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    outer: NDArray[np.float64]  # how far the extremes lie from each other: few bright pixels count there
    least: NDArray[np.float64]  # low and high, stretched to the median of each class: of few bright pixels, no percentile tells
    most: NDArray[np.float64]
    n_classes: int
    blanks: list[float | None]  # for each channel a value that stands for missing data, by its looks, and was left out
    capacity: float  # the largest number that images of this kind hold

    @property
    def blank(self) -> float | None:
        """The first such value."""
        return next((value for value in self.blanks if value is not None), None)


@dataclass(eq=False)
class Normalizer:
    """Map the 1st percentile of each channel to -1 and the 99th to 1, linearly up to +-LIMIT; a constant channel gives 0.

    mode "image" takes the percentiles of each image, "dataset" those of all images given to `fit`. In mode "image", low and high
    are the usual range of the training images, for an image whose own is less than half of `narrowest`; None in models from
    before there was such a rule, which have no limit either.
    """

    mode: str = "image"
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    narrowest: NDArray[np.float64] | None = None
    percentiles: tuple[float, float] = PERCENTILES
    limit: float | None = LIMIT

    @classmethod
    def of(cls, setting: Any) -> Normalizer:
        """Return the normalizer that UNet(normalize=setting) means: a mode, or two percentiles of each image."""
        if isinstance(setting, str):
            return cls(str(setting))
        low, high = setting
        return cls(percentiles=(float(low), float(high)))

    @property
    def setting(self) -> Setting:
        """What UNet(normalize=...) was."""
        return self.mode if self.percentiles == PERCENTILES else self.percentiles

    def fit(self, images: Sequence[NDArray]) -> Normalizer:
        """Learn the range of images (H, W, C), of which no more is known. Return self."""
        views = [View(image) for image in images]
        return self.learn(views, [self.measure(view) for view in views])

    def learn(self, views: Sequence[View], ranges: Sequence[Range]) -> Normalizer:
        """Learn the range of the training images, each of which was measured. Return self."""
        if self.mode == "image":
            return self.learn_usual(ranges)
        # One step for all, so that each image counts in proportion to its area.
        step = -(-sum(_area(view.image) for view in views) // MAX_SAMPLES)
        parts = [_samples(view, found.blanks, step)[0] for view, found in zip(views, ranges, strict=True)]
        ends = [_percentiles(np.concatenate(of), self.percentiles) for of in zip(*parts, strict=True)]
        self.low, self.high = np.array(ends).T
        return self

    def learn_usual(self, ranges: Sequence[Range]) -> Normalizer:
        """Take the usual range and the narrowest of those that training images were measured at. Return self.

        Images of one class may be empty fields, and tell nothing; unless there are no others.
        """
        telling = [r for r in ranges if r.n_classes > 1] or ranges
        least, most = (np.array([getattr(r, name) for r in telling]) for name in ("least", "most"))
        self.low, self.high = (2 * np.median(ends / 2, axis=0) for ends in (least, most))  # no sum of two doubles overflows
        self.narrowest = _width(least, most).min(axis=0)
        return self

    def measure(self, view: View) -> Range:
        """Return what an image spans."""
        image, step = view.image, -(-_area(view.image) // MAX_SAMPLES)
        blanks: list[float | None] = [None] * image.shape[2] if self.limit is None else _blanks(view, step)
        samples, classes = _samples(view, blanks, step)
        low, high = np.array([_percentiles(values, self.percentiles) for values in samples]).T
        outer = np.array([_width(*np.percentile(values, EXTREMES, method="nearest")) for values in samples])
        medians = [np.array([2 * np.median(values[of == k] / 2) for k in np.flatnonzero(np.bincount(of))])
                   for values, of in zip(samples, classes, strict=True)]  # fmt: skip
        least = np.array([min(end, *of, end) for end, of in zip(low, medians, strict=True)])
        most = np.array([max(end, *of, end) for end, of in zip(high, medians, strict=True)])
        return Range(low, high, outer, least, most, max(map(len, medians)), blanks, _capacity(image.dtype, samples))

    def is_narrow(self, found: Range) -> NDArray[np.bool_]:
        """Tell for each channel (C,) whether an image's own range is that of noise, by what the training images span."""
        if self.narrowest is None or self.low is None or self.high is None:
            return np.zeros(len(found.low), bool)
        slack = SLACK * _width(self.low, self.high)
        width, usual = _width(found.low, found.high), self.narrowest
        among = (found.low >= self.low - slack) & (found.high <= self.high + slack)
        other_units = width.any() and found.capacity < self.high.max() / 2  # 0 .. 1 beside 0 .. 255, 8 bits beside 16
        narrow = (width < NARROW * usual) | ((width < NEARLY * usual) & (found.outer >= NEARLY * usual))
        return narrow & among & (not other_units)

    def __call__(
        self, image: NDArray, found: Range | None = None, hidden: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Return the image (H, W, C), of any number type, as normalised float32.

        found : what it was measured at. hidden : which pixels (H, W) say nothing, and may be NaN; they become 0.
        """
        low, high = self.low, self.high
        found = self.measure(View(image, hidden)) if found is None else found
        if self.mode == "image" or low is None or high is None:
            narrow = self.is_narrow(found)
            low = found.low if low is None else np.where(narrow, low, found.low)
            high = found.high if high is None else np.where(narrow, high, found.high)
        # Halves, so that no difference of two large doubles overflows.
        centre, half = low / 2 + high / 2, high / 2 - low / 2
        scale = np.where(half > 0, half, 1.0)
        with np.errstate(over="ignore", invalid="ignore"):  # a lone extreme may exceed float32, what is hidden be anything
            scaled: NDArray[np.float64] = image.astype(np.float64)  # one double a pixel, worked on in place
            scaled /= scale
            scaled -= centre / scale
            scaled *= half > 0
            limit = np.finfo(np.float32).max / 4 if self.limit is None else self.limit
            np.clip(scaled, -limit, limit, out=scaled)
            for c, blank in enumerate(found.blanks):
                if blank is not None:
                    scaled[..., c][image[..., c] == blank] = math.copysign(BLANK_AT, blank - found.low[c])
            if hidden is not None:
                scaled[hidden] = 0
            return scaled.astype(np.float32)

    def scaled(
        self, image: Image, found: Range, hidden: NDArray[np.bool_] | None, name: str, *, lazily: bool = False
    ) -> Image:
        """Return the image as a call does; of one that is read in slices, or lazily, one that is scaled as it is sliced."""
        if lazily or isinstance(image, Sliced):
            return Scaled(image, lambda part, hidden: self(part, found, hidden), hidden, name)
        return self(image, found, hidden)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold, for the model file."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Normalizer:
        """Return the normalizer that `to_dict` described, or that of a file from before there were narrowest and limit."""
        low, high, narrowest = (
            None if saved.get(name) is None else np.array(saved[name], float) for name in ("low", "high", "narrowest")
        )
        first, last = saved.get("percentiles", PERCENTILES)
        return cls(saved["mode"], low, high, narrowest, (first, last), saved.get("limit"))


def on_blanks(names: Sequence[str], blanks: Sequence[float | None]) -> list[str]:
    """Return the names of the images in which a value looks like missing data, each with that value; `BLANK` tells of them."""
    return [f"{name} ({blank:g})" for name, blank in zip(names, blanks, strict=True) if blank is not None]


def on_narrow(names: Sequence[str], ranges: Sequence[Range], normalizer: Normalizer) -> list[str]:
    """Return the names of the images that are not scaled by their own range, each with that range; `NARROWER` tells of them."""
    told, low, high = [], normalizer.low, normalizer.high
    for name, found in zip(names, ranges, strict=True):
        for c in np.flatnonzero(normalizer.is_narrow(found))[:1]:
            assert low is not None and high is not None  # or nothing would be narrow
            told.append(f"{name} ({found.low[c]:.6g} to {found.high[c]:.6g}, not {low[c]:.6g} to {high[c]:.6g})")
    return told


def trained_blank(view: View, found: Range) -> float | None:
    """Return the value that looks like missing data where it counts, so that it would be trained on."""
    for c, blank in enumerate(found.blanks):
        if blank is not None and (view.counted is None or _holds(view.image, c, blank, view.counted)):
            return blank
    return None


def _area(image: Image) -> int:
    return image.shape[0] * image.shape[1]


def _holds(image: Image, c: int, value: float, here: NDArray[np.bool_]) -> bool:
    """Tell whether a channel has this value at one of the pixels (H, W)."""
    return any((image[rows, slice(None)][..., c] == value)[here[rows]].any() for rows in bands(image))


def _sampled(image: Image, here: NDArray[np.bool_] | None, step: int) -> slice | NDArray[np.intp]:
    """Return the places, in row-major order, of every step-th pixel; of those that are here (H, W), if any is."""
    width = image.shape[1]
    while step > 1 and math.gcd(step, width) > 1:  # or some columns would never be seen: think of stripes
        step += 1
    if here is None:
        return slice(None, None, step)
    flat = here.reshape(-1)
    places = np.flatnonzero(flat[::step]) * step
    places = places if places.size else np.flatnonzero(flat)[::step]
    return places if places.size else slice(None, None, step)


def _samples(view: View, blanks: Sequence[float | None], step: int) -> tuple[list[NDArray[np.float64]], list[NDArray]]:
    """Return for each channel every step-th value that sets the scale (M,), and its class (M,): 0 where none is known."""
    seen = None if view.hidden is None else ~view.hidden
    at = _sampled(view.image, seen if view.counted is None else view.counted, step)
    samples = pixels_at(view.image, at).astype(np.float64)
    label: NDArray[np.integer] = np.zeros(len(samples), np.intp) if view.label is None else view.label.reshape(-1)[at]
    pairs = [(values, label) for values in samples.T]
    for c, blank in enumerate(blanks):
        kept = samples[:, c] != blank
        if blank is not None and kept.any():
            pairs[c] = samples[kept, c], label[kept]
    return [values for values, _ in pairs], [classes for _, classes in pairs]


def _blanks(view: View, step: int) -> list[float | None]:
    at = _sampled(view.image, None if view.hidden is None else ~view.hidden, step)
    samples = pixels_at(view.image, at).astype(np.float64)
    return [_blank(values, view.image, c) for c, values in enumerate(samples.T)]


def _blank(values: NDArray[np.float64], image: Image, c: int) -> float | None:
    """Return the value that stands for missing data in a channel, if one looks like it. values : samples of it.

    It is negative, 0, or the largest of its type, it lies far outside the others, and it fills a block.
    """
    for value, is_least in ((float(values.min()), True), (float(values.max()), False)):
        if not (value <= 0 if is_least else _is_filler(value, image.dtype)):
            continue
        others = values[values != value]
        share = 1 - others.size / values.size
        if not others.size or share < MIN_BLANK or (value == 0 and share > 0.5):  # most of an image is its ground
            continue
        low, high = _percentiles(others, PERCENTILES)
        with np.errstate(over="ignore"):
            if low < high and (low - value if is_least else value - high) > FAR * (high - low) and _is_solid(image, c, value):
                return value
    return None


def _is_filler(value: float, dtype: np.dtype) -> bool:
    """Tell whether files use this large value for missing data. 255 they do, too; but mostly that is light."""
    return value in (2**16 - 1, np.iinfo(dtype).max if dtype.kind in "iu" and dtype.itemsize > 1 else None) or value >= FILLERS


def _is_solid(image: Image, c: int, value: float) -> bool:
    """Tell whether the pixels of a channel that have this value lie together."""
    n, n_squares, above = 0, 0, np.zeros((0, image.shape[1]), bool)
    for rows in bands(image):
        here = image[rows, slice(None)][..., c] == value
        n += int(here.sum())
        here = np.concatenate([above, here])
        n_squares += int((here[1:, 1:] & here[1:, :-1] & here[:-1, 1:] & here[:-1, :-1]).sum())
        above = here[-1:]
    return n_squares >= MIN_SOLID * n


def _capacity(dtype: np.dtype, samples: Sequence[NDArray[np.float64]]) -> float:
    """Return the largest number that images of this kind hold: 255 of 8 bits, 1 of floats that stay within -1 .. 1."""
    if dtype.kind in "iu":
        return float(np.iinfo(dtype).max)
    return 1.0 if all(values.min() >= -1 and values.max() <= 1 for values in samples) else math.inf


def _percentiles(samples: NDArray[np.float64], percentiles: tuple[float, float]) -> tuple[float, float]:
    low, high = np.percentile(samples, percentiles, method="nearest")
    # A sparse image (most pixels one value) still has a scale: that of its extremes.
    return (float(samples.min()), float(samples.max())) if low == high else (float(low), float(high))


def _width(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return high - low, and the largest double where that is beyond it."""
    with np.errstate(over="ignore"):
        return np.minimum(high - low, np.finfo(np.float64).max)
