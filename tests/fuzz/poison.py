"""Whether what memory held before shows in pixels: files are read with all fresh memory full of one byte.

    PYTHONPATH=tests python -m fuzz.poison 254 --seed 7 --most 500    # a line for each: a digest of its pages, or "refused"

Two runs with different bytes say the same, line by line, unless a pixel was written by no decoder. NumPy keeps small blocks
for itself, so what it makes is filled here; malloc's is by MALLOC_PERTURB_.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def lines(byte: int, seed: str, most: int) -> list[str]:
    """Return what a process of its own says, in which fresh memory holds that byte."""
    from fuzz.run import ROOT, environment

    own = environment("image") | {"MALLOC_PERTURB_": str(byte)}
    command = [sys.executable, "-m", "fuzz.poison", str(byte), "--seed", seed, "--most", str(most)]
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fuzz.poison")
    parser.add_argument("byte", type=int)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--most", type=int, default=500)
    options = parser.parse_args(arguments)
    _fill(options.byte)
    from fuzz import corpus_images, imagebytes
    from fuzz.source import Source, by_chance

    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as place:
        for seed in imagebytes.seeds():
            print(seed.name, said(Path(place) / f"a{seed.ending}", seed.data))
        for recipe in corpus_images.recipes():
            if not recipe.place:
                recipe.put(path := Path(place) / f"a{recipe.ending}")
                print(recipe.name, said(path))
        for number in range(options.most):
            case = imagebytes.mutated(Source(by_chance(options.seed, "image", number)))
            print(number, said(Path(place) / f"a{case.ending}", case.data))
    return 0


def said(path: Path, data: bytes | None = None) -> str:
    from minunet.data.images import ImageFileError, read_image

    if data is not None:
        path.write_bytes(data)
    try:
        pages = read_image(path)
    except ImageFileError:
        return "refused"
    finally:
        path.unlink()
    digest = hashlib.sha256()
    for page in pages:
        digest.update(f"{page.shape} {page.dtype}".encode() + page.tobytes())
    return digest.hexdigest()


def _fill(byte: int) -> None:
    """Let NumPy's fresh arrays hold that byte everywhere."""
    made: dict[str, Any] = {name: getattr(np, name) for name in ("empty", "empty_like")}

    def filled(name: str) -> Any:
        def make(*arguments: Any, **options: Any) -> Any:
            array = made[name](*arguments, **options)
            if array.size and array.dtype.kind in "buifc" and array.flags.c_contiguous:
                array.reshape(-1).view(np.uint8)[...] = byte
            return array

        return make

    for name in made:
        setattr(np, name, filled(name))


if __name__ == "__main__":
    sys.exit(main())
