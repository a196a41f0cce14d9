"""The losses against their own formulas, differentiated by a complex step; and what their weights and labels mean."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import assert_same
from proof.counting import count
from proof.optable import drawn_dtype, each_backend, over_seeds

from minunet import kernels
from minunet.kernels import composed
from minunet.losses import LOSSES, CrossEntropy, Dice, Focal, Target, Tversky
from minunet.losses import softmax_cross_entropy as cross_entropy
from minunet.testing.strategies import LAYOUTS


def formula(z, labels, w):
    """sum(w l) / sum(w), for complex z too, in loops over pixels."""
    total = 0
    for pixel in np.ndindex(*labels.shape):
        if w[pixel]:
            shifted = z[pixel] - z[pixel].real.max()
            total += w[pixel] * (np.log(np.exp(shifted).sum()) - shifted[labels[pixel]])
    return total / w.sum()


def complex_step(z, labels, w):
    """The derivative of the formula by each element of z: a difference with nothing to cancel, so a step of 1e-100."""
    dz = np.zeros(z.shape)
    for index in np.ndindex(*z.shape):
        turned = z.astype(complex)
        turned[index] += 1e-100j
        dz[index] = formula(turned, labels, w).imag / 1e-100
    return dz


def problem(seed, dtype=np.float64, scale=3):
    """Return logits, labels and weights (0 among them, but not all), and the generator for more."""
    rng = np.random.default_rng(seed)
    shape, k = tuple(rng.integers(1, 4, 3)), int(rng.integers(1, 5))
    weights = rng.choice([0.0, 0.5, 1.0, 3.0], shape).astype(dtype)
    weights[0, 0, 0] = 1
    return rng.normal(0, scale, (*shape, k)).astype(dtype), rng.integers(0, k, shape), weights, rng


@each_backend
def test_loss_and_gradient_are_those_of_the_formula(row):
    @over_seeds(times=3)
    def prove(seed):
        z, labels, drawn, rng = problem(seed, scale=[1, 30][seed % 2])
        k = z.shape[3]
        ignore = [None, 0, 255][seed % 3]
        if ignore == 255:
            labels[rng.random(labels.shape) < 0.3] = 255
        weights = drawn if rng.integers(2) else None
        class_weight = rng.uniform(0.1, 4, k) if rng.integers(2) else None
        loss, dz = cross_entropy(z, labels, class_weight=class_weight, weights=weights, ignore_index=ignore)
        w = np.where(labels == ignore, 0, np.ones(labels.shape) if weights is None else weights)
        if class_weight is not None:
            w = w * class_weight[np.where(w > 0, labels, 0)]
        if w.sum() == 0:
            assert loss == 0
            assert (dz == 0).all()
            return
        assert float(loss) == pytest.approx(formula(z, labels, w), rel=1e-12, abs=1e-13)
        np.testing.assert_allclose(dz, complex_step(z, labels, w), rtol=0, atol=1e-13)
        np.testing.assert_allclose(dz.sum(axis=-1), 0, atol=1e-15)
        count("jacobian", "softmax_cross_entropy", row)


@each_backend
def test_a_weight_of_two_is_the_pixel_twice(row):
    @over_seeds()
    def prove(seed):
        z, labels, _, rng = problem(seed)
        weights = rng.integers(0, 3, labels.shape)
        weights[0, 0, 0] = 2
        loss, dz = cross_entropy(z, labels, weights=weights)
        repeated, k = np.repeat(np.arange(labels.size), weights.ravel()), z.shape[3]
        twice, dtwice = cross_entropy(z.reshape(-1, k)[repeated][None, None], labels.ravel()[repeated][None, None])
        assert float(loss) == pytest.approx(float(twice), rel=1e-13, abs=1e-15)
        summed = np.zeros((labels.size, k))
        np.add.at(summed, repeated, dtwice[0, 0])
        np.testing.assert_allclose(dz.reshape(-1, k), summed, rtol=0, atol=1e-15)


@each_backend
def test_only_ratios_of_weights_and_differences_of_logits_count(row):
    """The gradient exactly so, where the factor is a power of 2 and the logits are whole numbers."""

    @over_seeds(times=3)
    def prove(seed):
        z, labels, weights, rng = problem(seed, drawn_dtype(np.random.default_rng(seed)))
        z, moved = np.round(z), rng.integers(-99, 99, (*labels.shape, 1)).astype(z.dtype)
        loss, dz = cross_entropy(z, labels, weights=weights)
        shifted, dshifted = cross_entropy(z + moved, labels, weights=rng.choice([0.125, 4.0]) * weights)
        assert_same(dshifted, dz)
        assert_same(shifted, loss)
        count("exact", "softmax_cross_entropy", row)


@each_backend
def test_ignoring_a_pixel_is_giving_it_no_weight(row):
    @over_seeds(times=3)
    def prove(seed):
        z, labels, weights, rng = problem(seed, drawn_dtype(np.random.default_rng(seed)))
        gone = (rng.random(labels.shape) < 0.4) & (weights != weights[0, 0, 0])
        loss, dz = cross_entropy(z, labels, weights=np.where(gone, 0, weights))
        garbled = z.copy()
        garbled[gone] = np.nan
        ignored, dignored = cross_entropy(garbled, np.where(gone, 255, labels), weights=weights, ignore_index=255)
        assert_same(ignored, loss)
        assert_same(dignored, dz)
        np.testing.assert_array_equal(dz[gone], 0)
        count("exact", "softmax_cross_entropy", row)


@each_backend
def test_the_gradient_of_a_pixel_does_not_depend_on_where_it_lies(row):
    @over_seeds(times=2)
    def prove(seed):
        z, labels, weights, rng = problem(seed, drawn_dtype(np.random.default_rng(seed)))
        order = rng.permutation(labels.size)
        _, dz = cross_entropy(z, labels, weights=weights)
        _, moved = cross_entropy(*(a.reshape(1, 1, labels.size, *a.shape[3:])[:, :, order] for a in (z, labels)),
                                 weights=weights.ravel()[order][None, None])  # fmt: skip
        assert_same(moved[0, 0], dz.reshape(labels.size, -1)[order])
        count("exact", "softmax_cross_entropy", row)


@each_backend
def test_any_layout_gives_the_same_and_is_left_as_it_was(row):
    @over_seeds(times=3)
    def prove(seed):
        z, labels, weights, rng = problem(seed, drawn_dtype(np.random.default_rng(seed)))
        labels = labels.astype(rng.choice([np.uint8, np.int64]))
        views = [LAYOUTS[rng.choice(list(LAYOUTS))](array) for array in (z, labels, weights)]
        copies = [view.copy(order="C") for view in views]
        for view in views:
            view.flags.writeable = False
        loss, dz = cross_entropy(*views[:2], weights=views[2])
        expected, dexpected = cross_entropy(*copies[:2], weights=copies[2])
        assert_same(loss, expected)
        assert_same(dz, dexpected)
        assert (loss.dtype, loss.shape, dz.dtype, type(dz)) == (z.dtype, (), z.dtype, np.ndarray)
        for view, copy in zip(views, copies, strict=True):
            assert_same(view, copy)
        count("exact", "softmax_cross_entropy", row)


@each_backend
def test_the_loss_of_a_head_and_its_gradients_are_those_of_the_formula(row):
    """By a complex step along a direction of x, w and b at once; a GPU fuses some of these channels, and others not."""

    @over_seeds(times=3)
    def prove(seed):
        _, _, weights, rng = problem(seed)
        c, k = rng.choice([2, 3, 16]), rng.choice([2, 3])
        labels = rng.integers(0, k, weights.shape)
        head, along = ([rng.standard_normal(s) for s in ((*weights.shape, c), (1, 1, c, k), (k,))] for _ in range(2))
        x, w, b = (a + 1e-100j * v for a, v in zip(head, along, strict=True))
        expected = formula(x @ w[0, 0] + b, labels, weights)
        loss, *gradients = kernels.run(composed.linear_cross_entropy, *head, labels, weights)
        slope = sum((gradient * v).sum() for gradient, v in zip(gradients, along, strict=True))
        assert float(loss) == pytest.approx(expected.real, rel=1e-12)
        assert slope == pytest.approx(expected.imag / 1e-100, rel=1e-12, abs=1e-13)
        assert [gradient.shape for gradient in gradients] == [a.shape for a in head]
        count("jacobian", "linear_cross_entropy", row)


# ---- The losses made of array code, in loops over pixels and classes, of complex numbers too ----


def probabilities(z, pixel):
    e = np.exp(z[pixel] - z[pixel].real.max())
    return e / e.sum()


def focal(z, labels, w, gamma):
    """sum(w (1 - q)^gamma (-log q)) / sum(w): Lin et al. 2017, equation 4. 1 - q is what the other classes have."""
    total = 0
    for pixel in np.ndindex(*labels.shape):
        if w[pixel]:
            p = probabilities(z, pixel)
            others = sum((p[k] for k in range(len(p)) if k != labels[pixel]), start=0 * p[0])
            total -= w[pixel] * others**gamma * np.log(p[labels[pixel]])
    return total / w.sum()


def tversky(z, labels, w, alpha, beta, smooth):
    """1 - the mean over classes of TP / (TP + alpha FP + beta FN), half of `smooth` added above and below: Salehi et al. 2017."""
    total = 0
    for k in range(z.shape[-1]):
        tp = fp = fn = 0
        for pixel in np.ndindex(*labels.shape):
            if w[pixel]:
                p = probabilities(z, pixel)[k]
                if labels[pixel] == k:
                    tp, fn = tp + w[pixel] * p, fn + w[pixel] * (1 - p)
                else:
                    fp = fp + w[pixel] * p
        total += (tp + smooth / 2) / (tp + alpha * fp + beta * fn + smooth / 2)
    return 1 - total / z.shape[-1]


def holds(loss, by_formula, row, seed, scale=2):
    """Hold a loss and the slope along a direction against the formula; pixels of weight 0 have no label, and no numbers."""
    z, labels, weights, rng = problem(seed, scale=scale)
    v = rng.standard_normal(z.shape)
    expected = by_formula(z + 1e-100j * v, labels, weights)
    z[weights == 0], labels[weights == 0] = np.nan, 255
    loss, dz = loss.value_and_grad(z, Target(labels, weights))
    assert float(loss) == pytest.approx(expected.real, rel=1e-12, abs=1e-15)
    np.testing.assert_allclose((dz * v).sum(), expected.imag / 1e-100, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(dz.sum(axis=-1), 0, atol=1e-15)
    np.testing.assert_array_equal(dz[weights == 0], 0)


@each_backend
def test_focal_loss_and_its_gradient_are_those_of_the_formula(row):
    @over_seeds()
    def prove(seed):
        gamma = [0, 0.5, 1, 2.0, 5.5][seed % 5]
        holds(Focal(gamma), lambda *given: focal(*given, gamma), row, seed, scale=[1, 8][seed % 2])


@each_backend
def test_tversky_and_its_gradient_are_those_of_the_formula(row):
    @over_seeds()
    def prove(seed):
        alpha, beta, smooth = np.random.default_rng(seed).uniform(0.1, 2, 3)
        holds(Tversky(alpha, beta, smooth), lambda *given: tversky(*given, alpha, beta, smooth), row, seed)


@each_backend
def test_focal_of_gamma_0_is_cross_entropy_and_tversky_of_halves_is_dice(row):
    @over_seeds()
    def prove(seed):
        z, labels, weights, rng = problem(seed)
        smooth = rng.uniform(0, 3)
        for one, other in ((Focal(0), CrossEntropy()), (Tversky(0.5, 0.5, smooth), Dice(smooth))):
            (a, da), (b, db) = (loss.value_and_grad(z, Target(labels, weights)) for loss in (one, other))
            assert float(a) == pytest.approx(float(b), rel=1e-13, abs=1e-15)
            np.testing.assert_allclose(da, db, rtol=0, atol=1e-15)


@each_backend
@pytest.mark.parametrize("name", LOSSES)
def test_in_every_loss_a_weight_of_two_is_the_pixel_twice(row, name):
    @over_seeds(times=0.3)
    def prove(seed):
        z, labels, _, rng = problem(seed)
        weights = rng.integers(0, 3, labels.shape).astype(float)
        weights[0, 0, 0] = 2
        loss, dz = LOSSES[name].value_and_grad(z, Target(labels, weights))
        repeated, k = np.repeat(np.arange(labels.size), weights.ravel().astype(int)), z.shape[3]
        again = Target(labels.ravel()[repeated][None, None], np.ones((1, 1, len(repeated))))
        twice, dtwice = LOSSES[name].value_and_grad(z.reshape(-1, k)[repeated][None, None], again)
        assert float(loss) == pytest.approx(float(twice), rel=1e-12, abs=1e-14)
        summed = np.zeros((labels.size, k))
        np.add.at(summed, repeated, dtwice[0, 0])
        np.testing.assert_allclose(dz.reshape(-1, k), summed, rtol=0, atol=1e-14)
