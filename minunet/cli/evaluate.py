"""`minunet evaluate`: how good a model is on images whose masks are known."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import files, predicting
from ..data import labels as label_codes
from ..data import pixelsize
from ..data.codes import codes_of
from ..data.contradictions import word
from ..data.folders import Pair, by_file, read_pairs
from ..data.instances import three_classes
from ..data.weights import read_examples
from ..evaluation import metrics
from ..evaluation.metrics import average_precision as precision
from ..signals import held
from ..unet import UNet
from . import flags, outputs
from .console import complain

HELP = "score a model on images with masks"
DESCRIPTION = (
    "Predict images and compare with their masks: pixel error, Dice and IoU of each class from counts pooled over all pixels, "
    "the mean adapted Rand error of the objects (4-connected regions of what is not the lowest class), and boundary F: how "
    "much of the boundaries is met within 2 pixels, the mean over the classes. Of a model of --target instances, the average "
    "precision of its objects, too."
)
EXAMPLES = "example: minunet evaluate model.safetensors test/images test/masks --csv scores.csv"


class Row(NamedTuple):
    """The scores of an image, or of all: Dice, IoU and boundary F one a class, NaN where the class is nowhere."""

    name: str
    pixel_error: float
    dice: NDArray[np.float64]
    iou: NDArray[np.float64]
    adapted_rand: float
    boundary_f: NDArray[np.float64]
    average_precision: float | None = None  # at an IoU of 0.5, of a model that learned instances


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="a file that `minunet train` wrote")
    flags.add_data_flags(parser)
    flags.add_tta_flag(parser)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the scores here, a row an image and one for all")
    parser.add_argument("--force", action="store_true", help="replace a FILE that is there")
    flags.add_machine_flags(parser)
    flags.add_output_flags(parser, verbose="print a row an image, too")


def run(arguments: argparse.Namespace) -> int:
    if arguments.csv:
        _require_csv(arguments)
    machine = flags.machine(arguments)
    unet = flags.loaded(arguments.model, machine)
    pairs = read_pairs(arguments.images, arguments.masks, **flags.pairing(arguments))
    counted = _counted(pairs, unet.ignore_index_ if arguments.ignore is None else arguments.ignore)
    objects = _objects(unet, pairs, arguments)
    truths = [three_classes(mask) for mask in objects] if objects else _truths(unet, pairs, counted, arguments.classes)
    predictions, found = [], []
    for stack in flags.each(by_file(pairs) if unet.context_ else [[pair] for pair in pairs], "evaluating", arguments.quiet):
        for pair in stack:
            if told := pixelsize.mismatch(pair.pixel_size, unet.pixel_size_):
                complain(f"warning: {pair.name}: {told}")
        with flags.about(stack[0].name) if len(stack) == 1 else flags.named([pair.name for pair in stack]):
            probabilities = unet.predict_proba([pair.image for pair in stack], tta=arguments.tta)
        for p in (np.ma.filled(p, 0) for p in probabilities):  # what is masked is of the first class
            predictions.append(unet._labels(p))
            found += [predicting.objects(unet, p)] if objects else []
    each = zip(pairs, truths, predictions, counted, strict=True)
    rows = [score(pair.name, [t], [p], [here], unet.classes_) for pair, t, p, here in each]
    total = score("all", truths, predictions, counted, unet.classes_)
    if objects:
        true, mine = ([np.where(here, o, 0) for o, here in zip(of, counted, strict=True)] for of in (objects, found))
        each_precision = [precision([t], [p]) for t, p in zip(true, mine, strict=True)]
        rows = [row._replace(average_precision=value) for row, value in zip(rows, each_precision, strict=True)]
        total = total._replace(average_precision=precision(true, mine))
    total = total._replace(adapted_rand=_mean([row.adapted_rand for row in rows]))
    if not arguments.quiet:  # before they are written: a full disk would take them along
        print(text(total, unet.classes_.tolist(), len(pairs)))
        if arguments.verbose:
            print("\n" + table(rows, unet.classes_.tolist()).strip(), flush=True)
    if arguments.csv:
        content = table([*rows, total], unet.classes_.tolist()).encode("utf-8", "backslashreplace")
        with held():
            files.atomic_write(outputs.named(arguments.csv, arguments.force), content)
    return 0


def score(
    name: str, truths: Sequence[NDArray], predictions: Sequence[NDArray], counted: Sequence[NDArray[np.bool_]], classes: NDArray
) -> Row:
    """Return the scores of predictions (H, W) against truths, both in mask values, where pixels count."""
    values = classes.tolist()
    objects = [
        (metrics.segments((t != classes[0]) & here), metrics.segments(p != classes[0]))
        for t, p, here in zip(truths, predictions, counted, strict=True)
    ]
    boundary = metrics.boundary_f(list(truths), list(predictions), classes=values, weights=list(counted))
    t, p = ([mask[here] for mask, here in zip(masks, counted, strict=True)] for masks in (truths, predictions))
    rand = _mean([metrics.adapted_rand_error(a, b) for a, b in objects if a.any()])
    return Row(name, metrics.pixel_error(t, p), metrics.dice(t, p, values), metrics.iou(t, p, values), rand, boundary)


def table(rows: Sequence[Row], classes: Sequence[int]) -> str:
    """Return the rows as CSV; an empty cell is a score that is not defined."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    of_classes = [f"{what}_{c}" for what in ("dice", "iou") for c in classes]
    of_objects = ["average_precision"] if rows[0].average_precision is not None else []
    writer.writerow(["image", "pixel_error", *of_classes, "adapted_rand_error", "boundary_f", *of_objects])
    for row in rows:
        numbers = [row.pixel_error, *row.dice, *row.iou, row.adapted_rand, _mean(row.boundary_f)]
        numbers += [] if row.average_precision is None else [row.average_precision]
        writer.writerow([row.name, *("" if np.isnan(number) else f"{number:.6f}" for number in numbers)])
    return out.getvalue()


def text(total: Row, classes: Sequence[int], n_images: int) -> str:
    """Return the scores of all images, for people."""
    width = max(5, *(len(str(c)) for c in classes))
    lines = [f"{n_images} image{'s' if n_images > 1 else ''}", f"pixel error          {total.pixel_error:.4f}"]
    if total.average_precision is not None:
        lines.append(f"average precision    {_number(total.average_precision)}  (of objects, at an IoU of 0.5)")
    lines += [f"adapted Rand error   {_number(total.adapted_rand)}", f"boundary F           {_number(_mean(total.boundary_f))}"]
    lines += [f"{'class':>{width}}    Dice     IoU"]
    lines += [f"{c!s:>{width}}  {_number(d)}  {_number(i)}" for c, d, i in zip(classes, total.dice, total.iou, strict=True)]
    return "\n".join([*lines, f"{'mean':>{width}}  {_number(_mean(total.dice))}  {_number(_mean(total.iou))}"])


def _require_csv(arguments: argparse.Namespace) -> None:
    """Refuse scores that could not be written, or would replace what they are of."""
    read = (arguments.model, arguments.images, arguments.masks)
    outputs.require_unread(arguments.parser, "--csv", arguments.csv, read)
    outputs.require_free([arguments.csv], arguments.force)
    files.require_writable(outputs.named(arguments.csv, arguments.force))


def _counted(pairs: Sequence[Pair], ignore: Sequence[int]) -> list[NDArray[np.bool_]]:
    """Return which pixels of each pair (H, W) count: those that are not masked, and whose mask's value is not to be ignored."""
    found = []
    for pair in pairs:
        with flags.about(pair.name):
            (here,) = read_examples([pair.image], [pair.mask], ignore=ignore).counted
        found.append(np.ones(pair.mask.shape, bool) if here is None else here)
    return found


def _truths(
    unet: UNet, pairs: Sequence[Pair], counted: Sequence[NDArray[np.bool_]], classes: label_codes.Classes | None
) -> list[NDArray]:
    """Return the masks in the model's values; with --classes, or where it was trained with them, each pixel's nearest."""
    masks = [pair.mask for pair in pairs]
    found = [codes_of(pair.mask, here, pair.name) for pair, here in zip(pairs, counted, strict=True)]
    values, joined = label_codes.given_classes(unet.classes_.tolist() if classes is None else classes)
    if values.tolist() != unet.classes_.tolist():
        given = " ".join(map(word, classes or ()))
        raise ValueError(f"--classes is {given}; this model's are {' '.join(map(word, unet.classes_.astype(int).tolist()))}")
    if classes is None and not unet.snap_:
        for pair, here in zip(pairs, counted, strict=True):
            try:
                label_codes.require_known([pair.mask[here]], unet.classes_, "its mask")
            except ValueError as error:
                listed = " ".join(map(word, label_codes.joining(found, unet.classes_)))
                ways = f"--classes {listed} takes each pixel for the nearest of these, --ignore leaves a value out"
                raise ValueError(f"{pair.name}: {error}; {ways}") from error
        return masks
    joined |= unet.joined_
    label_codes.require_same_code(found, unet.classes_, joined)
    return [label_codes.decode(label_codes.encode(mask, unet.classes_, joined), unet.classes_) for mask in masks]


def _objects(unet: UNet, pairs: Sequence[Pair], arguments: argparse.Namespace) -> list[NDArray]:
    """Return the masks as object numbers, of a model that learned instances; nothing of another."""
    if unet.smallest_object_ is None:
        return []
    predicting.require_parts(unet)
    ignore = unet.ignore_index_ if arguments.ignore is None else arguments.ignore
    with flags.named([pair.name for pair in pairs]):
        return read_examples([pair.image for pair in pairs], [pair.mask for pair in pairs], ignore=ignore).objects(ignore)


def _mean(numbers: Any) -> float:
    """Return the mean of what is defined; NaN where nothing is."""
    defined = [float(number) for number in numbers if not np.isnan(number)]
    return float(np.mean(defined)) if defined else float("nan")


def _number(value: float) -> str:
    return "     -" if np.isnan(value) else f"{value:.4f}"
