"""How many digits does each algorithm of a convolution keep, each pass, beside oneDNN?

    python bench/accuracy.py

Convolutions of the U-Net, C channels into as many, on numbers as training has them: activations from relu, weights of He's
size, normal gradients, the mask of relu. The exact result is the NumPy specification's in float64, of the same float32
numbers. The weight gradient sums over pixels, so its error grows with the image; the others' grow with the channels.

The last table has no measurement: it says how large the terms of a sum may become on the way, where the result itself is
at most 9 (the direct product) times the largest input times the largest weight. F(6x6) is not among the algorithms.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from fractions import Fraction

import measure
import numpy as np
from layers import ONEDNN, PASSES, Arrays, Layer, arrays_of, minunet_pass, torch_pass

from minunet import kernels
from minunet.kernels.cpu.winograd_matrices import POINTS, amplification, matrices

ALGORITHMS = ("direct", "im2col", "winograd2x2", "winograd4x4")
LAYERS = ((16, 512), (64, 256), (256, 128), (1024, 32))  # channels, side
HALF = Fraction(1, 2)
TILES = {**POINTS, 6: (0, 1, -1, 2, -2, HALF, -HALF)}
Errors = dict[str, tuple[float, float]]


def main() -> None:
    """Measure each layer and pass, and print a table of the largest errors, one of the mean ones, and one of the matrices."""
    parser = measure.parser(__doc__, peers="PyTorch")
    chosen = "may be repeated; default: " + " ".join(f"{c},{side}" for c, side in LAYERS)
    parser.add_argument("--layer", action="append", type=channels_and_side, metavar="C,SIDE", help=chosen)
    arguments = parser.parse_args()
    report = measure.Report(__doc__, arguments.json)
    with_torch = not arguments.skip_peers and measure.installed("torch", "PyTorch")
    names = [*ALGORITHMS, *([ONEDNN] if with_torch else [])]
    found = {
        f"{c} > {c} at {side}, {which}": errors(of_size(c, side), which, with_torch)
        for c, side in arguments.layer or LAYERS
        for which in PASSES
    }
    for i, title in enumerate(("largest error over largest result", "root mean square error over that of the result")):
        report.table(title, ["layer, pass", *names], width=32)
        for what, by_name in found.items():
            report.row(what, *(f"{by_name[name][i]:.1e}" for name in names))
    magnified(report)
    report.write(errors=found)


def channels_and_side(text: str) -> tuple[int, int]:
    """Return channels and side, for argparse."""
    try:
        c, side = map(measure.whole, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not C,SIDE, as in 64,256") from None
    return c, side


def of_size(c: int, side: int) -> Layer:
    """Return a 3x3 convolution of one image, with bias and relu."""
    return Layer("", 1, (1, side, side, c), (1, side, side, c), 3)


def errors(layer: Layer, which: str, with_torch: bool) -> Errors:
    """Return each algorithm's largest error over the largest result, and the same of the root mean squares."""
    arrays = arrays_of(layer)
    runs = {name: minunet_pass(layer, which, arrays, name) for name in ALGORITHMS}
    if with_torch:
        runs[ONEDNN] = torch_pass(layer, which, arrays)
    with kernels.use_backend("reference"):
        exact = minunet_pass(layer, which, doubled(arrays), "direct")()
    found = {}
    for name, run in runs.items():
        result = np.maximum(run(), 0) if which == "forward" else run()  # the peer's forward has no relu
        wrong = result - exact
        found[name] = (float(np.abs(wrong).max() / np.abs(exact).max()), float(np.sqrt((wrong**2).mean() / (exact**2).mean())))
    return found


def doubled(a: Arrays) -> Arrays:
    """Return the same numbers in float64."""
    return replace(a, **{name: getattr(a, name).astype(float) for name in ("x", "w", "b", "dy", "mask")})


def magnified(report: measure.Report) -> None:
    """Print what Winograd's matrices may make of numbers: no measurement, exact."""
    columns = ["F(m x m)", "y and dx", "dw", "in B^T", "in A^T"]
    report.table("how large terms may become, beside max |x| times max |w|", columns, width=10)
    for m, points in TILES.items():
        forward, backward = matrices(m, 3, points), matrices(3, m, points)
        largest = [max(abs(entry) for row in matrix for entry in row) for matrix in (forward.bt, forward.at)]
        numbers = (amplification(forward), amplification(backward), *largest)
        report.row(f"{m} x {m}", *(f"{float(number):.4g}" for number in numbers))


if __name__ == "__main__":
    main()
