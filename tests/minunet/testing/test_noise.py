"""Forward passes that compute in a narrower dtype than they are given are told so, and nothing else is taken for noise."""

from __future__ import annotations

import numpy as np
import pytest

from minunet.testing import GradientError, check_gradients


def bfloat16(x):
    """Cut to the 8 bits of bfloat16."""
    return (x.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


CASTS = {
    "float32": lambda x: x.astype(np.float32).astype(np.float64),
    "float16": lambda x: x.astype(np.float16).astype(np.float64),
    "bfloat16": bfloat16,
}
TOLD = {"float32": "float32", "float16": "float16 or bfloat16", "bfloat16": "float16 or bfloat16"}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("dtype", CASTS)
@pytest.mark.parametrize("where", ["result", "middle"])
@pytest.mark.parametrize(("shape", "linear"), [((2, 3), False), ((20, 30), False), ((2, 3), True), ((20, 30), True)])
def test_a_cast_inside_forward_is_told(dtype, where, shape, linear):
    cast, smooth = CASTS[dtype], (lambda x: x) if linear else np.sin
    forward = {
        "result": lambda x: (cast(smooth(1.3 * x)), x), "middle": lambda x: (smooth(cast(1.3 * x)) * np.pi, x)
    }[where]  # fmt: skip
    scale = 1.3 * (np.pi if where == "middle" else 1)
    backward = lambda dy, x: (scale * dy * (1 if linear else np.cos(1.3 * x)),)  # noqa: E731
    for seed in range(2):
        with pytest.raises(GradientError, match=rf"too noisy in x .*is that of {TOLD[dtype]}, .* is there a cast inside\?"):
            check_gradients(forward, backward, normal(*shape, seed=seed), linear=linear)


@pytest.mark.parametrize("dtype", CASTS)
def test_a_cast_inside_backward_is_told_where_the_gradient_is_wrong_for_it(dtype):
    with pytest.raises(GradientError, match=rf"is wrong at .*All its numbers are {dtype}'s: look for a cast inside backward"):
        check_gradients(lambda x: (1.3 * x, None), lambda dy, _: (CASTS[dtype](1.3 * dy),), normal(2, 3), linear=True)


@pytest.mark.parametrize("dtype", CASTS)
def test_a_cast_inside_backward_is_told_where_no_difference_could_know_it(dtype):
    backward = lambda dy, y: (CASTS[dtype](dy * y * (1 - y)),)  # noqa: E731
    forward = lambda x: (1 / (1 + np.exp(-x)),) * 2  # noqa: E731
    with pytest.raises(GradientError, match=rf"All its numbers are {dtype}'s|all numbers of the gradient of x .* are {dtype}'s"):
        check_gradients(forward, backward, normal(2, 3), tolerance=1e-2)
    check_gradients(lambda x: (forward(x)[0].astype(np.float32), forward(x)[0]), backward, normal(2, 3), tolerance=1e-2)
    check_gradients(lambda x: (0 * x, None), lambda dy, _: (0 * dy,), normal(2, 3))


@pytest.mark.parametrize(("units", "told"), [(6.9, True), (8.5, False)])
def test_a_cast_explains_an_error_of_up_to_eight_of_its_units(units, told):
    """The gradient is the number of float32 whose distance from dy, relative, is nearest to so many times 2^-24."""

    def backward(dy, _):
        near = np.float32(dy[0]) * (1 + np.arange(32, dtype=np.float32) * np.float32(2**-24))
        off = np.abs(near - dy) / np.maximum(np.abs(near), np.abs(dy)) * 2**24
        return (near[[np.abs(off - units).argmin()]].astype(np.float64),)

    with pytest.raises(GradientError, match="is wrong at") as caught:
        check_gradients(lambda x: (x, None), backward, np.array([0.7]), linear=True)
    assert (6 if told else 8) < caught.value.error * 2**24 < (8 if told else 9)
    assert ("look for a cast" in str(caught.value)) is told


def test_a_wrong_gradient_through_noise_of_float32_is_wrong_where_it_is_linear():
    with pytest.raises(GradientError, match="is wrong at"):
        check_gradients(lambda x: (CASTS["float32"](x), x), lambda dy, x: (1.01 * dy,), normal(2, 3), linear=True)


@pytest.mark.parametrize(
    ("forward", "backward", "x", "says"),
    [
        (lambda x: (np.sin(1e3 * x), x), lambda dy, x: (5e2 * dy * np.cos(1e3 * x),), normal(2, 3), "is wrong at"),
        (lambda x: (np.maximum(x, 0), x), lambda dy, x: (2 * dy * (x > 0),), normal(2, 3), "is wrong at"),
        (lambda x: (np.abs(x), x), lambda dy, x: (dy * np.sign(x),), np.array([0.0, 1.0]), "the slope is"),
        (lambda x: (np.floor(x), x), lambda dy, x: (0 * dy,), np.array([2.0, 0.5]), "differences do not settle"),
    ],
)
def test_what_is_steep_bent_or_broken_is_not_taken_for_noise(forward, backward, x, says):
    with pytest.raises(GradientError, match=says) as caught:
        check_gradients(forward, backward, x)
    assert "noise" not in str(caught.value)


def test_large_terms_that_cancel_are_told():
    def forward(x):
        return np.sin(x) / 3 + 1e5 - 1e5, x

    with pytest.raises(GradientError, match=r"too noisy in x .*is there a cast to float32 inside, or do large terms cancel\?"):
        check_gradients(forward, lambda dy, x: (dy * np.cos(x) / 3,), 1.3 + normal(2, 3) / 10, tolerance=1e-9)
