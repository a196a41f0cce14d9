"""How a convolution runs: which variant of conv.cu, in how many blocks, its sum in how many parts.

All of it follows from shapes, dtype, precision and the device's capability. Bits depend on two things: on the path, and of a
weight gradient on its number of parts, which is that of the shape alone. Everything else decides about time only. (In bfloat16
alignment decides the path: so implicit.py sees to that.)
"""

from __future__ import annotations

import functools
import logging
import math
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from ..geometry import Pair, Shape, output_hw
from .device import Kernel, blocks, store
from .layout import ACCESS

LOG = logging.getLogger("minunet.gpu")

FILE = "conv.cu"
PASSES = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
PATHS = ("fma", "tensor")
TENSOR_CAPABILITY = 80  # TF32, bf16 and cp.async came with it

DEPTH = 16
NARROW_DEPTH = 32  # of bf16 on tensor cores

LEAST_CHANNELS = 8  # for tensor cores, which multiply 8 by 8: with fewer, memory is what takes the time
BUSY = 512  # blocks that a weight gradient is cut into, if it has the depth: twice what a large GPU runs at once
LEAST_PART, MOST_PART = 256, 16384  # pixels: fewer are not worth a part of their own, more are too long a sum for float32

LIMIT = 2**30  # below which every whole number of a kernel lies but addresses, rows and what is made of those
MOST_BLOCKS = 2**31 - 1


@dataclass(frozen=True)
class Tile:
    """What a block makes of a product, and how: a variant of conv.cu, which is told these numbers as it is compiled."""

    path: str
    store: str
    columns: int
    vector: int  # numbers that are loaded at once

    @property
    def rows(self) -> int:
        """Of the tile. A warp that multiplies 64 rows by 32 columns reads less for each product than one of 32."""
        if self.store == "double":
            return 64
        return 256 if self.path == "tensor" and self.vector > 1 and self.columns < 128 else 128

    @property
    def stages(self) -> int:
        """Chunks in shared memory: one is multiplied, the others come."""
        return 2 if self.path == "fma" else 3 if self.rows == 256 else 4

    @property
    def depth(self) -> int:
        """Of a chunk."""
        return NARROW_DEPTH if (self.path, self.store) == ("tensor", "bf16") else DEPTH

    @property
    def space(self) -> int:
        """Numbers between the lines of a chunk, so that what is read together lies in different banks."""
        return 8 if self.path == "tensor" else 4

    @property
    def shared(self) -> int:
        """Bytes of shared memory: where each row goes, and all stages' chunks of both factors."""
        line = self.rows + self.columns + 2 * self.space
        factor = 8 if self.store == "double" else 4 * DEPTH // self.depth  # bytes
        return self.rows * 8 + self.stages * self.depth * line * factor

    def kernel(self, name: str) -> Kernel:
        """Return a pass's kernel."""
        options = f"TENSOR={int(self.path == 'tensor')}", f"COLUMNS={self.columns}", f"VECTOR={self.vector}"
        numbers = {"ROWS": self.rows, "DEPTH": self.depth, "STAGES": self.stages, "SPACE": self.space, "LIMIT": LIMIT}
        return Kernel(FILE, name, self.store, options, tuple(f"{of}={number}" for of, number in numbers.items()))


# All that there are, for whoever compiles or tests them; of those, `tile` chooses.
TILES = (
    Tile("fma", "float", 16, 1), Tile("fma", "float", 64, 1), Tile("fma", "float", 64, 4),
    Tile("fma", "double", 16, 1), Tile("fma", "double", 64, 1), Tile("fma", "double", 64, 2),
    Tile("fma", "bf16", 16, 1), Tile("fma", "bf16", 64, 1),
    Tile("tensor", "float", 64, 1),
    Tile("tensor", "float", 32, 4), Tile("tensor", "float", 64, 4), Tile("tensor", "float", 128, 4),
    Tile("tensor", "bf16", 32, 8), Tile("tensor", "bf16", 64, 8), Tile("tensor", "bf16", 128, 8),
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """One pass of one convolution."""

    kernel: Kernel
    grid: int  # blocks of threads
    shared: int  # bytes of a block
    phases_w: int = 1  # of an input gradient: the grids of pixels that see the same taps, along the width
    blocks_of_a_phase: int = 1
    parts: int = 1  # of a weight gradient: partial sums
    chunks: int = 0  # in each part, of the tile's depth in pixels
    few_taps: bool = False  # so that its rows are dy's channels, and taps its columns


def chosen_path(c: int, k: int, dtype: DTypeLike, *, capability: int, precision: str) -> str:
    """Return "tensor" (TF32 or bf16 products on tensor cores) or "fma" (multiply-adds in float), for c to k channels.

    float64 is always "fma". Else MINUNET_GPU_PATH in the environment forces one of them, whatever the precision and the
    channels are (but bfloat16's tensor cores take multiples of 8 channels: see `tile`); ValueError where it names neither,
    or a device of this capability (10 major + minor) has none.
    """
    if store(dtype) == "double":
        return "fma"
    path = os.environ.get("MINUNET_GPU_PATH")
    if not path:
        wanted = precision != "float32" or store(dtype) == "bf16"  # what is float32 in "bf16" is better off in TF32
        return "tensor" if wanted and capability >= TENSOR_CAPABILITY and min(c, k) >= LEAST_CHANNELS else "fma"
    if path not in PATHS:
        raise ValueError(f"MINUNET_GPU_PATH is {path!r}; it takes {' or '.join(PATHS)}")
    if path == "tensor" and capability < TENSOR_CAPABILITY:
        raise ValueError(
            f"MINUNET_GPU_PATH is 'tensor', and this GPU has compute capability {capability / 10}: TF32 and bf16 exist from "
            f"{TENSOR_CAPABILITY / 10} on. Unset it, or set it to 'fma'"
        )
    return path


@functools.lru_cache(4096)
def plan(
    name: str, x_shape: Shape, w_shape: Shape, dtype: str, *, stride: Pair, padding: Pair, path: str, vectors: bool = True
) -> Plan:
    """Return how pass `name` of the convolution of x_shape (N, H, W, C) with w_shape (R, S, C, K) runs on a path.

    vectors: whether all arrays lie so that 16 bytes may be loaded at once. ValueError where a size is beyond what kernels
    count.
    """
    n, (r, s, c, k) = x_shape[0], w_shape
    p, q = output_hw(x_shape, (r, s), stride, padding)
    check_sizes(x_shape, w_shape, (n, p, q, k), stride, padding)
    shape = tile(c if name == "conv2d_input_grad" else k, c, k, dtype, path=path, vectors=vectors)
    if name == "conv2d_input_grad":
        made = _input_grad(shape, x_shape, stride)
    elif name == "conv2d_weight_grad":
        made = _weight_grad(shape, r * s * c, k, n * p * q)
    else:
        made = Plan(shape.kernel(name), _blocks(shape, n * p * q, k), shape.shared)
    if made.grid > MOST_BLOCKS:
        raise ValueError(f"{name} of {x_shape} with {w_shape} takes {made.grid} blocks, and a GPU {MOST_BLOCKS}: {_LESS}")
    LOG.debug("%s of %s with %s, stride %s, padding %s: %s, %s", name, x_shape, w_shape, stride, padding, shape, made)
    return made


def tile(columns: int, c: int, k: int, dtype: DTypeLike, *, path: str, vectors: bool) -> Tile:
    """Return the variant for a product of so many columns, of a convolution of c to k channels."""
    kind = store(dtype)
    width = ACCESS // np.dtype(dtype).itemsize
    whole = vectors and c % width == 0 and k % width == 0
    if kind == "bf16" and not (whole and path == "tensor"):
        path, whole = "fma", False  # nothing copies two bytes without a thread's help
    if columns <= 16 and path == "fma":
        return Tile(path, kind, 16, 1)
    if not whole:
        return Tile(path, kind, 64, 1)
    if path == "fma":
        return Tile(path, kind, 64, width)
    return Tile(path, kind, next((wide for wide in (32, 64) if columns <= wide), 128), width)


def _input_grad(shape: Tile, x_shape: Shape, stride: Pair) -> Plan:
    n, h, w, c = x_shape
    largest = n * blocks(h, stride[0]) * blocks(w, stride[1])  # pixels of the first phase: others have as many, or a row less
    phases, each = (min(stride[0], h), min(stride[1], w)), _blocks(shape, largest, c)
    grid = math.prod(phases) * each
    return Plan(shape.kernel("conv2d_input_grad"), grid, shape.shared, phases_w=phases[1], blocks_of_a_phase=each)


def _weight_grad(shape: Tile, taps: int, k: int, pixels: int) -> Plan:
    parts, each = cut(taps, k, pixels)
    blocks_of_a_part, narrow = _blocks(shape, taps, k), Tile(shape.path, shape.store, 16, 1)
    few_taps = shape.path == "fma" and 2 * _blocks(narrow, k, taps) * narrow.columns <= blocks_of_a_part * shape.columns
    if few_taps:  # half of the work or less
        shape, blocks_of_a_part = narrow, _blocks(narrow, k, taps)
    kernel, grid, chunks = shape.kernel("conv2d_weight_grad"), parts * blocks_of_a_part, each // shape.depth
    return Plan(kernel, grid, shape.shared, parts=parts, chunks=chunks, few_taps=few_taps)


def _blocks(shape: Tile, rows: int, columns: int) -> int:
    return blocks(rows, shape.rows) * blocks(columns, shape.columns)


def cut(rows: int, columns: int, pixels: int) -> tuple[int, int]:
    """Return the number of parts of a weight gradient's sum over pixels, and the pixels of each: whole chunks of any tile.

    There are parts enough to keep a large GPU busy and none is longer than MOST_PART pixels, but each is at least LEAST_PART.
    """
    wanted = max(blocks(BUSY, blocks(rows, 128) * blocks(columns, 128)), blocks(pixels, MOST_PART))
    each = blocks(max(blocks(pixels, wanted), min(pixels, LEAST_PART)), NARROW_DEPTH) * NARROW_DEPTH
    return (blocks(pixels, each), each) if pixels else (1, 0)


def check_sizes(x_shape: Shape, w_shape: Shape, y_shape: Shape, stride: Pair, padding: Pair) -> None:
    """Raise a ValueError where kernels would count with a whole number of 2^30 or more in 32 bits."""
    (n, h, w, _), (r, s, c, k), (_, p, q, _) = x_shape, w_shape, y_shape
    sizes = {
        "pixels with padding": n * (h + 2 * padding[0]) * (w + 2 * padding[1]), "pixels of the output": n * p * q,
        "stride": max(stride), "taps times channels": r * s * max(c, k),
        "stride times channels": stride[1] * c,
    }  # fmt: skip
    for what, size in sizes.items():
        if size >= LIMIT:
            raise ValueError(f"a convolution of {x_shape} with {w_shape} has {size} {what}; on a GPU fewer than 2^30: {_LESS}")


_LESS = "cut the batch or the images into pieces"
