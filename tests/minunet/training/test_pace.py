"""The time of a step is measured with real steps."""

from __future__ import annotations

import numpy as np
import pytest

from minunet import Network
from minunet.training import pace


def test_a_slow_step_is_timed_on_one_patch(monkeypatch):
    sizes = []
    monkeypatch.setattr(pace, "step", lambda network, optimizer, x, labels, rng: sizes.append((x.shape, labels.shape)))
    monkeypatch.setattr(pace, "PATIENCE", 0.0)
    pace.seconds_per_step(Network(3, 2, base_channels=2, depth=1), 1000, 8)
    assert sizes == [((1, 8, 8, 3), (1, 8, 8))] * 5  # each kind once before it is timed, and no more
    monkeypatch.setattr(pace, "PATIENCE", np.inf)
    pace.seconds_per_step(Network(3, 2, base_channels=2, depth=1), 5, 8)
    assert sizes[-3:] == [((5, 8, 8, 3), (5, 8, 8))] * 3


@pytest.mark.parametrize(("patience", "patches"), [(10.0, 4), (9.9, 1)])
def test_the_time_is_the_mean_of_a_batch_or_of_a_patch_times_their_number(monkeypatch, patience, patches):
    """By a clock that a step moves on: by 2.5 s a patch, but by 100 s where kernels or memory are new."""
    now, seen = [0.0], []

    def timed(network, optimizer, x, labels, rng):
        now[0] += 2.5 * len(x) if x.shape in seen else 100
        seen.append(x.shape)

    monkeypatch.setattr(pace, "step", timed)
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(pace, "PATIENCE", patience)
    assert pace.seconds_per_step(Network(1, 2, base_channels=2, depth=1), 4, 8) == 10
    assert len(seen[-1]) == 4 and seen[-1][0] == patches


@pytest.mark.parametrize(
    "settings", [{}, {"in_channels": 3, "out_channels": 4, "dropout": 0.5}, {"padding": "valid"}], ids=["plain", "wide", "valid"]
)
def test_steps_of_any_network_are_real_ones(settings):
    network = Network(**{"in_channels": 1, "base_channels": 2, "depth": 1, **settings})
    before = network.flat.copy()
    pace.seconds_per_step(network, 2, 8)
    assert all((network.parameters[name] != p).any() for name, p in network.parameters.split(before).items())
