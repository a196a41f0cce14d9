"""Losses: a value, and its gradient with respect to the logits.

    loss = CrossEntropy() + Dice()
    value, dlogits = loss.value_and_grad(logits, target)        # target(labels, ...): labels, and a weight for each pixel

A loss of your own is a Loss with `value_and_grad`; with `counts` and `of_counts` it is reported of held-out images, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import kernels
from .checks import Array, NotFiniteError, activation, array, check_target, convolution, is_number, require, shown
from .kernels import composed, reference, run

if TYPE_CHECKING:
    from .layers import Conv2d, Grads


class Target(NamedTuple):
    """What logits (N, P, Q, K) are held against: labels (N, P, Q), 0 .. K-1 where the weight is not 0, and weights >= 0."""

    labels: NDArray[np.integer]
    weights: Array


class Loss:
    """What all losses share. `name` is what UNet(loss=...) and a model file call it."""

    name: ClassVar[str] = ""

    def value_and_grad(self, logits: Array, target: Target) -> tuple[Array, Array]:
        """Return the loss, 0-d, and its gradient with respect to the logits, of their shape and dtype."""
        raise TypeError(f"{type(self).__name__} has no value_and_grad; a loss defines it")

    def through(self, head: Conv2d, x: Array, target: Target) -> tuple[Array, Array, Grads]:
        """Return the loss of the logits that the head, a 1 x 1 convolution, makes of x; and the gradients of x and the head."""
        x = activation("x", x)
        dtype = array("the head's weight", head.parameters["weight"]).dtype
        logits = kernels.serving(x).empty((*x.shape[:3], head.out_channels), dtype)
        logits, cache = head.forward(x, out=logits)
        value, dlogits = _given(self, logits, target)
        del logits
        dx, grads = head.backward(dlogits, cache)
        return value, dx, grads

    def counts(self, probabilities: Array, target: Target) -> NDArray[np.float64]:
        """Return what `of_counts` takes of images (..., K), numbers that add up over images of any size."""
        return np.zeros(0)

    def of_counts(self, counts: NDArray[np.float64]) -> float | None:
        """Return the loss of all images whose counts were added; None where that cannot be told."""
        return None

    def __add__(self, other: Loss) -> Loss:
        if not isinstance(other, Loss):
            return NotImplemented
        return _Sum(self, other)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class CrossEntropy(Loss):
    """Softmax and cross-entropy, the weighted mean over pixels. Ronneberger et al. 2015, equation 1.

        loss = sum over n, p, q of  w l / sum of w          l = -log softmax(logits[n, p, q])[labels[n, p, q]]
        dlogits[n, p, q, k] = (softmax_k - [k = label]) w / sum of w

    for l = log(sum over j of exp z_j) - z_label, whose derivative by z_k is softmax_k - [k = label]. With all weights 0 it is 0.
    """

    name = "cross_entropy"

    def value_and_grad(self, logits: Array, target: Target) -> tuple[Array, Array]:
        logits = activation("logits", logits)
        return run(reference.softmax_cross_entropy, logits, *check_target(logits.shape, logits.dtype, *target))

    def through(self, head: Conv2d, x: Array, target: Target) -> tuple[Array, Array, Grads]:
        x, w, b, _, _ = convolution(x, head.parameters["weight"], head.parameters["bias"], 1, 0, None)
        require(w.shape[:2] == (1, 1), "the head's weight", w.shape, "(1, 1, C, K): a convolution of 1 x 1")
        target = Target(*check_target((*x.shape[:3], w.shape[3]), w.dtype, *target))
        loss, dx, dw, db = run(composed.linear_cross_entropy, x, w, b, *target)
        return loss, dx, {"weight": dw, "bias": db}

    def counts(self, probabilities: Array, target: Target) -> NDArray[np.float64]:
        of_truth = np.take_along_axis(probabilities, target.labels[..., None], axis=-1)[..., 0]
        pixel_loss = -np.log(np.maximum(of_truth, np.finfo(np.float32).tiny))
        return np.array([(target.weights * pixel_loss).sum(dtype=np.float64), target.weights.sum(dtype=np.float64)])

    def of_counts(self, counts: NDArray[np.float64]) -> float | None:
        return float(counts[0] / counts[1])


class Dice(Loss):
    """1 - the soft Dice coefficient, averaged over classes: overlap counts, however small a class is.

        D_k = (2 sum of w p_k t_k + smooth) / (sum of w p_k + sum of w t_k + smooth)         loss = 1 - mean over k of D_k
        dlogits = p (g - sum over k of p_k g_k)         g_k = -w (2 t_k - D_k) / (K (sum of w p_k + sum of w t_k + smooth))

    for p = softmax(logits) and t = [k = label], the sums over the pixels of all images: g is the derivative by p, and softmax's
    Jacobian is diag(p) - p p^T. Milletari, Navab and Ahmadi 2016, equation 1, without its squares.
    """

    name = "dice"

    def __init__(self, smooth: float = 1.0) -> None:
        require(is_number(smooth) and smooth >= 0, "smooth", smooth, "a number from 0 up")
        self.smooth = smooth

    @np.errstate(over="ignore", invalid="ignore")  # what is not finite is told by who takes the step, in a sentence
    def value_and_grad(self, logits: Array, target: Target) -> tuple[Array, Array]:
        logits = activation("logits", logits)
        given = check_target(logits.shape, logits.dtype, *target)
        labels, w = (kernels.serving(logits).asarray(a)[..., None] for a in given)
        t = np.concatenate([labels == k for k in range(logits.shape[-1])], axis=3).astype(logits.dtype)
        p, w = softmax(logits), w.astype(logits.dtype)
        p = np.where(w > 0, p, 0)  # what has no weight has no part, be it no number
        both = (w * (p + t)).sum(axis=(0, 1, 2)) + self.smooth
        dice = (2 * (w * p * t).sum(axis=(0, 1, 2)) + self.smooth) / both
        g = -w * (2 * t - dice) / (both * p.shape[-1])
        return 1 - dice.mean(), p * (g - (p * g).sum(axis=-1, keepdims=True))

    def counts(self, probabilities: Array, target: Target) -> NDArray[np.float64]:
        t = target.labels[..., None] == np.arange(probabilities.shape[-1])
        of_pixels = [target.weights[..., None] * a for a in (probabilities * t, probabilities + t)]
        return np.stack([a.reshape(-1, t.shape[-1]).sum(axis=0, dtype=np.float64) for a in of_pixels]).ravel()

    def of_counts(self, counts: NDArray[np.float64]) -> float | None:
        overlap, both = counts.reshape(2, -1)
        return float(1 - ((2 * overlap + self.smooth) / (both + self.smooth)).mean())


class _Sum(Loss):
    """Two losses, added."""

    def __init__(self, first: Loss, second: Loss) -> None:
        self.first, self.second, self.name = first, second, f"{first.name}+{second.name}"  # type: ignore[misc]

    def value_and_grad(self, logits: Array, target: Target) -> tuple[Array, Array]:
        (a, da), (b, db) = (_given(loss, logits, target) for loss in (self.first, self.second))
        return a + b, da + db

    def counts(self, probabilities: Array, target: Target) -> NDArray[np.float64]:
        both = np.empty(2, object)  # which adds up as its elements do
        both[:] = [loss.counts(probabilities, target) for loss in (self.first, self.second)]
        return both

    def of_counts(self, counts: NDArray[np.float64]) -> float | None:
        values = [loss.of_counts(c) for loss, c in zip((self.first, self.second), counts, strict=True)]
        return None if None in values else sum(values)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"{self.first!r} + {self.second!r}"


LOSSES: dict[str, Loss] = {loss.name: loss for loss in (CrossEntropy(), Dice(), CrossEntropy() + Dice())}  # by name


def _given(loss: Loss, logits: Array, target: Target) -> tuple[Array, Array]:
    """Return a loss and its gradient, if it gave what a loss gives. The code may be the user's."""
    name, made = type(loss).__name__, loss.value_and_grad(logits, target)
    pair = isinstance(made, tuple) and len(made) == 2
    require(pair, f"what value_and_grad of {name} returns", f"of type {type(made).__name__}", "a pair, the loss and its gradient")
    value, dlogits = made[0] if hasattr(made[0], "dtype") else np.asarray(made[0]), made[1]
    one = value.ndim == 0 and value.dtype.kind in "fiu"
    require(one, f"the value of {name}", f"of dtype {value.dtype} and shape {value.shape}", "one real number, 0-d")
    given = f"a {getattr(dlogits, 'dtype', '?')} array {getattr(dlogits, 'shape', '?')}"
    fits = getattr(dlogits, "shape", None) == logits.shape and getattr(dlogits, "dtype", None) == logits.dtype
    require(fits, f"the gradient of {name}", given, f"that of the logits: {logits.dtype}, {logits.shape}")
    if not is_ours(loss) and isinstance(dlogits, np.ndarray) and np.isfinite(value) and not np.isfinite(dlogits).all():
        raise NotFiniteError(f"the gradient of {name} is not finite", f", while its value is {value}; it takes finite numbers")
    return value, dlogits


def is_ours(loss: Loss) -> bool:
    """Tell whether all of a loss's code is minunet's."""
    return all(map(is_ours, parts(loss))) if parts(loss) else type(loss).__module__ == __name__


def parts(loss: Loss) -> tuple[Loss, ...]:
    """Return the losses of which one is the sum; none where it is no sum."""
    return (loss.first, loss.second) if isinstance(loss, _Sum) else ()


def resolve(loss: str | Loss) -> Loss:
    """Return the loss of that name; a Loss is taken as it is."""
    known = isinstance(loss, Loss) or (isinstance(loss, str) and loss in LOSSES)
    require(known, "loss", shown(loss), f"{' or '.join(map(repr, LOSSES))}, or a minunet.losses.Loss")
    return loss if isinstance(loss, Loss) else LOSSES[loss]


def softmax(logits: Array) -> Array:
    """Return the probabilities exp(z_k) / sum over j of exp(z_j) over the last axis; any shape (..., K)."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))  # the largest exponent is 0: no overflow
    return e / e.sum(axis=-1, keepdims=True)


def softmax_cross_entropy(
    logits: Array, labels: NDArray[np.integer], *, class_weight: ArrayLike | None = None,
    weights: ArrayLike | None = None, ignore_index: int | None = None,
) -> tuple[Array, Array]:  # fmt: skip
    """Return CrossEntropy's loss and gradient for logits (N, P, Q, K), with the `target` that the other arguments are."""
    logits = activation("logits", logits)
    require(logits.dtype in (np.float32, np.float64), "logits", f"of dtype {logits.dtype}", "float32 or float64")
    given = target(labels, logits.shape, logits.dtype, class_weight=class_weight, weights=weights, ignore_index=ignore_index)
    return CrossEntropy().value_and_grad(logits, given)


def target(
    labels: NDArray[np.integer], shape: tuple[int, ...], dtype: DTypeLike, *, class_weight: ArrayLike | None = None,
    weights: ArrayLike | None = None, ignore_index: int | None = None,
) -> Target:  # fmt: skip
    """Return what losses take for logits of this shape (N, P, Q, K) and dtype, or a ValueError.

    labels (N, P, Q) are whole numbers in 0 .. K-1. A pixel's weight is weights[n, p, q] times class_weight[label], both 1 unless
    given, and 0 where the label is ignore_index. They are looked at on the CPU: NumPy's serve logits on a GPU best.
    """
    labels = np.ascontiguousarray(array("labels", kernels.to_host(labels)))
    if labels.shape != shape[:3]:
        raise ValueError(f"labels has shape {labels.shape}; with logits {shape} it takes {shape[:3]}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels is of dtype {labels.dtype}; it takes whole numbers, the index of each pixel's class")
    k = shape[3]
    w = np.ones(labels.shape, dtype)
    if weights is not None:
        with np.errstate(over="ignore"):
            w *= _non_negative("weights", weights, labels.shape)
    if ignore_index is not None:
        whole = isinstance(ignore_index, (int, np.integer))
        require(whole, "ignore_index", ignore_index, "a whole number, the label of pixels that do not count, or None")
        w[labels == ignore_index] = 0
    outside = ((labels < 0) | (labels >= k)) & (w != 0)
    if outside.any():
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        raise ValueError(
            f"labels{list(where)} is {labels[where]}; with {k} logits a pixel it takes 0 to {k - 1}, or ignore_index"
        )
    if class_weight is not None:
        with np.errstate(over="ignore"):
            w *= _non_negative("class_weight", class_weight, (k,)).astype(dtype)[np.where(w != 0, labels, 0)]
    finite = bool(np.isfinite(w).all())
    require(finite, "weights", f"more than {np.dtype(dtype)} holds", "smaller numbers: they count by their ratios")
    return Target(labels, w)


def _non_negative(name: str, given: ArrayLike, shape: tuple[int, ...]) -> NDArray:
    values = array(name, np.asanyarray(kernels.to_host(given)))
    if values.shape != shape:
        raise ValueError(f"{name} has shape {values.shape}; it takes {shape}")
    if values.dtype.kind not in "buif":
        raise ValueError(f"{name} is of dtype {values.dtype}; it takes numbers")
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError(f"{name} holds negative or non-finite values; it takes finite numbers from 0 up")
    return values
