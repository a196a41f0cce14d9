"""Several outputs, and whole numbers among the arguments."""

from __future__ import annotations

import numpy as np
import pytest
from sample_ops import normal

from minunet.testing import GradientError, check_adjoint, check_gradients


def both(x, w):
    return (x * w, (x**2).sum(), np.zeros((0, 2))), (x, w)


def both_backward(dy, cache, slip=0.0):
    x, w = cache
    assert isinstance(dy, tuple) and [part.shape for part in dy] == [x.shape, (), (0, 2)]
    return dy[0] * w + 2 * x * dy[1] * (1 + slip), dy[0] * x


def test_each_output_counts():
    x, w = normal(2, 3), normal(2, 3, seed=1)
    check_gradients(both, both_backward, x, w, layouts=True)
    check_gradients(both, both_backward, x, w, full=0)
    for full in (256, 0):
        with pytest.raises(GradientError, match=r"the gradient of x \(argument 0\) is wrong"):
            check_gradients(both, lambda dy, c: both_backward(dy, c, 1e-6), x, w, full=full)


def test_several_outputs_of_a_linear_op_are_adjoint_exactly():
    def halves(x):
        return [x[:1] * 3, x[1:]], None

    check_adjoint(halves, lambda dy, c: (np.concatenate([3 * dy[0], dy[1]]),), np.arange(4.0))
    with pytest.raises(GradientError, match="not the adjoint of forward in x"):
        check_adjoint(halves, lambda dy, c: (np.concatenate([dy[0], dy[1]]),), np.arange(4.0))


def test_outputs_of_two_dtypes_are_checked_loosely():
    report = check_gradients(
        lambda x: ((x**2, (2 * x).astype(np.float32)), x), lambda dy, x: (2 * x * dy[0] + 2 * dy[1].astype(float),), normal(3)
    )
    assert "float32: the tolerance is loose" in str(report)


def writes(dy, cache):
    dy[1][...] = 0
    return both_backward(dy, cache)


@pytest.mark.parametrize(
    ("forward", "backward", "says"),
    [
        (lambda x, w: ((x, "w"), None), both_backward, r"forward returned a str as y\[1\]; the contract is one"),
        (lambda x, w: ((), None), both_backward, r"forward returned a tuple of length 0 as y"),
        (lambda x, w: ((x, x / 0 - np.inf), None), both_backward, r"forward gives (nan|-inf) in y\[1\], at \[0, 0\]"),
        (both, writes, r"backward changes dy\[1\] at"),
    ],
)
def test_a_broken_contract_names_the_output(forward, backward, says):
    with np.errstate(all="ignore"), pytest.raises(GradientError, match=says):
        check_gradients(forward, backward, normal(2, 3), normal(2, 3))


def lookup(i, w):
    return w[i], (i, w.shape)


def lookup_backward(dy, cache, gradient=None):
    i, shape = cache
    dw = np.zeros(shape)
    np.add.at(dw, i, dy)
    return gradient, dw


def test_whole_numbers_beside_floats_need_no_gradient():
    indices, w = np.array([2, 0, 2]), normal(3, 4)
    report = check_gradients(lookup, lookup_backward, indices, w, layouts=True)
    assert [(row.argument, row.checked) for row in report.rows] == [("i", "nothing"), ("w", "12 elements")]
    with pytest.raises(ValueError, match=r"i \(argument 0\) is of dtype int64; .*or backward returns None for it"):
        check_gradients(lookup, lambda dy, c: lookup_backward(dy, c, np.zeros(3)), indices, w)
