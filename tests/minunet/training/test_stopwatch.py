"""The training's time: it never goes back, and pauses do not count."""

from __future__ import annotations

import time

import pytest

from minunet.training.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch):
    """Set what the system's clock reads next."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return lambda value: now.__setitem__(0, value)


def test_time_passes_and_a_clock_that_is_set_back_takes_none_away(clock):
    watch = Stopwatch()
    found = []
    for reading in (101.0, 103.0, -1e7, -1e7 + 1, 1e7):
        clock(reading)
        found.append(watch.read())
    assert found == [1.0, 3.0, 3.0, 4.0, 4.0 + 2e7 - 1]


def test_a_pause_does_not_count_even_where_it_ends_in_an_error(clock):
    watch = Stopwatch()
    clock(102.0)
    with pytest.raises(KeyError), watch.paused():
        clock(150.0)
        raise KeyError
    clock(151.0)
    assert watch.read() == 3.0
