"""How much memory a step will take, from shapes alone: `Network.forward` and `backward` again, holding only sizes."""

from __future__ import annotations

import math
import os
from pathlib import Path

from .. import kernels
from ..network import Network, parameter_shapes

Size = tuple[int, int]
Sizes = tuple[Size, Size, Size]

ALLOCATOR = 1.15  # resident bytes for a byte in use, 1.05 to 1.2 as measured: the C library keeps freed blocks


def training_bytes(network: Network, n: int, h: int, w: int) -> int:
    """Return the estimated peak of resident memory in `training.step` with Adam, for n images of h x w going in.

    Counted: parameters, their gradient and two moments; the images; each activation from its making to its last use;
    the gradients that backward holds at its widest moment; the working memory of the kernels; what the allocator adds.
    Within 20 % of measured (bench/memory.py), with the Numba kernels: the reference ones build whole column matrices.
    The process takes some 160 MB besides (Python, NumPy, Numba: "runtime" in bench/memory.py).
    """
    book = _Book(network, n, h, w)
    book.hold("moments", 2 * network.flat.nbytes)
    book.forward()
    book.loss()
    book.backward()
    return int(ALLOCATOR * (book.peak + _scratch(network)))


def inference_bytes(network: Network, n: int, h: int, w: int) -> int:
    """Return the estimated peak of resident memory in `network(x)`, counted in the same way, parameters and x included."""
    book = _Book(network, n, h, w, training=False)
    book.forward()
    return int(ALLOCATOR * (book.peak + _scratch(network)))


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
    """The live arrays by name, and the most that they took together. Its methods follow `Network` line by line.

    "encoder.0.1" is the first convolution's output, "encoder.0.2" the second's (with "same" padding half of "skip.0", so
    it has no entry of its own); "d" + name is a gradient. `training` is whether a tape keeps things for a backward.
    """

    def __init__(self, network: Network, n: int, h: int, w: int, training: bool = True) -> None:
        self.network, self.n, self.training, self.peak = network, n, training, 0
        self.item, self.depth, self.same = network.dtype.itemsize, network.depth, network.padding == "same"
        self.channels = [network.base_channels << i for i in range(network.depth + 1)]
        self.weights = parameter_shapes(**network.config)
        self.encoder, self.decoder = _sizes(network, h, w)
        self.output = (self.decoder or self.encoder)[0][2]
        self.live = {"parameters": network.flat.nbytes, "x": n * h * w * network.in_channels * self.item}

    def hold(self, name: str, n_bytes: int) -> None:
        self.live[name] = n_bytes
        self.peak = max(self.peak, sum(self.live.values()))

    def array(self, name: str, size: Size, channels: int) -> None:
        self.hold(name, self.n * size[0] * size[1] * channels * self.item)

    def drop(self, *names: str) -> None:
        """Strike arrays out. A name that was never entered is no matter: another padding, or no dropout."""
        for name in names:
            self.live.pop(name, None)

    def forward(self) -> None:
        below = "x"
        for i, (c, (_, first, second)) in enumerate(zip(self.channels, self.encoder, strict=True)):
            if self.same and i < self.depth:
                self.array(f"skip.{i}", second, 2 * c)  # its left half receives the second output
            below = self._block(f"encoder.{i}", below, c, first, second)
            if i < self.depth:
                pooled = self.encoder[i + 1][0]
                self.hold(f"argmax.{i}", self.n * pooled[0] * pooled[1] * c)
                self.array(f"pool.{i}", pooled, c)
                self._forget(f"argmax.{i}")
                below = f"pool.{i}"
        if self.training and self.network.dropout:
            self.array("kept", self.encoder[-1][2], self.channels[-1])
            self.array("dropped", self.encoder[-1][2], self.channels[-1])
        for i in reversed(range(self.depth)):
            c, (up, first, second) = self.channels[i], self.decoder[i]
            if not self.same:
                self.array("up", up, c)
                self.array(f"skip.{i}", up, 2 * c)
                self.drop("up")
                self._forget(f"encoder.{i}.2")
            self._forget(below)
            below = self._block(f"decoder.{i}", f"skip.{i}", c, first, second)
        self.array("logits", self.output, self.network.out_channels)

    def _block(self, name: str, below: str, c: int, first: Size, second: Size) -> str:
        """Enter the two outputs of a block; return the name of the last."""
        self.array(f"{name}.1", first, c)
        if name.replace("encoder", "skip") not in self.live:
            self.array(f"{name}.2", second, c)
        self._forget(below, f"{name}.1")
        return f"{name}.2"

    def _forget(self, *names: str) -> None:
        """Strike out what only a backward would use again."""
        if not self.training:
            self.drop(*names)

    def loss(self) -> None:
        self.array("weights", self.output, 1)
        self.array("dlogits", self.output, self.network.out_channels)
        self.drop("weights", "logits")

    def backward(self) -> None:
        self.hold("gradients", 0)
        self._convolution("head", "", "d", self.output, self.output, self.network.base_channels)
        for i, (c, (up, first, second)) in enumerate(zip(self.channels, self.decoder, strict=False)):
            self._block_backward(f"decoder.{i}", up, first, second, 2 * c, c)
            self.live[f"dskip.{i}"] = self.live.pop("d")  # one array: the gradients of skip and up are halves of it
            if not self.same:
                self.drop(f"skip.{i}")
                self.live["dup"] = self.live.pop(f"dskip.{i}")
                self.array(f"dskip.{i}", self.encoder[i][2], c)
            below = (self.decoder + self.encoder[-1:])[i + 1][2]
            self._convolution(f"decoder.{i}.up", "dup", "d", below, below, 2 * c)
        if self.network.dropout:
            self.array("ddropped", self.encoder[-1][2], self.channels[-1])
            self.drop("ddropped", "dropped", "kept")
        for i in reversed(range(self.depth + 1)):
            into, first, second = self.encoder[i]
            if i < self.depth:
                self.array("dpool", second, self.channels[i])
                self.drop("d", f"argmax.{i}")
                self.array("d", second, self.channels[i])
                self.drop("dpool", f"dskip.{i}")
            c_in = self.channels[i - 1] if i else 0  # the image needs no gradient
            self._block_backward(f"encoder.{i}", into, first, second, c_in, self.channels[i])
            self.drop(f"pool.{i - 1}")

    def _block_backward(self, name: str, into: Size, first: Size, second: Size, c_in: int, c: int) -> None:
        """Turn "d" from a block's dy into its dx; its caller holds dy to the end."""
        self._convolution(f"{name}.conv2", "", "dmiddle", second, first, c)
        self.drop(f"{name}.2", name.replace("encoder", "skip"))
        self._convolution(f"{name}.conv1", "", "dx", first, into, c_in)
        self.drop("d", "dmiddle", f"{name}.1")
        self.live["d"] = self.live.pop("dx")

    def _convolution(self, name: str, dy: str, dx: str, output: Size, into: Size, c_in: int) -> None:
        """Enter a weight gradient, partial sums first, and dx; strike out dy."""
        weight = math.prod(self.weights[f"{name}.weight"]) * self.item
        self.hold("dw", weight * (1 + _partials(self.weights[f"{name}.weight"], self.n, output, self.item)))
        self.hold("dw", 2 * weight)  # the sum, and the weights turned for dx
        self.array(dx, into, c_in)
        self.drop("dw", dy)
        self.live["gradients"] += weight  # their array is there from the start, but memory comes when it is written


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


# What the kernels take beyond their results: the constants of kernels/cpu/convolution.py.


def _block_pixels(depth: int) -> int:
    """Return how many pixels a block has whose columns are `depth` long."""
    return max(256, 2**18 // depth)


def _partials(w_shape: tuple[int, ...], n: int, output: Size, item: int) -> int:
    """Return how many partial sums a weight gradient has."""
    n_blocks = n * -(-output[0] * output[1] // _block_pixels(math.prod(w_shape[:3])))
    return max(1, min(n_blocks, 16, max(2, 2**26 // (math.prod(w_shape) * item))))


def _scratch(network: Network) -> int:
    """Return what the threads keep: a block's columns, its dy and its product, or that of the largest weight gradient."""
    shapes = [shape for name, shape in parameter_shapes(**network.config).items() if name.endswith("weight")]
    columns = max(_block_pixels(math.prod(s[:3])) * math.prod(s[:3]) for s in shapes)
    dy = max(_block_pixels(math.prod(s[:3])) * s[3] for s in shapes)
    product = max(math.prod(s) for s in shapes)
    return kernels.n_threads() * (columns + dy + product) * network.dtype.itemsize
