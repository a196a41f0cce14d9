"""Progress of work that goes image by image."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def each(items: Sequence[Item], label: str, quiet: bool) -> Iterator[Item]:
    """Yield the items, with a bar in a terminal."""
    yield from tqdm(items, desc=label, unit="image", disable=quiet or not sys.stderr.isatty(), leave=False)
