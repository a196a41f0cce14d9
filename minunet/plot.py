"""Pictures for matplotlib (pip install 'minunet[plot]'). They draw into `ax`, return it, and never call show()."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .network import Network
from .summary import Step, summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONV, POOL, UP, SKIP, HEAD = "#3b6fb6", "#c0392b", "#2e8b57", "#9a9aa5", "#7d4fa3"
STEP = 0.75  # from box to box
FILL, EDGE = "#dce6f5", "#4a5a75"


Box = tuple[float, float, float, float]


def architecture(model: Any, shape: tuple[int, int] = (512, 512), ax: Axes | None = None) -> Axes:
    """Draw the U of a Network, or of a UNet before or after fit, for images of this shape (H, W), with its numbers.

    A box is an array: as high as its side, as wide as its channels (both on a root scale), channels written above and
    the size beside it. The text under each level gives its parameters, its work, and what one of its pixels sees.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'minunet[plot]'") from error
    network = model if isinstance(model, Network) else _network_of(model)
    summary = summarize(network, shape)
    if ax is None:
        _, ax = plt.subplots(figsize=(3.5 + 2.6 * network.depth, 1.6 + 1.5 * network.depth), layout="constrained")
    _U(ax, network, shape, summary.steps).draw()
    ax.set_title(
        f"{summary.n_parameters:,} parameters   ·   {summary.flops / 1e9:.1f} GFLOP forward   ·   "
        f"about {summary.training_bytes / 2**30:.2f} GB at the peak of training",
        fontsize=11, color="#333340",
    )  # fmt: skip
    ax.set_aspect("auto")
    ax.axis("off")
    return ax


def _network_of(unet: Any) -> Network:
    if hasattr(unet, "network_"):
        return unet.network_
    return Network(1, 2, unet.base_channels, unet.depth, unet.padding, unet.dropout)


class _U:
    """Places and draws the boxes: the encoder down the left, the decoder up the right, a row a level."""

    def __init__(self, ax: Axes, network: Network, shape: tuple[int, int], steps: list[Step]) -> None:
        self.ax, self.network, self.image = ax, network, shape
        self.steps = {step.name: step for step in steps}

    def draw(self) -> None:
        depth = self.network.depth
        x = self._box(0.0, 0, Step("image", (1, *self.image, self.network.in_channels), 0, 0, 1))
        skips = []
        for i in range(depth + 1):
            x = self._block(x, i, f"encoder.{i}", [])
            if i < depth:
                skips.append(x)
                pooled = self._box(x[0], i + 1, self.steps[f"pool.{i}"])
                self._arrow((x[0], x[1]), (pooled[0], pooled[2]), POOL)
                x = pooled
        for i in reversed(range(depth)):
            up = self._box(x[0], i, self.steps[f"decoder.{i}.up"])
            self._arrow((x[0], x[2]), (up[0], up[1]), UP)
            self._across(skips[i], up, SKIP, dashed=True)
            x = self._block(up, i, f"decoder.{i}", [f"decoder.{i}.up"])
        end = self._box(x[0] + STEP, 0, self.steps["head"])
        self._across(x, end, HEAD)
        self._legend()
        self.ax.set_xlim(-0.6, end[3] + 0.4)
        self.ax.set_ylim(-(depth + 0.6), 0.6)

    def _block(self, x: Box, level: int, name: str, extra: list[str]) -> Box:
        """Draw the two convolutions that follow x, and the note under them; return the last box."""
        steps = [f"{name}.conv1", f"{name}.conv2"]
        a = self._box(x[0] + STEP, level, self.steps[steps[0]])
        b = self._box(x[0] + 2 * STEP, level, self.steps[steps[1]])
        self._across(x, a, CONV)
        self._across(a, b, CONV)
        self._note(a, name, [*extra, *steps])
        return b

    def _box(self, x: float, level: int, step: Step) -> Box:
        """Draw an array about x; return its centre x, bottom, top and right edge."""
        from matplotlib.patches import Rectangle

        _, h, w, c = step.shape
        height = 0.62 * math.sqrt(h / max(self.image))
        width = 0.05 + 0.26 * math.sqrt(c / (self.network.base_channels * 2**self.network.depth))
        bottom, top = -level - height / 2, -level + height / 2
        self.ax.add_patch(Rectangle((x - width / 2, bottom), width, height, fc=FILL, ec=EDGE, lw=0.9, zorder=3))
        self.ax.text(x + 0.05, top + 0.025, str(c), va="bottom", fontsize=8.5, color="#222230")
        size = f"{h}²" if h == w else f"{h}x{w}"
        self.ax.text(x - 0.03, top + 0.03, size, ha="right", va="bottom", fontsize=6, color="#777782")
        return x, bottom, top, x + width / 2

    def _across(self, start: Box, end: Box, colour: str, dashed: bool = False) -> None:
        y = (start[1] + start[2]) / 2 + (0.25 * (end[2] - end[1]) if dashed else 0)
        left_of_end = 2 * end[0] - end[3]
        self._arrow((start[3], y), (left_of_end, y), colour, dashed)

    def _arrow(self, start: tuple[float, float], end: tuple[float, float], colour: str, dashed: bool = False) -> None:
        style = {"arrowstyle": "-|>", "color": colour, "lw": 1.4, "linestyle": "--" if dashed else "-", "shrinkA": 1}
        self.ax.annotate("", end, start, arrowprops=style, zorder=2)

    def _note(self, box: Box, name: str, steps: list[str]) -> None:
        found = [self.steps[step] for step in steps]
        text = (
            f"{name}: {sum(s.n_parameters for s in found):,}\n"
            f"{sum(s.flops for s in found) / 1e9:.1f} GFLOP, sees {found[-1].receptive_field}"
        )
        self.ax.text(box[0], box[1] - 0.05, text, ha="center", va="top", fontsize=7, color="#555560", linespacing=1.35)

    def _legend(self) -> None:
        from matplotlib.lines import Line2D

        kinds = {"conv 3x3, relu": CONV, "max-pool 2x2": POOL, "up-conv 2x2": UP, "skip, concatenated": SKIP, "conv 1x1": HEAD}
        handles = [
            Line2D([], [], color=colour, label=label, linestyle="--" if colour == SKIP else "-")
            for label, colour in kinds.items()
        ]
        self.ax.legend(handles=handles, loc="lower left", frameon=False, fontsize=9)
