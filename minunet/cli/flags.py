"""What commands share: flags for the data and for every parameter of the estimator, described by its docstring; progress."""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ..bar import Bar, is_terminal
from ..data.contradictions import Class
from ..data.images import MAX_PIXELS
from ..description import OF_NETWORK
from ..network import outlined
from ..parameters import CHOICES, check_parameters
from ..text import shown
from ..unet import UNet, load
from ..warmstart import SETTLED
from .console import complain

Item = TypeVar("Item")
UNFLAGGED = ("verbose", "warm_start")  # -q and -v, and --init of `train`, are their flags


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """Add IMAGES and MASKS, and which files of them count."""
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of images, or one file (a stack, say)")
    parser.add_argument("masks", type=Path, metavar="MASKS", help="folder of masks (it may be the same), or one file")
    group = parser.add_argument_group("which files and values count")
    group.add_argument("--image-pattern", default="*", metavar="GLOB", help="such as 'scan*.tif'; its * is the pairs' name")
    group.add_argument("--mask-pattern", default="*", metavar="GLOB", help="such as '*_manual1.gif'; its * is the pairs' name")
    group.add_argument("--skip-unpaired", action="store_true", help="leave out what has no partner, instead of refusing")
    group.add_argument(
        "--classes", type=_class, nargs="+", metavar="VALUE",
        help="the mask values that count: each pixel is taken for the nearest; 255,1 is one class, called 255",
    )  # fmt: skip
    group.add_argument(
        "--ignore", type=int, nargs="+", metavar="VALUE", help="mask values that say nothing, such as 255: no class, not learned"
    )
    add_pixel_flag(group)


def add_pixel_flag(group: argparse._ActionsContainer) -> None:
    """Add what a file may decode to: its size on disk tells nothing of that."""
    group.add_argument(
        "--max-pixels", type=_pixels, default=MAX_PIXELS, metavar="N",
        help="refuse a file of more pixels, all its pages together, before they take memory (default: %(default)s)",
    )  # fmt: skip


def add_tta_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tta", action="store_true", help="average over the 8 quarter turns and flips of each image: better, in 8 times the time"
    )


def pairing(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the data flags as `folders.read_pairs` takes them."""
    return {name: getattr(arguments, name) for name in ("image_pattern", "mask_pattern", "skip_unpaired", "max_pixels")}


def add_output_flags(parser: argparse.ArgumentParser, *, verbose: str) -> None:
    """Add -q and -v; `verbose` says what the latter tells."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-q", "--quiet", action="store_true", help="print nothing but warnings and errors")
    group.add_argument("-v", "--verbose", action="store_true", help=verbose)


def add_estimator_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every parameter of UNet, with its default and its docstring's words."""
    group = parser.add_argument_group("the network and its training (docs/choices.md says why each default is what it is)")
    hints, words = get_type_hints(UNet.__init__), _descriptions()
    for name, parameter in inspect.signature(UNet.__init__).parameters.items():
        if name in ("self", *UNFLAGGED):
            continue
        default = "" if parameter.default is None else f" (default: {parameter.default})"
        options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": f"{words.get(name, name)}{default}".replace("%", "%%")}
        if hints[name] is bool or name == "augment":
            options["action"] = argparse.BooleanOptionalAction
        elif name == "normalize":
            options |= {"type": _normalize, "metavar": "SCALE"}
        elif name == "threshold":
            options |= {"type": _number_or_text, "metavar": "N"}
        elif name == "border_weight":
            options |= {"type": _border_weight, "metavar": "W0,SIGMA"}
        elif name == "class_weight":
            options |= {"type": _class_weight, "metavar": "WEIGHTS", "help": "balanced, or VALUE=WEIGHT,VALUE=WEIGHT,..."}
        else:
            types = [t for t in (int, float, str) if t in getattr(hints[name], "__args__", (hints[name],))]
            options |= {"type": types[0], "choices": CHOICES.get(name)}
            options |= {} if name in CHOICES else {"metavar": "NAME" if types[0] is str else "N"}
        group.add_argument(f"--{name.replace('_', '-')}", **options)
        if name == "augment":  # whose strengths and functions are Python's
            options = {"action": "store_const", "const": "flips", "default": argparse.SUPPRESS}
            group.add_argument("--flips-only", dest=name, **options, help="turn and flip patches, and change nothing else")


def estimator(arguments: argparse.Namespace, init: Path | None = None) -> UNet:
    """Return the UNet that the flags describe; a wrong value ends the program as wrong use does, with status 2.

    init : a model file to go on with: what it has settled is taken from there, where no flag says it.
    """
    given = {name: vars(arguments)[name] for name in UNet().get_params() if name in vars(arguments) and name not in UNFLAGGED}
    unet = UNet() if init is None else load(init)
    own = {} if init is None else {name: getattr(unet, name) for name in (*OF_NETWORK, *SETTLED)}
    for name in SETTLED if init else ():
        if given.get(name, own[name]) != own[name]:
            flag = f"--{name.replace('_', '-')}"
            arguments.parser.error(f"{flag} is {given[name]}, but {init} has {own[name]}: leave {flag} out, or --init")
    told = {"verbose": 0 if getattr(arguments, "quiet", False) else 1, "warm_start": init is not None}
    unet = _checked(unet.set_params(**UNet().get_params() | own | given | told), arguments)
    unet._require_weights()  # here, before images are read
    return unet


def add_machine_flags(parser: argparse.ArgumentParser) -> None:
    """Add where a model that is there computes."""
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, gpu or gpu:1")
    parser.add_argument("--n-threads", type=int, metavar="N", help="default: all cores, of a container its share")


def machine(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return these flags as parameters of UNet; a wrong value ends the program as wrong use does, before anything is read."""
    quiet = getattr(arguments, "quiet", False)
    parameters = {"device": arguments.device, "n_threads": arguments.n_threads, "verbose": 0 if quiet else 1}
    _checked(UNet(**parameters), arguments)
    return parameters


def loaded(path: Path, machine: dict[str, Any]) -> UNet:
    """Return a model to use on this machine; of one whose training was cut short that is told, once for all images."""
    unet = load(path).set_params(**machine)
    if unet.interrupted_:
        complain(f"warning: the training of {shown(path)} was cut short at epoch {unet.n_iter_}")
        unet.interrupted_ = False
    return unet


def _checked(unet: UNet, arguments: argparse.Namespace) -> UNet:
    try:
        check_parameters(unet)
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        arguments.parser.error(f"--{name.replace('_', '-')} {rest}")
    return unet


def model_bytes(unet: UNet) -> int:
    """Return about how many bytes a model of these parameters takes in a file, at least."""
    return 4 * outlined(unet._config(1, 2, 0)).n_parameters


def _descriptions() -> dict[str, str]:
    """Return what UNet's docstring says of each parameter: lines "name, name : words", continued on deeper lines."""
    _, _, after = inspect.cleandoc(UNet.__doc__ or "").partition("----------\n")  # python -OO has none
    block = after.split("\n\n")[0]
    words: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", block):
        names, _, text = entry.partition(" : ")
        text = re.sub(r"\s+", " ", text).strip().rstrip(".")
        words |= {name.strip(): text for name in names.split(",")}
    return words


def _pixels(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{json.dumps(text)} is no number of pixels, such as {4 * MAX_PIXELS}")
    return int(text)


def _class(text: str) -> Class:
    if not re.fullmatch("-?[0-9]{1,19}(,-?[0-9]{1,19})*", text):
        form = "a mask value, or several that are one class, as in 255,1"
        raise argparse.ArgumentTypeError(f"{json.dumps(text)} is no class; it takes {form}")
    values = tuple(map(int, text.split(",")))
    return values if len(values) > 1 else values[0]


def _class_weight(text: str) -> Any:
    if text == "balanced":
        return text
    try:
        return {int(value): float(weight) for value, weight in (item.split("=") for item in text.split(","))}
    except ValueError:
        form = "'balanced', or a weight for each mask value, as in 0=1,255=0.2"
        raise argparse.ArgumentTypeError(f"{json.dumps(text)} is no class weight; it takes {form}") from None


def _number_or_text(text: str) -> float | str:
    """Return the number that it is, or the text, for UNet to look at."""
    try:
        return float(text)
    except ValueError:
        return text


def _border_weight(text: str) -> Any:
    try:
        w0, sigma = map(float, text.split(","))
    except ValueError:
        form = "two numbers, w0 and sigma, as in 10,5"
        raise argparse.ArgumentTypeError(f"{json.dumps(text)} is no border weight; it takes {form}") from None
    return w0, sigma


def _normalize(text: str) -> Any:
    """Return the text, for UNet to look at, or the two percentiles that it is."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        return text
    return low, high


def each(items: Iterable[Item], label: str, quiet: bool) -> Iterable[Item]:
    """Return the items, with a bar in a terminal that moves as they are taken."""
    return Bar(items, desc=label, unit="image", leave=False) if is_terminal(sys.stderr) and not quiet else items


@contextmanager
def about(name: str, *, pages: int = 1) -> Iterator[None]:
    """Say which image a ValueError or a warning is about."""
    with named(["the image"] if pages == 1 else [f"page {i}" for i in range(1, pages + 1)], f"{name}: "):
        yield


@contextmanager
def named(names: Sequence[str], before: str = "") -> Iterator[None]:
    """Call images in errors and warnings what the user calls them: x[0] is the first of the names, y[0] its mask."""

    def renamed(text: str) -> str:
        def call(found: re.Match[str]) -> str:
            name = names[int(found[2])] if int(found[2]) < len(names) else found[0]
            return name if found[1] == "x" else f"the mask of {name}"

        return re.sub(r"\b([xy])\[(\d+)\]", call, text)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_, **__: complain(f"warning: {before}{renamed(str(message))}")
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{before}{renamed(str(error))}") from error
        except FloatingPointError as error:
            raise FloatingPointError(f"{before}{renamed(str(error))}") from error
