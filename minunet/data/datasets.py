"""Synthetic images to learn on: tissue as an electron microscope might show it, with its true segmentation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from .rng import generator

Field = NDArray[np.float64]

CELL = 42.0  # mean distance of neighbouring cells' centres, in pixels
BORDER = 16  # pixels around the image that are drawn too
MIN_SIZE = 16


def cells(n: int = 20, size: int = 256, random_state: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return n images and their masks, both (n, size, size): cells divided by dark membranes.

    y is 0 on membranes and 255 inside cells. Membranes vary in contrast and width; mitochondria with dark rims,
    vesicles and granules, as dark as they, belong to the inside: darkness alone does not tell. Image i depends on
    random_state, i and size alone, so the first images of a longer set are the shorter set.
    """
    if n < 1 or size < MIN_SIZE:
        raise ValueError(f"n is {n} and size {size}; cells takes at least 1 image of at least {MIN_SIZE} pixels a side")
    pairs = [_cell_image(generator(random_state, "cells", i), size) for i in range(n)]
    return np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])


def _cell_image(rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    distance, owner = _tissue(rng, size)
    width = np.clip(2.2 + 0.3 * _smooth(rng, size, 20), 1.5, 3.0)  # half the membrane's width
    membrane = distance < width
    cytoplasm = 0.68 + 0.05 * rng.standard_normal(owner.max() + 1)[owner] + 0.02 * _smooth(rng, size, 3)
    image = cytoplasm + 0.035 * _smooth(rng, size, 1.0)
    _draw_organelles(rng, image, distance)
    darkness = np.clip(0.36 + 0.12 * _smooth(rng, size, 18), 0.18, 0.6)  # some membranes are faint
    image -= darkness * np.exp(-((distance / width) ** 4))
    image += 0.05 * _smooth(rng, size, 70)  # shading
    image = ndimage.gaussian_filter(image, 0.9) + 0.075 * rng.standard_normal(image.shape)
    image = ndimage.gaussian_filter(image, 0.5)
    return (255 * image).clip(0, 255).astype(np.uint8), np.where(membrane, 0, 255).astype(np.uint8)


def _tissue(rng: np.random.Generator, size: int) -> tuple[Field, NDArray[np.intp]]:
    """Return each pixel's distance to the nearest border between cells, and its cell: Voronoi cells, warped."""
    margin = 2 * CELL
    count = int(((size + 2 * margin) / CELL) ** 2)
    seeds = rng.uniform(-margin, size + margin, (count, 2))
    rows, cols = np.mgrid[-BORDER : size + BORDER, -BORDER : size + BORDER].astype(float)
    warp = [8 * _smooth(rng, size + 2 * BORDER, 16) + 1.5 * _smooth(rng, size + 2 * BORDER, 4) for _ in range(2)]
    owner = np.asarray(cKDTree(seeds).query(np.stack((rows + warp[0], cols + warp[1]), axis=-1))[1])
    border = np.zeros(owner.shape, bool)
    border[:-1] |= owner[:-1] != owner[1:]
    border[:, :-1] |= owner[:, :-1] != owner[:, 1:]
    inside = slice(BORDER, -BORDER)  # what lies beyond the image's edge counts for distances too
    distance = np.asarray(ndimage.distance_transform_edt(~border))
    return distance[inside, inside], owner[inside, inside]


def _draw_organelles(rng: np.random.Generator, image: Field, distance: Field) -> None:
    """Draw mitochondria, vesicles and granules where there is room between membranes."""
    size = len(image)
    for kind, per_area in ((_mitochondrion, 1 / 1800), (_vesicle, 1 / 420), (_granule, 1 / 700)):
        for _ in range(rng.poisson(per_area * size * size)):
            row, col = rng.integers(0, size, 2)
            kind(rng, image, row, col, distance[row, col])


def _mitochondrion(rng: np.random.Generator, image: Field, row: int, col: int, room: float) -> None:
    long, short = rng.uniform(7, 12), rng.uniform(4.5, 7)
    if room < short + 3:
        return
    window, r = _ellipse(rng, image.shape, row, col, long, short)
    inside = np.clip((1.05 - r) * short, 0, 1)
    rim = np.exp(-(((r - 0.95) * short / 1.5) ** 2))
    cristae = 0.09 * np.sin(r * short * 2.2 + rng.uniform(0, 6))
    image[window] -= inside * (rng.uniform(0.1, 0.2) + cristae) + rim * rng.uniform(0.2, 0.42)


def _vesicle(rng: np.random.Generator, image: Field, row: int, col: int, room: float) -> None:
    radius = rng.uniform(2.2, 4.2)
    if room < radius + 3:
        return
    window, r = _ellipse(rng, image.shape, row, col, radius, radius)
    image[window] -= rng.uniform(0.15, 0.38) * np.exp(-(((r - 1) * radius / 1.2) ** 2))


def _granule(rng: np.random.Generator, image: Field, row: int, col: int, room: float) -> None:
    long, short = rng.uniform(1.6, 5), rng.uniform(1.2, 2.2)
    if room < long + 2.5:
        return
    window, r = _ellipse(rng, image.shape, row, col, long, short)
    image[window] -= rng.uniform(0.15, 0.42) * np.exp(-(r**4))


def _ellipse(
    rng: np.random.Generator, shape: tuple[int, ...], row: int, col: int, long: float, short: float
) -> tuple[tuple[slice, slice], Field]:
    """Return a window around an ellipse turned at random, and the distance from its centre in units of its radius."""
    reach = int(2 * long) + 3
    rows = slice(max(row - reach, 0), min(row + reach + 1, shape[0]))
    cols = slice(max(col - reach, 0), min(col + reach + 1, shape[1]))
    dy, dx = np.mgrid[rows, cols].astype(float) - np.array([row, col])[:, None, None]
    angle = rng.uniform(0, np.pi)
    along, across = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    return (rows, cols), np.hypot(along / long, across / short)


def _smooth(rng: np.random.Generator, size: int, scale: float) -> Field:
    """Return a smooth random field of mean 0 and standard deviation 1 that varies over `scale` pixels."""
    pad = int(3 * scale) + 1
    step = max(1, int(scale / 3))  # a coarse grid is enough for a smooth field
    coarse = ndimage.gaussian_filter(rng.standard_normal((-(-(size + 2 * pad) // step),) * 2), scale / step, truncate=3)
    coarse = (coarse - coarse.mean()) / coarse.std()
    start = pad / step
    places = start + np.arange(size) / step
    return ndimage.map_coordinates(coarse, np.meshgrid(places, places, indexing="ij"), order=1, mode="nearest")
