"""Why a training cannot work: a sentence at the moment when its figures show it, each once, with the option that helps.

A network that finds nothing in the images can do no better than to give the classes' shares as probabilities everywhere. What
that answer would have lost, on the very patches that were drawn, is an epoch's `blind` loss; the network's own loss in units of
it is the epoch's `level`. From many small trainings (synthetic cells, electron microscopy, nuclei; 500 to 1000 steps): of masks
of other images or noise 0.96 to 1.01, whatever the classes' shares; of trainings that work 0.15 to 0.6, and below 0.9 within
100 steps, but for rare classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import kernels
from ..data.augment import Augmentation, OwnTransform
from ..data.sampling import Example
from ..losses import Loss, Target, is_ours, softmax
from ..network import Network
from ..warn import warn
from .history import History

# When to speak: trainings that worked gave one class everywhere for up to 275 steps.
CLEAR = 600  # steps, from which on a state that lasts is one
SHORT = 200  # ... where the training ends: fewer are a try, and what comes of them says nothing
WINDOW = 200  # steps over which it must last, or a quarter of all if those are fewer
FALLS = 0.02  # of the level, from one window to the next: a loss that still falls is given time. Noise is half of that
UNSEEN = 5  # epochs: each shows as many pixels as there are, so that a place is missed in all by a chance of exp(-5)
# What to speak of
NOTHING, WEAK = 0.95, 0.85  # levels from which on nothing is found: by itself, or if the answers on patches are chance, too;
# with Dice, or of few images, masks of others gave 0.93, and shifted ones 0.9
ABOVE = 1.1  # a level above: not even the shares are. Of rare classes it falls for long; of noise it is 1.02 in a window at most
STEADY = 1.1  # between the largest loss of an epoch and the smallest: a rate of 1e-5 gives 1.06 in 500 steps, 1e-4 gives 1.8
MIXED = (1.0, 0.3, 0.1, 0.03, 0.0)  # parts of the shares in an answer, the rest being all for the most frequent class: of Dice,
# where patches lack classes, the best answer lies nearer to it
EVENED = (1.0, 0.85, 0.7, 0.55, 0.4)  # ... the rest being for all classes alike: focal loss asks for less sure answers
WILD = 3.0  # times what uniform probabilities lose: new weights give up to 2
SAME = 1e-5  # span of a probability over all pixels; dead units give 0, masks of other images 0.01
RARE = 0.1  # share of all classes but one, below which their being rare explains that they are not found
GOOD, FITS = 0.7, 0.3  # a level, and an agreement on patches (Cohen's kappa), of a network that has learned them
CHANCE = 0.1  # an agreement that is none: other images' masks give 0.05 at most, the worst of what worked 0.15
ENOUGH = 4096  # pixels held out, of which fewer are by chance what they are
RISEN, COSTS = 2.0, 0.5  # times the least val_loss, and times the blind one: trainings that worked gave 1.55 of the least
FALLEN = 0.75  # of the loss at that time
OVERLAP = ("dice", "tversky")  # losses of overlap, whose gradients may vanish together
LITTLE = 10.0  # weight of a step's pixels in all: beside the `smooth` of these, 1, it counts hardly

SHOWS = "minunet.plot.comparison(image, None, mask) shows a pair, and `minunet check` looks for masks that do not fit"


@dataclass(frozen=True)
class Epoch:
    """An epoch's figures; NaN where there is none.

    weight : of a step's pixels, in the mean. found : pixels of class i held out that were given class j, (K, K).
    """

    loss: float
    blind: float
    weight: float
    val_loss: float = math.nan
    val_dice: float = math.nan
    found: NDArray[np.int64] | None = None

    @property
    def level(self) -> float:
        return self.loss / self.blind if self.blind > 0 else math.nan


class Diagnosis:
    """It is told each step's patches and each epoch's figures, and warns. Of a training that is gone on with it sees the rest."""

    def __init__(
        self, network: Network, loss: Loss, examples: Sequence[Example], *, classes: NDArray, frequencies: NDArray[np.float64],
        class_weight: NDArray[np.float64] | None, settings: Mapping[str, Any], transform: Augmentation | OwnTransform,
    ) -> None:  # fmt: skip
        """examples : all that x and y are. frequencies : the classes' shares (K,). settings : the UNet's, by their names.

        transform : what makes the patches.
        """
        self.network, self.loss, self.examples, self.classes = network, loss, examples, classes
        self.frequencies, self.settings, self.transform = frequencies, settings, transform
        self.class_weight = np.ones(len(classes)) if class_weight is None else np.asarray(class_weight, np.float64)
        self.epochs: list[Epoch] = []
        self.n_steps = self.n_patches = 0
        self._counts: list[NDArray[np.float64]] = []  # of each step of this epoch, the classes' weights
        self._seen = np.zeros(len(classes), bool)
        self._batch: tuple[NDArray, NDArray, NDArray | None] | None = None  # the last one
        self._found: NDArray[np.int64] | None = None  # on what is held out, at the end of this epoch
        self._told: set[str] = set()

    def on_step(self, x: NDArray, labels: NDArray[np.integer], weights: NDArray | None) -> None:
        """Take a step's patches: count what is seen of each class. On 2 cores that is a thousandth of the step."""
        k = len(self.classes)
        counts = np.bincount(labels.ravel(), None if weights is None else weights.ravel(), minlength=k)
        self._seen |= counts > 0
        self._counts.append(counts * self.class_weight)
        self._batch = x, labels, weights
        self.n_steps, self.n_patches = self.n_steps + 1, self.n_patches + len(labels)

    def on_held_out(self, found: NDArray[np.int64]) -> None:
        """Take the pixels of class i held out that were given class j: (K, K)."""
        self._found = found if found.sum() >= ENOUGH else None

    def on_epoch_end(self, history: History, *, over: bool) -> None:
        """Take a whole epoch's figures, the last ones; over : the training is at its end, which Ctrl-C is not. Warn."""
        loss, val_loss, val_dice = (history.get(name, [math.nan])[-1] for name in ("loss", "val_loss", "val_dice"))
        weight = float(np.sum(self._counts)) / max(len(self._counts), 1)
        self.epochs.append(Epoch(loss, self._blind(), weight, val_loss, val_dice, self._found))
        self._counts, self._found = [], None
        self._tell("emptied", self.transform.doubt if isinstance(self.transform, OwnTransform) else None)
        self._tell("unseen", self._of_unseen(over))
        size = max(2, round(min(WINDOW, self.n_steps / 4) * len(self.epochs) / max(self.n_steps, 1)))
        last, before = self.epochs[-size:], self.epochs[-2 * size : -size]
        if before and self.n_steps >= (SHORT if over else CLEAR):
            self._tell("learning", None if "learning" in self._told else self._of_learning(last, before, over))
            self._tell("overfitting", self._of_overfitting(last))
        self._batch = None

    def _tell(self, what: str, text: str | None) -> None:
        if text and what not in self._told:
            self._told.add(what)
            warn(text)

    # What is known

    def _blind(self) -> float:
        """Return what the best answer that is the same everywhere would have lost on this epoch's patches."""
        steps = [counts / counts.sum() for counts in self._counts if counts.any()]
        shares = np.mean(steps, axis=0) if steps else np.zeros(len(self.classes))
        if not (is_ours(self.loss) and np.count_nonzero(shares) > 1):
            return math.nan
        most, even = np.eye(len(shares))[shares.argmax()], np.full(len(shares), 1 / len(shares))
        other, parts = {"cross_entropy": (most, MIXED[:1]), "focal": (even, EVENED)}.get(self.loss.name, (most, MIXED))
        return min(self._loss_of(part * shares + (1 - part) * other) for part in parts)

    def _loss_of(self, answer: NDArray[np.float64]) -> float:
        """Return the mean loss of these probabilities (K,) over the steps of this epoch; with all weights 0, a step's is 0."""
        k = np.arange(len(answer))[None]
        steps = [
            self.loss.of_counts(self.loss.counts(np.tile(answer, (1, len(answer), 1)), Target(k, counts[None])))
            for counts in self._counts if counts.any()
        ]  # fmt: skip
        return math.nan if None in steps else sum(steps) / len(self._counts)  # type: ignore[arg-type]

    def _on_patches(self) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
        """Return the network's probabilities (M, K) where the last patches have weight, and the pixels as of what is held out."""
        assert self._batch is not None
        x, labels, weights = self._batch
        logits = kernels.to_host(self.network(kernels.for_array(self.network.flat).asarray(x)))
        here = np.ones(labels.shape, bool) if weights is None else weights > 0
        p, k = softmax(logits[here].astype(np.float64)), len(self.classes)
        return p, np.bincount(labels[here] * k + p.argmax(axis=-1), minlength=k * k).reshape(k, k)

    # What it may mean

    def _of_unseen(self, over: bool) -> str | None:
        """Speak of classes that are in the masks trained on, and not in the patches."""
        missing = ~self._seen & (self.class_weight > 0) & (self.frequencies > 0)
        if not missing.any() or "unseen" in self._told or not (over or len(self.epochs) >= UNSEEN):
            return None
        here = [e.label if e.weight is None else e.label[e.weight > 0] for e in self.examples]
        present = np.sum([np.bincount(label.ravel(), minlength=len(missing)) for label in here], axis=0) > 0
        named = [f"{self.classes[k]} ({self.frequencies[k]:.2g} of all)" for k in np.flatnonzero(missing & present)]
        if not named:
            return None
        return (
            f"no pixel of class {' or '.join(named)} was in any of the {self.n_patches} patches that were drawn, so nothing is "
            "learned of it: a larger patch_size (--patch-size) and more epochs (max_epochs, --max-epochs) see more of the "
            "images; if it lies in what is held out alone, groups= and validation_data (--validation) settle what that is"
        )

    def _of_learning(self, last: Sequence[Epoch], before: Sequence[Epoch], over: bool) -> str | None:
        """Speak of a network that finds nothing in the images, or nothing that holds for those held out."""
        level, was = (float(np.mean([epoch.level for epoch in epochs])) for epochs in (last, before))
        falls = level < (1 - FALLS) * was
        losses = [epoch.loss for epoch in self.epochs]
        if self.loss.name in OVERLAP and last[-1].weight < LITTLE and level >= WEAK:
            return self._tell_little(last[-1])
        if level > ABOVE and max(losses) < STEADY * min(losses):
            return self._tell_steady(losses)
        is_chance = all(_agreement(epoch.found) < CHANCE for epoch in last)
        is_suspect = is_chance or (last[-1].found is None and (level >= WEAK or over))
        if not is_suspect or (falls and not over and level >= GOOD):
            return None
        p, found = self._on_patches()
        agreement = _agreement(found)
        if is_chance and level < GOOD and agreement >= FITS:
            return self._tell_other_images(last[-1], agreement)
        if math.isnan(agreement) or (falls and not over):
            return None
        said, of = [_constant(found)], "of the last patches"
        if is_chance:
            said, of = [_constant(epoch.found) for epoch in last], "that is held out"
        one = None if None in said else said[-1]
        if level >= NOTHING or (level >= WEAK and agreement < CHANCE):
            return self._tell_nothing(level, p, one, of, falls)
        return None if one is None else self._tell_constant(one, of)

    def _of_overfitting(self, last: Sequence[Epoch]) -> str | None:
        """Speak of a loss that rises for long on what is held out, while it falls on what is learned."""
        val_losses = [epoch.val_loss for epoch in self.epochs]
        if np.isnan(val_losses).any() or not _agreement(last[-1].found) >= CHANCE:
            return None
        best = int(np.argmin(val_losses))
        risen = min(epoch.val_loss for epoch in last)
        fallen = max(epoch.loss for epoch in last) <= FALLEN * self.epochs[best].loss
        is_long = 2 * (best + 1) <= len(self.epochs)
        if not (is_long and fallen and risen >= max(RISEN * val_losses[best], COSTS * last[-1].blind)):
            return None
        then, now = self.epochs[best], last[-1]
        ways = ["more images"] + (["augment=True (--augment)"] if self.settings["augment"] in (False, "flips") else [])
        ways += [] if self.settings["dropout"] else ["dropout=0.5 (--dropout 0.5)"]
        ways += ["fewer epochs (max_epochs, --max-epochs)"] if now.val_dice <= then.val_dice else []  # else they are worth it
        return (
            f"val_loss was {then.val_loss:.3g} in epoch {best + 1} (val_dice {then.val_dice:.3f}) and has risen to "
            f"{now.val_loss:.3g} (val_dice {now.val_dice:.3f}), while loss fell from {then.loss:.3g} to {now.loss:.3g}: the "
            f"images are learned by heart. What helps: {_listed(ways)}"
        )

    # The sentences

    def _tell_little(self, epoch: Epoch) -> str:
        return (
            f"the weights of a step's pixels add up to {epoch.weight:.2g}, so little that the loss hardly sees them: it stays "
            f"near {epoch.loss:.2g} whatever is learned. What helps: larger numbers in sample_weight or class_weight "
            "(--class-weight)"
        )

    def _tell_steady(self, losses: Sequence[float]) -> str:
        rate = self.settings["learning_rate"]
        way = "the default is 0.001 (--learning-rate 0.001)" if rate < 1e-3 else f"try --learning-rate {10 * rate:g}"
        return (
            f"the loss has hardly moved in {self.n_steps} steps, from {losses[0]:.3g} to {losses[-1]:.3g}: a learning_rate of "
            f"{rate:g} is too low for this training; {way}"
        )

    def _tell_other_images(self, epoch: Epoch, fits: float) -> str:
        assert epoch.found is not None
        return (
            f"val_dice is {epoch.val_dice:.3f}, where chance gives {_chance(epoch.found):.3f}, although the patches of the "
            f"training are learned (agreement beyond chance: {fits:.0%}). The images held out are of another kind (another "
            f"stain, scale or microscope), or masks belong to other images and were learned by heart: {SHOWS}; groups= and "
            "validation_data (--validation) settle what is held out"
        )

    def _tell_nothing(self, level: float, p: NDArray[np.floating], one: int | None, of: str, falls: bool) -> str:
        """Say why the loss is not below the blind one."""
        from ..data.alignment import turned  # here: it loads SciPy

        rate, epoch = self.settings["learning_rate"], self.epochs[-1]
        figures = f"the loss is {epoch.loss:.3g}, and knowing nothing but the classes' shares gives {epoch.blind:.3g}"
        lower = f"a lower learning_rate than {rate:g} (--learning-rate {rate / 10:g})"
        is_wild = epoch.loss > WILD * math.log(len(self.classes))
        way = turned(self.examples)
        if way:
            return f"{figures}: the masks look turned against their images, and fit them as {way}; load both in the same way"
        if np.ptp(p, axis=0).max() < SAME:
            ways = ['loss="cross_entropy+dice" (--loss cross_entropy+dice)', lower] if self.loss.name in OVERLAP else [lower]
            same = "the network gives the same answer at every pixel, whatever the image shows"
            return f"{same}; {figures}. What helps: {_listed(ways)}"
        if one is not None and self._is_rare(one):
            return self._tell_constant(one, of)
        if is_wild or (level > ABOVE and not falls):
            return f"{figures}: the training does not come down to that. What helps: {lower}"
        if falls:
            more = ["more epochs (max_epochs, --max-epochs)", f"a higher learning_rate than {rate:g} (--learning-rate)"]
            return f"{figures}; it was still falling when the training ended. What helps: {_listed(more)}"
        return (
            f"{figures}: the network finds nothing in the images that tells the masks. They may be those of other images, "
            f"shifted or turned: {SHOWS}. If they fit, {lower} may help"
        )

    def _tell_constant(self, one: int, of: str) -> str:
        losses, rate = [epoch.loss for epoch in self.epochs], self.settings["learning_rate"]
        ways = [] if self.settings["class_weight"] is not None else ['class_weight="balanced" (--class-weight balanced)']
        is_of_overlap = any(name in self.loss.name for name in OVERLAP)
        ways += [] if is_of_overlap else ['loss="cross_entropy+dice" (--loss cross_entropy+dice)']
        ways += ["more epochs (max_epochs, --max-epochs)"]
        ways += [f"a higher learning_rate than {rate:g} (--learning-rate)"] if max(losses) < STEADY * min(losses) else []
        others = 1 - self.frequencies[one]
        return (
            f"the network gives class {self.classes[one]} to every pixel {of}; the other classes are {others:.2%} of all pixels. "
            f"What helps: {_listed(ways)}. Where masks do not fit their images it is the same: {SHOWS}"
        )

    def _is_rare(self, one: int) -> bool:
        """Tell whether the other classes are so rare, and nothing done about it, that they may not be found for this."""
        return 1 - self.frequencies[one] < RARE and self.settings["class_weight"] is None


def _constant(found: NDArray[np.int64] | None) -> int | None:
    """Return the class that all pixels were given, where they are of several."""
    if found is None or np.count_nonzero(found.sum(axis=1)) < 2 or np.count_nonzero(found.sum(axis=0)) > 1:
        return None
    return int(found.sum(axis=0).argmax())


def _agreement(found: NDArray[np.int64] | None) -> float:
    """Return Cohen's kappa: 1 where all pixels are right, 0 for chance; NaN where nothing can be told."""
    if found is None:
        return math.nan
    total = found.sum()
    right, by_chance = np.trace(found) / total, float((found.sum(axis=0) / total) @ (found.sum(axis=1) / total))
    return float((right - by_chance) / (1 - by_chance)) if by_chance < 1 else math.nan


def _chance(found: NDArray[np.int64]) -> float:
    """Return the mean Dice of as many pixels of each class, given at random, over the classes present."""
    given, true = found.sum(axis=0), found.sum(axis=1)
    both = given + true
    return float(np.mean((2 * (given / found.sum()) * true)[both > 0] / both[both > 0]))


def _listed(ways: Sequence[str]) -> str:
    return ", ".join(ways[:-1]) + f" or {ways[-1]}" if len(ways) > 1 else ways[0]
