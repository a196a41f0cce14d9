"""How much memory a step or a prediction will take: both run without numbers (kernels/shapes.py), and it is counted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .. import devices, kernels
from ..kernels import shapes
from ..losses import CrossEntropy, Loss, Target, is_ours
from ..network import Network, outlined
from .step import passes


@kernels.contained
def training_bytes(network: Network, n: int, h: int, w: int, loss: Loss | None = None) -> int:
    """Return the estimated peak of resident memory in `training.step` with Adam, for n images of h x w going in.

    Counted: parameters, their gradient and two moments; the images; each activation from its making to its last use;
    the gradients that backward holds at its widest moment; partial sums and working memory of the kernels; and what the
    pool's buffers have over, by the pool's own rule.
    Within 10 % of measured (bench/memory.py), with the Numba kernels: the reference ones build whole column matrices.
    The process takes some 160 MB besides (Python, NumPy, Numba: "runtime" in bench/memory.py).
    """
    place = kernels.place(network.flat)
    plain, shape, y_shape = _plain(network, place), (n, h, w, network.in_channels), (n, *network.output_size(h, w))
    with devices.using(place), shapes.counting(place) as book:
        x: Any = shapes.outline(shape, network.dtype, place)
        labels, weights = shapes.outline(y_shape, "int32", place), shapes.outline(y_shape, network.dtype, place)
        book.keep(3 * network.flat.nbytes + x.nbytes + weights.nbytes)
        passes(plain, _Foretold(loss), x, Target(labels, weights), shapes.Outlines(place))  # type: ignore[arg-type]
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


_LESS = "batch_size, patch_size or base_channels (--batch-size, --patch-size, --base-channels)"


def free_memory(network: Network) -> int:
    """Return the bytes that could be taken now where the network lies: of the machine's memory, or of the GPU's."""
    place = kernels.place(network.flat)
    return available_memory() if place == "cpu" else devices.free_bytes(place)


def require_memory(network: Network, n: int, h: int, w: int, loss: Loss | None = None) -> None:
    """Raise a ValueError where a training step of n images of h x w takes more memory than there is.

    Of a GPU that is what is free, as it has no swap to save it; here all that the machine has, with its swap.
    """
    place = kernels.place(network.flat)
    takes = training_bytes(network, n, h, w, loss)
    if place == "cpu" and takes > machine_memory():
        raise ValueError(
            f"a training step of {n} patches of {h} x {w} takes about {takes / 2**30:.2f} GB, and this machine has "
            f"{machine_memory() / 2**30:.2f} GB with its swap: reduce {_LESS}"
        )
    free = free_memory(network)
    if place != "cpu" and takes > free:
        raise ValueError(
            f"a training step of {n} patches of {h} x {w} takes about {takes / 2**30:.2f} GB, and {place} has {free / 2**30:.2f} "
            f"GB free: reduce {_LESS}"
        )


def machine_memory() -> float:
    """Return the bytes of all memory and swap of this machine; infinity where the system does not tell."""
    try:
        lines = [line.split() for line in Path("/proc/meminfo").read_text().splitlines()]
        return 1024 * sum(int(line[1]) for line in lines if line[0] in ("MemTotal:", "SwapTotal:")) or float("inf")
    except (OSError, ValueError, IndexError):
        return float("inf")


def available_memory() -> int:
    """Return the bytes that could be taken now: what the system calls available, within this process's cgroup limit.

    Where the system does not tell, half of what is built in (or of 8 GB). It never raises.
    """
    free = _system_memory()
    for folder in ("/sys/fs/cgroup", "/sys/fs/cgroup/memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            try:
                free = min(free, int(Path(folder, limit).read_text()) - int(Path(folder, used).read_text()))
            except (OSError, ValueError):  # no such limit here, or "max"
                continue
    return max(free, 0)


def _system_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return 2**32
