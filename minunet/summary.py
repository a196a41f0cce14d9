"""A network step by step: shapes, parameters, work, and what each pixel sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .network import Network, parameter_shapes
from .training.memory import inference_bytes, training_bytes

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Step:
    """One step of the U: its output (N, H, W, C), and what it takes.

    receptive_field is the side of the square of input pixels that one output pixel depends on. From the third pooling on
    that differs with the pixel's place among the poolings' windows; the largest is given.
    """

    name: str
    shape: Shape
    n_parameters: int
    flops: int
    receptive_field: int


@dataclass(frozen=True)
class Summary:
    """The steps for images (N, H, W, C), and their totals; print it."""

    image: Shape
    steps: list[Step]
    training_bytes: int
    inference_bytes: int
    where: str = ""  # on which device, and how exactly

    @property
    def n_parameters(self) -> int:
        """All trained numbers."""
        return sum(step.n_parameters for step in self.steps)

    @property
    def flops(self) -> int:
        """Floating-point operations of one forward pass: two for each multiply-add of a convolution; no more is counted."""
        return sum(step.flops for step in self.steps)

    def __str__(self) -> str:
        rows = [("step", "output (N, H, W, C)", "parameters", "GFLOP", "sees")]
        rows += [
            (s.name, str(s.shape), f"{s.n_parameters:,}" if s.n_parameters else "", f"{s.flops / 1e9:.2f}" if s.flops else "",
             f"{s.receptive_field}")
            for s in self.steps
        ]  # fmt: skip
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = [
            "  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        ]
        rule = "-" * len(lines[0])
        training, inference = size_text(self.training_bytes), size_text(self.inference_bytes)
        totals = (
            f"{self.n_parameters:,} parameters; {flops_text(self.flops)} forward, about three times that a training step\n"
            f"memory: about {training} at the peak of training, {inference} in prediction\n"
            "(GFLOP: two for each multiply-add. Sees: the side of the square of input pixels that an output pixel depends on.)"
        )
        return "\n".join([lines[0], rule, *lines[1:], rule, totals, *([self.where] if self.where else [])])


def summarize(network: Network, shape: tuple[int, ...], where: str = "") -> Summary:
    """Return the steps of the network for images of shape (H, W), (N, H, W) or (N, H, W, C), computed, not run.

    ValueError names the nearest sizes where these do not fit.
    """
    n, h, w, c = _image_shape(shape, network.in_channels)
    network.output_size(h, w)
    steps = _Walk(network, n, h, w).steps
    return Summary((n, h, w, c), steps, training_bytes(network, n, h, w), inference_bytes(network, n, h, w), where)


def padded_shape(network: Network, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape (H, W) or (N, H, W) with sides that fit the network: what UNet pads images of this shape to."""
    _image_shape(shape, network.in_channels)
    first = 1 if len(shape) > 2 else 0
    sides = (network.fitting_output(side) + 2 * network.margin for side in shape[first : first + 2])
    return (*shape[:first], *sides, *shape[first + 2 :])


def _image_shape(shape: tuple[int, ...], in_channels: int) -> Shape:
    """Return shape as (N, H, W, C)."""
    if len(shape) not in (2, 3, 4) or not all(isinstance(size, (int, np.integer)) and size > 0 for size in shape):
        raise ValueError(f"shape is {shape}; it takes (H, W), (N, H, W) or (N, H, W, C), whole numbers from 1 up")
    n, h, w, c = (1, *shape, in_channels) if len(shape) == 2 else (*shape, in_channels)[:4]
    if c != in_channels:
        raise ValueError(f"shape is {shape}; this network takes {in_channels} channel{'s' * (in_channels > 1)}")
    return int(n), int(h), int(w), int(c)


class _Walk:
    """The way of an image through the network: its size, and what its pixels see.

    Pixel p of a row sees the input's pixels from jump p + low[p mod m] to jump p + high[p mod m]. In the encoder m is 1
    and this is the usual recurrence, jump and field. Behind an up-convolution two pixels share a parent, so that what
    one sees depends on its place: m doubles.
    """

    def __init__(self, network: Network, n: int, h: int, w: int) -> None:
        self.shapes = parameter_shapes(**network.config)
        self.n, self.h, self.w, self.jump, self.low, self.high = n, h, w, 1, [0], [0]
        self.lost = 0 if network.padding == "same" else 2
        self.steps: list[Step] = []
        for i in range(network.depth + 1):
            self.block(f"encoder.{i}")
            if i < network.depth:
                self.pool(f"pool.{i}")
        for i in reversed(range(network.depth)):
            self.up(f"decoder.{i}.up")
            self.block(f"decoder.{i}")  # of skip and up, up sees more
        self.convolve("head", lost=0)

    def block(self, name: str) -> None:
        self.convolve(f"{name}.conv1", self.lost)
        self.convolve(f"{name}.conv2", self.lost)

    def convolve(self, name: str, lost: int) -> None:
        r, s, c, k = self.shapes[f"{name}.weight"]
        self.h, self.w = self.h - lost, self.w - lost
        if r == 3:  # p sees what p - 1 and p + 1 saw
            self.low = [low - self.jump for low in (self.low[-1], *self.low[:-1])]
            self.high = [high + self.jump for high in (*self.high[1:], self.high[0])]
        self._add(name, k, 2 * self.n * self.h * self.w * r * s * c * k)

    def pool(self, name: str) -> None:
        channels = self.steps[-1].shape[3]
        self.h, self.w = self.h // 2, self.w // 2
        self.high, self.jump = [high + self.jump for high in self.high], 2 * self.jump  # p sees what 2p and 2p + 1 saw
        self._add(name, channels, 0)

    def up(self, name: str) -> None:
        _, _, k, c = self.shapes[f"{name}.weight"]
        self.h, self.w, self.jump = 2 * self.h, 2 * self.w, self.jump // 2
        self.low, self.high = ([x - odd * self.jump for x in seen for odd in (0, 1)] for seen in (self.low, self.high))
        self._add(name, k, 2 * self.n * self.h * self.w * c * k)

    def _add(self, name: str, channels: int, flops: int) -> None:
        sizes = [_product(self.shapes[f"{name}.{key}"]) for key in ("weight", "bias") if f"{name}.{key}" in self.shapes]
        field = max(high - low for low, high in zip(self.low, self.high, strict=True)) + 1
        self.steps.append(Step(name, (self.n, self.h, self.w, channels), sum(sizes), flops, field))


def _product(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def size_text(n_bytes: int) -> str:
    """Return bytes for people to read: 1.46 GB, 59 MB."""
    return f"{n_bytes / 2**30:.2f} GB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MB"


def flops_text(flops: int) -> str:
    """Return floating-point operations for people to read: 384.8 GFLOP, 37.6 MFLOP."""
    return f"{flops / 1e9:,.1f} GFLOP" if flops >= 1e9 else f"{flops / 1e6:,.1f} MFLOP"
