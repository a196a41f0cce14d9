"""A model of numbered objects: what it learns, what it finds, what it keeps in its file, and what masks it refuses."""

import re
import sys

import numpy as np
import pytest

import minunet
from minunet import UNet
from minunet.evaluation.metrics import average_precision, dice
from minunet.evaluation.objects import parted

SMALL = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1, "verbose": 0, "random_state": 0}


def discs(n=2, size=40, seed=0):
    """Bright discs that touch on a dark ground, with their numbers."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size]
    y = np.zeros((n, size, size), np.uint16)
    for i in range(n):
        for number, (r, c) in enumerate([(10, 10), (10, 21), (28, 12), (28, 30)], 1):
            y[i][(rows - r - i) ** 2 + (cols - c - i) ** 2 <= 5.5**2] = number
    return (80 + 100 * (y > 0) + rng.normal(0, 8, y.shape)).clip(0, 255).astype(np.uint8), y


def certain(y, border=True):
    """Return the probabilities of a network that knows everything."""
    from minunet.data.instances import three_classes

    return np.eye(3, dtype=np.float32)[three_classes(y) if border else (y > 0).astype(int)] * 0.9 + 1 / 30


@pytest.fixture(scope="module")
def fitted():
    return UNet(**SMALL, target="instances").fit(*discs())


def test_discs_that_touch_are_parted():
    pytest.importorskip("skimage")
    y = discs()[1][0]
    assert ((y[:, 1:] != y[:, :-1]) & (y[:, 1:] > 0) & (y[:, :-1] > 0)).any()  # they do touch
    found = parted(certain(y), 1)
    assert found.dtype == np.int32 and set(np.unique(found)) == {0, 1, 2, 3, 4}
    assert average_precision(y, found, 0.9) == 1 and ((found > 0) == (y > 0)).all()
    assert parted(certain(y, border=False), 1).max() == 3  # without a border, two of them are one


def test_specks_are_no_objects():
    pytest.importorskip("skimage")
    y = np.zeros((20, 30), int)
    y[2:9, 2:9], y[12:16, 3:8] = 1, 2  # 49 and 20 pixels
    y[3:8, 15:25] = 3
    sizes = [np.bincount(parted(certain(y), smallest).ravel())[1:].tolist() for smallest in (40, 41, 101)]
    assert sizes == [[49, 50, 20], [49, 50], []] or sizes == [[49, 20, 50], [49, 50], []]


def test_three_classes_are_learned_and_kept(fitted, tmp_path):
    pytest.importorskip("skimage")
    x, y = discs()
    assert fitted.classes_.tolist() == [0, 1, 2] and fitted.smallest_object_ == np.bincount(y[0].ravel())[1:].min()
    classes = fitted.predict(x)
    assert set(np.unique(classes)) <= {0, 1, 2}
    fitted.save(tmp_path / "m")
    loaded = minunet.load(tmp_path / "m")
    assert loaded.target == "instances" and loaded.smallest_object_ == fitted.smallest_object_
    for tta in (False, True):
        found = loaded.predict_instances(x, tta=tta)
        assert found.dtype == np.int32 and found.shape == x.shape
        np.testing.assert_array_equal(found, fitted.predict_instances(x, tta=tta))
        p = fitted.predict_proba(x, tta=tta)
        np.testing.assert_array_equal(found, [parted(of, fitted.smallest_object_) for of in p])


def test_what_is_trained_on_are_ground_inside_and_border():
    from minunet.data.instances import three_classes

    x, y = discs()
    three = np.stack([three_classes(mask) for mask in y])
    validation = discs(1, seed=3)
    own = UNet(**SMALL, target="instances").fit(x, y, validation_data=validation)
    plain = UNet(**SMALL).fit(x, three, validation_data=(validation[0], three[:1]))
    np.testing.assert_array_equal(own.network_.flat, plain.network_.flat)
    assert own.history_["val_dice"] == plain.history_["val_dice"]
    assert own.score(x, y) == plain.score(x, three) == pytest.approx(np.nanmean(dice(three, own.predict(x), [0, 1, 2])))


def test_what_is_ignored_is_no_object():
    x, y = discs()
    y = y.astype(int)
    y[0, :5] = -1
    unet = UNet(**SMALL, target="instances").fit(x, y, ignore_index=-1)
    other = np.where(y < 0, 0, y)
    weights = (y >= 0).astype(np.float32)
    same = UNet(**SMALL, target="instances").fit(x, other, sample_weight=weights)
    np.testing.assert_array_equal(unet.network_.flat, same.network_.flat)
    with pytest.raises(ValueError, match=r'y\[0\] holds -1; with target="instances" \(--target instances\) masks take 0'):
        UNet(**SMALL, target="instances").fit(x, y)


def test_objects_of_a_model_of_classes_are_its_regions():
    x, y = discs()
    unet = UNet(**SMALL).fit(x, 255 * (y > 0))
    labels, found = unet.predict(x), unet.predict_instances(x)
    np.testing.assert_array_equal(found > 0, labels == 255)
    left = found[:, :, 1:][(labels[:, :, 1:] == 255) & (labels[:, :, :-1] == 255)]
    assert (left == found[:, :, :-1][(labels[:, :, 1:] == 255) & (labels[:, :, :-1] == 255)]).all()


def test_masks_of_one_number_are_told_of():
    x, y = discs()
    with pytest.warns(UserWarning, match=r'one number, so with target="instances" each connected piece was taken for an ob'):
        unet = UNet(**SMALL, target="instances").fit(x, 255 * (y > 0))
    assert unet.smallest_object_ == UNet(**SMALL, target="instances").fit(x, y).smallest_object_
    ignored = np.where(np.arange(y.shape[2]) < 3, 7, 255 * (y > 0))
    with pytest.warns(UserWarning, match="each connected piece was taken for an object"):
        UNet(**SMALL, target="instances").fit(x, ignored, ignore_index=7)


def test_an_image_without_objects_is_learned_from_and_scored_and_held_out(fitted):
    objects = discs()[1] * np.array([1, 0], np.uint16)[:, None, None]
    assert UNet(**SMALL, target="instances").fit(discs()[0], objects).smallest_object_ == fitted.smallest_object_
    x, ground = discs()[0], np.zeros((2, 40, 40), int)
    dice = fitted.score(x, ground, average=None)
    assert dice[0] == pytest.approx(2 * (fitted.predict(x) == 0).mean() / (1 + (fitted.predict(x) == 0).mean()))
    with pytest.warns(UserWarning, match="held out has no pixel of class 1, 2"):
        unet = UNet(**SMALL, target="instances").fit(*discs(), validation_data=(x, ground))
    assert np.isfinite(unet.history_["val_dice"]).all()


@pytest.mark.parametrize(
    ("y", "kept", "says"),
    [
        (np.zeros((2, 40, 40), int), {}, "y holds no objects: all masks are 0"),
        (discs()[1], {"classes": [0, 1]}, r"classes \(--classes\) is \[0, 1\], but with target"),
        (np.ones((2, 40, 40), int), {}, r"^y holds one object wherever a pixel counts, and neither ground \(0\) nor a border"),
        (discs()[1], {"ignore_index": 0}, r'^ignore_index \(--ignore\) is 0, which is the ground with target="instances"'),
    ],
)
def test_what_numbers_no_objects(y, kept, says):
    with pytest.raises(ValueError, match=says):
        UNet(**SMALL, target="instances").fit(discs()[0], y, **kept)


def test_classes_where_objects_are_expected_are_told_of():
    x, y = discs()
    classes = np.array([0, 1, 2, 2, 1])[y]  # two discs of each
    with pytest.warns(UserWarning, match=r"^half of the objects in the masks or more lie in several pieces, .* If the value"):
        UNet(**SMALL, target="instances").fit(x, classes)


def test_masks_without_a_ground_are_told_of():
    x, y = discs()
    with pytest.warns(UserWarning, match=r"^no pixel of the masks is 0, the ground .* value is the ground, make it 0$"):
        UNet(**SMALL, target="instances").fit(x, y + 1)


def test_objects_where_classes_are_expected_are_told_the_way():
    y = np.kron(np.arange(36).reshape(1, 6, 6), np.ones((6, 6), int))
    with pytest.raises(ValueError, match=re.escape('UNet(target="instances"), --target instances')):
        UNet(**SMALL).fit(np.zeros(y.shape) + y % 7, y)


def test_a_model_goes_on_with_its_own_target(fitted):
    with pytest.raises(ValueError, match=r"^target is 'classes'; it takes 'instances', as the model has"):
        minunet.UNet.set_params(_copied(fitted), target="classes", warm_start=True).fit(*discs())


def _copied(unet):
    import copy

    return copy.copy(unet)


def test_without_scikit_image_there_is_a_sentence(fitted, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(ImportError, match=r"which is not installed: pip install 'minunet\[instances\]'"):
        fitted.predict_instances(discs()[0])


def test_borders_are_weighed_or_learned():
    with pytest.raises(ValueError, match=r'^border_weight is .*; it takes None beside target="instances"'):
        UNet(**SMALL, target="instances", border_weight=(8.0, 2.5)).fit(*discs())
