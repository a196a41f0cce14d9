"""Where a patch's pixels come from: a window of an image, as it lies there or turned, scaled and bent."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernels import run, warping
from .mirror import mirror, mirrored

if TYPE_CHECKING:
    from .sampling import Example

GRID = 3  # nodes a side of the elastic field
LEAST_SPACING = 12  # times its standard deviation: nearer nodes would fold the image, about once in ten million patches
N_SYMMETRIES = 8  # of a square: quarter turns and flips


class Patch(NamedTuple):
    """What the network sees of an example: its input (P+2m, P+2m, C), labels (P, P) and weights (P, P)."""

    image: NDArray
    label: NDArray
    weight: NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """A square of an example from (top, left) on, `size` a side, with a margin around it that only the network's input has.

    What lies beyond the image is mirrored, and has weight 0.
    """

    example: Example
    top: int
    left: int
    size: int
    margin: int = 0

    @property
    def side(self) -> int:
        """Of the network's input."""
        return self.size + 2 * self.margin

    def plain(self) -> Patch:
        """Return its pixels as they are, copies."""
        rows, cols = (start + np.arange(self.size) for start in (self.top, self.left))
        wide_rows, wide_cols = (start - self.margin + np.arange(self.side) for start in (self.top, self.left))
        h, w = self.example.label.shape
        weight = (_within(rows, h)[:, None] & _within(cols, w)).astype(np.float32)
        if self.example.weight is not None:
            weight *= mirrored(self.example.weight, rows, cols)
        label = mirrored(self.example.label, rows, cols).astype(np.int32, copy=False)
        return Patch(mirrored(self.example.image, wide_rows, wide_cols), label, weight)

    def warped(self, angle: float = 0.0, factor: float = 1.0, nodes: NDArray | None = None) -> Patch:
        """Return its pixels as `coordinates` moves them about the window's centre, or the image's where that is smaller.

        The image is resampled once, straight from its pixels; labels and weights are the nearest pixel's.
        """
        shape = self.example.label.shape
        starts = zip((self.top, self.left), shape, strict=True)
        centre = [start + (self.size - 1) / 2 if n >= self.size else (n - 1) / 2 for start, n in starts]
        rows, cols = coordinates(self.side, (centre[0], centre[1]), angle, factor, nodes)
        (first_row, wide_rows), (first_col, wide_cols) = map(_taps, (rows, cols))
        image = mirrored(self.example.image, wide_rows, wide_cols)
        inner = slice(self.margin, self.margin + self.size)
        near_rows, near_cols = (np.rint(at[inner, inner]).astype(np.intp) for at in (rows, cols))
        at = near_rows - first_row, near_cols - first_col
        weight = (_within(near_rows, shape[0]) & _within(near_cols, shape[1])).astype(np.float32)
        if self.example.weight is not None:
            weight *= mirrored(self.example.weight, wide_rows, wide_cols)[at]
        label = mirrored(self.example.label, wide_rows, wide_cols)[at].astype(np.int32, copy=False)
        return Patch(run(warping.warp, image, rows - first_row, cols - first_col), label, weight)


def coordinates(
    side: int, centre: tuple[float, float], angle: float = 0.0, factor: float = 1.0, nodes: NDArray | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the rows and columns (side, side) of an image from which the pixels of a patch come.

    What lies about the centre, a row and a column of the image, is turned by an angle (radians, as np.rot90 turns) and enlarged
    by a factor. nodes (2, 3, 3) : how far, in pixels of the image along rows and columns, a coarse grid over the patch is
    displaced besides; between its nodes the field is interpolated bicubically (Ronneberger et al. 2015, section 3.1).
    """
    u = np.arange(side) - (side - 1) / 2
    cos, sin = math.cos(angle) / factor * u, math.sin(angle) / factor * u
    rows, cols = centre[0] + cos[:, None] + sin, centre[1] - sin[:, None] + cos
    if nodes is not None:
        b = basis(side)
        for field, grid in zip((rows, cols), nodes, strict=True):
            for i in range(GRID):  # sums of a few products, in a fixed order: a matrix product's is its library's
                field += b[:, i, None] * (grid[i, 0] * b[:, 0] + grid[i, 1] * b[:, 1] + grid[i, 2] * b[:, 2])
    return rows, cols


@functools.lru_cache(maxsize=16)
def basis(side: int) -> NDArray[np.float64]:
    """Return how much each of 3 nodes, at the ends and in the middle of a side, counts at each of its pixels: (side, 3).

    By cubic convolution, the nodes mirrored at the ends.
    """
    at = np.linspace(0, GRID - 1, side) if side > 1 else np.ones(1)
    first = np.floor(at).astype(np.intp)
    b, weights = np.zeros((side, GRID)), warping.cubic(at - first)
    for i in range(4):
        np.add.at(b, (np.arange(side), mirror(first + i - 1, GRID)), weights[i])
    return b


def displacements(nodes: NDArray, sigma: float, side: int) -> NDArray[np.float64]:
    """Return standard normal nodes as displacements of sigma pixels, or of fewer where the nodes of such a patch lie near."""
    return nodes * min(sigma, (side - 1) / (GRID - 1) / LEAST_SPACING)


def symmetry(square: NDArray, k: int) -> NDArray:
    """Return symmetry k, 0 to 7, of an array (P, P, ...): k % 4 quarter turns, then for k >= 4 a flip. 0 changes nothing."""
    turned = np.rot90(square, k % 4)
    return turned[:, ::-1] if k >= 4 else turned


def _taps(places: NDArray) -> tuple[int, NDArray[np.intp]]:
    """Return the first of the pixels that places are interpolated from along an axis, and all of them."""
    first = math.floor(places.min()) - 1
    return first, np.arange(first, math.floor(places.max()) + 3)


def _within(indices: NDArray, size: int) -> NDArray[np.bool_]:
    return (indices >= 0) & (indices < size)
