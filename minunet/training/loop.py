"""The epoch loop around the one training step."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import kernels
from ..checks import NotFiniteError
from ..data.rng import generator
from ..data.sampling import PatchSampler
from ..evaluation.held_out import Validation
from ..flat import Weights
from ..kernels.buffers import pooled
from ..losses import Loss
from ..network import Network
from ..optim import Optimizer
from ..warn import warn
from . import diverged, journal
from .ahead import Ahead
from .average import Average
from .diagnosis import Diagnosis
from .history import History
from .interrupt import Cut, StopOnInterrupt
from .keeper import Keeper, Position
from .patience import Patience, is_best, told_best
from .progress import Progress
from .schedule import Schedule
from .step import forget_graphs, step
from .stopwatch import Stopwatch

_nothing = dict[str, float]().copy  # what is called in its place does as little


class Loop:
    """Train a network on a sampler's patches. `run` may be called once; `at`, `interrupted` and the like tell how it went."""

    def __init__(
        self, network: Network, optimizer: Optimizer, loss: Loss, sampler: PatchSampler, schedule: Schedule, *, batch_size: int,
        class_weight: NDArray | None, random_state: int, validate: Callable[[], Validation],
        callbacks: Sequence[Any], progress: Progress,
        publish: Callable[[bool, History, float | None], Callable[[], object] | None],
        diagnosis: Diagnosis, at: Position | None = None, keeper: Keeper | None = None, patience: Patience | None = None,
        clip_norm: float | None = None, average: Average | None = None,
    ) -> None:  # fmt: skip
        """publish(whole, history, threshold) is called when an epoch has ended, or was cut short, and returns what makes this

        the model, or None. That is a function in C: nothing arrives between it and what stands before it.
        at : where to go on from, if not at the beginning; the network and the optimizer are as they were there.
        keeper : writes down, between steps, where that is.
        patience : ends the training where nothing comes any more, and leaves the weights of the best epoch.
        average : of the network's weights, which it has between a step and the next where an epoch ends, or a file is written.
        """
        self.network, self.optimizer, self.loss, self.sampler, self.schedule = network, optimizer, loss, sampler, schedule
        self.batch_size, self.class_weight, self.random_state = batch_size, class_weight, random_state
        self.validate, self.callbacks, self.progress, self.publish = validate, callbacks, progress, publish
        self.at, self.keeper, self.diagnosis, self.patience = at or Position(), keeper, diagnosis, patience
        self.clip_norm, self.average = clip_norm, average
        self.began = self.at.epoch, self.at.index
        self._committed: History = {}
        self._kept: tuple[int, int] | None = None  # the epoch and the step that were written down last
        self.interrupted = self.stopped = self.published = False
        self.signal: int | None = None  # that asked the program to end, if one did
        self.ahead = Ahead(sampler, batch_size, schedule.steps_per_epoch, schedule.max_epochs)
        self._late = 0 if kernels.place(network.flat) == "cpu" else 1  # a GPU's loss is read when it has its next step to do
        self._unread: deque[tuple[int, float, Any]] = deque()  # a step, its learning rate and its loss
        self._watch = Stopwatch(self.at.seconds)

    def run(self) -> None:
        """Train until the schedule is spent, patience is at its end, a callback asks to stop, or Ctrl-C.

        Where anything is raised, the network has the weights of the last epoch. FloatingPointError where the training diverges.
        With patience it has those of the best epoch, however it ends.
        """
        flat, good = self.network.flat, self.network.flat.copy()
        state, good_state = self.network.state.flat, self.network.state.flat.copy()
        if self.at.best is not None:
            good[...], good_state[...] = self.at.best
            self.at.best = None  # a third copy is not kept
        self._flat, self.good, self._state, self.good_state = flat, good, state, good_state
        try:
            with StopOnInterrupt(ending=self.keeper is not None) as interrupt, pooled():
                if self.at.history:  # the model of a checkpoint is one already
                    self._commit(True, self.at.history, False, self.at.threshold)
                while not (interrupt.requested or self._is_over()):
                    self._epoch(interrupt)
                if self._kept != (self.at.epoch, self.at.index):
                    self._keep(now=True, over=self._is_over())
            if self.patience:
                flat[...] = good
                state[...] = good_state
        except BaseException as error:
            flat[...] = good  # what a second Ctrl-C cut into, or a step made infinite. Without a call, as a third may come
            state[...] = good_state
            self.interrupted = isinstance(error, KeyboardInterrupt)
            raise
        finally:
            self.ahead.close()
            self.progress.close()
            forget_graphs(self.network)
        self.interrupted, self.signal = interrupt.requested, interrupt.signal
        if self.interrupted:
            model = self.told_best() or "is usable as it is" if self.published else "is what it was before"
            warn(f"interrupted after {self.at.n_steps} steps; the model {model}")
        elif best := self.told_best():
            self.progress.tell(f"{self.patience if self.stale else 'the training is over'}: the model {best}")

    def told_best(self) -> str:
        """Return which epoch's the model is, for a sentence, where that need not be the last one; "" else."""
        return told_best(self._committed) if self.patience else ""

    @property
    def stale(self) -> bool:
        """Whether patience is at its end."""
        return self.patience is not None and self.patience.is_over(self.at.history)

    def _is_over(self) -> bool:
        at = self.at
        if self.stopped or at.epoch >= self.schedule.max_epochs or self.stale:
            return True
        return at.index == 0 and at.n_steps > 0 and self._spent() >= 1

    def _epoch(self, interrupt: StopOnInterrupt) -> None:
        at = self.at
        while at.index < self.schedule.steps_per_epoch and (at.index == 0 or (self._spent() < 1 and not interrupt.requested)):
            self._step()
            self._keep()
        self._read(0)
        self._show_average(True)
        if not self._is_finite():  # the last update may have overflowed where its loss did not
            raise diverged.told(self, "the weights are not finite", at.n_steps, self.optimizer.learning_rate)
        whole = not interrupt.requested or at.index == self.schedule.steps_per_epoch
        held_out = self._held_out(interrupt)
        if held_out is None:
            self._keep(now=True)
        logs = {"loss": float(np.mean(at.losses)), **self._unknown(), **(held_out.figures if held_out else {})}
        logs |= {"learning_rate": self.optimizer.learning_rate, "seconds": self._seconds(), "steps": at.n_steps}
        before = [math.nan] * len(at.history.get("loss", ()))  # a loss of one's own may tell by now what it did not
        history = at.history | {name: [*at.history.get(name, before), value] for name, value in logs.items()}
        new = not self.patience or is_best(history)
        threshold = held_out.threshold if new and held_out else at.threshold
        self._commit(whole, history, new, threshold)
        self.progress.on_epoch_end(at.epoch + 1, at.n_steps, self._seconds(), logs)
        with self._watch.paused():  # a callback's time is not the training's
            journal.epoch_ends(at.epoch + 1, self.schedule.max_epochs, logs)
            for callback in self.callbacks:
                told = callback.on_epoch_end(at.epoch, logs)
                self.stopped |= isinstance(told, bool | np.bool_) and bool(told)  # and not whatever else it may return
                if not self._is_finite():
                    raise diverged.told_of(callback, self)
                if new:
                    self.good[...] = self._flat  # it may have changed them
                    self.good_state[...] = self._state
        if held_out is not None:  # else whoever goes on from here ends the epoch as it should
            self.at = Position(at.epoch + 1, 0, at.n_steps, self._seconds(), [], history, threshold)
            if not (over := self._is_over()):
                self._keep()
            self.diagnosis.on_epoch_end(history, over=over)

    def _commit(self, whole: bool, history: History, new: bool, threshold: float | None) -> None:
        """Make this the model: an epoch's figures with its weights, or neither, as no exception arrives in between.

        new : the weights of this moment; else those that it has.
        """
        commit = self.publish(whole, history, threshold)
        self._committed = history
        good, good_state, told = self.good, self.good_state, commit or _nothing
        weights, state = (self._flat, self._state) if new else (good, good_state)
        good[...] = weights
        good_state[...] = state
        told()
        self.published = self.published or commit is not None

    def _held_out(self, interrupt: StopOnInterrupt) -> Validation | None:
        """Return the figures on what is held out; None where Ctrl-C came before, or cut it short: it would take too long."""
        if interrupt.requested:
            return None
        try:
            interrupt.cuts = True
            found = self.validate()
            interrupt.cuts = False
        except Cut:
            return None
        except NotFiniteError as error:
            raise diverged.told(self, error.what, self.at.n_steps, self.optimizer.learning_rate) from None
        return found

    def _unknown(self) -> dict[str, float]:
        """Return an epoch's figures on what is held out as unknown, where other epochs have them."""
        return {name: math.nan for name in self.at.history if name.startswith("val_")}

    def _keep(self, *, now: bool = False, over: bool = False) -> None:
        """Write down where this is, if it is time to; over : whether that is the training's end."""
        at = self.at
        if self.keeper is not None and (now or self.keeper.is_due(self._seconds(), at.index == 0)):
            self._read(0)  # a GPU's, too: what is written down is whole
            at.seconds = self._seconds()
            at.best = Weights(self.good, self.good_state) if self.told_best() else None
            shown = self.average is not None and self.average.shown
            self._show_average(False)  # what is trained is the network's, and the mean beside it
            self.keeper.write(at, over)
            self._show_average(shown)
            self._kept = at.epoch, at.index

    def _show_average(self, shown: bool) -> None:
        """Let the network have the mean of its weights, if one is kept, or the weights that are trained."""
        if self.average:
            self.average.show(shown)

    def _is_finite(self) -> bool:
        return bool(np.isfinite(self.network.flat).all() and np.isfinite(self.network.state.flat).all())

    def _step(self) -> None:
        at = self.at
        x, labels, weights = self.ahead.batch(at.epoch, at.index)
        self.optimizer.learning_rate = self.schedule.learning_rate_at(self._spent(), at.history)
        rng = generator(self.random_state, "dropout", at.epoch, at.index)
        options: dict[str, Any] = {"loss": self.loss, "weights": weights, "class_weight": self.class_weight, "rng": rng}
        options["clip_norm"] = self.clip_norm
        self._show_average(False)
        rate = self.optimizer.learning_rate
        try:
            loss = step(self.network, self.optimizer, x, labels, **options)
        except NotFiniteError as error:
            raise diverged.told(self, error.what, at.n_steps + 1, rate) from None
        self.diagnosis.on_step(x, labels, weights)
        at.index, at.n_steps = at.index + 1, at.n_steps + 1
        self._unread.append((at.n_steps, rate, loss))
        self._read(self._late)
        if self.average:
            self.average.update(at.n_steps)

    def _read(self, unread: int) -> None:
        """Read losses until so many are left; wait for them, where a GPU has not got them yet."""
        while len(self._unread) > unread:
            n, rate, loss = self._unread.popleft()
            value = float(loss)
            if not np.isfinite(value):
                raise diverged.told(self, f"the loss is {value}", n, rate)
            self.at.losses.append(value)
            self.progress.on_step(n, self._seconds(), value)

    def _seconds(self) -> float:
        return self._watch.read()

    def _spent(self) -> float:
        return self.schedule.spent(self.at.n_steps, self._seconds())
