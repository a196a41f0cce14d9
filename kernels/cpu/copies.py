"""Copies of many pixels, and of squares, as generated code: how packing.py brings data into the shape that tiles read."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .generated import Emitter, Value, by_vectors, constant, emitted, number
from .isa import ISA


def _pixels(masked: bool) -> Any:
    """Make the kernel that copies `count` elements of each of `pixels` pixels, so many bytes apart; `masked`: where mask > 0."""

    @emitted
    def kernel(
        e: Emitter, target: Value, target_pixel: Value, source: Value, source_pixel: Value, mask: Value, mask_pixel: Value,
        pixels: Value, count: Value,
    ) -> None:  # fmt: skip
        starts, steps = [target, source, mask], [target_pixel, source_pixel, mask_pixel]

        def one(now: list[Value], at: Value, kind: ir.Type) -> None:
            value = e.load(e.b.add(now[1], at), kind)
            if masked:
                counts = e.b.fcmp_ordered(">", e.load(e.b.add(now[2], at), kind), constant(kind, 0.0))
                value = e.b.select(counts, value, constant(kind, 0.0))
            e.store(value, e.b.add(now[0], at))

        def whole_panel(i: Value, now: list[Value]) -> list[Value]:
            for v in range(2):
                one(now, number(v * ISA.vector_bytes), e.vector)
            return [e.b.add(place, step) for place, step in zip(now, steps, strict=True)]

        def any_count(i: Value, now: list[Value]) -> list[Value]:
            by_vectors(e, count, lambda at, kind: one(now, at, kind))
            return [e.b.add(place, step) for place, step in zip(now, steps, strict=True)]

        with e.b.if_else(e.b.icmp_signed("==", count, number(ISA.panel_bytes // e.size))) as (whole, other):
            with whole:  # the most frequent: without a loop in the loop
                e.repeat(number(0), pixels, number(1), starts, whole_panel)
            with other:
                e.repeat(number(0), pixels, number(1), starts, any_count)

    return kernel


copy_pixels, copy_positive_pixels = _pixels(masked=False), _pixels(masked=True)


@emitted
def transpose(e: Emitter, target: Value, target_row: Value, source: Value, source_row: Value) -> None:
    """Copy a square of as many rows and columns as a vector has lanes, turned over its diagonal."""
    lanes = range(e.lanes)
    rows = [e.load(e.b.add(source, e.b.mul(source_row, number(i)))) for i in lanes]
    step = 1
    while step < e.lanes:  # swap the off-diagonal quarters of each square of 2 x 2, then of 4 x 4, ...
        low = [i if not i & step else e.lanes + i - step for i in lanes]
        high = [i + step if not i & step else e.lanes + i for i in lanes]
        for i in lanes:
            if not i & step:
                pair = rows[i], rows[i + step]
                rows[i], rows[i + step] = (e.b.shuffle_vector(*pair, _mask(places)) for places in (low, high))
        step *= 2
    for i in lanes:
        e.store(rows[i], e.b.add(target, e.b.mul(target_row, number(i))))


def _mask(places: list[int]) -> ir.Constant:
    """Which lanes a shuffle takes, of two vectors one after the other."""
    return ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
