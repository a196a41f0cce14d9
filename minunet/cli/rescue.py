"""A trained model is never lost: where it cannot be written, it is written elsewhere."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from pathlib import Path

from .. import files
from ..signals import held
from ..unet import UNet
from . import outputs
from .console import complain, insist, told


def keep(unet: UNet, target: outputs.PathLike, *, force: bool) -> bool:
    """Save the model. Return False where it had to be elsewhere, and insist on where and why; OSError where it could be nowhere.

    target : whole, as the current folder may vanish.
    """
    path = Path(target)
    with held():
        try:
            _make_anew(path.parent)
            unet.save(target)
            return True
        except OSError as error:
            appeared = isinstance(error, FileExistsError) and files.taken(path) and not force
            why = f"{path} appeared during the training, and only --force replaces it" if appeared else told(error)
            place = _save_elsewhere(unet, path)
            if place is None:
                raise OSError(f"{why}. The model could be saved nowhere else, and is lost") from error
            insist(f"{why}. The model is in {place}")
            return False


def keep_last_good(unet: UNet, target: outputs.PathLike, *, force: bool) -> bool:
    """Save what the epochs before a failure taught, which may have taken hours; return as `keep` does."""
    kept = keep(unet, target, force=force)
    if kept:
        complain(f"{os.fspath(target)} holds the model of the last good epoch")
    return kept


def _make_anew(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True)
        complain(f"the folder {folder} had vanished, and was made anew")


def _save_elsewhere(unet: UNet, path: Path) -> Path | None:
    """Return where the model could be saved: beside the path, in the current folder, or in a temporary one."""
    for find in (lambda: path.parent, Path.cwd):
        with contextlib.suppress(OSError):
            return _saved(unet, find() / path.name)
    with contextlib.suppress(OSError):
        folder = tempfile.mkdtemp(prefix="minunet-")
        try:
            return _saved(unet, Path(folder, path.name))
        except OSError:
            os.rmdir(folder)
    return None


def _saved(unet: UNet, path: Path) -> Path:
    place = _free(path)
    unet.save(files.Output(place))
    return place


def _free(path: Path) -> Path:
    """Return the path, or with a number added to its name, so that nothing is there."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(place for place in itertools.chain([path], numbered) if not files.taken(place))
