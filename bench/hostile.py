"""What becomes of hostile files in minunet, and in the libraries that read such files elsewhere?

    python bench/hostile.py

The files are those of tests/fuzz that are to be refused. Each is opened in a process of its own, which may take 10 s and 4 GiB:
by minunet.load or minunet's reader of images, and by safetensors, Pillow (all frames) and tifffile. "raises" is an exception,
"reads" a result as if nothing were wrong, "hangs" more than 10 s, "dies" a signal; a file is "dear" that costs more than its
size and 64 MiB, or more than a second. What a library reads may be right by its own contract (safetensors knows no U-Net; Pillow
and tifffile fill in what is missing, and follow names): the table says what a user of it meets.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import measure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

SECONDS, MEMORY = 10.0, 2**32  # of a process
DEAR_SECONDS, DEAR_BYTES = 1.0, 2**26
FLIPS = 200  # bits
COLUMNS = ("raises", "reads", "hangs", "dies", "dear")


def main() -> None:
    """Print a table of the model files, and one of the images."""
    parser = measure.parser(__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="files with this in their name")
    arguments = parser.parse_args()
    from fuzz.corpus import recipes
    from fuzz.recipe import REFUSED

    report = measure.Report(__doc__, arguments.json)
    report.note(", ".join(f"{name} {version(name)}" for name in ("safetensors", "Pillow", "tifffile")))
    chosen = [recipe for recipe in recipes() if recipe.becomes == REFUSED and arguments.only in recipe.name]
    for kind, readers in READERS.items():
        of_kind = [recipe for recipe in chosen if recipe.kind == kind]
        report.table(f"{len(of_kind)} hostile files: {kind}s", ["", *COLUMNS], others=7)
        for name, read in readers.items():
            counts: Counter[str] = Counter()
            for recipe in of_kind:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder, f"hostile{recipe.ending}")
                    try:
                        recipe.put(path)
                    except OSError:  # a place that this system does not have
                        continue
                    if name == "tifffile" and recipe.ending not in (".tif", ".tiff"):
                        continue
                    counts.update(outcome(read, path))
            report.row(name, *(str(counts[column]) for column in COLUMNS))
    report.table("A bit of a weight is flipped in a file: is it found?", ["", "flipped", "found"], others=7)
    for name, (n, found) in flipped().items():
        report.row(name, str(n), str(found))
    report.write()


def flipped() -> dict[str, tuple[int, int]]:
    """Flip drawn bits of weights, one at a time, in files of each kind. Return how many, and how many were found."""
    import numpy as np

    from minunet import Network, modelfile

    network, found = Network(1, 2, 4, 2), {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        modelfile.save(path, network, {})
        weights = network.flat[np.abs(network.flat) > 0]
        found["minunet"] = _flip(path, weights, modelfile.load)
        found["safetensors"] = _flip(path, weights, safetensors)
        if measure.installed("torch", "PyTorch"):
            torch = measure.load("torch")
            torch.save({name: torch.from_numpy(p.copy()) for name, p in network.parameters.items()}, path)
            found["PyTorch"] = _flip(path, weights, torch.load)
    return found


def _flip(path: Path, weights: Any, read: Callable[[Path], object]) -> tuple[int, int]:
    sound, n_found = path.read_bytes(), 0
    for i in range(FLIPS):
        at = sound.index(weights[i * len(weights) // FLIPS].tobytes())
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << i % 8]) + sound[at + 1 :])
        try:
            read(path)
        except Exception:
            n_found += 1
    path.write_bytes(sound)
    return FLIPS, n_found


def outcome(read: Callable[[Path], object], path: Path) -> list[str]:
    """Return what became of a file, and "dear" beside it where it took too much."""
    size = path.stat().st_size if path.is_file() else 0
    start, pid = time.monotonic(), os.fork()
    if pid == 0:
        _child(read, path)
    most, ended, status = 0, 0, 0
    before = _resident(os.getpid())
    while not ended and time.monotonic() - start < SECONDS:
        time.sleep(0.002)
        most = max(most, _resident(pid))
        ended, status = os.waitpid(pid, os.WNOHANG)
    seconds = time.monotonic() - start
    if not ended:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        return ["hangs", "dear"]
    what = "dies" if os.WIFSIGNALED(status) else "reads" if os.waitstatus_to_exitcode(status) == 0 else "raises"
    return [what, *(["dear"] if seconds > DEAR_SECONDS or most - before > size + DEAR_BYTES else [])]


def _child(read: Callable[[Path], object], path: Path) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for number in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    status = 0
    try:
        read(path)
    except BaseException:
        status = 1
    os._exit(status)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def minunet_model(path: Path) -> object:
    import minunet

    return minunet.load(path)


def minunet_image(path: Path) -> object:
    from minunet.data.images import read_image

    return read_image(path)


def safetensors(path: Path) -> object:
    from safetensors.numpy import load_file

    return load_file(path)


def pillow(path: Path) -> object:
    import numpy as np
    from PIL import Image, ImageSequence

    with Image.open(path) as image:
        return [np.asarray(frame) for frame in ImageSequence.Iterator(image)]


def tifffile(path: Path) -> object:
    from tifffile import imread

    return imread(path)


READERS: dict[str, dict[str, Callable[[Path], object]]] = {
    "model": {"minunet": minunet_model, "safetensors": safetensors},
    "image": {"minunet": minunet_image, "Pillow": pillow, "tifffile": tifffile},
}

if __name__ == "__main__":
    # Imported before the children are made: an import is no file's cost.
    for reader in (minunet_model, minunet_image, safetensors, pillow, tifffile):
        try:
            reader(Path(__file__))
        except Exception:
            pass
    main()
