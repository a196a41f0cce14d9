"""The report of a training: one HTML page that needs nothing else, to look at, to print, to hand on."""

from __future__ import annotations

import base64
import inspect
import io
import platform
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import __version__, files, plot
from ..evaluation import metrics
from ..signals import held
from ..training.history import of_model
from ..unet import UNet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE = "report.html"
SHOWN = 3  # predictions among the best, and among the worst
DPI = 160

# No page may load anything, whatever stands in it: browsers keep to this.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light; --ink: #23293a; --soft: #5d6575; --line: #dfe3ea; --fill: #f5f7fa; --accent: #2f6cb3; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.25rem 0 .5rem; padding-bottom: .25rem; border-bottom: 2px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p { margin: .5rem 0; }
figcaption { color: var(--soft); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.facts div { background: var(--fill); border-left: 3px solid var(--accent); padding: .5rem .75rem; }
dt { font-size: .85rem; color: var(--soft); }
dd { margin: 0; font-size: 1.35rem; font-weight: 600; }
table { border-collapse: collapse; margin: .75rem 0; max-width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem 1.25rem .25rem 0; border-bottom: 1px solid var(--line); }
th, td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
tbody th { font-weight: 400; }
thead th { font-size: .85rem; color: var(--soft); font-weight: 400; }
.changed th, .changed td:nth-child(2), .total th, .total td { font-weight: 700; }
figure { margin: .75rem 0 1.25rem; }
figcaption { font-size: .9rem; overflow-wrap: anywhere; }
img { display: block; max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
.wide img { min-width: 36rem; }
pre { background: var(--fill); padding: .75rem; white-space: pre-wrap; overflow-wrap: anywhere; }
@media print {
  main { max-width: none; padding: 0; }
  body { font-size: 10.5pt; }
  .wide img { min-width: 0; }
  .facts div, pre { border: 1px solid var(--line); }
  figure, table, .facts, pre { break-inside: avoid; }
  h2, h3, h2 + p { break-after: avoid; }
}
"""


class Judged(NamedTuple):
    """An image (H, W, C) that the model is judged by: its truth and its prediction (H, W), both in the values of classes_,
    and the probability of each class (H, W, K). The name is shown. counted : which pixels are scored, (H, W); None for all."""

    name: str
    image: NDArray
    truth: NDArray
    prediction: NDArray
    probability: NDArray
    counted: NDArray[np.bool_] | None = None

    @property
    def scored(self) -> tuple[NDArray, NDArray]:
        """Truth and prediction, where they are scored."""
        here = slice(None) if self.counted is None else self.counted
        return self.truth[here], self.prediction[here]


def write_report(
    folder: Path, unet: UNet, *, command: str, data: Sequence[tuple[str, str]], judged: Sequence[Judged], note: str = "",
    replace: bool = True,
) -> Path:  # fmt: skip
    """Write report.html into the folder: what was trained on what, how it went, and how well it does. Return its path.

    command : what to run for the same model. data : a table about the training data, as rows of a name and a text.
    judged : what to judge the model by, if anything; `note` says what that is, as in "held-out images".
    replace : whether to replace a report that is there.

    ImportError without matplotlib; OSError where the file cannot be written.
    """
    plot.require_matplotlib()
    sections = [
        _training(unet),
        _section("Data", _table(map(_row, data))),
        _curves(unet),
        _scores(judged, unet.classes_, note),
        _predictions(judged, unet.classes_),
        _settings(unet),
        _reproduction(unet, command),
    ]
    path = folder / PAGE
    # A name that is no text (bytes of another encoding) is shown with its escapes.
    content = _page("".join(sections)).encode("utf-8", "backslashreplace")
    with held():
        files.atomic_write(files.Output(path, replace), content)
    return path


def _page(body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="generator" content="minunet {__version__}">
<title>minunet: report of a training</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}</main>
</body>
</html>
"""


def _training(unet: UNet) -> str:
    history = unet.history_
    n_epochs = len(history.get("loss", ()))
    dice = history.get("val_dice", [])
    known = of_model(unet)
    facts = [
        ("parameters", f"{unet.n_parameters_:,}"),
        ("epochs", str(n_epochs)),
        ("time to train", _duration(history["seconds"][-1]) if n_epochs else "none"),
        ("validation Dice", _number(known[1]) if known else "none"),
    ]
    classes = ", ".join(map(str, unet.classes_.tolist()))
    channels = f"{unet.n_channels_in_} channel{'s' * (unet.n_channels_in_ > 1)}"
    told = [f"A U-Net of depth {unet.depth} for images of {channels} and the mask values {classes}."]
    if unet.interrupted_:
        told.append("The training was interrupted before its end.")
    if unet.threshold_ is not None:
        told.append(f"Class {unet.classes_[1]} is predicted where its probability is {unet.threshold_:g} or more.")
    if n_epochs and not dice:
        told.append("Nothing was held out of the training to validate on.")
    if known:
        cut = "for the validation of the last one was cut short"
        why = "whose weights the model has (early_stopping)" if unet.early_stopping else cut
        of = "the last epoch" if known[0] == n_epochs else f"epoch {known[0]}, {why}"
        if (best := _number(np.nanmax(dice))) != _number(known[1]):
            of += f"; in epoch {int(np.nanargmax(dice)) + 1} it was highest, {best}"
        if of != "the last epoch":
            told.append(f"The validation Dice is that of {of}.")
    tiles = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<h1>Report of a training</h1>\n<dl class="facts">{tiles}</dl>\n{_paragraph(" ".join(told))}'


def _curves(unet: UNet) -> str:
    if not unet.history_.get("loss"):
        return _section("Learning curves", _paragraph("No epoch was finished."))
    alt = "The loss and the validation Dice by epoch"
    return _section("Learning curves", _figure(lambda ax: plot.learning_curves(unet, ax), (9.6, 3.8), alt))


def _scores(judged: Sequence[Judged], classes: NDArray, note: str) -> str:
    title = "How well it does"
    if not judged:
        return _section(title, _paragraph("There were no images to judge the model by."))
    truths, predictions = (list(of) for of in zip(*(j.scored for j in judged), strict=True))
    values = classes.tolist()
    dice, iou = metrics.dice(truths, predictions, values), metrics.iou(truths, predictions, values)
    masks, given = [j.truth for j in judged], [j.prediction for j in judged]
    counted = [np.ones(j.truth.shape, bool) if j.counted is None else j.counted for j in judged]
    boundary = metrics.boundary_f(masks, given, classes=values, weights=counted)
    probabilities = [j.probability for j in judged]
    pixels = metrics.confusion_matrix(truths, predictions, values).sum(axis=1)
    what = f"{len(judged)} image{'s' * (len(judged) > 1)}" + (f" ({note})" if note else "")
    rows = [
        _row((str(value), *map(_number, scores), f"{n / pixels.sum():.1%}"))
        for value, *scores, n in zip(values, dice, iou, boundary, pixels, strict=True)
    ]
    means = [_number(float(np.mean(of[~np.isnan(of)]))) if not np.isnan(of).all() else "-" for of in (dice, iou, boundary)]
    rows.append(_row(("mean", *means, ""), "total"))
    return _section(
        title,
        _paragraph(f"Judged by {what}. {metrics.pixel_error(truths, predictions):.2%} of the pixels are wrong."),
        _table(rows, ("class", "Dice", "IoU", "boundary F", "share of the pixels")),
        _paragraph("Boundary F tells how much of a class's boundary is met within 2 pixels."),
        _figure(
            lambda ax: plot.confusion_matrix(truths, predictions, values, ax), plot.confusion_size(len(values)),
            "The confusion matrix: how the pixels of each true class were predicted",
            "Pixels by true class (rows) and predicted class (columns), and their share of the row.",
        ),
        _figure(
            lambda ax: plot.calibration(masks, probabilities, classes=values, ax=ax, weights=counted), (4.6, 4.2),
            "The calibration: how often the predicted class is right, by its probability",
            "How often the most probable class is right, by how probable it was said to be. Where bars end at the line, the "
            "probabilities can be believed.",
        ),
    )  # fmt: skip


def _predictions(judged: Sequence[Judged], classes: NDArray) -> str:
    """Return pictures of the best and the worst predictions; of few, each is in one of the two lists."""
    if not judged:
        return ""
    errors = [metrics.pixel_error(*j.scored) for j in judged]
    order = np.argsort(errors, kind="stable").tolist()
    n_worst = min(SHOWN, len(order) // 2)
    best, worst = order[: min(SHOWN, len(order) - n_worst)], order[::-1][:n_worst]
    shown = {i: _prediction(judged[i], errors[i], classes) for i in (*best, *worst)}
    if not worst:
        return _section("The prediction", *shown.values())
    parts = ["<h3>Best</h3>\n", *(shown[i] for i in best), "<h3>Worst</h3>\n", *(shown[i] for i in worst)]
    return _section("Best and worst predictions", *parts)


def _prediction(example: Judged, error: float, classes: NDArray) -> str:
    name, image, truth, prediction, probability, _ = example
    return _figure(
        lambda ax: plot.comparison(image, truth, prediction, probability, ax, classes=classes), (9.6, 9.6),
        f"{name}: image, truth, prediction and probability", f"{name}: {error:.2%} of the pixels are wrong", wide=True,
    )  # fmt: skip


def _settings(unet: UNet) -> str:
    rows = []
    for name, parameter in inspect.signature(UNet).parameters.items():
        value, default = (repr(_plain(v)) for v in (unet.get_params()[name], parameter.default))
        rows.append(_row((name, value, "" if value == default else f"default: {default}"), "" if value == default else "changed"))
    return _section("Settings", _paragraph("What is not the default is bold."), _table(rows, ("setting", "value", "")))


def _reproduction(unet: UNet, command: str) -> str:
    drawn = " (drawn: give it as random_state to train the same model again)" if unet.random_state is None else ""
    rows = [
        ("random_state_", f"{unet.random_state_}{drawn}"),
        ("minunet", __version__),
        ("Python", platform.python_version()),
        ("NumPy", np.__version__),
        ("system", f"{platform.system()}, {platform.machine()}"),
    ]
    return _section(
        "How to reproduce",
        f"<pre><code>{escape(command)}</code></pre>\n",
        _table(map(_row, rows)),
        _paragraph("On one machine the same seed gives the same model each time, unless max_minutes ended the training."),
    )


def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{''.join(parts)}</section>\n"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>\n"


def _table(rows: Iterable[str], head: Sequence[str] = ()) -> str:
    cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    top = f"<thead><tr>{cells}</tr></thead>\n" if head else ""
    return f"<table>\n{top}<tbody>\n{''.join(rows)}</tbody>\n</table>\n"


def _row(cells: Sequence[str], kind: str = "") -> str:
    name, *others = (escape(cell) for cell in cells)
    attribute = f' class="{kind}"' if kind else ""
    return f'<tr{attribute}><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>\n'


def _figure(draw: Callable[[Axes], Any], size: tuple[float, float], alt: str, caption: str = "", *, wide: bool = False) -> str:
    """Return what `draw` draws, on at most this size in inches; what is wide may be scrolled on a phone."""
    from matplotlib.figure import Figure  # not pyplot, which would hold the figure and may want a display

    figure = Figure(figsize=size, layout="constrained")
    draw(figure.add_subplot())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.05)
    png = buffer.getvalue()
    width, height = (int.from_bytes(png[i : i + 4], "big") * 96 // DPI for i in (16, 20))  # of its header, for 96 an inch
    source = base64.b64encode(png).decode("ascii")
    image = f'<img width="{width}" height="{height}" alt="{escape(alt)}" src="data:image/png;base64,{source}">'
    text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure{' class=wide' if wide else ''}>{image}{text}</figure>\n"


def _plain(value: Any) -> Any:
    """Return NumPy's numbers and arrays as Python's, which read better."""
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} minutes"
