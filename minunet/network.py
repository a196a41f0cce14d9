"""The U-Net of Ronneberger, Fischer and Brox (2015): forward, and backward as forward read upwards.

    x -> encoder.0 ----------------- skip -----------------> decoder.0 -> head -> logits
            pool                                              up
             encoder.1 ------------ skip -----------> decoder.1
                pool                                   up
                 ...                                  ...
                    encoder.depth (the bottleneck)

Every encoder and decoder is conv 3x3, relu, conv 3x3, relu. Level i has base_channels 2^i channels and, with "same"
padding, 1/2^i of the image's sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import devices, kernels, ops
from .checks import Array, beside, gradient
from .kernels.geometry import address
from .layers import Conv2d, ConvTranspose2d, Dropout, Layer, MaxPool2d, ReLU, Sequential

ALIGNMENT = 64  # bytes: one cache line, one AVX-512 vector


class ParameterViews(Mapping[str, Array]):
    """One flat array, and views of it by name at 64-byte steps. Write into a view; a name cannot be bound anew.

    What is in them is what `empty(shape, dtype)` gave; the gaps between them are 0.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike, empty: Callable[..., Array] = np.empty
    ) -> None:
        step = ALIGNMENT // np.dtype(dtype).itemsize
        sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
        starts = np.cumsum([0, *(-(-size // step) * step for size in sizes.values())]).tolist()
        self.flat = _aligned(starts[-1], dtype, empty)
        self._views = {}
        for name, start, end in zip(shapes, starts[:-1], starts[1:], strict=True):
            self._views[name] = self.flat[start : start + sizes[name]].reshape(shapes[name])
            self.flat[start + sizes[name] : end] = 0  # the gap

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __setitem__(self, name: str, value: Array) -> None:
        raise TypeError(f"parameters are views of one array; write into them: parameters[{name!r}][...] = value")


class Network:
    """A U-Net of `depth` poolings from in_channels to out_channels, base_channels wide at the top.

    padding "same" keeps the size, which must be a multiple of 2^depth; "valid" is the paper's: 572 gives 388. dropout
    is the rate after the bottleneck, "at the end of the contracting path". random_state seeds the weights, a whole number.
    algorithm computes the 3x3 convolutions, as in ops.conv2d; up-convolutions and head have "auto", as not all serve them.
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 2, base_channels: int = 64, depth: int = 4,
        padding: str = "same", dropout: float = 0.0, random_state: int = 0, dtype: DTypeLike = "float32",
        algorithm: str = "auto",
    ) -> None:  # fmt: skip
        self.in_channels, self.out_channels, self.base_channels, self.depth = in_channels, out_channels, base_channels, depth
        self.padding, self.dropout, self.random_state = padding, dropout, random_state
        self.dtype, self.algorithm = _float_dtype(dtype), algorithm
        _check(self.config)
        rng = np.random.default_rng(random_state)
        pad = 1 if padding == "same" else 0
        channels = [base_channels * 2**i for i in range(depth + 1)]

        def block(c: int, k: int) -> Sequential:
            return Sequential(
                conv1=Conv2d(c, k, 3, padding=pad, algorithm=algorithm, rng=rng, dtype=dtype),
                relu1=ReLU(),
                conv2=Conv2d(k, k, 3, padding=pad, algorithm=algorithm, rng=rng, dtype=dtype),
                relu2=ReLU(),
            )

        self.encoder = [block(c, k) for c, k in zip([in_channels, *channels], channels, strict=False)]
        self.pool = MaxPool2d(2)
        self.drop = Dropout(dropout)
        self.up = [ConvTranspose2d(channels[i + 1], channels[i], 2, stride=2, rng=rng, dtype=dtype) for i in range(depth)]
        self.decoder = [block(2 * channels[i], channels[i]) for i in range(depth)]
        self.head = Conv2d(base_channels, out_channels, 1, gain=1.0, rng=rng, dtype=dtype)
        self.parameters = self._gather_parameters()

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None
    ) -> tuple[Array, list[Any]]:
        """Return the logits (N, P, Q, out_channels) of x (N, H, W, in_channels), and the cache for one backward."""
        tape: list[Any] = []
        logits, cache = self._logits(self._forward(x, tape, training, rng))
        tape += [cache, logits.shape]
        return logits, tape

    def __call__(self, x: Array) -> Array:
        """Return the logits of x in inference: nothing is kept for a backward."""
        return self._logits(self._forward(x, _Forgetful(), False, None))[0]

    def loss_and_gradients(
        self, x: Array, labels: NDArray[np.integer], weights: Array, *, rng: np.random.Generator | None = None
    ) -> tuple[Array, ParameterViews | None]:
        """Return the loss of x in training (0-d) and the gradients: what forward, softmax_cross_entropy and backward give.

        The head, the loss and their gradients are one kernel, on a GPU one pass without logits. labels and weights are those
        of `losses.labels_and_weights`. Where the loss is seen not to be finite, there are no gradients: on the CPU, for on a
        GPU to look would be to wait.
        """
        tape: list[Any] = []
        x = self._forward(x, tape, True, rng)
        w, b = self.head.parameters["weight"], self.head.parameters["bias"]
        loss, dx, dw, db = kernels.for_array(x).linear_cross_entropy(x, w, b, labels, weights)
        if kernels.place(loss) == "cpu" and not np.isfinite(loss):
            return loss, None
        tape.append((dx, {"weight": dw, "bias": db}))
        del x, dx  # so that each dies after its last use
        return loss, self._backward(tape, input_grad=False)[1]

    def _logits(self, x: Array) -> tuple[Array, Any]:
        """Return the logits of features, in the network's dtype, and the head's cache."""
        return self.head.forward(x, out=kernels.for_array(x).empty((*x.shape[:3], self.out_channels), self.dtype))

    def _forward(self, x: Array, tape: list[Any], training: bool, rng: np.random.Generator | None) -> Array:
        """Return the features (N, P, Q, base_channels) that the head turns into logits."""
        self._check_input(x)
        x = kernels.cast(x, kernels.stored_dtype(self.dtype, kernels.place(x)))

        def run(layer: Layer, x: Array, **options: Any) -> Array:
            y, cache = layer.forward(x, training=training, rng=rng, **options)
            tape.append(cache)
            return y

        skips = []

        def down(encoder: Sequential, x: Array) -> Array:
            left, right = self._skip_halves(x, encoder)
            skip = run(encoder, x, out=left)
            skips.append((skip, right))
            return run(self.pool, skip)

        for encoder in self.encoder[:-1]:
            x = down(encoder, x)
        x = run(self.encoder[-1], x)
        x = run(self.drop, x)
        for up, decoder in zip(reversed(self.up), reversed(self.decoder), strict=True):
            skip, right = skips.pop()
            x = run(up, x, out=right)
            x, cache = ops.concat_skip(skip, x)
            tape.append(cache)
            del skip, right
            x = run(decoder, x)
        return x

    def backward(
        self, dlogits: Array, cache: list[Any], *, input_grad: bool = True
    ) -> tuple[Array | None, ParameterViews]:
        """Return dx and the gradients, views of one fresh flat array like `parameters`. The cache is used up."""
        if not cache:
            raise ValueError("cache is empty: a backward has used it up, so that its memory could go; run forward again")
        dlogits = gradient(dlogits, cache[-1], self.dtype, self.flat)  # refused before anything is used up
        cache.pop()
        cache.append(self.head.backward(dlogits, cache.pop()))
        return self._backward(cache, input_grad)

    def _backward(self, tape: list[Any], input_grad: bool) -> tuple[Array | None, ParameterViews]:
        """Read the tape from its end, on which lies what the head's backward gave."""
        dx, grads = tape.pop()
        found = {f"head.{key}": grad for key, grad in grads.items()}

        def back(name: str, layer: Layer, dy: Array, **options: Any) -> Array:
            dx, grads = layer.backward(dy, tape.pop(), **options)
            found.update({f"{name}.{key}": grad for key, grad in grads.items()})
            return dx

        dskips = []
        for i, (up, decoder) in enumerate(zip(self.up, self.decoder, strict=True)):
            dx = back(f"decoder.{i}", decoder, dx, consume=True)
            dskip, dx = ops.concat_skip_backward(dx, tape.pop())
            dskips.append(dskip)
            dx = back(f"decoder.{i}.up", up, dx)
            del dskip
        dx = back("dropout", self.drop, dx)
        dx = back(f"encoder.{self.depth}", self.encoder[-1], dx, consume=True, input_grad=input_grad or self.depth > 0)
        for i, encoder in reversed(list(enumerate(self.encoder[:-1]))):
            dx = back("pool", self.pool, dx, plus=dskips.pop())  # the skip went two ways, so its two gradients add
            dx = back(f"encoder.{i}", encoder, dx, consume=True, input_grad=input_grad or i > 0)
        views = ParameterViews(parameter_shapes(**self.config), self.dtype, kernels.for_array(self.flat).empty)
        for name, grad in found.items():  # at the end: only now is there memory that nothing else needs
            views[name][...] = grad
        return (None if dx is None else kernels.cast(dx, self.dtype)), views

    def to(self, device: str) -> Network:
        """Return this network with its parameters on a device, "cpu", "gpu" or "gpu:1": itself, if they are there.

        On a GPU it takes and gives CuPy arrays. ValueError says what is missing where there is no such device.
        """
        target = devices.resolve(device)
        if target == kernels.place(self.flat):
            return self
        network = _rebuilt(self.config, kernels.to_host(self.flat))
        with devices.using(target):
            network.parameters = network._gather_parameters(devices.backend(target))
        return network

    @property
    def flat(self) -> Array:
        """All parameters as one 1-D array; `parameters` are views of it."""
        return self.parameters.flat

    @property
    def n_parameters(self) -> int:
        """The number of trained numbers (the flat array's alignment gaps not counted)."""
        return sum(p.size for p in self.parameters.values())

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, fit for JSON: Network(**config) is this network before training."""
        names = ("in_channels", "out_channels", "base_channels", "depth", "padding", "dropout", "random_state", "algorithm")
        return {name: getattr(self, name) for name in names} | {"dtype": self.dtype.name}

    @property
    def margin(self) -> int:
        """How many pixels the output loses on each side: 0 with "same" padding, 92 in the paper's network."""
        if self.padding == "same":
            return 0
        # Level i loses 2 pixels a side in each of its two blocks, the bottleneck in its one, each 2^i input pixels wide.
        return sum(4 * 2**i for i in range(self.depth)) + 2 * 2**self.depth

    def output_size(self, h: int, w: int) -> tuple[int, int]:
        """Return the size of the logits for an input of h x w; ValueError with the nearest sizes where it does not fit."""
        for name, size in (("height", h), ("width", w)):
            if not self._fits(size):
                below = next((s for s in range(size - 1, 0, -1) if self._fits(s)), None)
                above = next(s for s in range(size + 1, size + 2 * self.margin + 2 ** (self.depth + 2)) if self._fits(s))
                nearest = f"{above}" if below is None else f"{below} or {above}"
                rule = f"a multiple of {2**self.depth}" if self.padding == "same" else "a size that halves evenly at each pooling"
                raise ValueError(
                    f"the input's {name} is {size}; padding={self.padding!r} with depth={self.depth} takes {rule}: "
                    f"the nearest is {nearest}. (minunet.UNet takes any size.)"
                )
        return h - 2 * self.margin, w - 2 * self.margin

    def logits_shape(self, x: Array) -> tuple[int, int, int, int]:
        """Return the shape of the logits of x (N, H, W, in_channels); ValueError where x is not what the network takes."""
        if x.ndim != 4 or x.shape[3] != self.in_channels:
            raise ValueError(f"x has shape {x.shape}; this network takes (N, H, W, {self.in_channels})")
        if x.dtype != self.dtype:
            raise ValueError(f"x is of dtype {x.dtype}; this network computes in {self.dtype}: x.astype({self.dtype.name!r})")
        return (x.shape[0], *self.output_size(*x.shape[1:3]), self.out_channels)

    def fitting_output(self, size: int) -> int:
        """Return the least output side of at least `size` that some input gives."""
        return next(s for s in range(size, size + 2 ** (self.depth + 1) + 1) if self._fits(s + 2 * self.margin))

    def _fits(self, size: int) -> bool:
        lost = 0 if self.padding == "same" else 4
        for _ in range(self.depth):
            size -= lost
            if size % 2 or size <= 0:
                return False
            size //= 2
        # The last block must leave a pixel, and each decoder's block too.
        size -= lost
        for _ in range(self.depth):
            size = 2 * size - lost
        return size > 0

    def _check_input(self, x: Array) -> None:
        self.logits_shape(x)
        beside("x", x, self.flat)

    def _skip_halves(self, x: Array, encoder: Sequential) -> tuple[Array | None, Array | None]:
        """Return the two halves of a buffer for one skip, for the encoder and the up-convolution to write into.

        Their concatenation then costs no copy. With "valid" padding the skip is cropped, which needs a copy anyway.
        """
        if self.padding == "valid":
            return None, None
        k = encoder.parameters["conv2.bias"].size
        buffer = kernels.for_array(x).empty((*x.shape[:3], 2 * k), x.dtype)
        return buffer[..., :k], buffer[..., k:]

    def _gather_parameters(self, backend: Any = np) -> ParameterViews:
        """Move all parameters into one flat array, in the order in which backward produces their gradients."""
        views = ParameterViews(parameter_shapes(**self.config), self.dtype, backend.empty)
        for name, layer in self._convolutions().items():
            for key, p in layer.parameters.items():
                views[f"{name}.{key}"][...] = backend.asarray(p)
                layer.parameters[key] = views[f"{name}.{key}"]
        return views

    def _convolutions(self) -> dict[str, Layer]:
        blocks = {f"encoder.{i}": block for i, block in enumerate(self.encoder)}
        blocks |= {f"decoder.{i}": block for i, block in enumerate(self.decoder)}
        found: dict[str, Layer] = {f"{name}.{key}": b.layers[key] for name, b in blocks.items() for key in ("conv1", "conv2")}
        return found | {f"decoder.{i}.up": up for i, up in enumerate(self.up)} | {"head": self.head}

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are built anew, so that their parameters are views of one array of their own, on the CPU."""
        return _rebuilt, (self.config, kernels.to_host(self.flat))

    def __repr__(self) -> str:
        tree: list[tuple[str, Layer]] = []
        for i, encoder in enumerate(self.encoder):
            tree += [*([("pool", self.pool)] if i else []), (f"encoder.{i}", encoder)]
        tree += [("dropout", self.drop)] if self.dropout else []
        for i in reversed(range(self.depth)):
            tree += [(f"decoder.{i}.up", self.up[i]), (f"decoder.{i}", self.decoder[i])]
        lines = (f"({name}): {layer!r}" for name, layer in [*tree, ("head", self.head)])
        return "Network(\n  " + "\n".join(lines).replace("\n", "\n  ") + "\n)"


class _Forgetful(list[Any]):
    """A tape that keeps nothing: inference."""

    def append(self, item: Any) -> None:
        pass


def parameter_shapes(
    in_channels: int, out_channels: int, base_channels: int, depth: int, **other: Any
) -> dict[str, tuple[int, ...]]:
    """Return the parameters' names and shapes for a config, in the network's order, allocating nothing."""
    channels = [base_channels * 2**i for i in range(depth + 1)]
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, weight: tuple[int, ...], k: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight, (k,)

    def block(name: str, c: int, k: int) -> None:
        convolution(f"{name}.conv2", (3, 3, k, k), k)
        convolution(f"{name}.conv1", (3, 3, c, k), k)

    convolution("head", (1, 1, base_channels, out_channels), out_channels)
    for i in range(depth):
        block(f"decoder.{i}", 2 * channels[i], channels[i])
        convolution(f"decoder.{i}.up", (2, 2, channels[i], channels[i + 1]), channels[i])
    for i in reversed(range(depth + 1)):
        block(f"encoder.{i}", channels[i - 1] if i else in_channels, channels[i])
    return shapes


def _rebuilt(config: dict[str, Any], flat: Array) -> Network:
    network = Network(**config)
    network.flat[...] = flat
    return network


def _check(config: dict[str, Any]) -> None:
    """Refuse what no network can be built from."""
    for name, least in (("in_channels", 1), ("out_channels", 1), ("base_channels", 1), ("depth", 0), ("random_state", 0)):
        value = config[name]
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is {value!r}; it takes a whole number from {least} up")
    if config["padding"] not in ("same", "valid"):
        raise ValueError(f"padding is {config['padding']!r}; it takes 'same' (size kept) or 'valid' (the paper's)")
    if not isinstance(config["dropout"], (int, float, np.number)) or not 0 <= config["dropout"] < 1:
        raise ValueError(f"dropout is {config['dropout']!r}; it takes 0 <= dropout < 1")
    kernels.check_algorithm(config["algorithm"], (3, 3), (1, 1))


def _float_dtype(dtype: DTypeLike) -> np.dtype:
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found not in (np.float32, np.float64):
        raise ValueError(f"dtype is {dtype!r}; it takes 'float32' or 'float64'")
    return found


def _aligned(size: int, dtype: DTypeLike, empty: Callable[..., Array]) -> Array:
    """Return an uninitialised array whose first element lies at a multiple of ALIGNMENT bytes."""
    itemsize = np.dtype(dtype).itemsize
    raw = empty((size * itemsize + ALIGNMENT,), np.uint8)
    start = -address(raw) % ALIGNMENT
    return raw[start : start + size * itemsize].view(dtype)
