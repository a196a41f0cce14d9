"""An op reads its arrays by their strides, in every layout; one that reads on in memory is found, and the layout named."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided
from sample_ops import B, W, X, conv, normal

from minunet import ops
from minunet.testing import GradientError, check_gradients, check_layer
from minunet.testing.layouts import LAYOUTS


def as_if_contiguous(a):
    """Read on in memory from a's first element, as a kernel does that is handed a pointer and a shape."""
    return as_strided(a, a.shape, np.empty(a.shape, a.dtype).strides)


def sine(read_x=np.asarray, read_dy=np.asarray):
    return lambda x: (np.sin(read_x(x)), x), lambda dy, x: (read_dy(dy) * np.cos(x),)


def test_ops_that_read_by_strides_pass():
    check_gradients(conv, ops.conv2d_backward, X, W, B, linear=True, layouts=True)
    check_gradients(ops.max_pool2d, ops.max_pool2d_backward, X[:, :4], layouts=True)
    check_gradients(ops.relu, ops.relu_backward, X.astype(np.float32), layouts=True)
    check_gradients(lambda x: (x.sum(), x.shape), lambda dy, c: (np.full(c, dy),), X, layouts=True)
    # a log has no value for half of these, and those of a broadcast row are as good as any
    check_gradients(lambda x: (np.log(x), x), lambda dy, x: (dy / x,), np.abs(X), layouts=True)


@pytest.mark.parametrize("shape", [(2, 3, 4, 3), (3, 4), (5,)])
def test_a_pass_that_takes_memory_for_contiguous_is_found(shape):
    x = normal(*shape)
    for layouts in (False, True):
        with pytest.raises(GradientError, match=r"gradient of x is wrong with dy in layout '(channel slice|strided)' \(strid"):
            check_gradients(*sine(read_dy=as_if_contiguous), x, layouts=layouts)
    check_gradients(*sine(read_x=as_if_contiguous), x)
    with pytest.raises(GradientError, match=r"y is wrong with x \(argument 0\) in layout '(channel slice|strided)'"):
        check_gradients(*sine(read_x=as_if_contiguous), x, layouts=True)


@pytest.mark.parametrize("layout", ["channel slice", "transposed", "strided", "reversed", "broadcast", "Fortran"])
@pytest.mark.parametrize("which", ["x", "dy"])
def test_each_layout_is_tried_and_named(layout, which):
    strides = LAYOUTS[layout](np.zeros((2, 3, 4, 3))).strides

    def only_there(a):
        return as_if_contiguous(a) if a.strides == strides else a

    said = {"x": r"x \(argument 0\)", "dy": "dy"}[which]
    with pytest.raises(GradientError, match=rf"is wrong with {said} in layout '{layout}'"):
        check_gradients(*sine(**{f"read_{which}": only_there}), normal(2, 3, 4, 3), layouts=True)


def into(a):
    """Return an array once it has been written to, so that one that is read-only is refused."""
    a[...] = a
    return a


def test_a_refusal_of_one_layout_is_told_with_its_words_where_layouts_are_asked_for():
    check_gradients(*sine(read_dy=into), normal(3, 4))
    with pytest.raises(GradientError, match=r"op raises ValueError with dy in layout 'broadcast'.*: assignment"):
        check_gradients(*sine(read_dy=into), normal(3, 4), layouts=True)
    with pytest.raises(GradientError, match=r"op raises ValueError with x \(argument 0\) in layout 'broadcast'.*: assignment"):
        check_gradients(*sine(read_x=into), normal(3, 4), layouts=True)


def test_layers_and_several_outputs_are_laid_out_too():
    class Scale:
        parameters = {"scale": normal(3)}

        def __init__(self, read):
            self.read = read

        def forward(self, x):
            return (x * self.parameters["scale"], x**2), x

        def backward(self, dy, cache):
            first, second = dy[0], self.read(dy[1])
            return first * self.parameters["scale"] + 2 * cache * second, {"scale": (first * cache).sum(axis=0)}

    check_layer(Scale(np.asarray), (5, 3), layouts=True)
    with pytest.raises(GradientError, match=r"the gradient of x is wrong with dy\[1\] in layout"):
        check_layer(Scale(as_if_contiguous), (5, 3), layouts=True)


def test_what_cancels_for_broadcast_numbers_is_rounding():
    def off_mean(x):  # rows that are alike leave nothing but what another order of summation rounds off
        return x - x.mean(axis=0) + (0 if x.flags.c_contiguous else 1e-17)

    check_gradients(lambda x: (off_mean(x), None), lambda dy, c: (off_mean(dy),), normal(7, 3), linear=True, layouts=True)
