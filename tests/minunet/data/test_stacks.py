"""Slices seen with their neighbours: which those are, where a stack ends, and that they are of use."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet import UNet, load
from minunet.data import sliced
from minunet.data.normalize import Normalizer
from minunet.data.prepare import prepare
from minunet.data.stacks import slices_around
from minunet.evaluation.tiles import predict_proba

TINY = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1, "verbose": 0, "random_state": 0, "device": "cpu"}


def stack(n=5, h=20, w=24, channels=(), seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 250, (n, h, w, *channels)).astype(np.uint8)
    return x, (rng.random((n, h, w)) < 0.4).astype(np.uint8)


def prepared(x, y, **more):
    usual = {"sample_weight": None, "validation_data": None, "classes": None, "ignore_index": None, "normalize": "image"}
    return prepare(x, y, **usual | {"class_weight": None, "validation_fraction": 0, "random_state": 0, "context": 1} | more)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.integers(1, 4))
def test_neighbours_are_those_of_the_mirrored_stack(groups, context):
    images = [np.zeros((2, 2, 1))] * len(groups)
    found = slices_around(images, [""] * len(groups), context, groups)
    for label in set(groups):
        own = np.flatnonzero(np.array(groups) == label)
        mirrored = np.pad(own, context, mode="reflect" if len(own) > 1 else "edge")
        for place, number in enumerate(own):
            assert found[number] == mirrored[place : place + 2 * context + 1].tolist()
    assert slices_around(images, [""] * len(groups), 0, groups) == []


@pytest.mark.parametrize("channels", [(), (2,)])
def test_a_slice_is_seen_between_the_one_before_and_the_one_after(channels):
    x, y = stack(channels=channels)
    data = prepared(x, y)
    c = 2 if channels else 1
    scaled = [Normalizer()(image if channels else image[..., None]) for image in x]
    scaled = [scaled[1], *scaled, scaled[-2]]
    for i, example in enumerate(data.training):
        assert example.image.shape == (20, 24, 3 * c) and data.n_channels == c
        np.testing.assert_array_equal(example.image[3:17, 2:24], np.concatenate(scaled[i : i + 3], axis=2)[3:17, 2:24])
    assert all(isinstance(example.image, np.ndarray) for example in data.examples)  # no slice is there more than once


def test_groups_are_stacks_of_their_own_sizes_in_the_order_in_which_they_come():
    (a, masks_a), (b, masks_b) = stack(3), stack(2, 30, 16, seed=1)
    order = [a[0], b[0], a[1], b[1], a[2]]
    masks = [masks_a[0], masks_b[0], masks_a[1], masks_b[1], masks_a[2]]
    data = prepared(order, masks, groups=["a", "b", "a", "b", "a"])
    assert data.around == [[2, 0, 2], [3, 1, 3], [0, 2, 4], [1, 3, 1], [2, 4, 2]]
    with pytest.raises(ValueError, match=r"^x\[1\] is 30 x 16 pixels, and x\[0\], of the same stack, 20 x 24; with context"):
        prepared(order, masks)


def test_what_is_no_stack_is_refused_and_one_slice_is_predicted_with_a_warning():
    x, y = stack()
    with pytest.raises(ValueError, match=r"^context \(--context\) is 1, and no stack has more than one slice"):
        UNet(**TINY, context=1).fit(x[0], y[0])
    with pytest.raises(ValueError, match=r"^context .* no stack has more than one slice"):
        UNet(**TINY, context=1).fit(x, y, groups=range(5))
    unet = UNet(**TINY, context=1).fit(x, y)
    with pytest.warns(UserWarning, match="x is one slice; this model sees 1 on each side"):
        alone = unet.predict_proba(x[0])
    np.testing.assert_array_equal(alone, unet.predict_proba(np.stack([x[0]] * 3))[1])
    with pytest.raises(ValueError, match=r"x\[1\] is 20 x 23 pixels, and x\[0\], of the same stack, 20 x 24"):
        unet.predict([x[0], x[1][:, :-1]])


@pytest.mark.parametrize("value", [-1, 0.5, 101, "1", True])
def test_context_is_a_number_of_slices(value):
    with pytest.raises(ValueError, match=r"^context is .*; it takes (a whole number from 0 up|up to 100)"):
        UNet(**TINY, context=value).fit(*stack())


def of_the_slice_before(n, seed):
    """A stack whose masks show the objects of the slice before: of the slice itself nothing can be told."""
    rng = np.random.default_rng(seed)
    y = (rng.random((n + 1, 8, 8)) < 0.5).repeat(4, axis=1).repeat(4, axis=2)
    x = 100 + 100 * y + 10 * rng.standard_normal(y.shape)
    return x[1:], y[:-1].astype(int)


def test_what_only_the_neighbour_shows_is_learned():
    x, y = of_the_slice_before(12, 0)
    settings = TINY | {"learning_rate": 0.02, "max_epochs": 2, "augment": False}
    more = {"validation_data": of_the_slice_before(4, 1)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing is found without the neighbour
        alone, between = (UNet(**settings, context=context).fit(x, y, **more) for context in (0, 1))
    assert alone.best_score_ < 0.6 and between.history_["val_dice"][-1] > 0.75


def test_what_is_kept_of_it_predicts_the_same(tmp_path):
    x, y = stack(channels=(2,))
    unet = UNet(**TINY, context=2).fit(x, y)
    assert (unet.n_channels_in_, unet.context_, unet.network_.in_channels) == (2, 2, 10)
    unet.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert (loaded.n_channels_in_, loaded.context, loaded.context_) == (2, 2, 2)
    np.testing.assert_array_equal(loaded.predict_proba(x), unet.predict_proba(x))
    unet.set_params(context=0)  # of the next fit
    np.testing.assert_array_equal(loaded.predict(x), unet.predict(x))
    assert loaded.score(x, y) == unet.score(x, y)
    unet.save(tmp_path / "again")
    assert load(tmp_path / "again").context == 2
    with pytest.raises(ValueError, match=r"^context is 1; it takes 2, as the model has that warm_start goes on with"):
        unet.set_params(context=1, warm_start=True).fit(x, y)
    unet.set_params(context=2).fit(x, y)


def test_predictions_are_those_of_the_network_on_the_slices_side_by_side():
    x, y = stack()
    unet = UNet(**TINY, context=1).fit(x, y)
    scaled = [unet.normalizer_(image[..., None]) for image in x]
    found = unet.predict_proba(x)
    for i, near in enumerate([(1, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 3)]):
        expected = predict_proba(unet.network_, np.concatenate([scaled[j] for j in near], axis=2))
        np.testing.assert_array_equal(found[i], expected)
    np.testing.assert_array_equal(np.stack(unet.predict_proba(list(x))), found)


def test_a_stack_is_split_as_one_and_what_is_held_out_keeps_its_neighbours():
    x, y = stack(12)
    data = prepared(x, y, validation_fraction=0.1)
    held = sorted(part.image for part in data.held_out)
    assert held in ([0, 1], [10, 11]) and len(data.training) == 9  # at an end, and one beside them in neither
    whole = prepared(x, y).training
    for part, example in zip(data.held_out, data.validation, strict=True):
        np.testing.assert_array_equal(example.image[0:20, 0:24], whole[part.image].image[0:20, 0:24])


def test_of_a_validation_set_the_third_says_which_stack_a_slice_is_of():
    x, y = stack()
    data = prepared(x, y, validation_data=(x, y, [0, 0, 1, 1, 1]))
    assert data.around[5:] == [[1, 0, 1], [0, 1, 0], [3, 2, 3], [2, 3, 4], [3, 4, 3]]
    assert prepared(x, y, validation_data=(x, y)).around[5:] == data.around[:5]
    with pytest.raises(ValueError, match=r"it takes a pair \(x, y\) of images and masks \(without"):
        prepared(x, y, validation_data=(x, y, [0] * 5), context=0)


def test_slices_on_disk_give_the_same_and_a_checkpoint_knows_its_stacks(tmp_path, monkeypatch):
    monkeypatch.setattr(sliced, "LARGE", 0)
    x, y = stack(6)
    file = np.memmap(tmp_path / "x", np.uint8, "w+", shape=x.shape)
    file[:] = x
    groups = [0, 0, 0, 1, 1, 1]
    one = UNet(**TINY, context=1, validation_fraction=0).fit(x, y, groups=groups, checkpoint=tmp_path / "training")
    other = UNet(**TINY, context=1, validation_fraction=0).fit(file, y, groups=groups)
    np.testing.assert_array_equal(one.network_.flat, other.network_.flat)
    np.testing.assert_array_equal(one.predict_proba(x), other.predict_proba(file))
    resuming = UNet(**TINY, context=1, validation_fraction=0)
    resuming.fit(file, y, groups=groups, checkpoint=tmp_path / "training", resume=True)
    with pytest.raises(ValueError, match="other parts of the images are held out, or of a stack"):
        resuming.fit(x, y, checkpoint=tmp_path / "training", resume=True)
