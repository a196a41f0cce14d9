"""What `UNet.fit` does: it checks and prepares, trains, and gives the UNet a new model when an epoch has ended, or nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import checkpoint as checkpoints
from . import devices, kernels, losses, warmstart
from .checkpoint import Checkpoint
from .data.prepare import Prepared, prepare
from .data.rare import places_of_rare
from .data.sampling import PatchSampler
from .evaluation.held_out import validate
from .network import Network
from .norms import TooFewError
from .optim import OPTIMIZERS, SGD, Optimizer
from .parameters import check_callbacks, check_parameters, check_pixel_size
from .sizes import fitting_patch
from .training import journal
from .training.average import Average
from .training.budget import Training
from .training.diagnosis import Diagnosis
from .training.history import History, told
from .training.keeper import Keeper, Position
from .training.loop import Loop
from .training.patience import Patience
from .training.progress import Progress
from .training.schedule import Schedule, steps_per_epoch
from .warn import warn

if TYPE_CHECKING:
    from .unet import UNet


def fit(
    unet: UNet, x: Any, y: Any, *, pixel_size: float | None, callbacks: Sequence[Any], checkpoint: str | os.PathLike[str] | None,
    resume: bool, **companions: Any,
) -> None:  # fmt: skip
    """Train a UNet on images and masks, and on their companions by `fit`'s names for them."""
    check_parameters(unet)
    check_callbacks(callbacks)
    check_pixel_size(pixel_size)
    unet._require_weights()
    with checkpoints.opened(checkpoint, resume=resume) as kept:
        start = begin(unet, x, y, kept, **companions)
        _require_held_out(unet, start.data)
        _fit(unet, start, pixel_size, callbacks, kept)


class Beginning(NamedTuple):
    """What a training begins with, when all that may be wrong with it has been looked at."""

    data: Prepared
    network: Network
    seed: int
    training: Training


def begin(unet: UNet, x: Any, y: Any, kept: Checkpoint | None = None, **companions: Any) -> Beginning:
    """Return what `fit` would train a UNet with, whose parameters `check_parameters` has passed; the UNet stays as it is."""
    if unet.deep_supervision and unet.depth < 2:
        raise ValueError(
            f"deep_supervision (--deep-supervision) is True with depth={unet.depth}, where the decoder has no level below the "
            "top to judge; it takes a depth (--depth) from 2 up, or False"
        )
    older = unet._as_it_is() if unet.warm_start and hasattr(unet, "network_") else None
    known = warmstart.settled(older) if older else None
    seed = _seed(unet, older, kept)
    data = prepare(
        x, y, normalize=unet.normalize, class_weight=unet.class_weight, validation_fraction=unet.validation_fraction,
        random_state=seed, border_weight=unet.border_weight, known=known, target=unet.target,
        context=int(unet.context), **companions,
    )  # fmt: skip
    network = unet._network(data.n_channels, len(data.classes), seed)
    if older:
        warmstart.take_weights(network, data.classes, older.network_, older.classes_)
    if unet.verbose and unet.device == "auto":
        devices.say_if_unused(kernels.place(network.flat))
    patch_size = fitting_patch(network, int(unet.patch_size), [e.label.shape for e in data.training])
    training = Training(
        network, int(unet.batch_size), patch_size, losses.resolve(unet.loss), OPTIMIZERS[unet.optimizer],
        [e.label.shape for e in data.validation], averages=unet.average is not None,
    )  # fmt: skip
    try:
        with unet._computing(network):
            training.require()
    except TooFewError:
        raise ValueError(
            f"batch_size is {training.batch_size} with patches of {patch_size} x {patch_size} pixels, of which the lowest level "
            f"(depth={unet.depth}) has one number a channel, and batch norm takes two at least: a larger batch_size "
            '(--batch-size) or patch_size (--patch-size), less depth (--depth), or norm="group" (--norm group)'
        ) from None
    return Beginning(data, network, seed, training)


def sampler_of(unet: UNet, start: Beginning) -> PatchSampler:
    """Return what draws the patches of this training."""
    examples, patch_size = start.data.training, start.training.patch_size
    return PatchSampler(
        examples, patch_size, margin=start.network.margin, augment=unet.augment, n_classes=len(start.data.classes),
        random_state=start.seed, rare=places_of_rare(examples, patch_size),
    )  # fmt: skip


def _fit(
    unet: UNet, start: Beginning, pixel_size: float | None, callbacks: Sequence[Any], kept: Checkpoint | None
) -> None:
    data, network = start.data, start.network
    fitted = {
        "classes_": data.classes, "n_channels_in_": data.n_channels, "channel_axis_": data.channel_axis,
        "normalizer_": data.normalizer, "random_state_": start.seed, "network_": network, "n_parameters_": network.n_parameters,
        "class_frequencies_": data.frequencies, "snap_": data.snap, "joined_": data.joined, "ignore_index_": data.ignore,
        "held_out_": data.held_out, "smallest_object_": data.smallest_object, "context_": int(unet.context),
        "pixel_size_": None if pixel_size is None else float(pixel_size),
    }  # fmt: skip
    try:
        _train(unet, fitted, start, callbacks, kept)
    except MemoryError as error:
        with unet._computing(network):
            raise start.training.failed(error) from error


def _train(
    unet: UNet, fitted: dict[str, Any], start: Beginning, callbacks: Sequence[Any], kept: Checkpoint | None
) -> None:
    data, network, seed, loss = start.data, start.network, start.seed, losses.resolve(unet.loss)
    sampler = sampler_of(unet, start)
    batch_size = int(unet.batch_size)  # of NumPy's, a small whole number would overflow in what is counted with it
    steps = steps_per_epoch(sampler.training_pixels, batch_size, sampler.patch_size)
    schedule = Schedule(unet.learning_rate, steps, int(unet.max_epochs), unet.max_minutes, unet.schedule, unet.warm_up)
    was_fitted, optimizer = hasattr(unet, "network_"), optimizer_of(unet)
    average = None if unet.average is None else Average(network.flat, unet.average)
    chosen = unet.threshold == "validation"
    fixed = None if chosen or unet.threshold is None else float(unet.threshold)  # type: ignore[arg-type]
    at, keeper = Position(threshold=fixed), None
    if kept:
        model = unet._as_it_is()
        vars(model).update(fitted | told({}) | {"interrupted_": True, "threshold_": at.threshold})
        at = kept.restore(model, data, optimizer, steps, average)
        keeper = Keeper(kept.writer(model, optimizer, average), at.seconds)

    def publish(whole: bool, history: History, threshold: float | None) -> Callable[[], object] | None:
        """Let the old model go, for whoever predicts meanwhile at once; but not for a few steps of the first epoch."""
        taken = whole or not was_fitted or len(history["loss"]) > 1
        own = {name: list(values) for name, values in history.items()}  # which a callback may change
        new = fitted | told(own) | {"interrupted_": False, "threshold_": threshold}
        return partial(vars(unet).update, new) if taken else None

    for callback in callbacks:
        if hasattr(callback, "set_model"):
            callback.set_model(unet)
    diagnosis = Diagnosis(
        network, loss, data.examples, classes=data.classes, frequencies=data.frequencies, class_weight=data.class_weight,
        settings=unet._settings(), transform=sampler.transform,
    )  # fmt: skip
    with unet._computing(network):
        journal.begins(network, schedule, data, at.n_steps)
        loop = Loop(
            network, optimizer, loss, sampler, schedule, batch_size=batch_size, class_weight=data.class_weight,
            random_state=seed, callbacks=callbacks, publish=publish, at=at, keeper=keeper, diagnosis=diagnosis,
            validate=lambda: validate(
                network, data.validation, loss, classes=data.classes.tolist(), class_weight=data.class_weight,
                threshold="validation" if chosen else fixed, tell=diagnosis.on_held_out,
            ),
            progress=Progress(schedule, unet.verbose, at), clip_norm=unet.clip_norm, average=average,
            patience=Patience(int(unet.n_iter_no_change), unet.tol) if unet.early_stopping else None,
        )  # fmt: skip
        finished = False
        try:
            loop.run()
            finished = not loop.interrupted
        except BaseException as error:
            journal.ends(loop, error)
            raise
        finally:
            if hasattr(unet, "network_"):
                unet.interrupted_ = loop.interrupted or (loop.published and not finished)
        journal.ends(loop)
    if loop.signal:  # the checkpoint is written: as the signal would have had it
        signal.raise_signal(loop.signal)
    if loop.interrupted and unet._stops_a_search:
        raise KeyboardInterrupt("a fit of a search was interrupted")


def _require_held_out(unet: UNet, data: Prepared) -> None:
    """Raise a ValueError where something is to be decided on examples held out that the data does not give."""
    if unet.threshold is not None and len(data.classes) != 2:
        raise ValueError(
            f"threshold (--threshold) is {unet.threshold!r}, and the masks have {len(data.classes)} classes; it divides two: "
            "threshold=None takes the most probable class"
        )
    counts = np.zeros(len(data.classes), np.int64)
    for e in data.validation:
        counts += np.bincount(e.label[... if e.weight is None else e.weight > 0].ravel(), minlength=len(counts))
    way = "give validation_data (--validation), or a larger validation_fraction (--validation-fraction)"
    if unet.early_stopping and not counts.any():
        raise ValueError(f"early_stopping is True, and nothing is held out that tells when to stop; {way}")
    if unet.threshold == "validation" and not counts.all():
        lacks = f"class {data.classes[counts == 0][0]}" if counts.any() else "a pixel"
        raise ValueError(f"threshold is 'validation', and nothing that is held out has {lacks}, to choose it on; {way}")
    lacking = data.classes[(counts == 0) & (data.frequencies > 0)]
    if counts.any() and len(lacking) and (data.apart or unet.early_stopping):  # else it is a draw that a few images left
        warn(
            f"what is held out has no pixel of class {', '.join(map(str, lacking))}: no figure tells how well that is learned, "
            "and val_dice is the mean over the other classes; give images that show it, too"
        )


def _seed(unet: UNet, older: UNet | None, kept: Checkpoint | None) -> int:
    """Return random_state; where none is given, that of what is gone on with, which holds the same out, or a new one."""
    if unet.random_state is not None:
        return int(unet.random_state)
    if kept and kept.seed is not None:
        return kept.seed
    return older.random_state_ if older else int(np.random.SeedSequence().generate_state(1)[0])


def optimizer_of(unet: UNet) -> Optimizer:
    """Return the optimizer that a UNet's parameters describe; of a weight_decay that is None it has its own."""
    kind, options = OPTIMIZERS[unet.optimizer], dict[str, Any]()
    if kind is SGD:
        options = {"momentum": unet.momentum, "nesterov": unet.optimizer == "nesterov"}
    if unet.weight_decay is not None:
        options["weight_decay"] = unet.weight_decay
    return kind(learning_rate=unet.learning_rate, **options)
