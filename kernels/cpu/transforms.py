"""Winograd's transforms of a tile, as generated code: matrix @ tile @ matrix^T on a vector of channels at a time.

Each of the matrix's rows becomes a few multiply-adds. Two rows whose points are a and -a share their even and their odd
part: the one is their sum, the other their difference.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .generated import Emitter, Value, emitted, number, where
from .winograd_matrices import Matrix


def transform(matrices: Mapping[int, tuple[Matrix, float]], total: bool = False) -> Any:
    """Make the kernel transform(side, source, row, column, target, target_row, target_column) for one vector.

    `side` is m zeros, for the matrix and the divisor that `matrices` has for m. Element (i, j) of the tile lies at
    source + i row + j column. The result is divided by divisor^2, truly: on whole numbers that is exact where the quotient
    is. The `total` of the elements goes behind the last row.
    """

    @emitted
    def kernel(
        e: Emitter, source: Value, row: Value, column: Value, target: Value, target_row: Value, target_column: Value
    ) -> None:
        matrix, divisor = matrices[e.side]
        elements: list[Value] = []

        def element(i: int, j: int) -> Value:
            elements.append(e.load(_place(e, source, row, column, i, j)))
            return elements[-1]

        _store(e, _both_sides(e, matrix, divisor, element), target, target_row, target_column)
        if total:
            behind = _place(e, target, target_row, target_column, len(matrix), 0)
            e.store(functools.reduce(e.b.fadd, elements), behind)

    return kernel


def finish(matrices: Mapping[int, Matrix]) -> Any:
    """Make the same with two more arguments: what a convolution does to its outputs. (bias: an address or 0; relu: 0 or not.)"""

    @emitted
    def kernel(
        e: Emitter, source: Value, row: Value, column: Value, target: Value, target_row: Value, target_column: Value,
        bias: Value, relu: Value,
    ) -> None:  # fmt: skip
        result = _both_sides(e, matrices[e.side], 1, lambda i, j: e.load(_place(e, source, row, column, i, j)))
        flat, width = [x for line in result for x in line], len(result[0])
        flat = where(e, bias, flat, lambda: _add_bias(e, flat, bias))
        flat = where(e, relu, flat, lambda: [e.relu(x) for x in flat])
        _store(e, [flat[i : i + width] for i in range(0, len(flat), width)], target, target_row, target_column)

    return kernel


def _add_bias(e: Emitter, values: list[Value], bias: Value) -> list[Value]:
    b = e.load(bias)
    return [e.b.fadd(x, b) for x in values]


def _place(e: Emitter, start: Value, row: Value, column: Value, i: int, j: int) -> Value:
    return e.b.add(start, e.b.add(e.b.mul(row, number(i)), e.b.mul(column, number(j))))


def _store(e: Emitter, values: list[list[Value]], target: Value, row: Value, column: Value) -> None:
    for i, line in enumerate(values):
        for j, value in enumerate(line):
            e.store(value, _place(e, target, row, column, i, j))


def _both_sides(e: Emitter, matrix: Matrix, divisor: float, element: Callable[[int, int], Value]) -> list[list[Value]]:
    """Return matrix @ tile @ matrix^T / divisor^2: first down each column, then along each row."""
    size = range(len(matrix[0]))
    columns = [_times(e, matrix, [element(i, j) for i in size]) for j in size]
    result = [_times(e, matrix, [columns[j][i] for j in size]) for i in range(len(matrix))]
    if divisor == 1:
        return result
    return [[e.b.fdiv(x, e.constant(divisor**2)) for x in line] for line in result]


def _times(e: Emitter, matrix: Matrix, x: list[Value]) -> list[Value]:
    """Return matrix @ x."""
    found: list[Value] = [None] * len(matrix)
    for i, row in enumerate(matrix):
        if found[i] is not None:
            continue
        mirrored = [-entry if k % 2 else entry for k, entry in enumerate(row)]
        twins = [j for j in range(i + 1, len(matrix)) if list(matrix[j]) == mirrored]
        even = [entry if k % 2 == 0 else 0 for k, entry in enumerate(row)]
        odd = [entry if k % 2 else 0 for k, entry in enumerate(row)]
        if not twins or not any(even) or not any(odd):
            found[i] = _sum(e, row, x)
            continue
        a, b = _sum(e, even, x), _sum(e, odd, x)
        found[i], found[twins[0]] = e.b.fadd(a, b), e.b.fsub(a, b)
    return found


def _sum(e: Emitter, row: Sequence[float], x: list[Value]) -> Value:
    """Return the sum of row[k] x[k]: those with coefficient 1 or -1 first, so that the others are multiply-adds."""
    total = None
    for entry, value in sorted(((c, v) for c, v in zip(row, x, strict=True) if c), key=lambda term: abs(term[0]) != 1):
        if total is None:
            total = value if entry == 1 else e.b.fmul(e.constant(entry), value)
        elif entry == 1:
            total = e.b.fadd(total, value)
        elif entry == -1:
            total = e.b.fsub(total, value)
        else:
            total = e.multiply_add(e.constant(entry), value, total)
    return total
