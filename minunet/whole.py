"""Work that no exception from outside may cut: Ctrl-C in the middle of an import or of compiling leaves half of it behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


def whole(function: Callable[..., T], *args: Any) -> T:
    """Return function(*args), computed in a thread of its own, in this context: what signals raise, they raise in the main one.

    That is raised here too, but when the function has ended. In another thread than the main one, this is the call alone.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*args)
    results: list[T] = []
    raised: list[BaseException] = []
    ended = threading.Lock()  # Thread.join takes a thread for ended when it was cut itself
    ended.acquire()

    def work() -> None:
        try:
            results.append(function(*args))
        except BaseException as error:
            raised.append(error)
        ended.release()

    worker = threading.Thread(target=copy_context().run, args=(work,), name="minunet-whole")
    arrived: BaseException | None = None
    try:
        worker.start()
    except BaseException as error:
        if worker.ident is None:  # it has not begun
            raise
        arrived = error
    while not (results or raised):
        try:
            ended.acquire()
        except BaseException as error:
            arrived = error
    if arrived or raised:
        raise arrived or raised[0]
    return results[0]
