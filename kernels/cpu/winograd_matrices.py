"""Where Winograd's matrices come from: a short convolution is a product of polynomials, known by its values at points.

The 1-D correlation y[i] = sum over k of d[i + k] g[k], for m outputs and r taps, needs n = m + r - 1 multiplications:

    y = A^T [(G g) * (B^T d)]

With points a_0 .. a_{n-2} and the point at infinity (Toom, Cook; Winograd 1980; Lavin and Gray 2016), row j of

    G    is  1, a_j, a_j^2, ...  over  N_j = product over l != j of (a_j - a_l)       last row: 0 ... 0 1
    B^T  has the coefficients of  product over l != j of (x - a_l)                    last row: of product over all l
    A^T  is  a_j^i, i = 0 .. m-1, as columns                                          last column: 0 ... 0 1

In two dimensions each is applied to rows and to columns. Small whole points keep the numbers small, and the error with
them: 0, 1, -1 for m = 2, and 2, -2 too for m = 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

Matrix = Sequence[Sequence[float]]

POINTS = {2: (0, 1, -1), 4: (0, 1, -1, 2, -2)}


@dataclass(frozen=True)
class Matrices:
    """A^T, G times `divisor`, B^T: all of whole numbers, so that on whole numbers only the division can round."""

    at: Matrix
    g: Matrix
    bt: Matrix
    divisor: int

    @property
    def power(self) -> int:
        """The least power of two from the divisor up: to divide by it is exact, and leaves divisor / power to divide by."""
        return 2 ** (self.divisor - 1).bit_length()


def matrices(m: int, r: int, points: tuple[int, ...]) -> Matrices:
    """Return the matrices for m outputs and r taps; there is one point fewer than m + r - 1."""
    finite = range(len(points))
    at = [[a**i for a in points] + [int(i == m - 1)] for i in range(m)]
    scales = [math.prod(a - b for b in points if b != a) for a in points]
    g = [[Fraction(a**k, scale) for k in range(r)] for a, scale in zip(points, scales, strict=True)]
    g.append([Fraction(int(k == r - 1)) for k in range(r)])
    divisor = math.lcm(*(entry.denominator for row in g for entry in row))
    bt = [[*_coefficients([b for other, b in enumerate(points) if other != j]), 0] for j in finite]
    bt.append(_coefficients(list(points)))
    return Matrices(at, [[int(entry * divisor) for entry in row] for row in g], bt, divisor)


def _coefficients(roots: list[int]) -> list[int]:
    """Return the coefficients of the product of (x - root), the constant one first."""
    found = [1]
    for root in roots:
        found = [low - root * high for low, high in zip([0, *found], [*found, 0], strict=True)]
    return found


def amplification(f: Matrices) -> float:
    """Return how large an output's terms may be together, in two dimensions, beside the largest input times the largest weight.

    Rounding errors are a share of these terms, not of the output: there the terms cancel, and r^2 is all that is left.
    """
    products = [sum(map(abs, g)) * sum(map(abs, b)) * Fraction(1, f.divisor) for g, b in zip(f.g, f.bt, strict=True)]
    return max(sum((abs(a) * p for a, p in zip(row, products, strict=True)), 0) for row in f.at) ** 2


FORWARD = {m: matrices(m, 3, points) for m, points in POINTS.items()}  # m outputs of a 3-tap kernel
WEIGHT_GRAD = {m: matrices(3, m, points) for m, points in POINTS.items()}  # 3 taps of the gradient, from m of dy
