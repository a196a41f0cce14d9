"""The operations of a U-Net: each one's forward right above its backward.

Letters: x (N, H, W, C) is the input, y (N, P, Q, K) the output: N images, H x W and P x Q pixels, C and K channels.
w (R, S, C, K) is a kernel of R x S taps, b (K,) a bias. dy is the gradient of the loss with respect to y, and so on.

Every op gives `y, cache`, and its backward takes `dy, cache` and gives one gradient for each array that went in. They
are pure: nothing passed in is written (but `out`), nothing is remembered outside `cache`. The gradients all follow
from one rule: if y = f(x), then dx = J^T dy, where J is the Jacobian of f. For a linear f, that is f's adjoint.

What proves a backward is therefore <dx, v> = <dy, J v> for every v of x's shape, where <a, b> is the sum of the products
of their elements: each says below what that means for its op. On whole numbers it holds exactly. docs/backprop.md
derives them all, step by step.

`run(reference.conv2d, x, ...)` computes what that function of kernels/reference.py says, a few lines of NumPy; where there
is a faster kernel of the same name for x, by that. The functions of `checks` refuse what does not fit, with a sentence.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import caches, checks, norms
from .checks import Array, activation, beside, gradient, is_number, pair, require
from .kernels import composed, geometry, reference, run
from .kernels.geometry import Pair

Cache = tuple[Any, ...]


def output_size(size: int, kernel: int, *, stride: int = 1, padding: int = 0) -> int:
    """Return how many places a window finds: floor((size + 2 padding - kernel) / stride) + 1.

    The first place starts at -padding, each next one `stride` further, and the last must end within size + padding.
    """
    size, kernel = checks.size("size", size, 0), checks.size("kernel", kernel, 1)
    stride, padding = checks.size("stride", stride, 1), checks.size("padding", padding, 0)
    require(size + 2 * padding >= kernel, "size", size, f"{kernel - 2 * padding} or more: the kernel must fit once")
    return geometry.output_size(size, kernel, stride, padding)


def transposed_output_size(size: int, kernel: int, *, stride: int = 1, padding: int = 0, output_padding: int = 0) -> int:
    """Return the size of a transposed convolution's output: (size - 1) stride - 2 padding + kernel + output_padding.

    `output_size` rounds down, so up to `stride` input sizes share one output size; output_padding says which is meant.
    """
    size, kernel = checks.size("size", size, 1), checks.size("kernel", kernel, 1)
    stride, padding = checks.size("stride", stride, 1), checks.size("padding", padding, 0)
    output_padding = checks.size("output_padding", output_padding, 0)
    return geometry.transposed_output_size(size, kernel, stride, padding, output_padding)


def conv2d(
    x: Array, w: Array, b: Array | None = None, *, stride: int | Pair = 1, padding: int | Pair = 0, out: Array | None = None
) -> tuple[Array, Cache]:
    """Convolve: every output pixel is the weighted sum of a window of the input.

        y[n, p, q, k] = b[k] + sum over r, s, c of  x[n, p stride - padding + r, q stride - padding + s, c] w[r, s, c, k]

    (x is zero outside the image.) With the windows laid out as the rows of a matrix, y = im2col(x) @ w + b.
    x (N, H, W, C), w (R, S, C, K), b (K,) -> y (N, P, Q, K), P and Q by `output_size`. `out` receives y (a channel slice of a
    wider array will do). In which way it is computed: `minunet.kernels.algorithm`. LeCun et al. 1998, section II.A.
    """
    x, w, b, stride, padding = checks.convolution(x, w, b, stride, padding, out)
    y = run(reference.conv2d, x, w, b, stride=stride, padding=padding, out=out)  # im2col(x) @ w + b
    return y, (x, w, y.shape, y.dtype, stride, padding)


def conv2d_backward(dy: Array, cache: Cache, *, input_grad: bool = True) -> tuple[Array | None, Array, Array]:
    """Return dx, dw, db of conv2d. y is linear in x, in w and in b, so each gradient is an adjoint:

        dw[r, s, c, k] = sum over n, p, q of  x[n, p stride - padding + r, ...] dy[n, p, q, k]
        dx[n, h, w, c] = sum over the p, r with p stride - padding + r = h, ... of  w[r, s, c, k] dy[n, p, q, k]
        db[k]          = sum over n, p, q of  dy[n, p, q, k]

    As matrices: dw = im2col(x)^T @ dy, and dx = col2im(dy @ w^T), where col2im is im2col's adjoint.
    `input_grad=False` gives None for dx: the first layer needs none.
    Proof: <dx, v> = <dy, conv2d(v, w)>, <dw, u> = <dy, conv2d(x, u)>, <db, a> = <dy, a> for every image v, kernel u, bias a.
    """
    x, w, y_shape, dtype, stride, padding = caches.conv2d(cache)
    dy = gradient(dy, y_shape, dtype, x)
    return run(reference.conv2d_grads, x, dy, w, stride=stride, padding=padding, input_grad=input_grad)


def conv_transpose2d(
    x: Array, w: Array, b: Array | None = None, *, stride: int | Pair = 2, padding: int | Pair = 0,
    output_padding: int | Pair = 0, out: Array | None = None,
) -> tuple[Array, Cache]:  # fmt: skip
    """Convolve transposed: every input pixel paints its window of the output, weighted; where windows overlap, add.

        y[n, p stride - padding + r, q stride - padding + s, k] += sum over c of  x[n, p, q, c] w[r, s, k, c]

    It is the adjoint of the convolution with the same w, stride and padding, so it stores that convolution's weight,
    (R, S, K out, C in), and its forward is that convolution's input gradient. Sizes by `transposed_output_size`.
    x (N, P, Q, C) -> y (N, H, W, K). Zeiler et al. 2010; Dumoulin and Visin 2016, section 4.
    """
    x, w, b, y_shape, stride, padding = checks.transposed_convolution(x, w, b, stride, padding, output_padding, out)
    y = run(composed.conv_transpose2d, x, w, b, y_shape, stride=stride, padding=padding, out=out)  # col2im(x @ w^T) + b
    return y, (x, w, y_shape, stride, padding)


def conv_transpose2d_backward(dy: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return dx, dw, db of conv_transpose2d. The adjoint of an adjoint is the convolution itself:

        dx = conv2d(dy, w)          dw = the weight gradient of that convolution, whose input is dy and whose dy is x
        db[k] = sum over n, h, w of  dy[n, h, w, k]

    Proof: <dx, v> = <dy, conv_transpose2d(v, w)>, <dw, u> = <dy, conv_transpose2d(x, u)>, <db, a> = <dy, a> for every
    v, u, a. And <conv2d(v, w), x> = <v, conv_transpose2d(x, w)>, without b, at the same stride and padding.
    """
    x, w, y_shape, stride, padding = caches.conv_transpose2d(cache)
    dy = gradient(dy, y_shape, x.dtype, x)
    return run(composed.conv_transpose2d_grads, x, dy, w, stride=stride, padding=padding)


def max_pool2d(x: Array, *, window: int | Pair = 2, stride: int | Pair | None = None) -> tuple[Array, Cache]:
    """Keep the largest of each window: y[n, p, q, c] = max over r, s of x[n, p stride + r, q stride + s, c].

    x (N, H, W, C) -> y (N, P, Q, C), P and Q by `output_size` with no padding; rows and columns beyond the last whole
    window are dropped. `stride` is the window's size unless given; smaller than that, windows overlap.
    """
    window = pair("window", window, 1)
    stride = window if stride is None else pair("stride", stride, 1)
    x = activation("x", x)
    require(window[0] * window[1] <= 256, "window", window, "at most 256 elements: argmax is kept in a byte")
    require(x.shape[1] >= window[0] and x.shape[2] >= window[1], "x", x.shape, f"at least {window[0]} x {window[1]} pixels")
    y, argmax = run(reference.max_pool2d, x, window, stride)  # argmax: where in its window the largest lies
    return y, (x.shape, x.dtype, argmax, window, stride)


def max_pool2d_backward(dy: Array, cache: Cache) -> tuple[Array]:
    """Return dx of max_pool2d: where a window's largest element is, y = x, so dy goes there and nowhere else.

        dx[n, h, w, c] = sum of dy[n, p, q, c] over the windows (p, q) whose largest element is (h, w)

    Of equal elements the first in row-major order takes all: a choice (the subgradient is not unique), made once.
    Proof: <dx, v> = <dy, max_pool2d(x + v) - max_pool2d(x)> for every v that changes no window's largest element.
    """
    x_shape, dtype, argmax, window, stride = caches.max_pool2d(cache)
    dy = gradient(dy, argmax.shape, dtype, argmax)
    return (run(reference.max_pool2d_grad, dy, argmax, x_shape, window, stride),)


def relu(x: Array) -> tuple[Array, Cache]:
    """y = max(x, 0), element by element; NaN stays NaN. Any shape (N, H, W, C). Nair and Hinton 2010."""
    y = run(reference.relu, activation("x", x))
    return y, (y,)


def relu_backward(dy: Array, cache: Cache) -> tuple[Array]:
    """Return dx of relu: y = x where x > 0, and y = 0, a constant, elsewhere. So dx = dy where y > 0, else 0.

    Proof: <dx, v> = <dy, relu(x + v) - relu(x)> for every v that changes no element's sign.
    """
    (y,) = caches.relu(cache)
    return (run(reference.relu_grad, gradient(dy, y.shape, y.dtype, y), y),)  # dy where y > 0


def dropout(x: Array, rate: float, rng: np.random.Generator) -> tuple[Array, Cache]:
    """Set each element to 0 with probability `rate`, and divide the others by 1 - rate: the mean stays. y = x * keep.

    0 <= rate < 1. keep, 0 or 1 / (1 - rate), is a function of the rate, an element's number and one seed drawn of rng: so it
    need not be kept, and is the same on every backend. Hinton et al. 2012; scaled in training ("inverted"), so that inference
    does nothing.
    """
    require(is_number(rate) and 0 <= rate < 1, "rate", rate, "0 <= rate < 1")
    x, rate = activation("x", x), float(rate)
    seed = rng.integers(2**63)
    y = run(reference.dropout, x, rate, seed)  # x * keep(rate, seed)
    return y, (x.shape, x.dtype, rate, seed)


def dropout_backward(dy: Array, cache: Cache) -> tuple[Array]:
    """Return dx of dropout: y is x times a constant, so dx = dy * keep: the same op with the same seed, its own adjoint.

    Proof: <dx, v> = <dy, v * keep> for every v.
    """
    shape, dtype, rate, seed = caches.dropout(cache)
    return (run(reference.dropout, gradient(dy, shape, dtype), rate, seed),)  # dy * keep(rate, seed)


def group_norm(
    x: Array, gamma: Array, beta: Array, *, groups: int, epsilon: float = 1e-5, out: Array | None = None
) -> tuple[Array, Cache]:
    """Bring each group of channels of each image to mean 0 and variance 1, then scale and shift each channel.

        z = (x - mean) scale, scale = 1 / sqrt(variance + epsilon)          y = gamma z + beta

    mean and variance are over the pixels of an image and the C / groups channels of a group: none over the batch, so that
    training and inference are the same. With as many groups as channels it is instance norm.

    x (N, H, W, C), gamma (C,), beta (C,) -> y (N, H, W, C). Wu and He 2018, equations 1, 2 and 7; Ulyanov et al. 2016.
    """
    x, mean, scale, gamma, beta = norms.of_groups(x, gamma, beta, groups, epsilon, out)
    y = run(reference.normalize, x, mean, scale, gamma, beta, out=out)  # gamma z + beta
    return y, (x, mean, scale, gamma, beta, True)


def group_norm_backward(dy: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return dx, dgamma, dbeta of group_norm.

        dgamma = sum over n, h, w of dy z          dbeta = sum over n, h, w of dy          dz = gamma dy
        dx = (dz - mean(dz) - z mean(dz z)) scale

    for a change of x along 1 only moves the mean, one along z only the variance, and z feels neither: dx lies across both.
    Proof: <dx, v> = <dy, (group_norm(x + t v) - group_norm(x)) / t> for t to 0, and <dx, 1> = 0 in every group.
    """
    x, mean, scale, gamma, _, own = caches.norm(cache)
    return run(reference.normalize_grads, x, gradient(dy, x.shape, x.dtype, x), mean, scale, gamma, own)


def batch_norm(
    x: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array, *, training: bool, momentum: float = 0.1,
    epsilon: float = 1e-5, out: Array | None = None,
) -> tuple[Array, tuple[Array, Array], Cache]:  # fmt: skip
    """Do what group_norm does, with the mean and the variance of each channel over all pixels of all images of a batch.

    In inference the running ones serve: constants, so that no image sees another, and no pixel more than itself. Training
    takes the batch's, and moves the running ones towards them, by `momentum` of the way; the variance's is the unbiased one,
    times n / (n - 1) for n pixels. Return y, (running_mean, running_var) as they are then, and the cache. (C,) each.
    Every pixel counts alike, the mirrored ones and those of weight 0 too. Ioffe and Szegedy 2015, algorithms 1 and 2.
    """
    statistics = running_mean, running_var
    normal, statistics = norms.of_batch(x, gamma, beta, statistics, training, momentum, epsilon, out)
    return run(reference.normalize, *normal, out=out), statistics, (*normal, training)


def batch_norm_backward(dy: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return dx, dgamma, dbeta of batch_norm: in training those of group_norm, each channel's pixels of all images a group.

    In inference mean and scale are constants, and dx = dz scale. Proof: as of group_norm, and <dx, 1> = 0 in every channel.
    """
    x, mean, scale, gamma, _, own = caches.norm(cache)
    return run(reference.normalize_grads, x, gradient(dy, x.shape, x.dtype, x), mean, scale, gamma, own)


def concat_skip(skip: Array, up: Array) -> tuple[Array, Cache]:
    """Crop skip (N, H, W, C1) about its centre to the size of up (N, P, Q, C2), and stack the channels: (N, P, Q, C1 + C2).

    Ronneberger et al. 2015, section 2.
    """
    skip, up = activation("skip", skip), activation("up", up)
    require(skip.dtype == up.dtype, "skip", f"of dtype {skip.dtype}", f"up's dtype, {up.dtype}")
    beside("skip", skip, up)
    _, p, q, _ = up.shape
    top, left = (skip.shape[1] - p) // 2, (skip.shape[2] - q) // 2
    fits = skip.shape[0] == up.shape[0] and top >= 0 and left >= 0
    require(fits, "skip", skip.shape, f"{up.shape[0]} images of at least {p} x {q} pixels, the size of up")
    y = run(composed.concat_channels, skip[:, top : top + p, left : left + q], up)  # a copy, unless they lie so already
    return y, (skip.shape, y.shape, y.dtype, top, left)


def concat_skip_backward(dy: Array, cache: Cache) -> tuple[Array, Array]:
    """Return dskip, dup of concat_skip: y only copies, so each gets its own channels of dy; what was cropped gets 0.

    Proof: <dskip, s> + <dup, u> = <dy, concat_skip(s, u)> for every s and u.
    """
    skip_shape, y_shape, dtype, top, left = caches.concat_skip(cache)
    dy = gradient(dy, y_shape, dtype)
    _, p, q, _ = y_shape
    dcropped, dup = dy[..., : skip_shape[3]], dy[..., skip_shape[3] :]
    if skip_shape[1:3] == (p, q):
        return dcropped, dup
    dskip = np.zeros_like(dy, shape=skip_shape)
    dskip[:, top : top + p, left : left + q] = dcropped
    return dskip, dup
