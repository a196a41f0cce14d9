"""Other points than the one given: an op that keeps something of its first call, by shape say, is right there and wrong here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..checks import Array
from .argument import Argument
from .contract import Analysis, Op, joined, split
from .differences import Precision
from .report import GradientError, StateError

DIRECTIONS = 2  # of all arguments at once


def check_elsewhere(
    op: Op, found: Analysis, rng: np.random.Generator, precision: Precision, step: float | None, tolerance: float
) -> None:
    """Check the gradients of all arguments together at op's other points, as far as it is defined and smooth there."""
    for where, arrays in op.elsewhere().items():
        one = _as_one(op, arrays, [grad is not None for grad in found.grads])
        try:
            with np.errstate(all="ignore"):
                there = one.look(rng.standard_normal)
                grad = there.grads[0]
                if grad is not None and all(np.isfinite(part).all() for part in there.outputs):
                    Argument(one, 0, grad, False, tolerance, there, rng, precision, step, DIRECTIONS, full=0).row()
        except GradientError as error:
            if error.error is not None:  # a wrong gradient; else a kink, or noise
                raise StateError(
                    f"the gradients are right at the point given and wrong with the arrays {where}: along a random direction "
                    f"backward gives {error.analytic:.10g}, finite differences give {error.numeric:.10g}. Is something kept "
                    "from call to call, by shape perhaps, such as a mask or indices? Put all that backward needs into the cache",
                    analytic=error.analytic, numeric=error.numeric, error=error.error, tolerance=error.tolerance,
                ) from None  # fmt: skip
        except Exception:  # the op is not defined there
            continue


def _as_one(op: Op, arrays: Sequence[Array], moving: Sequence[bool]) -> Op:
    """Return an op of one row: of all elements that have a gradient, each divided by the power of two that is its size.

    So a step is in proportion for all, however far their sizes lie apart.
    """
    own = [a for a, moves in zip(arrays, moving, strict=True) if moves]
    scales = [np.where(a == 0, 1, 2.0 ** (np.frexp(a)[1] - 1)).astype(a.dtype) for a in own]
    dtype = min((a.dtype for a in own), key=lambda dtype: dtype.itemsize)

    def forward(row: Array) -> Any:
        parts = iter([part * scale for part, scale in zip(split(row, own), scales, strict=True)])
        return op.forward(*(next(parts) if moves else a for a, moves in zip(arrays, moving, strict=True)))

    def backward(dy: tuple[Array, ...], cache: Any) -> tuple[Array]:
        grads = [grad for grad, moves in zip(op.gradients(dy, cache), moving, strict=True) if moves]
        scaled = [np.ravel(grad * scale) for grad, scale in zip(grads, scales, strict=True) if grad is not None]
        return (np.concatenate(scaled).astype(dtype),)

    row = joined([np.ravel(a / scale) for a, scale in zip(own, scales, strict=True)])
    return Op(forward, backward, [np.asarray(row, dtype)])
