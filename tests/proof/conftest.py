"""The row on which a proof runs."""

from __future__ import annotations

import pytest
from proof.rows import GPU_ROWS, ROWS, serving

from minunet import kernels


@pytest.fixture(params=ROWS, ids=str)
def row(request):
    """Run the test on each backend and algorithm: the fixture has its kernels, and every op, layer and loss uses them."""
    if request.param not in GPU_ROWS and request.param.backend not in kernels.available():
        pytest.skip(f"the backend {request.param.backend} does not work here")
    with serving(request.param):
        yield request.param
