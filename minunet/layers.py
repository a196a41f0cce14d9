"""Layers: an op with its parameters. A layer remembers nothing of a forward pass; the caller holds the cache.

    y, cache  = layer.forward(x)
    dx, grads = layer.backward(dy, cache)          # grads: {name: array}, like layer.parameters

`ops` has the mathematics of each. A layer of your own needs the two methods, and `parameters` if it has any; one that is made
of layers is a Composite, and names its children.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from . import checks, fusions, kernels, ops
from .checks import Array, is_number, pair, require, size
from .kernels.geometry import Pair
from .tape import Grads, Tape, leave, taped

T = TypeVar("T")


class Fixed(dict[str, T]):
    """A dictionary that stays as it was made: what is computed with would not be what is trained, copied and saved."""

    def _refused(self, *_: Any, **__: Any) -> Any:
        raise TypeError("the layers that a layer is made of are fixed; it takes a new one to have others")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refused  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Fixed, (dict(self),)


class Layer:
    """What all layers share: parameters by name, and one way to be called."""

    children: dict[str, Layer] = Fixed()  # by name, in the order of forward
    state: dict[str, Array] = Fixed()  # arrays that are saved, but not trained: a training's steps renew them

    def __init__(self) -> None:
        self.parameters: dict[str, Array] = {}

    def forward(self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """Return y and the cache that backward takes. `training` matters to Dropout and BatchNorm, `rng` to Dropout."""
        raise TypeError(f"{type(self).__name__} has no forward; a layer defines forward and backward")

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        """Return dx and the gradients of the parameters, by name."""
        raise TypeError(f"{type(self).__name__} has no backward; a layer defines forward and backward")

    def can(self, option: str) -> bool:
        """Tell whether forward takes `out`, memory for y, or backward `input_grad`, whether dx is wanted. No layer must."""
        return _takes(type(self).forward if option == "out" else type(self).backward, option)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@functools.cache
def _takes(method: Any, option: str) -> bool:
    return option in inspect.signature(method).parameters


class _Convolution(Layer):
    """A weight, a bias, a stride and a padding."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Pair, weight_shape: tuple[int, int], fan_in: float,
        gain: float, rng: np.random.Generator | None, dtype: DTypeLike, bias: bool = True,
    ) -> None:  # fmt: skip
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, pair("kernel_size", kernel_size, 1)
        rng = np.random.default_rng() if rng is None else rng
        require(hasattr(rng, "standard_normal"), "rng", rng, "a numpy.random.Generator to draw from")
        require(is_number(gain) and gain >= 0, "gain", gain, "a number from 0 up")
        dtype, scale = checks.float_dtype(dtype), np.sqrt(gain / fan_in)
        checks.check_result("kernel_size", self.kernel_size, (*self.kernel_size, *weight_shape), np.float64)
        weight = (rng.standard_normal((*self.kernel_size, *weight_shape)) * scale).astype(dtype)
        self.parameters = {"weight": weight} | ({"bias": np.zeros_like(weight, shape=(out_channels,))} if bias else {})

    def __repr__(self) -> str:
        settings = {"kernel_size": self.kernel_size} | {name: getattr(self, name) for name in self.shown}
        settings |= {} if "bias" in self.parameters else {"bias": False}
        listed = ", ".join(f"{name}={value!r}" for name, value in settings.items() if value != "auto")  # which is the default
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, {listed})"

    shown: tuple[str, ...] = ("stride", "padding")


class Conv2d(_Convolution):
    """ops.conv2d with a weight (R, S, C, K) and a bias (K,); without one where bias=False: in front of a norm it does nothing.

    Weights start normal with variance gain / (R S C): gain 2 keeps the variance through relu (He et al. 2015, eq. 10),
    gain 1 where no relu follows. Biases start at 0. `algorithm` is kernels.algorithm's, for this layer; one that does not serve
    its kernel and stride is a ValueError.
    """

    shown = ("stride", "padding", "algorithm")

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Pair = 3, *, stride: int | Pair = 1,
        padding: int | Pair = 0, bias: bool = True, gain: float = 2.0, algorithm: str = "auto",
        rng: np.random.Generator | None = None, dtype: DTypeLike = "float32",
    ) -> None:  # fmt: skip
        r, s = pair("kernel_size", kernel_size, 1)
        in_channels, out_channels = checks.channels("in_channels", in_channels), checks.channels("out_channels", out_channels)
        fan_in = r * s * in_channels
        super().__init__(in_channels, out_channels, kernel_size, (in_channels, out_channels), fan_in, gain, rng, dtype, bias)
        self.stride, self.padding, self.algorithm = pair("stride", stride, 1), pair("padding", padding, 0), algorithm
        kernels.check_algorithm(algorithm, self.kernel_size, self.stride)

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None, out: Array | None = None
    ) -> tuple[Array, Any]:
        return self.by(ops.conv2d, x, *self.parameters.values(), stride=self.stride, padding=self.padding, out=out)

    def backward(self, dy: Array, cache: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        return self.named(self.by(ops.conv2d_backward, dy, cache, input_grad=input_grad))

    def by(self, op: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call an op, computed by this layer's algorithm."""
        return op(*arguments, **options) if self.algorithm == "auto" else self._by(op, *arguments, **options)

    @kernels.contained
    def _by(self, op: Callable[..., T], *arguments: Any, **options: Any) -> T:
        with kernels.algorithm(self.algorithm):
            return op(*arguments, **options)

    def named(self, gradients: tuple[Any, Array, Array]) -> tuple[Any, Grads]:
        """Return dx, and dw and db by name."""
        dx, *of_parameters = gradients
        return dx, dict(zip(self.parameters, of_parameters, strict=False))


class ConvReLU(Layer):
    """A Conv2d and the ReLU behind it, at once."""

    def __init__(self, convolution: Conv2d) -> None:
        require(isinstance(convolution, Conv2d), "convolution", f"of type {type(convolution).__name__}", "a Conv2d")
        self._convolution = convolution

    @property
    def convolution(self) -> Conv2d:
        """The one that it was made of."""
        return self._convolution

    @property
    def parameters(self) -> dict[str, Array]:  # type: ignore[override]
        return self.convolution.parameters

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None, out: Array | None = None
    ) -> tuple[Array, Any]:
        c = self.convolution
        return c.by(fusions.conv2d_relu, x, *c.parameters.values(), stride=c.stride, padding=c.padding, out=out)

    def backward(self, dy: Array, cache: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        c = self.convolution
        return c.named(c.by(fusions.conv2d_relu_backward, dy, cache, input_grad=input_grad))


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
        in_channels, out_channels = checks.channels("in_channels", in_channels), checks.channels("out_channels", out_channels)
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

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        return ops.max_pool2d_backward(dy, cache)[0], {}

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
        require(is_number(rate) and 0 <= rate < 1, "rate", rate, "0 <= rate < 1")
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


class GroupNorm(Layer):
    """ops.group_norm with a weight (gamma) and a bias (beta), (C,), which start at 1 and 0."""

    def __init__(self, channels: int, groups: int = 8, *, epsilon: float = 1e-5, dtype: DTypeLike = "float32") -> None:
        channels, dtype = size("channels", channels, 1), checks.float_dtype(dtype)
        self.groups, self.epsilon = checks.groups(groups, channels), epsilon
        self.parameters = {"weight": np.ones(channels, dtype), "bias": np.zeros(channels, dtype)}

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None, out: Array | None = None
    ) -> tuple[Array, Any]:
        return self.by(ops.group_norm, x, training, out)

    def by(self, op: Callable[..., T], x: Array, training: bool, out: Array | None) -> T:
        """Call an op with this layer's parameters."""
        return op(x, *self.parameters.values(), groups=self.groups, epsilon=self.epsilon, out=out)

    with_relu = staticmethod(fusions.group_norm_relu)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        dx, dgamma, dbeta = ops.group_norm_backward(dy, cache)
        return dx, {"weight": dgamma, "bias": dbeta}

    def __repr__(self) -> str:
        return f"GroupNorm({self.parameters['weight'].size}, groups={self.groups})"


class BatchNorm(Layer):
    """ops.batch_norm with a weight (gamma) and a bias (beta), which start at 1 and 0, and running statistics, at 0 and 1. (C,).

    A forward in training leaves the new statistics to whoever listens (tape.listening), and writes nothing.
    """

    def __init__(
        self, channels: int, *, momentum: float = 0.1, epsilon: float = 1e-5, dtype: DTypeLike = "float32"
    ) -> None:  # fmt: skip
        channels, dtype = size("channels", channels, 1), checks.float_dtype(dtype)
        self.momentum, self.epsilon = momentum, epsilon
        self.parameters = {"weight": np.ones(channels, dtype), "bias": np.zeros(channels, dtype)}
        self.state = {"running_mean": np.zeros(channels, dtype), "running_var": np.ones(channels, dtype)}

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None, out: Array | None = None
    ) -> tuple[Array, Any]:
        return self.by(ops.batch_norm, x, training, out)

    def by(self, op: Callable[..., Any], x: Array, training: bool, out: Array | None) -> tuple[Array, Any]:
        """Call an op with this layer's parameters and statistics."""
        arrays, how = (*self.parameters.values(), *self.state.values()), {"momentum": self.momentum, "epsilon": self.epsilon}
        y, statistics, cache = op(x, *arrays, training=bool(training), out=out, **how)
        if training:
            leave(self, dict(zip(self.state, statistics, strict=True)))
        return y, cache

    with_relu = staticmethod(fusions.batch_norm_relu)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        dx, dgamma, dbeta = ops.batch_norm_backward(dy, cache)
        return dx, {"weight": dgamma, "bias": dbeta}

    def __repr__(self) -> str:
        return f"BatchNorm({self.parameters['weight'].size})"


class NormReLU(Layer):
    """A GroupNorm or BatchNorm and the ReLU behind it, at once."""

    def __init__(self, norm: GroupNorm | BatchNorm) -> None:
        require(isinstance(norm, (GroupNorm, BatchNorm)), "norm", f"of type {type(norm).__name__}", "a GroupNorm or a BatchNorm")
        self._norm = norm

    @property
    def norm(self) -> GroupNorm | BatchNorm:
        """The one that it was made of."""
        return self._norm

    @property
    def parameters(self) -> dict[str, Array]:  # type: ignore[override]
        return self.norm.parameters

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None, out: Array | None = None
    ) -> tuple[Array, Any]:
        norm: Any = self.norm
        return norm.by(norm.with_relu, x, training, out)  # type: ignore[no-any-return]

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        dx, dgamma, dbeta = fusions.norm_relu_backward(dy, cache)
        return dx, {"weight": dgamma, "bias": dbeta}


def named(name: str, arrays: Mapping[str, T]) -> dict[str, T]:
    """Return what a child has by name under the names that its parent has for them. A child without a name hands its own on."""
    return {f"{name}.{key}" if name else key: a for key, a in arrays.items()}


class Composite(Layer):
    """A layer made of others, its children. Its parameters are theirs, in the order in which backward makes their gradients."""

    def __init__(self, **children: Layer) -> None:
        for name, child in children.items():
            require(isinstance(child, Layer), f"the child {name!r}", f"of type {type(child).__name__}", "a minunet.layers.Layer")
        self.children = Fixed(children)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self):
            self._require_free(name, value)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        self._require_free(name, None)
        super().__delattr__(name)

    def _require_free(self, name: str, value: Any) -> None:
        """Refuse to let one of the children go, or what has them."""
        held = vars(self).get(name)
        kept = isinstance(held, Fixed) or any(held is child for child in self.children.values())
        given = "what this layer is made of" if isinstance(held, Fixed) else "one of the layers that this one is made of"
        require(not kept or held is value, name, given, "no other in its place: make a new one of such")

    @property
    def parameters(self) -> dict[str, Array]:  # type: ignore[override]
        return {name: leaf.parameters[key] for name, (leaf, key) in places(self).items()}

    @property
    def state(self) -> dict[str, Array]:  # type: ignore[override]
        return {name: leaf.state[key] for name, (leaf, key) in places(self, "state").items()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(\n  " + "\n".join(self._lines()).replace("\n", "\n  ") + "\n)"

    def _lines(self) -> Iterator[str]:
        """Give each child; of one without a name its children, as if they were one's own."""
        for name, child in self.children.items():
            if not name and isinstance(child, Composite):
                yield from child._lines()
            else:
                yield f"({name}): {child!r}"


def places(layer: Layer, of: str = "parameters") -> dict[str, tuple[Layer, str]]:
    """Return each parameter's name in a tree of layers, with the layer that has it and its name there, as backward makes them.

    of="state": that of each of the arrays that are not trained.
    """
    if not layer.children:
        return {key: (layer, key) for key in getattr(layer, of)}
    found: dict[str, tuple[Layer, str]] = {}
    for name, child in reversed(layer.children.items()):
        for key, place in named(name, places(child, of)).items():
            require(key not in found, key, "the name of two parameters", "one: children need names of their own")
            found[key] = place
    return found


class Sequential(Composite):
    """Layers in a row, the output of each the input of the next. A ReLU that follows a Conv2d or a norm is fused into it.

    Parameters are named "0.weight", "0.bias", ..., or by the names given: Sequential(conv1=Conv2d(...), relu1=ReLU()).
    `out=` receives the last output, and `input_grad=False` spares the first layer's dx, where these layers `can`.
    """

    def __init__(self, *layers: Layer, **named: Layer) -> None:
        super().__init__(**{str(i): layer for i, layer in enumerate(layers)} | named)
        self.steps = Fixed(fused(self.children))

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None, out: Array | None = None
    ) -> tuple[Array, Any]:
        tape = Tape(training, rng, self)
        for i, layer in enumerate(self.steps.values(), start=1):
            x = tape.run(layer, x, out=out if i == len(self.steps) else None)
        return x, tape

    def backward(self, dy: Array, cache: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        grads: Grads = {}
        taped(cache, self).gradient = dy
        del dy
        for i, (name, layer) in reversed(list(enumerate(self.steps.items()))):
            grads |= named(name, cache.back(layer, input_grad=input_grad or i > 0))
        return cache.taken(), grads

    def can(self, option: str) -> bool:
        return list(self.steps.values())[-1 if option == "out" else 0].can(option)


WITH_RELU: dict[Any, Callable[..., Layer]] = {Conv2d: ConvReLU, GroupNorm: NormReLU, BatchNorm: NormReLU}


def fused(layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """Return what runs for layers in a row, a Conv2d or a norm and the ReLU behind it as one: the peephole."""
    steps: dict[str, Layer] = {}
    before = ""
    for name, layer in layers.items():
        at_once = WITH_RELU.get(type(steps.get(before))) if type(layer) is ReLU else None
        if at_once:
            steps[before] = at_once(steps[before])
        else:
            steps[name] = layer
        before = name if name in steps else ""
    return steps
