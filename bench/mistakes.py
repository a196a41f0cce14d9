"""Twenty operations in NumPy, (forward, backward) each, with two mistakes that are often made: one of mathematics, one of use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Forward, Backward = Callable[..., tuple[Array, Any]], Callable[[Any, Any], tuple[Any, ...]]
Pair = tuple[Forward, Backward]


@dataclass(frozen=True)
class Case:
    """An operation, the arrays it is checked at, and what is wrong with it in two variants."""

    arrays: tuple[Array, ...]
    right: Pair
    wrong: dict[str, Pair]


def normal(*shape: int, seed: int = 0) -> Array:
    """Return standard normal numbers."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def changed(backward: Backward, i: int, change: Callable[[Array], Array]) -> Backward:
    """Return a backward of which gradient i is changed."""

    def wrong(dy: Array, cache: Any) -> tuple[Array, ...]:
        grads = list(backward(dy, cache))
        grads[i] = np.ascontiguousarray(change(grads[i]))
        return tuple(grads)

    return wrong


def remembering(forward: Forward, backward: Backward) -> Pair:
    """Keep the cache of the first call of each shape, as a layer does that allocates once."""
    memo: dict[Any, Any] = {}

    def once(*arrays: Array) -> tuple[Array, Any]:
        y, cache = forward(*arrays)
        memo.setdefault(y.shape, cache)
        return y, y.shape

    return once, lambda dy, shape: backward(dy, memo[shape])


def accumulating(forward: Forward, backward: Backward) -> Pair:
    """Add the last gradient to its buffer, which is never emptied."""
    buffer = [0.0]

    def adding(dy: Array, cache: Any) -> tuple[Array, ...]:
        *others, last = backward(dy, cache)
        buffer[0] = buffer[0] + last
        return *others, np.array(buffer[0])

    return forward, adding


def tripled(a: Array) -> Array:
    """Return an array with its smallest element three times as large."""
    a = a.copy()
    a.flat[np.abs(a).argmin()] *= 3
    return a


def by_pointer(a: Array) -> Array:
    """Read on in memory from the first element, as a kernel does that is handed a pointer and a shape."""
    return np.lib.stride_tricks.as_strided(a, a.shape, np.empty(a.shape).strides)


def total(a: Array) -> Array:
    """Return the sums of rows."""
    return a.sum(axis=-1, keepdims=True)


def mean(a: Array) -> Array:
    """Return the means of rows."""
    return a.mean(axis=-1, keepdims=True)


def relu(x: Array) -> tuple[Array, Any]:
    return np.maximum(x, 0), x > 0


def relu_backward(dy: Array, mask: Array) -> tuple[Array, ...]:
    return (dy * mask,)


def gelu(x: Array) -> tuple[Array, Any]:
    t = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    return x * (1 + t) / 2, (x, t)


def gelu_backward(dy: Array, cache: Any, cubic: float = 0.044715, bent: float = 1) -> tuple[Array, ...]:
    x, t = cache
    slope = np.sqrt(2 / np.pi) * (1 + 3 * cubic * x**2)
    return (dy * ((1 + t) / 2 + bent * x * (1 - t**2) * slope / 2),)


def sigmoid(x: Array) -> tuple[Array, Any]:
    y = 1 / (1 + np.exp(-x))
    return y, y


def sigmoid_backward(dy: Array, y: Array) -> tuple[Array, ...]:
    return (dy * y * (1 - y),)


def softmax(x: Array) -> tuple[Array, Any]:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / total(e), e / total(e)


def softmax_backward(dy: Array, y: Array) -> tuple[Array, ...]:
    return (y * (dy - total(dy * y)),)


def softmax_in_place(dy: Array, y: Array) -> tuple[Array, ...]:
    dy -= total(dy * y)
    return (dy * y,)


def log_softmax(x: Array) -> tuple[Array, Any]:
    y = x - np.log(total(np.exp(x)))
    return y, y


def log_softmax_backward(dy: Array, y: Array) -> tuple[Array, ...]:
    return (dy - np.exp(y) * total(dy),)


def layer_norm(x: Array, scale: Array) -> tuple[Array, Any]:
    rstd = 1 / np.sqrt(mean((x - mean(x)) ** 2) + 1e-5)
    z = (x - mean(x)) * rstd
    return z * scale, (z, rstd, scale)


def layer_norm_backward(dy: Array, cache: Any, centred: float = 1, epsilon: float = 0) -> tuple[Array, ...]:
    z, rstd, scale = cache
    d = dy * scale
    return (rstd + epsilon * rstd**3) * (d - centred * mean(d) - z * mean(d * z)), (dy * z).sum(axis=0)


def batch_norm(x: Array) -> tuple[Array, Any]:
    y, cache = layer_norm(x.T, np.ones(()))
    return y.T, cache


def batch_norm_backward(dy: Array, cache: Any, spread: float = 1) -> tuple[Array, ...]:
    z, rstd, _ = cache
    d = dy.T
    return ((rstd * (d - mean(d) - spread * z * mean(d * z))).T,)


def unit_length(x: Array) -> tuple[Array, Any]:
    length = np.sqrt(total(x * x))
    return x / length, (x / length, length)


def unit_length_backward(dy: Array, cache: Any) -> tuple[Array, ...]:
    u, length = cache
    return ((dy - u * total(dy * u)) / length,)


def product(x: Array, w: Array) -> tuple[Array, Any]:
    return x @ w, (x, w)


def product_backward(dy: Array, cache: Any) -> tuple[Array, ...]:
    x, w = cache
    return dy @ w.T, x.T @ dy


def bias(x: Array, b: Array) -> tuple[Array, Any]:
    return x + b, None


def bias_backward(dy: Array, _: Any) -> tuple[Array, ...]:
    return dy.copy(), dy.sum(axis=(0, 1))


def convolution(x: Array, w: Array, stride: int = 1) -> tuple[Array, Any]:
    """x (H, W, C), w (R, S, C, K); y (P, Q, K), without padding."""
    p, q = ((size - kernel) // stride + 1 for size, kernel in zip(x.shape, w.shape[:2], strict=False))
    y = np.zeros((p, q, w.shape[3]))
    for r, s in np.ndindex(*w.shape[:2]):
        y += x[r : r + stride * p : stride, s : s + stride * q : stride] @ w[r, s]
    return y, (x, w, stride)


def convolution_backward(dy: Array, cache: Any, flipped: bool = False, apart: int = 0) -> tuple[Array, ...]:
    x, w, stride = cache
    (p, q, _), dx, dw = dy.shape, np.zeros_like(x), np.zeros_like(w)
    step = apart or stride
    for r, s in np.ndindex(*w.shape[:2]):
        kernel = w[-1 - r, -1 - s] if flipped else w[r, s]
        dx[r : r + stride * p : stride, s : s + stride * q : stride] += dy @ kernel.T
        dw[r, s] = np.einsum("pqc,pqk->ck", x[r : r + step * p : step, s : s + step * q : step], dy)
    return dx, dw


def strided(x: Array, w: Array) -> tuple[Array, Any]:
    return convolution(x, w, stride=2)


def up_convolution(x: Array, w: Array) -> tuple[Array, Any]:
    """x (H, W, C), w (2, 2, C, K); y (2 H, 2 W, K)."""
    h, width, _ = x.shape
    return np.einsum("hwc,rsck->hrwsk", x, w).reshape(2 * h, 2 * width, -1), (x, w)


def up_convolution_backward(dy: Array, cache: Any) -> tuple[Array, ...]:
    x, w = cache
    d = dy.reshape(x.shape[0], 2, x.shape[1], 2, -1)
    return np.einsum("hrwsk,rsck->hwc", d, w), np.einsum("hwc,hrwsk->rsck", x, d)


def pooling(x: Array) -> tuple[Array, Any]:
    """The largest of 3 neighbours, in windows that overlap."""
    windows = np.lib.stride_tricks.sliding_window_view(x, 3, axis=-1)
    return windows.max(axis=-1), (x.shape, windows.argmax(axis=-1) + np.arange(windows.shape[1]))


def pooling_backward(dy: Array, cache: Any, add: bool = True) -> tuple[Array, ...]:
    shape, index = cache
    dx, rows = np.zeros(shape), np.arange(shape[0])[:, None]
    if add:
        np.add.at(dx, (rows, index), dy)
    else:
        dx[rows, index] = dy
    return (dx,)


LABELS = np.random.default_rng(0).integers(0, 5, 12)


def cross_entropy(x: Array) -> tuple[Array, Any]:
    y, _ = log_softmax(x)
    return -y[np.arange(12), LABELS].mean(), np.exp(y)


def cross_entropy_backward(dy: Array, p: Array, n: int = 12) -> tuple[Array, ...]:
    dx = p.copy()
    dx[np.arange(12), LABELS] -= 1
    return (dx * dy / n,)


def dice(p: Array) -> tuple[Array, Any]:
    """The soft Dice loss of p beside labels of two classes."""
    y = LABELS % 2
    both, sizes = (p * y).sum() + 1e-4, (p + y).sum() + 2e-4
    return 1 - 2 * both / sizes, (y, both, sizes)


def dice_backward(dy: Array, cache: Any, smooth: float = 0) -> tuple[Array, ...]:
    y, both, sizes = cache
    return (-2 * dy * (y / sizes - (both + smooth) / sizes**2),)


def dropout(x: Array) -> tuple[Array, Any]:
    mask = (np.random.default_rng(0).random(x.shape) > 0.4) / 0.6
    return x * mask, mask


def dropout_backward(dy: Array, mask: Array) -> tuple[Array, ...]:
    return (dy * mask,)


def gather(w: Array) -> tuple[Array, Any]:
    return w[LABELS], w.shape


def gather_backward(dy: Array, shape: Any, add: bool = True) -> tuple[Array, ...]:
    dw = np.zeros(shape)
    if add:
        np.add.at(dw, LABELS, dy)
    else:
        dw[LABELS] = dy
    return (dw,)


def upsampling(x: Array) -> tuple[Array, Any]:
    """Each pixel four times."""
    return x.repeat(2, axis=0).repeat(2, axis=1), x.shape


def upsampling_backward(dy: Array, shape: tuple[int, int]) -> tuple[Array, ...]:
    return (dy.reshape(shape[0], 2, shape[1], 2).sum(axis=(1, 3)),)


def running_sum(x: Array) -> tuple[Array, Any]:
    return np.cumsum(x, axis=-1), None


def running_sum_backward(dy: Array, _: Any) -> tuple[Array, ...]:
    return (np.cumsum(dy[..., ::-1], axis=-1)[..., ::-1].copy(),)


def narrow(a: Array) -> Array:
    """Return an array as float32 keeps it."""
    return a.astype(np.float32).astype(np.float64)


X, SQUARE, IMAGE = normal(12, 5), normal(5, 5), normal(7, 6, 3)

CASES = {
    "relu": Case((X,), (relu, relu_backward), {
        "masks by the sign of dy as well": (relu, lambda dy, mask: (dy * (mask & (dy > 0)),)),
        "keeps the first mask of each shape": remembering(relu, relu_backward),
    }),
    "gelu": Case((X,), (gelu, gelu_backward), {
        "the product rule's second term is half": (gelu, lambda dy, c: gelu_backward(dy, c, bent=0.5)),
        "0.04471 for 0.044715": (gelu, lambda dy, c: gelu_backward(dy, c, cubic=0.04471)),
    }),
    "sigmoid": Case((X,), (sigmoid, sigmoid_backward), {
        "1 - y squared": (sigmoid, lambda dy, y: (dy * y * (1 - y * y),)),
        "a cast to float32 in backward": (sigmoid, changed(sigmoid_backward, 0, narrow)),
    }),
    "softmax": Case((X,), (softmax, softmax_backward), {
        "without the sum": (softmax, lambda dy, y: (y * dy,)),
        "writes into dy": (softmax, softmax_in_place),
    }),
    "log-softmax": Case((X,), (log_softmax, log_softmax_backward), {
        "the mean for the sum": (log_softmax, lambda dy, y: (dy - np.exp(y) * mean(dy),)),
        "sums over the other axis": (log_softmax, lambda dy, y: (dy - np.exp(y) * dy.sum(axis=0),)),
    }),
    "layer norm": Case((X, normal(5)), (layer_norm, layer_norm_backward), {
        "the mean is taken for a constant": (layer_norm, lambda dy, c: layer_norm_backward(dy, c, centred=0)),
        "epsilon is left out": (layer_norm, lambda dy, c: layer_norm_backward(dy, c, epsilon=0.5e-5)),
    }),
    "batch norm": Case((X,), (batch_norm, batch_norm_backward), {
        "the variance is taken for a constant": (batch_norm, lambda dy, c: batch_norm_backward(dy, c, spread=0)),
        "keeps the first statistics of each shape": remembering(batch_norm, batch_norm_backward),
    }),
    "unit length": Case((X,), (unit_length, unit_length_backward), {
        "the length is taken for a constant": (unit_length, lambda dy, c: (dy / c[1],)),
        "takes its cache apart": (
            lambda x: (unit_length(x)[0], list(unit_length(x)[1])), lambda dy, c: unit_length_backward(dy, (c.pop(0), c.pop()))
        ),
    }),
    "matrix product": Case((X, SQUARE), (product, product_backward), {
        "the matrix is not transposed": (product, lambda dy, c: (dy @ c[1], c[0].T @ dy)),
        "returns None for both": (product, lambda dy, c: (None, None)),
    }),
    "bias": Case((IMAGE, normal(3)), (bias, bias_backward), {
        "the mean for the sum": (bias, lambda dy, _: (dy.copy(), dy.mean(axis=(0, 1)))),
        "adds to what it gave before": accumulating(bias, bias_backward),
    }),
    "convolution": Case((IMAGE, normal(3, 3, 3, 3)), (convolution, convolution_backward), {
        "the kernel is flipped once too often": (convolution, lambda dy, c: convolution_backward(dy, c, flipped=True)),
        "the weight's channels change places": (convolution, changed(convolution_backward, 1, lambda g: g.swapaxes(2, 3))),
    }),
    "strided convolution": Case((IMAGE, normal(2, 2, 3, 2)), (strided, convolution_backward), {
        "the stride is forgotten in dw": (strided, lambda dy, c: convolution_backward(dy, c, apart=1)),
        "one element of dw is three times as large": (strided, changed(convolution_backward, 1, tripled)),
    }),
    "up-convolution": Case((normal(4, 3, 3), normal(2, 2, 3, 3)), (up_convolution, up_convolution_backward), {
        "the weight's channels change places": (up_convolution, changed(up_convolution_backward, 1, lambda g: g.swapaxes(2, 3))),
        "reads dy as if it were contiguous": (up_convolution, lambda dy, c: up_convolution_backward(by_pointer(dy), c)),
    }),
    "max-pooling": Case((X,), (pooling, pooling_backward), {
        "writes where it should add": (pooling, lambda dy, c: pooling_backward(dy, c, add=False)),
        "keeps the first indices of each shape": remembering(pooling, pooling_backward),
    }),
    "cross-entropy": Case((X,), (cross_entropy, cross_entropy_backward), {
        "the sum for the mean": (cross_entropy, lambda dy, p: cross_entropy_backward(dy, p, n=1)),
        "dy is taken for 1": (cross_entropy, lambda dy, p: cross_entropy_backward(np.ones(()), p)),
    }),
    "soft Dice": Case((np.abs(normal(12)) / 4,), (dice, dice_backward), {
        "the denominator is taken for a constant": (dice, lambda dy, c: (-2 * dy * c[0] / c[2],)),
        "its smoothing is left out": (dice, lambda dy, c: dice_backward(dy, c, smooth=-1e-4)),
    }),
    "dropout": Case((X,), (dropout, dropout_backward), {
        "does not scale": (dropout, lambda dy, mask: (dy * (mask > 0),)),
        "scales by 1.6667": (dropout, lambda dy, mask: (dy * np.where(mask > 0, 1.6667, 0),)),
    }),
    "gather": Case((X[:5],), (gather, gather_backward), {
        "of duplicates the last counts": (gather, lambda dy, shape: gather_backward(dy, shape, add=False)),
        "the mean for the sum": (gather, changed(gather_backward, 0, lambda g: g / np.bincount(LABELS, minlength=5)[:, None])),
    }),
    "upsampling": Case((X,), (upsampling, upsampling_backward), {
        "the mean for the sum": (upsampling, changed(upsampling_backward, 0, lambda g: g / 4)),
        "reads dy as if it were contiguous": (upsampling, lambda dy, shape: upsampling_backward(by_pointer(dy), shape)),
    }),
    "running sum": Case((X,), (running_sum, running_sum_backward), {
        "not from the end": (running_sum, lambda dy, _: (np.cumsum(dy, axis=-1),)),
        "leaves an element out": (running_sum, lambda dy, _: (running_sum_backward(dy, _)[0] - dy,)),
    }),
}  # fmt: skip
