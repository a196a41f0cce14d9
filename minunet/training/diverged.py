"""Where a step's numbers stop being finite, and the sentence that tells it. Nothing here runs before that was noticed.

The step is run again, on tapes that look at all that is computed: the first layer whose output is not finite is named, or the
first, on the way back, whose gradient is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import devices, kernels, losses
from ..data.rng import generator
from ..layers import Conv2d, Grads, Layer, Sequential
from ..losses import Loss, Target
from ..network import Level, Network
from ..tape import Tape, tapes
from .step import passes

if TYPE_CHECKING:
    from .loop import Loop

HUGE = 1e4  # of a scaled image, whose values are about -1 .. 1
MOST_RATE = 0.01  # from 0.1 up, a tenth of a learning rate is still much
RECENT = 10  # steps whose losses tell whether it rose

Array = NDArray[np.floating]


class Place(NamedTuple):
    """What is not finite first: a layer's "output" or "gradient", a loss's "value" or "gradient", a "weight", the "input"."""

    kind: str
    name: str = ""
    made_by: Layer | Loss | None = None

    def __str__(self) -> str:
        return self.name if self.kind == "weight" else "the input" if self.kind == "input" else f"the {self.kind} of {self.name}"


class _FoundError(Exception):
    """Ends the run as soon as something is found: kind, layer."""


class _Watching(Tape):
    """A tape that looks at all that passes. What is wrong before a layer has run is of the layer whose tape this is."""

    running: Layer | None = None

    def run(self, layer: Layer, x: Array, *, out: Array | None = None) -> Array:
        _look("output", self.layer, x)
        self.running = layer
        y = super().run(layer, x, out=out)
        self.running = None
        return y

    def keep(self, y: Array, cache: Any) -> Array:
        _look("output", self.running or self.layer, y)
        return super().keep(y, cache)

    def back(self, layer: Layer, *, input_grad: bool = True) -> Grads:
        _look("gradient", self.layer, self.gradient)
        grads = super().back(layer, input_grad=input_grad)
        _look("gradient", layer, self.gradient, *grads.values())
        return grads


def first(network: Network, loss: Loss, x: Array, target: Target, rng: np.random.Generator | None = None) -> Place | None:
    """Return what is not finite first in a step, which is run again; None where all is finite.

    x (N, H, W, C) and target are NumPy arrays; rng is as it was before the step: it draws the same dropout.
    """
    if not _is_finite(x):
        return Place("input")
    if weight := weight_of(network.parameters):
        return Place("weight", weight)
    names = _names(network)
    place = kernels.place(network.flat)
    try:
        with devices.using(place), kernels.within(tapes, _Watching), np.errstate(all="ignore"):
            passes(network, _Watched(loss), kernels.for_array(network.flat).asarray(x), target, rng)
    except _FoundError as found:
        kind, whose = found.args
        name = f"the loss {type(whose).__name__}" if isinstance(whose, Loss) else names.get(id(whose), "the network")
        return Place(kind, name, whose)
    return None


def weight_of(parameters: Any) -> str | None:
    """Return the name of the first parameter that is not finite, in the order of running, which is the reverse of theirs."""
    return next((name for name in reversed(list(parameters)) if not _is_finite(parameters[name])), None)


def told(loop: Loop, what: str, n: int, rate: float) -> FloatingPointError:
    """Return the error that tells what is not finite at step n, where first, and what to do. rate : the learning rate there."""
    at = loop.at
    index = at.index - 1 - (at.n_steps - n)
    x, labels, weights = loop.ahead.batch(at.epoch, index)
    shape, rng = loop.network.logits_shape(x), generator(loop.random_state, "dropout", at.epoch, index)
    target = losses.target(labels, shape, loop.network.dtype, weights=weights, class_weight=loop.class_weight)
    try:
        place = first(loop.network, loop.loss, x, target, rng)
    except Exception:  # of code of the user's, which may not run twice: the rest is told all the same
        place = None
    where = "" if place is None else f", first in {place}"
    kept = f"keeps the weights from the end of epoch {at.epoch}" if at.epoch else "is what it was before"
    if at.epoch and (at.epoch, 0) < loop.began:  # it went on in the midst of this epoch
        kept = "keeps the weights of the checkpoint"
    kept = loop.told_best() or kept
    return FloatingPointError(
        f"{what} at step {n} (epoch {at.epoch + 1}, learning rate {rate:g}){where}: training diverged. The model {kept}; "
        f"{_older(loop) or _image(loop, x, index) or _own(loop, place) or _rate(loop)}"
    )


def told_of(callback: Any, loop: Loop) -> FloatingPointError:
    """Return the error that tells of a callback which left weights that are not finite."""
    epoch, weight = loop.at.epoch + 1, weight_of(loop.network.parameters)
    kept = loop.told_best() or f"keeps those from before, of the end of epoch {epoch}"
    return FloatingPointError(
        f"the callback {type(callback).__name__} left weights that are not finite, first in {weight}, at step {loop.at.n_steps} "
        f"(the end of epoch {epoch}, learning rate {loop.optimizer.learning_rate:g}). The model {kept}; mend the "
        "callback, or train without it"
    )


def _older(loop: Loop) -> str | None:
    """Return what to do where a weight was not finite from the start: since then, what an epoch left was."""
    weight = weight_of(loop.network.parameters.split(loop.good))
    return weight and f"{weight} was not finite before the training: begin with new weights (warm_start=False, no --init)"


def _image(loop: Loop, x: Array, index: int) -> str | None:
    """Return what to do where an image's values are huge."""
    largest = np.abs(x).max(axis=(1, 2, 3))
    which = int(np.argmax(~(largest <= HUGE)))
    if largest[which] <= HUGE:
        return None
    name = loop.sampler.drawn(loop.at.epoch, index * loop.batch_size + which).name or "an image"
    return (
        f"scaled, {name} has values up to {largest[which]:g}, where others have about 1: mask or mend them, or take the scale "
        'that each image has by itself (normalize="image", --normalize image) for a new model'
    )


def _own(loop: Loop, place: Place | None) -> str | None:
    """Return what to do where it is code of the user's that made it; their loss, if all is finite when the step runs again."""
    whose = loop.loss if place is None else place.made_by
    if whose is None or type(whose).__module__.startswith("minunet."):
        return None
    check = "check_gradients" if isinstance(whose, Loss) else "check_layer"
    return f"look at your {type(whose).__name__}: minunet.testing.{check} can test it"


def _rate(loop: Loop) -> str:
    """Return what to do where nothing else is wrong."""
    recent = loop.at.losses[-RECENT:]
    rose = len(recent) > 1 and recent[-1] > 2 * min(recent)
    why = f" (the loss had risen from {min(recent):.3g} to {recent[-1]:.3g})" if rose else ""
    rate = min(loop.schedule.learning_rate / 10, MOST_RATE)
    return f"try a lower learning rate{why}: learning_rate={rate:g} (--learning-rate {rate:g})"


class _Watched(Loss):
    """A loss that goes through heads one after another: fused, the two would show less."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def through(self, head: Conv2d, x: Array, target: Target) -> tuple[Array, Array, Grads]:
        tape, dtype = Tape(), head.parameters["weight"].dtype
        logits = tape.run(head, x, out=kernels.serving(x).empty((*x.shape[:3], head.out_channels), dtype))
        value, tape.gradient = _of_loss(self.loss, logits, target)
        grads = tape.back(head)
        return value, tape.taken(), grads


def _of_loss(loss: Loss, logits: Array, target: Target) -> tuple[Array, Array]:
    """Return a loss and its gradient; of a sum, find which of its parts it is."""
    for part in losses.parts(loss):
        _of_loss(part, logits, target)
    value, gradient = loss.value_and_grad(logits, target)
    _look("value", loss, value)
    _look("gradient", loss, gradient)
    return value, gradient


def _look(kind: str, whose: Layer | Loss | None, *arrays: Any) -> None:
    if whose is not None and not all(map(_is_finite, arrays)):
        raise _FoundError(kind, whose)


def _is_finite(a: Any) -> bool:
    return a is None or bool(np.isfinite(kernels.to_host(a)).all())


def _names(layer: Layer, name: str = "") -> dict[int, str]:
    """Return the name of each layer in a tree, by its id: that of its parameters, or of a level where it has none."""
    found = {id(layer): f"level {layer.i}" if isinstance(layer, Level) else name or "the network"}
    inside = {**layer.children, **(layer.steps if isinstance(layer, Sequential) else {})}
    for key, child in inside.items():
        found |= _names(child, ".".join(filter(None, (name, key))))
    return found
