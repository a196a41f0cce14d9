"""The generated code: Numba intrinsics that emit LLVM vector instructions, for either dtype and any instruction set.

They take addresses and strides in bytes as int64, and a `zero` whose type says what lies there. What they emit carries
no fast-math flag, and never touches a byte beyond what its arguments name.

    tall, narrow              C = epilogue(C or 0, + sum over taps and depth of A B), C in registers all along
    copy, copy_positive       a run of elements, all of them or those whose mask is > 0
    claim                     the next number of a counter that threads share
    add, peek, poke, rest     what threads tell each other, in one order for all of them
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as numba_intrinsic

from .isa import ISA

INT = ir.IntType(64)
ONE = ir.Constant(ir.IntType(32), 1)
Value = Any  # an ir.Value; llvmlite has no stubs
intrinsic: Any = numba_intrinsic  # whose own type knows nothing of the call without the context


class Emitter:
    """Emits loads, stores and arithmetic on vectors of one dtype: a zero's, or that of a tuple of `side` zeros."""

    def __init__(self, builder: ir.IRBuilder, zero: Any) -> None:
        self.b = builder
        self.side: int = zero.count if isinstance(zero, types.UniTuple) else 1
        dtype = zero.dtype if isinstance(zero, types.UniTuple) else zero
        self.scalar = ir.FloatType() if dtype == types.float32 else ir.DoubleType()
        self.size = dtype.bitwidth // 8
        self.lanes = ISA.vector_bytes // self.size
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.zeros = ir.Constant(self.vector, [0.0] * self.lanes)

    def load(self, address: Value, kind: ir.Type | None = None) -> Value:
        """Load a vector, or what `kind` says, from any address: aligned to its elements and to no more."""
        kind = self.vector if kind is None else kind
        value = self.b.load(self.b.inttoptr(address, kind.as_pointer()))
        value.align = 8 if kind is INT else self.size
        return value

    def store(self, value: Value, address: Value) -> None:
        self.b.store(value, self.b.inttoptr(address, value.type.as_pointer())).align = self.size

    def word(self, table: Value, i: Value) -> Value:
        """Load entry i of a table of int64."""
        return self.load(self.b.add(table, self.b.mul(i, number(8))), INT)

    def broadcast(self, address: Value) -> Value:
        """Load one element into all lanes."""
        return _spread(self.b, self.load(address, self.scalar), self.vector)

    def constant(self, value: float) -> Value:
        """The same number in all lanes."""
        return constant(self.vector, float(value))

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        """a b + c, rounded once where the processor can, twice where that would be a call of a function."""
        if not ISA.fma:
            return self.b.fadd(self.b.fmul(a, b), c)
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fma.v{self.lanes}f{8 * self.size}"
        return self.b.call(cgutils.get_or_insert_function(self.b.module, kind, name), [a, b, c])

    def relu(self, x: Value) -> Value:
        """0 where x <= 0, else x: a NaN stays."""
        return self.b.select(self.b.fcmp_ordered("<=", x, self.zeros), self.zeros, x)

    def repeat(
        self, start: Value, stop: Value, step: Value, carried: Sequence[Value], body: Callable[[Value, list[Value]], list[Value]]
    ) -> tuple[Value, list[Value]]:
        """Emit `while i + step <= stop: carried = body(i, carried); i += step`; return i and carried after it."""
        b, entry = self.b, self.b.block
        head, inside, after = (b.append_basic_block(name) for name in ("head", "inside", "after"))
        b.branch(head)
        b.position_at_end(head)
        i, *now = (b.phi(value.type) for value in (start, *carried))
        for phi, value in zip((i, *now), (start, *carried), strict=True):
            phi.add_incoming(value, entry)
        b.cbranch(b.icmp_signed("<=", b.add(i, step), stop), inside, after)
        b.position_at_end(inside)
        new = [b.add(i, step), *body(i, now)]  # in this order: `body` may open blocks, and the increment must precede none
        for phi, value in zip((i, *now), new, strict=True):
            phi.add_incoming(value, b.block)
        self._leave_as_it_is(b.branch(head))
        b.position_at_end(after)
        return i, now

    def _leave_as_it_is(self, back: Value) -> None:
        """Tell LLVM to leave the loop of this branch back alone: it is vectorised, and to try more takes seconds."""
        module = self.b.module
        plain = [module.add_metadata(["llvm.loop.unroll.disable"]), module.add_metadata(["llvm.loop.vectorize.width", ONE])]
        loop = module.add_metadata([f"loop {len(module.metadata)}"])
        loop.operands = (loop, *plain)  # a loop's node begins with itself, so that no two loops share one
        back.set_metadata("llvm.loop", loop)


def emitted(emit: Callable[..., None]) -> Any:
    """Make emit(e, *values) an intrinsic, of a zero (or of a tuple of them) and as many int64 as there are values."""
    names = list(inspect.signature(emit).parameters)[1:]

    def typed(context: Any, zero: Any, *values: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Value:
            emit(Emitter(builder, zero), *arguments[1:])
            return context.get_dummy_value()

        return types.void(zero, *[types.int64] * len(names)), generate

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("context", "zero", *names)]
    typed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # Numba counts by it
    return intrinsic(typed)


def number(value: int) -> ir.Constant:
    """An int64 constant."""
    return ir.Constant(INT, value)


def _tile(rows: int, vectors: int) -> Any:
    """Make the micro-kernel of rows x vectors accumulators.

    tile(zero, a_rows, a_shift, a_stride, taps, n_taps, depth, b, c_rows, c_shift, accumulate, bias, relu):

        for v in 0 .. vectors lanes:  c[i, v] = epilogue(sum over t < n_taps, d < depth of  a[i, t, d] b[t depth + d, v])
        a[i, t, d] at a_rows[i] + a_shift + taps[t] + d a_stride        b[j, v] at b + (j vectors lanes + v) size
        c[i, v]    at c_rows[i] + c_shift + v size                      a_rows, taps, c_rows: tables of int64

    The epilogue adds what lay in c if `accumulate`, then bias[v] if the address `bias` is not 0, then applies relu if `relu`.
    """

    @emitted
    def tile(
        e: Emitter, a_rows: Value, a_shift: Value, a_stride: Value, taps: Value, n_taps: Value, depth: Value, b: Value,
        c_rows: Value, c_shift: Value, accumulate: Value, bias: Value, relu: Value,
    ) -> None:  # fmt: skip
        add, mul = e.b.add, e.b.mul
        a = [add(e.word(a_rows, number(i)), a_shift) for i in range(rows)]

        def one_tap(t: Value, carried: list[Value]) -> list[Value]:
            offset = e.word(taps, t)
            here = [add(row, offset) for row in a]

            def one_step(d: Value, carried: list[Value]) -> list[Value]:
                b, *c = carried
                b_now = [e.load(add(b, number(v * ISA.vector_bytes))) for v in range(vectors)]
                at = mul(d, a_stride)
                for i in range(rows):
                    element = e.broadcast(add(here[i], at))
                    for v in range(vectors):
                        c[i * vectors + v] = e.multiply_add(element, b_now[v], c[i * vectors + v])
                return [add(b, number(vectors * ISA.vector_bytes)), *c]

            return e.repeat(number(0), depth, number(1), carried, one_step)[1]

        _, (_, *c) = e.repeat(number(0), n_taps, number(1), [b, *[e.zeros] * (rows * vectors)], one_tap)
        places = [
            add(add(e.word(c_rows, number(i)), c_shift), number(v * ISA.vector_bytes))
            for i in range(rows) for v in range(vectors)
        ]  # fmt: skip
        c = where(e, accumulate, c, lambda: [e.b.fadd(e.load(p), x) for p, x in zip(places, c, strict=True)])
        biases = [add(bias, number(v * ISA.vector_bytes)) for v in range(vectors)]
        c = where(e, bias, c, lambda: [e.b.fadd(x, e.load(biases[i % vectors])) for i, x in enumerate(c)])
        c = where(e, relu, c, lambda: [e.relu(x) for x in c])
        for place, x in zip(places, c, strict=True):
            e.store(x, place)

    return tile


def where(e: Emitter, condition: Value, values: list[Value], then: Callable[[], list[Value]]) -> list[Value]:
    """Emit `if condition: values = then()`."""
    before = e.b.block
    with e.b.if_then(e.b.icmp_signed("!=", condition, number(0))):
        changed = then()
        inside = e.b.block
    merged = [e.b.phi(value.type) for value in values]
    for phi, value, new in zip(merged, values, changed, strict=True):
        phi.add_incoming(value, before)
        phi.add_incoming(new, inside)
    return merged


tall, narrow = _tile(ISA.tall, 2), _tile(ISA.narrow, 1)


@emitted
def copy(e: Emitter, target: Value, source: Value, count: Value) -> None:
    """Copy `count` elements from the address source to target."""
    by_vectors(e, count, lambda at, kind: e.store(e.load(e.b.add(source, at), kind), e.b.add(target, at)))


@emitted
def copy_positive(e: Emitter, target: Value, source: Value, mask: Value, count: Value) -> None:
    """Copy `count` elements from source to target where mask > 0; 0 elsewhere."""

    def one(at: Value, kind: ir.Type) -> None:
        zeros = constant(kind, 0.0)
        counts = e.b.fcmp_ordered(">", e.load(e.b.add(mask, at), kind), zeros)
        e.store(e.b.select(counts, e.load(e.b.add(source, at), kind), zeros), e.b.add(target, at))

    by_vectors(e, count, one)


@emitted
def clear(e: Emitter, target: Value, count: Value) -> None:
    """Set `count` elements from the address target on to 0."""
    by_vectors(e, count, lambda at, kind: e.store(constant(kind, 0.0), e.b.add(target, at)))


def by_vectors(e: Emitter, count: Value, one: Callable[[Value, ir.Type], None]) -> None:
    """Emit one(byte offset, type) for each whole vector of `count` elements, then for each element that is left."""

    def of(kind: ir.Type) -> Callable[[Value, list[Value]], list[Value]]:
        def body(i: Value, carried: list[Value]) -> list[Value]:
            one(e.b.mul(i, number(e.size)), kind)
            return carried

        return body

    i, _ = e.repeat(number(0), count, number(e.lanes), [], of(e.vector))
    e.repeat(i, count, number(1), [], of(e.scalar))


@intrinsic
def claim(context: Any, counter: Any) -> Any:
    """Add 1 to the int64 at the address `counter`, atomically; return what it was: each number goes to one thread."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Value:
        place = builder.inttoptr(arguments[0], INT.as_pointer())
        return builder.atomic_rmw("add", place, number(1), "monotonic")

    return types.int64(types.int64), emit


@intrinsic
def add(context: Any, place: Any, value: Any) -> Any:
    """Add a value to the int64 at this address; return what it was."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Value:
        return builder.atomic_rmw("add", builder.inttoptr(arguments[0], INT.as_pointer()), arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), emit


@intrinsic
def peek(context: Any, place: Any) -> Any:
    """Return the int64 at this address."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Value:
        return builder.load_atomic(builder.inttoptr(arguments[0], INT.as_pointer()), "seq_cst", 8)

    return types.int64(types.int64), emit


@intrinsic
def poke(context: Any, place: Any, value: Any) -> Any:
    """Let the int64 at this address be a value."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Value:
        builder.store_atomic(arguments[1], builder.inttoptr(arguments[0], INT.as_pointer()), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


rest = types.ExternalFunction("SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32())



@intrinsic
def pointer(context: Any, zero: Any, address: Any) -> Any:
    """Return the address as a pointer to elements of zero's type, for numba.carray."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Value:
        return builder.inttoptr(arguments[1], context.get_value_type(signature.return_type))

    return types.CPointer(zero)(zero, types.int64), emit


@emitted
def copy_relu(e: Emitter, target: Value, source: Value, count: Value) -> None:
    """Copy `count` elements from source to target, 0 for those <= 0: a NaN stays."""

    def one(at: Value, kind: ir.Type) -> None:
        x, zeros = e.load(e.b.add(source, at), kind), constant(kind, 0.0)
        e.store(e.b.select(e.b.fcmp_ordered("<=", x, zeros), zeros, x), e.b.add(target, at))

    by_vectors(e, count, one)


@emitted
def add_pixels(e: Emitter, total: Value, source: Value, pixel: Value, n_pixels: Value, count: Value) -> None:
    """Add `n_pixels` runs of `count` elements, from source on and `pixel` bytes apart, in order, to a run of float64."""

    def one(at: Value, kind: ir.Type) -> None:
        wide = like(kind, ir.DoubleType())
        here, start = e.b.add(total, e.b.mul(at, number(8 // e.size))), e.b.add(source, at)

        def body(i: Value, carried: list[Value]) -> list[Value]:
            x = e.load(e.b.add(start, e.b.mul(i, pixel)), kind)
            return [e.b.fadd(carried[0], x if x.type == wide else e.b.fpext(x, wide))]

        _, (now,) = e.repeat(number(0), n_pixels, number(1), [e.load(here, wide)], body)
        e.store(now, here)

    by_vectors(e, count, one)


@emitted
def largest(
    e: Emitter, y: Value, places: Value, x: Value, row: Value, pixel: Value, r_size: Value, s_size: Value, count: Value
) -> None:
    """For each of `count` channels, find the largest in a window of r_size x s_size pixels, and its row-major place in it.

    Pixel (r, s) of the window lies at x + r row + s pixel. The first of equals, and the first NaN before any number, goes
    to y; its place, a byte, to places.
    """
    add, mul = e.b.add, e.b.mul

    def one(at: Value, kind: ir.Type) -> None:
        whole = like(kind, ir.IntType(8 * e.size))  # a place as wide as its element: both are chosen by one mask
        first = add(x, at)

        def one_row(r: Value, carried: list[Value]) -> list[Value]:
            start = add(first, mul(r, row))

            def one_pixel(s: Value, carried: list[Value]) -> list[Value]:
                best, place, here = carried
                value = e.load(add(start, mul(s, pixel)), kind)
                larger = e.b.fcmp_unordered(">", value, best)  # or one of the two is NaN:
                larger = e.b.and_(larger, e.b.fcmp_ordered("==", best, best))  # only the first NaN wins
                best, place = e.b.select(larger, value, best), e.b.select(larger, here, place)
                return [best, place, add(here, constant(whole, 1))]

            return e.repeat(number(0), s_size, number(1), carried, one_pixel)[1]

        start = [e.load(first, kind), constant(whole, 0), constant(whole, 0)]
        _, (best, place, _) = e.repeat(number(0), r_size, number(1), start, one_row)
        e.store(best, add(y, at))
        target = e.b.inttoptr(add(places, e.b.udiv(at, number(e.size))), like(kind, ir.IntType(8)).as_pointer())
        e.b.store(e.b.trunc(place, target.type.pointee), target).align = 1

    by_vectors(e, count, one)


def _chosen(with_target: bool) -> Any:
    """Make the kernel that gives each channel of a pixel its dy, where the window's largest was that pixel; 0 elsewhere."""

    @emitted
    def chosen(e: Emitter, dx: Value, dy: Value, places: Value, place: Value, count: Value) -> None:
        add = e.b.add
        byte = ir.IntType(8)
        place = e.b.trunc(place, byte)

        def one(at: Value, kind: ir.Type) -> None:
            bytes_ = like(kind, byte)
            source = e.b.inttoptr(add(places, e.b.udiv(at, number(e.size))), bytes_.as_pointer())
            found = e.b.load(source)
            found.align = 1
            same = e.b.icmp_unsigned("==", found, _spread(e.b, place, bytes_))
            value = e.b.select(same, e.load(add(dy, at), kind), constant(kind, 0.0))
            if with_target:
                value = e.b.fadd(e.load(add(dx, at), kind), value)
            e.store(value, add(dx, at))

        by_vectors(e, count, one)

    return chosen


give, give_more = _chosen(with_target=False), _chosen(with_target=True)  # dx = ..., dx += ...


def like(kind: ir.Type, scalar: ir.Type) -> ir.Type:
    """Return the type of as many `scalar` as `kind` is: one, or a vector."""
    return ir.VectorType(scalar, kind.count) if isinstance(kind, ir.VectorType) else scalar


def constant(kind: ir.Type, value: float) -> ir.Constant:
    """The same number in all lanes."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def _spread(builder: ir.IRBuilder, value: Value, kind: ir.Type) -> Value:
    """Return the value in all lanes."""
    if not isinstance(kind, ir.VectorType):
        return value
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count))
