"""The checkers: wrong gradients are caught, by name and number; right ones pass; kinks are found."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sample_ops import B, W, X, conv, normal, square, square_backward

from minunet import fusions, ops, testing
from minunet.testing import GradientError, check_adjoint, check_gradients


def exponential(x):
    y = np.exp(x)
    return y, (y,)


def product(x, w):
    return x @ w, (x, w)


def product_backward(dy, cache):
    x, w = cache
    return dy @ w.T, x.T @ dy


# A user's own layers, smooth, as docs/gradients.md has them.


def gelu(x):
    t = np.tanh(0.8 * (x + 0.044715 * x**3))
    return x * (1 + t) / 2, (x, t)


def gelu_backward(dy, cache):
    x, t = cache
    return (dy * ((1 + t) / 2 + x * (1 - t**2) * 0.4 * (1 + 0.134145 * x**2)),)


def group_norm(x, scale, shift, groups=2, eps=1e-5):
    n, h, w, c = x.shape
    g = x.reshape(n, h * w, groups, c // groups)
    rstd = 1 / np.sqrt(g.var(axis=(1, 3), keepdims=True) + eps)
    normed = ((g - g.mean(axis=(1, 3), keepdims=True)) * rstd).reshape(x.shape)
    return normed * scale + shift, (normed, rstd, scale, groups)


def group_norm_backward(dy, cache):
    normed, rstd, scale, groups = cache
    n, h, w, c = dy.shape
    d, z = ((a).reshape(n, h * w, groups, c // groups) for a in (dy * scale, normed))
    dx = rstd * (d - d.mean(axis=(1, 3), keepdims=True) - z * (d * z).mean(axis=(1, 3), keepdims=True))
    return dx.reshape(dy.shape), (dy * normed).sum(axis=(0, 1, 2)), dy.sum(axis=(0, 1, 2))


RIGHT = {
    "conv2d": (conv, ops.conv2d_backward, (X, W, B), True),
    "conv2d strided": (lambda x, w, b: ops.conv2d(x, w, b, stride=2), ops.conv2d_backward, (X, W, B), True),
    "conv2d 1x1": (lambda x, w: ops.conv2d(x, w), lambda dy, c: ops.conv2d_backward(dy, c)[:2], (X, W[:1, :1]), True),
    "conv2d with relu": (fusions.conv2d_relu, fusions.conv2d_relu_backward, (X, W, B), False),
    "conv_transpose2d": (ops.conv_transpose2d, ops.conv_transpose2d_backward, (X, W.transpose(0, 1, 3, 2)[:2, :2], B), True),
    "max_pool2d": (ops.max_pool2d, ops.max_pool2d_backward, (X,), False),
    "max_pool2d overlapping": (lambda x: ops.max_pool2d(x, window=3, stride=1), ops.max_pool2d_backward, (X,), False),
    "relu": (ops.relu, ops.relu_backward, (X,), False),
    "dropout": (lambda x: ops.dropout(x, 0.4, np.random.default_rng(0)), ops.dropout_backward, (X,), True),
    "concat_skip": (ops.concat_skip, ops.concat_skip_backward, (X, normal(2, 3, 2, 1)), True),
    "gelu": (gelu, gelu_backward, (X,), False),
    "group_norm": (group_norm, group_norm_backward, (normal(2, 3, 3, 4), normal(4), normal(4, seed=1)), False),
    "square": (square, square_backward, (X,), False),
    "exp": (exponential, lambda dy, c: (dy * c[0],), (X,), False),
    "log, near 0": (lambda x: (np.log(x), (x,)), lambda dy, c: (dy / c[0],), (np.abs(X) + 1e-3,), False),
    "sine, far out": (lambda x: (np.sin(x), (x,)), lambda dy, c: (dy * np.cos(c[0]),), (1e3 * X,), False),
    "sum": (lambda x: (x.sum(), x.shape), lambda dy, c: (np.broadcast_to(dy, c),), (X,), True),
    "identity": (lambda x: (x, None), lambda dy, c: (dy,), (X,), True),
    "one number": (square, square_backward, (np.array(0.7),), False),
    "constant": (lambda x: (np.ones(3), x), lambda dy, c: (np.zeros_like(c),), (X,), False),
    "no elements": (square, square_backward, (np.zeros((0, 3)),), False),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_gradients_pass(name):
    forward, backward, arrays, linear = RIGHT[name]
    for seed in range(2):
        report = check_gradients(forward, backward, *arrays, linear=linear, rng=seed)
        assert len(report.rows) == len(arrays)
        assert all(row.error <= row.tolerance < (1e-9 if linear else 1e-6) or row.error == 0 for row in report.rows), str(report)
    check_gradients(forward, backward, *arrays, linear=linear, full=0, directions=4)
    check_gradients(forward, backward, *(a.astype(np.float32) for a in arrays), linear=linear)


@pytest.mark.parametrize("name", [name for name, (*_, linear) in RIGHT.items() if linear])
def test_linear_ops_pass_as_smooth_ones_and_as_adjoints_exactly(name):
    forward, backward, arrays, _ = RIGHT[name]
    check_gradients(forward, backward, *arrays)
    if name != "dropout":  # which divides by 0.6: no whole numbers
        report = check_adjoint(forward, backward, *(np.round(3 * a) for a in arrays))
        assert {row.tolerance for row in report.rows} == {0}
        check_adjoint(forward, backward, *(np.round(3 * a).astype(np.float32) for a in arrays), draws=1)


def wrong(backward, change, which=0):
    """Return backward with one of its gradients changed."""

    def planted(dy, cache):
        grads = list(backward(dy, cache))
        grads[which] = np.array(change(grads[which]), order="C")
        return tuple(grads)

    return planted


def one_element(factor):
    def change(g):
        g = np.array(g)
        g.flat[np.abs(g).argmax()] *= factor
        return g

    return change


SMOOTH = [name for name, (*_, arrays, linear) in RIGHT.items() if not linear and name not in ("constant", "no elements")]


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("change", [lambda g: g * (1 + 1e-6), lambda g: g * (1 - 1e-6), one_element(1 + 1.01e-6)])
def test_a_relative_error_of_1e_6_is_caught_in_any_smooth_op(name, change):
    forward, backward, arrays, _ = RIGHT[name]
    for which in range(len(arrays)):
        with pytest.raises(GradientError, match=r"The relative error is 1\.0e-06, the tolerance 1\.0e-07"):
            check_gradients(forward, wrong(backward, change, which), *arrays)


@pytest.mark.parametrize("name", SMOOTH)
def test_a_scale_of_1e_6_is_caught_along_directions_too(name):
    forward, backward, arrays, _ = RIGHT[name]
    with pytest.raises(GradientError) as caught:
        check_gradients(forward, wrong(backward, lambda g: g * (1 + 1e-6)), *arrays, full=0)
    assert caught.value.direction is not None


@pytest.mark.parametrize("name", [name for name, (*_, linear) in RIGHT.items() if linear])
def test_a_relative_error_of_1e_9_is_caught_in_any_linear_op(name):
    forward, backward, arrays, _ = RIGHT[name]
    for which in range(len(arrays)):
        with pytest.raises(GradientError):
            check_gradients(forward, wrong(backward, lambda g: g * (1 + 1e-9), which), *arrays, linear=True)


def flipped(dy, cache):
    x, w, *rest = cache
    return ops.conv2d_backward(dy, (x, w[::-1, ::-1].copy(), *rest))[0], *ops.conv2d_backward(dy, cache)[1:]


def forgets_the_mean(dy, cache):
    normed, rstd, scale, groups = cache
    n, h, w, c = dy.shape
    d, z = (a.reshape(n, h * w, groups, c // groups) for a in (dy * scale, normed))
    dx = rstd * (d - z * (d * z).mean(axis=(1, 3), keepdims=True))
    return dx.reshape(dy.shape), *group_norm_backward(dy, cache)[1:]


def swaps_stride_and_padding(dy, cache):
    """3 x 3 pixels become 2 x 2 by stride 2 and padding 1: dx gathers as if it were padding 2 and stride 1."""
    x, w, *_ = cache
    dx = np.zeros((len(x), 7, 7, x.shape[3]))
    for p, q, r, s in np.ndindex(*dy.shape[1:3], *w.shape[:2]):
        dx[:, p + r, q + s] += dy[:, p, q] @ w[r, s].T
    return np.ascontiguousarray(dx[:, 2:5, 2:5]), *ops.conv2d_backward(dy, cache)[1:]


def overwrites(dy, cache):
    """Pay each window's largest pixel what the last of its windows has, where all of them should be added."""
    shape, _, argmax, window, stride = cache
    dx = np.zeros(shape)
    for n, p, q, c in np.ndindex(*dy.shape):
        r, s = divmod(int(argmax[n, p, q, c]), window[1])
        dx[n, p * stride[0] + r, q * stride[1] + s, c] = dy[n, p, q, c]
    return (dx,)


PLANTED = {
    "sign": (conv, wrong(ops.conv2d_backward, lambda g: -g), (X, W, B), "x"),
    "kernel not flipped": (conv, flipped, (X, W, B), "x"),
    "weight transposed": (
        conv, wrong(ops.conv2d_backward, lambda g: g.transpose(1, 0, 2, 3), 1), (X, W, B), "w"
    ),
    "channels transposed": (
        conv, wrong(ops.conv2d_backward, lambda g: g.transpose(0, 1, 3, 2), 1), (X, normal(3, 3, 3, 3), normal(3)), "w"
    ),
    "bias not summed": (conv, lambda dy, c: (*ops.conv2d_backward(dy, c)[:2], dy[0, 0, 0]), (X, W, B), "b"),
    "mean for sum": (conv, lambda dy, c: (*ops.conv2d_backward(dy, c)[:2], dy.mean(axis=(0, 1, 2))), (X, W, B), "b"),
    "missing term": (group_norm, forgets_the_mean, (normal(2, 3, 3, 4), normal(4), normal(4, seed=1)), "x"),
    "relu masks by dy": (ops.relu, lambda dy, c: (np.where(dy > 0, dy, 0),), (X,), "x"),
    "matrix transposed": (product, lambda dy, c: (dy @ c[1], c[0].T @ dy), (normal(4, 4), normal(4, 4, seed=1)), "x"),
    "stride and padding swapped": (
        lambda x, w, b: ops.conv2d(x, w, b, stride=2, padding=1), swaps_stride_and_padding, (X[:, :3, :3], W, B), "x"
    ),
    "overlap overwritten": (lambda x: ops.max_pool2d(x, window=3, stride=1), overwrites, (X,), "x"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("full", [256, 0])
def test_a_planted_error_is_reported_with_argument_index_and_both_numbers(name, full):
    forward, backward, arrays, argument = PLANTED[name]
    names = ("x", "w", "b")[: len(arrays)]
    with pytest.raises(GradientError) as caught:
        check_gradients(forward, backward, *arrays, names=names, full=full)
    error, text = caught.value, str(caught.value)
    number = names.index(argument)
    assert error.argument == argument
    assert f"the gradient of {argument} (argument {number}) is wrong" in text
    assert f"{error.analytic:.10g}" in text
    assert f"{error.numeric:.10g}" in text
    assert error.error > error.tolerance
    assert error.index is not None, "halving finds an element from a direction too"
    assert str(list(error.index)) in text
    assert (error.direction is None) == (full == 256)
    assert len(error.index) == arrays[number].ndim


@pytest.mark.parametrize("full", [256, 0])
def test_the_index_is_that_of_the_one_wrong_element(full):
    def backward(dy, cache):
        dx, dw, db = ops.conv2d_backward(dy, cache)
        dw[2, 0, 1, 1] += 0.01
        return dx, dw, db

    with pytest.raises(GradientError, match=r"w \(argument 1\).*\[2, 0, 1, 1\].*backward gives|w .*\[2, 0, 1, 1\]") as caught:
        check_gradients(conv, backward, X, W, B, linear=True, full=full, names=["x", "w", "b"])
    assert caught.value.index == (2, 0, 1, 1)


@pytest.mark.parametrize("name", ["relu masks by dy", "bias summed over the wrong axis"])
def test_what_an_upstream_of_ones_hides_is_caught(name):
    """A dy of ones is blind to these: that of the planted backward is then what differences give."""
    forward, backward, arrays = {
        "relu masks by dy": (ops.relu, lambda dy, c: (np.where((dy > 0) & (c[0] > 0), dy, 0),), (X,)),
        "bias summed over the wrong axis": (
            lambda b: (np.zeros((4, 4)) + b, b), lambda dy, c: (dy.sum(axis=1),), (normal(4),)
        ),
    }[name]  # fmt: skip
    y, cache = forward(*arrays)
    (analytic,) = backward(np.ones_like(y), cache)
    numeric = np.zeros_like(arrays[0])
    for i in np.ndindex(*numeric.shape):
        step = np.zeros_like(numeric)
        step[i] = 1e-4
        numeric[i] = (forward(arrays[0] + step)[0] - forward(arrays[0] - step)[0]).sum() / 2e-4
    assert testing.relative_error(analytic, numeric) < 1e-8
    with pytest.raises(GradientError):
        check_gradients(forward, backward, *arrays)


def test_adjoint_errors_are_exact():
    x, w, b = (np.round(3 * a) for a in (X, W, B))
    off = wrong(ops.conv2d_backward, lambda g: g + (np.arange(g.size).reshape(g.shape) == 7), 1)
    says = r"not the adjoint of forward in w \(argument 1\): <J d, dy> is -?\d+, <d, J\^T dy> is -?\d+, for whole"
    with pytest.raises(GradientError, match=says):
        check_adjoint(conv, off, x, w, b)
    with pytest.raises(ValueError, match=r"x \(argument 0\) holds fractions; check_adjoint takes whole numbers"):
        check_adjoint(conv, ops.conv2d_backward, X, w, b)
    with pytest.raises(ValueError, match=r"not linear in x \(argument 0\); check_adjoint takes ops that are"):
        check_adjoint(ops.relu, ops.relu_backward, x)


def test_each_of_several_draws_is_a_check():
    """An element that is wrong shows in a product unless d is 0 there: of one draw in 17 it does not."""
    x, w, b = (np.round(3 * a) for a in (X, W, B))
    off = wrong(ops.conv2d_backward, lambda g: g + (np.arange(g.size).reshape(g.shape) == 7))

    def passes(seed, draws):
        try:
            rows = check_adjoint(conv, off, x, w, b, rng=seed, draws=draws).rows
            return all(row.checked == f"{draws} products" for row in rows)
        except GradientError:
            return False

    missed = [seed for seed in range(80) if passes(seed, 1)]
    assert 1 <= len(missed) <= 12
    assert not any(passes(seed, 4) for seed in missed)
    drawn = []
    with pytest.raises(GradientError, match=r"a second call with the same dy .* raises IndexError"):
        check_adjoint(lambda x: (3 * x, [3]), lambda dy, c: (dy * c.pop(),), x)
    check_adjoint(lambda x: (3 * x, [3]), lambda dy, c: (dy * c.pop(),), x, once=True)
    check_adjoint(conv, lambda dy, c: (drawn.append(dy.tobytes()), ops.conv2d_backward(dy, c))[1], x, w, b, draws=3)
    assert len(set(drawn)) == 3


def test_an_adjoint_beyond_the_whole_numbers_of_float64_is_refused_and_one_up_to_them_is_not():
    """Of one element, 2^47 times up to 8 times up to 8: products reach 2^53 where a draw is 8."""
    seen = []
    op = lambda x: (seen.append(np.abs(x).max()), (2.0**47 * x, None))[1]  # noqa: E731
    back = lambda dy, c: (seen.append(np.abs(dy).max()), (2.0**47 * dy,))[1]  # noqa: E731
    refused = []
    for seed in range(40):
        seen.clear()
        try:
            check_adjoint(op, back, np.ones(1), rng=seed, draws=1)
            refused.append(False)
        except ValueError as error:
            assert "x: the products reach 9.0e+15, beyond 2^53" in str(error)
            refused.append(True)
        assert refused[-1] == (max(seen) == 8)
    assert 0 < sum(refused) < 40


@pytest.mark.parametrize(("bend", "refused"), [(0.9e-7, False), (1.1e-7, True), (-1.1e-7, True)])
def test_linear_is_what_bends_by_less_than_a_thousand_tolerances(bend, refused):
    """Of one element the bend is g(1) + g(-1) over 2, relative to the slope: that of x + bend x^2 at 0 is bend."""
    forward, backward = lambda x: (x + bend * x**2, x), lambda dy, x: (dy * (1 + 2 * bend * x),)
    for x in (np.zeros(1), np.zeros((2, 3))):
        if refused:
            with pytest.raises(ValueError, match=r"forward is not linear in x \(argument 0\), as `linear` says"):
                check_gradients(forward, backward, x, linear=True)
        else:
            check_gradients(forward, backward, x, linear=True)
    check_gradients(forward, backward, np.zeros(1))


@pytest.mark.parametrize(("linear", "tolerance"), [(False, 2e-3), (True, 1e-4)])
@pytest.mark.parametrize("which", ["x", "y", "both"])
def test_float32_anywhere_has_the_tolerance_of_float32(linear, tolerance, which):
    dtype_x, dtype_y = (np.float32 if which in (name, "both") else np.float64 for name in "xy")
    forward = lambda x: ((3 * x if linear else np.sin(x)).astype(dtype_y), x)  # noqa: E731
    backward = lambda dy, x: ((dy * (3 if linear else np.cos(x))).astype(dtype_x),)  # noqa: E731
    x = X[0].astype(dtype_x)
    report = check_gradients(forward, backward, x, linear=linear)
    assert tolerance <= report.rows[0].tolerance < 2 * tolerance
    assert f"errors below {report.rows[0].tolerance:.0e} go unseen" in report.note
    check_gradients(forward, wrong(backward, lambda g: g * dtype_x(1 + tolerance / 2)), x, linear=linear)
    with pytest.raises(GradientError, match="is wrong at"):
        check_gradients(forward, wrong(backward, lambda g: g * dtype_x(1 + 2 * tolerance)), x, linear=linear)


def test_the_seed_of_x_is_not_that_of_dy():
    """Were dy drawn by default_rng(seed) as well, it would equal x, and a mask of the one would be a mask of the other."""
    for seed in range(3):
        x = normal(3, 4, seed=seed)
        with pytest.raises(GradientError):
            check_gradients(lambda x: (np.maximum(x, 0), x), lambda dy, c: (np.where(dy > 0, dy, 0),), x, rng=seed)


# Reports.


def test_a_report_is_a_table():
    report = check_gradients(conv, ops.conv2d_backward, X, W, B, linear=("w", 2))
    lines = str(report).splitlines()
    assert lines[0].split("  ")[0] == "argument"
    assert [line.split()[0] for line in lines[1:]] == ["x", "w", "b"]
    assert "(3, 3, 3, 2)" in lines[2]
    assert "54 elements" in lines[2]
    assert lines[2].split()[-1] in ("1", "4")
    assert "2^-" in lines[1]
    assert [row.tolerance < 2e-10 for row in report.rows] == [False, True, True]
    assert report.error == max(row.error for row in report.rows)
    assert "8 directions" in str(check_gradients(conv, ops.conv2d_backward, X, W, B, full=10))


def test_a_report_without_rows_has_no_error():
    assert testing.Report(()).error == 0


def test_none_is_not_checked():
    report = check_gradients(conv, lambda dy, c: (None, *ops.conv2d_backward(dy, c)[1:]), X, W, B)
    assert report.rows[0].checked == "nothing"
    assert report.rows[1].checked == "54 elements"


def test_the_same_seed_gives_the_same_report():
    reports = [str(check_gradients(gelu, gelu_backward, X, rng=s)) for s in (3, 3, 4)]
    assert reports[0] == reports[1] != reports[2]
    check_gradients(gelu, gelu_backward, X, rng=np.random.default_rng(3))


def test_arrays_are_saved_on_request(tmp_path):
    path = tmp_path / "failed"
    with pytest.raises(GradientError, match=r"The arrays are in .*failed\.npz: input\.x, .*gradient\.x, numeric\.x\.") as caught:
        check_gradients(square, wrong(square_backward, lambda g: 2 * g), X, save=path)
    with np.load(f"{path}.npz") as saved:
        np.testing.assert_array_equal(saved["input.x"], X)
        np.testing.assert_array_equal(saved["gradient.x"], 2 * X * saved["dy"])
        np.testing.assert_allclose(saved["numeric.x"], X * saved["dy"], rtol=1e-7)
        assert saved["numeric.x"][caught.value.index] == caught.value.numeric


# Kinks.


def test_a_kink_at_the_point_names_the_element():
    x = X.copy()
    x[1, 2, 3, 0] = 0
    says = r"not differentiable in x .*at \[1, 2, 3, 0\], where it is 0: the slope .* on one side and .* on the other"
    with pytest.raises(GradientError, match=says) as caught:
        check_gradients(ops.relu, ops.relu_backward, x)
    assert caught.value.index == (1, 2, 3, 0)
    with pytest.raises(GradientError, match=r"not differentiable in x .*at \[1, 2, 3, 0\], where it is 0"):
        check_gradients(ops.relu, ops.relu_backward, x, full=0)


def test_a_tie_in_a_pooling_window_names_one_of_the_tied():
    x = X.copy()
    x[0, 2, 0, 1] = x[0, 3, 1, 1] = 9
    with pytest.raises(GradientError, match=r"at \[0, [23], [01], 1\], where it is 9"):
        check_gradients(ops.max_pool2d, ops.max_pool2d_backward, x)


@pytest.mark.parametrize("distance", [1e-1, 1e-3, 1e-4, 1e-5, -1e-3, -1e-5])
def test_a_kink_within_the_step_makes_it_shorter(distance):
    x = X.copy()
    x[0, 0, 0, 0] = distance
    report = check_gradients(ops.relu, ops.relu_backward, x)
    assert report.error < 1e-9
    with pytest.raises(GradientError):
        check_gradients(ops.relu, wrong(ops.relu_backward, lambda g: g * (1 + 1e-6)), x)


def test_a_jump_is_no_derivative():
    with pytest.raises(GradientError, match=r"not differentiable in x .*at \[0\], where it is 2: differences do not settle"):
        check_gradients(lambda x: (np.floor(x), x), lambda dy, c: (np.zeros_like(c),), np.array([2.0, 0.5]))


def test_read_only_and_strided_arrays_are_taken():
    x = np.asfortranarray(X)[::-1]
    x.flags.writeable = False
    check_gradients(gelu, gelu_backward, x)


def test_the_checkers_need_no_hypothesis():
    program = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "from minunet import testing\n"
        "assert callable(testing.check_gradients) and 'strategies' in dir(testing)\n"
        "assert not {'torch', 'jax', 'minunet.testing.strategies'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="no attribute 'stratagems'"):
        _ = testing.stratagems
