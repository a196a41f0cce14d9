"""How does the time of a training step grow: with pixels, with the batch, with channels, and against threads?

    python bench/scaling.py --side 64 --side 128 --side 256 --base 8 --base 16 --base 32

One of the four grows at a time, from --config; its steps take turns, medians. The exponent is the slope of a least-squares
line through the logarithms: time ~ size^exponent. Arithmetic alone would give 1 for pixels and for the batch, 2 for
channels, -1 for threads; what a step costs whatever its size (calls, small layers) lowers the first three.
"""

from __future__ import annotations

from collections.abc import Sequence

import measure
import numpy as np
from measure import Config, Run

from minunet import Network, kernels, optim
from minunet.training import step


def main() -> None:
    """Print a table for each of the four, and the exponents."""
    parser = measure.parser(__doc__, repeat=5)
    parser.add_argument("--config", type=measure.config, default="1,128,16", metavar="BATCH,SIDE,BASE", help="default: 1,128,16")
    defaults = {"side": [64, 128, 256], "batch": [1, 2, 4, 8], "base": [8, 16, 32], "threads": doublings(kernels.n_threads())}
    for name, values in defaults.items():
        shown = " ".join(map(str, values))
        parser.add_argument(f"--{name}", action="append", type=measure.whole, metavar="N", help=f"repeated; default: {shown}")
    arguments = parser.parse_args()
    report = measure.Report(__doc__, arguments.json)
    batch, side, base = arguments.config
    chosen = {name: getattr(arguments, name) or values for name, values in defaults.items()}
    threads = kernels.n_threads()
    series: dict[str, dict[int, Run]] = {
        "pixels": {n * n: training((batch, n, base), threads) for n in chosen["side"]},
        "batch": {n: training((n, side, base), threads) for n in chosen["batch"]},
        "base channels": {n: training((batch, side, n), threads) for n in chosen["base"]},
        "threads": {n: training(arguments.config, n) for n in chosen["threads"]},
    }
    exponents, results = {}, {}
    for name, runs in series.items():
        seconds = measure.medians({str(n): run for n, run in runs.items()}, arguments.repeat)
        title = f"a training step against {name}: otherwise {measure.name_of(*arguments.config)}"
        report.table(title, [name, "seconds", "times the first"], width=16)
        for n, value in seconds.items():
            report.row(n, f"{value:.4f}", f"{value / next(iter(seconds.values())):.2f} x")
        results[name] = seconds
        if len(runs) > 1:
            exponents[name] = exponent([*runs], [*seconds.values()])
    report.table("time ~ size^exponent", ["size", "exponent"], width=16)
    for name, value in exponents.items():
        report.row(name, f"{value:.2f}")
    report.write(seconds=results, exponents=exponents)


def doublings(most: int) -> list[int]:
    """Return 1, 2, 4 ... and `most`."""
    return [*(2**i for i in range(most.bit_length()) if 2**i < most), most]


def training(config: Config, threads: int) -> Run:
    """Return a training step of that configuration on so many threads."""
    batch, side, base = config
    network, optimizer, (x, labels) = Network(1, 2, base), optim.Adam(), measure.data(batch, side)

    def run() -> None:
        with kernels.threads(threads):
            step(network, optimizer, x, labels)

    return run


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the slope of log(seconds) over log(size)."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


if __name__ == "__main__":
    main()
