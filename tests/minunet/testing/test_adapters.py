"""Functions of other libraries, checked by the same checkers."""

from __future__ import annotations

import numpy as np
import pytest

from minunet.testing import GradientError, check_gradients, from_autograd, from_jax, from_torch


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def jax():
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield jax
    jax.config.update("jax_enable_x64", before)


def cube(torch, factor):
    """Return a torch.autograd.Function whose backward is right if the factor is 1."""

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, dy):
            (x,) = ctx.saved_tensors
            return dy * 3 * x**2 * factor

    return Cube


def test_functions_of_tensors(torch):
    forward, backward = from_torch(lambda x, w, b: torch.nn.functional.conv2d(x, w, b, padding=1))
    report = check_gradients(forward, backward, normal(1, 2, 4, 4), normal(3, 2, 3, 3), normal(3), linear=True)
    assert [row.argument for row in report.rows] == ["x", "w", "b"]
    check_gradients(*from_torch(torch.nn.functional.gelu), normal(3, 4))


def test_an_autograd_function_of_ones_own(torch):
    assert check_gradients(*from_torch(cube(torch, 1.0)), normal(5)).error < 1e-9
    with pytest.raises(GradientError, match=r"argument 0.* is wrong at \[\d\]: backward gives .*, finite differences give"):
        check_gradients(*from_torch(cube(torch, 1 + 1e-6)), normal(5))


def test_a_module_and_its_parameters(torch):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GELU(), torch.nn.LayerNorm(4))
    before = [p.detach().clone() for p in module.parameters()]
    check_gradients(*from_torch(module), normal(5, 3))
    arrays = [p.detach().double().numpy() for p in module.parameters()]
    report = check_gradients(*from_torch(module, parameters=True), normal(5, 3), *arrays)
    assert len(report.rows) == 1 + len(arrays)
    assert all(bool((p == q).all()) for p, q in zip(module.parameters(), before, strict=True))


def test_a_detached_result_is_a_wrong_gradient(torch):
    with pytest.raises(GradientError, match="backward gives 0"):
        check_gradients(*from_torch(lambda x: x.detach() * 2), normal(3))
    with pytest.raises(GradientError, match=r"the gradient of w .*backward gives 0"):
        check_gradients(*from_torch(lambda x, w: x * w.detach()), normal(3), normal(3))


def test_what_from_torch_does_not_take(torch):
    with pytest.raises(ValueError, match=r"function is 3; it takes a function, a torch\.autograd\.Function or"):
        from_torch(3)
    with pytest.raises(ValueError, match=r"parameters=True takes a torch\.nn\.Module"):
        from_torch(torch.sin, parameters=True)
    with pytest.raises(ValueError, match="this module takes its inputs, then its parameters weight, bias"):
        check_gradients(*from_torch(torch.nn.Linear(2, 2), parameters=True), normal(2, 2))
    with pytest.raises(ValueError, match="the module's weight, bias have no shape yet; call it once"):
        from_torch(torch.nn.LazyLinear(3))
    with pytest.raises(GradientError, match=r"forward returned a int64 array of shape .* as y"):
        check_gradients(*from_torch(lambda x: x.argmax()), normal(3))


def test_functions_of_jax_arrays(jax):
    def smooth(x, w):
        return jax.numpy.tanh(x @ w)

    report = check_gradients(*from_jax(smooth), normal(3, 4), normal(4, 2, seed=1))
    assert [row.argument for row in report.rows] == ["x", "w"]


def test_a_custom_rule_of_jax(jax):
    @jax.custom_vjp
    def cube(x):
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, dy: (dy * 3 * x**2 * (1 + 1e-6),))
    with pytest.raises(GradientError, match=r"The relative error is 1\.0e-06"):
        check_gradients(*from_jax(cube), normal(5))


def test_jax_in_float32_is_refused_for_float64(jax):
    jax.config.update("jax_enable_x64", False)
    with pytest.raises(ValueError, match="jax_enable_x64"):
        check_gradients(*from_jax(jax.numpy.sin), normal(3))


def test_nested_outputs_and_whole_inputs_of_jax(jax):
    def both(i, w):
        return {"a": jax.numpy.tanh(w[i]), "b": (w.sum(), i)}

    report = check_gradients(*from_jax(both), np.array([0, 1, 1]), normal(3, 2), layouts=True)
    assert [row.checked for row in report.rows] == ["nothing", "6 elements"]


@pytest.fixture
def anp():
    return pytest.importorskip("autograd.numpy")


def test_functions_of_autograd(anp):
    report = check_gradients(*from_autograd(lambda x, w: (anp.tanh(anp.dot(x, w)), anp.sum(x))), normal(3, 4), normal(4, 2))
    assert [row.argument for row in report.rows] == ["x", "w"]
    report = check_gradients(*from_autograd(lambda i, w: anp.sum(anp.sin(w[i]))), np.array([0, 1, 1]), normal(2, 3))
    assert [row.checked for row in report.rows] == ["nothing", "6 elements"]


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (lambda dy, x: 2 * dy * x * (1 + 1e-6), r"The relative error is 1\.0e-06"),
        (lambda dy, x: 2 * dy.ravel("K").reshape(dy.shape) * x, "wrong with dy in layout 'transposed'"),
    ],
)
def test_a_rule_of_autograd_is_what_is_checked(anp, rule, says):
    from autograd.extend import defvjp, primitive

    square = primitive(lambda x: x**2)
    defvjp(square, lambda y, x: lambda dy: rule(dy, x))
    with pytest.raises(GradientError, match=says):
        check_gradients(*from_autograd(square), normal(3, 4), layouts=True)
