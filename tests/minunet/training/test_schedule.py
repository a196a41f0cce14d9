"""How long, and at which learning rate."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet.training.schedule import SCHEDULES, Schedule, plateaus, steps_per_epoch

SHARES = st.floats(0, 1)


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


# ---- Other schedules ----

DEFINED = {
    "poly": lambda s: (1 - s) ** 0.9,
    "cosine": lambda s: 0.5 + 0.5 * math.cos(math.pi * s),
    "step": lambda s: 1 if s < 0.5 else 0.1 if s < 0.75 else 0.01,
    "one_cycle": lambda s: (
        0.04 + 0.96 * (1 - math.cos(math.pi * s / 0.3)) / 2 if s < 0.3 else (1 + math.cos(math.pi * (s - 0.3) / 0.7)) / 2
    ),
    "constant": lambda s: 1,
    "plateau": lambda s: 1,
}  # fmt: skip


@given(name=st.sampled_from(sorted(SCHEDULES)), spent=SHARES | st.sampled_from([0.3, 0.5, 0.75]))
def test_each_goes_as_it_is_defined(name, spent):
    found = Schedule(0.02, 10, 10, None, name).learning_rate_at(spent)
    assert found == pytest.approx(0.02 * DEFINED[name](spent), rel=1e-9, abs=1e-15)
    assert 0 <= found <= 0.02


@given(name=st.sampled_from(sorted(SCHEDULES)), warm_up=st.floats(0.01, 0.99), spent=SHARES)
def test_a_warm_up_rises_in_a_line_and_the_schedule_has_the_rest(name, warm_up, spent):
    found = Schedule(2.0, 10, 10, None, name, warm_up).learning_rate_at(spent)
    if spent < warm_up:
        assert found == pytest.approx(2.0 * (0.01 + 0.99 * spent / warm_up), rel=1e-12)
    else:
        rest = Schedule(2.0, 10, 10, None, name).learning_rate_at((spent - warm_up) / (1 - warm_up))
        assert found == pytest.approx(rest, rel=1e-12)
    assert Schedule(2.0, 10, 10, None, name, warm_up).learning_rate_at(1) == Schedule(2.0, 10, 10, None, name).learning_rate_at(1)


STILL = [1.0, 0.8, *[0.8 * (1 - 0.9e-4)] * 5]  # less than a ten-thousandth lower is not lower


@pytest.mark.parametrize(
    ("history", "found"),
    [
        ({}, 0), ({"val_loss": STILL[:6]}, 0), ({"val_loss": STILL}, 1), ({"val_loss": [*STILL, 0.9, 0.9, 0.9, 0.9]}, 1),
        ({"val_loss": [*STILL, *[0.9] * 5]}, 2), ({"val_loss": [*STILL, 0.7, *[0.9] * 4]}, 1),
        ({"val_loss": [-1.0, *[-1.00005] * 5]}, 1), ({"val_loss": [-1.0, *[-1.0 - 0.1 * i for i in range(1, 6)]]}, 0),
        ({"val_loss": [1.0, *[math.nan] * 9], "loss": [1.0] * 10}, 0), ({"val_loss": [math.nan] * 6, "loss": [1.0] * 6}, 1),
        ({"val_loss": [0.8, *[0.8 * (1 - 1.05e-4)] * 5]}, 0),
        ({"loss": [1.0] * 6}, 1), ({"loss": [1.0] * 6, "val_loss": [1.0 - 0.1 * i for i in range(6)]}, 0),
        ({"loss": [1.0 - 0.1 * i for i in range(6)], "val_loss": [1.0] * 6}, 1),
    ],
)  # fmt: skip
def test_a_plateau_is_five_epochs_in_which_the_loss_is_not_lower(history, found):
    assert plateaus(history) == found
    assert Schedule(1.0, 10, 10, None, "plateau").learning_rate_at(0.5, history) == pytest.approx(0.1**found)
    assert Schedule(1.0, 10, 10, None, "constant").learning_rate_at(0.5, history) == 1
