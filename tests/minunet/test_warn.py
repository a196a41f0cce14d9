"""A warning points at the user's line, however deep in minunet it is raised."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest

from minunet import UNet
from minunet.warn import warn

SMALL = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1, "verbose": 0, "random_state": 0}


def test_it_points_at_who_called_minunet():
    with pytest.warns(UserWarning, match="so it is") as told:
        warn("so it is")
    assert told[0].filename == __file__


@pytest.mark.parametrize("lazily", [False, True])
def test_fit_and_predict_warn_at_the_line_that_called_them(lazily):
    rng = np.random.default_rng(0)
    y = np.zeros((3, 32, 32), int)
    y[:, 8:20, 8:20] = 1
    x = (y * 100 + rng.normal(0, 3, y.shape)).astype(np.float32)
    unet = UNet(**SMALL).fit(x, y)
    empty = x[0] * 0 + rng.normal(0, 3, x[0].shape)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        (unet.predict if lazily else unet.predict_proba)(empty); line = inspect.currentframe().f_lineno  # noqa: E702
    assert [(one.filename, one.lineno) for one in told] == [(__file__, line)]
