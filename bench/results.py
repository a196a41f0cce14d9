"""What did the benchmarks find? Gather their JSON files into a page of tables and a figure.

    python bench/results.py bench/out --markdown bench/RESULTS.md --figure docs/bench.png

The folder holds what the scripts wrote with --json, a file each, in the name of the script; `make bench` makes it. The
page says of each what was run and on which machine. The figure needs matplotlib, and shows what it finds files for.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import numpy as np

from minunet.files import atomic_write

ORDER = ("train_step", "train_step_avx2", "inference", "conv", "accuracy", "memory", "startup", "scaling", "tile", "roofline")
SUMS = "sum over"  # conv.py's short table: it goes first, for the long one is for those who look a layer up
Results = dict[str, dict[str, Any]]
Draw = Callable[[Any, dict[str, Any]], None]

OURS, PEERS = "#1b6ca8", ("#e07b39", "#edb183", "#9b9b9b", "#c9c9c9")


def main() -> None:
    """Read the folder, write the page and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the scripts' JSON files are")
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write the page here (default: print it)")
    parser.add_argument("--figure", type=Path, metavar="PATH", help="draw the figure here")
    arguments = parser.parse_args()
    results = read(arguments.folder)
    if not results:
        parser.error(f"{arguments.folder} holds no file that a script wrote with --json")
    page = markdown(results)
    if arguments.markdown:
        atomic_write(arguments.markdown, page.encode())
    else:
        print(page)
    if arguments.figure and measure.installed("matplotlib", "matplotlib"):
        draw(results, arguments.figure)


def read(folder: Path) -> Results:
    """Return what each file holds by the file's name, in ORDER, others after."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}
    found = {name: content for name, content in found.items() if "question" in content}  # isbi.json is of another form
    return {name: found[name] for name in sorted(found, key=lambda n: (ORDER.index(n) if n in ORDER else len(ORDER), n))}


def markdown(results: Results) -> str:
    """Return the page."""
    machines = {content["machine"].split("\n")[0].split(", load")[0] for content in results.values()}
    lines = ["# Results", "", "What `make bench` measured, on: " + "; ".join(sorted(machines)) + ".", ""]
    lines += ["Machines differ: run it on yours. Ratios above 1 say that minunet is faster, in memory that it takes more.", ""]
    for content in results.values():
        lines += [f"## {content['question']}", "", "```", content["command"], content["machine"], "```", ""]
        for table in sorted(content["tables"], key=lambda t: not t["title"].startswith(SUMS)):
            lines += [f"**{table['title']}**", "", *_rows(table), ""]
    return "\n".join(lines)


def _rows(table: dict[str, Any]) -> list[str]:
    columns = table["columns"]
    rule = ["---", *("---:" for _ in columns[1:])]
    return ["| " + " | ".join(cells) + " |" for cells in (columns, rule, *table["rows"])]


def draw(results: Results, path: Path) -> None:
    """Draw the figure: times of steps and inferences and memory above, convolutions beside their roofline below."""
    import matplotlib
    from matplotlib.figure import Figure  # without pyplot, which keeps figures and style for whoever comes next

    above: dict[str, Draw] = {"train_step": draw_steps, "inference": draw_inference, "memory": draw_memory}
    above = {name: panel for name, panel in above.items() if name in results}
    rows = (["above"] if above else []) + (["conv"] if "conv" in results else [])
    if not rows:
        raise SystemExit(f"--figure {path}: nothing to draw; it shows {', '.join(('train_step', 'inference', 'memory', 'conv'))}")
    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left"}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(11, 3.4 * len(rows)), layout="constrained", facecolor="white")
        parts = dict(zip(rows, figure.subfigures(len(rows), 1, squeeze=False)[:, 0], strict=True))
        if above:
            axes = parts["above"].subplots(1, len(above), squeeze=False)[0]
            for ax, (name, panel) in zip(axes, above.items(), strict=True):
                panel(ax, results[name])
        if "conv" in results:
            draw_convolutions(parts["conv"].subplots(), results["conv"])
        content = io.BytesIO()
        figure.savefig(content, dpi=110, format=Path(path).suffix[1:] or "png")
        atomic_write(path, content.getvalue())


def draw_steps(ax: Any, content: dict[str, Any]) -> None:
    """Draw the seconds of a training step, without the NumPy reference, which is there to be read."""
    chosen = {c: {n: s for n, s in found.items() if n != "minunet reference"} for c, found in content["seconds"].items()}
    _bars(ax, chosen, "Training Step", "times as long as minunet", "s")


def draw_inference(ax: Any, content: dict[str, Any]) -> None:
    """Draw the seconds of an inference."""
    _bars(ax, content["seconds"], "Inference", "times as long as minunet", "s")


def draw_memory(ax: Any, content: dict[str, Any]) -> None:
    """Draw the peak memory of training processes."""
    gigabytes = {c: {"minunet": s["process"] / 2**30, **({"PyTorch": s["torch"] / 2**30} if "torch" in s else {})}
                 for c, s in content["bytes"].items()}  # fmt: skip
    _bars(ax, gigabytes, "Peak Training Memory", "times as much as minunet", "GB")


def _bars(ax: Any, groups: dict[str, dict[str, float]], title: str, ratio: str, unit: str) -> None:
    """Draw a group of bars for each configuration, relative to minunet's, with the absolute numbers on them."""
    names = [*dict.fromkeys(name for group in groups.values() for name in group)]
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        for j, group in enumerate(groups.values()):
            if name in group:
                value, ours = group[name], next(v for n, v in group.items() if n.startswith("minunet"))
                place = j + (i - (len(names) - 1) / 2) * width
                colour = OURS if name.startswith("minunet") else PEERS[(i - 1) % len(PEERS)]
                ax.bar(place, value / ours, 0.92 * width, color=colour, label=name.replace(" cpu", "") if j == 0 else None)
                ax.text(place, value / ours, f"{value:.3g}", ha="center", va="bottom", fontsize=7)
    ax.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    ax.set_xticks(range(len(groups)), [_label(name) for name in groups])
    ax.set(title=f"{title} ({unit} on Bars)", ylabel=ratio)
    ax.set_ylim(top=1.3 * ax.get_ylim()[1])
    ax.legend(fontsize=7, ncols=2, frameon=False, loc="upper left")


def _label(config: str) -> str:
    batch, side, base = config.split(",")
    return f"{batch} x {side} x {side}\nbase {base}"


def draw_convolutions(ax: Any, content: dict[str, Any]) -> None:
    """Draw each layer's GFLOP/s over its three passes: minunet's own choice, oneDNN, and the roofline."""
    rows = content["rows"]
    layers = [*dict.fromkeys(row["layer"] for row in rows)]
    ours = "auto" if any(row["algorithm"] == "auto" for row in rows) else rows[0]["algorithm"]
    series = {"minunet": (ours, OURS), "PyTorch (oneDNN)": ("oneDNN", PEERS[0])}
    for i, (label, (algorithm, colour)) in enumerate(series.items()):
        speeds = [_speed([r for r in rows if r["layer"] == layer and r["algorithm"] == algorithm]) for layer in layers]
        ax.bar(np.arange(len(layers)) + 0.4 * i - 0.2, speeds, 0.38, color=colour, label=label)
    bounds = [_bound([r for r in rows if r["layer"] == layer and r["algorithm"] == ours]) for layer in layers]
    ax.hlines(bounds, np.arange(len(layers)) - 0.45, np.arange(len(layers)) + 0.45, color="0.2", label="roofline")
    ax.set_xticks(range(len(layers)), [layer.replace("encoder and decoder", "enc./dec.").replace(", ", "\n") for layer in layers],
                  rotation=55, ha="right", ma="right", rotation_mode="anchor", fontsize=7)  # fmt: skip
    ax.set(title=f"Convolutions of {_label(','.join(map(str, content['config']))).replace(chr(10), ', ')}, All Passes",
           ylabel="GFLOP/s of the definition")  # fmt: skip
    ax.legend(fontsize=8, frameon=False, ncols=3, loc="upper left")
    ax.set_ylim(top=1.2 * ax.get_ylim()[1])


def _speed(rows: list[dict[str, Any]]) -> float:
    """Return GFLOP/s over several passes."""
    return sum(row["flops"] for row in rows) / sum(row["seconds"] for row in rows) / 1e9 if rows else 0


def _bound(rows: list[dict[str, Any]]) -> float:
    """Return the GFLOP/s of several passes that each take their least time."""
    return sum(row["flops"] for row in rows) / sum(row["flops"] / row["bound"] for row in rows) / 1e9 if rows else 0


if __name__ == "__main__":
    main()
