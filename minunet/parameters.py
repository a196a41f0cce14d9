"""What the estimator's parameters may be: checked in fit, before anything else happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import blocks, losses
from .blocks import BLOCKS, NORMS
from .checks import MOST, check_deep_supervision, check_depth, is_number, is_whole, mismatch, require, shown
from .data import augment, border
from .data.pixelsize import LEAST
from .data.pixelsize import MOST as MOST_MICROMETRES
from .data.stacks import MOST as MOST_AROUND
from .devices import precision_at, resolve
from .kernels import ALGORITHMS, PRECISIONS
from .losses import LOSSES
from .optim import OPTIMIZERS
from .training.schedule import SCHEDULES

if TYPE_CHECKING:
    from .unet import UNet

CHOICES = {
    "padding": ("same", "valid"),
    "loss": tuple(LOSSES),
    "block": tuple(BLOCKS),
    "norm": tuple(NORMS),
    "optimizer": tuple(OPTIMIZERS),
    "schedule": tuple(SCHEDULES),
    "normalize": ("image", "dataset"),
    "target": ("classes", "instances"),
    "algorithm": ALGORITHMS,
    "precision": ("auto", *PRECISIONS),
}
_WHOLE = {
    "base_channels": 1, "depth": 0, "batch_size": 1, "patch_size": 1, "max_epochs": 1, "n_threads": 1, "random_state": 0,
    "verbose": 0, "n_iter_no_change": 1, "context": 0,
}  # fmt: skip
_MOST = dict.fromkeys(("base_channels", "batch_size", "patch_size"), MOST)
_UNBOUNDED = ("max_epochs", "n_iter_no_change", "n_threads", "random_state", "verbose")
_MOST |= dict.fromkeys(_UNBOUNDED, 10**400 - 1) | {"context": MOST_AROUND}  # what a model file can hold
_POSITIVE = ("learning_rate", "max_minutes", "clip_norm")
_SHARES = ("dropout", "momentum", "validation_fraction", "warm_up")
_FROM_ZERO = ("weight_decay", "tol")
_MAY_BE_NONE = ("n_threads", "random_state", "max_minutes", "norm", "clip_norm", "average", "weight_decay")


def check_parameters(unet: UNet) -> None:
    """Raise a ValueError that names the first parameter that cannot be meant."""
    given = {name: value for name, value in unet._settings().items() if not (value is None and name in _MAY_BE_NONE)}
    losses.resolve(given["loss"])
    border.setting(given["border_weight"])
    blocks.resolve(given["block"])
    for name, choices in CHOICES.items():
        if name not in given:
            continue
        if name in ("loss", "block", "normalize") and not isinstance(given[name], str):
            continue  # the user's own
        known = isinstance(given[name], str) and given[name] in choices
        _require(known, name, given[name], _or_none(name) + " or ".join(map(repr, choices)))
    if not isinstance(given["normalize"], str):
        _check_percentiles(given["normalize"])
    precision_at(resolve(given["device"]), given["precision"])
    for name in (name for name in _WHOLE if name in given):
        value, least = given[name], _WHOLE[name]
        takes = f"{_or_none(name)}a whole number from {least} up"
        if isinstance(value, (np.random.RandomState, np.random.Generator)):  # of which each fit would draw another seed
            takes += f": int({name}.{'randint' if hasattr(value, 'randint') else 'integers'}(2**31)) draws one"
        _require(is_whole(value) and value >= least, name, value, takes)
    for name, most in _MOST.items():
        _require(given.get(name, 0) <= most, name, given.get(name), f"up to {most if most < 2**63 else '400 digits'}")
    check_depth(given["depth"], given["base_channels"])
    check_deep_supervision(given["deep_supervision"], given["padding"])
    for name in _POSITIVE:
        if name in given:
            _require(is_number(given[name]) and given[name] > 0, name, given[name], f"{_or_none(name)}a number above 0")
    for name in _SHARES:
        _require(is_number(given[name]) and 0 <= given[name] < 1, name, given[name], "a number from 0 to below 1")
    augment.check(given["augment"])
    for name in ("early_stopping", "warm_start"):
        _require(isinstance(given[name], (bool, np.bool_)), name, given[name], "True or False")
    for name in (name for name in _FROM_ZERO if name in given):
        _require(is_number(given[name]) and given[name] >= 0, name, given[name], f"{_or_none(name)}a number from 0 up")
    threshold = given["threshold"]
    known = threshold is None or (isinstance(threshold, str) and threshold == "validation")
    fits = known or (is_number(threshold) and 0 < threshold < 1)
    _require(fits, "threshold", threshold, "None, 'validation' or a number between 0 and 1")
    if given["target"] == "instances":
        takes = 'None beside target="instances" (--target instances), for which borders are a class of their own'
        _require(given["border_weight"] is None, "border_weight", given["border_weight"], takes)
    average = given.get("average", 0.5)
    between = is_number(average) and 0 < average < 1
    _require(between, "average", average, "None or a number above 0 and below 1, such as 0.999")
    rises = given["schedule"] == "one_cycle" and given["warm_up"] > 0
    _require(not rises, "warm_up", given["warm_up"], "0 with schedule='one_cycle' (--schedule one_cycle), which rises by itself")


def _or_none(name: str) -> str:
    """Return the beginning of what is told of a parameter that may be None."""
    return "None or " if name in _MAY_BE_NONE else ""


def _check_percentiles(given: Any) -> None:
    pair = isinstance(given, (tuple, list)) and len(given) == 2 and all(map(is_number, given))
    fits = pair and 0 <= given[0] < given[1] <= 100
    _require(fits, "normalize", given, "'image', 'dataset' or two rising percentiles from 0 to 100, as (1, 99.8)")


def check_callbacks(callbacks: Any) -> None:
    """Raise a ValueError unless each callback has on_epoch_end(epoch, logs): else an epoch would be lost before it failed."""
    several = isinstance(callbacks, (list, tuple))
    for i, callback in enumerate(callbacks if several else [callbacks]):
        takes, name = "objects with a method on_epoch_end(epoch, logs)", f"callbacks[{i}]"
        if isinstance(callback, type):
            takes += f": {callback.__name__}() makes one of the class"
        elif callable(callback):
            takes += f": types.SimpleNamespace(on_epoch_end={name}) makes one of a function"
        has = callable(getattr(callback, "on_epoch_end", None)) and not isinstance(callback, type)
        _require(has, name, callback, takes)
        wrong = mismatch(callback.on_epoch_end, 0, {})
        require(not wrong, f"{name}.on_epoch_end", f"a function of other arguments ({wrong})", "(epoch, logs)")
    _require(several, "callbacks", callbacks, "a list of them: [callback]")


def check_pixel_size(size: Any) -> None:
    """Raise a ValueError unless this is None or a length in micrometres that a pixel may have."""
    holds = size is None or (is_number(size) and LEAST <= size <= MOST_MICROMETRES)
    _require(holds, "pixel_size", size, f"None or micrometres, from {LEAST} to {MOST_MICROMETRES:.0f}")


def _require(holds: bool, name: str, value: Any, takes: str) -> None:
    require(holds, name, shown(value), takes)
