"""Copies of many pixels, and of squares, as generated code: how packing.py brings data into the shape that tiles read."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from .generated import Emitter, Value, by_vectors, constant, intrinsic, number
from .isa import ISA


def _pixels(masked: bool) -> Any:
    """Make the kernel that copies `count` elements of each of `pixels` pixels, so many bytes apart; `masked`: where mask > 0."""

    @intrinsic
    def kernel(
        context: Any, zero: Any, target: Any, target_pixel: Any, source: Any, source_pixel: Any, mask: Any, mask_pixel: Any,
        pixels: Any, count: Any,
    ) -> Any:  # fmt: skip
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Value:
            e = Emitter(builder, zero)
            _, *places, pixels, count = arguments
            starts, steps = places[::2], places[1::2]

            def one(now: list[Value], at: Value, kind: ir.Type) -> None:
                value = e.load(builder.add(now[1], at), kind)
                if masked:
                    counts = builder.fcmp_ordered(">", e.load(builder.add(now[2], at), kind), constant(kind, 0.0))
                    value = builder.select(counts, value, constant(kind, 0.0))
                e.store(value, builder.add(now[0], at))

            def whole_panel(i: Value, now: list[Value]) -> list[Value]:
                for v in range(2):
                    one(now, number(v * ISA.vector_bytes), e.vector)
                return [builder.add(place, step) for place, step in zip(now, steps, strict=True)]

            def any_count(i: Value, now: list[Value]) -> list[Value]:
                by_vectors(e, count, lambda at, kind: one(now, at, kind))
                return [builder.add(place, step) for place, step in zip(now, steps, strict=True)]

            with builder.if_else(builder.icmp_signed("==", count, number(ISA.panel_bytes // e.size))) as (whole, other):
                with whole:  # the most frequent: without a loop in the loop
                    e.repeat(number(0), pixels, number(1), starts, whole_panel)
                with other:
                    e.repeat(number(0), pixels, number(1), starts, any_count)
            return context.get_dummy_value()

        return types.void(zero, *[types.int64] * 8), emit

    return kernel


copy_pixels, copy_positive_pixels = _pixels(masked=False), _pixels(masked=True)


@intrinsic
def transpose(context: Any, zero: Any, target: Any, target_row: Any, source: Any, source_row: Any) -> Any:
    """Copy a square of as many rows and columns as a vector has lanes, turned over its diagonal."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Value:
        e = Emitter(builder, zero)
        _, target, target_row, source, source_row = arguments
        lanes = range(e.lanes)
        rows = [e.load(builder.add(source, builder.mul(source_row, number(i)))) for i in lanes]
        step = 1
        while step < e.lanes:  # swap the off-diagonal quarters of each square of 2 x 2, then of 4 x 4, ...
            low = [i if not i & step else e.lanes + i - step for i in lanes]
            high = [i + step if not i & step else e.lanes + i for i in lanes]
            for i in lanes:
                if not i & step:
                    pair = rows[i], rows[i + step]
                    rows[i], rows[i + step] = (builder.shuffle_vector(*pair, _mask(places)) for places in (low, high))
            step *= 2
        for i in lanes:
            e.store(rows[i], builder.add(target, builder.mul(target_row, number(i))))
        return context.get_dummy_value()

    return types.void(zero, *[types.int64] * 4), emit


def _mask(places: list[int]) -> ir.Constant:
    """Which lanes a shuffle takes, of two vectors one after the other."""
    return ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
