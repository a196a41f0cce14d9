"""Oracles that share nothing with the code under test: loops over lists of Python's own numbers, and finite differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from minunet.testing import strategies

seeds = strategies.seeds()


def taps(small, large, kernel, stride, padding) -> Iterator[tuple[int, ...]]:
    """Give n, p, q, r, s, h, v: tap (r, s) of window (p, q) lies at pixel (h, v), for all taps inside the image.

    `small` (N, P, Q, ...) counts the windows, `large` (N, H, W, ...) has the pixels.
    """
    for n, p, q, r, s in itertools.product(*map(range, small[:3]), *map(range, kernel)):
        h, v = p * stride[0] - padding[0] + r, q * stride[1] - padding[1] + s
        if 0 <= h < large[1] and 0 <= v < large[2]:
            yield n, p, q, r, s, h, v


def conv2d(x, w, b, stride, padding):
    """The sum that defines a convolution, in seven loops."""
    kernel, (c_size, k_size) = w.shape[:2], w.shape[2:]
    p_size, q_size = ((x.shape[1 + a] + 2 * padding[a] - kernel[a]) // stride[a] + 1 for a in (0, 1))
    y = np.zeros((x.shape[0], p_size, q_size, k_size))
    shape, y, x_list, w_list = y.shape, (y if b is None else y + b).tolist(), x.tolist(), w.tolist()
    for n, p, q, r, s, h, v in taps(shape, x.shape, kernel, stride, padding):
        for c, k in itertools.product(range(c_size), range(k_size)):
            y[n][p][q][k] += x_list[n][h][v][c] * w_list[r][s][c][k]
    return np.array(y, x.dtype).reshape(shape)


def conv2d_grads(x, w, dy, stride, padding):
    """dx, dw, db of the same sum, each product given back to both of its factors."""
    dx, dw, db = (np.zeros(shape).tolist() for shape in (x.shape, w.shape, w.shape[3:]))
    x_list, w_list, dy_list = x.tolist(), w.tolist(), dy.tolist()
    for n, p, q, r, s, h, v in taps(dy.shape, x.shape, w.shape[:2], stride, padding):
        for c, k in itertools.product(*map(range, w.shape[2:])):
            dx[n][h][v][c] += dy_list[n][p][q][k] * w_list[r][s][c][k]
            dw[r][s][c][k] += dy_list[n][p][q][k] * x_list[n][h][v][c]
    for n, p, q, k in itertools.product(*map(range, dy.shape)):
        db[k] += dy_list[n][p][q][k]
    return np.array(dx, x.dtype).reshape(x.shape), np.array(dw, x.dtype), np.array(db, x.dtype)


def conv_transpose2d(x, w, b, y_shape, stride, padding):
    """Each input pixel painted onto its window of the output, in seven loops. w (R, S, K, C)."""
    y = (np.zeros(y_shape) if b is None else np.zeros(y_shape) + b).tolist()
    x_list, w_list = x.tolist(), w.tolist()
    for n, p, q, r, s, h, v in taps(x.shape, y_shape, w.shape[:2], stride, padding):
        for k, c in itertools.product(*map(range, w.shape[2:])):
            y[n][h][v][k] += x_list[n][p][q][c] * w_list[r][s][k][c]
    return np.array(y, x.dtype).reshape(y_shape)


def conv_transpose2d_grads(x, w, dy, stride, padding):
    """dx, dw, db of the same painting, each product given back to both of its factors."""
    dx, dw, db = (np.zeros(shape).tolist() for shape in (x.shape, w.shape, w.shape[2:3]))
    x_list, w_list, dy_list = x.tolist(), w.tolist(), dy.tolist()
    for n, p, q, r, s, h, v in taps(x.shape, dy.shape, w.shape[:2], stride, padding):
        for k, c in itertools.product(*map(range, w.shape[2:])):
            dx[n][p][q][c] += dy_list[n][h][v][k] * w_list[r][s][k][c]
            dw[r][s][k][c] += dy_list[n][h][v][k] * x_list[n][p][q][c]
    for n, h, v, k in itertools.product(*map(range, dy.shape)):
        db[k] += dy_list[n][h][v][k]
    return np.array(dx, x.dtype).reshape(x.shape), np.array(dw, x.dtype), np.array(db, x.dtype)


def max_pool2d(x, window, stride):
    """The largest of each window and its place; the first of equals, and the first NaN before all."""
    n_size, h_size, w_size, c_size = x.shape
    p_size, q_size = (h_size - window[0]) // stride[0] + 1, (w_size - window[1]) // stride[1] + 1
    y, place = np.zeros((n_size, p_size, q_size, c_size), x.dtype), np.zeros((n_size, p_size, q_size, c_size), np.uint8)
    for n, p, q, c in itertools.product(*map(range, y.shape)):
        values = [
            x[n, p * stride[0] + r, q * stride[1] + s, c] for r, s in itertools.product(range(window[0]), range(window[1]))
        ]
        best = 0
        for i, value in enumerate(values):
            if (value > values[best] or value != value) and values[best] == values[best]:
                best = i
        place[n, p, q, c], y[n, p, q, c] = best, values[best]
    return y, place


def max_pool2d_grad(dy, place, x_shape, window, stride):
    """Each dy added where its window's largest element was."""
    dx = np.zeros(x_shape, dy.dtype)
    for n, p, q, c in itertools.product(*map(range, dy.shape)):
        r, s = divmod(int(place[n, p, q, c]), window[1])
        dx[n, p * stride[0] + r, q * stride[1] + s, c] += dy[n, p, q, c]
    return dx


def directional_error(function: Callable[..., np.ndarray], arrays, gradients, dy, rng, step) -> float:
    """Return the largest relative difference, over the arguments, of <dy, f(a + step d) - f(a - step d)> / (2 step) and <g, d>.

    Relative to the sum of the absolute terms of <g, d>, which does not cancel.
    """
    worst = 0.0
    for i, gradient in enumerate(gradients):
        direction = rng.choice([-1.0, 1.0], arrays[i].shape)
        ends = [
            function(*(a + sign * step * direction if j == i else a for j, a in enumerate(arrays))) for sign in (1, -1)
        ]
        numeric = (dy * (ends[0] - ends[1])).sum() / (2 * step)
        scale = max(np.abs(gradient * direction).sum(), np.abs(dy).sum() * 1e-3, 1e-300)
        worst = max(worst, abs(numeric - (gradient * direction).sum()) / scale)
    return worst


def jacobian_product(function: Callable[..., np.ndarray], arrays, i, dy, step) -> np.ndarray:
    """Return J^T dy with respect to arrays[i], column by column, by central differences."""
    gradient = np.zeros(arrays[i].shape)
    for index in np.ndindex(*arrays[i].shape):
        ends = []
        for sign in (1, -1):
            moved = arrays[i].copy()
            moved[index] += sign * step
            ends.append(function(*arrays[:i], moved, *arrays[i + 1 :]))
        gradient[index] = (dy * (ends[0] - ends[1])).sum() / (2 * step)
    return gradient


def complex_jacobian_product(function: Callable[..., np.ndarray], arrays, i, dy) -> np.ndarray:
    """The same for a function that is analytic: the imaginary part of f(a + i h), divided by h, has no difference to round."""
    gradient, h = np.zeros(arrays[i].shape), 1e-30
    for index in np.ndindex(*arrays[i].shape):
        moved = arrays[i].astype(complex)
        moved[index] += 1j * h
        gradient[index] = (dy * function(*arrays[:i], moved, *arrays[i + 1 :]).imag).sum() / h
    return gradient


def relative_error(a, b) -> float:
    """max |a - b| / max(|a|, |b|) over the array."""
    assert a.shape == b.shape
    scale = max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    return float(np.abs(a - b).max(initial=0) / scale) if scale else 0.0


def assert_same(found, expected):
    """Equal, element for element, in shape and type too."""
    assert found.dtype == expected.dtype
    if found.dtype.name == "bfloat16":  # of which NumPy does not know that it has NaNs
        found, expected = found.astype(np.float32), expected.astype(np.float32)
    np.testing.assert_array_equal(found, expected, strict=True)


def assert_all_same(found, expected):
    """The same, array by array."""
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)
