"""The three convolutions of the contract, and the choice of their algorithm.

    direct     implicit.py: im2col as addressing, on tensor cores or not; any geometry
    im2col     explicit.py: the column matrix built and multiplied, by the book
    auto       direct
"""

from __future__ import annotations

from typing import Any

from .. import check_algorithm
from ..geometry import Pair, Shape
from . import explicit, implicit
from .pointwise import cast, relu_bias_grad, relu_grad

ALGORITHMS = ("auto", "direct", "im2col")


def conv2d(x: Any, w: Any, b: Any = None, *, stride: Pair, padding: Pair, algorithm: str = "auto", **options: Any) -> Any:
    """y = im2col(x) @ w + b, then relu if asked for."""
    module = explicit if chosen(algorithm, w.shape[:2], stride) == "im2col" else implicit
    return module.conv2d(x, w, b, stride=stride, padding=padding, **options)


def conv2d_input_grad(
    dy: Any, w: Any, x_shape: Shape, *, stride: Pair, padding: Pair, mask: Any = None, algorithm: str = "auto", **options: Any
) -> Any:
    """dx = col2im(dy @ w^T)."""
    module = explicit if chosen(algorithm, w.shape[:2], stride) == "im2col" else implicit
    dy = dy if mask is None else relu_grad(dy, mask)
    return module.conv2d_input_grad(dy, w, x_shape, stride=stride, padding=padding, **options)


def conv2d_weight_grad(
    x: Any, dy: Any, w_shape: Shape, *, stride: Pair, padding: Pair, mask: Any = None, algorithm: str = "auto"
) -> tuple[Any, Any]:
    """dw = im2col(x)^T @ dy and db = sum of dy."""
    module = explicit if chosen(algorithm, (w_shape[0], w_shape[1]), stride) == "im2col" else implicit
    dy, db = relu_bias_grad(dy, mask)
    return module.weight_grad(x, dy, w_shape, stride=stride, padding=padding), db


def conv2d_grads(
    x: Any, dy: Any, w: Any, *, stride: Pair, padding: Pair, mask: Any = None, input_grad: bool = True, algorithm: str = "auto"
) -> tuple[Any, Any, Any]:
    """Return dx, dw, db. One pass over dy applies the mask and adds up db: products then take dy as it lies."""
    module = explicit if chosen(algorithm, w.shape[:2], stride) == "im2col" else implicit
    dy, db = relu_bias_grad(dy, mask)
    dy = cast(dy, x.dtype)
    dw = module.weight_grad(x, dy, w.shape, stride=stride, padding=padding)
    dx = module.conv2d_input_grad(dy, w, x.shape, stride=stride, padding=padding) if input_grad else None
    return dx, dw, db


def chosen(algorithm: str, kernel: Pair, stride: Pair) -> str:
    """Return "direct" or "im2col"; ValueError where a GPU does not compute by that algorithm."""
    check_algorithm(algorithm, kernel, stride)
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm is {algorithm!r}; a GPU takes {' or '.join(ALGORITHMS)}")
    return "direct" if algorithm == "auto" else algorithm
