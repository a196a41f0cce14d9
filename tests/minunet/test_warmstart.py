"""Going on with a model: nothing is lost of it before the first step, and what does not fit it is refused."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minunet
from minunet import Network, UNet, warmstart

SMALL = {"base_channels": 3, "depth": 1, "patch_size": 16, "max_epochs": 1, "batch_size": 1, "verbose": 0, "random_state": 0}
STILL = {"warm_start": True, "learning_rate": 1e-30, "max_epochs": 1}


def squares(n=3, values=(0, 255), size=24, seed=0):
    """Bright squares on a noisy ground, and their masks of two values."""
    rng = np.random.default_rng(seed)
    y = np.full((n, size, size), values[0], np.uint8)
    for i, (row, col) in enumerate(rng.integers(2, size - 12, (n, 2))):
        y[i, row : row + 10, col : col + 10] = values[1]
    return (80 + 100 * (y == values[1]) + rng.normal(0, 15, y.shape)).clip(0, 255).astype(np.uint8), y


@pytest.fixture(scope="module")
def fitted():
    return UNet(**SMALL | {"max_epochs": 3, "learning_rate": 1e-2}).fit(*squares())


def copied(unet, **params):
    return pickle.loads(pickle.dumps(unet)).set_params(**params)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("way", ["in memory", "through a file"])
def test_without_a_step_of_any_length_the_probabilities_are_the_old_ones(fitted, optimizer, way, tmp_path):
    older = fitted
    if way == "through a file":
        fitted.save(tmp_path / "m")
        older = minunet.load(tmp_path / "m")
    x, y = squares(4, seed=1)
    unet = copied(older, **STILL, optimizer=optimizer, batch_size=2, loss="dice").fit(x, y)
    assert unet.network_ is not older.network_ and unet.n_iter_ == 1 and len(unet.history_["loss"]) == 1
    np.testing.assert_allclose(unet.predict_proba(x), fitted.predict_proba(x), rtol=0, atol=1e-6)


def test_it_goes_on_instead_of_anew(fitted):
    x, y = squares()
    ways = ({"warm_start": True, "n_threads": 2}, {"warm_start": True, "n_threads": 1}, {})
    warm, again, cold = (copied(fitted, max_epochs=1, **way).fit(x, y) for way in ways)
    assert warm.history_["loss"][0] < fitted.history_["loss"][-1] < cold.history_["loss"][0]
    np.testing.assert_array_equal(warm.network_.flat, again.network_.flat)  # the same bits


VALUES = st.integers(0, 9)


@given(old=st.sets(VALUES, min_size=2, max_size=4), new=st.sets(VALUES, max_size=4), seed=st.integers(0, 99))
def test_a_new_class_leaves_the_relations_of_the_old_ones_and_what_is_predicted(old, new, seed):
    """Whose columns of the head are its own: between, below and above the old classes."""
    older_classes, classes = np.array(sorted(old)), np.array(sorted(old | new))
    older, network = (Network(1, len(k), 2, 1, random_state=seed + i) for i, k in enumerate((older_classes, classes)))
    rng = np.random.default_rng(seed)
    older.parameters["head.bias"][...] = rng.normal(size=len(older_classes))
    warmstart.take_weights(network, classes, older, older_classes)
    x = rng.normal(0, 20, (1, 6, 8, 1)).astype(np.float32)
    logits, before = network(x), older(x)
    known = np.isin(classes, older_classes)
    np.testing.assert_allclose(logits[..., known], before, rtol=0, atol=1e-4)
    np.testing.assert_allclose(logits[..., ~known], np.repeat(before.mean(-1, keepdims=True), (~known).sum(), -1), atol=1e-4)
    others = {name: p for name, p in older.parameters.items() if not name.startswith("head")}
    assert all((network.parameters[name] == p).all() for name, p in others.items())


@pytest.mark.parametrize("deep", [True, False])
def test_side_heads_begin_anew_or_end_and_the_probabilities_are_the_old_ones(deep):
    x, y = squares(4, seed=1)
    settings = SMALL | {"depth": 2, "max_epochs": 2, "learning_rate": 1e-2}
    older = UNet(**settings, deep_supervision=not deep).fit(x, y)
    unet = copied(older, **STILL, deep_supervision=deep).fit(x, y)
    assert unet.network_.deep_supervision is deep
    np.testing.assert_allclose(unet.predict_proba(x), older.predict_proba(x), rtol=0, atol=1e-6)
    fresh = Network(**unet.network_.config)
    side = [name for name in fresh.parameters if name.startswith("decoder.1.head")]
    assert len(side) == 2 * deep
    for name in side:
        np.testing.assert_allclose(unet.network_.parameters[name], fresh.parameters[name], rtol=0, atol=1e-20)


def test_side_heads_take_a_new_class_as_the_head_does():
    older, network = (Network(1, k, 2, 3, random_state=k, deep_supervision=True) for k in (2, 3))
    warmstart.take_weights(network, np.array([0, 7, 9]), older, np.array([0, 9]))
    for name in ("head", "decoder.1.head", "decoder.2.head"):
        new, old = (net.parameters[f"{name}.weight"] for net in (network, older))
        np.testing.assert_array_equal(new[..., [0, 2]], old)
        np.testing.assert_allclose(new[..., 1], old.mean(axis=-1), rtol=1e-6)


def test_a_new_class_is_learned_and_saved(fitted, tmp_path):
    x, y = squares()
    y[:, 20:], x[:, 20:] = 9, 0
    unet = copied(fitted, warm_start=True).fit(x, y)
    dice = unet.score(x, y, average=None)
    assert unet.classes_.tolist() == [0, 9, 255] and dice[1] > 0.5
    unet.save(tmp_path / "m")
    loaded = minunet.load(tmp_path / "m")
    assert loaded.warm_start is True and (loaded.score(x, y, average=None) == dice).all()


def test_classes_that_the_new_masks_lack_stay(fitted):
    x, y = squares()
    unet = copied(fitted, **STILL).fit(x, 0 * y)  # ground alone: what was taken for an object there is to be unlearned
    assert unet.classes_.tolist() == [0, 255] and unet.class_frequencies_.tolist() == [1, 0]
    np.testing.assert_allclose(unet.predict_proba(x), fitted.predict_proba(x), rtol=0, atol=1e-6)
    others = np.where(y > 0, 3 + 6 * (np.arange(y.shape[-1]) % 8 > 3), 0)
    with pytest.warns(UserWarning, match="the masks hold 3, 9, which the model does not know, and lack 255, which") as told:
        assert copied(fitted, **STILL).fit(x, others).classes_.tolist() == [0, 3, 9, 255]
    assert [one.filename for one in told] == [__file__]


def test_masks_in_other_codes_than_the_models_are_refused(fitted):
    x, y = squares()
    with pytest.raises(ValueError, match=r"the model holds 0, 255; .* hold 0, 1\. .*classes=\[0, \(255, 1\)\]"):
        copied(fitted, **STILL).fit(x, y // 255)


def test_the_scale_stays_and_masks_are_snapped_as_before():
    x, y = squares()
    older = UNet(**SMALL, normalize="dataset").fit(x, y - y // 255, classes=[0, 255])  # masks of 0 and 254
    unet = copied(older, **STILL).fit(x // 3, y - 2 * (y // 255))
    assert unet.snap_ and unet.classes_.tolist() == [0, 255]
    assert (unet.normalizer_.low, unet.normalizer_.high) == (older.normalizer_.low, older.normalizer_.high)
    np.testing.assert_allclose(unet.predict_proba(x), older.predict_proba(x), rtol=0, atol=1e-6)
    more = copied(older, **STILL).fit(x, np.where(y > 0, y, 130), classes=[128, 255])
    assert more.snap_ and more.classes_.tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_channels", 4), ("depth", 2), ("padding", "valid"), ("block", "residual"), ("norm", "group"),
        ("normalize", "dataset"),
    ],
)
def test_another_network_is_refused_by_both_values(fitted, name, value):
    unet = copied(fitted, warm_start=True)
    has, before = getattr(unet, name), pickle.dumps(unet.network_)
    with pytest.raises(ValueError, match=rf"^{name} is {value!r}; it takes {has!r}, as the model has that warm_start"):
        unet.set_params(**{name: value}).fit(*squares())
    assert pickle.dumps(unet.network_) == before
    with pytest.raises(ValueError, match=r"has 3 channels.*this model was fitted on 1"):
        copied(fitted, warm_start=True).fit(np.zeros((2, 24, 24, 3)), squares(2)[1])


def test_what_fails_leaves_the_old_model(fitted):
    x, y = squares()
    y[:, :2] = 9
    unet = copied(fitted, warm_start=True, optimizer="sgd", learning_rate=1e30)
    with warnings.catch_warnings(), pytest.raises(FloatingPointError, match="is what it was before"):
        warnings.simplefilter("ignore")
        unet.fit(x, y)
    assert unet.classes_.tolist() == [0, 255]
    np.testing.assert_array_equal(unet.predict_proba(x), fitted.predict_proba(x))


def test_without_a_seed_the_same_is_held_out_again():
    x, y = squares(12)
    unet = UNet(**SMALL | {"random_state": None, "warm_start": True}).fit(x, y)
    before = unet.random_state_, unet.held_out_
    assert (unet.fit(x, y).random_state_, unet.held_out_) == before
    assert unet.set_params(warm_start=False).fit(x, y).random_state_ != before[0]


def test_a_clone_starts_anew(fitted):
    sklearn = pytest.importorskip("sklearn.base", reason="scikit-learn is not installed")
    clone = sklearn.clone(copied(fitted, warm_start=True))
    assert clone.warm_start is True and not hasattr(clone, "network_")


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_warm_start_is_true_or_false(value):
    with pytest.raises(ValueError, match=r"warm_start is .*; it takes True or False"):
        UNet(**SMALL, warm_start=value).fit(*squares())
