"""Winograd's transforms of what its tiles see of an image: by strips, a panel of channels wide, that stay in the cache."""

from __future__ import annotations

from typing import Any

from .jit import part
from .packing import strip
from .tiles import PANEL, VECTOR
from .transforms import transform
from .winograd_matrices import FORWARD, WEIGHT_GRAD

input_2, input_4 = transform(FORWARD[2].bt), transform(FORWARD[4].bt)
dy_2, dy_4 = (transform([[x / w.power for x in row] for row in w.g], total=True) for w in (WEIGHT_GRAD[2], WEIGHT_GRAD[4]))


@part
def transform_inputs(
    zero: Any, g: Any, side: Any, n0: int, n1: int, p0: int, p1: int, q0: int, q1: int, c0: int, c1: int, laid_out: int, v: int,
    plane: int,
) -> None:  # fmt: skip
    """V[plane, tile, c] = B^T x B for a block of tiles; what fills the last vector up is anything, and not read."""
    m, width, pixel = g.m, PANEL // g.size, -(-(c1 - c0) * g.size // VECTOR) * VECTOR
    row = (m * (q1 - q0) + 2) * PANEL
    for c in range(c0, c1, width):
        count = min(width, c1 - c)
        strip(zero, g, n0, n1, m * p0, m * p1, m * q0, m * q1, c, c + count, laid_out, PANEL)
        here, start = v + (c - c0) * g.size, laid_out
        for _ in range(n0, n1):
            for _ in range(p0, p1):
                for q in range(q1 - q0):
                    for at in range(0, count * g.size, VECTOR):
                        if len(side) == 4:
                            input_4(zero, start + 4 * q * PANEL + at, row, PANEL, here + at, 6 * plane, plane)
                        else:
                            input_2(zero, start + 2 * q * PANEL + at, row, PANEL, here + at, 4 * plane, plane)
                    here += pixel
                start += m * row
            start += 2 * row


@part
def transform_dy(
    zero: Any, g: Any, side: Any, n0: int, n1: int, p0: int, p1: int, q0: int, q1: int, k0: int, k1: int, laid_out: int, d: int,
    plane: int, panel: int,
) -> None:  # fmt: skip
    """D[plane, panel, tile, k] = G dy G^T for a block of tiles, and dy's sum over each in the plane behind the last.

    A panel of which no more than one vector is used is one wide.
    """
    m, width = g.m, PANEL // g.size
    row = m * (q1 - q0) * PANEL
    for k in range(k0, k1, width):
        count = min(width, k1 - k)
        lanes = PANEL if 2 * count > width else VECTOR
        strip(zero, g, n0, n1, m * p0, m * p1, m * q0, m * q1, k, k + count, laid_out, PANEL)
        here, start = d + (k - k0) // width * panel, laid_out
        for _ in range((n1 - n0) * (p1 - p0)):
            for q in range(q1 - q0):
                for at in range(0, lanes, VECTOR):
                    if len(side) == 4:
                        dy_4(zero, start + 4 * q * PANEL + at, row, PANEL, here + at, 6 * plane, plane)
                    else:
                        dy_2(zero, start + 2 * q * PANEL + at, row, PANEL, here + at, 4 * plane, plane)
                here += lanes
            start += m * row
