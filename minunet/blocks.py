"""What a U-Net has at each level: blocks of convolutions.

A block is made by a function (in_channels, out_channels, **settings) -> Layer, and keeps the size of an image, or with
padding=0 takes as many pixels off on each side, whatever the size. The settings are those that Conv2d takes: padding, algorithm,
rng and dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import ops
from .checks import Array, require
from .layers import Composite, Conv2d, Grads, Layer, ReLU, Sequential, Tape, named

Block = Callable[..., Layer]


def double_conv(in_channels: int, out_channels: int, **settings: Any) -> Layer:
    """conv 3x3, relu, conv 3x3, relu. Ronneberger et al. 2015, section 2."""
    return Sequential(
        conv1=Conv2d(in_channels, out_channels, 3, **settings),
        relu1=ReLU(),
        conv2=Conv2d(out_channels, out_channels, 3, **settings),
        relu2=ReLU(),
    )


class Residual(Composite):
    """relu(path(x) + shortcut(x)), whose gradient has a way back past the path.

    The path is conv 3x3, relu, conv 3x3; the shortcut a convolution of 1 x 1, as the channels change. Where the path takes
    pixels off the edges, so does the shortcut. He et al. 2016, equation 2; in a U-Net: Zhang, Liu and Wang 2018.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, padding: int = 1, algorithm: str = "auto", **settings: Any
    ) -> None:
        of_path = settings | {"padding": padding, "algorithm": algorithm}
        self.path = Sequential(
            conv1=Conv2d(in_channels, out_channels, 3, **of_path),
            relu1=ReLU(),
            conv2=Conv2d(out_channels, out_channels, 3, **of_path),
        )
        self.shortcut = Conv2d(in_channels, out_channels, 1, gain=1.0, **settings)
        self.edge = 2 * (1 - padding)  # pixels that the path takes off on each side
        super().__init__(**{"": self.path, "shortcut": self.shortcut})

    def forward(self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        tape, (_, h, w, _), e = Tape(training, rng), x.shape, self.edge
        along = tape.run(self.path, x)
        beside = tape.run(self.shortcut, x[:, e : h - e, e : w - e])
        return tape.keep(*ops.relu(along + beside)), tape

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        (dy,) = ops.relu_backward(dy, cache.pop())
        dbeside, shortcut = self.shortcut.backward(dy, cache.pop())
        dx, path = self.path.backward(dy, cache.pop())
        _, h, w, _ = dx.shape
        dx[:, self.edge : h - self.edge, self.edge : w - self.edge] += dbeside  # x went two ways, so its two gradients add
        return dx, path | named("shortcut", shortcut)


BLOCKS: dict[str, Block] = {"double_conv": double_conv, "residual": Residual}  # those that a model file knows by name


def resolve(block: str | Block) -> Block:
    """Return the function that makes the blocks of that name; a function is taken as it is."""
    known = callable(block) or (isinstance(block, str) and block in BLOCKS)
    takes = f"{' or '.join(map(repr, BLOCKS))}, or a function (in_channels, out_channels, **settings) -> Layer"
    require(known, "block", repr(block), takes)
    return block if callable(block) else BLOCKS[block]
