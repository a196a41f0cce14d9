"""How long, and at which learning rate."""

import pytest

from minunet.training.schedule import Schedule, steps_per_epoch


def test_an_epoch_shows_as_many_pixels_as_there_are_but_at_least_25_steps():
    assert steps_per_epoch(20 * 512 * 512, 4, 256) == 25
    assert steps_per_epoch(200 * 512 * 512, 4, 256) == 200
    assert steps_per_epoch(200 * 512 * 512 + 1, 4, 256) == 201
    assert steps_per_epoch(1, 4, 16) == 25


def test_whichever_of_epochs_and_minutes_is_further_spent_counts():
    schedule = Schedule(0.1, steps_per_epoch=10, max_epochs=10, max_minutes=1)
    assert schedule.spent(50, 6) == 0.5
    assert schedule.spent(50, 45) == 0.75
    assert schedule.spent(50, 600) == 1


def test_time_plays_no_part_where_no_minutes_are_given():
    assert Schedule(0.1, 10, 10, None).spent(50, 1e9) == 0.5


def test_poly_decay_starts_at_the_learning_rate_and_ends_at_zero():
    schedule = Schedule(0.1, 10, 10, None)
    assert schedule.learning_rate_at(0) == 0.1
    assert schedule.learning_rate_at(0.5) == pytest.approx(0.1 * 0.5**0.9)
    assert schedule.learning_rate_at(1) == 0
