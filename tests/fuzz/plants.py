"""Faults to plant, each a promise's guard taken out: a fuzzer that finds nothing must be able to find these.

Where a guard got another name, carry the plant over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Plant(NamedTuple):
    """A fault in what a target fuzzes: `plant` makes it, in this process."""

    target: str
    plant: Callable[[], Any]


def _replace(module: str, name: str, value: Any) -> Callable[[], None]:
    """Return what puts another function in the place of one that is there."""

    def plant() -> None:
        import importlib

        found = importlib.import_module(module)
        assert hasattr(found, name), f"{module} has no {name} any more"
        setattr(found, name, value)

    return plant


def _nothing(*_: Any, **__: Any) -> None:
    return None


PLANTS = {
    "overlapping outputs are taken": Plant("layers", _replace("minunet.checks", "overlap", lambda a, b: False)),
    "dx of a pooling is dy's": Plant("layers", _replace("minunet.checks", "gradient", lambda dy, *_, **__: dy)),
}
