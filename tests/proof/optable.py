"""The ops of the proof: how each is called, with what geometries, and on which values its differences are exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import oracles
import pytest
from hypothesis import example, given, settings
from proof.rows import DIFFERENCED, EVERY_ROW, NETWORKS, ROWS

from minunet import fusions, kernels, ops
from minunet.kernels import reference
from minunet.testing import strategies
from minunet.testing.strategies import CONVOLUTIONS, FEW_CHANNELS, POOLINGS, UP_CONVOLUTIONS, Geometry


def plain(rng, shapes, make):
    return [make(rng, shape) for shape in shapes]


def tie_free(rng, shapes, make):
    return [strategies.tie_free(rng, shape) for shape in shapes]


def off_the_kink(rng, shapes, make):
    """Whole numbers, and halves in the bias: what relu sees is at least 0.5 away from its kink."""
    x, w, b = plain(rng, shapes, strategies.integers)
    return [x, w, b + 0.5]


@dataclass(frozen=True)
class Op:
    """An op of the contract. Between -step and step it is linear in each argument, at the values that `arrays` makes."""

    name: str
    forward: Callable
    backward: Callable
    shapes: Callable[[Geometry], list[tuple[int, ...]]]
    options: Callable[[Geometry], dict]
    geometries: Callable = strategies.geometries
    named: dict[str, Geometry] = field(default_factory=lambda: CONVOLUTIONS)
    arrays: Callable = plain
    step: float = 1.0
    batched: int = 1  # how many of the arguments have images, each on its own
    times: float = 1  # how many times the profile's examples: cheap ops can have more
    jacobians: float = 1.7  # the same, for full Jacobians
    group: str = ""  # what its cases count for, if not for itself
    definition: Callable | None = None  # of a smooth op: y by complex numbers too, whose derivative a complex step tells

    def __str__(self) -> str:
        return self.name

    @property
    def counts_for(self) -> str:
        return self.group or self.name

    @property
    def has_algorithms(self) -> bool:
        return "conv" in self.name


def drop(x, rate):
    """Dropout with the same draws each time: its mask is then a constant."""
    return ops.dropout(x, rate, np.random.default_rng(7))


OPS = [
    Op(
        "conv2d", ops.conv2d, ops.conv2d_backward, lambda g: [g.x_shape, g.w_shape, (g.k,)], lambda g: g.options,
        jacobians=0.8,
    ),
    Op(
        "conv2d with relu", fusions.conv2d_relu, fusions.conv2d_relu_backward,
        lambda g: [g.x_shape, g.w_shape, (g.k,)], lambda g: g.options, arrays=off_the_kink, step=2.0**-13, group="conv2d",
        jacobians=0.5,
    ),
    Op(
        "conv_transpose2d", ops.conv_transpose2d, ops.conv_transpose2d_backward,
        lambda g: [g.x_shape, g.up_w_shape, (g.k,)], lambda g: g.up_options, strategies.up_geometries, UP_CONVOLUTIONS,
        jacobians=1.1,
    ),
    Op(
        "max_pool2d", ops.max_pool2d, ops.max_pool2d_backward, lambda g: [g.x_shape], lambda g: g.pool_options,
        strategies.poolings, POOLINGS, tie_free, step=0.25, times=1.5,
    ),
    Op(
        "relu", ops.relu, ops.relu_backward, lambda g: [g.x_shape], lambda g: {}, arrays=tie_free, step=0.25, times=2.2,
    ),
    Op(
        # The kernel stands for how much wider the skip is.
        "concat_skip", ops.concat_skip, ops.concat_skip_backward,
        lambda g: [tuple(np.add(g.x_shape, (0, *g.kernel, 0)) - (0, 1, 1, 0)), (*g.x_shape[:3], g.k)], lambda g: {},
        batched=2, times=2,
    ),
    Op(
        # A rate of 1 - 2^-m: kept elements are multiplied by 2^m, exactly.
        "dropout", drop, ops.dropout_backward, lambda g: [g.x_shape], lambda g: {"rate": 1 - 2.0 ** -(g.k % 4)},
        batched=0, times=2.2,
    ),
]  # fmt: skip


def batch_norm(x, gamma, beta, **options):
    """What an op of the contract returns; training takes nothing of the running statistics."""
    c = x.shape[3:]
    y, _, cache = ops.batch_norm(x, gamma, beta, np.zeros(c, x.dtype), np.full(c, 4, x.dtype), **options)
    return y, cache


def of_norm(x, gamma, beta, *, groups=0, epsilon, training=True):
    """The definition of each norm; groups of channels of an image, or 0, each channel of the batch."""
    mean, variance = reference.moments(x, groups) if training else (np.zeros((1, 1, x.shape[3], 1)), 4)
    scale = 1 / np.sqrt(variance + np.full_like(mean, epsilon))
    return reference.normalize(x, mean, scale, gamma, beta)


SMOOTH = [
    Op(
        # The last two of the arguments are one number a channel.
        "group_norm", ops.group_norm, ops.group_norm_backward,
        lambda g: [(*g.x_shape[:3], 2 * g.x_shape[3]), *[(2 * g.x_shape[3],)] * 2],
        lambda g: {"groups": (1, 2)[g.k % 2], "epsilon": 0.25},
        # An epsilon that counts: without, dx of the two elements of a group is what is left when they cancel, rounding and all.
        jacobians=0.5, times=0.5, definition=of_norm,
    ),
    Op(
        "batch_norm", batch_norm, ops.batch_norm_backward,
        lambda g: [(max(2, g.x_shape[0]), *g.x_shape[1:]), *[(g.x_shape[3],)] * 2],
        lambda g: {"training": g.k % 3 > 0, "epsilon": 0.25}, batched=0, jacobians=0.5, times=0.5, definition=of_norm,
    ),
]  # fmt: skip


def each(ops_of, rows):
    """Run a test for each op on each row. Algorithms are of convolutions: the other ops run once on each backend."""
    plain = ("auto", "float32")
    pairs = [(row, op) for op in ops_of for row in rows if op.has_algorithms or (row.algorithm, row.precision) == plain]
    named = [pytest.param(row, op, id=f"{op} on {row}") for row, op in pairs]
    return pytest.mark.parametrize(("row", "op"), named, indirect=["row"])


each_op = each(OPS, ROWS)
each_differenced_op = each(OPS + SMOOTH, DIFFERENCED)
each_op_on_every_row = each(OPS + SMOOTH, EVERY_ROW)
each_op_on_images = each([op for op in OPS + SMOOTH if op.batched], EVERY_ROW)
every_row = pytest.mark.parametrize("row", EVERY_ROW, ids=str, indirect=True)
each_network = pytest.mark.parametrize("row", NETWORKS, ids=str, indirect=True)
BACKENDS = [row for row in ROWS if (row.algorithm, row.precision) == ("auto", "float32")]
each_backend = pytest.mark.parametrize("row", BACKENDS, ids=str, indirect=True)

SMALL = {"most": 4, "channels": FEW_CHANNELS, "empty": False}  # for full Jacobians


def over(geometries, named, times=1.0):
    """Run the function under it, at once, for many drawn geometries and seeds, and for each geometry that has a name.

    What else varies (dtype, layout, ...) is drawn from the seed.
    """

    def decorate(prove):
        drawn = given(g=geometries, seed=oracles.seeds)(prove)
        for seed, g in enumerate(named.values()):
            drawn = example(g=g, seed=seed)(drawn)
        settings(max_examples=n_examples(times))(drawn)()

    return decorate


def over_seeds(times=1.0):
    """Like `over`, for what has no geometry."""

    def decorate(prove):
        settings(max_examples=n_examples(times))(given(seed=oracles.seeds)(prove))()

    return decorate


def n_examples(times=1.0):
    """Return how many cases to draw: so many times the profile's number, and the share of the row that serves."""
    return max(1, int(times * settings.default.max_examples * getattr(kernels.for_array(None), "share", 1)))


def drawn_dtype(rng, dtypes=(np.float32, np.float64)):
    return rng.choice(dtypes)
