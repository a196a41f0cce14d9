"""Every fusion, stated once: as the definitions that it does at once, one after another.

A backend that has a kernel for one of these exports it under the same name, and a test holds it to what stands here, which
serves where there is none. Each step here is the backend's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import reference, run, serving, updates
from .geometry import Pair, Shape, joined

Array = NDArray[np.floating]
Grads = tuple[Array | None, Array, Array]

POINTS: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0)}  # of a 1 x 1 convolution: each pixel by itself


def conv_transpose2d(x: Array, w: Array, b: Array | None, y_shape: Shape, *, stride: Pair, padding: Pair) -> Array:
    """The adjoint of the convolution with w: its input gradient, of x. Then + b."""
    y = run(reference.conv2d_input_grad, x, w, y_shape, stride=stride, padding=padding)
    return y if b is None else y + b


def conv_transpose2d_grads(x: Array, dy: Array, w: Array, **geometry: Pair) -> tuple[Array, Array, Array]:
    """dx, dw, db: the adjoint of an adjoint is the convolution itself, which took dy, and whose output's gradient is x."""
    dw, _ = run(reference.conv2d_weight_grad, dy, x, w.shape, **geometry)
    return run(reference.conv2d, dy, w, **geometry), dw, run(reference.bias_grad, dy)


def conv2d_relu(x: Array, w: Array, b: Array | None = None, *, stride: Pair, padding: Pair) -> Array:
    """conv2d, relu."""
    return run(reference.relu, run(reference.conv2d, x, w, b, stride=stride, padding=padding))


def conv2d_relu_grads(x: Array, dy: Array, w: Array, y: Array, *, input_grad: bool = True, **geometry: Pair) -> Grads:
    """relu_grad, conv2d_grads: y is what conv2d_relu gave."""
    return run(reference.conv2d_grads, x, run(reference.relu_grad, dy, y), w, input_grad=input_grad, **geometry)


def normalize_relu(x: Array, mean: Array, scale: Array, gamma: Array, beta: Array) -> Array:
    """normalize, relu."""
    return run(reference.relu, run(reference.normalize, x, mean, scale, gamma, beta))


def normalize_relu_grads(
    x: Array, dy: Array, mean: Array, scale: Array, gamma: Array, beta: Array, own: bool = True
) -> tuple[Array, Array, Array]:  # fmt: skip
    """relu_grad, normalize_grads: y, which relu_grad takes, is computed anew."""
    y = run(reference.normalize, x, mean, scale, gamma, beta)
    return run(reference.normalize_grads, x, run(reference.relu_grad, dy, y), mean, scale, gamma, own)


def max_pool2d_grad_plus(dy: Array, argmax: Array, x_shape: Shape, window: Pair, stride: Pair, dskip: Array) -> Array:
    """dskip + max_pool2d_grad: of an x that went two ways."""
    return dskip + run(reference.max_pool2d_grad, dy, argmax, x_shape, window, stride)


def concat_channels(left: Array, right: Array) -> Array:
    """concat; where the two lie side by side in each pixel of one buffer, that buffer: no copy."""
    buffer = joined(left, right)
    return run(reference.concat, left, right) if buffer is None else buffer


def linear_cross_entropy(x: Array, w: Array, b: Array, labels: Array, weights: Array) -> tuple[Array, Array, Array, Array]:
    """The loss of the logits x w + b, for w (1, 1, C, K), in the dtype of w; and its gradients dx, dw, db."""
    logits = run(reference.conv2d, x, w, b, out=serving(x).empty((*x.shape[:3], w.shape[3]), w.dtype), **POINTS)
    loss, dlogits = run(reference.softmax_cross_entropy, logits, labels, weights)
    del logits
    return loss, *run(reference.conv2d_grads, x, dlogits, w, **POINTS)


def guarded_sgd_update(param: Array, grad: Array, velocity: Array, loss: Array, **rates: Any) -> None:
    """sgd_update, but nothing where the loss is not finite."""
    if np.isfinite(loss):
        run(updates.sgd_update, param, grad, velocity, **rates)


def guarded_adam_update(param: Array, grad: Array, m: Array, v: Array, loss: Array, **rates: Any) -> None:
    """adam_update, but nothing where the loss is not finite."""
    if np.isfinite(loss):
        run(updates.adam_update, param, grad, m, v, **rates)
