"""How much memory a step will take, from shapes alone: `Network.forward` and `backward` again, holding only sizes."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import ModuleType

from .. import devices, kernels
from ..kernels.buffers import SMALL, best_fit
from ..network import Network, parameter_shapes

Size = tuple[int, int]
Sizes = tuple[Size, Size, Size]


def training_bytes(network: Network, n: int, h: int, w: int) -> int:
    """Return the estimated peak of resident memory in `training.step` with Adam, for n images of h x w going in.

    Counted: parameters, their gradient and two moments; the images; each activation from its making to its last use;
    the gradients that backward holds at its widest moment; partial sums and working memory of the kernels; and what the
    pool's buffers have over, by the pool's own rule.
    Within 20 % of measured (bench/memory.py), with the Numba kernels: the reference ones build whole column matrices.
    The process takes some 160 MB besides (Python, NumPy, Numba: "runtime" in bench/memory.py).
    """
    book = _Book(network, n, h, w)
    book.keep("moments", 2 * network.flat.nbytes)
    book.array("weights", book.output, 1, pooled=False, item=network.dtype.itemsize)
    book.forward()
    book.loss_and_head()
    book.backward()
    return book.peak + kernels.n_threads() * book.scratch


def inference_bytes(network: Network, n: int, h: int, w: int) -> int:
    """Return the estimated peak in a prediction of n images of h x w at once, counted alike, parameters and images included."""
    book = _Book(network, n, h, w, training=False)
    book.forward()
    book.logits()
    return book.peak + kernels.n_threads() * book.scratch


def free_memory(network: Network) -> int:
    """Return the bytes that could be taken now where the network lies: of the machine's memory, or of the GPU's."""
    place = kernels.place(network.flat)
    return available_memory() if place == "cpu" else devices.free_bytes(place)


def require_memory(network: Network, n: int, h: int, w: int) -> None:
    """Raise a ValueError where a GPU has not the memory for a training step of n images of h x w: it has no swap to save it."""
    place = kernels.place(network.flat)
    takes, free = training_bytes(network, n, h, w), free_memory(network)
    if place != "cpu" and takes > free:
        raise ValueError(
            f"a training step of {n} patches of {h} x {w} takes about {takes / 2**30:.2f} GB, and {place} has {free / 2**30:.2f} "
            "GB free: reduce batch_size, patch_size or base_channels"
        )


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


class _Book:
    """The live arrays by name, and the most that they and the pool took. Its methods follow `Network` line by line.

    "encoder.0.1" is the first convolution's output, "encoder.0.2" the second's (with "same" padding half of "skip.0", so
    it has no entry of its own); "d" + name is a gradient. `training` is whether a tape keeps things for a backward.
    """

    def __init__(self, network: Network, n: int, h: int, w: int, training: bool = True) -> None:
        self.network, self.n, self.training, self.peak, self.scratch = network, n, training, 0, 0
        self.place = kernels.place(network.flat)
        self.stored = kernels.stored_dtype(network.dtype, self.place)
        self.depth, self.same = network.depth, network.padding == "same"
        self.channels = [network.base_channels << i for i in range(network.depth + 1)]
        self.weights = {k: shape for k, shape in parameter_shapes(**network.config).items() if k.endswith("weight")}
        self.encoder, self.decoder = _sizes(network, h, w)
        self.output = (self.decoder or self.encoder)[0][2]
        self.kept: dict[str, int] = {}  # what the pool does not have
        self.leased: dict[str, int] = {}  # buffers, by the array that lies in them
        self.idle: list[int] = []
        self.keep("parameters", network.flat.nbytes)
        self.keep("x", n * h * w * network.in_channels * network.dtype.itemsize)
        if self.stored != network.dtype:
            self.array("narrow x", (h, w), network.in_channels)

    def keep(self, name: str, n_bytes: int) -> None:
        """Enter an array that NumPy makes: it is gone when it dies."""
        self.kept[name] = n_bytes
        self._count()

    def _count(self) -> None:
        self.peak = max(self.peak, sum(self.kept.values()) + sum(self.leased.values()) + sum(self.idle))

    def hold(self, name: str, n_bytes: int) -> None:
        """Enter an array that lies in a buffer of the pool, which serves again when it dies."""
        if n_bytes < SMALL:
            return self.keep(name, n_bytes)
        place = best_fit(self.idle, n_bytes)
        self.leased[name] = n_bytes if place is None else self.idle.pop(place)
        self._count()

    def array(self, name: str, size: Size, channels: int, *, pooled: bool = True, item: int | None = None) -> None:
        """Enter an array of activations; item: the bytes of a number, where it is not stored as they are."""
        (self.hold if pooled else self.keep)(name, self.n * size[0] * size[1] * channels * (item or self.stored.itemsize))

    def drop(self, *names: str) -> None:
        """Strike arrays out. A name that was never entered is no matter: another padding, or no dropout."""
        for name in names:
            self.kept.pop(name, None)
            if name in self.leased:
                self.idle.append(self.leased.pop(name))

    def rename(self, old: str, new: str) -> None:
        for arrays in (self.kept, self.leased):
            if old in arrays:
                arrays[new] = arrays.pop(old)

    def forward(self) -> None:
        below = "x"
        for i, (c, (into, first, second)) in enumerate(zip(self.channels, self.encoder, strict=True)):
            if self.same and i < self.depth:
                self.array(f"skip.{i}", second, 2 * c)  # its left half receives the second output
            below = self._block(f"encoder.{i}", below, c, into, first, second)
            if i < self.depth:
                pooled = self.encoder[i + 1][0]
                self.array(f"pool.{i}", pooled, c)
                self.hold(f"argmax.{i}", self.n * pooled[0] * pooled[1] * c)
                self._forget(f"argmax.{i}")
                below = f"pool.{i}"
        if self.training and self.network.dropout:
            self.array("dropped", self.encoder[-1][2], self.channels[-1])
        for i in reversed(range(self.depth)):
            c, (up, first, second) = self.channels[i], self.decoder[i]
            if not self.same:
                self.array("up", up, c)
                self.array(f"skip.{i}", up, 2 * c, pooled=False)
                self.drop("up")
                self._forget(f"encoder.{i}.2")
            self._work("conv2d_input_grad", f"decoder.{i}.up", up)  # which its forward is
            self.drop("working")
            self._forget(below)
            below = self._block(f"decoder.{i}", f"skip.{i}", c, up, first, second)

    def logits(self) -> None:
        self.array("logits", self.output, self.network.out_channels, item=self.network.dtype.itemsize)
        self._work("conv2d", "head", self.output)
        self.drop("working")

    def _block(self, name: str, below: str, c: int, into: Size, first: Size, second: Size) -> str:
        """Enter the two outputs of a block; return the name of the last."""
        self.array(f"{name}.1", first, c)
        self._work("conv2d", f"{name}.conv1", into)
        self.drop("working")
        if name.replace("encoder", "skip") not in self.leased | self.kept:
            self.array(f"{name}.2", second, c)
        self._work("conv2d", f"{name}.conv2", first)
        self.drop("working")
        self._forget(below, f"{name}.1")
        return f"{name}.2"

    def _forget(self, *names: str) -> None:
        """Strike out what only a backward would use again."""
        if not self.training:
            self.drop(*names)

    def loss_and_head(self) -> None:
        """Turn the features into "d", by the kernel linear_cross_entropy: a pass without logits, or one after another."""
        c, k = self.network.base_channels, self.network.out_channels
        x_shape, w_shape = (self.n, *self.output, c), (1, 1, c, k)
        working = None if self.place == "cpu" else _working(self.place)
        arrays = None if working is None else working.linear_cross_entropy(x_shape, w_shape, self.stored)
        if arrays is None:
            self.logits()
            self.array("dlogits", self.output, k, item=self.network.dtype.itemsize)
            self.drop("logits")
            self._convolution("head", self.output, "d", c)
            self.drop("dlogits")
        else:
            self.array("d", self.output, c)
            self.hold("working", arrays)
            self.hold("dw.head", (c + 1) * k * self.network.dtype.itemsize)
            self.drop("working")

    def backward(self) -> None:
        for i, (c, (up, first, second)) in enumerate(zip(self.channels, self.decoder, strict=False)):
            self._block_backward(f"decoder.{i}", up, first, second, 2 * c, c)
            self.rename("d", f"dskip.{i}")  # one array: the gradients of skip and up are halves of it
            if not self.same:
                self.drop(f"skip.{i}")
                self.rename(f"dskip.{i}", "dup")
                self.array(f"dskip.{i}", self.encoder[i][2], c, pooled=False)
            self._convolution(f"decoder.{i}.up", up, "d", 2 * c)
            self.drop("dup")
        if self.network.dropout:
            self.array("ddropped", self.encoder[-1][2], self.channels[-1])
            self.drop("d", "dropped")
            self.rename("ddropped", "d")
        for i in reversed(range(self.depth + 1)):
            into, first, second = self.encoder[i]
            if i < self.depth:
                self.array("dpool", second, self.channels[i])
                self.drop("d", f"argmax.{i}", f"dskip.{i}")
                self.rename("dpool", "d")
            c_in = self.channels[i - 1] if i else 0  # the image needs no gradient
            self._block_backward(f"encoder.{i}", into, first, second, c_in, self.channels[i])
            self.drop(f"pool.{i - 1}")
        self.hold("gradients", self.network.flat.nbytes)

    def _block_backward(self, name: str, into: Size, first: Size, second: Size, c_in: int, c: int) -> None:
        """Turn "d" from a block's dy into its dx; its caller holds dy to the end."""
        self._convolution(f"{name}.conv2", first, "dmiddle", c, relu=second)
        self.drop(f"{name}.2", name.replace("encoder", "skip"))
        self._convolution(f"{name}.conv1", into, "dx", c_in, relu=first)
        self.drop("d", "dmiddle", f"{name}.1")
        self.rename("dx", "d")

    def _convolution(self, name: str, into: Size, dx: str, c_in: int, relu: Size | None = None) -> None:
        """Enter a weight gradient and dx; relu: the size of what a relu gave, whose gradient is an array of its own on a GPU.

        (For an up-convolution `into` is the size that it gives.)
        """
        up = name.endswith("up")
        if relu is not None and self.place != "cpu":
            self.array("masked", relu, self.weights[f"{name}.weight"][3])
        self._work("conv2d_weight_grad", name, into)
        self.hold(f"dw.{name}", math.prod(self.weights[f"{name}.weight"]) * self.network.dtype.itemsize)
        self.drop("working")
        self.array(dx, (into[0] // 2, into[1] // 2) if up else into, c_in)
        if c_in:
            self._work("conv2d" if up else "conv2d_input_grad", name, into)  # of a transposed convolution it is a plain one
            self.drop("working")
        self.drop("masked")

    def _work(self, kernel: str, name: str, into: Size) -> None:
        """Enter what a kernel takes beyond its results, as "working"; the reference backend's take nothing worth a plan."""
        working = _working(self.place)
        if working is None:
            return
        w_shape = self.weights[f"{name}.weight"]
        plain = w_shape[0] == 3
        padding, stride = (1 if self.same and plain else 0), (2 if name.endswith("up") else 1)
        scratch, arrays = getattr(working, kernel)(
            (self.n, *into, w_shape[2]), w_shape, self.stored, stride=(stride, stride), padding=(padding, padding),
            algorithm=self.network.algorithm if plain else "auto",
        )  # fmt: skip
        self.scratch = max(self.scratch, scratch)
        self.hold("working", arrays)


def _working(place: str) -> ModuleType | None:
    """Return the module that foretells what the kernels at this place take beyond their results; imported here, with Numba."""
    if place != "cpu":
        from ..kernels.gpu import working as of_gpu

        return of_gpu
    if "cpu" not in kernels.available():
        return None
    from ..kernels.cpu import working as of_cpu

    return of_cpu


def _sizes(network: Network, h: int, w: int) -> tuple[list[Sizes], list[Sizes]]:
    """Return, for each level of the encoder and of the decoder, the sizes before and after its two convolutions."""
    lost = 0 if network.padding == "same" else 2

    def block(h: int, w: int) -> Sizes:
        return (h, w), (h - lost, w - lost), (h - 2 * lost, w - 2 * lost)

    encoder = [block(h, w)]
    for _ in range(network.depth):
        h, w = encoder[-1][2]
        encoder.append(block(h // 2, w // 2))
    decoder = encoder[-1:]
    for _ in range(network.depth):
        h, w = decoder[0][2]
        decoder.insert(0, block(2 * h, 2 * w))
    return encoder, decoder[:-1]
