"""Prediction of an image of any size: padded, and cut into overlapping tiles where memory asks for it.

A tile is the image's part that is kept, and a halo around it as wide as the network can see. The result of tiles
is that of the whole image; only the rounding of a matrix product may differ.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from .. import losses
from ..data.mirror import mirror
from ..network import Network
from ..training.memory import available_memory, inference_bytes

Span = tuple[int, int]


def predict_proba(
    network: Network, image: NDArray[np.floating], *, max_bytes: float | None = None
) -> NDArray[np.floating]:
    """Return the probabilities (H, W, K) of an image (H, W, C) from 1 x 1 up, its borders mirrored.

    max_bytes : the memory that one run of the network may take, by its estimate; a quarter of what is free unless given.
    """
    h, w, _ = image.shape
    budget = available_memory() / 4 if max_bytes is None else max_bytes
    height, width = _fitting(network, h), _fitting(network, w)
    side = _largest_tile(network, height, width, budget)
    out = np.empty((h, w, network.out_channels), network.dtype)
    for (p0, p1), (q0, q1) in itertools.product(_spans(h, side), _spans(w, side)):
        out[p0:p1, q0:q1] = _predict_tile(network, image, (p0, p1), (q0, q1), (height, width))
    return out


def halo(network: Network) -> int:
    """Return how far from a pixel the network can see, rounded up to a multiple of 2^depth (so that pooling aligns).

    Each 3 x 3 convolution at level i sees 2^i pixels further: 4 of them at each level but 2 at the lowest. Pooling
    adds nothing but alignment: a pixel may lie up to 2^depth - 1 from the edge of its pooling cell.
    """
    cell = 2**network.depth
    reach = sum(4 * 2**i for i in range(network.depth)) + 2 * cell
    return -(-(reach + cell - 1) // cell) * cell


def _predict_tile(
    network: Network, image: NDArray[np.floating], rows: Span, cols: Span, padded: Span
) -> NDArray[np.floating]:
    """Return the probabilities of rows x cols of the image."""
    (top, above), (left, before) = (
        _input_indices(network, span, size) for span, size in zip((rows, cols), padded, strict=True)
    )
    h, w, _ = image.shape
    tile = image[np.ix_(mirror(top, h), mirror(left, w))][None].astype(network.dtype, copy=False)
    logits = network(tile)[0, above : above + rows[1] - rows[0], before : before + cols[1] - cols[0]]
    return losses.softmax(logits)


def _input_indices(network: Network, span: Span, padded: int) -> tuple[NDArray[np.intp], int]:
    """Return the image's indices that a tile's input takes along one side, and where its kept part starts in the output."""
    start, stop = span
    if network.padding == "valid":  # every output pixel is seen whole, by construction
        size = network.fitting_output(stop - start)
        return np.arange(start - network.margin, start + size + network.margin), 0
    # "same" pads with zeros, at the padded image's edges and at a tile's: the halo keeps the latter out of sight.
    first = max(0, start - halo(network))
    last = min(padded, _round_up(stop, 2**network.depth) + halo(network))
    return np.arange(first, last), start - first


def _fitting(network: Network, size: int) -> int:
    return network.fitting_output(size) if network.padding == "valid" else _round_up(size, 2**network.depth)


def _largest_tile(network: Network, height: int, width: int, budget: float) -> int:
    """Return the side of the kept part of the tiles: that of the whole image if it fits, else halved until it does."""
    cell = 2**network.depth
    around = 2 * (network.margin if network.padding == "valid" else halo(network))
    side = max(height, width)
    if network.padding == "same" and inference_bytes(network, 1, height, width) <= budget:
        return side
    while side > cell:
        tile = _fitting(network, side) + around
        if inference_bytes(network, 1, tile, tile) <= budget:
            break
        side = _round_up(side // 2, cell)
    return side


def _spans(size: int, side: int) -> list[Span]:
    return [(start, min(start + side, size)) for start in range(0, size, side)]


def _round_up(size: int, step: int) -> int:
    return -(-size // step) * step
