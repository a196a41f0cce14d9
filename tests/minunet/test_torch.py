"""Live comparisons with PyTorch, where it is installed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import oracles
import pytest
from hypothesis import given, settings

from minunet import Network, losses, ops, optim
from minunet.testing import strategies

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'minunet[bench]'")
sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import make_torch_fixtures as peer  # noqa: E402


def tensor(x):
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).requires_grad_()


@given(g=strategies.geometries(empty=False), seed=oracles.seeds)
def test_convolutions_agree(backend, g, seed):
    """With numbers whose sums are exact, a small result of large terms has no rounding for the bound to forgive."""
    rng = np.random.default_rng(seed)
    x, w, b = (strategies.dyadics(rng, s) for s in (g.x_shape, g.w_shape, (g.k,)))
    y, cache = ops.conv2d(x, w, b, stride=g.stride, padding=g.padding)
    tx, tw = tensor(x), torch.from_numpy(np.ascontiguousarray(w.transpose(3, 2, 0, 1))).requires_grad_()
    ty = torch.nn.functional.conv2d(tx, tw, torch.from_numpy(b), stride=g.stride, padding=g.padding)
    assert oracles.relative_error(y, peer.channels_last(ty)) < 1e-12
    dy = strategies.dyadics(rng, y.shape)
    ty.backward(tensor(dy).detach())
    dx, dw, _ = ops.conv2d_backward(dy, cache)
    assert oracles.relative_error(dx, peer.channels_last(tx.grad)) < 1e-12
    assert oracles.relative_error(dw, peer.as_minunet(tw.grad)) < 1e-12
    up, _ = ops.conv_transpose2d(dy, w, stride=g.stride, padding=g.padding) if up_size(g, y) else (None, None)
    if up is not None:
        expected = torch.nn.functional.conv_transpose2d(tensor(dy), tw, stride=g.stride, padding=g.padding)
        assert oracles.relative_error(up, peer.channels_last(expected)) < 1e-12


def up_size(g, y):
    return all((y.shape[1 + a] - 1) * g.stride[a] - 2 * g.padding[a] + g.kernel[a] > 0 for a in (0, 1))


@given(g=strategies.poolings(empty=False), seed=oracles.seeds)
def test_pooling_agrees(backend, g, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(g.x_shape)
    y, cache = ops.max_pool2d(x, window=g.kernel, stride=g.stride)
    tx = tensor(x)
    ty = torch.nn.functional.max_pool2d(tx, g.kernel, g.stride)
    np.testing.assert_array_equal(y, peer.channels_last(ty))
    dy = rng.standard_normal(y.shape)
    ty.backward(tensor(dy).detach())
    assert oracles.relative_error(ops.max_pool2d_backward(dy, cache)[0], peer.channels_last(tx.grad)) < 1e-12


@settings(max_examples=20)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_norms_agree(backend, norm, training):
    """y, gradients, and the running statistics: 0.9 of the old and 0.1 of the new, whose variance is unbiased."""
    rng = np.random.default_rng(0)
    x, dy, statistics = rng.normal(3, 2, (3, 5, 4, 6)), rng.standard_normal((3, 5, 4, 6)), (np.zeros(6), np.ones(6))
    gamma, beta = rng.standard_normal((2, 6))
    if norm == "batch":
        peer_layer = torch.nn.BatchNorm2d(6, dtype=torch.float64).train(training)
        y, statistics, cache = ops.batch_norm(x, gamma, beta, *statistics, training=training)
    else:
        peer_layer = torch.nn.GroupNorm(3, 6, dtype=torch.float64)
        y, cache = ops.group_norm(x, gamma, beta, groups=3)
    with torch.no_grad():
        peer_layer.weight.copy_(torch.from_numpy(gamma))
        peer_layer.bias.copy_(torch.from_numpy(beta))
    tx = tensor(x)
    ty = peer_layer(tx)
    ty.backward(torch.from_numpy(dy.transpose(0, 3, 1, 2).copy()))
    assert_close = lambda a, b: np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-10, atol=1e-12)  # noqa: E731
    dx, dgamma, dbeta = (ops.batch_norm_backward if norm == "batch" else ops.group_norm_backward)(dy, cache)
    assert_close(y.transpose(0, 3, 1, 2), ty)
    assert_close(dx.transpose(0, 3, 1, 2), tx.grad)
    assert_close(dgamma, peer_layer.weight.grad)
    assert_close(dbeta, peer_layer.bias.grad)
    if norm == "batch":
        assert_close(statistics[0], peer_layer.running_mean)
        assert_close(statistics[1], peer_layer.running_var)


@given(seed=oracles.seeds)
def test_the_loss_agrees(backend, seed):
    rng = np.random.default_rng(seed)
    z, labels, class_weight = rng.normal(0, 3, (2, 4, 5, 3)), rng.integers(0, 3, (2, 4, 5)), rng.uniform(0.5, 2, 3)
    loss, dz = losses.softmax_cross_entropy(z, labels, class_weight=class_weight, ignore_index=1)
    tz = tensor(z)
    expected = torch.nn.functional.cross_entropy(
        tz, torch.from_numpy(labels), weight=torch.from_numpy(class_weight), ignore_index=1
    )
    if not torch.isfinite(expected):  # all ignored: NaN there, 0 here
        return
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-12)
    assert oracles.relative_error(dz, peer.channels_last(tz.grad)) < 1e-12


@settings(max_examples=20)
@given(seed=oracles.seeds)
def test_losses_made_of_array_code_agree(backend, seed):
    """The papers' formulas in PyTorch's words, differentiated by PyTorch."""
    rng = np.random.default_rng(seed)
    z, labels, weights = rng.normal(0, 3, (2, 4, 5, 3)), rng.integers(0, 3, (2, 4, 5)), rng.uniform(0, 2, (2, 4, 5))
    w, t = torch.from_numpy(weights), torch.nn.functional.one_hot(torch.from_numpy(labels), 3)

    def focal(p):
        q = (p * t).sum(dim=-1)
        return (w * (1 - q) ** 2 * -torch.log(q)).sum() / w.sum()

    def tversky(p):
        tp, fp, fn = ((w[..., None] * a).sum(dim=(0, 1, 2)) for a in (p * t, p * (1 - t), (1 - p) * t))
        return 1 - ((tp + 0.5) / (tp + 0.3 * fp + 0.7 * fn + 0.5)).mean()

    for loss, theirs in ((losses.Focal(), focal), (losses.Tversky(), tversky)):
        value, dz = loss.value_and_grad(z, losses.Target(labels, weights))
        tz = torch.from_numpy(z.copy()).requires_grad_()
        expected = theirs(torch.softmax(tz, dim=-1))
        expected.backward()
        assert float(value) == pytest.approx(expected.item(), rel=1e-12)
        assert oracles.relative_error(dz, tz.grad.numpy()) < 1e-10


def test_the_optimisers_agree(backend):
    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal(500), rng.standard_normal((6, 500))
    for ours, make in (
        (optim.SGD(0.1, 0.9, 0.01), lambda p: torch.optim.SGD([p], 0.1, 0.9, weight_decay=0.01)),
        (optim.SGD(0.1, 0.9, 0.01, True), lambda p: torch.optim.SGD([p], 0.1, 0.9, weight_decay=0.01, nesterov=True)),
        (optim.AdamW(0.1), lambda p: torch.optim.AdamW([p], 0.1)),
        (optim.Adam(0.1, weight_decay=0.01), lambda p: torch.optim.AdamW([p], 0.1, weight_decay=0.01)),
    ):
        flat, parameter = start.copy(), torch.nn.Parameter(torch.from_numpy(start.copy()))
        theirs = make(parameter)
        for grad in grads:
            ours.update(flat, grad)
            parameter.grad = torch.from_numpy(grad)
            theirs.step()
        np.testing.assert_allclose(flat, parameter.detach().numpy(), rtol=1e-11, atol=1e-13)


@pytest.fixture(scope="module")
def large():
    """512 x 512, base 64: a network, an image and its labels, and PyTorch's logits and gradients by name."""
    network = Network(random_state=1)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 512, 512, 1)).astype(np.float32)
    labels = rng.integers(0, 2, (1, 512, 512))
    theirs = {
        name: torch.from_numpy(np.ascontiguousarray(p.transpose(3, 2, 0, 1)) if p.ndim == 4 else p.copy()).requires_grad_()
        for name, p in network.parameters.items()
    }
    expected = peer.forward(tensor(x).detach(), theirs, 4, "same")
    torch.nn.functional.cross_entropy(expected, torch.from_numpy(labels)).backward()
    return network, x, labels, peer.channels_last(expected), {name: peer.as_minunet(t.grad) for name, t in theirs.items()}


@pytest.mark.parametrize(("algorithm", "bound"), [("direct", 1e-3), ("auto", 3e-3)])
def test_the_31_million_parameter_network_agrees_in_float32(large, algorithm, bound):
    """Logits to 1e-4 of their range; gradients, in which a relu or a pooling may decide otherwise, to the bound."""
    network, x, labels, expected, expected_grads = large
    network = Network(**network.config | {"algorithm": algorithm})
    logits, cache = network.forward(x)
    _, dlogits = losses.softmax_cross_entropy(logits, labels)
    _, grads = network.backward(dlogits, cache, input_grad=False)
    assert oracles.relative_error(logits, expected) < 1e-4
    for name, grad in grads.items():
        assert oracles.relative_error(grad, expected_grads[name]) < bound, name
