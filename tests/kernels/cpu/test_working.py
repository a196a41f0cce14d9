"""What a convolution is said to take of memory is what it asks for, to the byte."""

from __future__ import annotations

import contextlib
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import seeds

pytest.importorskip("numba")

from minunet import kernels
from minunet.kernels import cpu
from minunet.kernels.cpu import direct, direct_weight_grad, threads, winograd, winograd_weight_grad, working
from minunet.testing import strategies

MODULES = (direct, direct_weight_grad, winograd, winograd_weight_grad)
PASSES = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
EXACT = [algorithm for algorithm in kernels.ALGORITHMS if algorithm != "im2col"]


def asked_for(run):
    """Return the most scratch that a launch wants during run()."""
    wanted = []

    def launch(kernel, n_jobs, scratch_bytes, *arguments):
        wanted.append(scratch_bytes)
        threads.launch(kernel, n_jobs, scratch_bytes, *arguments)

    with contextlib.ExitStack() as patches:
        for module in MODULES:
            patches.enter_context(mock.patch.object(module, "launch", launch))
        run()
    return max(wanted)


def passes(g, seed, dtype, algorithm):
    """Return each pass of g as a function without arguments."""
    rng = np.random.default_rng(seed)
    x, w, dy = (strategies.integers(rng, shape, dtype) for shape in (g.x_shape, g.w_shape, g.y_shape))
    options = {"algorithm": algorithm} | g.options
    runs = (
        lambda: cpu.conv2d(x, w, **options),
        lambda: cpu.conv2d_input_grad(dy, w, g.x_shape, **options),
        lambda: cpu.conv2d_weight_grad(x, dy, g.w_shape, **options),
    )
    return dict(zip(PASSES, runs, strict=True))


def served(g, algorithm):
    return not algorithm.startswith("winograd") or (g.kernel, g.stride) == ((3, 3), (1, 1))


@given(
    g=strategies.geometries(most=40, empty=False, channels=(17, 33, 3, 70, 1)), seed=seeds,
    dtype=st.sampled_from([np.float32, np.float64]), algorithm=st.sampled_from(EXACT),
)  # fmt: skip
def test_scratch_is_foretold(g, seed, dtype, algorithm):
    algorithm = algorithm if served(g, algorithm) else "auto"
    for name, run in passes(g, seed, dtype, algorithm).items():
        scratch, _ = getattr(working, name)(g.x_shape, g.w_shape, dtype, algorithm=algorithm, **g.options)
        assert asked_for(run) == scratch


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("algorithm", EXACT)
def test_scratch_is_foretold_of_the_convolutions_of_a_unet(algorithm, dtype):
    """3x3 with padding, of sizes that have several blocks."""
    for side, c, k in ((70, 16, 16), (37, 40, 64), (33, 130, 20), (9, 64, 300)):
        g = strategies.Geometry((2, side, side + 1, c), (3, 3), k, (1, 1), (1, 1))
        for name, run in passes(g, 0, dtype, algorithm).items():
            scratch, _ = getattr(working, name)(g.x_shape, g.w_shape, dtype, algorithm=algorithm, **g.options)
            assert asked_for(run) == scratch


@pytest.mark.parametrize(("algorithm", "module"), [("direct", direct_weight_grad), ("winograd4x4", winograd_weight_grad)])
@pytest.mark.parametrize("side", [3, 64])
def test_partial_sums_are_foretold(algorithm, module, side):
    """They are what is made first; with one chunk, that is the result itself."""
    g = strategies.Geometry((2, side, side, 8), (3, 3), 16, (1, 1), (1, 1))
    made = []
    with mock.patch.object(module, "empty", lambda *args: made.append(np.empty(*args)) or made[-1]):
        passes(g, 0, np.float32, algorithm)["conv2d_weight_grad"]()
    _, arrays = working.conv2d_weight_grad(g.x_shape, g.w_shape, np.float32, algorithm=algorithm, **g.options)
    assert (side > 3) == (len(made[0]) > 1)
    assert arrays == (made[0].nbytes if len(made[0]) > 1 else 0)
