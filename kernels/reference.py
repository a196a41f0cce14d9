"""The executable specification: every kernel as the textbook writes it, in NumPy, for any float dtype.

It is the oracle of the other backends, and serves where they cannot run. Nothing here is tuned.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike, NDArray

from . import philox
from .composed import linear_cross_entropy_of
from .geometry import Pair, output_hw

Array = NDArray[np.floating]


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """A fresh array with anything in it."""
    return np.empty(shape, dtype)


def asarray(a: Array) -> Array:
    """The array itself."""
    return np.asarray(a)


def im2col(x: Array, kernel: Pair, *, stride: Pair, padding: Pair) -> Array:
    """Lay each receptive field out as a row: (N, H, W, C) -> (N*P*Q, R*S*C)."""
    n, _, _, c = x.shape
    p, q = output_hw(x.shape, kernel, stride, padding)
    padded = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    windows = sliding_window_view(padded, kernel, axis=(1, 2))[:, :: stride[0], :: stride[1]]  # (N, P, Q, C, R, S)
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(n * p * q, kernel[0] * kernel[1] * c)


def col2im(cols: Array, x_shape: tuple[int, ...], kernel: Pair, *, stride: Pair, padding: Pair) -> Array:
    """Sum each pixel's copies in the column matrix, tap after tap: the adjoint of im2col."""
    n, h, w, c = x_shape
    p, q = output_hw(x_shape, kernel, stride, padding)
    taps = cols.reshape(n, p, q, *kernel, c)
    padded = np.zeros((n, h + 2 * padding[0], w + 2 * padding[1], c), cols.dtype)
    for r in range(kernel[0]):
        for s in range(kernel[1]):
            padded[:, r : r + p * stride[0] : stride[0], s : s + q * stride[1] : stride[1]] += taps[:, :, :, r, s]
    return padded[:, padding[0] : padding[0] + h, padding[1] : padding[1] + w].copy()


def conv2d(
    x: Array, w: Array, b: Array | None = None, *, stride: Pair, padding: Pair, relu: bool = False,
    out: Array | None = None, algorithm: str = "auto",
) -> Array:  # fmt: skip
    """y = im2col(x) @ w + b."""
    r, s, c, k = w.shape
    cols = im2col(x, (r, s), stride=stride, padding=padding)
    y = cols @ w.reshape(r * s * c, k)  # (N*P*Q, R*S*C) @ (R*S*C, K)
    y = y.reshape(x.shape[0], *output_hw(x.shape, (r, s), stride, padding), k)
    return _finish(y, b, relu, out)


def conv2d_input_grad(
    dy: Array, w: Array, x_shape: tuple[int, ...], *, stride: Pair, padding: Pair, mask: Array | None = None,
    b: Array | None = None, relu: bool = False, out: Array | None = None, algorithm: str = "auto",
) -> Array:  # fmt: skip
    """dx = col2im(dy @ w^T): y is linear in the columns, and im2col in x."""
    r, s, c, k = w.shape
    dy = dy if mask is None else relu_grad(dy, mask)
    dcols = dy.reshape(-1, k) @ w.reshape(r * s * c, k).T  # (N*P*Q, K) @ (K, R*S*C)
    return _finish(col2im(dcols, x_shape, (r, s), stride=stride, padding=padding), b, relu, out)


def conv2d_weight_grad(
    x: Array, dy: Array, w_shape: tuple[int, ...], *, stride: Pair, padding: Pair, mask: Array | None = None,
    algorithm: str = "auto",
) -> tuple[Array, Array]:  # fmt: skip
    """dw = im2col(x)^T @ dy, and db = sum of dy over pixels."""
    r, s, _, k = w_shape
    dy = dy if mask is None else relu_grad(dy, mask)
    cols = im2col(x, (r, s), stride=stride, padding=padding)
    return (cols.T @ dy.reshape(-1, k)).reshape(w_shape), bias_grad(dy)  # (R*S*C, N*P*Q) @ (N*P*Q, K)


def conv2d_grads(
    x: Array, dy: Array, w: Array, *, input_grad: bool = True, **options: Any
) -> tuple[Array | None, Array, Array]:
    """Return dx, dw, db."""
    dw, db = conv2d_weight_grad(x, dy, w.shape, **options)
    return conv2d_input_grad(dy, w, x.shape, **options) if input_grad else None, dw, db


def _finish(y: Array, b: Array | None, with_relu: bool, out: Array | None) -> Array:
    y = y if b is None else y + b
    y = relu(y) if with_relu else y
    if out is None:
        return y
    out[...] = y
    return out


def bias_grad(dy: Array) -> Array:
    """db = sum of dy over images and pixels."""
    return dy.sum(axis=(0, 1, 2))


def relu(x: Array) -> Array:
    """max(x, 0), with NaN kept."""
    return np.where(x <= 0, np.zeros((), x.dtype), x)


def relu_grad(dy: Array, y: Array) -> Array:
    """dy where y > 0, else 0."""
    return np.where(y > 0, dy, np.zeros((), dy.dtype))


def dropout(x: Array, rate: float, seed: int) -> Array:
    """x * keep: keep is 0 where an element's word of Philox is below rate 2^32, else 1 / (1 - rate)."""
    dropped = philox.words(x.size, seed) < philox.limit(rate)
    return x * np.where(dropped, 0, 1 / (1 - rate)).astype(x.dtype).reshape(x.shape)


def max_pool2d(x: Array, window: Pair, stride: Pair) -> tuple[Array, NDArray[np.uint8]]:
    """Return the largest element of each window and its row-major place in it; the first of equals, or of NaNs."""
    n, _, _, c = x.shape
    p, q = output_hw(x.shape, window, stride, (0, 0))
    windows = sliding_window_view(x, window, axis=(1, 2))[:, :: stride[0], :: stride[1]]  # (N, P, Q, C, R, S)
    flat = windows.reshape(n, p, q, c, window[0] * window[1])
    argmax = flat.argmax(axis=-1)  # NumPy's argmax: the first of equals, and NaN above all
    return np.take_along_axis(flat, argmax[..., None], axis=-1)[..., 0], argmax.astype(np.uint8)


def max_pool2d_grad(
    dy: Array, argmax: NDArray[np.uint8], x_shape: tuple[int, ...], window: Pair, stride: Pair, plus: Array | None = None
) -> Array:
    """Give each dy to the element that was the largest; where windows overlap, sum."""
    _, p, q, _ = dy.shape
    dx = np.zeros(x_shape, dy.dtype) if plus is None else plus.copy()
    for place in range(window[0] * window[1]):
        r, s = divmod(place, window[1])
        chosen = np.where(argmax == place, dy, np.zeros((), dy.dtype))
        dx[:, r : r + p * stride[0] : stride[0], s : s + q * stride[1] : stride[1]] += chosen
    return dx


def softmax_cross_entropy(logits: Array, labels: NDArray[np.integer], weights: Array) -> tuple[Array, Array]:
    """Return sum(w l) / sum(w) over pixels, l = -log softmax(logits)[label], and its gradient w (softmax - onehot) / sum(w)."""
    counted = weights != 0
    dlogits = np.zeros(logits.shape, logits.dtype)
    total = weights.sum()
    if not counted.any():
        return np.zeros((), logits.dtype), dlogits
    z, label, share = logits[counted], labels[counted], weights[counted] / total  # (M, K), (M,), (M,)
    z = z - z.max(axis=1, keepdims=True)
    log_softmax = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    loss = -(share * np.take_along_axis(log_softmax, label[:, None], axis=1)[:, 0]).sum()
    onehot = np.arange(z.shape[1]) == label[:, None]
    dlogits[counted] = (np.exp(log_softmax) - onehot) * share[:, None]
    return np.asarray(loss, logits.dtype), dlogits


linear_cross_entropy = linear_cross_entropy_of(empty, conv2d, softmax_cross_entropy, conv2d_grads)


def sgd_update(
    param: Array, grad: Array, velocity: Array, *, learning_rate: float, momentum: float, weight_decay: float,
    loss: Array | None = None,
) -> None:  # fmt: skip
    """v = momentum v + (g + weight_decay p); p = p - learning_rate v. Nothing where the loss is not finite."""
    if loss is not None and not np.isfinite(loss):
        return
    velocity *= momentum
    velocity += grad + weight_decay * param
    param -= learning_rate * velocity


def adam_update(
    param: Array, grad: Array, m: Array, v: Array, *, learning_rate: float, beta1: float, beta2: float,
    epsilon: float, weight_decay: float, t: int, loss: Array | None = None,
) -> None:  # fmt: skip
    """Adam (Kingma and Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov and Hutter 2019)."""
    if loss is not None and not np.isfinite(loss):
        return
    m *= beta1
    m += (1 - beta1) * grad
    v *= beta2
    v += (1 - beta2) * grad * grad
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    param -= learning_rate * (m_hat / (np.sqrt(v_hat) + epsilon) + weight_decay * param)
