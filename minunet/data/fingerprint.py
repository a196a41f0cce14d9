"""What a training's data is, in a few letters: to go on with other data would be another training."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable

import numpy as np

from .prepare import Prepared
from .sliced import Image, bands

LETTERS = 16  # of each array: 64 bits
MOST = 2**16  # arrays; of more, all further ones share the last one's, as a file's header holds only so much

Fingerprint = dict[str, str]


def fingerprint(data: Prepared) -> Fingerprint:
    """Return the digests of all images, masks and weights as they are learned from, an array's after another's."""
    return {
        "images": _digests(e.image for e in data.examples),
        "masks": _digests(e.label for e in data.examples),
        "weights": _digests(None if e.weight is None or (e.weight == 1).all() else e.weight for e in data.examples),
        "validation": _digests(array for e in data.apart for array in (e.image, e.label, e.weight)),
        "held_out": _digest(f"{[(part.image, part.rows, part.cols) for part in data.held_out]}{data.around or ''}".encode()),
    }


def difference(before: Fingerprint, now: Fingerprint) -> str | None:
    """Return what is not as it was; None where all is."""
    n, n_before = (len(one["images"]) // LETTERS for one in (now, before))
    if n != n_before:
        return f"there are {n} images to learn from, and there were {n_before}"
    changed = {
        "images": "x[{}] is another image than it was", "masks": "y[{}] is another mask than it was",
        "weights": "the pixels of x[{}] have other weights than they had (sample_weight, ignore_index)",
    }  # fmt: skip
    for name, i in itertools.product(changed, range(n)):
        letters = slice(i * LETTERS, (i + 1) * LETTERS)
        if now[name][letters] != before[name][letters]:
            return changed[name].format(i)
    if now["validation"] != before["validation"]:
        return "validation_data (--validation) is another"
    if now["held_out"] != before["held_out"]:
        return "other parts of the images are held out, or of a stack (groups, or the files' names that say which are of one)"
    return None


def _digests(arrays: Iterable[Image | None]) -> str:
    found = ["0" * LETTERS if array is None else _of(array) for array in arrays]
    if len(found) > MOST:
        found[MOST - 1 :] = [_digest("".join(found[MOST - 1 :]).encode())]
    return "".join(found)


def _of(array: Image) -> str:
    """Return the digest of an array that is learned from: the same wherever it lies, and however few bytes its numbers have."""
    dtype = np.dtype(np.int32 if array.dtype.kind in "iu" else np.float32)
    found = hashlib.blake2b(f"{array.shape} {dtype.str}".encode(), digest_size=LETTERS // 2)
    for rows in bands(array):
        found.update(np.ascontiguousarray(array[rows, slice(None)], dtype).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _digest(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=LETTERS // 2).hexdigest()
