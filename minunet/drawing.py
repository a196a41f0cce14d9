"""The drawing of the U: which box stands where, and the arrows between them. plot.architecture is its door."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from .room import size_text
from .summary import Step, Summary, flops_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONV, POOL, UP, SKIP, HEAD = "#2f6cb3", "#c8402f", "#2c8f57", "#8d93a0", "#7a4ba0"
FILL, COPIED, EDGE = "#cfdff3", "#f4f5f7", "#3f5474"
DARK, LIGHT = "#23293a", "#6c7382"
STEP = 0.82  # from box to box
GAP = 0.66  # from the boxes of one level to those of the next


class Box(NamedTuple):
    """An array, drawn: its centre, width and height."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        return self.y + self.height / 2

    @property
    def bottom(self) -> float:
        return self.y - self.height / 2


class U:
    """Places the boxes, the encoder down the left and the decoder up the right, a row a level; then draws them."""

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        self.steps = {step.name: step for step in summary.steps}
        self.depth = sum(name.startswith("pool.") for name in self.steps)
        self.widest = max(step.shape[3] for step in summary.steps)
        heights = [self._height((self._of(f"encoder.{i}") or summary.steps)[0]) for i in range(self.depth + 1)]
        self.rows = [0.0]  # the level's height on the page
        for above, below in itertools.pairwise(heights):
            self.rows.append(self.rows[-1] - (above + below) / 2 - GAP)
        boxes = sum(len(self._drawn(f"{side}.{i}")) for side in ("encoder", "decoder") for i in range(self.depth + 1))
        self.step = STEP if summary.block == "double_conv" else 2 * STEP  # a block is as wide: its note fits between arrows
        self.width = self.step * boxes + STEP + 0.6
        self.height = heights[0] / 2 - self.rows[-1] + heights[-1] / 2 + 0.7

    def draw(self, ax: Axes) -> None:
        self.ax = ax
        summary = self.summary
        x = self._box(0.0, 0, Step("image", summary.image, 0, 0, 1))
        skips = []
        for i in range(self.depth + 1):
            x = self._block(x, i, f"encoder.{i}", [])
            if i < self.depth:
                skips.append(x)
                pooled = self._box(x.x, i + 1, self.steps[f"pool.{i}"])
                self._arrow((x.x, x.bottom), (x.x, pooled.top), POOL)
                x = pooled
        for i in reversed(range(self.depth)):
            copy, up = self._joined(x.x, i, self.steps[f"decoder.{i}.up"])
            self._arrow((x.x, x.top), (x.x, up.bottom), UP)
            y = copy.y + 0.25 * copy.height
            self._arrow((skips[i].right, y), (copy.left, y), SKIP)
            x = self._block(up, i, f"decoder.{i}", [f"decoder.{i}.up"])
            if head := self.steps.get(f"decoder.{i}.head"):
                self._across(x, self._box(x.x + STEP, i, head), HEAD)
        end = self._box(x.x + STEP, 0, self.steps["head"])
        self._across(x, end, HEAD)
        self._legend()
        ax.set_xlim(-0.4, self.width - 0.2)
        ax.set_ylim(self.rows[-1] - self._height(self._of(f"encoder.{self.depth}")[0]) / 2 - 0.55, 0.95)
        ax.axis("off")
        ax.set_title(
            f"{summary.n_parameters:,} parameters  ·  {flops_text(summary.flops)} forward  ·  "
            f"about {size_text(summary.training_bytes)} to train",
            fontsize=12, color=DARK,
        )  # fmt: skip

    def _of(self, block: str) -> list[Step]:
        """Return the steps of a block."""
        beside = f"{block}.up", f"{block}.head"
        return [step for name, step in self.steps.items() if f"{name}.".startswith(f"{block}.") and name not in beside]

    def _drawn(self, block: str) -> list[Step]:
        """Return the steps of a block that are a box each: those of a double_conv, one behind the other; of others the output."""
        steps = self._of(block)
        return steps if self.summary.block == "double_conv" else steps[-1:]

    def _block(self, x: Box, level: int, name: str, with_up: list[str]) -> Box:
        """Draw what a block makes of x, and the note under it; return the last box."""
        of_block, drawn, start = self._of(name), self._drawn(name), x
        if not drawn:
            return x
        for step in drawn:
            before, x = x, self._box(x.x + self.step, level, step)
            self._across(before, x, CONV)
        middle, last = (start.x + x.x) / 2, x
        steps = [*(self.steps[step] for step in with_up), *of_block]
        seen = [step.receptive_field for step in of_block]
        sees = "all" if None in seen else max(filter(None, seen))  # the widest of ways beside each other
        note = (
            f"{sum(s.n_parameters for s in steps):,} parameters\n"
            f"{flops_text(sum(s.flops for s in steps))}  ·  sees {sees}"
        )
        style: dict[str, Any] = {"ha": "center", "va": "top", "color": LIGHT}
        self.ax.text(middle, last.bottom - 0.06, name, fontsize=8, fontweight="bold", **style)
        self.ax.text(middle, last.bottom - 0.21, note, fontsize=7, linespacing=1.3, **style)
        return last

    def _box(self, x: float, level: int, step: Step) -> Box:
        """Draw an array about x."""
        box = Box(x, self.rows[level], self._width(step.shape[3]), self._height(step))
        self._rectangle(box, FILL)
        self._label(box, step)
        return box

    def _joined(self, x: float, level: int, step: Step) -> tuple[Box, Box]:
        """Draw what the up-convolution made, about x, and the copy of the skip at its left, which is as large."""
        up = Box(x, self.rows[level], self._width(step.shape[3]), self._height(step))
        copy = up._replace(x=x - up.width)
        self._rectangle(copy, COPIED)
        self._rectangle(up, FILL)
        self._label(up, step, copies=2)
        return copy, up

    def _rectangle(self, box: Box, colour: str) -> None:
        from matplotlib.patches import Rectangle

        corner = (box.left, box.bottom)
        self.ax.add_patch(Rectangle(corner, box.width, box.height, facecolor=colour, edgecolor=EDGE, lw=0.9, zorder=3))

    def _label(self, box: Box, step: Step, copies: int = 1) -> None:
        """Write the channels and the size to the right of the centre: an arrow may come from above."""
        _, h, w, c = step.shape
        size = f"{h}²" if h == w else f"{h}x{w}"
        self.ax.text(box.x + 0.07, box.top + 0.15, str(copies * c), va="bottom", fontsize=9, color=DARK)
        self.ax.text(box.x + 0.07, box.top + 0.04, size, va="bottom", fontsize=6.5, color=LIGHT)

    def _across(self, start: Box, end: Box, colour: str) -> None:
        self._arrow((start.right, end.y), (end.left, end.y), colour)

    def _arrow(self, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        style = {"arrowstyle": "-|>", "color": colour, "lw": 1.8, "mutation_scale": 11, "shrinkA": 2, "shrinkB": 1}
        dashed = {"linestyle": (0, (4, 2.5)), "lw": 1.3} if colour == SKIP else {}
        self.ax.annotate("", end, start, arrowprops=style | dashed, zorder=2)

    def _legend(self) -> None:
        from matplotlib.lines import Line2D

        block = self.summary.block
        norm = f", {self.summary.norm} norm" if self.summary.norm else ""
        kinds = {f"conv 3x3{norm}, relu" if block == "double_conv" else f"block: {block}{norm}": CONV, "conv 1x1": HEAD}
        if self.depth:
            kinds |= {"max-pool 2x2": POOL, "up-conv 2x2": UP, "copy and concatenate": SKIP}
        handles = [
            Line2D([], [], color=colour, lw=2, label=label, linestyle="--" if colour == SKIP else "-")
            for label, colour in kinds.items()
        ]
        place: Any = "lower left" if self.depth else "lower right"  # the corners beside the U are free
        self.ax.legend(handles=handles, loc=place, frameon=False, fontsize=9, labelcolor=DARK)

    def _width(self, channels: int) -> float:
        return 0.06 + 0.3 * math.sqrt(channels / self.widest)

    def _height(self, step: Step) -> float:
        return 1.1 * math.sqrt(step.shape[1] / self.summary.image[1])
