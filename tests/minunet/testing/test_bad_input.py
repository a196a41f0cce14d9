"""Bad input: each is a sentence, not a traceback from inside; and what was written over is put back."""

from __future__ import annotations

import numpy as np
import pytest
from sample_ops import B, W, X, conv, square, square_backward

import minunet
from minunet import Network, ops
from minunet.testing import GradientError, check_adjoint, check_gradients, check_layer, check_network


def overwriting(x):
    x *= 1
    x[0, 0, 0, 0] += 1
    return x * 2, None


def writes_dy(dy, cache):
    dy[cache[0] <= 0] = 0
    return (dy,)


def gives_nan(dy, cache):
    (dx,) = square_backward(dy, cache)
    dx[1, 0, 0, 2] = np.nan
    return (dx,)


def view_then_change():
    def forward(x):
        return np.maximum(x, 0), (x[::-1],)

    def backward(dy, cache):
        (view,) = cache
        view[view < 0] = 0
        return (dy * (view[::-1] > 0),)

    return forward, backward


def one_buffer():
    buffer = np.empty_like(X)

    def forward(x):
        np.multiply(x, 2, out=buffer)
        return buffer, None

    return forward, lambda dy, c: (2 * dy,)


def remembers():
    held = {}

    def forward(x):
        held["x"] = x
        return x**2 / 2, None

    return forward, lambda dy, c: (dy * held["x"],)


def noisy(x):
    return x * (noisy.rng.random(x.shape) < 0.5), (x,)


noisy.rng = np.random.default_rng(0)


def uses_up(dy, cache):
    x, w, *rest = cache
    grads = GRADIENTS(dy, (x, w.copy(), *rest))
    w *= 0.5  # a copy of what was given: nobody else sees it
    return grads


def conv_of_copies(x, w, b):
    y, cache = conv(x, w, b)
    return y, (x, w.copy(), *cache[2:])


def gives_none_later():
    def backward(dy, cache):
        return (2 * dy * cache.pop() if cache else None,)

    return lambda x: (x**2, [x]), backward


GRADIENTS = ops.conv2d_backward
BAD = {
    "too few": (conv, lambda dy, c: GRADIENTS(dy, c)[:2], (X, W, B), r"returned 2 gradients, too few; it takes 3.*\(x, w, b\)"),
    "too many": (square, lambda dy, c: (dy, dy), (X,), r"returned 2 gradients, too many; it takes 1"),
    "no tuple": (square, lambda dy, c: dy * c[0], (X,), r"backward returned a float64 array .*; the contract is a tuple"),
    "none": (square, lambda dy, c: None, (X,), r"backward returned None; the contract is a tuple .*return \(dx,\)"),
    "shape": (conv, lambda dy, c: (*GRADIENTS(dy, c)[:2], dy), (X, W, B), r"of b .*has shape \(2, 5, 4, 2\); it takes b's"),
    "dtype": (square, lambda dy, c: ((dy * c[0]).astype("f"),), (X,), r"of x .*is of dtype float32; it takes x's own"),
    "NaN": (square, gives_nan, (X,), r"is nan at \[1, 0, 0, 2\]"),
    "a number": (square, lambda dy, c: (1.0,), (X,), r"gradient of x \(argument 0\) is a float; it takes an array of x's shape"),
    "writes x": (overwriting, lambda dy, c: (2 * dy,), (X,), r"forward changes x at \[0, 0, 0, 0\], from .* to .*only be read"),
    "writes dy": (ops.relu, writes_dy, (X,), r"backward changes dy at \[.*\], from .* to 0\. .*may only read it"),
    "writes a view": (*view_then_change(), (X,), r"backward changes x at \[.*a view of one is in the cache"),
    "one buffer": (*one_buffer(), (X,), r"a second call changes y at .*each call returns arrays of its own"),
    "remembers": (*remembers(), (X,), r"another gradient of x \(argument 0\) after a later forward.*neither dy nor its cache"),
    "noisy": (noisy, lambda dy, c: (dy,), (X,), r"forward is not deterministic: two calls with the same arrays differ by"),
    "pops": (lambda x: (x**2, [x]), lambda dy, c: (2 * dy * c.pop(),), (X,), r"second call .*raises IndexError: pop .*once=True"),
    "writes its cache": (conv_of_copies, uses_up, (X, W, B), r"second call .* gives another gradient of x \(arg.*once=True"),
    "None at last": (*gives_none_later(), (X,), r"second call .* gives another gradient of x"),
    "None for all": (conv, lambda dy, c: (None,) * 3, (X, W, B), r"returned None for all of x, w, b: nothing would be checked"),
    "None alone": (square, lambda dy, c: (None,), (X,), r"returned None for all of x: nothing would be checked"),
    "no pair": (lambda x: x * 2, lambda dy, c: (2 * dy,), (X,), r"forward returned a float64 array of shape .*return y, cache"),
    "no array": (lambda x: ("y", x), lambda dy, c: (2 * dy,), (X,), r"forward returned a str as y; the contract is one"),
    "whole y": (lambda x: (np.sign(x).astype(int), x), lambda dy, c: (dy,), (X,), r"forward returned a int64 array .* as y"),
    "y not finite": (lambda x: (np.where(x > 1, np.nan, x), x), lambda dy, c: (dy,), (X,), r"forward gives nan in y, at \["),
}


@pytest.mark.parametrize("name", BAD)
def test_a_broken_contract_is_a_sentence(name):
    forward, backward, arrays, says = BAD[name]
    arrays = tuple(a.copy() for a in arrays)
    before = [a.copy() for a in arrays]
    with pytest.raises(GradientError, match=says) as caught:
        check_gradients(forward, backward, *arrays, names=("x", "w", "b")[: len(arrays)])
    assert "\n" not in str(caught.value)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)  # put back, whoever wrote into it


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: check_gradients(square, square_backward, np.arange(3)), r"x \(argument 0\) is of dtype int64; it takes float64"),
        (lambda: check_gradients(square, square_backward, np.arange(3)), r"no small step between whole numbers.*lambda x: op"),
        (lambda: check_gradients(square, square_backward, np.ones(3, bool)), r"dtype bool; it takes float64 or float32"),
        (lambda: check_gradients(square, square_backward, np.ones(3, complex)), r"dtype complex128; it takes float64 or"),
        (lambda: check_gradients(square, square_backward, [1.0, 2.0]), r"x \(argument 0\) is of type list; it takes a NumPy"),
        (lambda: check_gradients(square, square_backward, np.array([1, np.inf])), r"x .*is not finite at \[1\]"),
        (lambda: check_gradients(square, square_backward, (X, X)), r"of type tuple; .*one by one: lambda a, b: op\(\(a, b\)\)"),
        (lambda: check_gradients(square, square_backward, X, 2), r"argument 1 is of type int; .*lambda x: op\(x, stride=2\)"),
        (lambda: check_gradients(square, square_backward), r"no arrays were given"),
        (lambda: check_gradients(square, square_backward, X, names=["x", "w"]), r"names is .*; it takes 1 different names"),
        (lambda: check_gradients(square, square_backward, X, linear=[1]), r"linear is 1; it takes True, or of the arguments x"),
        (lambda: check_gradients(square, square_backward, X, linear="w"), r"linear is 'w'; it takes True"),
        (lambda: check_gradients(square, square_backward, X, linear=True), r"forward is not linear in x \(argument 0\)"),
        (lambda: check_gradients(square, square_backward, X, step=0), r"step is 0; it takes a number above 0"),
        (lambda: check_gradients(square, square_backward, X, tolerance=-1), r"tolerance is -1; it takes a number above 0"),
        (lambda: check_gradients(square, square_backward, X, directions=0), r"directions is 0; it takes a whole number from 1"),
        (lambda: check_gradients(square, square_backward, X, rng=-1), r"rng is -1; it takes a whole number from 0 up"),
        (lambda: check_adjoint(square, square_backward, np.round(X), draws=0), r"draws is 0; it takes a whole number from 1 up"),
        (lambda: check_layer(object(), (2, 2)), r"object has no forward; a layer takes forward\(x\)"),
        (lambda: check_network(minunet.UNet()), r"UNet has no network; it takes a minunet\.Network, or a UNet after fit"),
        (lambda: check_network(Network(1, 2, 2, 1), X), r"x has shape \(2, 5, 4, 3\); this network takes"),
    ],
)
def test_what_cannot_be_checked_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_float32_works_and_says_that_it_is_loose():
    arrays = [a.astype(np.float32) for a in (X, W, B)]
    report = check_gradients(conv, ops.conv2d_backward, *arrays, linear=True)
    assert "float32: the tolerance is loose" in str(report)
    assert "float32" not in str(check_gradients(conv, ops.conv2d_backward, X, W, B, linear=True))
    with pytest.raises(GradientError):
        check_gradients(conv, lambda dy, c: tuple(g * np.float32(1.01) for g in GRADIENTS(dy, c)), *arrays)
