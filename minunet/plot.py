"""Pictures for matplotlib (pip install 'minunet[plot]'). They draw into `ax`, return it, and never call show()."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import is_whole, require, shown
from .data.augment import Augmentation, Function
from .data.augment import check as check_augment
from .data.labels import encode
from .data.normalize import Normalizer
from .data.prepare import prepare
from .data.sampling import PatchSampler
from .drawing import DARK, LIGHT, U
from .evaluation import metrics
from .network import Network
from .summary import summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from .finding import LearningRates

LOSS, DICE = "#c85a1e", "#1478a0"
MISSED, INVENTED = (214, 60, 50), (40, 110, 220)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
ERRORS = ((BLACK, INVENTED), (MISSED, WHITE))  # by the true class, of two, and the predicted one
COLOURS = (  # told apart by most eyes (Okabe and Ito 2008)
    (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
DARKER = 0.6  # of each further round of the colours
PALE = 0.72  # the share of white in a colour where the prediction is right
MAX_SIDE = 2048  # pixels a panel shows; of larger images, every k-th
MAX_LEGEND = 20
PATCHES_A_ROW = 4
DIMMED = 0.4
MAX_MARKED = 40  # epochs; more would be a row of touching dots


def require_matplotlib() -> None:
    """Raise an ImportError that says what to install, if matplotlib is not there."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'minunet[plot]'") from error


def architecture(model: Any, shape: tuple[int, int] = (512, 512), ax: Axes | None = None) -> Axes:
    """Draw the U of a Network, or of a UNet before or after fit, for images of this shape (H, W), with its numbers.

    A box is an array: as high as its side, as wide as its channels (both on a root scale); beside it stand its channels
    and its size. Under each level: its parameters, its work, and the side of the square of input pixels that one of its
    own sees. White boxes are copies, as in figure 1 of Ronneberger et al. 2015.
    """
    drawing = U(summarize(model, shape) if isinstance(model, Network) else model.summary(shape))
    ax = ax or _new_axes(max(drawing.width, 5.5) + 0.4, 1.3 * drawing.height + 1.0)
    drawing.draw(ax)
    return ax


def learning_curves(model_or_history: Any, ax: Axes | None = None) -> Axes:
    """Draw the loss (left axis) and the validation Dice (right axis) of each epoch; return the left one's Axes.

    model_or_history : a fitted UNet, or its history_. ValueError where no epoch is in it.
    """
    history = model_or_history if isinstance(model_or_history, Mapping) else getattr(model_or_history, "history_", {})
    if not len(history.get("loss", ())):
        raise ValueError("there is no epoch to draw; learning_curves takes a fitted UNet, or its history_")
    ax = ax or _new_axes(7.2, 3.4)
    from matplotlib.ticker import MaxNLocator

    lines = [_curve(ax, history["loss"], "training loss", LOSS)]
    if len(history.get("val_loss", ())):
        lines.append(_curve(ax, history["val_loss"], "validation loss", LOSS, linestyle="--", markerfacecolor="white"))
    losses = np.concatenate([line.get_ydata() for line in lines])
    _style_scale(ax, "loss", LOSS, max(losses[np.isfinite(losses)], default=1) or 1)
    if len(history.get("val_dice", ())):
        right = ax.twinx()
        lines.append(_curve(right, history["val_dice"], "validation Dice", DICE))
        _style_scale(right, "validation Dice", DICE, 1)
    ax.set_xlim(0.5, len(history["loss"]) + 0.5)  # one epoch has a width, too
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set_xlabel("epoch", color=DARK)
    ax.legend(handles=lines, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, labelcolor=DARK)
    return ax


def learning_rate(found: LearningRates, ax: Axes | None = None) -> Axes:
    """Draw the loss of each rate that `UNet.find_learning_rate` tried, the mean loss, and the rate that is suggested."""
    has = all(hasattr(found, name) for name in ("rates", "losses", "means", "suggestion"))
    require(has, "found", f"of type {type(found).__name__}", "what UNet.find_learning_rate returned")
    ax = ax or _new_axes(7.2, 3.4)
    ax.plot(found.rates, found.losses, color=LOSS, alpha=1 - PALE, label="loss of a step")
    ax.plot(found.rates, found.means, color=LOSS, label="mean loss")
    ax.axvline(found.suggestion, color=DICE, linestyle="--", label=f"suggested: {found.suggestion:.2g}")
    ax.set_xscale("log")
    ax.set_xlabel("learning rate", color=DARK)
    _style_scale(ax, "loss", LOSS, max(found.means.max(), found.losses[0]))
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, labelcolor=DARK)
    return ax


def comparison(
    image: ArrayLike, truth: ArrayLike | None, prediction: ArrayLike, probability: ArrayLike | None = None,
    ax: Axes | None = None, *, classes: Sequence[int] | NDArray | None = None,
) -> Axes:  # fmt: skip
    """Draw side by side an image, its true mask, the predicted mask with its errors, and the model's probability.

    image : (H, W) or (H, W, C) of any numbers, shown from its 1st to its 99th percentile. The first three of 3 or 4
        channels are red, green and blue; of other numbers the first is shown.
    truth, prediction : (H, W), masks of any values; truth may be None. Two classes are black and white: what was missed
        of the white one is red, what was invented blue. More have a colour each, pale where the prediction is right.
    probability : (H, W, K), as predict_proba gives; of two classes the second one's is drawn, of more the largest.
    classes : the sorted mask values, K of them; None takes those that are found. With them, colours mean the same in
        every picture.

    ValueError names the array whose shape or values do not fit.
    """
    panels, names = _panels(image, truth, prediction, probability, classes)
    h, w = panels[0].pixels.shape[:2]
    slot = max(w, h / 2)  # a narrow image's caption needs room
    if ax is None:
        legend = 0.4 if names else 0.0
        ax = _new_axes(2.6 * len(panels), max(2.6 * h / slot, 0.4) + 0.7 + legend)
    _draw_panels(ax, panels, slot)
    if 0 < len(names) <= MAX_LEGEND:
        _colour_legend(ax, names)
    return ax


def augmented(
    x: Any, y: Any, *, augment: bool | str | Augmentation | Function = True, patch_size: int = 256, n: int = 8,
    random_state: int = 0, ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw n patches of images x and masks y as the network will see them in training, each class but the first outlined.

    x, y and augment : as UNet and its fit take them; the images are scaled each by itself, and shown from
        -1 to 1, so that brightness is seen to change.
    patch_size : side of the patches, at most that of the largest image. What is dimmed does not count: it is mirrored.
    """
    for name, value, least in (("n", n, 1), ("patch_size", patch_size, 1), ("random_state", random_state, 0)):
        require(is_whole(value) and value >= least, name, shown(value), f"a whole number from {least} up")
    check_augment(augment)
    data = prepare(
        x, y, sample_weight=None, validation_data=None, classes=None, ignore_index=None, normalize="image", class_weight=None,
        validation_fraction=0.0, random_state=random_state,
    )  # fmt: skip
    side, names = min(int(patch_size), max(max(e.label.shape) for e in data.examples)), [str(value) for value in data.classes]
    sampler = PatchSampler(data.examples, side, augment=augment, n_classes=len(names), random_state=random_state)
    images, labels, weights = sampler.batch(0, 0, n)
    gap, columns = max(1, side // 32), min(n, PATCHES_A_ROW)
    rows = -(-n // columns)
    picture = np.ones((rows * (side + gap) - gap, columns * (side + gap) - gap, 3))
    for i in range(n):
        top, left = (j * (side + gap) for j in divmod(i, columns))
        seen = _outlined(images[i], labels[i], None if weights is None else weights[i])
        picture[top : top + side, left : left + side] = seen
    if ax is None:
        ax = _new_axes(2.2 * columns, 2.2 * rows + 0.9)
    ax.imshow(picture)
    ax.set_title(f"{n} patches of {side} x {side}; dimmed: does not count", color=DARK, fontsize=9)
    ax.axis("off")
    if len(names) <= MAX_LEGEND:
        _colour_legend(ax, names)
    return ax


def _outlined(image: NDArray, label: NDArray, weight: NDArray | None) -> NDArray[np.floating]:
    """Return a scaled image (H, W, C) as colours of 0 .. 1, its classes but the first outlined, dimmed where the weight is 0."""
    grey = (image[..., :3] if image.shape[2] in (3, 4) else image[..., :1]).clip(-1, 1) / 2 + 0.5
    pixels = np.broadcast_to(grey, (*label.shape, 3)).astype(float)
    if weight is not None:
        pixels[weight == 0] *= DIMMED
    around = np.pad(label, 1, mode="edge")
    neighbours = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    edge = (label > 0) & np.any([other != label for other in neighbours], axis=0)
    pixels[edge] = np.array([_colour(i) for i in range(int(label.max()) + 1)])[label[edge]] / 255
    return pixels


def confusion_matrix(truth: Any, prediction: Any, classes: Sequence[int] | NDArray | None = None, ax: Axes | None = None) -> Axes:
    """Draw how the pixels of each true class (rows) were predicted (columns): their number and their share of the row.

    truth, prediction : masks of one shape, or lists of masks. classes : the sorted mask values; None takes those found.
    """
    values = _values_in(truth, prediction) if classes is None else np.asarray(classes)
    counts = metrics.confusion_matrix(truth, prediction, values.tolist())
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    k = len(values)
    ax = ax or _new_axes(*confusion_size(k))
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = max(4.0, min(9.0, 84 / k))
    for (i, j), count in np.ndenumerate(counts):
        text = f"{count:,}\n{shares[i, j]:.1%}" if count else "0"
        ax.text(j, i, text, ha="center", va="center", fontsize=size, color="white" if shares[i, j] > 0.55 else DARK)
    labels = [str(value) for value in values.tolist()]
    ax.set_xticks(range(k), labels=labels)
    ax.set_yticks(range(k), labels=labels)
    ax.tick_params(length=0, colors=DARK)
    ax.set_xlabel("predicted class", color=DARK)
    ax.set_ylabel("true class", color=DARK)
    return ax


def calibration(
    truth: Any, probabilities: Any, bins: int = 10, classes: Sequence[int] | NDArray | None = None, ax: Axes | None = None, *,
    weights: Any = None,
) -> Axes:  # fmt: skip
    """Draw how often the most probable class is right (bars) by how probable it was said to be, beside what it should be (line).

    Wider gaps mean probabilities that say too much, or too little; above the bars stand their shares of the pixels. The title
    has the expected calibration error. All as `metrics.calibration` counts it, whose arguments these are.
    """
    values = None if classes is None else np.asarray(classes).tolist()
    found = metrics.calibration(truth, probabilities, bins, values, weights)
    ax = ax or _new_axes(4.2, 3.8)
    shares = found.counts / max(found.counts.sum(), 1)
    for i in np.flatnonzero(found.counts):
        ax.bar(i / bins, found.accuracy[i], 1 / bins, align="edge", color=DICE, edgecolor="white", label="_bar")
        place = (i + 0.5) / bins, min(found.accuracy[i], 0.94)
        ax.annotate(f"{shares[i]:.0%}", place, xytext=(0, 2), textcoords="offset points", ha="center", fontsize=7, color=DARK)
    (line,) = ax.plot([0, 1], [0, 1], color=DARK, linestyle="--", linewidth=1, label="as sure as right")
    (dots,) = ax.plot(found.confidence, found.accuracy, "o", color=LOSS, markersize=4, label="mean of a bin")
    ax.set(xlim=(0, 1), ylim=(0, 1.04))
    ax.set_title(f"expected calibration error {found.error:.4f}", color=DARK, fontsize=10)
    ax.set_xlabel("probability of the predicted class", color=DARK)
    ax.set_ylabel("share that is right", color=DARK)
    ax.tick_params(colors=DARK)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.legend(handles=[line, dots], loc="upper left", frameon=False, labelcolor=DARK)
    return ax


def confusion_size(n_classes: int) -> tuple[float, float]:
    """Return the width and height in inches that a confusion matrix takes."""
    side = max(2.4, min(1.1 * n_classes, 8.0))
    return side + 0.8, side + 0.6


def _new_axes(width: float, height: float) -> Axes:
    """Return the Axes of a new figure of this size in inches."""
    require_matplotlib()
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def _curve(ax: Axes, values: Sequence[float | None], label: str, colour: str, **style: Any) -> Line2D:
    numbers = np.array(values, float)  # None, which JSON has for NaN, becomes NaN: a gap
    marker = "o" if len(numbers) <= MAX_MARKED else None
    return ax.plot(np.arange(1, len(numbers) + 1), numbers, color=colour, label=label, marker=marker, markersize=4, **style)[0]


def _style_scale(ax: Axes, name: str, colour: str, highest: float) -> None:
    ax.set_ylim(0, 1.04 * highest)  # so that a dot at the top is a whole dot
    ax.set_ylabel(name, color=colour)
    ax.tick_params(axis="y", colors=colour)
    ax.spines["top"].set_visible(False)


class _Panel(NamedTuple):
    """What is drawn: grey levels (H, W) of 0 .. 1, or colours (H, W, 3); and the two lines above it."""

    caption: str
    pixels: NDArray


def _panels(
    image: ArrayLike, truth: ArrayLike | None, prediction: ArrayLike, probability: ArrayLike | None,
    classes: Sequence[int] | NDArray | None,
) -> tuple[list[_Panel], list[str]]:  # fmt: skip
    """Return the panels, and what each colour of the masks is called: none where there are two, black and white."""
    picture = np.asarray(image)
    if picture.ndim not in (2, 3) or not picture.size:
        raise ValueError(f"image has shape {picture.shape}; comparison takes (H, W) or (H, W, C)")
    h, w = picture.shape[:2]
    step = -(-max(h, w) // MAX_SIDE)
    predicted = _fitting("prediction", prediction, (h, w), 2)[::step, ::step]
    true = None if truth is None else _fitting("truth", truth, (h, w), 2)[::step, ::step]
    p = None if probability is None else _fitting("probability", probability, (h, w), 3)[::step, ::step]
    values = _class_values([predicted] if true is None else [true, predicted], p, classes)
    names = [str(value) for value in values.tolist()]
    two = max(len(values), 0 if p is None else p.shape[2]) == 2
    colours = np.array([BLACK, WHITE] if two else [_colour(i) for i in range(len(values))], np.uint8)
    key = f"white: {names[1]}, black: {names[0]}" if two else f"{len(values)} classes"

    panels = [_Panel(f"image\n{h} x {w}", _displayed(picture[::step, ::step]))]
    found = _indices("prediction", predicted, values)
    if true is None:
        panels.append(_Panel(f"prediction\n{key}", colours[found]))
    else:
        real = _indices("truth", true, values)
        errors = f"red: {names[1]} missed, blue: invented" if two else "vivid: wrong, pale: right"
        pale = (colours * (1 - PALE) + 255 * PALE).astype(np.uint8)
        vivid = (real != found)[..., None]
        marked = np.array(ERRORS, np.uint8)[real, found] if two else np.where(vivid, colours[found], pale[found])
        panels += [_Panel(f"truth\n{key}", colours[real]), _Panel(f"prediction\n{errors}", marked)]
    if p is not None:
        what = f"probability of {names[1]}" if two else "largest probability"
        panels.append(_Panel(f"{what}\nblack: 0, white: 1", p[..., 1] if two else p.max(axis=2)))
    return panels, [] if two else names


def _fitting(name: str, array: ArrayLike, size: tuple[int, int], ndim: int) -> NDArray:
    found = np.asarray(array)
    if found.ndim != ndim or found.shape[:2] != size:
        takes = size if ndim == 2 else f"({size[0]}, {size[1]}, K)"
        raise ValueError(f"{name} has shape {found.shape}; for this image it takes {takes}")
    return found


def _class_values(masks: Sequence[NDArray], p: NDArray | None, classes: Sequence[int] | NDArray | None) -> NDArray:
    """Return the sorted mask values, two at least: a mask of one value has it beside 0, one of zeros beside 1."""
    if classes is not None:
        values = np.asarray(classes)
        if p is not None and p.shape[2] != len(values):
            raise ValueError(f"probability has shape {p.shape}; for {len(values)} classes it takes as many channels")
        return values
    values = _values_in(*masks)
    return values if len(values) > 1 else np.union1d(values, values == 0)


def _values_in(*masks: Any) -> NDArray:
    """Return the sorted values of masks, or of lists of masks."""
    arrays = [array for mask in masks for array in (mask if isinstance(mask, (list, tuple)) else [mask])]
    return np.unique(np.concatenate([np.unique(array) for array in arrays]))


def _indices(name: str, mask: NDArray, values: NDArray) -> NDArray[np.int32]:
    """Return each pixel's place among the values."""
    places = encode(mask, values)
    foreign = mask[values[places] != mask]
    if foreign.size:
        raise ValueError(f"{name} holds the value {foreign[0]}; the classes are {values.tolist()}")
    return places


def _displayed(image: NDArray) -> NDArray[np.floating]:
    """Return grey levels (H, W) or colours (H, W, 3) of 0 .. 1; one scale for all channels, so that hues stay."""
    if image.ndim == 3:
        image = image[..., :3] if image.shape[2] in (3, 4) else image[..., 0]
    numbers = np.nan_to_num(image, posinf=0, neginf=0)
    scaled = Normalizer()(numbers.reshape(len(numbers), -1, 1)).reshape(image.shape)
    return (scaled.clip(-1, 1) + 1) / 2


def _colour(i: int) -> tuple[float, float, float]:
    """Return the colour of class i: black, then the others, again and again, darker each time."""
    times, place = divmod(max(i - 1, 0), len(COLOURS) - 1)
    red, green, blue = COLOURS[place + 1 if i else 0]
    return red * DARKER**times, green * DARKER**times, blue * DARKER**times


def _draw_panels(ax: Axes, panels: Sequence[_Panel], slot: float) -> None:
    """Draw panels into slots of this width, in pixels of the image."""
    from matplotlib.patches import Rectangle

    h, w = panels[0].pixels.shape[:2]
    pitch = 1.05 * slot
    for i, (caption, pixels) in enumerate(panels):
        left = i * pitch + (slot - w) / 2
        ax.imshow(pixels, cmap="gray", vmin=0, vmax=1, extent=(left, left + w, h, 0))
        ax.add_patch(Rectangle((left, 0), w, h, fill=False, edgecolor=LIGHT, lw=0.6))
        ax.annotate(
            caption, (left + w / 2, 0), xytext=(0, 4), textcoords="offset points", ha="center", va="bottom", fontsize=9,
            linespacing=1.3, color=DARK, annotation_clip=False,
        )  # fmt: skip
    ax.set(xlim=(0, (len(panels) - 1) * pitch + slot), ylim=(h, 0), aspect="equal")
    ax.axis("off")


def _colour_legend(ax: Axes, names: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    rows = -(-len(names) // 10)
    handles = [Patch(facecolor=tuple(np.divide(_colour(i), 255)), label=name) for i, name in enumerate(names)]
    ax.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=-(-len(names) // rows), frameon=False, fontsize=9,
        labelcolor=DARK, handlelength=1.0, handleheight=1.0,
    )  # fmt: skip
