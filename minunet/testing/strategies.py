"""What to draw where gradients are tested: geometries, arrays, memory layouts and whole U-Nets.

    from hypothesis import given
    from minunet.testing import strategies

    @given(g=strategies.geometries(), seed=strategies.seeds())
    def test_my_convolution(g, seed):
        rng = np.random.default_rng(seed)
        x, w = strategies.integers(rng, g.x_shape), strategies.integers(rng, g.w_shape)
        assert (my_convolution(x, w, g.stride, g.padding) == minunet.ops.conv2d(x, w, **g.options)[0]).all()

What returns a SearchStrategy needs Hypothesis (pip install 'minunet[testing]'); the arrays, the layouts and the
geometries by name do not. Hypothesis draws the first value of a list far more often than the others: so the first is
nowhere a trivial one. (Drawn from 0 images up, three examples in five had none, and tested next to nothing.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..kernels.geometry import Pair, Shape, output_hw
from .layouts import LAYOUTS

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

    from ..network import Network

Floats = NDArray[np.floating]

CHANNELS = (3, 5, 2, 17, 1)  # 17: one more than a vector of 16 floats
FEW_CHANNELS = (2, 3, 1)


# Geometries


@dataclass(frozen=True)
class Geometry:
    """The sizes of a convolution, of a transposed convolution or of a pooling.

    The input is x_shape (N, H, W, C); the kernel, or the window, has kernel = (R, S) elements; k outputs (a pooling has
    none of its own). stride, padding and output_padding are (height, width) pairs.
    """

    x_shape: tuple[int, int, int, int]
    kernel: Pair
    k: int
    stride: Pair
    padding: Pair = (0, 0)
    output_padding: Pair = (0, 0)

    @property
    def options(self) -> dict[str, Pair]:
        """The keyword arguments of a convolution."""
        return {"stride": self.stride, "padding": self.padding}

    @property
    def up_options(self) -> dict[str, Pair]:
        """The keyword arguments of a transposed convolution."""
        return self.options | {"output_padding": self.output_padding}

    @property
    def pool_options(self) -> dict[str, Pair]:
        """The keyword arguments of a pooling."""
        return {"window": self.kernel, "stride": self.stride}

    @property
    def w_shape(self) -> Shape:
        """(R, S, C, K), a convolution's weight."""
        return (*self.kernel, self.x_shape[3], self.k)

    @property
    def up_w_shape(self) -> Shape:
        """(R, S, K, C), a transposed convolution's weight."""
        return (*self.kernel, self.k, self.x_shape[3])

    @property
    def y_shape(self) -> Shape:
        """(N, P, Q, K), a convolution's output: floor((H + 2 padding - R) / stride) + 1."""
        return self.x_shape[0], *output_hw(self.x_shape, self.kernel, self.stride, self.padding), self.k

    @property
    def up_shape(self) -> Shape:
        """A transposed convolution's output: (P - 1) stride - 2 padding + R + output_padding."""
        n, p, q, _ = self.x_shape
        h, w = (
            (size - 1) * self.stride[a] - 2 * self.padding[a] + self.kernel[a] + self.output_padding[a]
            for a, size in enumerate((p, q))
        )
        return n, h, w, self.k


# What a U-Net uses, and what gradients have been wrong for: to be tried by name in every test.
CONVOLUTIONS = {
    "3x3 stride 1 pad 1": Geometry((2, 5, 4, 3), (3, 3), 2, (1, 1), (1, 1)),
    "3x3 stride 1 unpadded": Geometry((1, 5, 6, 2), (3, 3), 3, (1, 1)),
    "1x1 head": Geometry((2, 3, 4, 5), (1, 1), 2, (1, 1)),
    "kernel < stride": Geometry((1, 6, 5, 2), (1, 2), 3, (2, 3), (1, 0)),
    "last window does not fit": Geometry((1, 6, 5, 2), (3, 2), 2, (2, 2)),
    "empty batch": Geometry((0, 4, 4, 2), (3, 3), 2, (1, 1), (1, 1)),
}
UP_CONVOLUTIONS = {
    "2x2 stride 2 up-convolution": Geometry((2, 3, 2, 4), (2, 2), 2, (2, 2)),
    "1x1 up-convolution of stride 2": Geometry((1, 3, 3, 2), (1, 1), 3, (2, 2)),
    "up-convolution with output padding": Geometry((1, 3, 2, 2), (3, 2), 3, (2, 3), (1, 0), (1, 2)),
    "empty batch": Geometry((0, 2, 2, 2), (2, 2), 3, (2, 2)),
}
POOLINGS = {
    "2x2 stride 2 pool": Geometry((2, 4, 6, 3), (2, 2), 1, (2, 2)),
    "overlapping pool": Geometry((2, 5, 7, 2), (3, 3), 1, (2, 2)),
    "pool window < stride": Geometry((1, 5, 6, 2), (1, 2), 1, (2, 3)),
    "last window does not fit": Geometry((1, 5, 5, 3), (2, 2), 1, (2, 2)),
    "empty batch": Geometry((0, 4, 4, 2), (2, 2), 1, (2, 2)),
}


def geometries(
    *, most: int = 7, padded: bool = True, empty: bool = True, channels: Sequence[int] = CHANNELS
) -> SearchStrategy[Geometry]:
    """Draw a convolution: any kernel, stride and padding that leave an output.

    Kernels smaller than the stride, 1 x 1, last windows that do not fit, no images (unless `empty` is False). Images
    have up to `most` pixels a side. `padded=False` pads nothing, as a pooling needs it.
    """
    return _geometries(most, padded, empty, channels, up=False)


def poolings(*, most: int = 7, empty: bool = True, channels: Sequence[int] = CHANNELS) -> SearchStrategy[Geometry]:
    """Draw a pooling: windows that overlap, touch or leave gaps, and last ones that do not fit."""
    return geometries(most=most, padded=False, empty=empty, channels=channels)


def up_geometries(*, most: int = 5, empty: bool = True, channels: Sequence[int] = CHANNELS) -> SearchStrategy[Geometry]:
    """Draw a transposed convolution: any kernel, stride, padding and output_padding that leave an output."""
    return _geometries(most, True, empty, channels, up=True)


def _geometries(most: int, padded: bool, empty: bool, channels: Sequence[int], up: bool) -> SearchStrategy[Geometry]:
    st = _hypothesis()

    @st.composite
    def drawn(draw: DrawFn) -> Geometry:
        kernel, stride, padding = (
            draw(st.tuples(st.sampled_from(sizes), st.sampled_from(sizes)))
            for sizes in ((3, 2, 1, 4), (2, 1, 3), (1, 0, 2) if padded else (0,))
        )
        least, extra = [kernel[a] - 2 * padding[a] for a in (0, 1)], (0, 0)  # pixels at least
        if up:
            extra = tuple(draw(st.sampled_from(range(stride[a] - 1, -1, -1))) for a in (0, 1))
            # (P - 1) stride - 2 padding + R + extra >= 1, solved for P
            least = [1 - (least[a] + extra[a] - 1) // stride[a] for a in (0, 1)]
        h, w = (draw(st.sampled_from(range(max(most, low, 1), max(low, 1) - 1, -1))) for low in least)
        n = draw(st.sampled_from([2, 1, 3, 2, 1, 3, 0] if empty else [2, 1, 3]))
        c, k = draw(st.sampled_from(channels)), draw(st.sampled_from(channels))
        return Geometry((n, h, w, c), kernel, k, stride, padding, extra)

    return drawn()


# Arrays, from a NumPy generator


def integers(rng: np.random.Generator, shape: Shape, dtype: DTypeLike = np.float64) -> Floats:
    """Return whole numbers from -8 to 8, as floats: every sum of products of a few thousand of them is exact.

    So a result does not depend on the order of summation, and any two correct algorithms agree in every bit.
    """
    return rng.integers(-8, 9, shape).astype(dtype)


def dyadics(rng: np.random.Generator, shape: Shape, dtype: DTypeLike = np.float64) -> Floats:
    """Return multiples of 2^-12 from -4 to 4: sums of products of three of them are exact in float64, not in float32.

    A central difference of what is linear in its argument is then exact too, and has no rounding to forgive.
    """
    return (rng.integers(-(2**14), 2**14 + 1, shape) / 2**12).astype(dtype)


def tie_free(rng: np.random.Generator, shape: Shape, dtype: DTypeLike = np.float64) -> Floats:
    """Return distinct numbers, 1 apart and at least 0.5 away from 0, in random order: no tie, and no kink near."""
    size = int(np.prod(shape))
    return rng.permutation(np.arange(size) - size // 2 + 0.5).astype(dtype).reshape(shape)


def tied(rng: np.random.Generator, shape: Shape, dtype: DTypeLike = np.float64) -> Floats:
    """Return an array of -1, 0 and 1: hardly a window without a tie."""
    return rng.integers(-1, 2, shape).astype(dtype)


def extremes(rng: np.random.Generator, shape: Shape, dtype: DTypeLike = np.float64) -> Floats:
    """Return an array full of ties, signed zeros, infinities and NaNs."""
    return rng.choice(np.array([0.0, 1.0, -0.0, -1.0, np.nan, -np.inf, np.inf, -np.inf]), shape).astype(dtype)


def seeds() -> SearchStrategy[int]:
    """Draw a seed for numpy.random.default_rng: quicker than drawing an array's elements, which need no shrinking."""
    return _hypothesis().integers(0, 2**32 - 1)


def _arrays(make: Callable[..., Floats]) -> Callable[..., SearchStrategy[Floats]]:
    def arrays(shape: Shape | SearchStrategy[Shape], dtype: DTypeLike = np.float64) -> SearchStrategy[Floats]:
        st = _hypothesis()
        shapes = st.just(shape) if isinstance(shape, tuple) else shape
        return st.builds(lambda shape, seed: make(np.random.default_rng(seed), shape, dtype), shapes, seeds())

    arrays.__doc__ = f"Draw what `{make.__name__}` returns; the shape may be drawn too."
    return arrays


integer_arrays, dyadic_arrays, tie_free_arrays, tied_arrays = map(_arrays, (integers, dyadics, tie_free, tied))


# Memory layouts


def layouts(arrays: NDArray | SearchStrategy[NDArray]) -> SearchStrategy[NDArray]:
    """Draw one of the LAYOUTS for an array, or for each that a strategy draws: compare with the result of a plain copy."""
    st = _hypothesis()
    given = st.just(arrays) if isinstance(arrays, np.ndarray) else arrays
    return st.builds(lambda lay_out, x: lay_out(x), st.sampled_from(list(LAYOUTS.values())), given)


# Whole U-Nets


@dataclass(frozen=True)
class UNetCase:
    """The arguments of a minunet.Network, and an input shape (N, H, W, C) that fits it."""

    config: dict[str, Any]
    x_shape: tuple[int, int, int, int]

    def network(self, dtype: str = "float64") -> Network:
        """Build the network, with biases that are not 0, so that no pre-activation is."""
        from ..network import Network

        network = Network(**self.config, dtype=dtype)
        rng = np.random.default_rng(self.config["random_state"])
        for name, p in network.parameters.items():
            if name.endswith("bias"):
                p[...] = rng.normal(0, 0.3, p.shape)
        return network


def unets(*, max_depth: int = 2, max_channels: int = 3, dropout: bool = True) -> SearchStrategy[UNetCase]:
    """Draw a small U-Net and an input for it: depths, channels, "same" and "valid", dropout, oblong images."""
    st = _hypothesis()
    channels = st.sampled_from(range(max_channels, 0, -1))

    @st.composite
    def drawn(draw: DrawFn) -> UNetCase:
        from ..network import Network

        config = {
            "in_channels": draw(channels), "out_channels": draw(channels), "base_channels": draw(channels),
            "depth": draw(st.sampled_from(range(max_depth, -1, -1))), "padding": draw(st.sampled_from(["same", "valid"])),
            "dropout": draw(st.sampled_from([0.4, 0.0] if dropout else [0.0])), "random_state": draw(st.integers(0, 2**20)),
        }  # fmt: skip
        network = Network(**config)
        cell = 2**network.depth if network.padding == "same" else 1
        h, w = (network.fitting_output(cell * draw(st.sampled_from([2, 1]))) + 2 * network.margin for _ in "hw")
        return UNetCase(config, (draw(st.sampled_from([2, 1])), h, w, config["in_channels"]))

    return drawn()


def _hypothesis() -> Any:
    """Return hypothesis.strategies, imported only here: the rest of this file works without."""
    try:
        from hypothesis import strategies
    except ImportError as error:
        raise ImportError("minunet.testing.strategies draws with Hypothesis: pip install 'minunet[testing]'") from error
    return strategies
