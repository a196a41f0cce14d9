"""Layers: an op with its parameters. A layer remembers nothing of a forward pass; the caller holds the cache.

    y, cache  = layer.forward(x)
    dx, grads = layer.backward(dy, cache)          # grads: {name: array}, like layer.parameters

`ops` has the mathematics of each. A layer of your own needs the two methods, and `parameters` if it has any.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import kernels, ops
from .checks import Array, pair, require
from .kernels.geometry import Pair

Grads = dict[str, Array]


class Layer:
    """What all layers share: parameters by name, and one way to be called."""

    def __init__(self) -> None:
        self.parameters: dict[str, Array] = {}

    def forward(self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """Return y and the cache that backward takes. `training` and `rng` matter to Dropout alone."""
        raise TypeError(f"{type(self).__name__} has no forward; a layer defines forward and backward")

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        """Return dx and the gradients of the parameters, by name."""
        raise TypeError(f"{type(self).__name__} has no backward; a layer defines forward and backward")

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class _Convolution(Layer):
    """A weight, a bias, a stride and a padding."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Pair, weight_shape: tuple[int, int], fan_in: float,
        gain: float, rng: np.random.Generator | None, dtype: DTypeLike,
    ) -> None:  # fmt: skip
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            require(isinstance(value, (int, np.integer)) and value >= 1, name, repr(value), "a whole number from 1 up")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, pair("kernel_size", kernel_size, 1)
        rng = np.random.default_rng() if rng is None else rng
        scale = np.sqrt(gain / fan_in)
        weight = rng.standard_normal((*self.kernel_size, *weight_shape)) * scale
        self.parameters = {"weight": weight.astype(dtype), "bias": np.zeros(out_channels, dtype)}

    def __repr__(self) -> str:
        settings = {"kernel_size": self.kernel_size} | {name: getattr(self, name) for name in self.shown}
        listed = ", ".join(f"{name}={value!r}" for name, value in settings.items() if value != "auto")  # which is the default
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, {listed})"

    shown: tuple[str, ...] = ("stride", "padding")


class Conv2d(_Convolution):
    """ops.conv2d with a weight (R, S, C, K) and a bias (K,).

    Weights start normal with variance gain / (R S C): gain 2 keeps the variance through relu (He et al. 2015, eq. 10),
    gain 1 where no relu follows. Biases start at 0. `algorithm` is ops.conv2d's; one that does not serve this kernel and
    stride is a ValueError.
    """

    shown = ("stride", "padding", "algorithm")

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Pair = 3, *, stride: int | Pair = 1,
        padding: int | Pair = 0, gain: float = 2.0, algorithm: str = "auto", rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
    ) -> None:  # fmt: skip
        r, s = pair("kernel_size", kernel_size, 1)
        fan_in = r * s * in_channels
        super().__init__(in_channels, out_channels, kernel_size, (in_channels, out_channels), fan_in, gain, rng, dtype)
        self.stride, self.padding, self.algorithm = pair("stride", stride, 1), pair("padding", padding, 0), algorithm
        kernels.check_algorithm(algorithm, self.kernel_size, self.stride)

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None, relu: bool = False,
        out: Array | None = None,
    ) -> tuple[Array, Any]:  # fmt: skip
        w, b = self.parameters["weight"], self.parameters["bias"]
        return ops.conv2d(x, w, b, stride=self.stride, padding=self.padding, relu=relu, out=out, algorithm=self.algorithm)

    def backward(self, dy: Array, cache: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        dx, dw, db = ops.conv2d_backward(dy, cache, input_grad=input_grad)
        return dx, {"weight": dw, "bias": db}  # type: ignore[return-value]


class ConvTranspose2d(_Convolution):
    """ops.conv_transpose2d with a weight (R, S, K out, C in) and a bias (K,).

    Weights start normal with variance 2 / fan-in, the number of products that one output sums: at stride 2 with a
    2 x 2 kernel that is C in (every output pixel is reached through one tap). Biases start at 0.
    """

    shown = ("stride", "padding", "output_padding")

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Pair = 2, *, stride: int | Pair = 2,
        padding: int | Pair = 0, output_padding: int | Pair = 0, rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
    ) -> None:  # fmt: skip
        (r, s), (down, right) = pair("kernel_size", kernel_size, 1), pair("stride", stride, 1)
        fan_in = in_channels * max(1.0, r / down) * max(1.0, s / right)
        super().__init__(in_channels, out_channels, kernel_size, (out_channels, in_channels), fan_in, 2.0, rng, dtype)
        self.stride, self.padding = pair("stride", stride, 1), pair("padding", padding, 0)
        self.output_padding = pair("output_padding", output_padding, 0)

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None, out: Array | None = None
    ) -> tuple[Array, Any]:
        w, b = self.parameters["weight"], self.parameters["bias"]
        geometry = {"stride": self.stride, "padding": self.padding, "output_padding": self.output_padding}
        return ops.conv_transpose2d(x, w, b, **geometry, out=out)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        dx, dw, db = ops.conv_transpose2d_backward(dy, cache)
        return dx, {"weight": dw, "bias": db}


class MaxPool2d(Layer):
    """ops.max_pool2d; the stride is the window's size unless given."""

    def __init__(self, kernel_size: int | Pair = 2, stride: int | Pair | None = None) -> None:
        super().__init__()
        self.kernel_size = pair("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else pair("stride", stride, 1)

    def forward(self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        return ops.max_pool2d(x, window=self.kernel_size, stride=self.stride)

    def backward(self, dy: Array, cache: Any, *, plus: Array | None = None) -> tuple[Array, Grads]:
        return ops.max_pool2d_backward(dy, cache, plus=plus)[0], {}

    def __repr__(self) -> str:
        return f"MaxPool2d(kernel_size={self.kernel_size}, stride={self.stride})"


class ReLU(Layer):
    """ops.relu."""

    def forward(self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        return ops.relu(x)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        return ops.relu_backward(dy, cache)[0], {}


class Dropout(Layer):
    """ops.dropout in training, with the generator that forward is given; nothing at all in inference."""

    def __init__(self, rate: float = 0.5) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"rate is {rate}; it takes 0 <= rate < 1")
        self.rate = rate

    def forward(self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        if not training or self.rate == 0:
            return x, None
        if rng is None:
            raise ValueError("rng is None; Dropout in training takes a numpy.random.Generator to draw from")
        return ops.dropout(x, self.rate, rng)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        return (dy if cache is None else ops.dropout_backward(dy, cache)[0]), {}

    def __repr__(self) -> str:
        return f"Dropout(rate={self.rate})"


class Sequential(Layer):
    """Layers in a row, the output of each the input of the next. A ReLU that follows a Conv2d is fused into it.

    `out=` receives the last output, and `input_grad=False` spares the first layer's dx, where that layer knows them.
    Parameters are named "0.weight", "0.bias", ..., or by the names given: Sequential(conv1=Conv2d(...), relu1=ReLU()).
    """

    def __init__(self, *layers: Layer, **named: Layer) -> None:
        self.layers = {str(i): layer for i, layer in enumerate(layers)} | named

    @property
    def parameters(self) -> dict[str, Array]:  # type: ignore[override]
        return {f"{k}.{name}": p for k, layer in self.layers.items() for name, p in layer.parameters.items()}

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None, out: Array | None = None
    ) -> tuple[Array, Any]:
        caches = []
        groups = self._groups()
        for i, (_, layer, fused) in enumerate(groups):
            options: dict[str, Any] = {"relu": True} if fused else {}
            if out is not None and i == len(groups) - 1:
                options["out"] = out
            x, cache = layer.forward(x, training=training, rng=rng, **options)
            caches.append(cache)
        return x, caches

    def backward(
        self, dy: Array, cache: Any, *, input_grad: bool = True, consume: bool = False
    ) -> tuple[Array, Grads]:
        """Return dx and the gradients; `consume` empties the cache on the way, so that memory is free early."""
        grads: Grads = {}
        caches = cache if consume else list(cache)
        for i, (name, layer, _) in reversed(list(enumerate(self._groups()))):
            options = {"input_grad": False} if i == 0 and not input_grad else {}
            dy, layer_grads = layer.backward(dy, caches.pop(), **options)
            grads |= {f"{name}.{key}": grad for key, grad in layer_grads.items()}
        return dy, grads

    def _groups(self) -> list[tuple[str, Layer, bool]]:
        """Return (name, layer, relu fused into it), a ReLU after a Conv2d left out."""
        groups: list[tuple[str, Layer, bool]] = []
        for name, layer in self.layers.items():
            if isinstance(layer, ReLU) and groups and isinstance(groups[-1][1], Conv2d) and not groups[-1][2]:
                groups[-1] = (*groups[-1][:2], True)
            else:
                groups.append((name, layer, False))
        return groups

    def __repr__(self) -> str:
        lines = (f"({name}): {layer!r}" for name, layer in self.layers.items())
        return "Sequential(\n  " + "\n".join(lines).replace("\n", "\n  ") + "\n)"
