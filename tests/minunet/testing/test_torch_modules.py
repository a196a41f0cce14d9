"""Modules of torch.nn pass, in training, with all of their parameters, and are left as they were; wrong variants are found."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

from minunet.testing import GradientError, check_gradients, from_torch

torch = pytest.importorskip("torch")
nn = torch.nn


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


SEQUENCE, OTHER, IMAGE = normal(2, 1, 4), normal(2, 1, 4, seed=1), normal(2, 2, 3, 3)
MODULES = {
    "Linear": (lambda: nn.Linear(4, 3), SEQUENCE),
    "Bilinear": (lambda: nn.Bilinear(4, 4, 2), SEQUENCE, OTHER),
    "Embedding": (lambda: nn.Embedding(3, 2), np.array([0, 2, 2])),
    "Conv1d": (lambda: nn.Conv1d(1, 2, 2), SEQUENCE),
    "Conv2d": (lambda: nn.Conv2d(2, 2, 3, padding=1, groups=2), IMAGE),
    "Conv3d": (lambda: nn.Conv3d(1, 1, 2), normal(1, 1, 2, 3, 2)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 2, 2, stride=2), IMAGE),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3), normal(4, 3)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(2), IMAGE),
    "BatchNorm2d in evaluation": (lambda: nn.BatchNorm2d(2).eval(), IMAGE),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(2, affine=True, track_running_stats=True), IMAGE),
    "GroupNorm": (lambda: nn.GroupNorm(1, 2), IMAGE),
    "LayerNorm": (lambda: nn.LayerNorm(4), SEQUENCE),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(2), IMAGE),
    "spectral norm in evaluation": (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 2)).eval(), SEQUENCE),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)), SEQUENCE),
    "RNN": (lambda: nn.RNN(4, 2), SEQUENCE),
    "LSTM": (lambda: nn.LSTM(4, 1, bidirectional=True), SEQUENCE),
    "GRU": (lambda: nn.GRU(4, 1), SEQUENCE),
    "LSTMCell": (lambda: nn.LSTMCell(4, 1), SEQUENCE[:, 0]),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(4, 2), SEQUENCE, OTHER, OTHER / 2),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(4, 1, 1), SEQUENCE),
    "Dropout": (lambda: nn.Dropout(0.5), SEQUENCE),
    "AlphaDropout": (lambda: nn.AlphaDropout(0.5), SEQUENCE),
    "RReLU": (lambda: nn.RReLU(), SEQUENCE),
    "ReLU in place": (lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3), nn.ReLU(inplace=True)), SEQUENCE),
    "PReLU": (lambda: nn.PReLU(2), IMAGE),
    "GELU": (lambda: nn.GELU(), SEQUENCE),
    "SiLU": (lambda: nn.SiLU(), SEQUENCE),
    "ELU": (lambda: nn.ELU(), SEQUENCE),
    "Hardswish": (lambda: nn.Hardswish(), SEQUENCE),
    "GLU": (lambda: nn.GLU(), SEQUENCE),
    "Softmax": (lambda: nn.Softmax(-1), SEQUENCE),
    "LogSoftmax": (lambda: nn.LogSoftmax(1), IMAGE),
    "MaxPool2d with indices": (lambda: nn.MaxPool2d(2, 1, return_indices=True), IMAGE),
    "AvgPool2d": (lambda: nn.AvgPool2d(2, ceil_mode=True), IMAGE),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d(2), IMAGE),
    "Upsample": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE),
    "ReflectionPad2d": (lambda: nn.ReflectionPad2d(1), IMAGE),
    "HuberLoss": (lambda: nn.HuberLoss(), SEQUENCE, OTHER),
    "CosineSimilarity": (lambda: nn.CosineSimilarity(-1), SEQUENCE, OTHER),
}


@pytest.fixture(autouse=True)
def _quiet_torch():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state)


def state(module):
    """Return all that a check must leave alone, by value and by identity."""
    tensors = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers())
    grads = {name: None if t.grad is None else t.grad.numpy().tobytes() for name, t in tensors.items()}
    return (
        {name: (id(t), t.dtype, t.requires_grad, t.detach().numpy().tobytes()) for name, t in tensors.items()}, grads,
        [(part.training, sorted(vars(part))) for part in module.modules()], torch.get_rng_state().tolist(),
        torch.get_default_dtype(),
    )  # fmt: skip


def parameters(module):
    return [p.detach().double().numpy() for p in module.parameters()]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_torch_passes_and_is_left_as_it_was(name):
    make, *inputs = MODULES[name]
    module = make()
    for p in module.parameters():
        p.grad = torch.ones_like(p)
    before = state(module)
    floats = [p for p in inputs if p.dtype.kind == "f"]
    report = check_gradients(*from_torch(module, parameters=True), *inputs, *parameters(module), layouts=True)
    assert sum(row.checked != "nothing" for row in report.rows) == len(floats) + len(parameters(module))
    if floats:
        check_gradients(*from_torch(module), *inputs, full=0, directions=2)
    assert state(module) == before


class Wrong(nn.Module):
    """A module with all that a module may keep, and with a gradient that is wrong on request."""

    def __init__(self, slip=0.0):
        super().__init__()
        self.slip, self.calls, self.plain = slip, 0, torch.randn(3, 3)
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight  # tied
        self.first.bias.requires_grad_(False)  # frozen
        self.register_buffer("order", torch.tensor([2, 0, 1]))
        self.register_buffer("running", torch.randn(3))

    def forward(self, x, w):
        self.calls += 1
        self.last = x
        self.eval()
        self.running.add_(1)
        self.plain.mul_(0.5)
        self.register_buffer("late", torch.ones(2))
        y = self.second(self.first(x))[:, self.order] @ self.plain
        y = y * (1 + self.slip) - (y * self.slip).detach()
        return {"y": (y, self.order), "w": [(w * self.running).sum(), None]}


@pytest.mark.parametrize("slip", [0.0, 1e-6])
def test_whatever_a_module_keeps_is_put_back_whether_it_passes_or_not(slip):
    module = Wrong(slip)
    before, plain = state(module), (module.plain, module.plain.clone())
    arrays = normal(2, 3), normal(2, 3), *parameters(module)
    with pytest.raises(GradientError, match="of argument 0 is wrong") if slip else nullcontext():
        check_gradients(*from_torch(module, parameters=True), *arrays)
    assert state(module) == before
    assert module.calls == 0 and module.plain is plain[0] and bool((plain[0] == plain[1]).all())


class WrongNorm(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x - x.mean(dim=(0, 2, 3), keepdim=True).detach() * 0.5) + x.detach() * 1e-3


class WrongPool(nn.Module):
    def forward(self, x):
        return nn.functional.max_pool2d(x, 2, 1) + nn.functional.avg_pool2d(x.detach(), 2, 1)


class WrongLSTM(nn.LSTM):
    def forward(self, x):
        y, (h, c) = super().forward(x)
        return y, (h.detach(), c)


@pytest.mark.parametrize(
    ("module", "x"),
    [(WrongNorm(2), IMAGE), (WrongPool(), IMAGE), (WrongLSTM(4, 1), SEQUENCE), (lambda x: x * x.detach(), SEQUENCE)],
)
def test_a_part_that_is_detached_is_found(module, x):
    with pytest.raises(GradientError, match="is wrong at"):
        check_gradients(*from_torch(module), x)


def reading(read_x, read_dy):
    class Sine(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return read_x(x).sin()

        @staticmethod
        def backward(ctx, dy):
            return read_dy(dy) * read_x(ctx.saved_tensors[0]).cos()

    return Sine


def test_a_backward_that_takes_memory_for_contiguous_is_found():
    on = lambda t: t.as_strided(t.shape, torch.empty(t.shape).stride())  # noqa: E731
    plain = lambda t: t  # noqa: E731
    check_gradients(*from_torch(reading(plain, plain)), IMAGE, layouts=True)
    check_gradients(*from_torch(reading(on, plain)), IMAGE)
    with pytest.raises(GradientError, match=r"the gradient of argument 0 is wrong with dy in layout"):
        check_gradients(*from_torch(reading(plain, on)), IMAGE)
    with pytest.raises(GradientError, match=r"y is wrong with argument 0 in layout"):
        check_gradients(*from_torch(reading(on, plain)), IMAGE, layouts=True)
    with pytest.raises(GradientError, match=r"wrong with dy in layout 'broadcast'"):
        check_gradients(*from_torch(reading(plain, lambda dy: on(dy) if 0 in dy.stride() else dy)), IMAGE, layouts=True)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x: x.float().sin().double(), "is that of float32"),
        (lambda x: x.half().sin().double(), "is that of float16 or bfloat16"),
        (lambda x: x.bfloat16().sin(), "is that of float16 or bfloat16"),
    ],
)
def test_a_cast_inside_a_function_is_told(function, says):
    with pytest.raises(GradientError, match=says):
        check_gradients(*from_torch(function), normal(2, 3))
