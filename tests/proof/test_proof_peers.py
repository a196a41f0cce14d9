"""Against others' numbers: scipy.signal, and those that PyTorch once gave. (test_torch.py asks PyTorch itself.)"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from oracles import relative_error
from proof.counting import count
from proof.optable import over
from scipy import signal

from minunet import Network, losses, ops
from minunet.testing import strategies
from minunet.testing.strategies import CONVOLUTIONS, UP_CONVOLUTIONS

FIXTURES = sorted((Path(__file__).parents[1] / "data").glob("torch_*.npz"))
TOLERANCE = 1e-12


def spread(x, stride):
    """Return x (N, P, Q, C) with stride - 1 zeros between neighbours."""
    n, p, q, c = x.shape
    wide = np.zeros((n, (p - 1) * stride[0] + 1, (q - 1) * stride[1] + 1, c))
    wide[:, :: stride[0], :: stride[1]] = x
    return wide


def fitted(x, shape, padding):
    """Return x without its padding, cut or filled up with zeros to (N, H, W, C)."""
    inside = x[:, padding[0] : padding[0] + shape[1], padding[1] : padding[1] + shape[2]]
    return np.pad(inside, [(0, whole - part) for whole, part in zip(shape, inside.shape, strict=True)])


def padded(x, padding):
    return np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))


def correlated(x, w, mode="valid"):
    """Sum scipy's correlations over the input channels: x (N, H, W, C), w (R, S, C, K)."""
    c_size, k_size = w.shape[2:]
    return np.stack(
        [
            np.stack([sum(signal.correlate2d(a[..., c], w[..., c, k], mode) for c in range(c_size)) for k in range(k_size)], -1)
            for a in x
        ]
    )


def painted(x, w, stride, padding, shape):
    """scipy's transposed convolution: x with zeros between, convolved in full. w (R, S, K, C)."""
    turned = w[::-1, ::-1].transpose(0, 1, 3, 2)
    return fitted(correlated(spread(x, stride), turned, "full"), shape, padding)


def weight_gradient(x, dy, w_shape, stride, padding):
    """scipy's weight gradient: the padded image correlated with the spread dy, summed over images."""
    wide, dense = padded(x, padding), spread(dy, stride)
    dw = sum(correlated(a[..., None].transpose(2, 0, 1, 3), d[:, :, None]) for a, d in zip(wide, dense, strict=True))
    return dw.transpose(1, 2, 0, 3)[: w_shape[0], : w_shape[1]]  # (C, R, S, K) -> (R, S, C, K)


def test_convolutions_agree_with_scipy(row):
    """With numbers whose sums are exact, a small result of large terms has no rounding for the bound to forgive."""
    few = {"most": 6, "channels": strategies.FEW_CHANNELS, "empty": False}

    @over(strategies.geometries(**few), {name: g for name, g in CONVOLUTIONS.items() if g.x_shape[0]})
    def prove(g, seed):
        rng = np.random.default_rng(seed)
        x, w, b, dy = (strategies.dyadics(rng, s) for s in (g.x_shape, g.w_shape, (g.k,), g.y_shape))
        y, cache = ops.conv2d(x, w, b, **g.options)
        assert relative_error(y, correlated(padded(x, g.padding), w)[:, :: g.stride[0], :: g.stride[1]] + b) < TOLERANCE
        dx, dw, _ = ops.conv2d_backward(dy, cache)
        assert relative_error(dx, painted(dy, w, g.stride, g.padding, g.x_shape)) < TOLERANCE
        assert relative_error(dw, weight_gradient(x, dy, g.w_shape, g.stride, g.padding)) < TOLERANCE
        count("peer", "conv2d", row, g)

    @over(strategies.up_geometries(**few), {name: g for name, g in UP_CONVOLUTIONS.items() if g.x_shape[0]})
    def prove_up(g, seed):
        rng = np.random.default_rng(seed)
        x, w, b, dy = (strategies.dyadics(rng, s) for s in (g.x_shape, g.up_w_shape, (g.k,), g.up_shape))
        y, cache = ops.conv_transpose2d(x, w, b, **g.up_options)
        assert relative_error(y, painted(x, w, g.stride, g.padding, g.up_shape) + b) < TOLERANCE
        dx, dw, _ = ops.conv_transpose2d_backward(dy, cache)
        assert relative_error(dx, correlated(padded(dy, g.padding), w)[:, :: g.stride[0], :: g.stride[1]]) < TOLERANCE
        assert relative_error(dw, weight_gradient(dy, x, g.up_w_shape, g.stride, g.padding)) < TOLERANCE
        count("peer", "conv_transpose2d", row, g)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_logits_and_every_gradient_equal_pytorch_numbers(row, path):
    with np.load(path) as saved:
        arrays = dict(saved)
    network = Network(**json.loads(str(arrays["config"])), dtype="float64")
    for name, p in network.parameters.items():
        p[...] = arrays["p." + name]
    logits, cache = network.forward(arrays["x"])
    _, dlogits = losses.softmax_cross_entropy(logits, arrays["labels"])
    dx, grads = network.backward(dlogits, cache)
    assert relative_error(logits, arrays["logits"]) < TOLERANCE
    assert relative_error(dx, arrays["dx"]) < TOLERANCE
    for name, grad in grads.items():
        assert relative_error(grad, arrays["g." + name]) < TOLERANCE, name


def test_the_fixtures_are_there_and_small():
    assert [path.stem for path in FIXTURES] == ["torch_same", "torch_valid"]
    assert sum(path.stat().st_size for path in FIXTURES) < 200_000
