"""The convolutions of the contract, and the choice of their algorithm.

    direct     implicit.py: im2col as addressing, on tensor cores or not; any geometry
    im2col     explicit.py: the column matrix built and multiplied, by the book
    auto       direct

`kernels.algorithm` says which. One pass over dy applies relu's gradient and adds up db: products then take dy as it lies.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from .. import algorithm_in_use
from ..geometry import Pair, Shape
from . import explicit, implicit
from .pointwise import cast, relu_bias_grad

ALGORITHMS = ("auto", "direct", "im2col")


def conv2d(x: Any, w: Any, b: Any = None, *, stride: Pair, padding: Pair, **options: Any) -> Any:
    """y = im2col(x) @ w + b, then relu if asked for."""
    return _module(w.shape, stride).conv2d(x, w, b, stride=stride, padding=padding, **options)


def conv2d_relu(x: Any, w: Any, b: Any = None, **options: Any) -> Any:
    """conv2d, relu, at once."""
    return conv2d(x, w, b, relu=True, **options)


def conv2d_input_grad(dy: Any, w: Any, x_shape: Shape, *, stride: Pair, padding: Pair, **options: Any) -> Any:
    """dx = col2im(dy @ w^T)."""
    return _module(w.shape, stride).conv2d_input_grad(dy, w, x_shape, stride=stride, padding=padding, **options)


def conv_transpose2d(x: Any, w: Any, b: Any, y_shape: Shape, **options: Any) -> Any:
    """conv2d_input_grad + b, at once."""
    return conv2d_input_grad(x, w, y_shape, b=b, **options)


def conv2d_weight_grad(x: Any, dy: Any, w_shape: Shape, *, stride: Pair, padding: Pair) -> tuple[Any, Any]:
    """dw = im2col(x)^T @ dy and db = sum of dy."""
    dy, db = relu_bias_grad(dy, None)
    return _module(w_shape, stride).weight_grad(x, dy, w_shape, stride=stride, padding=padding), db


def conv2d_grads(
    x: Any, dy: Any, w: Any, *, stride: Pair, padding: Pair, mask: Any = None, input_grad: bool = True
) -> tuple[Any, Any, Any]:
    """Return dx, dw, db; dy counts where mask > 0."""
    module = _module(w.shape, stride)
    dy, db = relu_bias_grad(dy, mask)
    dy = cast(dy, x.dtype)
    dw = module.weight_grad(x, dy, w.shape, stride=stride, padding=padding)
    dx = module.conv2d_input_grad(dy, w, x.shape, stride=stride, padding=padding) if input_grad else None
    return dx, dw, db


def conv2d_relu_grads(x: Any, dy: Any, w: Any, y: Any, **options: Any) -> tuple[Any, Any, Any]:
    """relu_grad, conv2d_grads, at once."""
    return conv2d_grads(x, dy, w, mask=y, **options)


def _module(w_shape: Shape, stride: Pair) -> ModuleType:
    """Return the module that computes by the algorithm in use; ValueError where that is not a GPU's."""
    algorithm = algorithm_in_use((w_shape[0], w_shape[1]), stride)
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm is {algorithm!r}; a GPU takes {' or '.join(ALGORITHMS)}")
    return explicit if algorithm == "im2col" else implicit
