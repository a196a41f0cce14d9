"""Oracles that share nothing with the code under test: seven loops, and finite differences; and what to draw for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st


def conv2d(x, w, b, stride, padding):
    """The sum that defines a convolution, in seven loops."""
    (n_size, h_size, w_size, c_size), (r_size, s_size, _, k_size) = x.shape, w.shape
    p_size = (h_size + 2 * padding[0] - r_size) // stride[0] + 1
    q_size = (w_size + 2 * padding[1] - s_size) // stride[1] + 1
    y = np.zeros((n_size, p_size, q_size, k_size), x.dtype)
    for n, p, q, k in itertools.product(*map(range, y.shape)):
        y[n, p, q, k] = 0 if b is None else b[k]
        for r, s, c in itertools.product(range(r_size), range(s_size), range(c_size)):
            h, v = p * stride[0] - padding[0] + r, q * stride[1] - padding[1] + s
            if 0 <= h < h_size and 0 <= v < w_size:
                y[n, p, q, k] += x[n, h, v, c] * w[r, s, c, k]
    return y


def conv2d_grads(x, w, dy, stride, padding):
    """dx, dw, db of the same sum, each product given back to both of its factors."""
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    r_size, s_size, c_size, _ = w.shape
    for n, p, q, k in itertools.product(*map(range, dy.shape)):
        for r, s, c in itertools.product(range(r_size), range(s_size), range(c_size)):
            h, v = p * stride[0] - padding[0] + r, q * stride[1] - padding[1] + s
            if 0 <= h < x.shape[1] and 0 <= v < x.shape[2]:
                dx[n, h, v, c] += dy[n, p, q, k] * w[r, s, c, k]
                dw[r, s, c, k] += dy[n, p, q, k] * x[n, h, v, c]
    return dx, dw, dy.sum(axis=(0, 1, 2))


def max_pool2d(x, window, stride):
    """The largest of each window and its place; the first of equals."""
    n_size, h_size, w_size, c_size = x.shape
    p_size, q_size = (h_size - window[0]) // stride[0] + 1, (w_size - window[1]) // stride[1] + 1
    y, place = np.zeros((n_size, p_size, q_size, c_size), x.dtype), np.zeros((n_size, p_size, q_size, c_size), np.uint8)
    for n, p, q, c in itertools.product(*map(range, y.shape)):
        values = [
            x[n, p * stride[0] + r, q * stride[1] + s, c] for r, s in itertools.product(range(window[0]), range(window[1]))
        ]
        place[n, p, q, c] = max(range(len(values)), key=lambda i: (values[i], -i))
        y[n, p, q, c] = values[place[n, p, q, c]]
    return y, place


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


def relative_error(a, b) -> float:
    """max |a - b| / max(|a|, |b|) over the array."""
    scale = max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    return float(np.abs(a - b).max(initial=0) / scale) if scale else 0.0


@dataclass(frozen=True)
class Geometry:
    """A convolution's or a pooling's sizes."""

    x_shape: tuple[int, int, int, int]
    kernel: tuple[int, int]
    k: int
    stride: tuple[int, int]
    padding: tuple[int, int]

    @property
    def w_shape(self):
        return (*self.kernel, self.x_shape[3], self.k)


def pairs(*values):
    """Give (height, width), each one of the values."""
    return st.tuples(st.sampled_from(values), st.sampled_from(values))


@st.composite
def geometries(draw, most=7, padded=True, least_images=0):
    """Any kernel, stride and padding: kernels smaller than the stride, 1 x 1, last windows that do not fit, no images."""
    kernel = draw(pairs(3, 2, 1, 4))
    stride = draw(pairs(2, 1, 3))
    padding = draw(pairs(1, 0, 2)) if padded else (0, 0)
    h, w = (draw(st.sampled_from(range(most, max(1, kernel[a] - 2 * padding[a]) - 1, -1))) for a in (0, 1))
    # Hypothesis draws the simplest value, the first of a list, far more often than the others: so that is none of the
    # trivial ones. (Drawn from 0 up, three examples in five had no images, and tested next to nothing.)
    n = draw(st.sampled_from([2, 1, 3, 2, 1, 3, 0] if least_images == 0 else [2, 1, 3]))
    c, k = draw(st.sampled_from([3, 5, 2, 17, 1])), draw(st.sampled_from([2, 3, 5, 1, 17]))
    return Geometry((n, h, w, c), kernel, k, stride, padding)


seeds = st.integers(0, 2**32 - 1)


def integers(rng, shape, dtype=np.float64):
    """Return small whole numbers as floats: every sum of products of them is exact."""
    return rng.integers(-8, 9, shape).astype(dtype)


def shuffled(rng, shape):
    """Return distinct numbers, 1 apart and at least 0.5 away from 0, in random order: no tie, and no kink near."""
    size = int(np.prod(shape))
    return rng.permutation(np.arange(size) - size // 2 + 0.5).reshape(shape)


def layouts(x):
    """Return x's values in other layouts, by name."""
    n, h, w, c = x.shape
    wide = np.full((n, h, w, c + 3), 99, x.dtype)
    wide[..., 1 : c + 1] = x
    spread = np.full((n, 2 * h, 2 * w, c), 99, x.dtype)
    spread[:, ::2, ::2] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    raw = np.empty(x.nbytes + 1, np.uint8)
    misaligned = raw[1:].view(x.dtype).reshape(x.shape)
    misaligned[...] = x
    return {
        "channel slice": wide[..., 1 : c + 1],
        "Fortran": np.asfortranarray(x),
        "transposed": np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
        "strided": spread[:, ::2, ::2],
        "reversed": np.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1],
        "read-only": frozen,
        "misaligned": misaligned,
    }
