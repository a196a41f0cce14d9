"""`minunet train`: from a folder of images and one of masks to a model file."""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import files, signals
from ..data import labels as label_codes
from ..data import pixelsize
from ..data.codes import Codes
from ..data.contradictions import word
from ..data.folders import Pair, by_file, listed, read_pairs, require_one_palette
from ..data.images import content
from ..data.sampling import Example
from ..data.splitting import Part, stacks
from ..data.weights import read_examples
from ..plot import require_matplotlib
from ..text import printable, shown
from ..training.csvlog import CSVLog
from ..training.history import of_model
from ..unet import UNet
from . import flags, outputs
from .console import complain
from .report import PAGE, Judged, write_report
from .rescue import keep, keep_last_good

HELP = "learn from images and their masks, and write a model file"
DESCRIPTION = (
    "Train a U-Net on images and their masks, paired by name, and write it to one file. Run `minunet check` on them first."
)
EXAMPLES = """examples:
  minunet train images masks -o model.safetensors
  minunet train images masks -o model.safetensors --max-minutes 20 --report report
  minunet train DRIVE/images DRIVE/1st_manual -o vessels.safetensors --class-weight balanced
  minunet train images masks -o model.safetensors --validation more/images more/masks
  minunet train more/images more/masks -o better.safetensors --init model.safetensors --max-epochs 20
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    flags.add_data_flags(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="MODEL", help="the model file to write")
    parser.add_argument("--force", action="store_true", help="replace an output that is there")
    parser.add_argument(
        "--validation", type=Path, nargs=2, metavar=("IMAGES", "MASKS"), help="report on these, and train on all the others"
    )
    init = "go on with this model: its network, weights, scale and classes, beside new ones in MASKS"
    parser.add_argument("--init", type=Path, metavar="MODEL", help=init)
    kept = "write what the training is to go on from there, every few minutes, and whenever it ends; it is a model file, too"
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help=kept)
    resume = "go on with the training in --checkpoint, if there is one: to the same bits as if it had never stopped"
    parser.add_argument("--resume", action="store_true", help=resume)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a line an epoch there: all figures, as a table")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write report.html there (needs matplotlib)")
    flags.add_output_flags(parser, verbose="tell each file that is read")
    flags.add_estimator_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    unet = flags.estimator(arguments, arguments.init)
    _require_outputs(arguments, unet)
    pairs = _read(arguments, arguments.images, arguments.masks)
    held_out = _read(arguments, *arguments.validation) if arguments.validation else []
    if arguments.init:
        _require_channels(unet, pairs[0], arguments.init)
    require_one_palette([*pairs, *held_out])
    warn_of_shared_images(pairs, held_out)
    data = describe(pairs, held_out, *_codes(unet, pairs, arguments))
    if not arguments.quiet:
        print("\n".join(f"{name:8} {value}" for name, value in data), flush=True)
    x, y = _xy(pairs)
    groups: list[Hashable] | None = [pair.path for pair in pairs]
    validation: Any = _xy(held_out) if held_out else None
    if not unet.context:  # else files apart are stacks of their own
        groups = stacks([pair.path for pair in pairs])
    elif held_out:
        validation = (*validation, [pair.path for pair in held_out])
    pixel_size = pixelsize.common(pair.pixel_size for pair in pairs)
    target = outputs.named(arguments.output.absolute(), arguments.force)  # the current folder may vanish
    checkpoint, table = (path and path.absolute() for path in (arguments.checkpoint, arguments.csv))
    older = getattr(unet, "network_", None)  # of --init
    try:
        try:
            with flags.named([pair.name for pair in pairs]):
                unet.fit(
                    x, y, validation_data=validation, classes=arguments.classes, ignore_index=arguments.ignore,
                    groups=groups, pixel_size=pixel_size, checkpoint=checkpoint,
                    resume=arguments.resume, callbacks=[CSVLog(table, replace=arguments.force)] if table else [],
                )  # fmt: skip
        finally:
            unet.warm_start = False  # of what is fitted to the model in the file, nobody said so
    except BaseException as error:  # it diverged, or was interrupted once more, or memory ran out
        fitted = getattr(unet, "network_", None) is not older
        kept = keep_last_good(unet, target, force=arguments.force) if fitted else None
        if isinstance(error, KeyboardInterrupt):
            if kept is None:
                complain("no epoch was finished, so there is no model")
            if kept is False:
                return 1
        raise
    running = signals.of_command_line()
    ended = (running or signals.Signals()).exit_code if unet.interrupted_ else 0
    if unet.network_ is older:  # interrupted before an epoch was finished
        complain(f"no epoch was finished, so there is no new model; {arguments.init} is as it was")
        return ended
    kept = keep(unet, target, force=arguments.force)
    if running:
        running.release()
    if kept and not arguments.quiet:
        following = shlex.join(["minunet", "predict", str(arguments.output), "NEW-IMAGES", "-o", "OUT"])
        print(f"Wrote {printable(arguments.output)}{_score(unet)}. Next: {printable(following)}", flush=True)
    if arguments.report:
        judged, note = judge(unet, pairs, held_out)
        command = shlex.join(["minunet", *sys.argv[1:]])
        page = write_report(
            arguments.report, unet, command=command, data=data, judged=judged, note=note,
            replace=arguments.force,
        )  # fmt: skip
        if not arguments.quiet:
            print(f"Wrote {printable(page)}: open it in a browser.", flush=True)
    return ended if kept else 1


def _codes(
    unet: UNet, pairs: Sequence[Pair], arguments: argparse.Namespace
) -> tuple[list[Codes], label_codes.Classes | None]:
    """Return what the masks hold, and the classes that are given; of --init, with the model's."""
    ignore = arguments.ignore or (unet.ignore_index_ if arguments.init else ())
    with flags.named([pair.name for pair in pairs]):
        given = read_examples(*_xy(pairs), ignore=ignore)
        given = given.of_instances(ignore) if unet.target == "instances" else given
    found = given.codes([pair.name for pair in pairs])
    if not arguments.init:
        return found, arguments.classes
    return label_codes.with_model(found, arguments.classes, unet.classes_, unet.joined_, snap=unet.snap_)


def describe(
    pairs: Sequence[Pair], held_out: Sequence[Pair], found: Sequence[Codes], classes: label_codes.Classes | None
) -> list[tuple[str, str]]:
    """Return what the data is, as rows of a name and a text. ValueError, which names files, where the masks hold no classes.

    found : the codes of the pairs' masks, and perhaps of a model's classes; classes : those that are given.
    """
    values = label_codes.classes_of(found, classes)
    joined = {} if classes is None else label_codes.given_classes(classes)[1]
    pixels = np.sum([label_codes.pixels_of(codes, values, joined) for codes in found[: len(pairs)]], axis=0)
    sizes = [f"{h} x {w}" for h, w in sorted({pair.mask.shape for pair in pairs})]
    size = pixelsize.common(pair.pixel_size for pair in pairs)
    shares = [f"{value} ({share:.1%})" for value, share in zip(values.tolist(), pixels / pixels.sum(), strict=True)]
    given = "" if classes is None else f" (--classes {' '.join(map(word, classes))})"
    kinds = sorted({f"{_channels(pair.image)}, {pair.image.dtype}" for pair in pairs})
    return [
        ("images", f"{len(pairs)}" + (f", and {len(held_out)} to validate on" if held_out else "")),
        ("sizes", listed(sizes, most=3)),
        ("pixels", "; ".join(kinds) + (f"; {pixelsize.told_size(size)}" if size else "")),
        ("classes", listed(shares, most=8) + given),
    ]


def warn_of_shared_images(pairs: Sequence[Pair], held_out: Sequence[Pair]) -> None:
    """Say which images are in both: a score on what was learned by heart tells nothing."""
    seen = {content(pair.image): pair.name for pair in pairs}
    for pair in held_out:
        if name := seen.get(content(pair.image)):
            complain(f"warning: {pair.name} is in the training ({name}) and in the validation")


def judge(unet: UNet, pairs: Sequence[Pair], held_out: Sequence[Pair]) -> tuple[list[Judged], str]:
    """Return predictions on what was not trained on, and what that is; on the training images where nothing was held out."""
    whole = list(held_out or pairs)
    given = read_examples(*_xy(whole), ignore=unet.ignore_index_)
    masks = [pair.mask for pair in whole]
    masks = masks if unet.smallest_object_ is None else given.of_instances(unet.ignore_index_).masks
    each = zip(whole, masks, given.weights, strict=True)
    examples = [Example(pair.image, mask, weight, pair.name) for pair, mask, weight in each]
    note, places = "the validation images", list[Part]()
    if not held_out:
        places = unet.held_out_
        are_whole = all(part.shape == examples[part.image].label.shape for part in places)
        note = "images held out of the training" if are_whole else "the strip held out of each training image"
        note = note if places else "the training images: none was held out, so expect worse on others"
    parts = [examples[part.image].crop(part.rows, part.cols) for part in places] or examples
    with warnings.catch_warnings():  # of strips of images, whose ranges are their own
        warnings.simplefilter("ignore", UserWarning)
        if unet.context_:
            found = [p for stack in by_file(whole) for p in unet.predict_proba([pair.image for pair in stack])]
            probabilities = [found[part.image][part.rows, part.cols] for part in places] or found
        else:
            probabilities = unet.predict_proba([np.asarray(part.image) for part in parts])
    judged, examples = [], parts
    for example, p in zip(examples, (np.ma.filled(p, 0) for p in probabilities), strict=True):
        truth = label_codes.decode(label_codes.encode(example.label, unet.classes_, unet.joined_), unet.classes_)
        predicted = unet._labels(p)
        counted = None if example.weight is None else example.weight > 0
        judged.append(Judged(example.name, np.atleast_3d(np.asarray(example.image)), truth, predicted, p, counted))
    return judged, note


def _score(unet: UNet) -> str:
    """Return the model's, in brackets; of which epoch, where it is not the last, or the validation of that was cut short."""
    known = of_model(unet)
    if known is None:
        return ""
    epoch, dice = known
    return f" (validation Dice {dice:.3f}{'' if epoch == unet.n_iter_ else f', of epoch {epoch}'})"


def _xy(pairs: Sequence[Pair]) -> tuple[list[NDArray], list[NDArray]]:
    return [pair.image for pair in pairs], [pair.mask for pair in pairs]


def _require_outputs(arguments: argparse.Namespace, unet: UNet) -> None:
    """Refuse what could not be written, or would replace something, before any work."""
    model, page = arguments.output, arguments.report / PAGE if arguments.report else None
    read = filter(None, (arguments.images, arguments.masks, arguments.init, *(arguments.validation or ())))
    outputs.require_unread(arguments.parser, "--output", model, read)
    if page:
        require_matplotlib()
        _require_apart(arguments, page)
    outputs.require_free(filter(None, (model, page)), arguments.force)
    files.require_writable(outputs.named(model, arguments.force), flags.model_bytes(unet))
    _require_checkpoint(arguments)
    _require_table(arguments)
    if page:
        outputs.make_folder(arguments.report)
        files.require_writable(files.Output(page, arguments.force))


def _require_checkpoint(arguments: argparse.Namespace) -> None:
    """Refuse what `fit` would refuse of the checkpoint's file, before the images are read."""
    path = arguments.checkpoint
    if path is None:
        if arguments.resume:
            arguments.parser.error("--resume goes on with the training in --checkpoint FILE; give that, too")
        return
    for other in filter(None, (arguments.output, arguments.init, arguments.report, arguments.report and arguments.report / PAGE)):
        if outputs.is_same(path, other):
            arguments.parser.error(f"--checkpoint {path} is {other}, another file of this training; give it a name of its own")
    read = filter(None, (arguments.images, arguments.masks, *(arguments.validation or ())))
    outputs.require_unread(arguments.parser, "--checkpoint", path, read)
    if files.taken(path) and not arguments.resume:
        raise FileExistsError(
            f"the checkpoint {path} is there already: --resume goes on with its training; give another name for a new one, or "
            "delete it"
        )
    files.require_writable(path)


def _require_table(arguments: argparse.Namespace) -> None:
    """Refuse a table that could not be written, or would stand where something else does. A training that goes on has its own."""
    path = arguments.csv
    if path is None:
        return
    report = arguments.report
    for other in filter(None, (arguments.output, arguments.init, arguments.checkpoint, report, report and report / PAGE)):
        if outputs.is_same(path, other):
            arguments.parser.error(f"--csv {path} is {other}, another file of this training; give it a name of its own")
    read = filter(None, (arguments.images, arguments.masks, *(arguments.validation or ())))
    outputs.require_unread(arguments.parser, "--csv", path, read)
    outputs.require_free([path], arguments.force or arguments.resume)
    CSVLog(path, replace=arguments.force)


def _require_apart(arguments: argparse.Namespace, page: Path) -> None:
    """Refuse a model that would stand where the report, or a folder on its way, does."""
    if any(outputs.is_same(arguments.output, place) for place in (page, *page.absolute().parents)):
        arguments.parser.error(f"--output {arguments.output} and --report {arguments.report} would be one file; give two")


def _read(arguments: argparse.Namespace, images: Path, masks: Path) -> list[Pair]:
    pairs = read_pairs(images, masks, **flags.pairing(arguments))
    if arguments.verbose:
        for pair in pairs:
            print(f"{pair.name}: {' x '.join(map(str, pair.image.shape))}, {pair.image.dtype}")
    channels = {np.atleast_3d(pair.image).shape[2]: pair.name for pair in reversed(pairs)}
    if len(channels) > 1:
        counts = ", ".join(f"{name} has {n}" for n, name in sorted(channels.items()))
        raise ValueError(f"the images differ in their number of channels ({counts}); convert them all to grey or all to colour")
    return pairs


def _require_channels(unet: UNet, pair: Pair, init: Path) -> None:
    """Refuse to go on with a model of other channels, by the names of the files."""
    n, has = np.atleast_3d(pair.image).shape[2], unet.n_channels_in_
    if n != has:
        raise ValueError(
            f"{pair.name} is {_channels(pair.image)}, but --init {shown(init)} was trained on images of {has} "
            f"channel{'s' if has > 1 else ''}; convert the images, or train without --init"
        )


def _channels(image: NDArray) -> str:
    n = np.atleast_3d(image).shape[2]
    return "grey" if n == 1 else f"{n} channels"
