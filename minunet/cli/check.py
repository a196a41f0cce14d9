"""`minunet check`: the friend before training, who looks at the images and the masks and says what to run next."""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import kernels, losses
from ..bar import Bar, is_terminal
from ..data.contradictions import word
from ..data.folders import Matching, match, names, read_in_turn
from ..data.images import MAX_PIXELS
from ..data.labels import resolve_class_weight
from ..data.pixelsize import told_size
from ..data.splitting import split, stacks
from ..data.survey import LEVELS, Finding, Survey, survey
from ..files import taken
from ..optim import OPTIMIZERS
from ..room import size_text
from ..sizes import fitting_patch
from ..text import shown
from ..training.budget import Training
from ..training.memory import free_memory
from ..training.pace import seconds_per_step
from ..training.schedule import Schedule, steps_per_epoch
from ..unet import UNet
from . import flags

HELP = "look for mistakes in images and masks before training"
DESCRIPTION = (
    "Read images and masks as `minunet train` would; tell what they are, what is wrong or odd with them, how much memory and "
    "time a training takes on this machine, and which command to run next."
)
EXAMPLES = """examples:
  minunet check images masks
  minunet check DRIVE/images DRIVE/1st_manual
  minunet check images masks --classes 0 255 --base-channels 32

It takes the flags of `minunet train`, and exits with 1 where training with them would fail, or learn nonsense.
"""


@dataclass(frozen=True)
class Plan:
    """What `train` would do: what decides its memory, for how many steps; and where it does not fit, what is to be changed."""

    unet: UNet
    training: Training
    schedule: Schedule
    changes: dict[str, int]


def add_flags(parser: argparse.ArgumentParser) -> None:
    flags.add_data_flags(parser)
    flags.add_output_flags(parser, verbose="list the pairs, too")
    flags.add_estimator_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    unet = flags.estimator(arguments)
    matching = match(
        arguments.images, arguments.masks, image_pattern=arguments.image_pattern, mask_pattern=arguments.mask_pattern
    )
    unreadable: list[str] = []
    files = flags.each(matching.pairs, "reading", arguments.quiet)
    pairs = read_in_turn(files, unreadable, arguments.max_pixels)
    found = survey(pairs, arguments.classes, arguments.ignore or (), unet.normalize, unet.target)
    findings = [Finding("error", text) for text in unreadable] + _partners(matching, arguments.skip_unpaired) + found.findings
    findings += [Finding("note", text) for text in matching.inside]
    plan, refused = (None, []) if _errors(findings) else _plan(unet, found)
    findings += refused
    if not arguments.quiet:
        _print_facts(matching, found, len(unreadable), arguments.verbose)
    _print_findings(findings, arguments.quiet)
    if not arguments.quiet:
        if plan:
            _print_cost(plan)
        print(_next(arguments, findings, found, plan))
    return 1 if _errors(findings) else 0


def _errors(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level == "error"]


def _partners(matching: Matching, skip_unpaired: bool) -> list[Finding]:
    n = len(matching.images_alone) + len(matching.masks_alone)
    if n == 0:
        return []
    if skip_unpaired:
        return [Finding("note", f"files left out since they have no partner: {n}")]
    return [
        Finding("error", f"files without a partner: {n}, named above; each image takes one mask of its name, and --skip-unpaired "
                "leaves out what has none")
    ]  # fmt: skip


def _plan(unet: UNet, found: Survey) -> tuple[Plan | None, list[Finding]]:
    """Return what training would do, and a finding where it would refuse the flags or lack memory."""
    assert found.classes is not None  # or there were errors
    try:
        resolve_class_weight(unet.class_weight, found.classes, np.array(list(found.frequencies.values())))
    except ValueError as error:
        return None, [Finding("error", str(error))]
    (n_channels,) = found.channels
    network = unet._network(n_channels, len(found.classes), 0)
    groups = stacks(found.paths)
    parts = split([(h, w) for h, w, _ in found.shapes], unet.validation_fraction, 0, groups=groups)
    sizes = [part.shape for part in parts.training]
    patch_size = fitting_patch(network, unet.patch_size, sizes)
    steps = steps_per_epoch(sum(h * w for h, w in sizes), unet.batch_size, patch_size)
    schedule = Schedule(unet.learning_rate, steps, unet.max_epochs, unet.max_minutes, unet.schedule, unet.warm_up)
    beside = kernels.place(network.flat) == "cpu"  # the images, as float32 and int32, lie in the same memory
    training = Training(
        network, unet.batch_size, patch_size, losses.resolve(unet.loss), OPTIMIZERS[unet.optimizer],
        [part.shape for part in parts.held_out], sum(4 * h * w * (c + 1) for h, w, c in found.shapes) if beside else 0,
        averages=unet.average is not None,
    )  # fmt: skip
    with unet._computing(network):
        findings = [Finding("error", training.refusal)] if training.refusal else []
        findings += [Finding("warning", training.doubt)] if training.doubt else []
        changes = training.changes()[:1] if findings else []
    return Plan(unet, training, schedule, changes[0].parameters if changes else {}), findings


def _print_facts(matching: Matching, found: Survey, n_unreadable: int, verbose: bool) -> None:
    if verbose:
        print("\n".join(f"{shown(pair.image)} with {shown(pair.mask)}" for pair in matching.pairs) + "\n")
    for name, text in _facts(matching, found, n_unreadable):
        print(f"{name:10} {text}")
    if found.classes is not None:
        shares = [(str(value), share) for value, share in found.frequencies.items()]
        width = max(5, *(len(value) for value, _ in shares))
        print("\n".join([f"\n{'class':>{width}}   pixels", *(f"{value:>{width}}  {share:7.2%}" for value, share in shares)]))


def _facts(matching: Matching, found: Survey, n_unreadable: int) -> list[tuple[str, str]]:
    """Return what there is, as rows of a name and a text."""
    n_files = len(matching.pairs) - n_unreadable
    pages = f", the pages of {n_files} file{'s' * (n_files > 1)}" if found.n_pairs > n_files else ""
    rows = [("pairs", f"{found.n_pairs}{pages}{f', besides {n_unreadable} unreadable' if n_unreadable else ''}")]
    for name, paths in (("no mask", matching.images_alone), ("no image", matching.masks_alone)):
        rows += [(name, ", ".join(map(shown, paths)))] if paths else []
    if matching.ignored:
        rows.append(("ignored", f"{names(matching.ignored)}: neither images nor masks by their names"))
    if found.sizes:
        channels = Counter({"grey" if n == 1 else f"{n} channels": count for n, count in found.channels.items()})
        sizes = [f"{h} x {w}" for h, w in sorted(found.sizes, key=lambda size: (size[0] * size[1], size))]
        rows.append(("sizes", sizes[0] if len(sizes) == 1 else f"{len(sizes)} different, from {sizes[0]} to {sizes[-1]}"))
        rows.append(("images", f"{_kinds(channels)}; {_kinds(found.dtypes)}"))
        rows.append(("masks", _kinds(found.mask_dtypes)))
    if found.pixel_size is not None:
        rows.append(("pixel size", told_size(found.pixel_size)))
    return rows


def _kinds(counts: Counter[str]) -> str:
    """Return "uint8", or how many are of each kind."""
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{kind} ({n})" for kind, n in counts.most_common())


def _print_findings(findings: Sequence[Finding], quiet: bool) -> None:
    told = LEVELS[:2] if quiet else LEVELS
    lines = [f"{level}: {text}" for level in told for found, text in findings if found == level]
    if lines:
        print("\n".join(lines if quiet else ["", *lines]), flush=True)


def _print_cost(plan: Plan) -> None:
    """Print the memory that training takes; where it is there, the time, from steps that are taken now."""
    training = plan.training
    print(f"\n{'memory':10} about {size_text(training.takes)}, of {size_text(free_memory(training.network))} free", flush=True)
    if training.refusal or training.doubt:
        return
    notice = Bar(bar_format="timing training steps ...", leave=False) if is_terminal(sys.stderr) else nullcontext()
    with notice, plan.unet._computing(training.network):
        seconds = seconds_per_step(training.network, training.batch_size, training.patch_size)
    print(f"{'time':10} {_time(plan.schedule, seconds)}")


def _time(schedule: Schedule, seconds: float) -> str:
    """Return how long a training takes with so many seconds a step."""
    total = schedule.n_steps * seconds
    each = f"of {schedule.steps_per_epoch} steps, {seconds:{'.2g' if seconds < 10 else '.0f'}} s each"
    if schedule.max_minutes is not None and total > (given := 60 * schedule.max_minutes):
        return f"{_duration(given)} as asked for, about {given / total * schedule.max_epochs:.2g} epochs {each}"
    hint = "; --max-minutes ends it sooner" if schedule.max_minutes is None else ""
    return f"about {_duration(total)} on this machine: {schedule.max_epochs} epochs {each}{hint}"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}" if unit == "min" else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _next(arguments: argparse.Namespace, findings: Sequence[Finding], found: Survey, plan: Plan | None) -> str:
    """Return the command to run next: train, or check again where something must be put right first."""
    changes: dict[str, Any] = {}
    errors = _errors(findings)
    if found.likely_classes and len(errors) == 1:
        changes["classes"] = found.likely_classes
    elif errors and not (plan and plan.changes):
        return f"\nNext, when the errors are put right: {_command('check', arguments, changes)}"
    if found.rare and not hasattr(arguments, "class_weight"):
        changes["class_weight"] = "balanced"
    changes |= plan.changes if plan else {}
    outputs = itertools.chain(["model.safetensors"], (f"model-{number}.safetensors" for number in itertools.count(2)))
    free = next(output for output in outputs if not taken(output))
    return f"\nNext: {_command('train', arguments, changes)} -o {free}"


def _command(name: str, arguments: argparse.Namespace, changes: dict[str, Any]) -> str:
    """Return a command line with the same images, masks and flags, but for the changes; defaults are left out."""
    defaults: dict[str, Any] = {"image_pattern": "*", "mask_pattern": "*", "skip_unpaired": False}
    defaults |= {"classes": None, "ignore": None, "max_pixels": MAX_PIXELS, **UNet().get_params()}
    words = ["minunet", name, str(arguments.images), str(arguments.masks)]
    for flag, default in defaults.items():
        value = changes.get(flag, getattr(arguments, flag, default))
        if flag not in flags.UNFLAGGED and value != default:
            words += _flag_words(f"--{flag.replace('_', '-')}", value)
    return " ".join(map(_quoted, words))


def _flag_words(flag: str, value: Any) -> list[str]:
    if value == "flips":
        return ["--flips-only"]
    if isinstance(value, bool):
        return [flag] if value else [f"--no-{flag[2:]}"]
    if isinstance(value, dict):
        return [flag, ",".join(f"{key}={weight:g}" for key, weight in value.items())]
    if isinstance(value, tuple):
        return [flag, ",".join(f"{number:g}" for number in value)]
    return [flag, *map(word, value)] if isinstance(value, list) else [flag, str(value)]


def _quoted(word: str) -> str:
    """Return the word as a shell takes it, on one line: what does not print as the octal codes of its bytes."""
    if word.isprintable():
        return shlex.quote(word)
    codes = [c if c.isprintable() and c not in "\\'" else "".join(f"\\{byte:03o}" for byte in os.fsencode(c)) for c in word]
    return f"$'{''.join(codes)}'"
