"""Going on with a training that ended before its time: one file, held by one run, that is a model, too."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import description, files, kernels, leftovers, modelfile, text, trainingstate
from ._version import __version__
from .checks import shown
from .data.fingerprint import difference, fingerprint
from .data.prepare import Prepared
from .flat import Weights
from .optim import Optimizer
from .training.average import Average
from .training.history import told
from .training.keeper import Position

if TYPE_CHECKING:
    from .unet import UNet

FREE = ("max_epochs", "max_minutes", "n_threads", "verbose")  # parameters that may be others when a training is gone on with
SETTLED = ("classes", "channel_axis", "snap", "ignore_index", "pixel_size", "normalizer", "class_frequencies")  # by the data


class Checkpoint:
    """A training's file: what it holds already, if that is to be gone on with, and how it is written."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path, self._name = path, text.shown(path, whole=True)
        self._found: modelfile.Loaded | None = None
        if not files.taken(path):
            return
        if not resume:
            raise FileExistsError(
                f"the checkpoint {self._name} is there already: resume=True (--resume) goes on with its training; "
                "give another path for a new one, or delete it"
            )
        found = modelfile.load_checkpoint(path, description.check)
        if "training" not in found.metadata:
            raise ValueError(
                f"checkpoint: {self._name} is a model, and has no training to go on with; warm_start=True "
                "(--init) begins another one with its weights"
            )
        self._found = found

    @property
    def seed(self) -> int | None:
        """What the training that is gone on with was drawn from."""
        return None if self._found is None else int(self._found.metadata["random_state"])

    def restore(
        self, model: UNet, data: Prepared, optimizer: Optimizer, steps_per_epoch: int, average: Average | None = None
    ) -> Position:
        """Give a model's network, the optimizer and the average of the weights what they had.

        Return where that was; at the beginning of a new training.
        ValueError where the training would be another one by now, by what is not as it was; or where no such training could be.
        """
        n_bytes = (1 + optimizer.n_moments + bool(average) + (model.early_stopping or bool(average))) * model.network_.flat.nbytes
        files.require_writable(self.path, n_bytes)
        modelfile.require_no_code(model.network_, self.path)
        self._prints = fingerprint(data)
        if self._found is None:
            return Position()
        older, said, moments, trained = self._found
        self._found = None  # the memory of a second network
        self._require_same(said, json.loads(json.dumps(description.described(model))), model.max_epochs)
        try:
            apart = model.early_stopping and "val_dice" in said["history"]  # the model is that of the best epoch
            trainingstate.check_resumed(
                said["training"], moments, optimizer, steps_per_epoch, averages=average is not None,
                apart=(apart or average is not None, trained is not None),
            )
        except ValueError as error:
            raise modelfile.ModelFileError(f"{self._name}: the training's description is damaged: {error}") from None
        asarray = kernels.for_array(model.network_.flat).asarray
        own = Weights(older.flat, older.state.flat)
        model.network_.flat[...], model.network_.state.flat[...] = map(asarray, trained or own)
        if average:
            average.resume(asarray(moments.pop()))
        optimizer.moments = tuple(asarray(moment) for moment in moments)
        optimizer.n_updates, optimizer.learning_rate = said["training"]["n_updates"], said["training"]["learning_rate"]
        at = trainingstate.position(said["training"], said["history"])
        at.best = Weights(*map(asarray, own)) if apart else None
        at.threshold = said.get("threshold") if model.threshold == "validation" else model.threshold_
        return at

    def writer(self, model: UNet, optimizer: Optimizer, average: Average | None = None) -> Callable[[Position, bool], None]:
        """Return what writes the file, of a training with this model's settings, which `restore` has seen."""

        def write(position: Position, over: bool) -> None:
            vars(model).update(told(position.history) | {"interrupted_": not over, "threshold_": position.threshold})
            mean = Weights(average.other, model.network_.state.flat) if average else None  # it is not shown
            moments = (*optimizer.moments, *([mean.flat] if mean else []))
            training = trainingstate.described(position, optimizer, self._prints, len(moments))
            said = description.described(model) | {"training": training}
            own = position.best or mean
            modelfile.save(self.path, model.network_, said, description.check, moments=moments, model=own)

        return write

    def _require_same(self, said: dict[str, Any], now: dict[str, Any], max_epochs: int) -> None:
        training = said["training"]
        version = training["minunet"]
        if version != __version__:
            raise self._refused(f"it was written by minunet {shown(version)}, and this is {__version__}")
        for name, value in now["estimator"].items():
            before = said["estimator"].get(name)
            if name not in FREE and _no_address(before) != _no_address(value):
                raise self._refused(f"{name} (--{name.replace('_', '-')}) is {shown(value)}, and was {shown(before)}")
        values, older = (one["classes"]["values"] for one in (now, said))
        if values != older:
            raise self._refused(f"the masks' classes are {shown(values)}, and were {shown(older)}")
        if changed := difference(training["data"], self._prints):
            raise self._refused(changed)
        for name in SETTLED:
            if now[name] != said.get(name):
                raise self._refused(f"{name} is {shown(now[name])}, and was {shown(said.get(name))}")
        done = training["epoch"] + (training["index"] > 0)
        if done > max_epochs:
            raise ValueError(
                f"max_epochs is {max_epochs}, and the training in {self._name} is in its epoch {done}: give {done} or more"
            )

    def _refused(self, what: str) -> ValueError:
        return ValueError(
            f"the training in {self._name} was another one: {what}. Give what it had, or another checkpoint for a new "
            "training; warm_start=True (--init) goes on with its model"
        )


def _no_address(value: Any) -> Any:
    """Return a parameter as it is; of a loss of one's own not where in memory it happens to lie."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", value) if isinstance(value, str) else value


@contextlib.contextmanager
def opened(path: str | os.PathLike[str] | None, *, resume: bool) -> Iterator[Checkpoint | None]:
    """A `with` block in which this process alone has the checkpoint at path; None where there is none.

    OSError says why where nothing could be written there, or another training writes it.
    """
    if path is None:
        if resume:
            raise ValueError("resume is True, and there is no checkpoint; give its path, too: checkpoint=... (--checkpoint)")
        yield None
        return
    place = Path(os.path.realpath(path))  # the current folder may become another
    files.require_writable(place)
    with leftovers.sole(place):
        yield Checkpoint(place, resume=resume)
