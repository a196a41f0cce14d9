"""What all faults are tried on: a few images, two models, what they predict, and kernels that are loaded."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

import minunet
from minunet import cli
from minunet.kernels.cpu import jit

from .trial import BrokenError, forked, require

SETTINGS = {"base_channels": 4, "depth": 2, "patch_size": 32, "max_epochs": 1, "verbose": 0, "validation_fraction": 0}


class House:
    """Files that no trial changes, made before any: `old` and `new` are models as bytes, of one size."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images, self.masks, self.model = folder / "images", folder / "masks", folder / "model.safetensors"
        self._rooms = itertools.count()
        self.x, self.y = _draw()
        for where, arrays in ((self.images, self.x), (self.masks, self.y)):
            where.mkdir()
            for i, array in enumerate(arrays):
                Image.fromarray(array).save(where / f"{i}.png")
        # On one thread: so this process, which forks, has no other.
        self.unets = [minunet.UNet(**SETTINGS, random_state=seed, n_threads=1).fit(self.x, self.y) for seed in range(2)]
        for unet in self.unets:
            unet.set_params(n_threads=None)
        self.old, self.new = (self._saved(unet) for unet in self.unets)
        self.model.write_bytes(self.old)
        self.cache = (jit.cache_folder() or folder / "cache").parent
        self.probabilities = self._foretell()

    @contextlib.contextmanager
    def room(self) -> Iterator[Path]:
        """Give an empty folder that is gone afterwards."""
        room = self.folder / f"room{next(self._rooms)}"
        room.mkdir()
        try:
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)

    def predict(self, output: Path, *more: str) -> int:
        """Run `minunet predict` on all images, here."""
        return cli.main(["predict", str(self.model), str(self.images), "-o", str(output), "--device", "cpu", *more])

    def train(self, output: Path, *more: str) -> int:
        """Run `minunet train` for an epoch, here."""
        return cli.main(["train", str(self.images), str(self.masks), "-o", str(output), *TRAINING, *more])

    def which(self, path: Path) -> str:
        """Return whether a model's file is the "old" one or the "new" one, all of it; BrokenError if it is neither."""
        require(path.exists(), f"{path.name} is gone")
        found = _content(path.read_bytes())
        for name, data in (("old", self.old), ("new", self.new)):
            if found == _content(data):
                return name
        raise BrokenError(f"{path.name} is neither the old file nor the new one")

    def require_predictions(self, output: Path, *, all_of_them: bool) -> None:
        """Require that each file is what an undisturbed run writes; perhaps not all are there yet."""
        found = {path.name: path.read_bytes() for path in output.iterdir()} if output.exists() else {}
        whole = {name: data for name, data in found.items() if not temporary(name)}
        for name, data in whole.items():
            require(name in self.predictions, f"{name} is no output")
            require(data == self.predictions[name], f"{name} is not what an undisturbed run writes")
        if all_of_them:
            require(found == self.predictions, f"{sorted(found)} is there, not {sorted(self.predictions)}")

    def _saved(self, unet: minunet.UNet) -> bytes:
        path = self.folder / "saved.safetensors"
        unet.save(path)
        data = path.read_bytes()
        path.unlink()
        return data

    def _foretell(self) -> list[np.ndarray]:
        """Predict undisturbed, by the command and here."""
        output = self.folder / "predicted"
        outcome = forked(lambda: self.predict(output))
        if outcome.status:
            raise BrokenError(f"an undisturbed prediction failed: {outcome.told}")
        self.predictions = {path.name: path.read_bytes() for path in output.iterdir()}
        self.unets[0].set_params(n_threads=1)
        probabilities = self.unets[0].predict_proba(self.x)
        self.unets[0].set_params(n_threads=None)
        return probabilities


TRAINING = (
    "--base-channels", "4", "--depth", "2", "--patch-size", "32", "--max-epochs", "1", "--random-state", "0", "--device", "cpu",
)  # fmt: skip


def temporary(name: str) -> bool:
    """Return whether a file's name is that of one that a writer had not finished: hidden, and not for long."""
    return name.startswith(".") and name.endswith("tmp")


def _content(data: bytes) -> tuple[object, bytes] | None:
    """Return what is in a model's file: the description, whose entries come in any order, and the rest, byte for byte."""
    size = int.from_bytes(data[:8], "little")
    try:
        return json.loads(data[8 : 8 + size]), data[8 + size :]
    except ValueError:
        return None


def _draw() -> tuple[np.ndarray, np.ndarray]:
    """Return four images of discs, and their masks."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :48]
    y = np.zeros((4, 48, 48), np.uint8)
    for mask in y:
        for row, column, radius in rng.integers([8, 8, 4], [40, 40, 10], (3, 3)):
            mask[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = 255
    noise = rng.normal(0, 20, y.shape)
    return np.clip(80 + 80 * (y > 0) + noise, 0, 255).astype(np.uint8), y
