"""The border weight map against the paper's formula over all objects, one by one; and what training does with it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import seeds
from scipy import ndimage

import minunet
from minunet import UNet, border_weight_map, losses
from minunet.data import border
from minunet.data.border import weighed
from minunet.data.sampling import Example

CUT = np.exp(-8)  # of w0: what lies further than 4 sigma from two objects together has no more


def by_formula(objects, w0, sigma):
    """Equation 2's term over all objects, numbered from 1; (H, W)."""
    distances = [ndimage.distance_transform_edt(objects != i) for i in np.unique(objects[objects > 0])]
    if len(distances) < 2:
        return np.zeros(objects.shape)
    d1, d2 = np.sort(distances, axis=0)[:2]
    return np.where(objects == 0, w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2)), 0)


def drawn(rng):
    """A few discs of up to 9 pixels, which may touch, cover one another, or be cut in two; (H, W)."""
    h, w = rng.integers(1, 32, 2)
    objects, (rows, cols) = np.zeros((h, w), int), np.ogrid[:h, :w]
    for i in range(rng.integers(0, 8)):
        inside = (rows - rng.integers(h)) ** 2 + (cols - rng.integers(w)) ** 2 < rng.uniform(0.5, 5) ** 2
        objects[inside] = i + 1
    return objects


@given(seed=seeds)
def test_the_border_map_is_the_formulas(seed):
    """However many rows are looked at at a time."""
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(border, "ROWS", int(rng.choice([1, 3, 10, 512])))
        compare(rng)


def compare(rng):
    objects, w0, sigma = drawn(rng), rng.uniform(0.1, 12), rng.uniform(0.3, 8)
    found, expected = border_weight_map(objects, w0=w0, sigma=sigma, instances=True), by_formula(objects, w0, sigma)
    assert (found.dtype, found.shape) == (np.float32, objects.shape)
    near = expected > w0 * CUT * (1 + 1e-5)
    np.testing.assert_allclose(found[near], expected[near], rtol=1e-5)
    np.testing.assert_array_equal(found[expected < w0 * CUT * (1 - 1e-5)], 0)


@settings(max_examples=15)
@given(seed=seeds, how=st.sampled_from(["turned", "flipped", "renumbered", "moved"]))
def test_the_border_map_turns_with_the_mask_and_knows_no_numbers(seed, how):
    rng = np.random.default_rng(seed)
    objects = drawn(rng)
    found = border_weight_map(objects)
    if how == "renumbered":
        others = rng.permutation(np.arange(1, 9))[objects - 1] * (objects > 0) + 3
        np.testing.assert_array_equal(border_weight_map(others) if (others == 3).any() else found, found)
        return
    moved = {"turned": np.rot90, "flipped": np.fliplr, "moved": lambda a: np.pad(a, ((3, 1), (0, 5)))[3:-1, :-5]}[how]
    np.testing.assert_allclose(border_weight_map(moved(objects)), moved(found), rtol=1e-6)


def test_objects_are_what_is_connected_by_sides_of_one_class_unless_values_are_objects():
    """1 0 1 / 0 1 0: three objects by sides, and one instance; a class beside another is an object beside another."""
    mask = np.array([[1, 0, 1], [0, 1, 0]])
    numbered = np.array([[1, 0, 2], [0, 3, 0]])
    np.testing.assert_allclose(border_weight_map(mask), by_formula(numbered, 10, 5), rtol=1e-6)
    np.testing.assert_array_equal(border_weight_map(mask, instances=True), 0)
    four = np.array([[4, 0, 4, 0, 9, 0, 9]])
    np.testing.assert_allclose(border_weight_map(four), by_formula(np.array([[1, 0, 2, 0, 3, 0, 4]]), 10, 5), rtol=1e-6)
    two = np.array([[7, 7, 9, 9, 5, 5]])
    np.testing.assert_allclose(border_weight_map(two), by_formula(np.array([[1, 1, 2, 2, 0, 0]]), 10, 5), rtol=1e-6)
    assert border_weight_map(two)[0, 4] == pytest.approx(10 * np.exp(-((1 + 3) ** 2) / 50))
    assert border_weight_map(two, instances=True)[0].tolist() == [0] * 6  # there 0 is the background, and there is none


def test_the_gap_between_two_cells_has_the_papers_weight():
    """A gap of one pixel: d1 = d2 = 1, and 10 exp(-4 / 50); inside objects, and where there is but one, nothing."""
    mask = np.zeros((9, 11), bool)
    mask[:, :5] = mask[:, 6:] = True
    found = border_weight_map(mask)
    np.testing.assert_allclose(found[:, 5], 10 * np.exp(-4 / 50), rtol=1e-6)
    assert not found[mask].any()
    for lonely in (mask * 0, mask * 0 + 1, np.arange(11) < 5):
        assert not border_weight_map(np.broadcast_to(lonely, mask.shape)).any()


def test_the_border_map_has_the_form_of_the_mask_and_one_background_for_all():
    masks = np.zeros((2, 6, 8), np.uint8)
    masks[:, :, 3:5] = 255
    masks[1] = 100  # an image without background has no gaps
    masks[1, :, [0, 2]] = 255
    masks[0, :, 0] = 255
    before = masks.copy()
    found = border_weight_map(masks)
    assert found.shape == masks.shape and found[0].any() and not found[1].any()
    np.testing.assert_array_equal(found[0], border_weight_map(masks[0]))
    listed = border_weight_map([masks[0], masks[1, :4].astype(float)])
    assert [a.shape for a in listed] == [(6, 8), (4, 8)] and not listed[1].any()
    np.testing.assert_array_equal(masks, before)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: border_weight_map(np.zeros(3)), r"mask is of shape \(3,\); it takes H x W, N x H x W or a list"),
        (lambda: border_weight_map(np.zeros((0, 4))), r"mask is of shape \(0, 4\)"),
        (lambda: border_weight_map([]), "mask is without masks; it takes"),
        (lambda: border_weight_map([np.zeros((2, 2)), np.full((2, 2), 0.5)]), r"mask\[1\] is of dtype float64, not all whole"),
        (lambda: border_weight_map(np.full((2, 2), np.nan)), "mask is of dtype float64, not all whole"),
        (lambda: border_weight_map(np.eye(3), sigma=0), r"w0 and sigma are \(10.0, 0\); they take a pair of numbers"),
        (lambda: border_weight_map(np.eye(3), w0=-1), r"w0 and sigma are \(-1, 5.0\)"),
        (lambda: border_weight_map(np.eye(3), w0=float("nan")), r"w0 and sigma are \(nan, 5.0\)"),
        (lambda: border_weight_map(np.eye(3), instances="yes"), "instances is 'yes'; it takes True or False"),
    ],
)  # fmt: skip
def test_what_no_border_map_is_made_of_is_refused(call, says):
    with pytest.raises(ValueError, match=f"^{says}"):
        call()


# ---- In training ----

TINY = {
    "base_channels": 2, "depth": 1, "patch_size": 16, "batch_size": 1, "max_epochs": 1, "verbose": 0, "random_state": 0,
    "algorithm": "direct", "device": "cpu",
}  # fmt: skip


@pytest.fixture
def cells():
    """Two images of three cells, whose gaps are 1 and 2 pixels wide, and weights, 0 in a corner."""
    y = np.zeros((2, 24, 24), np.uint8)
    y[:, 2:22, 2:8] = y[:, 2:22, 9:14] = y[:, 2:22, 16:22] = 200
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.5, 2, y.shape)
    weight[0, :4, :4] = 0
    return y / 200 + rng.normal(0, 0.2, y.shape), y, weight


@pytest.mark.parametrize("class_weight", [None, {0: 0.5, 200: 3.0}])
def test_a_pixels_weight_is_its_class_weight_and_the_border_term_times_its_own(cells, class_weight):
    """Equation 2: w_c + w0 exp(...). So a training by border_weight is one by those weights, given as sample_weight."""
    x, y, weight = cells
    of_class = np.ones(y.shape) if class_weight is None else np.where(y > 0, 3.0, 0.5)
    term = border_weight_map(np.where(weight > 0, y, 0), w0=4, sigma=3)
    by_hand = weight * (of_class + term)
    one = UNet(**TINY, border_weight=(4, 3), class_weight=class_weight).fit(x, y, sample_weight=weight)
    two = UNet(**TINY).fit(x, y, sample_weight=by_hand)
    np.testing.assert_allclose(one.network_.flat, two.network_.flat, atol=2e-6)
    for name in ("loss", "val_loss", "val_dice"):  # what is held out is judged by the same loss
        assert one.history_[name] == pytest.approx(two.history_[name], rel=1e-5)
    other = UNet(**TINY, class_weight=class_weight).fit(x, y, sample_weight=weight)
    assert abs(other.history_["val_loss"][0] - one.history_["val_loss"][0]) > 1e-3


def test_true_is_the_papers_and_validation_data_has_borders_of_its_own(cells):
    x, y, _ = cells
    one = UNet(**TINY, border_weight=True).fit(x, y, validation_data=(x[:1], y[:1]))
    two = UNet(**TINY, border_weight=[10, 5]).fit(x, y, validation_data=(x[:1], y[:1]))
    assert one.history_["val_loss"] == two.history_["val_loss"]
    np.testing.assert_array_equal(one.network_.flat, two.network_.flat)
    p = one.predict_proba(x[0])
    of_truth, w = np.where(y[0] > 0, p[..., 1], p[..., 0]), 1 + border_weight_map(y[0])
    assert one.history_["val_loss"][-1] == pytest.approx((w * -np.log(of_truth)).sum() / w.sum(), rel=1e-5)


def test_a_class_without_weight_keeps_none_and_where_nothing_counts_there_is_no_object():
    label = np.array([[1, 1, 0, 1, 1, 0, 1]], np.int32)
    example = Example(np.zeros((1, 7, 1)), label, np.array([[1, 1, 2, 1, 1, 1, 0]], np.float32))
    found = weighed(example, (10, 5), np.array([4.0, 2.0])).weight
    gap = 10 * np.exp(-4 / 50)
    np.testing.assert_allclose(found, [[1, 1, 2 * (1 + gap / 4), 1, 1, 1 + 10 * np.exp(-((1 + 4) ** 2) / 50) / 4, 0]], rtol=1e-6)
    np.testing.assert_array_equal(weighed(example, (10, 5), np.array([0.0, 1.0])).weight, example.weight)


def test_what_lies_beyond_the_cut_of_what_is_held_out_is_an_object_too():
    """The strip that is held out of one image ends in the gap: its border term is that of the whole image."""
    y = np.zeros((20, 40), np.uint8)
    y[:, :35] = y[:, 37:] = 1
    x = y + np.random.default_rng(0).normal(0, 0.1, y.shape)
    unet = UNet(**TINY | {"validation_fraction": 0.1}, border_weight=True).fit(x, y)
    (part,) = unet.held_out_
    of_truth = np.take_along_axis(unet.predict_proba(x), y[..., None].astype(int), axis=-1)[..., 0]
    w = (1 + border_weight_map(y))[part.rows, part.cols]
    expected = (w * -np.log(of_truth[part.rows, part.cols])).sum() / w.sum()
    assert unet.history_["val_loss"][-1] == pytest.approx(expected, rel=0.05)  # the strip is predicted without what is around it


@pytest.mark.parametrize("value", [False, 5, "10,5", (10,), (10, 0), (-1, 5), (float("nan"), 5), (10, float("inf")), {}])
def test_border_weights_that_cannot_be_meant_are_named(cells, value):
    says = r"^border_weight is .*; it takes None, True for the paper's \(10, 5\), or a pair .*\(--border-weight 10,5\)$"
    with pytest.raises(ValueError, match=says):
        UNet(**TINY, border_weight=value).fit(*cells[:2])


@pytest.mark.parametrize(("given_weight", "kept"), [(True, True), (np.array([4, 3]), (4.0, 3.0)), (None, None)])
def test_the_border_weight_is_kept_in_the_file(cells, tmp_path, given_weight, kept):
    unet = UNet(**TINY, border_weight=given_weight).fit(*cells[:2])
    unet.save(tmp_path / "m")
    loaded = minunet.load(tmp_path / "m")
    assert loaded.border_weight == kept and type(loaded.border_weight) is type(kept)
    np.testing.assert_array_equal(loaded.set_params(device="cpu").fit(*cells[:2]).network_.flat, unet.network_.flat)


def test_a_loss_held_out_has_the_classes_weights(cells):
    x, y, _ = cells
    for name in ("cross_entropy", "dice"):
        unet = UNet(**TINY, class_weight={0: 1, 200: 5}, loss=name).fit(x, y, validation_data=(x, y))
        p, labels = unet.predict_proba(x), (y > 0).astype(int)
        target = losses.Target(labels, np.where(labels, 5.0, 1.0))
        expected, _ = losses.resolve(name).value_and_grad(np.log(p).astype(np.float64), target)
        assert unet.history_["val_loss"][-1] == pytest.approx(float(expected), rel=1e-5)
