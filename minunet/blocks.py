"""What a U-Net has at each level: blocks of convolutions.

A block is made by a function (in_channels, out_channels, **settings) -> Layer, and keeps the size of an image, or with
padding=0 takes as many pixels off on each side, whatever the size. The settings are those that Conv2d takes: padding, algorithm,
rng and dtype; and norm, a name of NORMS or None, if the function has a parameter of that name.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import kernels, ops
from .checks import Array, activation, mismatch, require, shown, signature
from .kernels import shapes
from .layers import BatchNorm, Composite, Conv2d, Grads, GroupNorm, Layer, ReLU, Sequential, named
from .tape import Tape, taped

Block = Callable[..., Layer]


NORMS: dict[str, Callable[..., Layer]] = {
    "batch": BatchNorm,
    "group": lambda channels, **dtype: GroupNorm(channels, math.gcd(channels, 8), **dtype),  # 8, where they divide evenly
    "instance": lambda channels, **dtype: GroupNorm(channels, channels, **dtype),
}


def convolution(name: str, in_channels: int, out_channels: int, norm: str | None, **settings: Any) -> dict[str, Layer]:
    """Return conv 3x3 and the norm behind it, if there is one, by their names with this number."""
    conv: Layer = Conv2d(in_channels, out_channels, 3, bias=norm is None, **settings)
    behind = {} if norm is None else {f"norm{name}": NORMS[norm](out_channels, dtype=settings.get("dtype", "float32"))}
    return {f"conv{name}": conv} | behind


def double_conv(in_channels: int, out_channels: int, *, norm: str | None = None, **settings: Any) -> Layer:
    """conv 3x3, norm, relu, conv 3x3, norm, relu. Ronneberger et al. 2015, section 2, which has no norm."""
    return Sequential(
        **convolution("1", in_channels, out_channels, norm, **settings),
        relu1=ReLU(),
        **convolution("2", out_channels, out_channels, norm, **settings),
        relu2=ReLU(),
    )


class Residual(Composite):
    """relu(path(x) + shortcut(x)), whose gradient has a way back past the path.

    The path is conv 3x3, relu, conv 3x3, each with a norm behind it, if there is one; the shortcut a convolution of 1 x 1, as
    the channels change. Where the path takes pixels off the edges, so does the shortcut. He et al. 2016, equation 2; in a
    U-Net: Zhang, Liu and Wang 2018.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, padding: int = 1, algorithm: str = "auto", norm: str | None = None,
        **settings: Any,
    ) -> None:  # fmt: skip
        of_path = settings | {"padding": padding, "algorithm": algorithm}
        self.path = Sequential(
            **convolution("1", in_channels, out_channels, norm, **of_path),
            relu1=ReLU(),
            **convolution("2", out_channels, out_channels, norm, **of_path),
        )
        self.shortcut = Conv2d(in_channels, out_channels, 1, gain=1.0, **settings)
        self.edge = 2 * (1 - padding)  # pixels that the path takes off on each side
        super().__init__(**{"": self.path, "shortcut": self.shortcut})

    def forward(self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        x = activation("x", x)
        tape, (_, h, w, _), e = Tape(training, rng, self), x.shape, self.edge
        along = tape.run(self.path, x)
        beside = tape.run(self.shortcut, x[:, e : h - e, e : w - e])
        return tape.keep(*ops.relu(along + beside)), tape

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        (dy,) = ops.relu_backward(dy, taped(cache, self).pop())
        dbeside, shortcut = self.shortcut.backward(dy, cache.pop())
        dx, path = self.path.backward(dy, cache.pop())
        _, h, w, _ = dx.shape
        dx[:, self.edge : h - self.edge, self.edge : w - self.edge] += dbeside  # x went two ways, so its two gradients add
        return dx, path | named("shortcut", shortcut)


BLOCKS: dict[str, Block] = {"double_conv": double_conv, "residual": Residual}  # those that a model file knows by name


def resolve(block: str | Block) -> Block:
    """Return the function that makes the blocks of that name; a function is taken as it is."""
    known = block in BLOCKS if isinstance(block, str) else callable(block) and signature(block) is not None
    takes = f"{' or '.join(map(repr, BLOCKS))}, or a function (in_channels, out_channels, **settings) -> Layer"
    require(known, "block", shown(block), takes)
    return block if callable(block) else BLOCKS[block]


def by_name(block: str | Block) -> str | Block:
    """Return the name of a block that has one."""
    return next((name for name, make in BLOCKS.items() if make is block), block)


def of_norm(block: str | Block, norm: str | None) -> dict[str, Any]:
    """Return the setting that a block's function takes of its norm; ValueError where it takes none, and there is one."""
    known = norm is None or (isinstance(norm, str) and norm in NORMS)
    require(known, "norm", shown(norm), f"None or {' or '.join(map(repr, NORMS))}")
    if "norm" in inspect.signature(resolve(block)).parameters:
        return {"norm": norm}
    require(norm is None, "norm", repr(norm), f"None with the block {shown(block)}, a function without a parameter norm")
    return {}


PROBES = 16, 20  # sides of images on which blocks of the user's are tried

# What was found of blocks of the user's: how many pixels they take off a side, and the bytes of their cache for each pixel of x.
_found: dict[tuple[int, int, int, int], tuple[Block, int, float]] = {}


def made(block: str | Block, name: str, c: int, k: int, *, padding: int, **settings: Any) -> Layer:
    """Return a block from c to k channels; ValueError by its name where it is none, or has not the promised channels or size."""
    make, key = resolve(block), (id(block), c, k, padding)
    if isinstance(block, str):
        return make(c, k, padding=padding, **settings)
    wrong, names = mismatch(make, c, k, padding=padding, **settings), ("in_channels", "out_channels", "padding", *settings)
    require(not wrong, "block", f"{shown(block)}, a function of other arguments ({wrong})", f"one of ({', '.join(names)})")
    if isinstance(settings["rng"], shapes.Outlines):
        try:
            layer = make(c, k, padding=padding, **settings)
        except Exception:  # code of the user's that wants numbers
            layer = make(c, k, padding=padding, **settings | {"rng": np.random.default_rng(0)})
        return layer if _is_ours(layer) else Foretold(layer, k, *_found[key][1:])
    layer = make(c, k, padding=padding, **settings)
    require(isinstance(layer, Layer), f"what {block!r} makes for {name}", type(layer).__name__, "a minunet.layers.Layer")
    which = f"the block {name} (level {name.rpartition('.')[2]})"
    tried = [_tried(which, layer, side, c, k, settings["dtype"]) for side in PROBES]
    lost = {side: side - y.shape[1] for side, (y, _) in zip(PROBES, tried, strict=True)}
    taken = lost[PROBES[0]]
    even = len(set(lost.values())) == 1 and taken >= 0 and taken % 2 == 0
    takes = "its size kept" if padding else "as many taken off on each side, whatever the size"
    require(even and not (padding and taken), which, f"one that takes off so many pixels of a side: {lost}", takes)
    small, large = (sum(_sizes_of(cache).values()) for _, cache in tried)  # the more is of pixels, the rest of weights
    _found[key] = block, taken, max(0, large - small) / (PROBES[1] ** 2 - PROBES[0] ** 2)
    return layer


def _is_ours(layer: Layer) -> bool:
    return type(layer).__module__.startswith("minunet.") and all(map(_is_ours, layer.children.values()))


@kernels.contained
def _tried(which: str, layer: Layer, side: int, c: int, k: int, dtype: Any) -> tuple[Array, Any]:
    """Return what a block makes of zeros, and its cache, once that is found to be what it promises."""
    with kernels.use_backend("reference"):
        returned = layer.forward(np.zeros((1, side, side, c), dtype))
    fits = isinstance(returned, tuple) and len(returned) == 2
    require(fits, f"what forward of {which} returns", type(returned).__name__, "y, cache")
    y = np.asarray(returned[0])
    right = y.ndim == 4 and y.shape[1] == y.shape[2] and y.shape == (1, *y.shape[1:3], k) and y.dtype == dtype
    require(right, which, f"one that makes a {y.dtype} array {y.shape} of {(1, side, side, c)}", f"{k} channels, square, {dtype}")
    return returned


def _sizes_of(cache: Any) -> dict[int, int]:
    """Return the bytes of the arrays in a cache, by their ids: each counts once."""
    if isinstance(cache, np.ndarray):
        return {id(cache): cache.nbytes}
    parts = cache.values() if isinstance(cache, dict) else cache if isinstance(cache, (list, tuple)) else ()
    return {key: size for part in parts for key, size in _sizes_of(part).items()}


class Foretold(Composite):
    """A block without numbers whose code is the user's: never run, but taken to keep its promise, and of memory what it took."""

    def __init__(self, block: Layer, k: int, lost: int, cached: float) -> None:
        super().__init__(**{"": block})
        self.k, self.lost, self.cached = k, lost, cached

    def forward(self, x: Array, *, training: bool = False, rng: Any = None) -> tuple[Array, Any]:
        (n, h, w, _), empty = x.shape, kernels.serving(x).empty
        require(min(h, w) > self.lost, "x", x.shape, f"more than {self.lost} pixels a side")
        y = empty((n, h - self.lost, w - self.lost, self.k), x.dtype)
        y.sight = shapes.ALL  # type: ignore[attr-defined]
        return y, (x, empty((round(n * h * w * self.cached),), np.uint8))

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        return cache[0].copy(), {name: p.copy() for name, p in self.parameters.items()}
