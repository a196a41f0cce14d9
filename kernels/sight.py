"""What a pixel sees of the image that it was computed from, along one side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Sight:
    """Pixel p of a row sees the image's pixels from jump p + low[p mod m] to jump p + high[p mod m].

    In an encoder m is 1 and this is the usual recurrence, jump and field. Behind an up-convolution pixels share a parent, so that
    what one sees depends on its place: m grows.
    """

    jump: Fraction = Fraction(1)
    low: tuple[Fraction, ...] = (Fraction(0),)
    high: tuple[Fraction, ...] = (Fraction(0),)

    @property
    def field(self) -> int:
        """The side of the square that a pixel sees; where that differs with its place, the largest."""
        return int(max(high - low for low, high in zip(self.low, self.high, strict=True))) + 1

    def halo(self, margin: int) -> int:
        """Return how many pixels around a region of m pixels, below pixel `margin` and those behind it, the region can see."""
        m, jump = len(self.low), self.jump
        before = max(margin - (jump * p + low) for p, low in enumerate(self.low))
        behind = max(jump * p + high - margin - (jump * m - 1) for p, high in enumerate(self.high))
        return math.ceil(max(before, behind, Fraction(0)))

    def windows(self, kernel: int, stride: int, padding: int) -> Sight:
        """Return what a convolution's or a pooling's output sees: pixel p sees what p stride - padding + 0 .. kernel - 1 saw."""
        m = len(self.low) // math.gcd(len(self.low), stride)
        starts = (p * stride - padding for p in range(m))
        return self._gathered(m, self.jump * stride, [range(start, start + kernel) for start in starts])

    def painted(self, kernel: int, stride: int, padding: int) -> Sight:
        """Return what a transposed convolution's output sees: p paints h where 0 <= h + padding - p stride < kernel."""
        m = len(self.low) * stride
        reached = [range(-(-(h + padding - kernel + 1) // stride), (h + padding) // stride + 1) for h in range(m)]
        return self._gathered(m, self.jump / stride, [ps or range(h // stride, h // stride + 1) for h, ps in enumerate(reached)])

    def __or__(self, other: Sight) -> Sight:
        """Return what a pixel sees that was made from two in the same place."""
        m = math.lcm(len(self.low), len(other.low))
        low = (min(self.low[i % len(self.low)], other.low[i % len(other.low)]) for i in range(m))
        high = (max(self.high[i % len(self.high)], other.high[i % len(other.high)]) for i in range(m))
        return Sight(self.jump, tuple(low), tuple(high))

    def _gathered(self, m: int, jump: Fraction, seen: list[range]) -> Sight:
        n = len(self.low)
        low = (min(self.jump * p + self.low[p % n] for p in ps) - jump * i for i, ps in enumerate(seen))
        high = (max(self.jump * p + self.high[p % n] for p in ps) - jump * i for i, ps in enumerate(seen))
        return Sight(jump, tuple(low), tuple(high))
