"""Normalisation: the moments of groups of channels, what they make of x, with relu or without, and the gradients.

Batch, group and instance norm are one: mean and scale belong to the groups of an image, or of all images. Forward reads x
twice, backward x and dy twice, and z is computed anew each time: it is never stored. A job's sums are of float64, and about
its first pixel, so that a mean which is large beside the spread costs no digits; NumPy puts those of all jobs together, in
order (Chan, Golub and LeVeque 1979, equation 2.1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from ..buffers import empty
from ..geometry import Pair, pixel_stride
from .generated import Emitter, Value, add_pixels, by_vectors, constant, emitted, like, number
from .isa import ISA
from .jit import part
from .threads import address, jobs, launch

Array = NDArray[np.floating]
Cut = tuple[int, int, int, int, int]

ELEMENTS = 2**16  # a job, of one image: enough to be worth a claim, and a number that no thread count changes
BLOCK = 2**11  # elements that are gone through channel by channel: they stay in the nearest cache
MEAN, FACTOR, SHIFT, ALONG, LEVEL, COLUMNS = range(6)  # what a table holds of each channel


def moments(x: Array, groups: int) -> tuple[Array, Array]:
    """The mean and the variance of each group of an image, (N, 1, groups, 1); for 0 groups of each channel, (1, 1, C, 1)."""
    (n, _, _, c), (per_image, cut) = x.shape, _cut(x)
    sums = np.zeros((n, per_image, 3, c))  # of each job: its first pixel, what the others differ by, and the squares of that
    launch(_moments, n * per_image, 0, x.dtype.type(0), cut, _place(x), address(sums))
    rows, groups = (n, groups) if groups else (1, c)
    axes = rows, per_image if rows == n else n * per_image, groups, c // groups
    pixels = np.minimum(cut[0], cut[2] - cut[0] * np.arange(per_image))[:, None]  # of each job of an image
    with np.errstate(all="ignore"):  # an overflow gives what it gives
        first, once, twice = sums[:, :, 0], sums[:, :, 1], sums[:, :, 2]
        means, spreads = (first + once / pixels).reshape(axes), np.maximum(twice - once * once / pixels, 0).reshape(axes)
        counts = np.broadcast_to(pixels, first.shape).reshape(axes)
        total = counts.sum(axis=(1, 3), keepdims=True)
        mean = (counts * means).sum(axis=(1, 3), keepdims=True) / total
        variance = (spreads + counts * (means - mean) ** 2).sum(axis=(1, 3), keepdims=True) / total
        return _stored(mean, x.dtype), _stored(variance, x.dtype)


def normalize(x: Array, mean: Array, scale: Array, gamma: Array, beta: Array, *, out: Array | None = None) -> Array:
    """(x - mean) scale gamma + beta."""
    return _normalized(x, _table(x, mean, scale, gamma, beta), 0, out)


def normalize_relu(x: Array, mean: Array, scale: Array, gamma: Array, beta: Array, *, out: Array | None = None) -> Array:
    """max(that, 0), with NaN kept."""
    return _normalized(x, _table(x, mean, scale, gamma, beta), 1, out)


def normalize_grads(
    x: Array, dy: Array, mean: Array, scale: Array, gamma: Array, own: bool = True
) -> tuple[Array, Array, Array]:  # fmt: skip
    """dx, dgamma, dbeta; own: mean and scale are those of x, and move with it."""
    return _grads(x, dy, scale, gamma, _table(x, mean, scale, gamma, gamma), 0, own)


def normalize_relu_grads(
    x: Array, dy: Array, mean: Array, scale: Array, gamma: Array, beta: Array, own: bool = True
) -> tuple[Array, Array, Array]:  # fmt: skip
    """The same of a dy that counts where normalize gives more than 0."""
    return _grads(x, dy, scale, gamma, _table(x, mean, scale, gamma, beta), 1, own)


def _normalized(x: Array, table: Array, relu: int, out: Array | None) -> Array:
    y = empty(x.shape, x.dtype) if out is None else out
    per_image, cut = _cut(x)
    launch(_normalize, x.shape[0] * per_image, 0, x.dtype.type(0), cut, _place(x), _place(y), _rows(table), relu)
    return y


def _grads(
    x: Array, dy: Array, scale: Array, gamma: Array, table: Array, relu: int, own: bool
) -> tuple[Array, Array, Array]:  # fmt: skip
    (n, _, _, c), (per_image, cut) = x.shape, _cut(x)
    zero, places = x.dtype.type(0), (_place(x), _place(dy))
    sums = np.zeros((n, per_image, 2, c))  # of each job: dy, and dy (x - mean)
    launch(_sums, n * per_image, 0, zero, cut, *places, _rows(table), relu, address(sums))
    with np.errstate(all="ignore"):
        once, twice = sums[:, :, 0].sum(axis=1), sums[:, :, 1].sum(axis=1) * _spread(scale, c)  # (N, C)
        if own:
            table[:, ALONG] = -_spread(scale * scale * _group_mean(twice * gamma, scale, cut[2]), c)
            table[:, LEVEL] = -_spread(scale * _group_mean(once * gamma, scale, cut[2]), c)
        else:
            table[:, ALONG:] = 0
        dx, dgamma, dbeta = empty(x.shape, x.dtype), twice.sum(axis=0), once.sum(axis=0)
        launch(_input_grad, n * per_image, 0, zero, cut, *places, _place(dx), _rows(table), relu)
        return dx, _stored(dgamma, x.dtype), _stored(dbeta, x.dtype)


def _group_mean(sums: Array, scale: Array, pixels: int) -> Array:
    """Return the mean of what has these sums over each image and channel, (N, C), in each group: of scale's shape."""
    (n, c), (rows, _, groups, _) = sums.shape, scale.shape
    images = 1 if rows == n else n
    total = sums.reshape(rows, images, groups, c // groups).sum(axis=(1, 3), keepdims=True)
    return total / (images * pixels * (c // groups))


def _table(x: Array, mean: Array, scale: Array, gamma: Array, beta: Array) -> Array:
    """Return what kernels read of each channel, (rows, COLUMNS, C): a row for each image, or one for all."""
    c = x.shape[3]
    table = empty((mean.shape[0], COLUMNS, c), x.dtype)
    with np.errstate(all="ignore"):
        table[:, MEAN], table[:, FACTOR], table[:, SHIFT] = _spread(mean, c), _spread(scale, c) * gamma, beta
    return table


def _spread(of_groups: Array, c: int) -> Array:
    """Return what groups have, (rows, 1, groups, 1), for each of their channels: (rows, C)."""
    rows, _, groups, _ = of_groups.shape
    return (of_groups[:, 0] + np.zeros((1, 1, c // groups), of_groups.dtype)).reshape(rows, c)


def _stored(values: Array, dtype: Any) -> Array:
    made = empty(values.shape, dtype)
    made[...] = values
    return made


def _cut(x: Array) -> tuple[int, Cut]:
    """Return the jobs of an image, and pixels a job, that number of jobs, pixels of an image, channels, and pixels a block."""
    _, h, w, c = x.shape
    chunk = max(1, ELEMENTS // max(c, 1))
    per_image = -(-h * w // chunk)
    return per_image, (chunk, per_image, h * w, c, max(8, BLOCK // max(c, 1)))


def _place(x: Array) -> Pair:
    """Return where an activation starts, and how far apart its pixels lie."""
    return address(x), pixel_stride(x)


def _rows(table: Array) -> Pair:
    """Return where a table starts, and how far apart the rows of two images lie: 0, where one serves all."""
    return address(table), table.strides[0] if table.shape[0] > 1 else 0


@part
def _pixels_of(job: int, cut: Cut) -> tuple[int, int, int]:
    """Return a job's image, its first pixel, and the first behind them."""
    image, i = divmod(job, cut[1])
    first = image * cut[2] + i * cut[0]
    return image, first, min(first + cut[0], (image + 1) * cut[2])


@jobs
def _moments(job: int, base: int, zero: Any, cut: Cut, x: Pair, sums: int) -> None:
    (_, first, last), c = _pixels_of(job, cut), cut[3]
    place = sums + 3 * 8 * c * job
    add_pixels(zero, place, x[0] + first * x[1], x[1], 1, c)
    for i in range(first, last, cut[4]):
        add_moments(zero, place, x[0] + i * x[1], x[1], min(cut[4], last - i), c)


@jobs
def _normalize(job: int, base: int, zero: Any, cut: Cut, x: Pair, y: Pair, table: Pair, relu: int) -> None:
    image, first, last = _pixels_of(job, cut)
    row = table[0] + image * table[1]
    for i in range(first, last, cut[4]):
        n, x_here, y_here = min(cut[4], last - i), x[0] + i * x[1], y[0] + i * y[1]
        if relu:
            make_positive(zero, y_here, y[1], x_here, x[1], row, n, cut[3])
        else:
            make(zero, y_here, y[1], x_here, x[1], row, n, cut[3])


@jobs
def _sums(job: int, base: int, zero: Any, cut: Cut, x: Pair, dy: Pair, table: Pair, relu: int, sums: int) -> None:
    (image, first, last), c = _pixels_of(job, cut), cut[3]
    row, place = table[0] + image * table[1], sums + 2 * 8 * c * job
    for i in range(first, last, cut[4]):
        n, x_here, dy_here = min(cut[4], last - i), x[0] + i * x[1], dy[0] + i * dy[1]
        if relu:
            add_gradients_of_positive(zero, place, dy_here, dy[1], x_here, x[1], row, n, c)
        else:
            add_gradients(zero, place, dy_here, dy[1], x_here, x[1], row, n, c)


@jobs
def _input_grad(job: int, base: int, zero: Any, cut: Cut, x: Pair, dy: Pair, dx: Pair, table: Pair, relu: int) -> None:
    image, first, last = _pixels_of(job, cut)
    row = table[0] + image * table[1]
    for i in range(first, last, cut[4]):
        n, x_here, dy_here, dx_here = min(cut[4], last - i), x[0] + i * x[1], dy[0] + i * dy[1], dx[0] + i * dx[1]
        if relu:
            combine_of_positive(zero, dx_here, dx[1], dy_here, dy[1], x_here, x[1], row, n, cut[3])
        else:
            combine(zero, dx_here, dx[1], dy_here, dy[1], x_here, x[1], row, n, cut[3])


# ---- The generated code: for each vector of channels, all pixels of a block ----


class _Columns:
    """Loads what a table's row says of some channels, as vectors that stay in registers while pixels pass."""

    def __init__(self, e: Emitter, row: Value, at: Value, kind: ir.Type, count: Value) -> None:
        self.e, self.kind = e, kind
        step = e.b.mul(count, number(e.size))
        self._load = lambda i: e.load(e.b.add(e.b.add(row, at), e.b.mul(step, number(i))), kind)
        self.mean, self.factor, self.shift = self._load(MEAN), self._load(FACTOR), self._load(SHIFT)

    def centred(self, x: Value) -> Value:
        return self.e.b.fsub(self.e.load(x, self.kind), self.mean)

    def y(self, centred: Value) -> Value:
        return _multiply_add(self.e, self.kind, centred, self.factor, self.shift)

    def dy(self, dy: Value, centred: Value, relu: bool) -> Value:
        """Load dy, with relu where y > 0 alone: y is computed as in forward, to the bit."""
        zeros, loaded = constant(self.kind, 0.0), self.e.load(dy, self.kind)
        return self.e.b.select(self.e.b.fcmp_ordered(">", self.y(centred), zeros), loaded, zeros) if relu else loaded

    def dx(self, dy: Value, centred: Value) -> Value:
        inner = _multiply_add(self.e, self.kind, centred, self._load(ALONG), self._load(LEVEL))
        return _multiply_add(self.e, self.kind, dy, self.factor, inner)


@emitted
def add_moments(e: Emitter, sums: Value, x: Value, pixel: Value, n_pixels: Value, count: Value) -> None:
    """Add how `n_pixels` runs of `count` elements differ from the run of float64 at `sums`, and the squares, to those behind."""

    def one(at: Value, kind: ir.Type) -> None:
        (first, *places), start = _runs(e, sums, at, count, 3), e.b.add(x, at)
        wide = like(kind, ir.DoubleType())
        about = e.load(first, wide)

        def body(i: Value, carried: list[Value]) -> list[Value]:
            d = e.b.fsub(_wide(e, e.load(e.b.add(start, e.b.mul(i, pixel)), kind), wide), about)
            return [e.b.fadd(carried[0], d), e.b.fadd(carried[1], e.b.fmul(d, d))]

        _add(e, n_pixels, places, wide, body)

    by_vectors(e, count, one)


def _make(relu: bool) -> Any:
    @emitted
    def make(
        e: Emitter, y: Value, y_pixel: Value, x: Value, x_pixel: Value, row: Value, n_pixels: Value, count: Value
    ) -> None:  # fmt: skip
        """Write y of `n_pixels` runs of `count` elements."""

        def one(at: Value, kind: ir.Type) -> None:
            columns, zeros = _Columns(e, row, at, kind, count), constant(kind, 0.0)

            def body(i: Value, carried: list[Value]) -> list[Value]:
                made = columns.y(columns.centred(_at(e, x, at, i, x_pixel)))
                made = e.b.select(e.b.fcmp_ordered("<=", made, zeros), zeros, made) if relu else made
                e.store(made, _at(e, y, at, i, y_pixel))
                return carried

            e.repeat(number(0), n_pixels, number(1), [], body)

        by_vectors(e, count, one)

    return make


def _add_gradients(relu: bool) -> Any:
    @emitted
    def add_gradients(
        e: Emitter, sums: Value, dy: Value, dy_pixel: Value, x: Value, x_pixel: Value, row: Value, n_pixels: Value, count: Value
    ) -> None:
        """Add dy, and dy (x - mean), of `n_pixels` runs of `count` elements to two runs of float64."""

        def one(at: Value, kind: ir.Type) -> None:
            columns, wide = _Columns(e, row, at, kind, count), like(kind, ir.DoubleType())

            def body(i: Value, carried: list[Value]) -> list[Value]:
                centred = columns.centred(_at(e, x, at, i, x_pixel))
                g = _wide(e, columns.dy(_at(e, dy, at, i, dy_pixel), centred, relu), wide)
                return [e.b.fadd(carried[0], g), e.b.fadd(carried[1], e.b.fmul(g, _wide(e, centred, wide)))]

            _add(e, n_pixels, _runs(e, sums, at, count, 2), wide, body)

        by_vectors(e, count, one)

    return add_gradients


def _combine(relu: bool) -> Any:
    @emitted
    def combine(
        e: Emitter, dx: Value, dx_pixel: Value, dy: Value, dy_pixel: Value, x: Value, x_pixel: Value, row: Value,
        n_pixels: Value, count: Value,
    ) -> None:  # fmt: skip
        """Write dx of `n_pixels` runs of `count` elements."""

        def one(at: Value, kind: ir.Type) -> None:
            columns = _Columns(e, row, at, kind, count)

            def body(i: Value, carried: list[Value]) -> list[Value]:
                centred = columns.centred(_at(e, x, at, i, x_pixel))
                g = columns.dy(_at(e, dy, at, i, dy_pixel), centred, relu)
                e.store(columns.dx(g, centred), _at(e, dx, at, i, dx_pixel))
                return carried

            e.repeat(number(0), n_pixels, number(1), [], body)

        by_vectors(e, count, one)

    return combine


make, make_positive = _make(relu=False), _make(relu=True)
add_gradients, add_gradients_of_positive = _add_gradients(relu=False), _add_gradients(relu=True)
combine, combine_of_positive = _combine(relu=False), _combine(relu=True)


def _at(e: Emitter, start: Value, at: Value, i: Value, pixel: Value) -> Value:
    return e.b.add(e.b.add(start, at), e.b.mul(i, pixel))


def _runs(e: Emitter, sums: Value, at: Value, count: Value, n: int) -> list[Value]:
    """Return where the sums of these channels lie in n runs of float64, one behind the other."""
    here = e.b.add(sums, e.b.mul(at, number(8 // e.size)))
    return [e.b.add(here, e.b.mul(count, number(8 * i))) for i in range(n)]


def _add(e: Emitter, n_pixels: Value, places: list[Value], wide: ir.Type, body: Any) -> None:
    """Carry what lies at these places through all pixels, and put it back."""
    _, totals = e.repeat(number(0), n_pixels, number(1), [e.load(place, wide) for place in places], body)
    for total, place in zip(totals, places, strict=True):
        e.store(total, place)


def _wide(e: Emitter, x: Value, wide: ir.Type) -> Value:
    return x if x.type == wide else e.b.fpext(x, wide)


def _multiply_add(e: Emitter, kind: ir.Type, a: Value, b: Value, c: Value) -> Value:
    """a b + c, of vectors or of what is left of them, rounded once where the processor can."""
    if not ISA.fma:
        return e.b.fadd(e.b.fmul(a, b), c)
    lanes = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
    function = ir.FunctionType(kind, [kind] * 3)
    return e.b.call(cgutils.get_or_insert_function(e.b.module, function, f"llvm.fma.{lanes}f{8 * e.size}"), [a, b, c])
