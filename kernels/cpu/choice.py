"""How algorithm="auto" chooses for a 3x3 convolution of stride 1: what would each cost, in multiply-adds of `direct`?

From c to k channels onto h x w pixels, that is tiles = ceil(h/4) ceil(w/4) of 6 x 6 products each:

    direct         9 h w c k + pixel h w (c + k)
    winograd4x4    36 tiles (product c k + input c + output k) + 36 blocks weight c k

COSTS has the prices: `product`, a multiply-add of those 36 small matrix products; `pixel`, to read a number of x or to
write one of y; `input` and `output`, to transform one number on its way into or out of the products; `weight`, to
transform one for a block of 64 tiles. Rounded up to whole vectors are k, and c where it is not a product's depth.
`python bench/conv.py --fit` measures all passes, prints the prices that fit, and checks what is chosen by them.

Nothing else decides, so an image gives the same bits alone or in a batch, on any number of threads. As images too small
to fill a block share one, the batch is taken to be BATCH. Left out: winograd2x2, which is hardly ever the fastest.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike

from .isa import ISA
from .winograd import BLOCK_TILES

BATCH = 4  # what training takes by default
# Fitted on 2 cores of an AMD EPYC with AVX2.
COSTS = {"multiply": 1.0, "pixel": 19.3, "product": 0.981, "input": 12.4, "output": 23.2, "weight": 25.9}


def fastest(h: int, w: int, c: int, k: int, dtype: DTypeLike, costs: Mapping[str, float] = COSTS) -> str:
    """Return "direct" or "winograd4x4", for c to k channels onto h x w pixels. Of the input gradient, those are dx's.

    float64 is always direct: whoever asks for it wants its digits, of which Winograd's algorithm costs one.
    """
    if np.dtype(dtype) != np.float32:
        return "direct"
    totals = {algorithm: sum(costs[name] * count for name, count in done.items()) for algorithm, done in work(h, w, c, k).items()}
    return min(totals, key=lambda algorithm: totals[algorithm])


def work(h: int, w: int, c: int, k: int, n: int = BATCH) -> dict[str, dict[str, int]]:
    """Return how often each algorithm does what has a price in COSTS, for n images in float32."""
    lanes = ISA.vector_bytes // 4
    wide_c, k = (-(-count // lanes) * lanes for count in (c, k))
    tiles = n * -(-h // 4) * -(-w // 4)
    return {
        "direct": {"multiply": 9 * n * h * w * c * k, "pixel": n * h * w * (wide_c + k)},
        "winograd4x4": {
            "product": 36 * tiles * c * k, "input": 36 * tiles * wide_c, "output": 36 * tiles * k,
            "weight": 36 * -(-tiles // BLOCK_TILES) * c * k,
        },
    }  # fmt: skip
