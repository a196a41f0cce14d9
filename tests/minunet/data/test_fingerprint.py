"""Digests of data: short enough for a file's header, however many images there are, and none of them forgotten."""

from types import SimpleNamespace

import numpy as np

from minunet.data import fingerprint
from minunet.data.fingerprint import LETTERS


def of(images):
    examples = [SimpleNamespace(image=image, label=image > 3, weight=None) for image in images]
    return fingerprint.fingerprint(SimpleNamespace(examples=examples, apart=[], held_out=[], around=[]))


def test_of_very_many_images_the_last_share_a_digest(monkeypatch):
    monkeypatch.setattr(fingerprint, "MOST", 4)
    images = [np.full((2, 3), i, np.float32) for i in range(7)]
    right = of(images)
    assert {name: len(letters) // LETTERS for name, letters in right.items()} == {
        "images": 4, "masks": 4, "weights": 4, "validation": 0, "held_out": 1,
    }  # fmt: skip
    assert fingerprint.difference(right, of(images)) is None
    for i in range(7):
        others = [*images[:i], images[i] + 0.5, *images[i + 1 :]]
        assert fingerprint.difference(right, of(others)) == f"x[{min(i, 3)}] is another image than it was"
    assert fingerprint.difference(right, of(images[:6])) == "x[3] is another image than it was"
    assert fingerprint.difference(of(images[:4]), of(images[:3])) == "there are 3 images to learn from, and there were 4"
