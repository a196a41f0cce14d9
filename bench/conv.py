"""How fast is each convolution of the U-Net, each pass and algorithm, beside oneDNN and beside what the machine can do?

    python bench/conv.py --config 1,512,64 --algorithm auto --algorithm im2col
    python bench/conv.py --fit                                                     for auto's choice: bench/fit.py

Every layer of the network, its forward, input gradient and weight gradient, each algorithm and PyTorch's oneDNN
(channels-last) in turns, medians; bench/layers.py says what is asked of each. All results are compared before anything
is timed. The image needs no gradient, so the first layer has no such row.

GFLOP/s count the products of the definition, whatever an algorithm gets by with; "of roof" is the share of the bound
min(peak, bandwidth x intensity) for those products and for each array read or written once (bench/roofline.py). So
Winograd's convolutions may pass 100 %, and so may small arrays that stay in a cache.
"""

from __future__ import annotations

import argparse
from typing import Any

import measure
from layers import ONEDNN, PASSES, Layer, agreeing, arrays_of, layers_of, minunet_pass, torch_pass
from roofline import Roofline, measure_roofline

from minunet import kernels

Rows = list[dict[str, Any]]


def main() -> None:
    """Time every layer, print its rows, and the sums over the network."""
    parser = measure.parser(__doc__, repeat=3, peers="PyTorch")
    parser.add_argument(
        "--config", type=measure.config, metavar="BATCH,SIDE,BASE", help="default: 1,512,64, and for --fit two smaller ones too"
    )
    parser.add_argument("--depth", type=measure.whole, default=4, help="poolings (default: 4)")
    parser.add_argument("--layer", action="append", metavar="TEXT", help="only layers with this in their name; may be repeated")
    parser.add_argument("--pass", action="append", dest="passes", choices=PASSES, help="only these passes; may be repeated")
    parser.add_argument(
        "--algorithm", action="append", choices=kernels.ALGORITHMS, help="may be repeated; default: all that there are"
    )
    parser.add_argument("--seconds", type=float, default=0.2, help="more rounds than --repeat until so long (default: 0.2)")
    parser.add_argument("--fit", action="store_true", help="fit and check auto's choice, from all 3 x 3 layers and passes")
    arguments = parser.parse_args()
    if arguments.fit:
        if arguments.layer or arguments.passes or arguments.algorithm:
            parser.error("--fit needs every layer, pass and algorithm")
        import fit  # which needs Numba

        return fit.fit(arguments)
    arguments.config = arguments.config or (1, 512, 64)
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
    left_out = []
    for layer in layers:
        passes = [which for which in layer.passes if which in (arguments.passes or PASSES)]
        found = [row for p in passes for row in timed(layer, p, algorithms, with_torch, arguments, roofline, report)]
        rows += found
        if passes and not found:
            left_out.append(layer.name)
    if left_out:
        report.note(f"left out, as no algorithm that was asked for serves them: {', '.join(left_out)}")
    whole = arguments.layer is None and arguments.passes is None
    title = "sum over the network" if whole else "sum over these layers"
    summarise(title, rows, algorithms, report, with_torch)
    report.note(f"measured again, {measure_roofline(5 * arguments.repeat)}")  # a processor's clock drifts by some percent
    report.write(config=arguments.config, flops=roofline.flops, bytes=roofline.bytes, rows=rows)


def matches(layer: Layer, texts: list[str] | None) -> bool:
    """Tell whether a layer was asked for."""
    return texts is None or any(text in layer.name for text in texts)


def timed(
    layer: Layer, which: str, algorithms: list[str], with_torch: bool, arguments: argparse.Namespace, roofline: Roofline,
    report: measure.Report,
) -> Rows:  # fmt: skip
    """Time one pass of one layer in every way, and report each; nothing where no algorithm serves it."""
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
