"""What newcomers give instead of arrays, and arrays laid out otherwise: each is told what was given, and the call that mends it.

Nothing here looks at a library that is not loaded: what a thing is, it tells by its type and its attributes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..text import short, told

TAKES = "an array of numbers, or a list of arrays"
FOLDERS = "minunet.load_folder(images, masks) reads folders"
FEW_VALUES, MANY_VALUES = 20, 60  # up to so many are a mask's, and more than so many an image's
SAMPLES = 2**16  # pixels whose values are counted
COLOURS = (3, 4)  # channels of an image in colours: RGB, RGBA
MOST_COLOURS = 4  # an image of no more rows than these, and of more channels, is channels first
ARRAYS = ("__array__", "__array_interface__", "__array_struct__")


def arrays_in(given: Any, name: str) -> Any:
    """Return what was given as one array, or as a list of what may be arrays; a ValueError says what else it is.

    A list of rows of numbers is one array, as NumPy reads it; an array of arrays, as pandas and NumPy hold what differs in size,
    is a list of them.
    """
    if isinstance(given, (list, tuple)):
        rows = len(given) > 0 and all(isinstance(row, (list, tuple)) and len(row) > 0 and np.isscalar(row[0]) for row in given)
        return as_array(given, name) if rows and not isinstance(given[0][0], str) else list(given)
    array = given if isinstance(given, np.ndarray) else as_array(given, name)
    return list(array) if array.ndim == 1 and array.dtype.kind in "OUST" else array


def as_array(given: Any, name: str) -> NDArray:
    """Return one array of NumPy's; a ValueError says what was given instead, and the call that makes one of it."""
    if not (isinstance(given, (list, tuple, int, float, complex)) or _is_array(given)):
        raise ValueError(f"{name} is {kind(given)}; it takes {TAKES}{_way(given, name)}")
    try:
        return np.asarray(given)
    except MemoryError:
        raise
    except Exception as error:  # each library refuses in its own way: of grad, of a GPU, of a sparse layout
        if isinstance(given, (list, tuple)):
            whole = name.rpartition("[")[0]
            pairs = f"; images, masks = zip(*{whole}) parts a list of pairs" if whole and len(given) == 2 else ""
            raise ValueError(
                f"{name} is a {type(given).__name__} of parts that differ in length or kind; it takes {TAKES}: images of "
                f"different sizes are a list of arrays, H x W each{pairs}"
            ) from error
        raise ValueError(
            f"{name} is {kind(given)}, and gives NumPy no array ({told(error)}); it takes {TAKES}{_way(given, name)}"
        ) from error


def require_colours(given: Any, name: str) -> None:
    """Refuse Pillow's images that hold places in a palette: of a mask these are classes, but they are no brightness."""
    several = isinstance(given, (list, tuple))
    for i, image in enumerate(given if several else [given]):
        if _library(image) == "PIL" and getattr(image, "mode", None) in ("P", "PA"):
            place = f"{name}[{i}]" if several else name
            raise ValueError(
                f"{place} is an image of Pillow's in mode {image.mode}, which holds places in a palette; it takes brightness or "
                f'colours: {place}.convert("RGB"), or "L" for grey'
            )


def wrong_dtype(array: NDArray, name: str) -> ValueError:
    """Return the refusal of an array that holds no real numbers."""
    code, first = array.dtype.kind, array.flat[0] if array.size else None
    way = ""
    if code == "c":
        way = f". Complex data not supported: np.abs({name}) gives their magnitudes, np.real({name}) their real parts"
    elif code in "UST":
        way = f": np.unique({name}, return_inverse=True)[1] numbers the words"
    elif code == "V":
        fields = array.dtype.names
        way = f": {name}[{fields[0]!r}] is one of its fields" if fields else f": {name}.astype(np.float32)"
    elif code == "O" and isinstance(first, (int, float, np.number)):
        way = f": {name}.astype(float) (images of different sizes go in a list, not in an object array)"
    elif code == "O":
        one = "" if isinstance(first, (list, tuple, np.ndarray)) else _way(first, name)
        way = f", not {kind(first)} (images of different sizes go in a list, not in an object array){one}"
    return ValueError(f"{name} is of dtype {array.dtype}; it takes numbers: bool, whole numbers or floats{way}")


def channels_first(name: str, call: str, shape: tuple[int, ...], form: str) -> ValueError:
    """Return the refusal of images C x H x W. shape : of one of them; call : how all are written in a call."""
    given = " x ".join(map(str, shape))
    return ValueError(f"{name} is {given}, channels first; it takes H x W x C, channels come last: {moved(call, form)}")


def moved(call: str, form: str) -> str:
    """Return the call that puts the channels of images last, which are written `call`, in a form of inputs.Images."""
    if form == "list":
        return f"[np.moveaxis(image, 0, -1) for image in {call}]"
    return f"np.moveaxis({call}, {1 if form == 'NHWC' else 0}, -1)"


def other_channels(has: int, takes: int) -> str:
    """Return how an image of so many channels becomes one of as many as a model takes; nothing, where that is not plain."""
    if takes == 1 and has == 3:
        return ": np.mean(image, axis=-1) makes it grey"
    if takes == 3 and has == 1:
        return ": np.stack([np.squeeze(image)] * 3, axis=-1) repeats the grey"
    if has == takes + 1:
        return f": image[..., :{takes}] leaves out the last, if it is transparency"
    return ""


def are_channels_first(image: tuple[int, ...], mask: tuple[int, ...]) -> bool:
    """Tell whether an image of shape (H, W, C) is C x H x W in truth, as the shape of its mask says, H x W or 1 x H x W."""
    fits = len(mask) in (2, 3) and mask[-2:] == image[1:] and image[2] > 1
    return fits and (mask[:2] != image[:2] or image[0] <= MOST_COLOURS < image[2])


def is_one_hot(mask: NDArray, axis: int) -> bool:
    """Tell whether a mask of 3 axes has one of classes, on which each pixel is 1 once and 0 else."""
    if mask.ndim != 3 or mask.shape[axis] < 2 or mask.dtype.kind not in "buif":
        return False
    once = np.sum(mask, axis=axis, dtype=np.float64) == 1
    return bool(once.all()) and bool(((mask == 0) | (mask == 1)).all())


def wrong_axes(mask: NDArray, size: tuple[int, ...], name: str, written: Written) -> ValueError:
    """Return the refusal of a mask that has no shape H x W. size : its image's; name : its own."""
    has = f"{name} has shape {mask.shape}" if mask.ndim else f"{name} is one number"
    takes = "A mask takes one number a pixel, the class, H x W"
    first, last = mask.shape[1:] == size, mask.shape[:2] == size
    for axis, fits in ((0, first), (-1, last)):
        if fits and is_one_hot(mask, axis):
            return ValueError(f"{has}, one-hot: a channel for each class. {takes}: {written.argmax(axis)}")
    if first and mask.shape[0] == 1:
        return ValueError(f"{has}; channels come last, and a mask needs none, H x W: {written.first(0)}")
    if last and mask.shape[2] in COLOURS:
        packed = written.each("{}[..., :3] @ [65536, 256, 1]")
        way = f": {packed} makes one number of each colour" if mask.dtype == np.uint8 else ""
        return ValueError(f"{has}: {mask.shape[2]} on its last axis. {takes}: convert colours to one channel{way}")
    if first or last:
        axis, which = (0, "first") if first else (-1, "last")
        return ValueError(
            f"{has}: {mask.shape[axis]} on its {which} axis. {takes}: {written.first(axis)} is the first channel alone, "
            f"{written.argmax(axis)} the number of the largest, as of probabilities"
        )
    return ValueError(f"{has}. {takes}, in its image's size, {' x '.join(map(str, size))}")


def no_whole_numbers(mask: NDArray, name: str, written: Written) -> ValueError:
    """Return the refusal of a mask of floats that are no whole numbers."""
    finite = mask[np.isfinite(mask)]
    fractions = finite[finite != np.rint(finite)]
    takes = "a mask takes whole numbers, the class of each pixel"
    if len(finite) < mask.size:
        weight = "where it is not known, any number, and a sample_weight of 0"
        return ValueError(f"{name} holds NaN or infinite values; {takes}; {weight}: {written.each('np.nan_to_num({})')}")
    if not len(fractions):
        return ValueError(f"{name} holds numbers beyond 2^53; {takes}")
    has = f"{name} holds fractions, such as {fractions[0]:.4g}; {takes}"
    if finite.min() >= 0 and finite.max() <= 1:
        return ValueError(f"{has}: {written.each('{} > 0.5')} makes two classes of probabilities")
    rounded = written.each("np.rint({})")
    return ValueError(f"{has}: of masks resized with interpolation, fit(x, {rounded}, classes=[...]) takes the nearest class")


@dataclass(frozen=True)
class Written:
    """How all masks are written in a call, such as "y" or "np.asarray(y)", and what they are: "one", a "stack" or a "list"."""

    call: str
    form: str

    def each(self, done: str) -> str:
        """Return the call that does it to each mask, which is {} in `done`; a stack takes it whole."""
        return f"[{done.format('mask')} for mask in {self.call}]" if self.form == "list" else done.format(self.call)

    def argmax(self, axis: int) -> str:
        """Return the call that gives the number of the largest channel, where a single mask has them on this axis."""
        return self.each(f"np.argmax({{}}, axis={1 if (axis, self.form) == (0, 'stack') else axis})")

    def first(self, axis: int) -> str:
        """Return the call that takes the first channel."""
        return self.each("{}[..., 0]" if axis else "{}[:, 0]" if self.form == "stack" else "{}[0]")


def seem_exchanged(image: NDArray, mask: NDArray) -> tuple[int, int] | None:
    """Return how many values both hold, if the image has as few as a mask and the mask as many as an image; else None."""
    n_image, n_mask = (len(np.unique(a.reshape(-1)[:: -(-a.size // SAMPLES)])) if a.size else 0 for a in (image, mask))
    return (n_image, n_mask) if 0 < n_image <= FEW_VALUES and n_mask > MANY_VALUES else None


def kind(given: Any) -> str:
    """Return what a thing is, in words."""
    if given is None:
        return "None"
    if isinstance(given, str):
        return f"the text {short(str(given))}"
    if isinstance(given, os.PathLike):
        return f"the path {short(os.fspath(given))}"
    if isinstance(given, (bytes, bytearray)):
        return f"{len(given)} bytes, as of a file"
    if isinstance(given, Mapping):
        return f"a {type(given).__name__} with {', '.join(short(key) for key in islice(given, 4)) or 'nothing'}"
    if isinstance(given, Iterator):
        return f"a {type(given).__name__}, which gives one thing after another"
    if getattr(given, "requires_grad", False) is True:
        return f"a {type(given).__name__} that requires grad"
    if isinstance(given, type):
        return f"the class {given.__name__}"
    if isinstance(given, (bool, int, float, complex)):
        return short(given)
    if isinstance(given, (list, tuple)):
        return f"a {type(given).__name__} of {len(given)}"
    library = _library(given)
    where = "" if library in ("builtins", "__main__") else f" of {library}"
    words = f"{'sparse ' if hasattr(given, 'toarray') else ''}{type(given).__name__}{where}"  # SciPy's have that method
    return f"{'an' if words[0] in 'aeioAEIO' else 'a'} {words}"


def _is_array(given: Any) -> bool:
    if isinstance(given, (type, str, bytes, bytearray)):
        return False
    if any(hasattr(given, attribute) for attribute in ARRAYS):
        return True
    try:
        memoryview(given)
    except TypeError:
        return False
    return True


def _library(given: Any) -> str:
    return type(given).__module__.partition(".")[0]


def _way(given: Any, name: str) -> str:
    """Return the call that makes an array, or a list of arrays, of it."""
    library = _library(given)
    if given is None or isinstance(given, type):
        return f"; {FOLDERS}"
    if isinstance(given, str) and given == "balanced":
        return '; UNet(class_weight="balanced") weighs classes'
    if isinstance(given, (str, os.PathLike, bytes, bytearray)):
        return f": {FOLDERS}, np.asarray(PIL.Image.open(path)) one file"
    if isinstance(given, Mapping):
        return f": one of its entries, or list({name}.values())"
    if library == "torch" and hasattr(given, "detach"):
        dense = "" if "strided" in str(getattr(given, "layout", "strided")) else ".to_dense()"
        return f": {name}.detach().cpu(){dense}.float().numpy()"
    if library == "cupy":
        return f": cupy.asnumpy({name})"
    if hasattr(given, "toarray"):  # SciPy's sparse ones
        return f": {name}.toarray()"
    if hasattr(given, "__dlpack__"):
        return f": np.from_dlpack({name})"
    if hasattr(given, "as_numpy_iterator"):  # TensorFlow's Dataset
        return f": images, masks = zip(*{name}.as_numpy_iterator()), where it gives pairs; {FOLDERS}"
    if isinstance(given, Iterator):
        return f": list({name}) collects them; {FOLDERS}"
    if hasattr(given, "dataset"):  # torch's DataLoader, whose batches are no images
        return f": images, masks = zip(*{name}.dataset), where it holds pairs; {FOLDERS}"
    if isinstance(given, Iterable):
        return f": list({name}) collects what it gives; images, masks = zip(*{name}), where it gives pairs; {FOLDERS}"
    if hasattr(given, "__getitem__") and hasattr(given, "__len__"):  # torch's Dataset
        return f": images, masks = zip(*({name}[i] for i in range(len({name})))), where it holds pairs; {FOLDERS}"
    return f"; {FOLDERS}"
