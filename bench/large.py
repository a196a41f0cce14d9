"""How much memory does an image larger than memory take, from disk to disk, and is it what its parts would be?

    python bench/large.py

A raw image of --side x --side of uint8 is written, then predicted by `predict(x, out=...)` in a process of its own, whose peak
resident memory is printed. Labels of a piece around the middle are compared with those of the piece predicted by itself, away
from its edges, as the scale is the whole image's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import numpy as np

from minunet import UNet, datasets
from minunet.evaluation.tiles import halo

GIB = 2**30
PIECE = 512

PREDICT = """
import sys, resource, numpy as np, minunet
model, image, labels, side = sys.argv[1:]
side = int(side)
x = np.memmap(image, np.uint8, "r", shape=(side, side))
out = np.lib.format.open_memmap(labels, "w+", np.uint8, (side, side))
minunet.load(model).predict(x, out=out)
out.flush()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    """Write an image, predict it, print memory and time."""
    parser = measure.parser(__doc__)
    parser.add_argument("--side", type=measure.whole, default=20_000, help="default: 20000")
    parser.add_argument("--folder", type=Path, help="where image and labels are written meanwhile: 2 x side^2 bytes")
    arguments = parser.parse_args()
    report = measure.Report(__doc__, arguments.json)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        found = predicted(Path(folder), arguments.side)
    report.table(f"{arguments.side} x {arguments.side}, uint8, from and to disk", ["", "value"], width=44, others=14)
    for name, value in found.items():
        report.row(name, f"{value:.2f}")
    report.write(found=found)


def predicted(folder: Path, side: int) -> dict[str, float]:
    """Predict an image in a process of its own; return its peak memory in GiB, minutes, and the share of labels that agree."""
    x, y = datasets.cells(2, 256)
    unet = UNet(max_epochs=1, patch_size=64, random_state=0, verbose=0).fit(x, y)
    unet.save(folder / "model.safetensors")
    image = np.memmap(folder / "image.raw", np.uint8, "w+", shape=(side, side))
    for top in range(0, side, 256):  # no band like the one before, so that a wrong place would show
        row = np.tile(np.roll(x[top // 256 % 2], 17 * top, axis=1), (1, side // 256 + 1))
        image[top : top + 256] = row[: side - top, :side]
    image.flush()
    start = time.perf_counter()
    files = [str(folder / name) for name in ("model.safetensors", "image.raw", "labels.npy")]
    done = subprocess.run([sys.executable, "-c", PREDICT, *files, str(side)], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    labels, (top, size) = np.load(files[2], mmap_mode="r"), (max(0, side // 2 - PIECE // 2), min(PIECE, side))
    around = halo(unet.network_) or 0
    first, last = (max(0, top - around) // 16 * 16, min(side, top + size + around))
    piece = unet.predict(image[first:last, first:last])
    inside, place = (slice(at, at + size) for at in (top - first, top))
    agree = piece[inside, inside] == labels[place, place]
    return {
        "peak resident memory, GiB": int(done.stdout) * (1 if sys.platform == "darwin" else 1024) / GIB,
        "minutes": seconds / 60,
        "megapixels a second": side * side / 1e6 / seconds,
        "share of labels as of a piece by itself": float(agree.mean()),
    }


if __name__ == "__main__":
    main()
