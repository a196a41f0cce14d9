"""The definitions: every operation as the textbook writes it, in NumPy, its forward above its gradient, for any float dtype.

They are the oracle of the backends, and serve where a backend has nothing faster. Letters as in minunet/ops.py, which says what
each computes and why its gradient is that. Nothing here is tuned, and nothing passed in is written, but by the update rules.
"""

from __future__ import annotations

import numpy as np
from numpy import asarray, empty
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from . import philox
from .geometry import Pair, Shape, output_hw

__all__ = ["asarray", "empty"]  # what a backend makes its results in, and how it takes what lies elsewhere

Array = NDArray[np.floating]
Places = NDArray[np.uint8]
Labels = NDArray[np.integer]


def im2col(x: Array, kernel: Pair, *, stride: Pair, padding: Pair) -> Array:
    """Lay each window out as a row: (N, H, W, C) -> (N*P*Q, R*S*C)."""
    n, _, _, c = x.shape
    p, q = output_hw(x.shape, kernel, stride, padding)
    padded = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    windows = sliding_window_view(padded, kernel, axis=(1, 2))[:, :: stride[0], :: stride[1]]  # (N, P, Q, C, R, S)
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(n * p * q, kernel[0] * kernel[1] * c)


def col2im(cols: Array, x_shape: Shape, kernel: Pair, *, stride: Pair, padding: Pair) -> Array:
    """Sum each pixel's copies among the rows: the adjoint of im2col."""
    n, h, w, c = x_shape
    p, q = output_hw(x_shape, kernel, stride, padding)
    taps = cols.reshape(n, p, q, *kernel, c)
    padded = np.zeros_like(cols, shape=(n, h + 2 * padding[0], w + 2 * padding[1], c))
    for r in range(kernel[0]):
        for s in range(kernel[1]):
            padded[:, r : r + p * stride[0] : stride[0], s : s + q * stride[1] : stride[1]] += taps[:, :, :, r, s]
    return padded[:, padding[0] : padding[0] + h, padding[1] : padding[1] + w].copy()


def conv2d(x: Array, w: Array, b: Array | None = None, *, stride: Pair, padding: Pair) -> Array:
    r, s, c, k = w.shape
    cols = im2col(x, (r, s), stride=stride, padding=padding)
    y = cols @ w.reshape(r * s * c, k)  # (N*P*Q, R*S*C) @ (R*S*C, K)
    y = y.reshape(x.shape[0], *output_hw(x.shape, (r, s), stride, padding), k)
    return y if b is None else y + b


def conv2d_input_grad(dy: Array, w: Array, x_shape: Shape, *, stride: Pair, padding: Pair) -> Array:
    r, s, c, k = w.shape
    dcols = dy.reshape(-1, k) @ w.reshape(r * s * c, k).T  # (N*P*Q, K) @ (K, R*S*C)
    return col2im(dcols, x_shape, (r, s), stride=stride, padding=padding)


def conv2d_weight_grad(x: Array, dy: Array, w_shape: Shape, *, stride: Pair, padding: Pair) -> tuple[Array, Array]:
    """dw and db."""
    r, s, _, k = w_shape
    cols = im2col(x, (r, s), stride=stride, padding=padding)
    return (cols.T @ dy.reshape(-1, k)).reshape(w_shape), bias_grad(dy)  # (R*S*C, N*P*Q) @ (N*P*Q, K)


def conv2d_grads(
    x: Array, dy: Array, w: Array, *, stride: Pair, padding: Pair, input_grad: bool = True
) -> tuple[Array | None, Array, Array]:
    """dx, if it is wanted, dw and db."""
    dx = conv2d_input_grad(dy, w, x.shape, stride=stride, padding=padding) if input_grad else None
    return dx, *conv2d_weight_grad(x, dy, w.shape, stride=stride, padding=padding)


def bias_grad(dy: Array) -> Array:
    return dy.sum(axis=(0, 1, 2))


def relu(x: Array) -> Array:
    return np.where(x <= 0, np.zeros((), x.dtype), x)  # so that a NaN stays


def relu_grad(dy: Array, y: Array) -> Array:
    return np.where(y > 0, dy, np.zeros((), dy.dtype))


def dropout(x: Array, rate: float, seed: int) -> Array:
    """x * keep, its own gradient: keep is 0 where an element's word of Philox is below rate 2^32, else 1 / (1 - rate)."""
    dropped = philox.words(x.size, seed) < philox.limit(rate)
    return x * np.where(dropped, 0, 1 / (1 - rate)).astype(x.dtype).reshape(x.shape)


def max_pool2d(x: Array, window: Pair, stride: Pair) -> tuple[Array, Places]:
    """y, and each window's argmax: the row-major place of its largest element, of the first of equals or of NaNs."""
    p, q = output_hw(x.shape, window, stride, (0, 0))
    windows = sliding_window_view(x, window, axis=(1, 2))[:, :: stride[0], :: stride[1]]  # (N, P, Q, C, R, S)
    flat = windows.reshape(x.shape[0], p, q, x.shape[3], window[0] * window[1])
    argmax = flat.argmax(axis=-1)
    return np.take_along_axis(flat, argmax[..., None], axis=-1)[..., 0], argmax.astype(np.uint8)


def max_pool2d_grad(dy: Array, argmax: Places, x_shape: Shape, window: Pair, stride: Pair) -> Array:
    _, p, q, _ = dy.shape
    dx = np.zeros_like(dy, shape=x_shape)
    for place in range(window[0] * window[1]):
        r, s = divmod(place, window[1])
        chosen = np.where(argmax == place, dy, np.zeros((), dy.dtype))
        dx[:, r : r + p * stride[0] : stride[0], s : s + q * stride[1] : stride[1]] += chosen
    return dx


def moments(x: Array, groups: int) -> tuple[Array, Array]:
    """The mean and the variance of each group of channels of an image, (N, 1, groups, 1).

    For 0 groups those of each channel of all images, (1, 1, C, 1).
    """
    g = _grouped(x, *((x.shape[0], groups) if groups else (1, x.shape[3])))
    wide = np.result_type(x.dtype, np.float64)
    mean = g.mean(axis=(1, 3), keepdims=True, dtype=wide).astype(x.dtype)
    centred = g - mean
    return mean, (centred * centred).mean(axis=(1, 3), keepdims=True, dtype=wide).astype(x.dtype)


def normalize(x: Array, mean: Array, scale: Array, gamma: Array, beta: Array) -> Array:
    """z gamma + beta, with z = (x - mean) scale."""
    z = (_grouped(x, mean.shape[0], mean.shape[2]) - mean) * scale
    return z.reshape(x.shape) * gamma + beta


def normalize_grads(
    x: Array, dy: Array, mean: Array, scale: Array, gamma: Array, own: bool = True
) -> tuple[Array, Array, Array]:  # fmt: skip
    """dx, dgamma, dbeta. own: mean and scale are those of x, and move with it; if not, they are constants."""
    rows, _, groups, _ = mean.shape
    z, dz = (_grouped(x, rows, groups) - mean) * scale, _grouped(dy * gamma, rows, groups)
    if own:
        along = z * (dz * z).mean(axis=(1, 3), keepdims=True)
        dz = dz - dz.mean(axis=(1, 3), keepdims=True) - along
    dx, z = (dz * scale).reshape(x.shape), z.reshape(x.shape)
    return dx, (dy * z).sum(axis=(0, 1, 2)), dy.sum(axis=(0, 1, 2))


def _grouped(x: Array, rows: int, groups: int) -> Array:
    """(N, H, W, C) -> (N, H*W, groups, C / groups), or (1, N*H*W, groups, C / groups) for one row."""
    n, h, w, c = x.shape
    return x.reshape(rows, h * w if rows == n else n * h * w, groups, c // groups)


def concat(left: Array, right: Array) -> Array:
    return np.concatenate((left, right), axis=3)


def softmax_cross_entropy(logits: Array, labels: Labels, weights: Array) -> tuple[Array, Array]:
    """The loss and dlogits. A pixel of weight 0 takes no part, whatever its logits and label."""
    counted = weights != 0
    dlogits = np.zeros_like(logits)
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
