"""A network step by step: shapes, parameters, work, and what each pixel sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import devices, kernels
from .blocks import Foretold
from .checks import MOST, is_whole, require, shown
from .kernels import shapes
from .kernels.sight import Sight
from .layers import Layer, Sequential
from .network import Network, outlined
from .room import size_text
from .supervision import SideHead
from .tape import forgetting
from .training.memory import inference_bytes, training_bytes

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Step:
    """One step of the U: its output (N, H, W, C), and what it takes.

    receptive_field is the side of the square of input pixels that one output pixel depends on. From the third pooling on
    that differs with the pixel's place among the poolings' windows; the largest is given. None: it sees the whole image.
    """

    name: str
    shape: Shape
    n_parameters: int
    flops: int
    receptive_field: int | None


@dataclass(frozen=True)
class Summary:
    """The steps for images (N, H, W, C), and their totals; print it."""

    image: Shape
    steps: list[Step]
    training_bytes: int
    inference_bytes: int
    block: str  # the name of the encoders' and decoders' kind
    norm: str | None = None  # of each block
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
             f"{s.receptive_field or 'all'}")
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
    steps, block = _steps(network, (n, h, w, c)), network.block
    title = block if isinstance(block, str) else getattr(block, "__name__", type(block).__name__)
    n_bytes = training_bytes(network, n, h, w), inference_bytes(network, n, h, w)
    return Summary((n, h, w, c), steps, *n_bytes, title, network.norm, where)


def padded_shape(network: Network, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape (H, W) or (N, H, W) with sides that fit the network: what UNet pads images of this shape to."""
    _image_shape(shape, network.in_channels)
    shape = tuple(map(int, shape))
    first = 1 if len(shape) > 2 else 0
    sides = (network.fitting_output(side) + 2 * network.margin for side in shape[first : first + 2])
    return (*shape[:first], *sides, *shape[first + 2 :])


def _image_shape(shape: tuple[int, ...], in_channels: int) -> Shape:
    """Return shape as (N, H, W, C)."""
    counted = isinstance(shape, (tuple, list)) and len(shape) in (2, 3, 4)
    counted = counted and all(is_whole(size) and 0 < size <= MOST for size in shape)
    require(counted, "shape", shown(shape), "(H, W), (N, H, W) or (N, H, W, C), whole numbers from 1 up")
    shape = tuple(map(int, shape))
    n, h, w, c = (1, *shape, in_channels) if len(shape) == 2 else (*shape, in_channels)[:4]
    if c != in_channels:
        raise ValueError(f"shape is {shape}; this network takes {in_channels} channel{'s' * (in_channels > 1)}")
    return int(n), int(h), int(w), int(c)


@kernels.contained
def _steps(network: Network, shape: Shape) -> list[Step]:
    """Run the network without numbers, and note what each layer makes that has parameters or changes the size."""
    place, steps = kernels.place(network.flat), list[Step]()
    plain = outlined(network.config, place)
    with forgetting(), devices.using(place), shapes.counting(place) as book:
        for name, layer in _running(plain):
            layer.forward = _watched(name, layer, steps, book)  # type: ignore[method-assign]
        image: Any = shapes.outline(shape, plain.dtype, place, Sight())
        plain(image)
    return steps


def _running(layer: Layer, name: str = "") -> Iterator[tuple[str, Layer]]:
    """Give the layers that are not made of others, with their names."""
    parts = layer.steps if isinstance(layer, Sequential) else {} if isinstance(layer, (Foretold, SideHead)) else layer.children
    if not parts:
        yield name, layer
    for key, part in parts.items():
        yield from _running(part, ".".join(filter(None, (name, key))))


def _watched(name: str, layer: Layer, steps: list[Step], book: shapes.Book) -> Callable[..., tuple[Any, Any]]:
    """Return a layer's forward that enters what it made. Those without parameters share names: they are numbered."""
    forward = layer.forward

    def watched(x: Any, **how: Any) -> tuple[Any, Any]:
        before = book.flops
        y, cache = forward(x, **how)
        n_parameters = sum(p.size for p in layer.parameters.values())
        if n_parameters or y.shape[1:3] != x.shape[1:3]:
            n = sum(step.name.startswith(f"{name}.") for step in steps)
            seen = y.sight.field if isinstance(y.sight, Sight) else None  # type: ignore[attr-defined]
            shape = (*y.shape[:3], layer.head.out_channels) if isinstance(layer, SideHead) else y.shape  # what training has there
            steps.append(Step(name if n_parameters else f"{name}.{n}", shape, n_parameters, book.flops - before, seen))
        return y, cache

    return watched


def flops_text(flops: int) -> str:
    """Return floating-point operations for people to read: 384.8 GFLOP, 37.6 MFLOP."""
    return f"{flops / 1e9:,.1f} GFLOP" if flops >= 1e9 else f"{flops / 1e6:,.1f} MFLOP"
