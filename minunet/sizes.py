"""Which sizes a network takes and gives, and how far it sees: by running it without numbers (kernels/shapes.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from . import kernels
from .checks import Array
from .kernels.shapes import counting, outline
from .kernels.sight import Sight
from .tape import forgetting

if TYPE_CHECKING:
    from .network import Network


@kernels.contained
def traced(network: Network, side: int) -> Any:
    """Return what a square image without numbers becomes, but for the head; ValueError where it does not fit."""
    with forgetting(), counting(), kernels.use_backend("reference"):  # which need not be there to be compiled
        x: Any = outline((1, side, side, network.in_channels), network.dtype, sight=Sight())
        return network.outline.u.forward(x)[0]


def output_size(network: Network, h: int, w: int) -> tuple[int, int]:
    """Return the size of the logits for an input of h x w; ValueError with the nearest sizes where it does not fit."""
    of = _Kind.of(network)
    for name, size in (("height", h), ("width", w)):
        if _output(of, size) is None:
            below = next((s for s in range(size - 1, 0, -1) if _output(of, s)), None)
            above = _least(of, size + 1)
            nearest = f"{above}" if below is None else f"{below} or {above}"
            rule = f"a multiple of {2**of.depth}" if of.padding == "same" else "a size that halves evenly at each pooling"
            raise ValueError(
                f"the input's {name} is {size}; padding={of.padding!r} with depth={of.depth} takes {rule}: "
                f"the nearest is {nearest}. (minunet.UNet takes any size.)"
            )
    return _output(of, h), _output(of, w)  # type: ignore[return-value]


def logits_shape(network: Network, x: Array) -> tuple[int, int, int, int]:
    """Return the shape of the logits of x (N, H, W, in_channels); ValueError where x is not what the network takes."""
    if x.ndim != 4 or x.shape[3] != network.in_channels:
        raise ValueError(f"x has shape {x.shape}; this network takes (N, H, W, {network.in_channels})")
    if x.dtype != network.dtype:
        name = network.dtype.name
        raise ValueError(f"x is of dtype {x.dtype}; this network computes in {name}: x.astype({name!r})")
    return (x.shape[0], *output_size(network, *x.shape[1:3]), network.out_channels)


def margin(network: Network) -> int:
    """Return how many pixels the output loses on each side."""
    return _margin(_Kind.of(network))


def fitting_output(network: Network, size: int) -> int:
    """Return the least output side of at least `size` that some input gives."""
    of = _Kind.of(network)
    return _least(of, size + 2 * _margin(of)) - 2 * _margin(of)


def fitting_patch(network: Network, wanted: int, shapes: Sequence[tuple[int, ...]]) -> int:
    """Return the largest patch that fits the network, is no larger than wanted, nor than it takes to hold the largest image."""
    largest = max(map(max, shapes))
    least = fitting_output(network, wanted)
    below = max(least - 2**network.depth, fitting_output(network, 1)) if least > wanted else least
    return min(below, fitting_output(network, largest))


def halo(network: Network) -> int | None:
    """Return how many pixels around a region of whole cells of 2^depth pixels the network can see; None where it sees all."""
    return _halo(_Kind.of(network))


@dataclass(frozen=True)
class _Kind:
    """What sizes depend on: networks that differ in channels alone share them, but not where a block is the user's."""

    depth: int
    padding: str
    norm: str | None  # what is seen depends on it
    block: Any
    channels: tuple[int, ...]
    network: Network = field(compare=False)

    @classmethod
    def of(cls, network: Network) -> _Kind:
        if isinstance(network.block, str):
            return cls(network.depth, network.padding, network.norm, network.block, (), network.outline)
        channels, block = (network.in_channels, network.base_channels, network.out_channels), id(network.block)
        return cls(network.depth, network.padding, network.norm, block, channels, network.outline)  # which holds the block


@lru_cache(2**14)
def _output(of: _Kind, side: int) -> int | None:
    """Return the output's side for an input's; None where that does not fit."""
    try:
        return traced(of.network, side).shape[1] or None
    except ValueError:
        return None


@lru_cache(2**8)
def _margin(of: _Kind) -> int:
    least = _least(of, 1)
    return (least - (_output(of, least) or 0)) // 2


@lru_cache(2**8)
def _halo(of: _Kind) -> int | None:
    sight = traced(of.network, _least(of, 1)).sight
    return sight.halo(_margin(of)) if isinstance(sight, Sight) else None


def _least(of: _Kind, size: int) -> int:
    """Return the least side from there on that fits; where none does, the ValueError of the last."""
    step = 2 if of.depth else 1
    sides = range(-(-size // step) * step, size + 2 ** (of.depth + 6), step)
    return next((s for s in sides if _output(of, s)), None) or traced(of.network, sides[-1]).shape[1]
