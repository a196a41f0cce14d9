"""Operations that do at once what `ops` does one after another: the same gradients, to the bit, with fewer passes over memory.

Nothing here is new mathematics. `layers.fused` and network.Level, which know what follows what, decide where they serve.
"""

from __future__ import annotations

from . import caches, checks, norms
from .checks import Array, gradient
from .kernels import composed, run
from .kernels.geometry import Pair
from .ops import Cache


def conv2d_relu(
    x: Array, w: Array, b: Array | None = None, *, stride: int | Pair = 1, padding: int | Pair = 0, out: Array | None = None
) -> tuple[Array, Cache]:
    """Return ops.conv2d, then ops.relu."""
    x, w, b, stride, padding = checks.convolution(x, w, b, stride, padding, out)
    y = run(composed.conv2d_relu, x, w, b, stride=stride, padding=padding, out=out)
    return y, (x, w, y, stride, padding)


def conv2d_relu_backward(dy: Array, cache: Cache, *, input_grad: bool = True) -> tuple[Array | None, Array, Array]:
    """Return dx, dw, db: ops.relu_backward, then ops.conv2d_backward. dy counts where y > 0."""
    x, w, y, stride, padding = caches.conv2d_relu(cache)
    dy = gradient(dy, y.shape, y.dtype, x)
    return run(composed.conv2d_relu_grads, x, dy, w, y, stride=stride, padding=padding, input_grad=input_grad)


def group_norm_relu(
    x: Array, gamma: Array, beta: Array, *, groups: int, epsilon: float = 1e-5, out: Array | None = None
) -> tuple[Array, Cache]:
    """Return ops.group_norm, then ops.relu."""
    normal = norms.of_groups(x, gamma, beta, groups, epsilon, out)
    return run(composed.normalize_relu, *normal, out=out), (*normal, True)


def batch_norm_relu(
    x: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array, *, training: bool, momentum: float = 0.1,
    epsilon: float = 1e-5, out: Array | None = None,
) -> tuple[Array, tuple[Array, Array], Cache]:  # fmt: skip
    """Return ops.batch_norm, then ops.relu."""
    statistics = running_mean, running_var
    normal, statistics = norms.of_batch(x, gamma, beta, statistics, training, momentum, epsilon, out)
    return run(composed.normalize_relu, *normal, out=out), statistics, (*normal, training)


def norm_relu_backward(dy: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return dx, dgamma, dbeta of either: ops.relu_backward, then the norm's. y, and where it is > 0, is computed anew."""
    x, mean, scale, gamma, beta, own = caches.norm(cache)
    return run(composed.normalize_relu_grads, x, gradient(dy, x.shape, x.dtype, x), mean, scale, gamma, beta, own)


def max_pool2d_backward_plus(dskip: Array, dy: Array, cache: Cache) -> Array:
    """Return dskip + ops.max_pool2d_backward(dy): the gradient of an x that went two ways, on as it was, and pooled."""
    x_shape, dtype, argmax, window, stride = caches.max_pool2d(cache)
    dy, dskip = gradient(dy, argmax.shape, dtype, argmax), gradient(dskip, x_shape, dtype, argmax, name="dskip")
    return run(composed.max_pool2d_grad_plus, dy, argmax, x_shape, window, stride, dskip)
