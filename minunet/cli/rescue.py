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
from .console import complain, told


def keep(unet: UNet, path: Path, *, force: bool) -> bool:
    """Save the model. Return False where it had to be elsewhere, and say where and why; OSError where it could be nowhere."""
    with held():
        try:
            _make_anew(path.parent)
            unet.save(outputs.named(path, force))
            return True
        except OSError as error:
            place = _save_elsewhere(unet, path)
            if place is None:
                raise
            appeared = isinstance(error, FileExistsError) and not force
            why = f"{path} appeared during the training, and only --force replaces it" if appeared else told(error)
            complain(f"{why}. The model is in {place}")
            return False


def _make_anew(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True)
        complain(f"the folder {folder} had vanished, and was made anew")


def _save_elsewhere(unet: UNet, path: Path) -> Path | None:
    """Return where the model could be saved: beside the path, in the current folder, or in a temporary one."""
    for find in (lambda: path.parent, Path.cwd, lambda: Path(tempfile.mkdtemp(prefix="minunet-"))):
        with contextlib.suppress(OSError):
            folder = find()
            try:
                place = _free(folder / path.name)
                unet.save(files.Output(place))
                return place
            except OSError:
                if not os.listdir(folder):
                    folder.rmdir()
    return None


def _free(path: Path) -> Path:
    """Return the path, or with a number added to its name, so that nothing is there."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(place for place in itertools.chain([path], numbered) if not files.taken(place))
