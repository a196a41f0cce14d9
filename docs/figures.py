"""Draws the figures of docs/backprop.md: python docs/figures.py [FOLDER] (needs matplotlib)."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from minunet import kernels
from minunet.drawing import CONV, COPIED, DARK, EDGE, HEAD, LIGHT, POOL, SKIP, UP

WINDOW, PALE = "#f5b942", "#fdf0d2"
SHADES = ("#e3e7ee", COPIED, "#e3e7ee")  # of tapes that lie in each other


def cells(
    ax: Axes, values: np.ndarray, left: float, top: float, colours: dict[tuple[int, int], str] | None = None,
    size: float = 13,
) -> None:  # fmt: skip
    """Draw a matrix as squares of side 1, its first row at the top; `colours` fills some of them."""
    for (i, j), value in np.ndenumerate(values):
        colour = (colours or {}).get((i, j), "white")
        ax.add_patch(Rectangle((left + j, top - i - 1), 1, 1, facecolor=colour, edgecolor=EDGE, lw=0.9))
        text = value if isinstance(value, str) else f"{value:g}".replace("-", "\N{MINUS SIGN}")
        ax.text(left + j + 0.5, top - i - 0.5, text, ha="center", va="center", fontsize=size, color=DARK)


def label(ax: Axes, x: float, y: float, text: str, size: float = 11, colour: str = DARK, **style: object) -> None:
    ax.text(x, y, text, **({"ha": "center", "va": "center", "fontsize": size, "color": colour} | style))


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, curve: float = 0.0) -> None:
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1.8, "mutation_scale": 13, "shrinkA": 2, "shrinkB": 2}
    ax.annotate("", end, start, arrowprops=style | {"connectionstyle": f"arc3,rad={curve}"})


def blank(width: float, height: float, xlim: tuple[float, float], ylim: tuple[float, float]) -> tuple[Figure, Axes]:
    figure, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.set(xlim=xlim, ylim=ylim, aspect="equal")
    ax.axis("off")
    return figure, ax


def im2col() -> Figure:
    """The page's tiny example: one window of x, and its row in the column matrix."""
    x = np.array([[1, 2, 0], [0, 1, 3], [2, 0, 1]], float)
    w = np.array([[1, 2], [0, -1]], float)
    with kernels.use_backend("reference"):
        cols = kernels.for_array(x).im2col(x[None, :, :, None], (2, 2), stride=(1, 1), padding=(0, 0))
    y = cols @ w.reshape(4, 1)
    figure, ax = blank(10, 4.1, (-0.3, 15.9), (-1.3, 5.3))
    window = {(0, 1): WINDOW, (0, 2): WINDOW, (1, 1): WINDOW, (1, 2): WINDOW}
    cells(ax, x, 0, 3.5, window)
    label(ax, 1.5, 4.85, "x   (3 x 3)", 12)
    label(ax, 1.5, -0.2, "the window of\noutput pixel (0, 1)", 10, LIGHT)
    cells(ax, cols, 6.6, 4, {(1, j): WINDOW for j in range(4)})
    label(ax, 8.6, 4.85, "cols = im2col(x)", 12)
    for i, (p, q) in enumerate(np.ndindex(2, 2)):
        label(ax, 6.3, 3.5 - i, f"({p}, {q})", 10, LIGHT, ha="right")
    label(ax, 6.3, 4.3, "pixel (p, q)", 9, LIGHT, ha="right")
    for j, (r, s) in enumerate(np.ndindex(2, 2)):
        label(ax, 7.1 + j, -0.3, f"({r}, {s})", 10, LIGHT)
    label(ax, 8.6, -0.85, "tap (r, s): the window, read row by row", 9, LIGHT)
    label(ax, 8.6, 4.3, "(P Q, R S C) = (4, 4)", 9, LIGHT)
    arrow(ax, (3.1, 2.5), (5.35, 2.5), POOL)
    label(ax, 11.3, 2, "@", 17)
    cells(ax, w.reshape(4, 1), 12, 4, {(i, 0): "#cfdff3" for i in range(4)})
    label(ax, 12.5, 4.85, "w", 12)
    label(ax, 12.5, -0.3, "(R S C, K)", 9, LIGHT)
    label(ax, 12.5, -0.85, "= (4, 1)", 9, LIGHT)
    label(ax, 13.7, 2, "=", 17)
    cells(ax, y, 14.4, 4, {(1, 0): WINDOW})
    label(ax, 14.9, 4.85, "y", 12)
    label(ax, 14.9, -0.3, "(P Q, K)", 9, LIGHT)
    label(ax, 14.9, -0.85, "= (4, 1)", 9, LIGHT)
    return figure


def input_gradient() -> Figure:
    """Which dy one pixel of x gathers, and through which tap, for a 3 x 3 kernel at stride 1 and stride 2."""
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 7.35), layout="constrained")
    cases = [
        (1, (3, 3), "stride 1:\nnine windows hold the pixel"),
        (2, (2, 2), "stride 2, even row and column:\nfour windows"),
        (2, (3, 3), "stride 2, odd row and column:\none window"),
    ]
    for ax, (stride, pixel, title) in zip(axes, cases, strict=True):
        ax.set(xlim=(-0.3, 7.3), ylim=(-7.2, 9.4), aspect="equal")
        ax.axis("off")
        label(ax, 3.5, 9.0, title, 11)
        side = (7 - 3) // stride + 1
        reached = {}
        for p, q in np.ndindex(side, side):
            r, s = pixel[0] - p * stride, pixel[1] - q * stride
            if 0 <= r < 3 and 0 <= s < 3:
                reached[p, q] = f"w{r}{s}"
        covered = {(p * stride + r, q * stride + s): PALE for p, q in reached for r in range(3) for s in range(3)}
        cells(ax, np.full((7, 7), ""), 0, 7.6, covered | {pixel: WINDOW})
        label(ax, pixel[1] + 0.5, 7.1 - pixel[0], "dx", 11)
        for (p, q), colour in zip((min(reached), max(reached)), (CONV, POOL), strict=True):
            corner = (q * stride + 0.07, 7.6 - p * stride - 3 + 0.07)
            ax.add_patch(Rectangle(corner, 2.86, 2.86, fill=False, edgecolor=colour, lw=2.2, linestyle=(0, (4, 2))))
        label(ax, 3.5, 8.15, "x, dx (7 x 7)", 10.5)
        left, top = 3.5 - side / 2, -1.2
        taps = np.full((side, side), "", dtype="<U3")
        for place, tap in reached.items():
            taps[place] = tap
        cells(ax, taps, left, top, {place: WINDOW for place in reached}, 10)
        for (p, q), colour in zip((min(reached), max(reached)), (CONV, POOL), strict=True):
            corner = (left + q + 0.06, top - p - 0.94)
            ax.add_patch(Rectangle(corner, 0.88, 0.88, fill=False, edgecolor=colour, lw=2.2, linestyle=(0, (4, 2))))
        label(ax, 3.5, -0.75, f"dy ({side} x {side})", 10.5)
        arrow(ax, (3.5, -0.35), (3.5, 0.5), EDGE)
        total = "sum of the 9" if len(reached) == 9 else " + ".join(f"{tap} dy{p}{q}" for (p, q), tap in reached.items())
        label(ax, 3.5, top - side - 0.6, f"dx = {total}" + ("" if len(reached) < 9 else " products w dy"), 9.5)
    return figure


def tape() -> Figure:
    """The U's tapes in each other: forward down the page, each line leaving its cache; backward up, each line taking it."""
    steps = [
        ("x = encoder.0(x)", "x, w, y (twice)", "dx, dw, db = encoder.0 backward", CONV),
        ("x = pool(x)", "argmax", "dx = dskip + pool backward", POOL),
        ("x = encoder.1(x)", "x, w, y (twice)", "dx, dw, db = encoder.1 backward", CONV),
        ("x = pool(x)", "argmax", "dx = dskip + pool backward", POOL),
        ("x = encoder.2(x)", "x, w, y (twice)", "dx, dw, db = encoder.2 backward", CONV),
        ("x = up.1(x)", "x, w", "dx, dw, db = up.1 backward", UP),
        ("x = concat(skip, x)", "shapes", "dskip, dx = concat backward", SKIP),
        ("x = decoder.1(x)", "x, w, y (twice)", "dx, dw, db = decoder.1 backward", CONV),
        ("x = up.0(x)", "x, w", "dx, dw, db = up.0 backward", UP),
        ("x = concat(skip, x)", "shapes", "dskip, dx = concat backward", SKIP),
        ("x = decoder.0(x)", "x, w, y (twice)", "dx, dw, db = decoder.0 backward", CONV),
        ("logits = head(x)", "x, w", "dx, dw, db = head backward", HEAD),
    ]
    tapes = [("network", 0, 11), ("level 0", 0, 10), ("level 1", 2, 7)]  # each lies on the one before it
    last = len(steps) - 1
    figure, ax = blank(10.5, 7.8, (-1.4, 18.6), (-last - 2.2, 1.5))
    for depth, (name, first, final) in enumerate(tapes):
        left, right, top, bottom = 6.0 + 0.4 * depth, 10.2 - 0.13 * depth, 0.5 - first - 0.05 * depth, -final - 0.5 + 0.05 * depth
        ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, facecolor=SHADES[depth], edgecolor=EDGE, lw=1))
        label(ax, left + 0.2, (top + bottom) / 2 if depth < 2 else -4.5, f"tape of {name}", 8, LIGHT, rotation=90)
    for i, (forward, cache, backward, colour) in enumerate(steps):
        for left, width, text in ((0.6, 4.6, forward), (11.0, 5.4, backward)):
            box = FancyBboxPatch((left, -i - 0.33), width, 0.66, boxstyle="round,pad=0,rounding_size=0.12")
            box.set(facecolor="white", edgecolor=colour, lw=1.6)
            ax.add_patch(box)
            label(ax, left + width / 2, -i, text, 9.5, family="monospace")
        inset = 6.4 + 0.4 * max(depth for depth, (_, first, final) in enumerate(tapes) if first <= i <= final)
        ax.add_patch(Rectangle((inset, -i - 0.33), 9.8 - inset, 0.66, facecolor="white", edgecolor=EDGE, lw=0.8))
        label(ax, (inset + 9.8) / 2, -i, cache, 7.3)
        arrow(ax, (5.25, -i), (6.0, -i), LIGHT)
        arrow(ax, (10.2, -i), (10.95, -i), LIGHT)
    for encoder, concat, bend in ((0, 9, 1.55), (2, 6, 0.75)):
        for side, start, end in ((1, encoder, concat), (-1, concat, encoder + 1)):
            near = 0.6 if side > 0 else 16.4
            far = near - side * bend
            ax.plot([near, far, far], [-start, -start, -end], color=SKIP, lw=1.5, linestyle=(0, (4, 2.5)))
            ax.annotate("", (near, -end), (far, -end), arrowprops={"arrowstyle": "-|>", "color": SKIP, "lw": 1.5})
            name = "skip" if side > 0 else "dskip"
            label(ax, far - side * 0.2, -(start + end) / 2, name, 9, LIGHT, rotation=90 * side)
    label(ax, 2.95, 1.15, "forward: down the page", 11.5, fontweight="bold")
    label(ax, 8.1, 1.15, "tapes: stacks of caches", 11.5, fontweight="bold")
    label(ax, 13.7, 1.15, "backward: up the page", 11.5, fontweight="bold")
    arrow(ax, (2.95, 0.95), (2.95, 0.4), DARK)
    arrow(ax, (13.7, 0.35), (13.7, 0.95), DARK)
    label(ax, 8.1, -last - 1.35, "value, dlogits = loss.value_and_grad(logits, target)", 9.5, family="monospace")
    arrow(ax, (2.95, -last - 0.35), (4.2, -last - 1.1), DARK)
    arrow(ax, (12.1, -last - 1.1), (13.7, -last - 0.35), DARK)
    return figure


FIGURES = {"im2col.png": im2col, "input-gradient.png": input_gradient, "tape.png": tape}


def main(folder: Path) -> None:
    for name, draw in FIGURES.items():
        figure = draw()
        figure.savefig(folder / name, dpi=110, metadata={"Software": None}, pil_kwargs={"optimize": True})
        plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
