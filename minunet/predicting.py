"""What UNet's predictions do: images are read, scaled and cut into tiles, and what is found is put where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .checks import require, shown
from .data.inputs import Images, read_images
from .data.prepare import scaled
from .data.sliced import Image
from .evaluation import places
from .evaluation.objects import parted, regions, require_watershed
from .evaluation.threshold import decide
from .evaluation.tiles import predict_into
from .kernels.buffers import Pool, pooled

if TYPE_CHECKING:
    from .unet import UNet

Floats = NDArray[np.floating]


def read(unet: UNet, x: Any) -> Images:
    """Return the images of x as the model takes them; large ones that lie on disk are not read yet."""
    return read_images(x, n_channels=unet.n_channels_in_, channel_axis=unet.channel_axis_)


def indices(unet: UNet, probabilities: Floats) -> NDArray[np.intp]:
    """Return each pixel's class (H, W), as a place in classes_, of its probabilities (H, W, K)."""
    return decide(probabilities, unet.threshold_)


def labels(unet: UNet, x: Any, *, tta: bool = False, out: Any = None) -> Any:
    """Return what `UNet.predict` does."""
    return _predicted(unet, x, unet._labels, (), unet.classes_.dtype, unet.classes_, tta, out)


def probabilities(unet: UNet, x: Any, *, tta: bool = False, out: Any = None) -> Any:
    """Return what `UNet.predict_proba` does."""
    return _predicted(unet, x, lambda found: found, (len(unet.classes_),), unet.network_.dtype, None, tta, out)


def instances(unet: UNet, x: Any, *, tta: bool = False) -> Any:
    """Return what `UNet.predict_instances` does."""
    require_choice(tta)
    require_parts(unet)
    images = read(unet, x)
    return images.restore([objects(unet, p) for p in each(unet, images, tta=tta)])


def objects(unet: UNet, probabilities: Floats) -> NDArray[np.int32]:
    """Return the objects of an image (H, W) by its probabilities (H, W, K)."""
    if unet.smallest_object_ is None:
        return regions(indices(unet, probabilities) > 0)
    return parted(probabilities, unet.smallest_object_)


def require_parts(unet: UNet) -> None:
    """Raise an ImportError that says what to install, if objects of this model cannot be parted."""
    if unet.smallest_object_ is not None:
        require_watershed()


def require_choice(tta: Any) -> None:
    """Refuse what is neither yes nor no: a text is true, whatever it says."""
    require(isinstance(tta, (bool, np.bool_)), "tta", shown(tta), "True or False")


def each(unet: UNet, images: Images, *, tta: bool = False) -> Iterator[Floats]:
    """Yield the probabilities of each image (H, W, K): of many large images, all at once would not fit."""
    for image, into in _in_turn(unet, images, tta):
        found = np.empty((*image.shape[:2], len(unet.classes_)), unet.network_.dtype)
        into(found.__setitem__)
        yield found


def _predicted(
    unet: UNet, x: Any, of: Callable[[Floats], NDArray], trailing: tuple[int, ...], dtype: np.dtype, values: NDArray | None,
    tta: bool, out: Any,
) -> Any:  # fmt: skip
    """Return what `of` makes of the probabilities of each part of x (h, w, K), together in the form of x, or written to out.

    trailing : the shape that it has beside h x w. values : all that it may be; None of probabilities.
    """
    require_choice(tta)
    images = read(unet, x)
    if out is None:
        results = []
        for image, into in _in_turn(unet, images, tta):
            result = np.empty((*image.shape[:2], *trailing), dtype)
            into(lambda at, found, result=result: result.__setitem__(at, of(found)))
            results.append(result)
        return images.restore(results)
    shape = (*_shape(images), *trailing)
    places.require_place(out, shape, values, x)
    one, made = images.form in ("HW", "HWC"), np.dtype(dtype)
    if values is not None and not places.is_npy(out):
        made = places.least_dtype(values)
    with places.opened(out, shape, made) as place:
        for i, (_, into) in enumerate(_in_turn(unet, images, tta)):
            into(lambda at, found, page=() if one else (i,): place.__setitem__((*page, *at), of(found)))
    return out


def _in_turn(unet: UNet, images: Images, tta: bool) -> Iterator[tuple[Image, Callable[[Callable[..., object]], None]]]:
    """Yield each image, and a function that predicts it and hands what it finds to another, tile by tile."""
    pool = Pool()
    for image in scaled(images, unet.normalizer_, unet.context_):

        def into(take: Callable[..., object], image: Image = image) -> None:
            with unet._computing(unet.network_), pooled(pool):
                predict_into(unet.network_, image, take, tta=tta)

        yield image, into


def _shape(images: Images) -> tuple[int, ...]:
    """Return the shape of all images together, less channels; ValueError where `out` could not hold them."""
    if images.form == "list":
        raise ValueError("out is one place, but x is a list of images; it takes one array, or a call for each image")
    if any(here is not None for here in images.hidden):
        raise ValueError("x is masked, which out cannot tell; fill it, as np.ma.filled(x, 0), or leave out the argument out")
    size = images.arrays[0].shape[:2]
    return size if images.form in ("HW", "HWC") else (len(images.arrays), *size)
