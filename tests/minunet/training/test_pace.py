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
    assert set(sizes) == {((1, 8, 8, 3), (1, 8, 8))}
    monkeypatch.setattr(pace, "PATIENCE", np.inf)
    pace.seconds_per_step(Network(3, 2, base_channels=2, depth=1), 5, 8)
    assert sizes[-3:] == [((5, 8, 8, 3), (5, 8, 8))] * 3


@pytest.mark.parametrize(
    "settings", [{}, {"in_channels": 3, "out_channels": 4, "dropout": 0.5}, {"padding": "valid"}], ids=["plain", "wide", "valid"]
)
def test_steps_of_any_network_are_timed(settings):
    network = Network(**{"in_channels": 1, "base_channels": 2, "depth": 1, **settings})
    before = network.flat.copy()
    assert 0 < pace.seconds_per_step(network, 2, 8) < np.inf
    assert (network.flat != before).any()
