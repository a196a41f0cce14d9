"""Epochs for a training's diagnosis, without a training: a stub that answers as it is told, and losses that are given."""

from __future__ import annotations

import warnings

import numpy as np

from minunet import Augmentation
from minunet.losses import CrossEntropy
from minunet.training.diagnosis import Diagnosis

STEPS = 25  # an epoch
NOTHING, LEARNED = [[10, 10], [10, 10]], [[20, 0], [0, 80]]  # pixels of class i that a stub gives class j
CONSTANT = [[0, 3], [0, 97]]  # the first class is rare, and never given
LOST = [[4, 16], [16, 64]]  # as chance would have it


class Stub:
    """Stands for a network: of a patch's x, which holds classes, it makes the logits that give them."""

    flat = np.zeros(1, np.float32)

    def __init__(self, k=2):
        self.k = k

    def __call__(self, x):
        shaky = np.sin(np.arange(x.shape[2] * self.k)).reshape(-1, self.k)  # it looks at the image
        return 8 * np.eye(self.k, dtype=np.float32)[x[..., 0].astype(int)] + shaky


def pixels(found):
    """Return the given and the true classes of pixels that are as a confusion matrix says: two (1, 1, N)."""
    true, given = (np.repeat(index.ravel(), np.ravel(found)) for index in np.indices(np.shape(found)))
    return given[None, None], true[None, None]


def diagnosis(classes=(3, 7), loss=None, frequencies=(0.2, 0.8), weighed=None, examples=(), network=None, **settings):
    given = {"learning_rate": 0.02, "class_weight": None, "augment": True, "dropout": 0.0} | settings
    return Diagnosis(
        network or Stub(len(classes)), loss or CrossEntropy(), list(examples), classes=np.array(classes),
        frequencies=np.array(frequencies), class_weight=weighed, settings=given, transform=Augmentation(),
    )  # fmt: skip


def train(it, losses, *, patches=NOTHING, held_out=None, val_losses=None, dices=None, weights=None, over=True):
    """Give epochs with these losses, whose patches the stub answers so, and return (epoch, text) of each warning."""
    given, true = pixels(patches)
    told = []
    for i, loss in enumerate(losses):
        for _ in range(STEPS):
            w = None if weights is None else np.broadcast_to(np.float32(weights), true.shape)
            it.on_step(given[..., None].astype(np.float32), true, w)
        history = {"loss": [0.0, loss]}
        if held_out is not None:
            it.on_held_out(np.array(held_out[i] if np.ndim(held_out) == 3 else held_out) * 1000)
            history |= {"val_loss": [val_losses[i] if val_losses else loss], "val_dice": [dices[i] if dices else 0.5]}
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            it.on_epoch_end(history, over=over and i == len(losses) - 1)
        told += [(i + 1, str(one.message)) for one in found]
    return told


def only(told, epoch, *words):
    """Expect one sentence, at the end of this epoch, with these words."""
    assert [when for when, _ in told] == [epoch]
    missing = [word for word in words if word not in told[0][1]]
    assert not missing, told[0][1]
    return told[0][1]


EVEN = np.log(2)  # what knowing nothing costs where two classes are as frequent, as in NOTHING


def learned_by_heart(best=10, rises=3.0, falls=0.5, n=30, **settings):
    losses = [0.4 if i <= best else 0.4 * falls for i in range(n)]
    val_losses = [0.3 + 0.01 * (best - i) if i <= best else 0.3 * rises for i in range(n)]
    dices = [0.8 if i <= best else 0.7 for i in range(n)]
    return train(diagnosis(**settings), losses, patches=LEARNED, held_out=LEARNED, val_losses=val_losses, dices=dices)
