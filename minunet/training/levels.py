"""The loss of all levels of a network, under deep supervision: of the top's logits, and of those of each side head below."""

from __future__ import annotations

from numpy.typing import NDArray

from ..checks import Array
from ..layers import Conv2d, Grads
from ..losses import Loss, Target


class Levels:
    """A loss at each level, as one: the sum over levels of loss_i / 2^i, over the sum of 1 / 2^i. Isensee et al. 2021, nnU-Net.

        levels = Levels(loss, target)
        with judged(levels.judge):
            features = ...                          # forward: the levels below the top are judged on the way up
        value = levels.mean(of_the_top)
        gradient *= levels.share                    # what backward gives belongs to the sum: 1 where there are no side heads

    A pixel of level i is held against the middle one of the 2^i x 2^i that it becomes, by that one's label and weight: no label
    is made up at a border of classes, and what has no weight has none here.
    """

    def __init__(self, loss: Loss, target: Target) -> None:
        self.loss, self.target = loss, target
        self._values: list[Array] = []
        self.share = 1.0

    def judge(self, head: Conv2d, x: Array) -> tuple[Array, Grads]:
        """Return the gradients of loss_i / 2^i by x and by the head's parameters, and keep its value."""
        size = self.target.labels.shape[1] // x.shape[1]
        value, dx, grads = self.loss.through(head, x, Target(*(middles(a, size) for a in self.target)))
        self._values.append(value / size)
        self.share = 1 / (1 / self.share + 1 / size)
        dx *= 1 / size  # in place, as nobody else has it; a power of two rounds nothing, in bfloat16 either
        return dx, {name: grad / size for name, grad in grads.items()}

    def mean(self, value: Array) -> Array:
        """Return the loss of all levels for that of the top; itself where there are no others."""
        return sum(self._values, value) * self.share if self._values else value


def middles(a: NDArray, size: int) -> NDArray:
    """Return the middle pixel of each size x size of labels or weights (N, P, Q), in one piece of memory."""
    return a[:, size // 2 :: size, size // 2 :: size].copy()
