"""What ops do beside their mathematics, which is proven in proof/: sizes, buffers, settings, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet import fusions, ops
from minunet.testing import strategies


def test_dropout_keeps_the_mean_and_drops_the_rate():
    y, _ = ops.dropout(np.ones((1, 300, 300, 4)), 0.3, np.random.default_rng(0))
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert y.mean() == pytest.approx(1, abs=0.01)


def test_concatenation_of_the_halves_of_one_buffer_costs_no_copy():
    buffer = np.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    y, _ = ops.concat_skip(buffer[..., :2], buffer[..., 2:])
    assert np.shares_memory(y, buffer)
    np.testing.assert_array_equal(y, buffer)
    for skip, up in ((buffer[..., 2:4], buffer[..., 4:]), (buffer[..., 4:], buffer[..., :4]), (buffer[..., :3], buffer[..., 2:])):
        y, _ = ops.concat_skip(skip, up)
        np.testing.assert_array_equal(y, np.concatenate((skip, up), axis=3))
        assert not np.shares_memory(y, buffer)


@given(seed=strategies.seeds(), groups=st.sampled_from([1, 2, 3, 6]))
def test_each_group_of_each_image_has_mean_0_and_variance_1_before_its_channels_are_scaled(backend, seed, groups):
    rng = np.random.default_rng(seed)
    x = rng.normal(rng.normal(0, 9, (2, 1, 1, 6)), 3, (2, 5, 4, 6))
    gamma, beta = rng.standard_normal((2, 6))
    y, _ = ops.group_norm(x, gamma, beta, groups=groups, epsilon=0.25)
    for image, normal in zip(x, y, strict=True):
        for channels in np.split(np.arange(6), groups):
            values = image[..., channels].ravel().tolist()
            mean = sum(values) / len(values)
            variance = sum((value - mean) ** 2 for value in values) / len(values)
            expected = (image[..., channels] - mean) / (variance + 0.25) ** 0.5 * gamma[channels] + beta[channels]
            np.testing.assert_allclose(normal[..., channels], expected, rtol=1e-12, atol=1e-12)


@given(size=st.integers(1, 40), kernel=st.integers(1, 7), stride=st.integers(1, 5), padding=st.integers(0, 3))
def test_sizes_are_those_of_the_formulas(size, kernel, stride, padding):
    if size + 2 * padding < kernel:
        return
    places = [start for start in range(-padding, size + padding, stride) if start + kernel <= size + padding]
    assert ops.output_size(size, kernel, stride=stride, padding=padding) == len(places)
    rest = (size + 2 * padding - kernel) % stride
    back = ops.transposed_output_size(len(places), kernel, stride=stride, padding=padding, output_padding=rest)
    assert back == size


def test_a_stride_may_be_numpys_number(backend):
    x, w = np.ones((1, 6, 6, 2)), np.ones((2, 2, 2, 3))
    for stride in (np.int64(2), (np.int32(2), np.uint8(2))):
        np.testing.assert_array_equal(ops.conv2d(x, w, stride=stride)[0], ops.conv2d(x, w, stride=2)[0])


X, W, B = np.zeros((1, 5, 5, 2)), np.zeros((3, 3, 2, 4)), np.zeros(4)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ops.conv2d(X[0], W, B), r"x is an array of shape \(5, 5, 2\); it takes shape \(N, H, W, C\)"),
        (lambda: ops.conv2d(X.astype(int), W, B), r"x is of dtype int64; it takes float32 or float64"),
        (lambda: ops.conv2d(X, W.astype("f"), B), r"w is of dtype float32; it takes x's dtype, float64"),
        (lambda: ops.conv2d(X, W[:, :, :1], B), r"w is \(3, 3, 1, 4\); it takes \(R, S, 2, K\)"),
        (lambda: ops.conv2d(X, W, B[:3]), r"b is an array of shape \(3,\); it takes shape \(4,\)"),
        (lambda: ops.conv2d(X, W, B, stride=0), r"stride is 0; it takes whole numbers from 1 up"),
        (lambda: ops.conv2d(X, W, B, stride=1.5), r"stride is 1.5; it takes whole numbers"),
        (lambda: ops.conv2d(X, W, B, stride=(1.5, 1)), r"stride is \(1.5, 1\); it takes whole numbers"),
        (lambda: ops.conv2d(X, W, B, stride=(1, 1, 1)), r"stride is \(1, 1, 1\); it takes"),
        (lambda: ops.conv2d(X, W[:0], B), r"w is \(0, 3, 2, 4\); it takes"),
        (lambda: ops.concat_skip(X.astype("f"), X), r"float32.*float64|float64.*float32"),
        (lambda: ops.concat_skip_backward(np.zeros((1, 5, 5, 3)), ops.concat_skip(X, X)[1]), r"dy is .*\(1, 5, 5, 3\)"),
        (lambda: ops.dropout_backward(X[..., :1], ops.dropout(X, 0.5, np.random.default_rng())[1]), r"dy is .*\(1, 5, 5, 1\)"),
        (lambda: ops.conv2d(X, W, B, padding=-1), r"padding is -1; it takes whole numbers from 0 up"),
        (lambda: ops.conv2d(X[:, :2], W, B), r"x is \(1, 2, 5, 2\); it takes at least 3 x 3 pixels"),
        (lambda: ops.conv2d(X, W, B, out=np.zeros((1, 3, 3, 3))), r"out is a float64 array \(1, 3, 3, 3\)"),
        (lambda: ops.conv_transpose2d(X, W, B), r"w is \(3, 3, 2, 4\); it takes \(R, S, K, 2\)"),
        (lambda: ops.conv_transpose2d(X, np.zeros((2, 2, 3, 2)), output_padding=2), r"output_padding is .*; it takes less than"),
        (lambda: ops.max_pool2d(X, window=6), r"x is \(1, 5, 5, 2\); it takes at least 6 x 6 pixels"),
        (lambda: ops.max_pool2d(np.zeros((1, 20, 20, 1)), window=17), r"window is \(17, 17\); it takes at most 256"),
        (lambda: ops.max_pool2d(np.zeros((1, 20, 300, 1)), window=(1, 257)), r"window is \(1, 257\); it takes at most 256"),
        (lambda: ops.max_pool2d(np.zeros((1, 300, 20, 1)), window=(257, 1)), r"window is \(257, 1\); it takes at most 256"),
        (
            lambda: fusions.max_pool2d_backward_plus(X[:, :4], X[:, :2, :2], ops.max_pool2d(X)[1]),
            r"dskip is a float64 array \(1, 4, 5, 2\); it takes what the forward pass took: float64, \(1, 5, 5, 2\)",
        ),
        (lambda: ops.group_norm(X, B[:2], B[:2], groups=3), r"groups is 3; it takes a divisor of the 2 channels"),
        (lambda: ops.group_norm(X, B, B, groups=1), r"gamma is an array of shape \(4,\); it takes shape \(2,\)"),
        (lambda: ops.group_norm(X, B[:2].astype("f"), B[:2], groups=1), r"gamma is of dtype float32; it takes x's dtype"),
        (lambda: ops.group_norm(X, B[:2], B[:2], groups=0), r"groups is 0; it takes a divisor of the 2 channels"),
        (lambda: ops.dropout(X, 1.0, np.random.default_rng()), r"rate is 1.0; it takes 0 <= rate < 1"),
        (lambda: ops.concat_skip(X[:, :2], X), r"skip is \(1, 2, 5, 2\); it takes 1 images of at least 5 x 5"),
        (lambda: ops.conv2d_backward(X, ops.conv2d(X, W, B)[1]), r"dy is a float64 array \(1, 5, 5, 2\).*\(1, 3, 3, 4\)"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((3, 3), 1, 1), ((3, 3), 1, 0), ((2, 2), 2, 0), ((1, 1), 1, 0), ((1, 1), 2, 0), ((1, 1), 3, 0), ((2, 2), 3, 0),
        ((3, 3), 2, 1), ((3, 3), 2, 0), ((1, 3), (1, 2), (0, 1)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_gradients_are_exact_adjoints_in_the_geometries_of_a_unet(backend, name, kernel, stride, padding):
    """y is linear in x and in w. As many channels in as out: a weight that was not turned would fit, too."""
    op, backward = getattr(ops, name), getattr(ops, f"{name}_backward")
    rng = np.random.default_rng(0)
    x, w = (strategies.integers(rng, shape) for shape in ((2, 7, 8, 3), (*kernel, 3, 3)))
    other_x, other_w = (strategies.integers(rng, a.shape) for a in (x, w))
    y, cache = op(x, w, np.zeros(3), stride=stride, padding=padding)
    dy = strategies.integers(rng, y.shape)
    dx, dw, db = backward(dy, cache)
    assert (dx * other_x).sum() == (dy * op(other_x, w, stride=stride, padding=padding)[0]).sum()
    assert (dw * other_w).sum() == (dy * op(x, other_w, stride=stride, padding=padding)[0]).sum()
    np.testing.assert_array_equal(db, dy.sum(axis=(0, 1, 2)))


@pytest.mark.parametrize("extra", [(2, 0), (0, 3), (3, 3), 2])
def test_as_much_output_padding_as_a_stride_would_name_another_size(extra):
    x, w = np.ones((1, 4, 4, 2)), np.ones((2, 2, 3, 2))
    assert ops.conv_transpose2d(x, w, stride=(2, 3), output_padding=(1, 2))[0].shape == (1, 9, 13, 3)
    with pytest.raises(ValueError, match=r"output_padding is \(\d, \d\); it takes less than the stride \(2, 3\)"):
        ops.conv_transpose2d(x, w, stride=(2, 3), output_padding=extra)


@pytest.mark.parametrize("shape", [(1, 0, 4, 2), (1, 4, 0, 2), (1, 4, 4, 0)])
def test_of_no_numbers_there_is_no_mean(backend, shape):
    per_channel = np.ones(shape[3], np.float32)
    with pytest.raises(ValueError, match="one pixel and channel at least"):
        ops.group_norm(np.ones(shape, np.float32), per_channel, per_channel, groups=1)
    y, _ = ops.group_norm(np.ones((0, 4, 4, 2), np.float32), np.ones(2, np.float32), np.ones(2, np.float32), groups=1)
    assert y.shape == (0, 4, 4, 2)  # a batch of none has nothing to be averaged


def test_group_norm_adds_a_hundred_thousandth_to_a_variance_unless_told_otherwise(backend):
    x = np.array([1.0, 1.004]).reshape(1, 1, 1, 2)
    y, _ = ops.group_norm(x, np.ones(2), np.zeros(2), groups=1)
    np.testing.assert_allclose(y.ravel(), np.array([-0.002, 0.002]) / (0.002**2 + 1e-5) ** 0.5, rtol=1e-10)
