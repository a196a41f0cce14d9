"""Batches that are prepared on a thread while the steps before them run."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING

from ..data.sampling import Batch, PatchSampler

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

AHEAD = 2  # batches that may be ready, or be under way, while a step runs


class Ahead:
    """Gives each batch that is asked for, as `sampler.batch` makes it, and prepares those that follow.

    All are made on one thread, one after another: code of the user's (a function that augments, a reader of images) never runs
    twice at once. What is raised there is raised where the batch is asked for. The thread computes on itself alone, and takes
    none of the kernels' threads; it holds arrays, never an address. It ends with `close`, or with this.
    """

    def __init__(self, sampler: PatchSampler, batch_size: int, steps_per_epoch: int, max_epochs: int) -> None:
        self._sampler, self._batch_size = sampler, batch_size
        self._steps_per_epoch, self._n = steps_per_epoch, steps_per_epoch * max_epochs
        self._context = copy_context()  # with the backend that is in use here, but without the step's pool of buffers
        self._thread = _thread()
        self._made: dict[int, Future[Batch]] = {}  # by the number of the step, of the training's

    def batch(self, epoch: int, index: int) -> Batch:
        """Return batch `index` of an epoch. What was prepared and is not next any more goes."""
        n = epoch * self._steps_per_epoch + index
        soon = [n, *range(n + 1, min(n + 1 + AHEAD, self._n))]
        try:
            self._made = {step: self._made.get(step) or self._begin(step) for step in soon}
        except RuntimeError:  # the main thread has ended: this one may go on, but no work begins on another any more
            return self._sampler.batch(epoch, index, self._batch_size)
        return self._made.pop(n).result()

    def _begin(self, step: int) -> Future[Batch]:
        if self._thread is None:
            raise RuntimeError("there is no thread")
        epoch, index = divmod(step, self._steps_per_epoch)
        return self._thread.submit(self._context.run, self._sampler.batch, epoch, index, self._batch_size)

    def close(self) -> None:
        """End the thread: when this returns, nothing runs there any more."""
        self._made.clear()
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)


def _thread() -> ThreadPoolExecutor | None:
    """Return a thread of its own; None where the main thread has ended, as then there is none to be had any more."""
    try:
        from concurrent.futures import ThreadPoolExecutor  # here: it is refused by then, too
    except RuntimeError:
        return None
    return ThreadPoolExecutor(1, thread_name_prefix="minunet-batches")
