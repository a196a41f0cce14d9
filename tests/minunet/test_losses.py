"""The loss at its edges, and what it refuses. (Its formula, gradient and weights are proven in proof/.)"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import seeds

import minunet
from minunet import UNet, losses
from minunet.layers import Conv2d
from minunet.losses import CrossEntropy, Dice, Focal, Tversky, softmax
from minunet.losses import softmax_cross_entropy as cross_entropy
from minunet.training import step

SHAPE = (2, 3, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_ignored_is_a_loss_of_zero_with_no_gradient(backend, dtype):
    z = np.random.default_rng(0).normal(size=(*SHAPE, 2)).astype(dtype)
    ignored = cross_entropy(z, np.full(SHAPE, 255, np.uint8), ignore_index=255)
    for loss, dz in (ignored, cross_entropy(z, np.zeros(SHAPE, int), weights=np.zeros(SHAPE))):
        assert loss == 0
        assert loss.shape == ()
        assert loss.dtype == dz.dtype == dtype
        np.testing.assert_array_equal(dz, np.zeros_like(z))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits_neither_overflow_nor_vanish(backend, dtype):
    z = np.array([[[[1e30, -1e30], [-1e30, 1e30], [88.0, 800.0]]]], dtype)
    loss, dz = cross_entropy(z, np.array([[[0, 1, 1]]]))
    assert loss == 0
    np.testing.assert_allclose(dz, 0, atol=1e-30)
    loss, dz = cross_entropy(z[:, :, :1], np.array([[[1]]]))
    assert loss == pytest.approx(2e30)
    np.testing.assert_array_equal(dz, [[[[1, -1]]]])


def test_nan_in_a_counted_pixel_is_not_swallowed(backend):
    z = np.zeros((1, 1, 2, 2))
    z[0, 0, 0, 1] = np.nan
    assert np.isnan(cross_entropy(z, np.zeros((1, 1, 2), int))[0])
    assert cross_entropy(z, np.array([[[9, 0]]]), ignore_index=9)[0] == pytest.approx(np.log(2))


def test_softmax_is_a_distribution_however_large_the_logits():
    p = softmax(np.array([[1000.0, 1000.0, -1000.0], [0.0, np.log(3), -np.inf]]))
    np.testing.assert_allclose(p, [[0.5, 0.5, 0], [0.25, 0.75, 0]], rtol=1e-15)


Z, LABELS = np.zeros((*SHAPE, 3)), np.zeros(SHAPE, int)


def with_label(value):
    labels = LABELS.copy()
    labels[1, 2, 3] = value
    return labels


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: cross_entropy(Z, with_label(3)), r"labels\[1, 2, 3\] is 3; with 3 logits a pixel it takes 0 to 2"),
        (lambda: cross_entropy(Z, with_label(-1)), r"labels\[1, 2, 3\] is -1"),
        (lambda: cross_entropy(Z, with_label(255), ignore_index=254), r"labels\[1, 2, 3\] is 255; .*ignore_index"),
        (lambda: cross_entropy(Z, LABELS[:1]), r"labels has shape \(1, 3, 4\); .* it takes \(2, 3, 4\)"),
        (lambda: cross_entropy(Z, Z), r"labels has shape"),
        (lambda: cross_entropy(Z[0], LABELS[0]), r"logits is an array of shape \(3, 4, 3\)"),
        (lambda: cross_entropy(Z, LABELS.astype(float)), r"labels is of dtype float64; it takes whole numbers"),
        (lambda: cross_entropy(Z.astype(int), LABELS), r"logits is of dtype int64; it takes float32 or float64"),
        (lambda: cross_entropy(Z, LABELS, weights=np.ones((3, 4))), r"weights has shape \(3, 4\); it takes \(2, 3, 4\)"),
        (lambda: cross_entropy(Z, LABELS, weights=np.full(SHAPE, -1.0)), r"weights holds negative or non-finite values"),
        (lambda: cross_entropy(Z, LABELS, weights=np.full(SHAPE, np.nan)), r"weights holds negative or non-finite"),
        (lambda: cross_entropy(Z, LABELS, class_weight=[1, 2]), r"class_weight has shape \(2,\); it takes \(3,\)"),
        (lambda: cross_entropy(Z, LABELS, class_weight=[1, 2, np.inf]), r"class_weight holds negative or non-finite"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def drawn(seed, k=3, shape=SHAPE):
    """Return logits, and a target with pixels of weight 0 whose labels are none."""
    rng = np.random.default_rng(seed)
    labels, weights = rng.integers(0, k, shape), rng.random(shape) * (rng.random(shape) < 0.8)
    weights.flat[0] = 1
    labels[weights == 0] = 255
    return rng.normal(0, 2, (*shape, k)), losses.Target(labels, weights)


def soft_dice(z, target, smooth):
    """1 - the mean of the classes' Dice coefficients, class by class and pixel by pixel: of complex numbers, too."""
    p = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    total = 0
    for k in range(z.shape[-1]):
        overlap = both = smooth
        for index in np.ndindex(*z.shape[:3]):
            w, t = target.weights[index], float(target.labels[index] == k)
            if w:
                overlap, both = overlap + 2 * w * p[(*index, k)] * t, both + w * p[(*index, k)] + w * t
        total += overlap / both
    return 1 - total / z.shape[-1]


@given(seed=seeds, k=st.integers(1, 4), smooth=st.sampled_from([0.5, 1.0, 7.0]))
def test_dice_and_its_gradient_are_those_of_the_formula_by_a_complex_step(backend, seed, k, smooth):
    z, target = drawn(seed, k)
    value, dz = Dice(smooth).value_and_grad(z, target)
    assert value == pytest.approx(soft_dice(z, target, smooth), rel=1e-12)
    for index in [(0, 0, 0, 0), (1, 2, 3, k - 1), (0, 1, 2, k // 2)]:
        moved = z.astype(complex)
        moved[index] += 1e-30j
        assert dz[index] == pytest.approx(soft_dice(moved, target, smooth).imag / 1e-30, rel=1e-9, abs=1e-14)


def test_dice_knows_perfect_and_wrong_and_takes_no_part_where_there_is_no_weight(backend):
    labels = np.array([[[0, 1, 1, 0]]])
    right = np.where(labels[..., None] == np.arange(2), 50.0, -50.0)
    ones = losses.Target(labels, np.ones(labels.shape))
    assert Dice().value_and_grad(right, ones)[0] == pytest.approx(0, abs=1e-12)
    assert Dice(1e-9).value_and_grad(-right, ones)[0] == pytest.approx(1)
    right[0, 0, 3] = np.nan
    value, dz = Dice().value_and_grad(right, losses.Target(labels, np.array([[[1.0, 1, 1, 0]]])))
    assert value == pytest.approx(0, abs=1e-12)
    assert (dz[0, 0, 3] == 0).all()


def test_focal_hardly_looks_at_what_is_right_already(backend):
    """The classes' probabilities are 0.9 and 0.1 at one pixel: by Lin et al. (2017), its loss falls by (1 - q)^2."""
    z, weights = np.log([[[[0.9, 0.1]]]]), np.ones((1, 1, 1))
    for label, q in ((0, 0.9), (1, 0.1)):
        value, _ = Focal().value_and_grad(z, losses.Target(np.full((1, 1, 1), label), weights))
        assert value == pytest.approx((1 - q) ** 2 * -np.log(q), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
def test_focal_stays_finite_and_keeps_its_digits_at_the_ends(backend, gamma, dtype):
    """Where 1 - q is 1e-9, the gradient is (1 + gamma) (1 - q)^(1 + gamma); where q is 0, the loss is the logits' distance."""
    def at(*z):
        return Focal(gamma).value_and_grad(np.array([[[z]]], dtype), losses.Target(np.zeros((1, 1, 1), int), np.ones((1, 1, 1))))

    assert at(1e30, -1e30)[0] == at(800, 0)[0] == 0
    np.testing.assert_array_equal(at(1e30, -1e30)[1], 0)
    value, dz = at(20, 0)
    r = np.exp(-20.0) / (1 + np.exp(-20.0))
    np.testing.assert_allclose(dz.ravel(), np.array([-1, 1]) * (1 + gamma) * r ** (1 + gamma), rtol=1e-5)
    assert value == pytest.approx(r ** (1 + gamma), rel=1e-5)
    value, dz = at(-500, 500)
    assert value == pytest.approx(1000)
    np.testing.assert_allclose(dz.ravel(), [-1, 1], rtol=1e-6)


def test_beta_is_what_missing_a_class_costs_and_alpha_what_inventing_it_does(backend):
    """Of four pixels, two of class 1: one of them missed gives TP 1, FN 1; a third one invented TP 2, FP 1."""
    labels = np.array([[[1, 1, 0, 0]]])

    def index(given, alpha, beta):
        z = np.where(np.array(given)[None, None, :, None] == np.arange(2), 50.0, -50.0)
        return 1 - Tversky(alpha, beta, 0).value_and_grad(z, losses.Target(labels, np.ones(labels.shape)))[0]

    assert index([1, 0, 0, 0], 0.3, 0.7) == pytest.approx(np.mean([1 / (1 + 0.7), 2 / (2 + 0.3)]))  # class 1, class 0
    assert index([1, 1, 1, 0], 0.3, 0.7) == pytest.approx(np.mean([2 / (2 + 0.3), 1 / (1 + 0.7)]))
    assert index([1, 1, 1, 1], 0, 1) == pytest.approx(np.mean([1, 0]))
    assert index([1, 1, 0, 0], 0.3, 0.7) == pytest.approx(1)


@pytest.mark.parametrize("loss", [Focal(), Tversky(), CrossEntropy() + Tversky()])
def test_where_nothing_has_weight_there_is_no_gradient(backend, loss):
    z = np.random.default_rng(0).normal(size=(*SHAPE, 2))
    value, dz = loss.value_and_grad(z, losses.Target(np.full(SHAPE, 255), np.zeros(SHAPE)))
    assert value == 0
    np.testing.assert_array_equal(dz, 0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Focal(-1), "gamma is -1; it takes a number from 0 up"), (lambda: Focal("2"), "gamma is 2; it takes a number"),
        (lambda: Tversky(alpha=-0.1), "alpha is -0.1; it takes"), (lambda: Tversky(beta=float("nan")), "beta is nan; it takes"),
        (lambda: Tversky(smooth=None), "smooth is None; it takes"), (lambda: Dice(-1), "smooth is -1; it takes"),
    ],
)  # fmt: skip
def test_settings_of_losses_that_cannot_be_meant_are_named(make, says):
    with pytest.raises(ValueError, match=f"^{says}"):
        make()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", losses.LOSSES)
def test_values_and_gradients_have_the_logits_dtype_and_the_head_is_the_same_one_by_one(backend, name, dtype):
    loss, rng = losses.resolve(name), np.random.default_rng(0)
    head = Conv2d(4, 3, 1, rng=rng, dtype=dtype)
    x, (_, target) = rng.standard_normal((*SHAPE, 4)).astype(dtype), drawn(1)
    target = losses.Target(np.where(target.weights > 0, target.labels, 0), target.weights.astype(dtype))
    value, dx, grads = loss.through(head, x, target)
    logits, cache = head.forward(x)
    expected, dlogits = loss.value_and_grad(logits, target)
    assert (value.shape, dlogits.shape, dlogits.dtype) == ((), logits.shape, dtype)
    assert np.asarray(value).dtype == dtype
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    expected_dx, expected_grads = head.backward(dlogits, cache)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-5, atol=1e-7)
    assert grads.keys() == expected_grads.keys() == {"weight", "bias"}


@pytest.mark.parametrize("name", losses.LOSSES)
def test_counts_add_up_over_images_to_the_loss_of_all(name):
    loss, (z, target) = losses.resolve(name), drawn(3, 2, (4, 3, 5))
    target = losses.Target(np.where(target.weights > 0, target.labels, 0), target.weights)
    counts = 0.0
    for n in (slice(0, 1), slice(1, 3), slice(3, 4)):
        counts = counts + loss.counts(softmax(z[n]), losses.Target(target.labels[n], target.weights[n]))
    assert loss.of_counts(counts) == pytest.approx(float(loss.value_and_grad(z, target)[0]), rel=1e-12)


def test_losses_add_and_have_names():
    z, target = drawn(5)
    target = losses.Target(np.where(target.weights > 0, target.labels, 0), target.weights)
    (a, da), (b, db) = (loss.value_and_grad(z, target) for loss in (CrossEntropy(), Dice(2.0)))
    both = CrossEntropy() + Dice(2.0)
    value, dz = both.value_and_grad(z, target)
    assert value == a + b
    np.testing.assert_array_equal(dz, da + db)
    assert (both.name, repr(both)) == ("cross_entropy+dice", "CrossEntropy() + Dice(smooth=2.0)")
    assert list(losses.LOSSES) == ["cross_entropy", "dice", "cross_entropy+dice", "focal", "tversky"]
    says = r"loss is 'hinge'; it takes 'cross_entropy' or 'dice' or 'cross_entropy\+dice' or 'focal' or 'tversky', or a"
    with pytest.raises(ValueError, match=says):
        losses.resolve("hinge")


class Squares(losses.Loss):
    """The mean of squared logits; `wrong` changes the gradient's shape or type."""

    def __init__(self, wrong=lambda dz: dz):
        self.wrong = wrong

    def value_and_grad(self, logits, target):
        return (logits**2).mean(), (self.wrong or np.asarray)(2 * logits / logits.size)


def test_a_loss_of_ones_own_trains_and_reports_what_it_counts():
    x, y = minunet.datasets.cells(3, 32)
    small = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 2, "verbose": 0}
    settings = {**small, "device": "cpu", "random_state": 0}
    unet = UNet(loss=Squares(), **settings).fit(x, y)
    assert unet.history_["loss"][-1] < unet.history_["loss"][0]
    assert "val_loss" not in unet.history_ and len(unet.history_["val_dice"]) == 2
    for name in losses.LOSSES:
        curves = UNet(loss=name, **settings).fit(x, y).history_
        assert curves["loss"][-1] < curves["loss"][0]
        assert np.isfinite(curves["val_loss"]).all()


def test_the_name_of_the_loss_is_kept_in_the_file(tmp_path):
    x, y = minunet.datasets.cells(2, 64)
    names = [
        ("dice", "dice"), (Dice(np.float64(1)), "dice"), (Dice(3), "Dice(smooth=3.0)"), (Squares(None), "Squares(wrong=None)"),
        (Focal(2), "focal"), (Focal(1), "Focal(gamma=1.0)"), (Tversky(), "tversky"),
        (Tversky(0.2, 0.8), "Tversky(alpha=0.2, beta=0.8, smooth=1.0)"),
    ]  # fmt: skip
    for loss, name in names:
        unet = UNet(base_channels=2, depth=0, patch_size=32, max_epochs=1, verbose=0, device="cpu", loss=loss).fit(x, y)
        unet.save(tmp_path / "m")
        loaded = minunet.load(tmp_path / "m")
        assert loaded.loss == name
        if name not in losses.LOSSES:
            with pytest.raises(ValueError, match=r"loss is .*; it takes"):
                loaded.fit(x, y)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda dz: dz[..., :1], r"a float32 array \(1, 8, 8, 1\)"),
        (lambda dz: dz.astype(float), "a float64 array"),
        (lambda dz: 1.0, r"a \? array \?"),
    ],
)
def test_a_gradient_that_is_not_the_logits_is_named(wrong, says):
    network = minunet.Network(1, 2, 2, 1)
    before = network.flat.copy()
    with pytest.raises(ValueError, match=rf"the gradient of Squares is {says}.*; it takes that of the logits: float32"):
        step(network, minunet.optim.Adam(), np.ones((1, 8, 8, 1), np.float32), np.zeros((1, 8, 8), int), loss=Squares(wrong))
    np.testing.assert_array_equal(network.flat, before)
