"""What fit and predict take: any form of images and masks, checked, as a list of (H, W, C) and of (H, W)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import mistakes
from .sliced import Image, OnDisk, are_large, bands, lies_on_disk, pixels_at

FORMS = "H x W, H x W x C, N x H x W, N x H x W x C, or a list of images"
COLOUR_SIDE = 32  # N x H x W arrays with N and H from here up and 3 or 4 (or 1) columns are images in colour, misread


@dataclass(frozen=True)
class Images:
    """Images as (H, W, C) views of what was given, or as what reads them from disk; and the form in which they came."""

    arrays: list[Image]
    form: str  # "HW", "HWC", "NHW", "NHWC" or "list"
    channel_axis: bool  # whether x had an axis for channels
    name: str  # what to call x in messages
    call: str  # how x is written in a call of NumPy's: np.asarray(x) where it is none of its arrays
    hidden: list[NDArray[np.bool_] | None]  # for each image which pixels are masked, (H, W); None where none is
    boxed: bool = False  # whether the list came as an array of arrays, which scikit-learn's cross_val_predict can join again

    @property
    def n_channels(self) -> int:
        """The number of channels, one for all images."""
        return int(self.arrays[0].shape[2])

    def called(self, name: str) -> list[str]:
        """Return what to call the images in messages, or their masks, where `name` is all of them."""
        return [name] if self.form in ("HW", "HWC") else [f"{name}[{i}]" for i in range(len(self.arrays))]

    def restore(self, results: list[NDArray]) -> Any:
        """Return one result an image, (H, W) or (H, W, K), in the form in which the images came: masked where they are."""
        if any(here is not None for here in self.hidden):
            results = [_masked(result, here) for result, here in zip(results, self.hidden, strict=True)]
        if self.form == "list":
            return _boxed(results) if self.boxed else results
        stack = np.stack if all(here is None for here in self.hidden) else np.ma.stack
        return results[0] if self.form in ("HW", "HWC") else stack(results)


def read_images(
    x: Any, y: Any = None, *, n_channels: int | None = None, channel_axis: bool | None = None, name: str = "x",
    y_name: str = "y", gaps: bool = False,
) -> Images:  # fmt: skip
    """Return the images of x. y, its masks, tells N x H x W from H x W x C; without y, channel_axis does.

    n_channels : what a fitted model takes. gaps : whether NaN may be among the pixels, for `without_gaps` to look at. What is
    masked in a masked array is hidden, and 0. ValueError names the first image that cannot be used, and why.
    """
    call = name if isinstance(x, (np.ndarray, list, tuple)) else f"np.asarray({name})"
    mistakes.require_colours(x, name)
    is_large, as_given = are_large(x), x
    if not is_large or isinstance(x, (list, tuple)):
        x = mistakes.arrays_in(x, name)
    if isinstance(x, list):
        arrays = [_numbers(image, f"{name}[{i}]", keep=is_large) for i, image in enumerate(x)]
        form = "list"
    else:
        array = _numbers(x, name, keep=is_large)
        if n_channels == 1 and len(array.shape) == 3 and array.shape[2] > mistakes.MOST_COLOURS:
            channel_axis = False  # N x H x W: so many channels are none of its own
        form = _form(array, None if y is None else mistakes.arrays_in(y, y_name), channel_axis, name)
        arrays = _each(array, form)
    if not arrays:
        raise ValueError(f"{name} holds no images; it takes {FORMS}")
    has_channels = form in ("HWC", "NHWC") or (form == "list" and len(arrays[0].shape) == 3)
    given = x if form == "list" else _each(x, form)
    hidden = [masked_pixels(image) for image in given]
    boxed = form == "list" and not isinstance(as_given, (list, tuple))
    images = Images(list(arrays), form, has_channels, name, call, hidden, boxed)
    for i, (array, label) in enumerate(zip(arrays, images.called(name), strict=True)):
        images.arrays[i] = _image(array, i if form.startswith("N") else None, has_channels, label)
    takes = "each image takes H x W or H x W x C, alike for all: np.stack([image] * 3, axis=-1) gives a grey one three channels"
    for image, label in zip(images.arrays, images.called(name), strict=True):
        if image.ndim != 3:
            raise ValueError(f"{label} has shape {image.shape if has_channels else image.shape[:-1]}; {takes}")
        if image.size == 0:
            raise ValueError(f"{label} has shape {image.shape[:2]}: no pixels; it takes images from 1 x 1 up")
        if not gaps:
            _check_finite(image, label)
    _check_channels(images, n_channels)
    return images


def _each(array: Any, form: str) -> list[Any]:
    """Return the images of an array; of a stack on disk itself for each, unread."""
    if not form.startswith("N"):
        return [array]
    return [array] * array.shape[0] if lies_on_disk(array) else list(array)


def _image(array: Any, i: int | None, has_channels: bool, name: str) -> Image:
    """Return an image with an axis for channels. i : which of a stack on disk it is."""
    if lies_on_disk(array):
        return OnDisk(array, i, has_channels=has_channels, name=name)
    return array if has_channels else array[..., None]  # type: ignore[no-any-return]


def without_gaps(images: Images, weights: Sequence[NDArray | None]) -> Images:
    """Return the images with NaN and infinities of weight 0 hidden; ValueError where others are not finite."""
    hidden = []
    for image, weight, masked, label in zip(images.arrays, weights, images.hidden, images.called(images.name), strict=True):
        gap = None if weight is None or image.dtype.kind != "f" else _gaps(image)
        if weight is None or gap is None or not gap.any():
            _check_finite(image, label)
            hidden.append(masked)
            continue
        _check_finite(image, label, unless=weight == 0)
        hidden.append(gap if masked is None else gap | masked)
    return replace(images, hidden=hidden)


def _gaps(image: Image) -> NDArray[np.bool_]:
    """Return which pixels (H, W) are not finite in some channel."""
    return np.concatenate([~np.isfinite(image[rows, slice(None)]).all(axis=2) for rows in bands(image)])


def masked_pixels(array: Any) -> NDArray[np.bool_] | None:
    """Return which pixels (H, W) of one image or mask are masked, in any channel; None where none is."""
    if not np.ma.is_masked(array):
        return None
    here: NDArray[np.bool_] = np.asarray(np.ma.getmaskarray(array))
    return here if here.ndim == 2 else np.asarray(here.any(axis=-1))


def read_masks(y: Any, images: Images, name: str = "y", *, may_be_exchanged: bool = False) -> list[NDArray]:
    """Return the masks of y as whole numbers (H, W), each of its image's size.

    may_be_exchanged : whether images given for masks are left to the caller to find.
    """
    if y is None:
        takes = f"it takes a mask for each image, of its size; {mistakes.FOLDERS}"
        raise ValueError(f"UNet requires {name} to be passed, but the target {name} is None; {takes}")
    given, labels = per_image(y, images, name), images.called(name)
    if len(given) != len(images.arrays):
        counts = f"{images.name} has {len(images.arrays)} images but {name} {len(given)} masks"
        one = len(given) == 1 and images.form == "NHW" and len(images.arrays) in (3, 4)
        hint = f" (channels come last: one image of {len(images.arrays)} is {mistakes.moved(images.call, 'HWC')})" if one else ""
        raise ValueError(f"{counts}; each image takes one mask{hint}")
    arrays = [_numbers(mask, label) for mask, label in zip(given, labels, strict=True)]
    if not may_be_exchanged and (values := mistakes.seem_exchanged(_some_of(images.arrays[0]), arrays[0])):
        holds = f"{images.called(images.name)[0]} holds {values[0]} different values and {labels[0]} {values[1]}"
        raise ValueError(f"{holds}: images and masks seem to be exchanged; the images come first")
    call = name if isinstance(y, (np.ndarray, list, tuple)) else f"np.asarray({name})"
    form = "list" if isinstance(y, (list, tuple)) else "one" if images.form in ("HW", "HWC") else "stack"
    written = mistakes.Written(call, form)
    return [_mask(array, i, images, label, written) for i, (array, label) in enumerate(zip(arrays, labels, strict=True))]


def read_weights(sample_weight: Any, images: Images) -> list[NDArray[np.float32] | None]:
    """Return for each image a weight for each pixel, or None where none are given. A number is that of all its pixels."""
    if sample_weight is None:
        return [None] * len(images.arrays)
    given = mistakes.arrays_in(sample_weight, "sample_weight")
    numbers = isinstance(given, list) and len(given) > 0 and all(isinstance(v, (int, float, np.number, np.bool_)) for v in given)
    if numbers or (isinstance(given, np.ndarray) and given.ndim == 1):
        return _of_whole_images(_numbers(np.asanyarray(given), "sample_weight"), images)
    given = per_image(sample_weight, images, "sample_weight")
    if len(given) != len(images.arrays):
        raise ValueError(f"{len(images.arrays)} images but sample_weight has {len(given)}; each image takes one array")
    weights = []
    for weight, image, name in zip(given, images.arrays, images.called("sample_weight"), strict=True):
        array = _numbers(weight, name)
        if array.shape != image.shape[:2]:
            each = ": np.full(mask.shape, weight) is that of a whole image" if array.ndim == 0 else ""
            raise ValueError(f"{name} has shape {array.shape}; it takes the image's, {image.shape[:2]}{each}")
        weights.append(_weights(array, name))
    return _some(weights)


def _of_whole_images(numbers: NDArray, images: Images) -> list[NDArray[np.float32] | None]:
    n = len(images.arrays)
    if len(numbers) != n:
        more = f", {images.arrays[0].shape[:2]}" if n == 1 else ""
        takes = f"it takes one for each image, or an array for each, of a weight for each pixel{more}"
        raise ValueError(f"{n} image{'s' if n > 1 else ''} but sample_weight has {len(numbers)} numbers; {takes}")
    checked = _weights(numbers, "sample_weight")
    return _some([np.broadcast_to(weight, image.shape[:2]) for weight, image in zip(checked, images.arrays, strict=True)])


def _weights(array: NDArray, name: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what exceeds float32 is infinite, and refused as such
        array = array.astype(np.float32)
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise ValueError(f"{name} holds negative or non-finite values; it takes numbers from 0 up")
    return array


def _some(weights: list[NDArray[np.float32]]) -> list[NDArray[np.float32] | None]:
    if not any(weight.any() for weight in weights):
        raise ValueError("sample_weight is zero everywhere: there is nothing to learn from")
    return list(weights)


def _some_of(image: Image) -> NDArray:
    """Return an image, or of one on disk every k-th pixel (M, C): what it holds is then told by those."""
    if isinstance(image, OnDisk):
        return pixels_at(image, slice(None, None, -(-image.size // mistakes.SAMPLES)))
    return np.asarray(image)


def _numbers(array: Any, name: str, *, keep: bool = False) -> Any:
    """Return an array of numbers. keep : leave what lies on disk where it is."""
    if keep and lies_on_disk(array):
        return array
    array = np.ma.filled(array, 0) if np.ma.is_masked(array) else mistakes.as_array(array, name)
    if array.dtype.kind not in "buif":
        raise mistakes.wrong_dtype(array, name)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:  # all else is computed in doubles
        with np.errstate(over="ignore"):
            doubles = array.astype(np.float64)
        if (np.isinf(doubles) & np.isfinite(array)).any():
            raise ValueError(f"{name} holds numbers beyond {np.finfo(np.float64).max:.1e}; it takes what a double can hold")
        return doubles
    return array


def _boxed(results: list[NDArray]) -> NDArray:
    """Return an array of arrays, one by one: NumPy would make a single one of such as are alike."""
    box = np.empty(len(results), object)
    for i, result in enumerate(results):
        box[i] = result
    return box


def _masked(result: NDArray, here: NDArray[np.bool_] | None) -> NDArray:
    """Return a result (H, W) or (H, W, K) as a masked array, where pixels (H, W) are."""
    if here is None:
        return result
    return np.ma.MaskedArray(result, here if result.ndim == 2 else np.repeat(here[..., None], result.shape[2], axis=2))


def per_image(given: Any, images: Images, name: str) -> list[Any]:
    """Return what was given for each image."""
    given = mistakes.arrays_in(given, name)
    if isinstance(given, list):
        return given
    return [given] if images.form in ("HW", "HWC") or given.ndim == 0 else list(given)


def _form(array: Any, y: Any, channel_axis: bool | None, name: str) -> str:
    n_axes = len(array.shape)
    if n_axes in (2, 4):
        return "HW" if n_axes == 2 else "NHWC"
    if n_axes != 3:
        raise ValueError(f"{name} has {n_axes} axes, shape {array.shape}; it takes {FORMS}")
    if channel_axis if y is None else _is_one_mask(y, array.shape):
        return "HWC"
    n, h, w = array.shape
    if min(n, h) >= COLOUR_SIDE and w in (1, 3, 4):
        one = "this model takes images without a channel axis: convert it to H x W" if y is None else "its mask y is H x W"
        raise ValueError(
            f"{name} has shape {array.shape}, which without a channel axis is {n} images of {h} x {w} pixels. If it is one "
            f"image of {w} channel{'s' if w > 1 else ''}, {one}. If you do mean {n} images, pass list({name})"
        )
    return "NHW"


def _is_one_mask(y: Any, shape: tuple[int, ...]) -> bool:
    """Tell whether y is a mask H x W for one image of this shape, or would be with a class or a channel less an axis."""
    if isinstance(y, list) or y.ndim not in (2, 3) or y.shape == shape:
        return not isinstance(y, list) and y.ndim == 2
    alike = y.ndim == 2 or (*shape[:2], 1) == y.shape or (1, *shape[:2]) == y.shape
    last, first = y.shape[:2] == shape[:2], y.shape[1:] == shape[:2]
    return alike or (last and mistakes.is_one_hot(y, -1)) or (first and mistakes.is_one_hot(y, 0))


def _check_finite(image: Image, name: str, unless: NDArray[np.bool_] | None = None) -> None:
    """Raise a ValueError where numbers are not finite; unless : at other pixels (H, W) than these."""
    if image.dtype.kind != "f":
        return
    n, nan, inf, first = 0, False, False, (0, 0)
    for rows in bands(image):
        band = image[rows, slice(None)]
        bad = ~np.isfinite(band)
        bad &= True if unless is None else ~unless[rows][..., None]
        if not bad.any():
            continue
        if not n:
            row, column = (int(v) for v in np.argwhere(bad)[0][:2])
            first = rows.start + row, column
        n, nan, inf = n + int(bad.sum()), nan or bool(np.isnan(band[bad]).any()), inf or bool(np.isinf(band[bad]).any())
    if n:
        what = "NaN or infinite" if nan and inf else "NaN" if nan else "infinite"
        raise ValueError(
            f"{name} holds {n} {what} value{'s' if n > 1 else ''}, the first at row {first[0]}, column {first[1]}; "
            "it takes finite numbers: np.ma.masked_invalid hides the others, and so does a sample_weight of 0 in fit"
        )


def _check_channels(images: Images, n_channels: int | None) -> None:
    first = images.n_channels if n_channels is None else n_channels
    for image, label in zip(images.arrays, images.called(images.name), strict=True):
        c = image.shape[2]
        if c != first:
            has = f"{label} has {c} channel{'s' if c != 1 else ''}"
            if n_channels is None:
                raise ValueError(f"{has}, but {images.name}[0] has {first}; all images take one number of channels")
            way = mistakes.other_channels(c, n_channels)
            if image.shape[0] == n_channels:
                has += " (channels come last: H x W x C)"
                way = f": {mistakes.moved(images.call, images.form)} puts them there"
            raise ValueError(f"{has}; this model was fitted on {n_channels}. Convert the image{way}, or fit a model on such")


def _mask(array: NDArray, i: int, images: Images, name: str, written: mistakes.Written) -> NDArray:
    """Return the mask of images.arrays[i] as whole numbers (H, W)."""
    image, image_name = images.arrays[i], images.called(images.name)[i]
    size = image.shape[:2]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if mistakes.are_channels_first(image.shape, array.shape):
        raise mistakes.channels_first(image_name, images.call, image.shape, images.form)
    if array.ndim == 3 and array.shape[:2] == size and (array == array[..., :1]).all():
        array = array[..., 0]  # grey, saved in colours
    if array.ndim != 2:
        raise mistakes.wrong_axes(array, size, name, written)
    if array.shape != size:
        given, takes = (" x ".join(map(str, shape)) for shape in (array.shape, size))
        hint = " (turned by 90 degrees?)" if array.shape == size[::-1] else ""
        raise ValueError(f"{image_name} is {takes} pixels, but {name} is {given}{hint}; a mask has its image's size")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or not (array == np.rint(array)).all() or float(np.abs(array).max()) > 2**53:
            raise mistakes.no_whole_numbers(array, name, written)
        array = array.astype(np.int64)
    return array
