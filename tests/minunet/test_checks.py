"""What is refused before anything is computed, from both sides of each limit."""

from __future__ import annotations

import numpy as np
import pytest

from minunet import Network
from minunet.checks import MOST, check_depth, check_moments, check_rates

TINY = np.float32(1e-45)  # the least number above 0


@pytest.mark.parametrize(
    ("values", "squares", "fine"),
    [
        ([0.0, 2.0], (0,), True),
        ([TINY, 0.5], (0,), True),
        ([-TINY, 2.0], (0,), False),
        ([-TINY, 2.0], (), True),
        ([0.0, 3e38], (), True),
        ([0.0, np.inf], (), False),
        ([-np.inf, 0.0], (), False),
        ([np.nan, 0.0], (), False),
        ([], (0,), True),
    ],
)
def test_moments_are_finite_and_means_of_squares_not_negative(values, squares, fine):
    moments = (np.float32(values),)
    if fine:
        return check_moments(moments, squares)
    from_zero = r" from 0 up: a mean of squares" if squares else ""
    with pytest.raises(ValueError, match=rf"^moments\[0\] is .* to .*; it takes finite numbers{from_zero}$"):
        check_moments(moments, squares)


@pytest.mark.parametrize(
    ("depth", "base", "fine"),
    [(0, MOST, True), (0, MOST + 1, False), (30, 1, True), (30, 2, False), (31, 1, False), (-1, 1, False)],
)
def test_the_lowest_level_has_channels_that_can_be_counted(depth, base, fine):
    if fine:
        return check_depth(depth, base)
    with pytest.raises(ValueError, match=rf"^depth is {depth}; it takes "):
        check_depth(depth, base)


LARGEST = float(np.finfo(np.float32).max)
RATES = [
    ({"learning_rate": 0.0}, True), ({"learning_rate": -1e-300}, False), ({"learning_rate": LARGEST}, True),
    ({"learning_rate": LARGEST * (1 + 1e-15)}, False), ({"beta1": 0.0}, True), ({"beta1": 1 - 1e-16}, True),
    ({"beta1": 1.0}, False), ({"epsilon": 1e-45}, True), ({"epsilon": 1e-46}, False), ({"epsilon": 0.0}, False),
    ({"t": 1.0}, True), ({"t": 0.0}, False), ({"momentum": 1.0}, True), ({"nesterov": 1}, False), ({"nesterov": True}, True),
]  # fmt: skip


@pytest.mark.parametrize(("rates", "fine"), RATES)
def test_rates_are_numbers_that_a_step_can_be_made_with(rates, fine):
    if fine:
        return check_rates(rates, np.dtype(np.float32))
    with pytest.raises(ValueError, match=rf"^{next(iter(rates))} is .*; it takes (a number from 0|True or False)"):
        check_rates(rates, np.dtype(np.float32))


@pytest.mark.parametrize(("name", "fine", "wrong"), [("dropout", 0.0, 1.0), ("dropout", 0.999, -0.001), ("random_state", 0, -1)])
def test_a_network_takes_settings_up_to_their_limits(name, fine, wrong):
    Network(1, 2, 1, 1, **{name: fine})
    with pytest.raises(ValueError, match=rf"^{name} is {wrong}; it takes "):
        Network(1, 2, 1, 1, **{name: wrong})
