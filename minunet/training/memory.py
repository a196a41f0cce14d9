"""How much memory a step or a prediction will take: both run without numbers (kernels/shapes.py), and it is counted."""

from __future__ import annotations

from typing import Any

from .. import devices, kernels
from ..kernels import shapes
from ..losses import CrossEntropy, Loss, Target, is_ours
from ..network import Network, outlined
from ..optim import Adam, Optimizer
from ..room import scarcest
from .step import passes


@kernels.contained
def training_bytes(
    network: Network, n: int, h: int, w: int, loss: Loss | None = None, *, optimizer: type[Optimizer] = Adam,
    predicting: tuple[int, int] | None = None, meanwhile: int = 0, ahead: int = 0, averages: bool = False,
) -> int:  # fmt: skip
    """Return the estimated peak of resident memory in `training.step`, for n images of h x w going in.

    Counted: parameters, their gradient and the optimizer's moments; the images; each activation from its making to its last
    use; the gradients that backward holds at its widest moment; partial sums and working memory of the kernels; and what the
    pool's buffers have over, by the pool's own rule. predicting : the size of an image that is predicted between two steps,
    with so many bytes taken `meanwhile`. ahead : batches that are prepared beside the step; a GPU holds none of them.
    averages : whether a mean of the weights is kept.
    Within 10 % of measured (bench/memory.py), with the Numba kernels: the reference ones build whole column matrices.
    The process takes some 160 MB besides (Python, NumPy, Numba: "runtime" in bench/memory.py).
    """
    place = kernels.place(network.flat)
    plain, shape, y_shape = _plain(network, place), (n, h, w, network.in_channels), (n, *network.output_size(h, w))
    with devices.using(place), shapes.counting(place) as book:
        x: Any = shapes.outline(shape, network.dtype, place)
        labels, weights = shapes.outline(y_shape, "int32", place), shapes.outline(y_shape, network.dtype, place)
        prepared = (ahead if place == "cpu" else 0) * (x.nbytes + labels.nbytes + weights.nbytes)
        book.keep((1 + optimizer.n_moments + averages) * network.flat.nbytes + x.nbytes + weights.nbytes + prepared)
        for _ in range(2 if place == "cpu" else 1):  # what NumPy makes then lies beside all that the pool has: CuPy's serves both
            passes(plain, _Foretold(loss), x, Target(labels, weights), shapes.Outlines(place))  # type: ignore[arg-type]
        if predicting is not None:
            book.keep(meanwhile)
            plain(shapes.outline((1, *predicting, network.in_channels), network.dtype, place))  # type: ignore[arg-type]
    return book.peak + kernels.n_threads() * book.scratch


def _plain(network: Network, place: str) -> Network:
    return network.outline if place == "cpu" else outlined(network.config, place)


class _Foretold(Loss):
    """A loss without numbers. The user's code is never run: it is taken to make a gradient beside the logits."""

    def __init__(self, loss: Loss | None) -> None:
        self.loss = loss or CrossEntropy()

    def through(self, *arguments: Any) -> Any:
        return self.loss.through(*arguments) if is_ours(self.loss) else super().through(*arguments)

    def value_and_grad(self, logits: Any, target: Target) -> tuple[Any, Any]:
        return logits.sum(), logits.copy()


@kernels.contained
def inference_bytes(network: Network, n: int, h: int, w: int) -> int:
    """Return the estimated peak in a prediction of n images of h x w at once, counted alike, parameters and images included."""
    place = kernels.place(network.flat)
    plain = _plain(network, place)
    with devices.using(place), shapes.counting(place) as book:
        x: Any = shapes.outline((n, h, w, network.in_channels), network.dtype, place)
        book.keep(network.flat.nbytes + x.nbytes)
        plain(x)
    return book.peak + kernels.n_threads() * book.scratch


def free_memory(network: Network) -> float:
    """Return the bytes that could be taken now where the network lies: of the machine's memory, or of the GPU's."""
    return scarcest(kernels.place(network.flat)).free
