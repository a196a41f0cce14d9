"""The convolutions of the U-Net, and what runs each pass of one: minunet's algorithms, and oneDNN through PyTorch.

The forward has bias and relu, the gradients the mask of relu, as in training. PyTorch is asked for less: its convolution
alone, with no relu, and a gradient that is already masked. Both allocate their result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import measure
import numpy as np

from minunet import kernels
from minunet.kernels import composed, cpu, reference

PASSES = ("forward", "input grad", "weight grad")
ONEDNN = "oneDNN"
TOLERANCE = 1e-3  # of the largest element: an error here is a wrong result, not rounding
Pass = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Layer:
    """A convolution x (N, H, H, C) -> y (N, P, P, K), `count` times in the network; transposed: y is the larger."""

    name: str
    count: int
    x_shape: tuple[int, int, int, int]
    y_shape: tuple[int, int, int, int]
    kernel: int
    relu: bool = True
    transposed: bool = False

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        """(R, S, C, K), or (R, S, K, C) of a transposed convolution, which is the adjoint of one."""
        c, k = self.x_shape[3], self.y_shape[3]
        return (self.kernel, self.kernel, k, c) if self.transposed else (self.kernel, self.kernel, c, k)

    @property
    def geometry(self) -> dict[str, tuple[int, int]]:
        """Stride and padding, as kernels take them."""
        stride, padding = (2, 0) if self.transposed else (1, self.kernel // 2)
        return {"stride": (stride, stride), "padding": (padding, padding)}

    @property
    def passes(self) -> tuple[str, ...]:
        """The passes that training needs."""
        return tuple(p for p in PASSES if not (self.name == "encoder.0.conv1" and p == "input grad"))

    @property
    def flops(self) -> float:
        """Operations of one pass: two for each product. Of a transposed convolution, x is the side that is reached once."""
        pixels = self.x_shape if self.transposed else self.y_shape
        return 2.0 * np.prod(pixels[:3]) * np.prod(self.w_shape)

    def bytes(self, which: str) -> float:
        """Return the bytes of a pass: x, y and w, read or written once, and the mask beside dy."""
        mask = np.prod(self.y_shape) if self.relu and which != "forward" else 0
        return 4.0 * (np.prod(self.x_shape) + np.prod(self.y_shape) + np.prod(self.w_shape) + mask)

    def __str__(self) -> str:
        return f"{self.name}, {self.x_shape[3]} > {self.y_shape[3]} at {self.y_shape[1]}"


def layers_of(config: measure.Config, depth: int, channels: int = 1, classes: int = 2) -> list[Layer]:
    """Return the network's convolutions, each shape once."""
    batch, side, base = config
    found = []
    for i in range(depth + 1):
        size, c = side >> i, base << i
        here = (batch, size, size, c)
        into = (batch, size, size, c // 2 if i else channels)
        found.append(Layer(f"encoder.{i}.conv1", 1, into, here, 3))
        if i == depth:
            found.append(Layer(f"encoder.{i}.conv2", 1, here, here, 3))
            continue
        found.append(Layer(f"encoder and decoder.{i}.conv2", 2, here, here, 3))
        found.append(Layer(f"decoder.{i}.up", 1, (batch, size // 2, size // 2, 2 * c), here, 2, relu=False, transposed=True))
        found.append(Layer(f"decoder.{i}.conv1", 1, (batch, size, size, 2 * c), here, 3))
    return [*found, Layer("head", 1, (batch, side, side, base), (batch, side, side, classes), 1, relu=False)]


@dataclass(frozen=True)
class Arrays:
    """What a layer's passes work on; the mask is relu's output, or None; dy is masked for the peer alone."""

    x: np.ndarray
    w: np.ndarray
    b: np.ndarray
    dy: np.ndarray
    mask: np.ndarray | None


def arrays_of(layer: Layer) -> Arrays:
    """Draw them: activations from relu, weights of a size that keeps them."""
    rng = np.random.default_rng(0)

    def normal(shape: tuple[int, ...], scale: float = 1) -> np.ndarray:
        return rng.standard_normal(shape, np.float32) * np.float32(scale)

    scale = float(2 / (layer.kernel**2 * layer.x_shape[3])) ** 0.5
    x, w, b = np.maximum(normal(layer.x_shape), 0), normal(layer.w_shape, scale), normal(layer.y_shape[3:], 0.1)
    return Arrays(x, w, b, normal(layer.y_shape), np.maximum(normal(layer.y_shape), 0) if layer.relu else None)


def minunet_pass(layer: Layer, which: str, arrays: Arrays, algorithm: str) -> Pass:
    """Return one pass through the kernels that serve these arrays, of a weight gradient dw; ValueError by what does not serve."""
    a, g, kernel = arrays, layer.geometry, kernels.for_array(arrays.x)
    fused: dict[str, Any] = {"mask": a.mask} if a.mask is not None and kernel is cpu else {}  # the others take it before
    dy = a.dy if a.mask is None or fused else kernel.relu_grad(a.dy, a.mask)
    if layer.transposed:  # the adjoint of a convolution: its forward is that one's input gradient, and so on
        passes: dict[str, Pass] = {
            "forward": lambda: kernels.run(composed.conv_transpose2d, a.x, a.w, a.b, layer.y_shape, **g),
            "input grad": lambda: kernel.conv2d(a.dy, a.w, **g),
            "weight grad": lambda: (kernel.bias_grad(a.dy), kernel.conv2d_weight_grad(a.dy, a.x, a.w.shape, **g)[0])[1],
        }
    else:
        forward = composed.conv2d_relu if layer.relu else reference.conv2d
        passes = {
            "forward": lambda: kernels.run(forward, a.x, a.w, a.b, **g),
            "input grad": lambda: kernel.conv2d_input_grad(dy, a.w, layer.x_shape, **fused, **g),
            "weight grad": lambda: kernel.conv2d_weight_grad(a.x, dy, a.w.shape, **fused, **g)[0],
        }

    def run() -> np.ndarray:
        kernels.check_algorithm(algorithm, a.w.shape[:2], g["stride"])
        with kernels.algorithm(algorithm):
            return passes[which]()

    return run


def torch_pass(layer: Layer, which: str, arrays: Arrays) -> Pass:
    """Return the same pass by oneDNN through PyTorch, as an array of our layout (what turning it costs, a view, is nothing)."""
    import torch
    from torch_unet import from_numpy

    torch.set_num_threads(kernels.n_threads())
    torch.set_grad_enabled(False)
    x, bias = from_numpy(arrays.x), torch.from_numpy(arrays.b)
    dy = from_numpy(arrays.dy if arrays.mask is None else arrays.dy * (arrays.mask > 0))
    w = torch.from_numpy(arrays.w.transpose(3, 2, 0, 1).copy()).contiguous(memory_format=torch.channels_last)
    stride, padding = layer.geometry["stride"], layer.geometry["padding"]

    def forward() -> np.ndarray:
        convolution = torch.nn.functional.conv_transpose2d if layer.transposed else torch.nn.functional.conv2d
        return convolution(x, w, bias, stride=stride, padding=padding).permute(0, 2, 3, 1).numpy()

    def gradient(place: int) -> torch.Tensor:
        wanted = [place == 0, place == 1, place == 1]  # dx alone; or dw and db, as minunet's weight gradient
        return torch.ops.aten.convolution_backward(
            dy, x, w, [bias.numel()], stride, padding, (1, 1), layer.transposed, (0, 0), 1, wanted
        )[place]

    passes: dict[str, Pass] = {
        "forward": forward,
        "input grad": lambda: gradient(0).permute(0, 2, 3, 1).numpy(),
        "weight grad": lambda: gradient(1).permute(2, 3, 1, 0).numpy(),
    }
    return passes[which]


def agreeing(what: str, runs: dict[str, Pass], after_relu: bool) -> dict[str, Pass]:
    """Return the runs whose algorithm serves this shape, warm and found to give one result; stop where one differs.

    There are none where only the peer serves it. after_relu compares what relu leaves, for the peer's forward has none.
    """
    results = {}
    for name, run in runs.items():
        try:
            results[name] = np.maximum(run(), 0) if after_relu else run()
        except ValueError:  # an algorithm that was asked for by name refuses the shapes that it cannot do
            continue
    if not results.keys() - {ONEDNN}:
        return {}
    expected_by = ONEDNN if ONEDNN in results else next(iter(results))
    expected = results[expected_by]
    for name, result in results.items():
        error = float(np.abs(result - expected).max() / np.abs(expected).max())
        if not error <= TOLERANCE:
            raise SystemExit(f"{what}: {name} differs from {expected_by} by {error:.2g} of the largest element")
    return {name: runs[name] for name in results}
