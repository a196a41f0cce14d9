"""The epoch loop around the one training step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import kernels
from ..data.rng import generator
from ..data.sampling import PatchSampler
from ..kernels.buffers import pooled
from ..losses import Loss
from ..network import Network
from ..optim import Optimizer
from ..warn import warn
from .history import History
from .interrupt import StopOnInterrupt
from .progress import Progress
from .schedule import Schedule
from .step import forget_graphs, step
from .stopwatch import Stopwatch

_nothing = dict[str, float]().copy  # what is called in its place does as little


class Loop:
    """Train a network on a sampler's patches. `run` may be called once; `history` and `interrupted` tell how it went."""

    def __init__(
        self, network: Network, optimizer: Optimizer, loss: Loss, sampler: PatchSampler, schedule: Schedule, *, batch_size: int,
        class_weight: NDArray | None, random_state: int, validate: Callable[[], dict[str, float]],
        callbacks: Sequence[Any], progress: Progress,
        publish: Callable[[bool, History], Callable[[], object] | None],
    ) -> None:  # fmt: skip
        """publish(whole, history) is called when an epoch has ended, or was cut short, and returns what makes this the model,

        or None. That is a function in C: nothing arrives between it and what stands before it.
        """
        self.network, self.optimizer, self.loss, self.sampler, self.schedule = network, optimizer, loss, sampler, schedule
        self.batch_size, self.class_weight, self.random_state = batch_size, class_weight, random_state
        self.validate, self.callbacks, self.progress, self.publish = validate, callbacks, progress, publish
        self.history: History = {}
        self.interrupted = self._published = False
        self.n_steps = 0
        self._late = 0 if kernels.place(network.flat) == "cpu" else 1  # a GPU's loss is read when it has its next step to do
        self._unread: deque[tuple[int, Any]] = deque()
        self._losses: list[float] = []
        self._watch = Stopwatch()

    def run(self) -> History:
        """Train until the schedule is spent or Ctrl-C. Where anything is raised, the network has the weights of the last epoch.

        FloatingPointError where the training diverges.
        """
        flat, good = self.network.flat, self.network.flat.copy()
        self._flat, self._good = flat, good
        try:
            with StopOnInterrupt() as interrupt, pooled():
                for epoch in range(self.schedule.max_epochs):
                    self._epoch(epoch, interrupt)
                    if interrupt.requested or self._spent() >= 1:
                        break
        except BaseException as error:
            flat[...] = good  # what a second Ctrl-C cut into, or a step made infinite. Without a call, as a third may come
            self.interrupted = isinstance(error, KeyboardInterrupt)
            raise
        finally:
            self.progress.close()
            forget_graphs(self.network)
        self.interrupted = interrupt.requested
        if self.interrupted:
            model = "the model is usable as it is" if self._published else "the model is what it was before"
            warn(f"interrupted after {self.n_steps} steps; {model}")
        return self.history

    def _epoch(self, epoch: int, interrupt: StopOnInterrupt) -> None:
        self._losses = []
        for index in range(self.schedule.steps_per_epoch):
            self._step(epoch, index)
            if interrupt.requested or self._spent() >= 1:
                break
        self._read(epoch, 0)
        if not self._is_finite():  # the last update may have overflowed where its loss did not
            raise FloatingPointError(self._diverged(epoch, "the weights are not finite", self.n_steps))
        logs = {"loss": float(np.mean(self._losses)), **self.validate()}
        logs |= {"learning_rate": self.optimizer.learning_rate, "seconds": self._seconds(), "steps": self.n_steps}
        history = self.history | {name: [*self.history.get(name, ()), value] for name, value in logs.items()}
        commit = self.publish(not interrupt.requested or index + 1 == self.schedule.steps_per_epoch, history)
        flat, good, told = self._flat, self._good, commit or _nothing
        good[...] = flat
        told()  # the epoch's figures are the model's with its weights, or neither: no exception arrives in between
        self.history, self._published = history, commit is not None
        self.progress.on_epoch_end(epoch + 1, self.n_steps, self._seconds(), logs)
        with self._watch.paused():  # a callback's time is not the training's
            for callback in self.callbacks:
                callback.on_epoch_end(epoch, logs)
                if not self._is_finite():
                    name = f"the callback {type(callback).__name__}"
                    raise FloatingPointError(f"{name} left weights that are not finite; the model has those from before")
                good[...] = flat  # it may have changed them

    def _is_finite(self) -> bool:
        return bool(np.isfinite(self.network.flat).all())

    def _step(self, epoch: int, index: int) -> None:
        x, labels, weights = self.sampler.batch(epoch, index, self.batch_size)
        self.optimizer.learning_rate = self.schedule.learning_rate_at(self._spent())
        rng = generator(self.random_state, "dropout", epoch, index)
        options: dict[str, Any] = {"loss": self.loss, "weights": weights, "class_weight": self.class_weight, "rng": rng}
        loss = step(self.network, self.optimizer, x, labels, **options)
        self.n_steps += 1
        self._unread.append((self.n_steps, loss))
        self._read(epoch, self._late)

    def _read(self, epoch: int, unread: int) -> None:
        """Read losses until so many are left; wait for them, where a GPU has not got them yet."""
        while len(self._unread) > unread:
            n, loss = self._unread.popleft()
            self._losses.append(float(loss))
            if not np.isfinite(self._losses[-1]):
                raise FloatingPointError(self._diverged(epoch, f"the loss is {self._losses[-1]}", n))
            self.progress.on_step(n, self._seconds(), self._losses[-1])

    def _diverged(self, epoch: int, what: str, step: int) -> str:
        kept = f"keeps the weights from the end of epoch {epoch}" if epoch else "is what it was before"
        return (
            f"{what} at step {step} (epoch {epoch + 1}): training diverged. The model {kept}. "
            f"A learning_rate below {self.schedule.learning_rate:g} (--learning-rate) may help."
        )

    def _seconds(self) -> float:
        return self._watch.read()

    def _spent(self) -> float:
        return self.schedule.spent(self.n_steps, self._seconds())
