"""Whether a training fits into the memory that there is, told before its first step; and what would fit, where it does not.

It is refused where it takes more than can be had at all (room.py): it would end by a MemoryError or, as systems do, by being
killed without a word, perhaps after hours. Where it takes more than is free at this moment it goes on with a warning, for other
programs may give theirs back, or be swapped out; nobody wants to be refused because of a browser.
"""

from __future__ import annotations

import contextlib
import gc
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from .. import devices, kernels
from ..evaluation.tiles import least_input
from ..losses import Loss
from ..network import Network, outlined
from ..optim import Optimizer
from ..room import scarcest, size_text, tightest
from ..warn import warn
from .ahead import AHEAD
from .memory import training_bytes

MAKING = 1.5  # times a network's weights are taken while they are made
SLACK = 1.1  # a training takes up to a tenth more than is estimated, as was measured (bench/memory.py)
AMPLE = 1.2  # how much of it there is to be where that is advised: who follows an advice is not to be warned again
HELD_OUT = 48  # bytes of a pixel that was predicted: its class (8), its weights (16), and what compares and counts it


class Change(NamedTuple):
    """Parameters with other values, and how many bytes would be taken with them."""

    parameters: dict[str, int]
    takes: float

    def __str__(self) -> str:
        names = " and ".join(f"{name}={value}" for name, value in self.parameters.items())
        flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in self.parameters.items())
        return f"{names} ({flags}) would take {size_text(self.takes)}"


@dataclass(frozen=True)
class Training:
    """What decides how much memory a training takes.

    patch_size : one that fits the network, whose margins are not counted. held_out : sizes of the images that are predicted
    after each epoch. besides : bytes that are still to be taken, whatever the network. averages : whether a mean of the weights
    is kept.
    """

    network: Network  # or its outline
    batch_size: int
    patch_size: int
    loss: Loss
    optimizer: type[Optimizer]
    held_out: Sequence[tuple[int, ...]] = ()
    besides: int = 0
    averages: bool = False

    @cached_property
    def takes(self) -> int:
        """The most bytes that are taken at once.

        The weights, which are there already, stand for the copy of them that `fit` keeps: so all of this is still to come.
        """
        side, tile = self.patch_size + 2 * self.network.margin, self._validation
        step = training_bytes(
            self.network, self.batch_size, side, side, self.loss, optimizer=self.optimizer,
            predicting=tile and tile[:2], meanwhile=tile[2] if tile else 0, ahead=AHEAD, averages=self.averages,
        )  # fmt: skip
        return step + self.besides

    @cached_property
    def _validation(self) -> tuple[int, int, int] | None:
        """The size of the largest of the smallest tiles, and the bytes of what is predicted of them, if they lie there, too.

        Larger tiles are taken, but only where they are a part of what is free by then.
        """
        if not self.held_out:
            return None
        h, w = max(self.held_out, key=lambda size: size[0] * size[1])
        arrays = h * w * (4 * self.network.out_channels + HELD_OUT)
        return *least_input(self.network, h, w), arrays if self._place == "cpu" else 0

    @property
    def _place(self) -> str:
        return kernels.place(self.network.flat)

    def require(self) -> None:
        """Raise a ValueError where this takes more memory than can be had, and warn where it takes more than is free."""
        if self.refusal:
            raise ValueError(self.refusal)
        if self.doubt:
            warn(self.doubt)

    @cached_property
    def refusal(self) -> str:
        """Why this cannot be, and what would do; "" where it can."""
        takes, limit = self.takes, tightest(self._place)  # in this order: what is estimated with is loaded then
        return f"{self._told}, and {limit.told_room}: {self._advice()}" if takes > limit.room else ""

    @cached_property
    def doubt(self) -> str:
        """Why this may fail, and what would do; "" where it is refused, or nothing speaks against it."""
        takes, limit = self.takes, scarcest(self._place)
        if self.refusal or SLACK * takes <= limit.free:
            return ""
        return f"{self._told}, and {limit.told_free}: it may be slow, or fail; {self._advice()}"

    @property
    def _told(self) -> str:
        patches = f"{self.batch_size} patch{'es' * (self.batch_size > 1)} of {self.patch_size} x {self.patch_size}"
        return f"training on {patches} a step takes about {size_text(self.takes)}"

    def _advice(self, most: float = float("inf")) -> str:
        return ", or ".join(map(str, self.changes(most))) or "no batch_size, patch_size or base_channels is small enough for that"

    def changes(self, most: float = float("inf")) -> list[Change]:
        """Return changes, each enough, with which this takes `most` at most, and less than is free.

        Where that cannot be, and this takes more than can be had, less than that will do.
        It is a smaller batch, or smaller patches; both, where neither is enough; and fewer channels where nothing else is.
        """
        free, room = scarcest(self._place).free, tightest(self._place).room
        found = self._changes(min(most, free / AMPLE))
        return self._changes(min(most, room / AMPLE)) if not found and self.takes > room else found

    def _changes(self, most: float) -> list[Change]:
        patches = range(self.network.fitting_output(1), self.patch_size, 2**self.network.depth)  # all that fit the network
        channels = range(1, self.network.base_channels if isinstance(self.network.block, str) else 1)
        found = [self._largest(most, "batch_size", range(1, self.batch_size)), self._largest(most, "patch_size", patches)]
        if not any(found):
            found = [self._largest(most, "patch_size", patches, batch_size=1)]
        if not any(found):
            found = [self._largest(most, "base_channels", channels)]
        if not any(found):
            least = min(self.patch_size, self.network.fitting_output(1))
            found = [self._largest(most, "base_channels", channels, batch_size=1, patch_size=least)]
        return [change for change in found if change]

    def _largest(self, most: float, name: str, values: Sequence[int], **fixed: int) -> Change | None:
        """Return the change to the largest of the values, beside what is fixed, with which this takes `most` or less."""
        found = _largest_of(name, values, most, lambda changed: self._with(fixed | changed).takes)
        return Change(fixed | found, self._with(fixed | found).takes) if found else None

    def _with(self, changed: dict[str, int]) -> Training:
        """Return this with other values; a network of other channels is made without numbers."""
        own: dict[str, Any] = dict(changed)
        if "base_channels" in own:
            own["network"] = outlined(self.network.config | {"base_channels": own.pop("base_channels")}, self._place)
        return replace(self, **own)

    def failed(self, error: MemoryError) -> MemoryError:
        """Return what to raise in place of this error: it tells what to do. What was taken is given back."""
        release(error, self._place)
        text = f"memory ran out ({error}): " if str(error) else "memory ran out: "
        return MemoryError(f"{text}{self._told}, and {scarcest(self._place).told_free}: {self._advice(self.takes / 2)}")


def require_weights(config: dict[str, Any]) -> None:
    """Raise a ValueError where a network's weights are more than can be had; nothing is taken before.

    While they are made they take half as much again: measured. What blocks of the user's have, nobody knows before.
    """
    if not isinstance(config["block"], str):
        return

    def takes(changed: dict[str, int]) -> int:
        return int(outlined(config | changed).flat.nbytes)

    limit, found = tightest(), list[Change]()
    if MAKING * takes({}) <= limit.room:
        return
    for name, values in (("base_channels", range(1, config["base_channels"])), ("depth", range(config["depth"]))):
        if changed := _largest_of(name, values, limit.room / MAKING, takes):
            found.append(Change(changed, takes(changed)))
    raise ValueError(
        f"the weights alone take {size_text(takes({}))}, and half as much again while they are made, at base_channels="
        f"{config['base_channels']} and depth={config['depth']} (--base-channels, --depth); {limit.told_room}: "
        f"{', or '.join(map(str, found)) or 'give less of both'}"
    )


def _largest_of(name: str, values: Sequence[int], most: float, takes: Callable[[dict[str, int]], int]) -> dict[str, int]:
    """Return a parameter with the largest of the values, in rising order, with which `most` or less is taken; {} if with none.

    Each estimate takes some hundredths of a second; so there are few: each halves the values that are left.
    """
    i = bisect_right(values, most, key=lambda value: takes({name: value}))
    return {name: values[i - 1]} if i else {}


def release(error: BaseException | None, place: str = "cpu") -> None:
    """Let the memory go that an error holds: a notebook keeps the last one, and with it what each function on its way had.

    The functions of minunet that have ended are emptied; what a GPU's pool has free is given back.
    """
    while error is not None:
        step = error.__traceback__
        while step is not None:
            if step.tb_frame.f_globals.get("__name__", "").partition(".")[0] == "minunet":
                with contextlib.suppress(RuntimeError):  # it has not ended
                    step.tb_frame.clear()
            step = step.tb_next
        error = error.__cause__ or error.__context__
    gc.collect()
    devices.give_back(place)
