"""The U-Net of Ronneberger, Fischer and Brox (2015): a level of the U holds the U that is one level smaller.

    x -> encoder.0 ----------------- skip -----------------> decoder.0 -> head -> logits
            pool                                              up
             encoder.1 ------------ skip -----------> decoder.1
                pool                                   up
                 ...                                  ...
                    encoder.depth (the bottleneck)

Encoders and decoders are blocks (blocks.py). Level i has base_channels 2^i channels and, if "same", 1/2^i of the image's sides.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import blocks, devices, fusions, kernels, ops, sizes
from .checks import Array, array, beside, check_config, check_halves, float_dtype, require
from .flat import ParameterViews, filled, gathered, require_bound
from .kernels import shapes
from .layers import Composite, Conv2d, ConvTranspose2d, Dropout, Grads, Layer, MaxPool2d, Sequential, named
from .supervision import SideHead
from .tape import Tape, forgetting, listening, taped


class Level(Composite):
    """Level i of the U: an encoder, the way down to `inner` (the U one level smaller, or the bottleneck) and up, a decoder.

    x -> encoder ------------- skip ------------ concat -> decoder -> y
             pool -> inner, the U below -> up           (`del`: an array dies after its last use, not with the call)
    """

    def __init__(
        self, i: int, encoder: Layer, pool: MaxPool2d, inner: Layer, up: ConvTranspose2d, decoder: Layer, *, keeps_size: bool
    ) -> None:
        self.i, self.encoder, self.pool, self.inner, self.up, self.decoder = i, encoder, pool, inner, up, decoder
        self.joins = keeps_size and encoder.can("out")  # the encoder can write the skip where the concatenation will lie
        # inner has no name of its own: what it is made of keeps its names
        super().__init__(**{f"encoder.{i}": encoder, "pool": pool, "": inner, f"decoder.{i}.up": up, f"decoder.{i}": decoder})

    def forward(self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        tape = Tape(training, rng, self)
        left, right = self._halves(x)
        skip = tape.run(self.encoder, x, out=left)
        del x
        check_halves(f"level {self.i}", skip)
        x = tape.run(self.inner, tape.run(self.pool, skip))
        x = tape.run(self.up, x, out=right)
        x = tape.keep(*ops.concat_skip(skip, x))
        del skip
        return tape.run(self.decoder, x), tape

    def backward(self, dy: Array, tape: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        taped(tape, self).gradient = dy
        del dy
        decoder = tape.back(self.decoder)
        dskip, tape.gradient = ops.concat_skip_backward(tape.taken(), tape.pop())
        up = tape.back(self.up)
        inner = tape.back(self.inner)
        # The skip went two ways, so its two gradients add: dskip + dx, of the pooling in one pass.
        tape.gradient = fusions.max_pool2d_backward_plus(dskip, tape.taken(), tape.pop())
        del dskip
        encoder = tape.back(self.encoder, input_grad=input_grad)
        grads = named(f"decoder.{self.i}", decoder) | named(f"decoder.{self.i}.up", up) | inner
        return tape.taken(), grads | named(f"encoder.{self.i}", encoder)

    def _halves(self, x: Array) -> tuple[Array | None, Array | None]:
        """Return where to write the skip and what comes up: halves of one buffer, whose concatenation then costs no copy."""
        if not self.joins:
            return None, None
        k = self.up.out_channels
        buffer = kernels.serving(x).empty((*x.shape[:3], 2 * k), x.dtype)
        return buffer[..., :k], buffer[..., k:]


class Network(Composite):
    """A U-Net of `depth` poolings from in_channels to out_channels, base_channels wide at the top.

    padding "same" keeps the size, which must be a multiple of 2^depth; "valid" is the paper's: 572 gives 388. dropout
    is the rate after the bottleneck, "at the end of the contracting path". random_state seeds the weights, a whole number.
    algorithm computes the blocks' convolutions, as in kernels.algorithm. block is "double_conv", "residual" or a function
    (in_channels, out_channels, **settings) -> Layer: see blocks.py. norm, behind each 3 x 3 convolution of a block: "batch",
    "group", "instance" or None. deep_supervision: decoders below the top have side heads, which only training asks: see
    supervision.py.
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 2, base_channels: int = 64, depth: int = 4,
        padding: str = "same", dropout: float = 0.0, random_state: int = 0, dtype: DTypeLike = "float32",
        algorithm: str = "auto", block: str | blocks.Block = "double_conv", norm: str | None = None,
        deep_supervision: bool = False,
    ) -> None:  # fmt: skip
        self.in_channels, self.out_channels, self.base_channels, self.depth = in_channels, out_channels, base_channels, depth
        self.padding, self.dropout, self.random_state = padding, dropout, random_state
        self.dtype, self.algorithm, self.block = float_dtype(dtype), algorithm, blocks.by_name(block)
        self.norm, self.deep_supervision = norm, deep_supervision
        check_config(self.config)
        for name in _WHOLE:
            setattr(self, name, int(getattr(self, name)))  # NumPy's small whole numbers overflow in what is counted with them
        self.dropout = float(dropout) if isinstance(dropout, np.floating) else dropout
        self.deep_supervision = bool(deep_supervision)
        self._build(np.random.default_rng(random_state), np)

    def _require_free(self, name: str, value: Any) -> None:
        """Refuse, too, to say anew what a network was built from: its layers would not follow, and its sizes not be its own."""
        super()._require_free(name, value)
        built = "_views" in vars(self) and name in (*inspect.signature(Network).parameters, "outline")
        require(not built or value is vars(self).get(name), name, vars(self).get(name), "no other value now: make a new Network")

    def _build(self, rng: Any, backend: Any) -> None:
        """Make the layers, their weights drawn from rng: encoders, ups, decoders, head, and the heads beside the decoders."""
        depth, same = self.depth, self.padding == "same"
        settings = {"padding": 1 if same else 0, "algorithm": self.algorithm, "rng": rng, "dtype": self.dtype}
        settings |= blocks.of_norm(self.block, self.norm)
        k = [self.base_channels * 2**i for i in range(depth + 1)]
        c = [self.in_channels, *k]
        encoder = [blocks.made(self.block, f"encoder.{i}", c[i], k[i], **settings) for i in range(depth + 1)]
        up = [ConvTranspose2d(k[i + 1], k[i], 2, stride=2, rng=rng, dtype=self.dtype) for i in range(depth)]
        decoder = [blocks.made(self.block, f"decoder.{i}", 2 * k[i], k[i], **settings) for i in range(depth)]
        self.head = Conv2d(k[0], self.out_channels, 1, gain=1.0, rng=rng, dtype=self.dtype)
        for i in range(1, depth) if self.deep_supervision else ():
            side = SideHead(Conv2d(k[i], self.out_channels, 1, gain=1.0, rng=rng, dtype=self.dtype))
            decoder[i] = Sequential(**{"": decoder[i], "head": side})
        bottom = {f"encoder.{depth}": encoder[depth]} | ({"dropout": Dropout(self.dropout)} if self.dropout else {})
        self.u: Level | Sequential = Sequential(**bottom)
        for i in reversed(range(depth)):
            self.u = Level(i, encoder[i], MaxPool2d(2), self.u, up[i], decoder[i], keeps_size=same)
        super().__init__(**{"": self.u, "head": self.head})
        self._gather(backend)

    def _gather(self, backend: Any) -> None:
        self._views, self._state = gathered(self, self.dtype, backend), gathered(self, self.dtype, backend, "state")

    @kernels.contained
    def forward(self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """Return the logits (N, P, Q, out_channels) of x (N, H, W, in_channels), and the cache for one backward.

        In training cache.state is what `state` becomes by this, by name: write it there when the step is made.
        """
        tape = Tape(training, rng, self)
        with listening() as left:
            x = tape.run(self.u, self.stored(x))
        tape.state = self.renewed(left) if training else {}
        logits = kernels.serving(x).empty((*x.shape[:3], self.out_channels), self.dtype)
        return tape.run(self.head, x, out=logits), tape

    def backward(  # type: ignore[override]
        self, dlogits: Array, cache: Any, *, input_grad: bool = True
    ) -> tuple[Array | None, ParameterViews]:
        """Return dx and the gradients, views of one fresh flat array like `parameters`. The cache is used up."""
        dx, head = self.head.backward(dlogits, taped(cache, self).last())  # refused before anything is used up
        cache.pop()
        dx, inner = self.u.backward(dx, cache.pop(), input_grad=input_grad)
        return (kernels.cast(dx, self.dtype) if input_grad else None), self.gradients(named("head", head) | inner)

    @kernels.contained
    def __call__(self, x: Array) -> Array:
        """Return the logits of x in inference: nothing is kept for a backward."""
        with forgetting():
            return self.forward(x)[0]

    def stored(self, x: Array) -> Array:
        """Return an input as the network keeps activations; ValueError where it is none."""
        x = array("x", x)
        self.logits_shape(x)
        beside("x", x, self.flat)
        require_bound(self._views)
        return kernels.cast(x, kernels.stored_dtype(self.dtype, kernels.place(x)))

    def gradients(self, found: Grads) -> ParameterViews:
        """Return gradients by name as views of one fresh flat array."""
        return filled(self.parameters, found, kernels.serving(self.flat).empty)

    def renewed(self, left: Mapping[Layer, Mapping[str, Array]]) -> ParameterViews:
        """Return the state with what layers have left (tape.listening) in the place of theirs: views of one fresh flat array."""
        found = {name: left.get(leaf, leaf.state)[key] for name, (leaf, key) in self.state.owners.items()}
        return filled(self.state, found, kernels.serving(self.flat).empty)

    def to(self, device: str) -> Network:
        """Return this network with its parameters on a device, "cpu", "gpu" or "gpu:1": itself, if they are there.

        On a GPU it takes and gives CuPy arrays. ValueError says what is missing where there is no such device.
        """
        target = devices.resolve(device)
        if target == kernels.place(self.flat):
            return self
        network = _rebuilt(self.config, kernels.to_host(self.flat), kernels.to_host(self.state.flat))
        with devices.using(target):
            network._gather(devices.backend(target))
        return network

    @property
    def parameters(self) -> ParameterViews:  # type: ignore[override]
        """All parameters by name, views of `flat`."""
        return self._views

    @property
    def state(self) -> ParameterViews:  # type: ignore[override]
        """By name, views of state.flat: arrays that are saved, but not trained. A batch norm's running statistics."""
        return self._state

    @property
    def flat(self) -> Array:
        """All parameters as one 1-D array; `parameters` are views of it."""
        return self._views.flat

    @property
    def n_parameters(self) -> int:
        """The number of trained numbers (the flat array's alignment gaps not counted)."""
        return sum(p.size for p in self.parameters.values())

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, fit for JSON (but for a block of one's own): Network(**config) is this before training."""
        names = inspect.signature(Network).parameters
        return {name: getattr(self, name) for name in names} | {"dtype": self.dtype.name}

    @cached_property
    def outline(self) -> Network:
        """This network without numbers (kernels/shapes.py), on the CPU: it tells sizes."""
        return self if kernels.is_outline(self.flat) and kernels.place(self.flat) == "cpu" else outlined(self.config)

    @property
    def margin(self) -> int:
        """How many pixels the output loses on each side: 0 with "same" padding, 92 in the paper's network."""
        return sizes.margin(self)

    def output_size(self, h: int, w: int) -> tuple[int, int]:
        """Return the size of the logits for an input of h x w; ValueError with the nearest sizes where it does not fit."""
        return sizes.output_size(self, h, w)

    def fitting_output(self, size: int) -> int:
        """Return the least output side of at least `size` that some input gives."""
        return sizes.fitting_output(self, size)

    def logits_shape(self, x: Array) -> tuple[int, int, int, int]:
        """Return the shape of the logits of x (N, H, W, in_channels); ValueError where x is not what the network takes."""
        return sizes.logits_shape(self, x)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are built anew, so that their parameters are views of one array of their own, on the CPU."""
        return _rebuilt, (self.config, kernels.to_host(self.flat), kernels.to_host(self.state.flat))


_WHOLE = "in_channels", "out_channels", "base_channels", "depth", "random_state"


@kernels.contained
def outlined(config: dict[str, Any], place: str = "cpu") -> Network:
    """Return the network of a config without numbers: it takes no memory, whatever its size."""
    network = Network.__new__(Network)
    vars(network).update(config, dtype=np.dtype(config["dtype"]))
    with shapes.counting(place):
        network._build(shapes.Outlines(place), shapes)
    return network


def _rebuilt(config: dict[str, Any], flat: Array, state: Array | None = None) -> Network:
    network = Network(**config)
    network.flat[...] = flat
    if state is not None:  # pickles from before there was a norm have none
        network.state.flat[...] = state
    return network
