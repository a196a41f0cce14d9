"""The checkers: gradients against finite differences, and adjoints against inner products of whole numbers.

"Relative error" is max |a - n| / max(|a|, |n|) over an array: a from backward, n numeric. docs/gradients.md explains the
tolerances.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..checks import Array, require
from .argument import Argument, product
from .contract import REPEATS, Backward, Forward, Op, joined
from .differences import PRECISIONS
from .elsewhere import check_elsewhere
from .kept import kept
from .layouts import check_layouts
from .report import GradientError, Path, Report, Row, StateError, relative_error, saving

Shape = tuple[int, ...]
Linear = bool | Iterable[int | str]
Rng = int | np.random.Generator


def check_gradients(
    forward: Forward, backward: Backward, *arrays: Array, linear: Linear = (), rng: Rng = 0, step: float | None = None,
    tolerance: float | None = None, directions: int = 8, full: int = 256, layouts: bool = False, once: bool = False,
    names: Sequence[str] | None = None, save: Path | None = None,
) -> Report:  # fmt: skip
    """Check the gradients of an op against central differences; return a table, or raise GradientError.

        y, cache = forward(*arrays)          grads = backward(dy, cache)          # one an array, None: not checked

    y is an array of any shape, or a tuple of arrays: dy then is a tuple of the same shapes. Arrays are float64 or float32; whole
    numbers (labels, indices) may stand beside them, and backward returns None for those. What is no array is bound before:
    `lambda x, h, c: lstm(x, (h, c), bias=False)`.

    dy is random, so an error hides in no symmetry. An array of at most `full` elements is checked element by element, a
    larger one along `directions` random directions. `linear` says in which arguments forward is linear (or affine), by
    number or name, or True for all: there a step of 1 has no truncation error, and the tolerance is 1e-10. Elsewhere it
    is 1e-7, for any smooth or piecewise smooth op. A float32 op is held to 1e-4 and 2e-3, and the report says so. The error is
    relative to the array's largest element; where all are checked, each is held to its own size too, as far as rounding lets
    differences know it.

    Then come two more points, the arrays halved, and turned round besides: an op that keeps something of its first call is
    wrong there. And dy comes transposed, sliced, reversed, broadcast, in Fortran order, read-only and misaligned: gradients must
    be those of the same numbers contiguous. `layouts=True` lays out each array like that, too, and takes no refusal. `once` says
    that a cache serves one backward, which may take out of it what it needs; else it must serve a second.

    `step` and `tolerance` replace those that are chosen; `rng` is a seed or a generator; `names` are the arguments' (else
    forward's own are used); `save` is a path for an .npz of all arrays where the check fails.

    GradientError: a wrong gradient, a forward or backward that breaks the contract (too few gradients, a wrong shape or
    dtype, NaN, None for all, inputs written to, not deterministic, no pair, a cache used up, something kept between calls), a
    point where there is no derivative, or a forward too noisy for differences, as one with a cast to float32 inside is.
    ValueError: an argument that cannot be checked, such as lists.
    """
    op = Op(forward, backward, arrays, names)
    chosen = _linear_arguments(linear, op.names)
    for name, value in (("step", step), ("tolerance", tolerance)):
        require(value is None or value > 0, name, repr(value), "a number above 0, or None to choose")
    _check_count("directions", directions, 1)
    _check_count("full", full, 0)
    generator = _generator(rng)
    with saving(save, op.kept):
        found = op.analyse(generator.standard_normal, once)
        loose = any(a.dtype == np.float32 for a in (*arrays, *found.outputs))
        precision = PRECISIONS["float32" if loose else "float64"]
        settings = (found, generator, precision, step, directions, full)
        rows = []
        for i, (x, grad) in enumerate(zip(arrays, found.grads, strict=True)):
            if grad is None or x.size == 0:
                rows.append(Row(op.names[i], x.shape, "nothing", 0.0, 0.0))
            else:
                allowed = tolerance or (precision.linear if i in chosen else precision.smooth)
                rows.append(Argument(op, i, grad, i in chosen, allowed, *settings).row())
        loosest = max(tolerance or 0.0, precision.smooth)
        check_layouts(op, found, tolerance or precision.smooth, layouts)
        check_elsewhere(op, found, generator, precision, step, loosest)
    notes = [f"{row.argument}: its gradient lies below what rounding hides; it may be 0." for row in rows if row.tolerance >= 1]
    if loose:
        note = "float32: the tolerance is loose, errors below {:.0e} go unseen. In float64 it is 1e-07; where linear, 1e-10."
        notes.append(note.format(max(row.tolerance for row in rows)))
    return Report(tuple(rows), "\n".join(notes))


def check_layer(
    layer: Any, shape: Shape | Array | list[Shape | Array], *, training: bool = False, rng: Rng = 0, linear: Linear = (),
    once: bool = True, **options: Any,
) -> Report:  # fmt: skip
    """Check a layer's gradients, of x and of every parameter, as check_gradients does; its `options` are taken too.

        y, cache = layer.forward(x)          dx, grads = layer.backward(dy, cache)          # grads: {name: array}

    layer.parameters is a dict of arrays (or missing). They are written in place while their differences are taken. They, and
    whatever else the layer holds, are bit for bit what they were afterwards. x is standard normal of the given shape and the
    parameters' dtype (an array is taken as it is): make the layer with dtype="float64". `training` calls forward(x,
    training=True, rng=...), each time with a generator of the same seed, as for Dropout. A cache may serve one backward, as that
    of a Composite does; `once=False` asks for two.

    A layer of several inputs takes a list of shapes or arrays, and backward returns a tuple as dx: (dx, dskip), grads.
    Reports and `linear` name them x[0], x[1], and the parameters as the layer does.

    GradientError also where the layer keeps state between calls: all that a backward needs, and all that a forward in
    training finds out, belongs into the cache.
    """
    for method in ("forward", "backward"):
        if not callable(getattr(layer, method, None)):
            raise ValueError(f"{type(layer).__name__} has no {method}; a layer takes forward(x) and backward(dy, cache)")
    parameters = dict(getattr(layer, "parameters", {}))
    generator = _generator(rng)
    dtype = next((p.dtype for p in parameters.values()), np.dtype("float64"))
    inputs = [
        given if isinstance(given, np.ndarray) else np.asarray(generator.standard_normal(given), dtype)
        for given in (shape if isinstance(shape, list) else [shape])
    ]
    seed = int(generator.integers(2**32))

    def forward(*inputs: Array) -> Any:
        more = {"training": True, "rng": np.random.default_rng(seed)} if training else {}
        return layer.forward(*inputs, **more)

    def inferred() -> Array:
        return joined(Op(layer.forward, layer.backward, inputs).forward(*(x.copy() for x in inputs))[0]).copy()

    with kept(layer):
        before = inferred() if training else np.empty(0)
        report = _check_parameters(
            "the layer", forward, layer.backward, inputs, parameters, rng=generator, linear=linear, once=once, **options
        )
        if training and relative_error(inferred(), before) > REPEATS[before.dtype.name]:
            raise GradientError(
                "the layer keeps state between calls: forward in training changes what forward gives in inference. Return such "
                "statistics in the cache"
            )
    return report


def check_network(
    network_or_unet: Any, x: Array | None = None, y: Array | None = None, *, rng: Rng = 0, tolerance: float = 1e-7,
    directions: int = 3, save: Path | None = None,
) -> Report:  # fmt: skip
    """Check a whole U-Net: the gradient of its loss by x and by every parameter, a row each.

    x (N, H, W, C) float images, y (N, P, Q) labels, both random unless given, go through a float64 copy of the Network (or of a
    fitted UNet's), and softmax_cross_entropy. Each array is checked along `directions` random directions; one that crosses
    a kink of relu or pooling is made shorter, or drawn anew. Biases that are all 0, as in a new network, get random values
    in the copy: where a window is 0 and the bias too, relu has no derivative. Dropout, if any, keeps one mask. With deep
    supervision it is the loss of all levels.
    """
    from .. import losses
    from ..supervision import judged
    from ..training.levels import Levels

    generator = _generator(rng)
    network = _double(network_or_unet, generator)
    if x is None:  # small, but larger than one pixel in the bottleneck
        side = network.fitting_output(2 ** (network.depth + 1) if network.padding == "same" else 1) + 2 * network.margin
        x = generator.standard_normal((1, side, side, network.in_channels))
    x = np.asarray(x, np.float64)
    _, p, q, k = network(x).shape
    labels: Any = generator.integers(0, k, (len(x), p, q)) if y is None else np.asarray(y)
    seed = int(generator.integers(2**32))

    training = network.dropout > 0 or network.deep_supervision

    def forward(x: Array) -> tuple[Array, Any]:
        levels = Levels(losses.CrossEntropy(), losses.target(labels, (*labels.shape, k), x.dtype))
        with judged(levels.judge):
            logits, cache = network.forward(x, training=training, rng=np.random.default_rng(seed))
        loss, dlogits = losses.softmax_cross_entropy(logits, labels)
        return levels.mean(loss), (dlogits, cache, levels.share)

    def backward(dy: Array, cache: Any) -> Any:
        dlogits, tape, share = cache
        dx, grads = network.backward(dlogits, tape)
        return dy * share * dx, {name: dy * share * grad for name, grad in grads.items()}

    return _check_parameters(
        "a layer of the network", forward, backward, [x], dict(network.parameters), rng=generator, tolerance=tolerance,
        directions=directions, full=0, once=True, save=save,
    )  # fmt: skip


def check_adjoint(
    forward: Forward, backward: Backward, *arrays: Array, rng: Rng = 0, draws: int = 3, once: bool = False,
    names: Sequence[str] | None = None, save: Path | None = None,
) -> Report:  # fmt: skip
    """Check <J d, dy> = <d, J^T dy> exactly, in each argument in turn, for an op that is linear (or affine) in each.

    J d is forward(.., d, ..) - forward(.., 0, ..), and J^T dy is backward's gradient: whole numbers in, whole numbers out,
    so that no rounding excuses a difference. The arrays must hold whole numbers (as float64 or float32), small enough for
    all sums of products to be exact: below 2^53, or 2^24 in float32. d and dy are drawn from -8 to 8, `draws` times. `once` as
    check_gradients takes it.
    """
    op = Op(forward, backward, arrays, names)
    _check_count("draws", draws, 1)
    for i, a in enumerate(arrays):
        if (a != np.round(a)).any():
            raise ValueError(f"{op.label(i)} holds fractions; check_adjoint takes whole numbers as floats, e.g. np.round(a)")
    generator = _generator(rng)
    with saving(save, op.kept):
        for _ in range(draws):
            draw = lambda shape: generator.integers(-8, 9, shape)  # noqa: E731
            found = op.analyse(draw, once)
            for i, g in enumerate(found.grads):
                if g is not None:
                    _check_adjoint(op, i, np.asarray(draw(g.shape), g.dtype), joined(found.upstream), g)
    checked = ["nothing" if g is None else f"{draws} products" for g in found.grads]
    return Report(tuple(Row(n, a.shape, c, 0.0, 0.0) for n, a, c in zip(op.names, arrays, checked, strict=True)))


def _check_adjoint(op: Op, i: int, d: Array, dy: Array, grad: Array) -> None:
    zero = op.at(i, np.zeros_like(d))
    forth = op.at(i, d) - zero
    if (op.at(i, -d) - zero != -forth).any():
        raise ValueError(f"forward is not linear in {op.label(i)}; check_adjoint takes ops that are: use check_gradients")
    left, right = product(forth, dy), product(d, grad)
    largest = max(float(np.abs(a, dtype=np.float64).max(initial=0)) for a in (forth, grad)) * 8 * max(grad.size, dy.size)
    if not largest < 2.0**53:
        raise ValueError(
            f"{op.names[i]}: the products reach {largest:.1e}, beyond 2^53, where whole numbers end; take smaller ones"
        )
    if left != right:
        raise GradientError(
            f"backward is not the adjoint of forward in {op.label(i)}: <J d, dy> is {left:.17g}, <d, J^T dy> is "
            f"{right:.17g}, for whole numbers, where both are exact",
            argument=op.names[i], analytic=right, numeric=left, error=relative_error(right, left), tolerance=0.0,
        )  # fmt: skip


def _check_parameters(
    who: str, forward: Forward, backward: Any, inputs: Sequence[Array], parameters: Mapping[str, Array], **options: Any
) -> Report:
    """Check the gradients of forward(*inputs) by these and by parameters, which hold moved values during a call only."""
    count = len(inputs)
    names = ["x"] if count == 1 else [f"x[{i}]" for i in range(count)]

    @contextmanager
    def holding(values: Sequence[Array]) -> Iterator[None]:
        moved = [(p, value, p.copy()) for p, value in zip(parameters.values(), values, strict=True) if value is not p]
        try:
            for p, value, _ in moved:
                p[...] = value
            yield
        finally:
            for p, _, old in moved:
                p[...] = old

    def with_parameters(*values: Array) -> Any:
        with holding(values[count:]):
            returned = forward(*values[:count])
        if not (isinstance(returned, tuple) and len(returned) == 2):
            return returned  # which is refused
        return returned[0], (returned[1], values[count:])

    def gradients(dy: Array, cache: Any) -> tuple[Any, ...]:
        own, values = cache
        with holding(values):  # a layer's backward reads its parameters
            returned = backward(dy, own)
        if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping)):
            raise GradientError("the layer's backward does not return dx and a dict of gradients: return dx, {name: gradient}")
        dx, grads = returned
        if set(grads) != set(parameters):
            raise GradientError(f"the layer's backward gives gradients of {sorted(grads)}; it takes {sorted(parameters)}")
        each = (dx,) if count == 1 else dx
        if not (isinstance(each, tuple) and len(each) == count):
            raise GradientError(
                f"the layer's backward does not return a tuple of {count} gradients as dx, one for each of {', '.join(names)}: "
                "return (dx, dskip), {name: gradient}"
            )
        return *each, *(grads[name] for name in parameters)

    try:
        return check_gradients(with_parameters, gradients, *inputs, *parameters.values(), names=[*names, *parameters], **options)
    except StateError as error:
        if error.argument not in names:  # who writes into x remembers nothing by it
            error.args = (f"{who} keeps state between calls: {error}",)
        raise


def _double(model: Any, rng: np.random.Generator) -> Any:
    """Return a float64 copy of the network, its biases random where all are 0."""
    network = getattr(model, "network_", model)
    if not hasattr(network, "config"):
        raise ValueError(f"{type(model).__name__} has no network; it takes a minunet.Network, or a UNet after fit")
    double = type(network)(**network.config | {"dtype": "float64"})
    for name, p in double.parameters.items():
        p[...] = network.parameters[name]
        if name.endswith("bias") and not p.any():
            p[...] = 0.1 * rng.standard_normal(p.shape)
    return double


def _generator(rng: Rng) -> np.random.Generator:
    """Return the generator; for a seed, not default_rng(seed), from which the caller's x may come: dy would equal it."""
    if isinstance(rng, np.random.Generator):
        return rng
    whole = isinstance(rng, (int, np.integer)) and rng >= 0
    require(whole, "rng", repr(rng), "a whole number from 0 up, or a numpy.random.Generator")
    return np.random.default_rng([int(rng), 0x64656C74])


def _linear_arguments(linear: Linear, names: Sequence[str]) -> set[int]:
    """Return the numbers of the arguments that `linear` means."""
    if isinstance(linear, (bool, int, str)):
        linear = range(len(names)) if linear is True else () if linear is False else (linear,)
    chosen = set()
    for which in linear:
        number = names.index(which) if which in names else which
        known = isinstance(number, (int, np.integer)) and 0 <= number < len(names)
        require(known, "linear", repr(which), f"True, or of the arguments {', '.join(names)} the names or numbers")
        chosen.add(int(number))
    return chosen


def _check_count(name: str, count: int, least: int) -> None:
    whole = isinstance(count, (int, np.integer)) and count >= least
    require(whole, name, repr(count), f"a whole number from {least} up")
