"""Which sizes a network takes and gives, and how far it sees: by running it without numbers (kernels/shapes.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from . import kernels
from .checks import require
from .kernels.shapes import counting, outline
from .kernels.sight import Sight
from .layers import Layer, forgetting

if TYPE_CHECKING:
    from .network import Network

PROBES = 16, 20  # sides of images on which blocks are tried


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


def margin(network: Network) -> int:
    """Return how many pixels the output loses on each side."""
    return _margin(_Kind.of(network))


def fitting_output(network: Network, size: int) -> int:
    """Return the least output side of at least `size` that some input gives."""
    of = _Kind.of(network)
    return _least(of, size + 2 * _margin(of)) - 2 * _margin(of)


def halo(network: Network) -> int | None:
    """Return how many pixels around a region of whole cells of 2^depth pixels the network can see; None where it sees all."""
    return _halo(_Kind.of(network))


@dataclass(frozen=True)
class _Kind:
    """What sizes depend on: networks that differ in channels alone share them, but not where a block is the user's."""

    depth: int
    padding: str
    block: Any
    channels: tuple[int, ...]
    network: Network = field(compare=False)

    @classmethod
    def of(cls, network: Network) -> _Kind:
        known = isinstance(network.block, str)
        channels = () if known else (network.in_channels, network.base_channels, network.out_channels)
        return cls(network.depth, network.padding, network.block, channels, network)


@lru_cache(2**14)
def _output(of: _Kind, side: int) -> int | None:
    """Return the output's side for an input's; None where that does not fit."""
    try:
        return traced(of.network, side).shape[1]
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
    sides = range(size, size + 2 ** (of.depth + 6))
    return next((s for s in sides if _output(of, s)), None) or traced(of.network, sides[-1]).shape[1]


def check_blocks(network: Network) -> None:
    """Refuse blocks of the user's whose output has not the promised channels or size: tried on zeros."""
    if isinstance(network.block, str):
        return
    widths = [network.base_channels * 2**i for i in range(network.depth + 1)]
    for name, block in network.blocks().items():
        i = int(name.rpartition(".")[2])
        c = 2 * widths[i] if name.startswith("decoder") else widths[i - 1] if i else network.in_channels
        lost = {_lost(name, block, side, c, widths[i], network.dtype) for side in PROBES}
        fits = lost == {0} if network.padding == "same" else len(lost) == 1 and min(lost) >= 0 and min(lost) % 2 == 0
        takes = "the size kept" if network.padding == "same" else "as many taken off on each side, whatever the size"
        require(fits, f"the block {name} (level {i})", f"one that takes {sorted(lost)} pixels off sides of {PROBES}", takes)


def _lost(name: str, block: Layer, side: int, c: int, k: int, dtype: Any) -> int:
    """Return by how many pixels a block makes an image smaller."""
    with kernels.use_backend("reference"):
        returned = block.forward(np.zeros((1, side, side, c), dtype))
    pair = isinstance(returned, tuple) and len(returned) == 2
    require(pair, f"the forward of block {name}", f"one that returns {type(returned).__name__}", "y, cache")
    y = returned[0]
    fits = getattr(y, "ndim", 0) == 4 and y.shape[0] == 1 and y.shape[1] == y.shape[2] and y.shape[3] == k and y.dtype == dtype
    given = f"one that makes {getattr(y, 'dtype', '?')} {getattr(y, 'shape', '?')} of {dtype} {(1, side, side, c)}"
    require(fits, f"the block {name} (level {name.rpartition('.')[2]})", given, f"{k} channels, square, {dtype}")
    return side - y.shape[1]
