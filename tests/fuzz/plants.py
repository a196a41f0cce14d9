"""Faults to plant, each a promise's guard taken out: a fuzzer that finds nothing must be able to find these.

Where a guard got another name, carry the plant over.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple


class Plant(NamedTuple):
    """A fault in what a target fuzzes: `plant` makes it, in this process. `finds`: the kind of failure that shows it.

    `seed`: cases among which it shows soon.
    """

    finds: str
    target: str
    plant: Callable[[], Any]
    seed: str = "b"


def _replace(module: str, name: str, value: Any) -> Callable[[], None]:
    """Return what puts something else in the place of a function, or of a class's method, that is there."""

    def plant() -> None:
        owner: Any = importlib.import_module(module)
        *way, last = name.split(".")
        for part in way:
            owner = getattr(owner, part)
        assert hasattr(owner, last), f"{module} has no {name} any more"
        setattr(owner, last, value)

    return plant


def _nothing(*_: Any, **__: Any) -> None:
    return None


class _Anything(str):
    """A text that is equal to every other."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


PLANTS = {
    "weights are not held to their sum": Plant(
        "what was damaged is refused", "model", _replace("minunet.modelfile", "_sum_of_weights", lambda _: _Anything())
    ),
    "of a name that stands twice the last counts": Plant(
        "of a name that stands twice", "model", _replace("minunet.untrusted", "_once", dict)
    ),
    "classes are not looked at": Plant(
        "in description.py:", "model", _replace("minunet.description", "_check_classes", _nothing), seed="f"
    ),
    "what libraries say of an image is printed": Plant(
        "nothing is printed", "image", _replace("minunet.data.images", "_quiet", contextlib.nullcontext)
    ),
    "numbers need not be finite": Plant(
        "a page has pixels, all finite", "image", _replace("minunet.data.images", "_opaque", lambda page, *_: page)
    ),
    "a file's name is left out": Plant("names the file", "image", _replace("minunet.data.images", "shown", lambda path: "it")),
    "an optimizer's arrays are not looked at": Plant(
        "dies of", "optimizer", _replace("minunet.optim", "check_updated", _nothing)
    ),
    "an output may lie in an input": Plant(
        "results are those of the definition", "layers", _replace("minunet.checks", "overlap", lambda a, b: False)
    ),
    "a gradient may lie in memory anyhow": Plant(
        "gradients are those of the definition", "layers", _replace("minunet.checks", "is_dense", lambda a: True)
    ),
    "the command line prints what it was given": Plant(
        "what is printed can be shown", "cli", _replace("minunet.cli.console", "printable", str)
    ),
}
