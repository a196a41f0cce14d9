"""Prediction of an image of any size: padded, and cut into overlapping tiles where memory asks for it.

A tile is the image's part that is kept, and a halo around it as wide as that part can see. The result of tiles
is that of the whole image; only the rounding of a matrix product may differ. One tile after the other is read, predicted and
handed on, so that an image need not be in memory.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import devices, kernels, losses, sizes
from ..checks import NotFiniteError, array, require
from ..data.geometry import N_SYMMETRIES, symmetry
from ..data.mirror import mirrored
from ..data.sliced import Image, Sliced
from ..kernels.buffers import pooled
from ..network import Network
from ..training.memory import free_memory, inference_bytes
from .turned import Span, Turned, inverse

LEAST_SIDE = 32  # pixels of a tile that are kept: fewer would save little memory, and the halo's work would never end
LARGE, MOST_BYTES = 2**26, 2**30  # pixels from which an image may lie on disk, and what one run of the network takes then


@kernels.contained
def predict_proba(
    network: Network, image: Image, *, tta: bool = False, max_bytes: float | None = None
) -> NDArray[np.floating]:
    """Return the probabilities (H, W, K) of an image (H, W, C) from 1 x 1 up, its borders mirrored; all finite, or it raises.

    tta : whether to take the mean of those of its 8 quarter turns and flips, each turned back.
    max_bytes : the memory that one run of the network may take, by its estimate; a quarter of what is free unless given; of
        an image of LARGE pixels, MOST_BYTES at most. The largest tiles that fit are taken, but never smaller than LEAST_SIDE
        and the halo.
    """
    image = image if isinstance(image, Sliced) else array("image", image)
    require(image.ndim == 3 and image.size > 0, "image", f"an array of shape {image.shape}", "(H, W, C), none of them 0")
    require(image.dtype.kind in "buif", "image", f"of dtype {image.dtype}", "numbers")
    out = np.empty((*image.shape[:2], network.out_channels), network.dtype)
    predict_into(network, image, out.__setitem__, tta=tta, max_bytes=max_bytes)
    return out


@kernels.contained
def predict_into(
    network: Network, image: Any, take: Callable[[tuple[slice, slice], NDArray[np.floating]], object], *, tta: bool = False,
    max_bytes: float | None = None,
) -> None:  # fmt: skip
    """Predict an image as `predict_proba` does, and hand on each tile's place and probabilities: nowhere are all of them.

    image : (H, W, C), anything that gives image[rows, cols] for two slices.
    """
    h, w, _ = image.shape
    if max_bytes is None:
        max_bytes = min(free_memory(network) / 4, MOST_BYTES if h * w >= LARGE else np.inf)
    side = tile_side(network, h, w, max_bytes)
    with pooled(), devices.using(kernels.place(network.flat)):
        for rows, cols in itertools.product(_spans(network, h, side), _spans(network, w, side)):
            found = _averaged(network, image, rows, cols) if tta else _predict_tile(network, image, rows, cols)
            if not np.isfinite(found).all():
                n_lost = int((~np.isfinite(found)).any(axis=-1).sum())
                raise NotFiniteError(
                    f"the network has no finite answer at {n_lost} of {found[..., 0].size} pixels",
                    ": its weights overflow, or the image holds numbers beyond what it can compute with; a class would mean "
                    "nothing",
                )
            take((slice(*rows), slice(*cols)), found)


def _averaged(network: Network, image: Any, rows: Span, cols: Span) -> NDArray[np.floating]:
    """Return the mean of the probabilities of rows x cols over the 8 turned images, in their order.

    Each is cut where the turned image would be, whose pooling windows begin at its own corner.
    """
    cell, total = 2**network.depth, None
    for k in range(N_SYMMETRIES):
        turned = Turned(image, k)
        (p0, p1), (q0, q1) = turned.where(rows, cols)
        found = _predict_tile(network, turned, (p0 // cell * cell, p1), (q0 // cell * cell, q1))
        back = symmetry(found[p0 % cell :, q0 % cell :], inverse(k))
        total = back.copy() if total is None else np.add(total, back, out=total)
    assert total is not None
    return total / np.asarray(N_SYMMETRIES, total.dtype)


def halo(network: Network) -> int | None:
    """Return how many pixels around a region the network can see, rounded up to a multiple of its cell, 2^depth.

    The region consists of whole cells, so that the pooling windows of a tile are those of the whole image. A pixel inside a cell
    sees further than that, by up to 2^depth - 1, but never beyond its region's halo. Depth 0 to 4: 2, 8, 22, 46, 94 pixels,
    rounded up to 2, 8, 24, 48, 96. None where an output depends on the whole image.
    """
    sight = sizes.halo(network)
    return None if sight is None else _round_up(sight, 2**network.depth)


def tile_side(network: Network, h: int, w: int, budget: float) -> int:
    """Return the side of the tiles' kept part for an image of h x w: the largest whose run takes `budget` bytes or less."""

    def n_bytes(side: int) -> int:
        return inference_bytes(network, 1, _input_side(network, h, side), _input_side(network, w, side))

    sides = _sides(network, h, w)
    if len(sides) == 1 or n_bytes(sides[-1]) <= budget:
        return sides[-1]
    return sides[max(bisect_right(sides, budget, key=n_bytes) - 1, 0)]


def _sides(network: Network, h: int, w: int) -> range:
    """Return the sides that a tile's kept part may have, up to that of the whole image."""
    cell, sight = 2**network.depth, halo(network)
    whole = _round_up(max(h, w), cell)
    return range(whole if sight is None else min(_round_up(max(LEAST_SIDE, sight), cell), whole), whole + 1, cell)


def least_input(network: Network, h: int, w: int) -> tuple[int, int]:
    """Return the size of what goes into the network for an image of h x w, where memory asks for the smallest tiles."""
    side = _sides(network, h, w)[0]
    return _input_side(network, h, side), _input_side(network, w, side)


def _input_side(network: Network, size: int, side: int) -> int:
    """Return how many pixels go into the network for a tile that keeps `side` of an image's `size`."""
    if network.padding == "valid":
        return network.fitting_output(min(side, size)) + 2 * network.margin
    padded = _round_up(size, 2**network.depth)
    return padded if side >= size else min(padded, side + 2 * (halo(network) or 0))


def _spans(network: Network, size: int, side: int) -> list[Span]:
    """Cut size into as few spans of at most `side` as it takes, of like length, at multiples of 2^depth."""
    length = _round_up(-(-size // -(-size // side)), 2**network.depth)
    return [(start, min(start + length, size)) for start in range(0, size, length)]


def _predict_tile(network: Network, image: Any, rows: Span, cols: Span) -> NDArray[np.floating]:
    """Return the probabilities of rows x cols of the image; both start at multiples of 2^depth."""
    h, w, _ = image.shape
    (top, above), (left, before) = _input_indices(network, rows, h), _input_indices(network, cols, w)
    tile = mirrored(image, top, left)[None].astype(network.dtype, copy=False)
    logits = network(kernels.for_array(network.flat).asarray(tile))
    with np.errstate(invalid="ignore"):  # of logits that are not finite; predict_proba looks
        return losses.softmax(kernels.to_host(logits[0, above : above + rows[1] - rows[0], before : before + cols[1] - cols[0]]))


def _input_indices(network: Network, span: Span, size: int) -> tuple[NDArray[np.intp], int]:
    """Return the image's indices that a tile's input takes along one side, and where its kept part starts in the output."""
    start, stop = span
    if network.padding == "valid":  # every output pixel is seen whole, by construction
        length = network.fitting_output(stop - start)
        return np.arange(start - network.margin, start + length + network.margin), 0
    # "same" pads with zeros, at the padded image's edges and at a tile's: the halo keeps the latter out of sight.
    cell = 2**network.depth
    sight = size if (known := halo(network)) is None else known
    first = max(0, start - sight)
    last = min(_round_up(size, cell), _round_up(stop, cell) + sight)
    return np.arange(first, last), start - first


def _round_up(size: int, step: int) -> int:
    return -(-size // step) * step
