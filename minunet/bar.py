"""A bar in a terminal, which makes way for whatever else is printed there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from tqdm import tqdm

from .streams import Stream


class Bar(tqdm):
    """tqdm's bar on stderr. Whoever prints meanwhile, by a warning, a log or `print`, has a line of their own.

    For that, `write` of stdout and stderr is exchanged until the bar is closed, if they are terminals: a log's handler has
    the stream and not its name. The bar is drawn again with its next step, but never into a line that is not ended. Of several
    bars tqdm takes care.
    """

    _instances: ClassVar[Any]  # all bars of the process

    def __init__(self, items: Iterable[Any] | None = None, **options: Any) -> None:
        self._is_drawn = self._is_line_begun = False
        self._restore: list[Callable[[], None]] = []
        self._line, self._process = _Line(sys.stderr), os.getpid()
        super().__init__(items, file=self._line, dynamic_ncols=True, **options)
        if not self.disable and self._is_alone():
            for stream in {id(stream): stream for stream in (sys.stdout, sys.stderr) if is_terminal(stream)}.values():
                self._watch(stream)

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Draw the bar, unless somebody else has begun a line."""
        if self._is_line_begun and self._is_alone():
            return False
        self._is_drawn = True
        return super().display(msg, pos)

    def close(self) -> None:
        super().close()
        while self._restore:
            self._restore.pop()()

    def _is_alone(self) -> bool:
        return len(self._instances) < 2  # one that is being closed is out of them

    def _watch(self, stream: Any) -> None:
        try:
            own, write = vars(stream), stream.write
            before = {"write": own["write"]} if "write" in own else {}

            def making_way(text: str) -> Any:
                self._make_way(text)
                return write(text)

            def restore() -> None:
                if own.get("write") is making_way:  # else it was exchanged once more
                    del own["write"]
                    own.update(before)

            own["write"] = making_way
            self._restore.append(restore)
        except (AttributeError, TypeError):  # a stream without attributes of its own
            pass

    def _make_way(self, text: str) -> None:
        """Clear the bar, for somebody else's text. A child that this process became has none."""
        if self._line.is_busy or not self._is_alone() or os.getpid() != self._process:
            return
        if self._is_drawn:
            self._is_drawn = False
            self.clear()
        if text:
            self._is_line_begun = not str(text).endswith(("\n", "\r"))


def is_terminal(stream: Any) -> bool:
    """Tell whether a bar can be drawn there: elsewhere, in files, pipes and notebooks, it would be a heap of lines."""
    return Stream(stream).isatty()


class _Line(Stream):
    """The line of the terminal in which the bar is drawn."""

    is_busy = False

    def write(self, text: str) -> int:
        self.is_busy = True
        try:
            return super().write(text)
        finally:
            self.is_busy = False
