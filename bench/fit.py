"""Which algorithm is the fastest for a layer, and does auto choose it?

    python bench/conv.py --fit

Times every algorithm in each pass of the 3x3 layers of some U-Nets and of odd shapes, float32, in turns, medians. The
prices of kernels/cpu/choice.py are then fitted to them: non-negative least squares on the relative errors, with what each
call costs at least, which no choice changes, as one more unknown. They are printed as they stand there. Then the check:
over each network, what auto's choice takes beside the best choice for each pass, for the prices that stand in the file
and for those fitted. At most 1.05 is asked for; else put the fitted ones in.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass

import measure
import numpy as np
from layers import Layer, agreeing, arrays_of, layers_of, minunet_pass
from scipy.optimize import nnls

from minunet.kernels.cpu import choice

ALGORITHMS = ("direct", "winograd2x2", "winograd4x4")
NETWORKS: list[measure.Config] = [(4, 256, 16), (4, 128, 32), (1, 512, 64)]
ODD = "odd shapes"  # few channels or pixels, and numbers that fill no vector and no tile: N, H, C, K
ODD_SHAPES = [
    (1, 128, 1, 8), (1, 300, 3, 64), (1, 128, 3, 16), (1, 128, 8, 8), (1, 128, 8, 2), (1, 128, 16, 4), (1, 128, 4, 4),
    (4, 64, 8, 16), (1, 64, 12, 20), (1, 33, 40, 40), (2, 50, 24, 48), (1, 64, 64, 1), (4, 32, 16, 16), (1, 16, 256, 256),
    (1, 8, 128, 128), (1, 8, 512, 512), (8, 8, 64, 64), (1, 7, 32, 32), (4, 4, 256, 256), (1, 4, 512, 512), (1, 2, 256, 256),
]  # fmt: skip
CALL = "call"


@dataclass(frozen=True)
class Timing:
    """The seconds of each algorithm, for a pass that is in a network `count` times: of c to k channels, (n, h, w, c, k)."""

    network: str
    count: int
    shape: tuple[int, int, int, int, int]
    seconds: dict[str, float]

    def chosen(self, costs: Mapping[str, float]) -> str:
        """Return what auto takes, at these prices."""
        return choice.fastest(*self.shape[1:], np.float32, costs)

    @property
    def best(self) -> str:
        """The fastest."""
        return min(self.seconds, key=lambda algorithm: self.seconds[algorithm])


def fit(arguments: argparse.Namespace) -> None:
    """Time, fit, check."""
    report = measure.Report(__doc__, arguments.json)
    configs = [arguments.config] if arguments.config else NETWORKS
    networks = {measure.name_of(*config): layers_of(config, arguments.depth) for config in configs}
    networks[ODD] = [Layer(f"batch {n}", 1, (n, h, h, c), (n, h, h, k), 3) for n, h, c, k in ODD_SHAPES]
    timings: list[Timing] = []
    for network, layers in networks.items():
        report.table(f"ms of each layer: {network}", ["layer", "pass", *ALGORITHMS, "auto"], width=46, others=11)
        for layer in layers:
            if layer.kernel == 3:
                timings += timed(network, layer, arguments, report)
    costs = fitted(timings)
    print("\nCOSTS =", json.dumps({name: float(f"{costs[name]:.3g}") for name in choice.COSTS}))
    check(timings, list(networks), costs, report)
    report.write(costs=costs, rows=[vars(timing) for timing in timings])


def timed(network: str, layer: Layer, arguments: argparse.Namespace, report: measure.Report) -> list[Timing]:
    """Time all passes of a layer, and report them."""
    arrays, found = arrays_of(layer), []
    for which in layer.passes:
        runs = {algorithm: minunet_pass(layer, which, arrays, algorithm) for algorithm in ALGORITHMS}
        runs = agreeing(f"{layer}, {which}", runs, after_relu=False)
        seconds = measure.medians(runs, arguments.repeat, warm_up=False, seconds=arguments.seconds)
        (n, h, w, c), k = layer.x_shape, layer.y_shape[3]
        timing = Timing(network, layer.count, (n, h, w, k, c) if which == "input grad" else (n, h, w, c, k), seconds)
        report.row(str(layer), which, *(f"{1e3 * s:.2f}" for s in seconds.values()), timing.chosen(choice.COSTS))
        found.append(timing)
    return found


def fitted(timings: list[Timing]) -> dict[str, float]:
    """Return the prices in multiply-adds of the direct kernels, and that of a call beside them."""
    names = [*choice.COSTS, CALL]
    equations = []  # sum of price x count / seconds = 1: the residual is the relative error
    for timing in timings:
        n, h, w, c, k = timing.shape
        for algorithm, counts in choice.work(h, w, c, k, n).items():
            equations.append([(counts | {CALL: 1}).get(name, 0) / timing.seconds[algorithm] for name in names])
    scale = np.linalg.norm(equations, axis=0)
    prices = nnls(equations / scale, np.ones(len(equations)))[0] / scale
    unit = float(prices[names.index("multiply")])
    return {name: float(price) / unit for name, price in zip(names, prices, strict=True)}


def check(timings: list[Timing], networks: list[str], costs: Mapping[str, float], report: measure.Report) -> None:
    """Print the sums over each network: auto's choice, the best, and each algorithm for all."""
    report.table("ms of each network", ["", "auto", "of best", "refitted", "of best", "best", *ALGORITHMS])
    for network in networks:
        rows = [timing for timing in timings if timing.network == network]

        def total(algorithms: list[str], rows: list[Timing] = rows) -> float:
            return 1e3 * sum(row.count * row.seconds[name] for row, name in zip(rows, algorithms, strict=True))

        best = total([row.best for row in rows])
        auto, refitted = (total([row.chosen(prices) for row in rows]) for prices in (choice.COSTS, costs))
        alone = [total([algorithm] * len(rows)) for algorithm in ALGORITHMS]
        cells = [f"{auto:.1f}", f"{auto / best:.3f}", f"{refitted:.1f}", f"{refitted / best:.3f}", f"{best:.1f}"]
        report.row(network, *cells, *(f"{one:.1f}" for one in alone))
