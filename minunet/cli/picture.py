"""The demo's picture, drawn with Pillow: images, truths, predictions, probabilities, and the learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..plot import BLACK, DICE, INVENTED, LOSS, MISSED, WHITE

INK, GREY, PALE = (30, 30, 40), (120, 120, 130), (222, 222, 228)
PAD, CAPTION = 18, 26
_font = ImageFont.load_default


def draw(
    images: NDArray, truths: NDArray, predictions: NDArray, probabilities: NDArray, history: Mapping[str, Sequence[float]],
    title: str,
) -> Image.Image:  # fmt: skip
    """Return one row of panels an image (x, y and predictions (N, H, W), probability of the darker class), and the curve."""
    low = truths.min()
    captions = ("image", "truth", "prediction (red: missed, blue: invented)", "probability of membrane")
    rows = [
        [_grey(x), _grey(y), _compared(y == low, p == low), _grey(255 * (1 - q))]
        for x, y, p, q in zip(images, truths, predictions, probabilities, strict=True)
    ]
    h, w = images.shape[1:]
    width = PAD + len(captions) * (w + PAD)
    curve_height = 260
    top = 2 * PAD + CAPTION
    canvas = Image.new("RGB", (width, top + len(rows) * (h + PAD) + CAPTION + curve_height + PAD), "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((PAD, PAD - 4), title, INK, _font(min(17, 17 * width // 1110)))
    for j, caption in enumerate(captions):
        pen.text((PAD + j * (w + PAD), top - CAPTION + 4), caption, GREY, _font(12))
        for i, row in enumerate(rows):
            canvas.paste(row[j], (PAD + j * (w + PAD), top + i * (h + PAD)))
    canvas.paste(_curve(history, width - 2 * PAD, curve_height), (PAD, top + len(rows) * (h + PAD) + CAPTION // 2))
    return canvas


def _grey(array: NDArray) -> Image.Image:
    return Image.fromarray(np.asarray(array).clip(0, 255).astype(np.uint8)).convert("RGB")


def _compared(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> Image.Image:
    """Return the found mask, black on white, what was missed in red and what was invented in blue."""
    colours = np.array([[WHITE, INVENTED], [MISSED, BLACK]], np.uint8)
    return Image.fromarray(colours[truth.astype(int), found.astype(int)])


def _curve(history: Mapping[str, Sequence[float]], width: int, height: int) -> Image.Image:
    """Return the training loss (left axis) and the validation Dice (right axis) over epochs."""
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)
    left, right, top, bottom = 52, width - 52, 26, height - 38
    losses, dices = list(history["loss"]), list(history.get("val_dice", []))
    top_loss = _ceiling(max(losses))
    n = len(losses)

    def x_of(epoch: float) -> float:
        return left + (right - left) * (epoch - 1) / max(n - 1, 1)

    for step in range(5):
        y = bottom - (bottom - top) * step / 4
        pen.line([(left, y), (right, y)], PALE)
        pen.text((left - 8, y), f"{top_loss * step / 4:.2f}", LOSS, _font(12), anchor="rm")
        if dices:
            pen.text((right + 8, y), f"{step / 4:.2f}", DICE, _font(12), anchor="lm")
    every = max(1, -(-n // 12))
    for epoch in range(1, n + 1, every):
        pen.text((x_of(epoch), bottom + 6), str(epoch), GREY, _font(12), anchor="mt")
    pen.text(((left + right) / 2, height - 2), "epoch", GREY, _font(12), anchor="mb")
    pen.text((left, 4), "training loss", LOSS, _font(13))
    if dices:
        pen.text((right, 4), "validation Dice", DICE, _font(13), anchor="ra")
    for values, ceiling, colour in ((losses, top_loss, LOSS), (dices, 1.0, DICE)):
        points = [(x_of(i + 1), bottom - (bottom - top) * value / ceiling) for i, value in enumerate(values)]
        if len(points) > 1:
            pen.line(points, colour, 3, joint="curve")
        for px, py in points:
            pen.ellipse([px - 3, py - 3, px + 3, py + 3], colour)
    return canvas


def _ceiling(value: float) -> float:
    """Return a round number a little above value, for an axis."""
    power = 10 ** np.floor(np.log10(value)) if value > 0 else 1.0
    return float(next(step * power for step in (1, 1.2, 1.6, 2, 3, 4, 6, 8, 10) if step * power >= value))
