"""The limits from which on a training is told that it cannot work, each on both sides."""

from __future__ import annotations

import numpy as np
import pytest
from diagnoses import CONSTANT, EVEN, LEARNED, LOST, NOTHING, Stub, diagnosis, learned_by_heart, only, train

from minunet.losses import Dice

OF_LEARNED = -0.2 * np.log(0.2) - 0.8 * np.log(0.8)  # what knowing nothing costs of LEARNED


def alike(percent):
    """Return a confusion matrix of two classes as frequent, whose agreement beyond chance, Cohen's kappa, is this."""
    return [[100 + percent, 100 - percent], [100 - percent, 100 + percent]]


@pytest.mark.parametrize(("epochs", "window"), [(24, 6), (40, 8)])
def test_what_lasts_lasts_for_200_steps_or_a_quarter_of_all(epochs, window):
    for n, speaks in ((window - 1, False), (window, True)):
        held_out = [LEARNED] * (epochs - n) + [NOTHING] * n
        assert bool(train(diagnosis(), [EVEN] * epochs, held_out=held_out)) is speaks


def test_what_lasts_lasts_for_two_epochs_however_long(monkeypatch):
    monkeypatch.setattr("diagnoses.STEPS", 300)
    only(train(diagnosis(), [EVEN] * 4), 3, "finds nothing")


@pytest.mark.parametrize(("part", "falls"), [(0.979, True), (0.981, False)])
def test_a_loss_falls_by_two_percent_from_window_to_window(part, falls):
    assert bool(train(diagnosis(), [EVEN] * 18 + [part * EVEN] * 6, over=False)) is not falls


@pytest.mark.parametrize(
    ("level", "patches", "speaks"),
    [(0.951, LEARNED, True), (0.949, LEARNED, False), (0.851, NOTHING, True), (0.849, NOTHING, False)],
)
def test_nothing_is_95_percent_or_85_where_patches_are_chance_too(level, patches, speaks):
    blind = EVEN if patches is NOTHING else OF_LEARNED
    assert bool(train(diagnosis(), [level * blind] * 30, patches=patches)) is speaks


@pytest.mark.parametrize(
    ("first", "level", "says"),
    [(1.0, 1.09, "finds nothing"), (1.0, 1.11, "hardly moved"), (1.09, 1.3, "hardly moved"), (1.11, 1.3, "does not come down")],
)
def test_above_is_a_tenth_and_so_much_is_steady(first, level, says):
    only(train(diagnosis(), [first * level * EVEN] + [level * EVEN] * 29), 24, says)


@pytest.mark.parametrize(("times", "says"), [(2.95, "still falling"), (3.05, "does not come down")])
def test_a_loss_of_three_times_what_even_answers_cost_is_wild(times, says):
    only(train(diagnosis(), [times * EVEN * 0.97 ** (i - 29) for i in range(30)]), 30, says)


def test_answers_that_differ_by_a_ten_thousandth_are_not_the_same():
    network = Stub()
    network.__class__ = type("Faint", (Stub,), {"__call__": lambda self, x: 1e-4 * Stub.__call__(self, x)})
    only(train(diagnosis(network=network), [EVEN] * 30), 24, "finds nothing")


@pytest.mark.parametrize(("share", "says"), [(0.09, "gives class 7 to every pixel"), (0.11, "finds nothing")])
def test_rare_is_less_than_a_tenth(share, says):
    only(train(diagnosis(frequencies=(share, 1 - share)), [0.14] * 30, patches=CONSTANT), 24, says)


@pytest.mark.parametrize(
    ("level", "agreement", "speaks"), [(0.69, 90, True), (0.71, 90, False), (0.5, 31, True), (0.5, 29, False)]
)
def test_patches_are_learned_below_a_level_of_70_percent_from_an_agreement_of_30_on(level, agreement, speaks):
    told = train(diagnosis(), [0.6, *[level * EVEN] * 29], patches=alike(agreement), held_out=LOST)
    assert [("another kind" in text) for _, text in told] == [True] * speaks


@pytest.mark.parametrize(("agreement", "speaks"), [(9, True), (11, False)])
def test_chance_is_an_agreement_of_less_than_a_tenth(agreement, speaks):
    assert bool(train(diagnosis(), [EVEN] * 30, held_out=alike(agreement))) is speaks


@pytest.mark.parametrize(
    ("given", "speaks"), [({"rises": 1.95}, False), ({"rises": 2.05}, True), ({"falls": 0.76}, False), ({"falls": 0.74}, True)]
)
def test_learning_by_heart_is_twice_the_val_loss_at_three_quarters_of_the_loss(given, speaks):
    assert bool(learned_by_heart(**given)) is speaks


@pytest.mark.parametrize(("costs", "speaks"), [(0.49, False), (0.51, True)])
def test_learning_by_heart_costs_half_of_what_knowing_nothing_does(costs, speaks):
    losses, val_losses = [0.4] * 10 + [0.1] * 20, [0.05] * 10 + [costs * OF_LEARNED] * 20
    assert bool(train(diagnosis(), losses, patches=LEARNED, held_out=LEARNED, val_losses=val_losses)) is speaks


def test_learning_by_heart_lasts_for_half_of_the_epochs():
    only(learned_by_heart(best=11), 24, "in epoch 12 ")
    only(learned_by_heart(best=12), 26, "in epoch 13 ")


@pytest.mark.parametrize(("weight", "is_little"), [(9.9, True), (10.1, False)])
def test_a_weight_below_ten_is_little_for_a_loss_of_overlap(weight, is_little):
    told = train(diagnosis(loss=Dice()), [1.0] * 30, weights=weight / 40)  # NOTHING has 40 pixels
    assert ("add up to" in told[0][1]) is is_little


def test_a_steady_loss_at_the_default_rate_is_given_ten_times_that():
    only(train(diagnosis(learning_rate=1e-3), [0.9] * 30), 24, "0.001 is too low", "try --learning-rate 0.01")
