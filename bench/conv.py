"""How fast is each convolution of the U-Net, each pass and algorithm, beside oneDNN and beside what the machine can do?

    python bench/conv.py --config 1,512,64 --algorithm auto --algorithm im2col

Every layer of the network, its forward, input gradient and weight gradient, each algorithm and PyTorch's oneDNN
(channels-last) in turns, medians. The forward has bias and relu, the gradients the mask of relu, as in training. PyTorch
is asked for less: its convolution alone, with no relu, and a gradient that is already masked. Both allocate their result.
All results are compared before anything is timed. The image needs no gradient, so the first layer has no such row.

GFLOP/s count the products of the definition, whatever an algorithm gets by with; "of roof" is the share of the bound
min(peak, bandwidth x intensity) for those products and for each array read or written once (bench/roofline.py). So
Winograd's convolutions may pass 100 %, and so may small arrays that stay in a cache.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import measure
import numpy as np
from roofline import Roofline, measure_roofline

from minunet import kernels

PASSES = ("forward", "input grad", "weight grad")
ONEDNN = "oneDNN"
TOLERANCE = 1e-3  # of the largest element: an error here is a wrong result, not rounding
Pass = Callable[[], np.ndarray]
Rows = list[dict[str, Any]]


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


def main() -> None:
    """Time every layer, print its rows, and the sums over the network."""
    parser = measure.parser(__doc__, repeat=3, peers="PyTorch")
    parser.add_argument("--config", type=measure.config, default="1,512,64", metavar="BATCH,SIDE,BASE", help="default: 1,512,64")
    parser.add_argument("--depth", type=measure.whole, default=4, help="poolings (default: 4)")
    parser.add_argument("--layer", action="append", metavar="TEXT", help="only layers with this in their name; may be repeated")
    parser.add_argument("--pass", action="append", dest="passes", choices=PASSES, help="only these passes; may be repeated")
    parser.add_argument(
        "--algorithm", action="append", choices=kernels.ALGORITHMS, help="may be repeated; default: all that there are"
    )
    parser.add_argument("--seconds", type=float, default=0.2, help="more rounds than --repeat until so long (default: 0.2)")
    arguments = parser.parse_args()
    layers = [la for la in layers_of(arguments.config, arguments.depth) if matches(la, arguments.layer)]
    if not layers:
        parser.error(f"no layer has {' or '.join(arguments.layer)} in its name")
    report = measure.Report(__doc__, arguments.json)
    with_torch = not arguments.skip_peers and measure.installed("torch", "PyTorch")
    algorithms = arguments.algorithm or list(kernels.ALGORITHMS)
    roofline = measure_roofline(5 * arguments.repeat)
    report.note(str(roofline))
    columns = ["layer", "pass", "algorithm", "ms", "GFLOP/s", "of roof", *([f"{ONEDNN} ms", "as fast"] if with_torch else [])]
    report.table(f"each layer: {measure.name_of(*arguments.config)}", columns, width=42, others=11)
    rows: Rows = []
    for layer in layers:
        for which in layer.passes:
            if which in (arguments.passes or PASSES):
                rows += timed(layer, which, algorithms, with_torch, arguments, roofline, report)
    whole = arguments.layer is None and arguments.passes is None
    title = "sum over the network" if whole else "sum over these layers"
    summarise(title, rows, algorithms, report, with_torch)
    report.note(f"measured again, {measure_roofline(5 * arguments.repeat)}")  # a processor's clock drifts by some percent
    report.write(config=arguments.config, flops=roofline.flops, bytes=roofline.bytes, rows=rows)


def matches(layer: Layer, texts: list[str] | None) -> bool:
    """Tell whether a layer was asked for."""
    return texts is None or any(text in layer.name for text in texts)


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


def timed(
    layer: Layer, which: str, algorithms: list[str], with_torch: bool, arguments: argparse.Namespace, roofline: Roofline,
    report: measure.Report,
) -> Rows:  # fmt: skip
    """Time one pass of one layer in every way, and report each."""
    arrays = arrays_of(layer)
    runs = {name: minunet_pass(layer, which, arrays, name) for name in algorithms}
    if with_torch:
        runs[ONEDNN] = torch_pass(layer, which, arrays)
    runs = agreeing(f"{layer}, {which}", runs, after_relu=layer.relu and which == "forward")
    seconds = measure.medians(runs, arguments.repeat, warm_up=False, seconds=arguments.seconds)
    rows = []
    for name, value in seconds.items():
        floor = roofline.seconds(layer.flops, layer.bytes(which))
        row = {
            "layer": str(layer), "count": layer.count, "pass": which, "algorithm": name, "seconds": value,
            "flops": layer.flops, "share": floor / value, "bound": layer.flops / floor,
        }  # fmt: skip
        rows.append(row)
        if name != ONEDNN:
            peer = [f"{1e3 * seconds[ONEDNN]:.2f}", f"{seconds[ONEDNN] / value:.2f} x"] if with_torch else []
            speed = f"{layer.flops / value / 1e9:.1f}"
            report.row(str(layer), which, name, f"{1e3 * value:.2f}", speed, f"{row['share']:.0%}", *peer)
    return rows


def agreeing(what: str, runs: dict[str, Pass], after_relu: bool) -> dict[str, Pass]:
    """Return the runs whose algorithm serves this shape, warm and found to give one result; stop where one differs.

    after_relu compares what relu leaves, for the peer's forward has none.
    """
    results = {}
    for name, run in runs.items():
        try:
            results[name] = np.maximum(run(), 0) if after_relu else run()
        except ValueError:  # an algorithm that was asked for by name refuses the shapes that it cannot do
            continue
    expected_by = ONEDNN if ONEDNN in results else next(iter(results))
    expected = results[expected_by]
    for name, result in results.items():
        error = float(np.abs(result - expected).max() / np.abs(expected).max())
        if not error <= TOLERANCE:
            raise SystemExit(f"{what}: {name} differs from {expected_by} by {error:.2g} of the largest element")
    return {name: runs[name] for name in results}


def minunet_pass(layer: Layer, which: str, arrays: Arrays, algorithm: str) -> Pass:
    """Return one pass through the kernels that serve these arrays; of a weight gradient, it returns dw."""
    a, kernel = arrays, kernels.for_array(arrays.x)
    options: dict[str, Any] = {**layer.geometry, "algorithm": algorithm}
    if layer.transposed:  # the adjoint of a convolution: its forward is that one's input gradient, and so on

        def weight_grad() -> np.ndarray:
            kernel.bias_grad(a.dy)
            return kernel.conv2d_weight_grad(a.dy, a.x, a.w.shape, **options)[0]

        passes: dict[str, Pass] = {
            "forward": lambda: kernel.conv2d_input_grad(a.x, a.w, layer.y_shape, b=a.b, **options),
            "input grad": lambda: kernel.conv2d(a.dy, a.w, **options),
            "weight grad": weight_grad,
        }
    else:
        passes = {
            "forward": lambda: kernel.conv2d(a.x, a.w, a.b, relu=layer.relu, **options),
            "input grad": lambda: kernel.conv2d_input_grad(a.dy, a.w, layer.x_shape, mask=a.mask, **options),
            "weight grad": lambda: kernel.conv2d_weight_grad(a.x, a.dy, a.w.shape, mask=a.mask, **options)[0],
        }
    return passes[which]


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


def summarise(title: str, rows: Rows, algorithms: list[str], report: measure.Report, with_torch: bool) -> None:
    """Print the sums: each pass and all three, each algorithm."""
    columns = ["pass", "algorithm", "ms", "GFLOP/s", "mean of roof", "least of roof"]
    report.table(title, columns + ([f"{ONEDNN} ms", "as fast"] if with_torch else []))
    for which in (*PASSES, "all"):
        chosen = [row for row in rows if which in (row["pass"], "all")]
        theirs = {(row["layer"], row["pass"]): row for row in chosen if row["algorithm"] == ONEDNN}
        for algorithm in algorithms:
            ours = [row for row in chosen if row["algorithm"] == algorithm]
            if ours:
                peers = [theirs[row["layer"], row["pass"]] for row in ours] if with_torch else []
                report.row(*summary_cells(which, algorithm, ours, peers))
    report.note("mean of roof: the layers' shares weighted by their operations; least: that of the slowest beside its roof")


def summary_cells(which: str, algorithm: str, ours: Rows, peers: Rows) -> list[str]:
    """Return a row of the summary; where an algorithm refuses layers, ours and the peer's sums are of those it serves."""
    seconds, theirs = total(ours, "seconds"), total(peers, "seconds")
    flops = total(ours, "flops")
    mean = sum(row["count"] * row["flops"] * row["share"] for row in ours) / flops
    cells = [which, algorithm, f"{1e3 * seconds:.1f}", f"{flops / seconds / 1e9:.1f}", f"{mean:.0%}"]
    cells.append(f"{min(row['share'] for row in ours):.0%}")
    return cells + ([f"{1e3 * theirs:.1f}", f"{theirs / seconds:.2f} x"] if peers else [])


def total(rows: Rows, key: str) -> float:
    """Return the sum over the network, where some layers stand twice."""
    return sum(row["count"] * row[key] for row in rows)


if __name__ == "__main__":
    main()
