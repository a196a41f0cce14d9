"""Winograd's transforms of what its tiles see of an image: by strips, a panel of channels wide, that stay in the cache."""

from __future__ import annotations

from typing import Any

from .jit import part
from .packing import strip
from .plans import Block, Plan
from .tiles import PANEL, VECTOR
from .transforms import transform
from .winograd_matrices import FORWARD, WEIGHT_GRAD


def strip_bytes(cut: Plan, m: int) -> int:
    """Return how many bytes the strip of a block of tiles takes."""
    return int(cut["block_n"] * (m * cut["block_p"] + 2) * (m * cut["block_q"] + 2) * PANEL)


def _by_strips(kernel: Any, halo: int) -> Any:
    """Make the transform of all tiles of a block, which see m + halo pixels a side."""

    @part
    def transform_tiles(
        side: Any, x: Any, block: Block, c0: int, c1: int, laid_out: int, target: int, steps: tuple[int, int, int]
    ) -> None:
        """Transform channels c0 to c1; steps: how far apart planes lie at target, panels of channels, and tiles.

        Tiles 0 apart lie as close as the panel's vectors allow. What fills the last vector up is anything, and not read.
        """
        m, width, (plane, panel, tile) = len(side), PANEL // x.size, steps
        seen = Block(block.n0, block.n1, m * block.p0, m * block.p1, m * block.q0, m * block.q1)
        row = (m * (block.q1 - block.q0) + halo) * PANEL
        for c in range(c0, c1, width):
            used = -(-min(width, c1 - c) * x.size // VECTOR) * VECTOR
            strip(side[0], x, seen, c, min(c + width, c1), laid_out, PANEL)
            here, start = target, laid_out
            for _ in range(block.n0, block.n1):
                for _ in range(block.p0, block.p1):
                    for q in range(block.q1 - block.q0):
                        for at in range(0, used, VECTOR):
                            kernel(side, start + m * q * PANEL + at, row, PANEL, here + at, (m + 2) * plane, plane)
                        here += tile if tile else used
                    start += m * row
                start += halo * row
            target += panel

    return transform_tiles


# V[plane, tile, c] = B^T x B. D[plane, panel, tile, k] = G dy G^T, and dy's sum over each tile in the plane behind the last.
transform_inputs = _by_strips(transform({m: (f.bt, 1) for m, f in FORWARD.items()}), halo=2)
transform_dy = _by_strips(
    transform({m: ([[x / f.power for x in row] for row in f.g], 1) for m, f in WEIGHT_GRAD.items()}, total=True), halo=0
)
