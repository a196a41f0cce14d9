"""The bar makes way: whatever is printed meanwhile, and by whom, has its lines, and the bar has its own."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings

import pytest
from terminal import terminal
from tqdm import tqdm

from minunet.bar import Bar

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")


def warned(handler):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: sys.stderr.write(f"warning: {message}\n")
        warnings.warn("one\ntwo", stacklevel=1)


def logged(handler):
    logger = logging.getLogger("tests.bar")
    logger.addHandler(handler)
    logger.error("one")
    logger.error("two")
    logger.removeHandler(handler)


def printed(handler):
    print("one", "and", "two")


def printed_on_stderr(handler):
    print("one", 2, file=sys.stderr)


WRITERS = [
    (warned, ["warning: one", "two"]), (logged, ["one", "two"]), (printed, ["one and two"]), (printed_on_stderr, ["one 2"]),
]  # fmt: skip


@pytest.mark.parametrize("leave", [True, False])
@pytest.mark.parametrize(("write", "lines"), WRITERS, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_printed_has_lines_of_its_own_above_the_bar(write, lines, leave):
    with terminal() as screen:
        handler = logging.StreamHandler()  # which has the stream from before there was a bar
        bar = Bar(total=2, desc="training", leave=leave, mininterval=0)
        bar.update()
        write(handler)
        bar.update()
        bar.close()
        write(handler)
    bars, last = ([], [""]) if not leave else ([line for line in screen.lines if line.startswith("training: 100%")], [""])
    assert screen.lines == [*lines, *bars, *lines, *last] and len(bars) == leave
    assert screen.raw.count(b"training:  50%") == 1


def test_no_bar_is_drawn_into_a_line_that_is_not_ended():
    with terminal() as screen, Bar(total=3, desc="training", leave=False, mininterval=0) as bar:
        bar.update()
        print("who? ", end="", flush=True)
        bar.update()
        bar.set_postfix(loss=1)
        print("me")
        bar.update()
    assert screen.lines == ["who? me", ""]
    assert b"training: 100%" in screen.raw and b"training:  67%" not in screen.raw


def test_nor_when_it_is_closed():
    with terminal() as screen:
        with Bar(total=1, desc="training", mininterval=0):
            print("who?", end="", flush=True)
        print("me")
    assert screen.lines == ["who?", "me", ""]


def test_the_streams_are_as_they_were_when_it_is_closed():
    with terminal():
        sys.stderr.write = own = sys.stderr.write  # somebody else's
        bar = Bar(total=1)
        assert sys.stderr.write is not own and "write" in vars(sys.stdout)
        bar.close()
        bar.close()
        assert sys.stderr.write is own and "write" not in vars(sys.stdout)
        bar = Bar(total=1)
        sys.stdout.write = own = sys.stdout.write  # exchanged once more, meanwhile
        another = sys.stdout.write = lambda text: own(text.upper())
        bar.close()
        assert sys.stdout.write is another
        print("still")
        del sys.stdout.write


def test_what_is_no_terminal_is_left_alone(monkeypatch):
    monkeypatch.setattr("sys.stdout", out := io.StringIO())
    with terminal() as screen:
        monkeypatch.setattr("sys.stdout", out)
        bar = Bar(total=2, leave=False, desc="training")
        print("printed")
        assert "write" in vars(sys.stderr) and "write" not in vars(out)
        bar.close()
    assert out.getvalue() == "printed\n" and screen.raw.count(b"training:") == 1


class Slotted:
    """A stream that takes no attributes."""

    __slots__ = ("texts",)

    def __init__(self):
        self.texts = []

    def write(self, text):
        self.texts.append(text)

    def isatty(self):
        return True


def test_a_stream_that_takes_no_attributes_has_a_bar_like_any_other(monkeypatch):
    monkeypatch.setattr("sys.stderr", stream := Slotted())
    with Bar(total=1, desc="training", mininterval=0) as bar:
        bar.update()
    assert "training: 100%" in "".join(stream.texts)


def drawn_around(inner):
    """Return the screen of a bar around others, as around a fit each fold."""
    with terminal() as screen:
        for _ in tqdm(range(2), desc="folds", mininterval=0, file=sys.stderr, bar_format="{desc} {n}/{total}"):
            with inner(total=2, desc="training", mininterval=0, bar_format="{desc} {n}/{total}") as bar:
                bar.update()
                bar.update()
    return screen.lines


def test_several_bars_stand_as_tqdm_has_them():
    own = drawn_around(Bar)
    assert own == drawn_around(lambda **options: tqdm(file=sys.stderr, **options)) and "folds 2/2" in "".join(own)


def test_bars_that_end_in_any_order_leave_the_streams_as_they_were():
    with terminal():
        first, second = Bar(total=1), Bar(total=1)
        first.close()
        third = Bar(total=1)
        second.close()
        third.close()
        assert "write" not in vars(sys.stderr) and "write" not in vars(sys.stdout)


def test_another_process_takes_no_bar_away(monkeypatch):
    with terminal() as screen, Bar(total=1, desc="training", leave=False, bar_format="{desc}"):
        monkeypatch.setattr(os, "getpid", lambda: 0)
        print("child")
    assert screen.lines[0].startswith("trainingchild")
