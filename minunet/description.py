"""What a model file says of a model besides its weights: written from a fitted UNet, and checked whole before one is made."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from . import losses, trainingstate
from .data import augment, instances
from .data.border import setting as border_setting
from .data.labels import resolve_class_weight
from .data.normalize import LIMIT, PERCENTILES, Normalizer
from .data.pixelsize import LEAST, MOST
from .data.stacks import MOST as MOST_AROUND
from .network import Network
from .parameters import CHOICES, check_parameters
from .text import line
from .untrusted import BOOL, LIST, OBJECT, WHOLE, Field, RefusedError, check_fields, check_names, is_number, one_of, require
from .warn import warn

if TYPE_CHECKING:
    from .unet import UNet

DTYPES = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))  # those that masks have
FIRST = (  # parameters that every file has: files from before there was one of the others lack it
    "base_channels", "depth", "padding", "dropout", "loss", "class_weight", "optimizer", "learning_rate", "momentum",
    "weight_decay", "batch_size", "patch_size", "max_epochs", "max_minutes", "augment", "normalize", "validation_fraction",
    "random_state", "device", "n_threads", "verbose",
)  # fmt: skip
OF_NETWORK = tuple(  # parameters that its config states, too
    name for name in inspect.signature(Network).parameters if name not in ("in_channels", "out_channels", "random_state", "dtype")
)
OWN = ("loss", "augment")  # parameters that may be code of the user's, of which a file has what it calls itself
FINITE = ("loss", "learning_rate", "seconds", "steps")  # series without NaN; what is held out may have no Dice, or no loss
SHARES = ("val_dice", "val_iou", "val_pixel_error", "val_boundary_f")  # how series begin whose numbers are shares
MAX_NAME = 100  # characters of a series' name
MAX_OWN = 10_000  # characters of what a loss or a function of the user's calls itself
MAX_IGNORED = 1000  # mask values
MAX_PIXELS = 2**62  # of an object
MAX_THREADS = 4096  # what is estimated of memory grows with them

DESCRIPTION: dict[str, Field] = {
    "estimator": OBJECT, "classes": OBJECT, "normalizer": OBJECT, "channel_axis": BOOL, "random_state": WHOLE,
    "history": OBJECT, "interrupted": BOOL, "class_frequencies": LIST, "snap": BOOL, "ignore_index": LIST,
    "pixel_size": (
        lambda value: value is None or (is_number(value) and LEAST <= value <= MOST),
        f"null or micrometres from {LEAST} to {MOST:.0f}",
    ),
    "threshold": (lambda value: value is None or (is_number(value) and 0 < value < 1), "null or a number between 0 and 1"),
    "smallest_object": (
        lambda value: value is None or (type(value) is int and 1 <= value <= MAX_PIXELS),
        f"null or a number of pixels from 1 to {MAX_PIXELS}",
    ),
}  # fmt: skip
CHECKPOINT = {"training": OBJECT}  # which a checkpoint has, and a model has not
# What files from before there was such a field mean.
SINCE: dict[str, Any] = {"ignore_index": [], "pixel_size": None, "threshold": None, "smallest_object": None}
CLASSES: dict[str, Field] = {"values": LIST, "dtype": one_of(DTYPES), "joined": LIST}
JOINED = ("joined",)  # which files of models lack that were trained without
MAX_JOINED = 1000  # values that are one with a class
_LIST_OR_NONE: Field = (lambda value: value is None or isinstance(value, list), "null or a list")
NORMALIZER: dict[str, Field] = {
    "mode": one_of(CHOICES["normalize"]), "low": _LIST_OR_NONE, "high": _LIST_OR_NONE, "narrowest": _LIST_OR_NONE,
    "percentiles": LIST, "limit": (lambda value: value is None or value == LIMIT, f"null or {LIMIT}"),
}  # fmt: skip
OLD_NORMALIZER: dict[str, Any] = {"narrowest": None, "percentiles": list(PERCENTILES), "limit": None}
OWN_TEXT: Field = (
    lambda value: isinstance(value, str) and len(value) <= MAX_OWN and value.replace("\n", "").isprintable(),
    f"a name, up to {MAX_OWN} printable characters",
)
ESTIMATOR: dict[str, Field] = {  # of the estimator's parameters, what fit does not ask, or asks of the machine
    "device": one_of(("auto", "cpu")),
    "precision": one_of(("auto",)),
    "n_threads": (
        lambda value: value is None or (type(value) is int and 1 <= value <= MAX_THREADS),
        f"null or a whole number from 1 to {MAX_THREADS}",
    ),
    "border_weight": (
        lambda value: value in (None, True) or (isinstance(value, list) and len(value) == 2 and all(map(is_number, value))),
        "null, true or two numbers",
    ),
    "loss": OWN_TEXT,
}  # fmt: skip


def described(unet: UNet) -> dict[str, Any]:
    """Return what JSON can hold of a fitted UNet, but for its weights."""
    parameters = _parameters(unet)
    if parameters["n_threads"] is not None:  # more serve on no machine, and are refused in a file: the model is worth more
        parameters["n_threads"] = min(parameters["n_threads"], MAX_THREADS)
    return {
        "estimator": parameters | {name: line(text) for name in OWN if isinstance(text := parameters[name], str)},
        "classes": {"values": unet.classes_.tolist(), "dtype": unet.classes_.dtype.name}
        | ({"joined": [list(pair) for pair in sorted(unet.joined_.items())]} if unet.joined_ else {}),
        "normalizer": unet.normalizer_.to_dict(),
        "channel_axis": unet.channel_axis_,
        "random_state": unet.random_state_,
        "history": _recent(unet.history_),
        "interrupted": unet.interrupted_,
        "class_frequencies": unet.class_frequencies_.tolist(),
        "snap": unet.snap_,
        "pixel_size": unet.pixel_size_,
        "ignore_index": unet.ignore_index_,
        "threshold": unet.threshold_,
        "smallest_object": unet.smallest_object_,
    }


def _parameters(unet: UNet) -> dict[str, Any]:
    """Return the parameters as JSON can hold them, and as they were in fit, of what its model tells; others may be set since.

    Weights by mask value become weights in the order of classes_.
    """
    params, weight = unet._settings(), unet.class_weight
    if not (weight is None or isinstance(weight, str)):
        with contextlib.suppress(ValueError):  # of weights that were set since and cannot be meant the file's check tells
            weight = resolve_class_weight(weight, unet.classes_, unet.class_frequencies_)
    loss = unet.loss  # whose code stays here: of one's own the file has what it was, for fit to refuse
    if not isinstance(loss, str):
        loss = loss.name if repr(losses.LOSSES.get(loss.name)) == repr(loss) else repr(loss)
    seed, config = None if unet.random_state is None else unet.random_state_, unet.network_.config
    border: Any = unet.border_weight
    if isinstance(border, (tuple, list, np.ndarray)):
        border = list(border_setting(border) or ())
    own = {"border_weight": border, "class_weight": weight, "loss": loss, "random_state": seed}
    own |= {"normalize": unet.normalizer_.setting, "context": unet.context_}
    own["target"] = "classes" if unet.smallest_object_ is None else "instances"
    own |= {name: config[name] for name in config if name in params and name not in own}
    params |= own | {"device": "auto", "precision": "auto", "augment": augment.described(unet.augment)}  # two are a machine's
    return {name: _plain(value) for name, value in params.items()}


def _plain(value: Any) -> Any:
    """Return a value of NumPy's as Python has it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    kinds = ((np.bool_, bool), (np.integer, int), (np.floating, float), (np.str_, str))
    return next((kind(value) for of, kind in kinds if isinstance(value, of)), value)


def restore(unet: UNet, said: dict[str, Any]) -> None:
    """Give a UNet the attributes that fit had given to the one described; `check` has passed what is said."""
    said = SINCE | said
    unet.classes_ = np.array(said["classes"]["values"], said["classes"]["dtype"])
    unet.joined_ = dict(said["classes"].get("joined", ()))
    unet.normalizer_ = Normalizer.from_dict(said["normalizer"])
    unet.normalize, unet.augment = unet.normalizer_.setting, augment.restored(unet.augment)
    unet.border_weight = tuple(unet.border_weight) if isinstance(unet.border_weight, list) else unet.border_weight
    unet.channel_axis_, unet.random_state_ = said["channel_axis"], said["random_state"]
    unet.history_, unet.interrupted_ = said["history"], said["interrupted"]
    unet.ignore_index_, unet.pixel_size_ = list(said["ignore_index"]), said["pixel_size"]
    unet.threshold_, unet.context_ = said["threshold"], unet.context
    unet.n_channels_in_ = unet.network_.in_channels // (2 * unet.context + 1)
    unet.smallest_object_ = said["smallest_object"]
    unet.class_frequencies_, unet.snap_ = np.array(said["class_frequencies"], float), said["snap"]


def check(said: dict[str, Any], config: dict[str, Any]) -> None:
    """Refuse a description that contradicts itself or its network's config, by the name of the field."""
    said = SINCE | said
    check_fields("", said, DESCRIPTION | CHECKPOINT, optional=CHECKPOINT)
    _check_ignored(said["ignore_index"])
    _check_classes(said["classes"], config["out_channels"])
    _check_normalizer(said["normalizer"], _channels(said["estimator"].get("context", 0), config["in_channels"]))
    _check_frequencies(said["class_frequencies"], config["out_channels"])
    two = said["threshold"] is None or config["out_channels"] == 2
    require(two, "threshold", said["threshold"], f"null: the network has {config['out_channels']} classes, and it divides two")
    _check_history(said["history"])
    seed = config["random_state"]
    require(said["random_state"] == seed, "random_state", said["random_state"], f"the network's, {seed}")
    _check_estimator(said["estimator"], said, config)
    if "training" in said:
        trainingstate.check(said["training"], said["history"], said["classes"]["values"])


def _channels(context: Any, n: int) -> int:
    """Return how many channels the images have of a network that sees n, with so many slices on each side."""
    fits = type(context) is int and 0 <= context <= MOST_AROUND and n % (2 * context + 1) == 0
    takes = f"a whole number from 0 to {MOST_AROUND}, and the network's {n} channels are those of 2 context + 1 slices"
    require(fits, "estimator.context", context, takes)
    return n // (2 * int(context) + 1)


def _check_classes(classes: dict[str, Any], k: int) -> None:
    """Hold mask values against their type, one of a few: of what NumPy calls a type, some take 4 GB for a value."""
    check_fields("classes", classes, CLASSES, optional=JOINED)
    values, dtype = classes["values"], classes["dtype"]
    require(len(values) == k >= 2, "classes.values", values, f"one value for each of the network's {k} classes, two at least")
    kind = bool if dtype == "bool" else int
    low, high = (0, 1) if kind is bool else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    for value in values:
        takes = "false and true" if kind is bool else f"whole numbers from {low} to {high}, those of {dtype}"
        require(type(value) is kind and low <= value <= high, "a value of classes.values", value, takes)
    rising = all(a < b for a, b in itertools.pairwise(values))
    require(rising, "classes.values", values, "different values in rising order")
    _check_joined(classes.get("joined", []), values)


def _check_joined(joined: list[Any], values: list[int]) -> None:
    takes = f"at most {MAX_JOINED} pairs of a value in 64 bits, each once and no class, and the class that it is one with"
    pairs = len(joined) <= MAX_JOINED and all(isinstance(pair, list) and len(pair) == 2 for pair in joined)
    fits = pairs and all(type(v) is int and abs(v) < 2**63 and v not in values and name in values for v, name in joined)
    require(fits and len({v for v, _ in joined}) == len(joined), "classes.joined", joined, takes)


def _check_ignored(values: list[Any]) -> None:
    fits = len(values) <= MAX_IGNORED and all(type(v) is int and -(2**63) <= v < 2**64 for v in values)
    require(fits, "ignore_index", values, f"up to {MAX_IGNORED} whole numbers, of 64 bits")


def _check_normalizer(normalizer: dict[str, Any], channels: int) -> None:
    check_fields("normalizer", OLD_NORMALIZER | normalizer if isinstance(normalizer, dict) else normalizer, NORMALIZER)
    normalizer = OLD_NORMALIZER | normalizer
    low, high, narrowest, percentiles = (normalizer[name] for name in ("low", "high", "narrowest", "percentiles"))
    rising = len(percentiles) == 2 and all(map(is_number, percentiles)) and 0 <= percentiles[0] < percentiles[1] <= 100
    require(rising, "normalizer.percentiles", percentiles, "two rising numbers from 0 to 100")
    per_image = normalizer["mode"] == "image"
    require(per_image or percentiles == list(PERCENTILES), "normalizer.percentiles", percentiles, f"{list(PERCENTILES)}")
    usual = per_image and narrowest is not None  # files from before there was a usual range have none
    takes = f"a finite number for each of the network's {channels} channels"
    for name, given in (("low", low), ("high", high), ("narrowest", narrowest)):
        if usual or (not per_image and name != "narrowest"):
            fits = given is not None and len(given) == channels and all(is_number(v) and math.isfinite(v) for v in given)
            require(fits, f"normalizer.{name}", given, takes)
        else:
            require(given is None, f"normalizer.{name}", given, "null, as each image has its own")
    if low is not None:
        rising = all(a <= b for a, b in zip(low, high, strict=True))
        require(rising, "normalizer.low", low, f"at most normalizer.high, {high[:6]}")
    require(not usual or min(narrowest) >= 0, "normalizer.narrowest", narrowest, "numbers from 0 up")


def _check_frequencies(shares: list[Any], k: int) -> None:
    fits = len(shares) == k and all(is_number(v) and 0 <= v <= 1 for v in shares) and abs(sum(shares) - 1) < 1e-6
    require(fits, "class_frequencies", shares, f"a share of all pixels for each of the network's {k} classes, 1 in all")


def _check_history(history: dict[str, Any]) -> None:
    lengths = {}
    for name, series in history.items():
        require(len(name) <= MAX_NAME and name.isprintable(), "a name in history", name, "a short one of printable characters")
        where = f"history.{name}"
        require(isinstance(series, list) and all(map(_is_logged, series)), where, series, "a list of numbers, of 64 bits")
        require(name not in FINITE or all(map(math.isfinite, series)), where, series, "finite numbers")
        lengths[name] = len(series)
    equal = len(set(lengths.values())) <= 1
    require(equal, "history", lengths, "lists of one length, with a number for each epoch")
    require("loss" in history or not history, "history", lengths, "the loss among its lists, or nothing at all")
    for name in ("learning_rate", "seconds", "steps"):
        require(all(value >= 0 for value in history.get(name, ())), f"history.{name}", history.get(name), "numbers from 0 up")
    dice = history.get("val_dice", [])
    for name in (name for name in history if name.startswith(SHARES)):
        shares = all(math.isnan(value) or 0 <= value <= 1 for value in history[name])
        require(shares, f"history.{name}", history[name], "numbers from 0 to 1, or NaN")
    require(not dice or not all(map(math.isnan, dice)), "history.val_dice", dice, "a number in one epoch at least")


def _is_logged(value: Any) -> bool:
    """Tell whether NumPy makes a number of this, too, and not an object."""
    return is_number(value) and (type(value) is float or abs(value) < 2**63)


def _check_estimator(given: dict[str, Any], said: dict[str, Any], config: dict[str, Any]) -> None:
    """Ask of the parameters what fit asks, and that they are those with which the network was made."""
    from .unet import UNet  # which is made of modules that import this one

    defaults = {name: p.default for name, p in inspect.signature(UNet).parameters.items()}
    check_names("estimator", given, defaults, optional=[name for name in defaults if name not in FIRST])
    given = defaults | given
    longer = {"border_weight", "class_weight", "normalize", *OWN}
    for name in given.keys() - longer:  # before anything large is compared with, or told at length
        value = given[name]
        plain = isinstance(value, (bool, int, float, type(None))) or (isinstance(value, str) and len(value) <= MAX_NAME)
        require(plain, f"estimator.{name}", value, "a number, true, false, null or a short text")
    for name, (holds, takes) in ESTIMATOR.items():
        require(holds(given[name]), f"estimator.{name}", given[name], takes)
    for name in OF_NETWORK:
        require(given[name] == config[name], f"estimator.{name}", given[name], f"what the network has, {config[name]!r}")
    seed, setting = said["random_state"], Normalizer.from_dict(said["normalizer"]).setting
    mode = setting if isinstance(setting, str) else list(setting)
    require(given["random_state"] in (None, seed), "estimator.random_state", given["random_state"], f"null or {seed}")
    require(given["normalize"] == mode, "estimator.normalize", given["normalize"], f"the normalizer's mode, {mode!r}")
    _check_target(given["target"], said)
    _check_class_weight(given["class_weight"], said)
    known = given["loss"] if given["loss"] in losses.LOSSES else "cross_entropy"  # another's is fit's to refuse: it has no code
    _check_augment(given["augment"])
    try:
        check_parameters(UNet(**given | {"loss": known, "augment": True, "device": "cpu"}))
    except (ValueError, TypeError, OverflowError) as error:
        raise RefusedError(f"estimator.{error}") from None


def _check_augment(given: Any) -> None:
    """Refuse strengths that fit would; a function's name is fit's to refuse."""
    holds, takes = OWN_TEXT
    takes = f"true, false, an object of strengths, or {takes}"
    if isinstance(given, dict):
        check_names("estimator.augment", given, augment.STRENGTHS)
        try:
            augment.restored(given)
        except ValueError as error:
            raise RefusedError(f"estimator.augment.{error}") from None
    else:
        require(type(given) is bool or holds(given), "estimator.augment", given, takes)


def _check_target(target: Any, said: dict[str, Any]) -> None:
    """Hold the parameter against what was learned: ground, inside and border, and how small an object is."""
    classes, size = said["classes"]["values"], said["smallest_object"]
    require(target in CHOICES["target"], "estimator.target", target, " or ".join(CHOICES["target"]))
    of_instances = target == "instances"
    takes = "a number of pixels, as estimator.target is instances" if of_instances else "null, as estimator.target is classes"
    require((size is not None) == of_instances, "smallest_object", size, takes)
    fits = not of_instances or classes == instances.CLASSES.tolist()
    require(fits, "classes.values", classes, f"{instances.CLASSES.tolist()}, as estimator.target is instances")


def _check_class_weight(weight: Any, said: dict[str, Any]) -> None:
    k = len(said["class_frequencies"])
    numbers = isinstance(weight, list) and len(weight) == k and all(map(is_number, weight))  # NumPy takes texts for numbers
    takes = f"null, 'balanced' or a list of {k} numbers"
    require(numbers or weight in (None, "balanced"), "estimator.class_weight", weight, takes)
    try:
        resolve_class_weight(weight, np.array(said["classes"]["values"]), np.array(said["class_frequencies"]))
    except ValueError as error:
        raise RefusedError(f"estimator.{error}") from None


def _recent(history: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return a history as it goes into a file: of a very long one the last epochs, for the model is worth more than its curve."""
    n_epochs = max(map(len, history.values()), default=0)
    kept = trainingstate.most_epochs(history)
    if n_epochs <= kept:
        return history
    warn(f"the history has {n_epochs} epochs; the model file keeps the last {kept}")
    return {name: values[-kept:] for name, values in history.items()}
