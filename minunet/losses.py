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


class _Mean(Loss):
    """A mean over pixels, by weight, of what each one's probability of its own class costs."""

    def of_pixels(self, q: Array) -> Array:
        """Return what probabilities q > 0 of a pixel's own class cost; any shape."""
        raise TypeError(f"{type(self).__name__} has no of_pixels; a mean over pixels defines it")

    def counts(self, probabilities: Array, target: Target) -> NDArray[np.float64]:
        q = np.take_along_axis(probabilities, target.labels[..., None], axis=-1)[..., 0]
        cost = self.of_pixels(np.maximum(q, np.finfo(np.float32).tiny))
        return np.array([(target.weights * cost).sum(dtype=np.float64), target.weights.sum(dtype=np.float64)])

    def of_counts(self, counts: NDArray[np.float64]) -> float | None:
        return float(counts[0] / counts[1]) if counts[1] else None


class CrossEntropy(_Mean):
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

    def of_pixels(self, q: Array) -> Array:
        return -np.log(q)


class Focal(_Mean):
    """Cross-entropy that hardly looks at pixels that are right already. Lin et al. 2017, equation 4, its alpha being the weights.

        loss = sum over n, p, q of  w l / sum of w          l = -(1 - q)^gamma log q,   q = softmax(logits)[label]
        dlogits[k] = (softmax_k - [k = label]) (1 - q)^gamma (1 - gamma q log q / (1 - q)) w / sum of w

    for dl/dq = gamma (1 - q)^(gamma - 1) log q - (1 - q)^gamma / q, and dq/dz_k = q ([k = label] - softmax_k). log q / (1 - q) is
    -1 in the limit q = 1. gamma = 0 is CrossEntropy. With all weights 0 it is 0.
    """

    name = "focal"

    def __init__(self, gamma: float = 2.0) -> None:
        require(is_number(gamma) and gamma >= 0, "gamma", gamma, "a number from 0 up")
        self.gamma = float(gamma)

    @np.errstate(over="ignore", invalid="ignore")
    def value_and_grad(self, logits: Array, target: Target) -> tuple[Array, Array]:
        z, t, w = _of_counted(logits, target)
        total = w.sum()
        share = w / (total + (total == 0))
        others = softmax(z) * (1 - t)
        r, log_q = others.sum(axis=-1, keepdims=True), (_log_softmax(z) * t).sum(axis=-1, keepdims=True)
        log_q = np.where(r < 0.5, np.log1p(-np.minimum(r, 0.5)), log_q)  # r = 1 - q: near q = 1 it alone has digits
        ratio = np.where(r > 0, -log_q / (r + (r == 0)), 1)
        focus = r**self.gamma
        return -(share * focus * log_q).sum(), (others - r * t) * focus * (1 + self.gamma * (1 - r) * ratio) * share

    def of_pixels(self, q: Array) -> Array:
        return -np.log(q) * (1 - q) ** self.gamma


class Tversky(Loss):
    """1 - the Tversky index, averaged over classes: overlap counts, and alpha and beta say what an error of each kind costs.

        T_k = (TP + smooth / 2) / (TP + alpha FP + beta FN + smooth / 2)            loss = 1 - mean over k of T_k
        dlogits = p (g - sum over k of p_k g_k)         g_k = -w (t_k (1 - (1 - beta) T_k) - (1 - t_k) alpha T_k) / (K below_k)

    for p = softmax(logits) and t = [k = label], TP = sum of w p_k t_k, FP = sum of w p_k (1 - t_k), what is wrongly given the
    class, and FN = sum of w (1 - p_k) t_k, what is missed of it, over the pixels of all images; below is what T_k is divided by.
    g is the derivative by p, and softmax's Jacobian is diag(p) - p p^T. Salehi, Erdogmus and Gholipour 2017, equation 3. alpha
    weighs false positives, beta what is missed: with beta above alpha, a rare class is rather invented. Both 0.5 is Dice.
    """

    name = "tversky"
    alpha: float
    beta: float
    smooth: float

    def __init__(self, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0) -> None:
        for name, value in (("alpha", alpha), ("beta", beta), ("smooth", smooth)):
            require(is_number(value) and value >= 0, name, value, "a number from 0 up")
        self.alpha, self.beta, self.smooth = float(alpha), float(beta), float(smooth)

    @np.errstate(over="ignore", invalid="ignore")  # what is not finite is told by who takes the step, in a sentence
    def value_and_grad(self, logits: Array, target: Target) -> tuple[Array, Array]:
        z, t, w = _of_counted(logits, target)
        p = softmax(z)
        index, below = self._index(*((w * a).sum(axis=(0, 1, 2)) for a in (p * t, p, t)))
        g = -w * (t * (1 - (1 - self.beta) * index) - (1 - t) * self.alpha * index) / (below * p.shape[-1])
        return 1 - index.mean(), p * (g - (p * g).sum(axis=-1, keepdims=True))

    def _index(self, overlap: Array, given: Array, true: Array) -> tuple[Array, Array]:
        """Return the index of each class (K,), and what it is divided by: TP, TP + FP and TP + FN tell all."""
        above = overlap + self.smooth / 2
        below = above + self.alpha * (given - overlap) + self.beta * (true - overlap)
        return above / below, below

    def counts(self, probabilities: Array, target: Target) -> NDArray[np.float64]:
        w, of_classes = target.weights, []
        for k in range(probabilities.shape[-1]):  # one by one: arrays of all classes of whole images would be large
            given, own = w * probabilities[..., k], target.labels == k
            of_classes.append([a.sum(dtype=np.float64) for a in (given[own], given, w[own])])
        return np.array(of_classes).T.ravel()

    def of_counts(self, counts: NDArray[np.float64]) -> float | None:
        return float(1 - self._index(*counts.reshape(3, -1))[0].mean())


class Dice(Tversky):
    """1 - the soft Dice coefficient, averaged over classes: overlap counts, however small a class is.

        D_k = (2 sum of w p_k t_k + smooth) / (sum of w p_k + sum of w t_k + smooth)         loss = 1 - mean over k of D_k

    for p = softmax(logits) and t = [k = label], the sums over the pixels of all images: Tversky's index with alpha = beta = 0.5,
    where TP + FP / 2 + FN / 2 is half of both sums. Milletari, Navab and Ahmadi 2016, equation 1, without its squares.
    """

    name = "dice"
    alpha = beta = 0.5

    def __init__(self, smooth: float = 1.0) -> None:
        require(is_number(smooth) and smooth >= 0, "smooth", smooth, "a number from 0 up")
        self.smooth = float(smooth)


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


# By name
LOSSES: dict[str, Loss] = {loss.name: loss for loss in (CrossEntropy(), Dice(), CrossEntropy() + Dice(), Focal(), Tversky())}


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


def _of_counted(logits: Array, target: Target) -> tuple[Array, Array, Array]:
    """Return logits and truth, 1 for a pixel's own class, (N, P, Q, K), and weights (N, P, Q, 1), all of the logits' dtype.

    What has no weight has no part, be it no number: its logits are 0.
    """
    logits = activation("logits", logits)
    given = check_target(logits.shape, logits.dtype, *target)
    labels, w = (kernels.serving(logits).asarray(a)[..., None] for a in given)
    t = np.concatenate([labels == k for k in range(logits.shape[-1])], axis=3).astype(logits.dtype)
    return np.where(w > 0, logits, 0), t, w.astype(logits.dtype)


def _log_softmax(logits: Array) -> Array:
    z = logits - logits.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


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
