"""The estimator: what it takes, what it learns, what it gives back, and what it refuses before any training."""

from __future__ import annotations

import json
import pickle
import types
import warnings

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import minunet
from minunet import NotFittedError, UNet, sizes

SMALL = {"base_channels": 4, "depth": 2, "patch_size": 32, "max_epochs": 1, "batch_size": 2, "verbose": 0, "random_state": 0}


def discs(n=3, size=40, channels=None, seed=0):
    """Bright discs on a dark noisy ground, and their masks."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size]
    centres = rng.uniform(0.3 * size, 0.7 * size, (n, 2))
    y = np.stack([(rows - r) ** 2 + (cols - c) ** 2 < (0.2 * size) ** 2 for r, c in centres])
    x = (80 + 100 * y + rng.normal(0, 15, y.shape)).clip(0, 255).astype(np.uint8)
    if channels:
        x = np.repeat(x[..., None], channels, axis=-1)
    return x, y.astype(np.uint8)


X, Y = discs()


class Recording:
    def on_epoch_end(self, epoch, logs):
        pass


@pytest.fixture(scope="module")
def fitted():
    x, y = discs()
    return UNet(**SMALL).fit(x, 255 * y)


def test_it_learns_discs():
    x, y = discs(4, 48)
    unet = UNet(**SMALL | {"max_epochs": 4, "base_channels": 8}).fit(x[:3], y[:3])
    assert unet.score(x[3:], y[3:]) > 0.9
    assert unet.history_["loss"][-1] < unet.history_["loss"][0]


@pytest.mark.parametrize(
    ("x_shape", "y_shape"),
    [
        ((40, 36), (40, 36)),
        ((40, 36, 3), (40, 36)),
        ((2, 40, 36), (2, 40, 36)),
        ((2, 40, 36, 3), (2, 40, 36)),
    ],
)
def test_predictions_have_the_form_in_which_x_came(x_shape, y_shape):
    rng = np.random.default_rng(0)
    x, y = rng.random(x_shape), rng.integers(0, 2, y_shape)
    unet = UNet(**SMALL).fit(x, y)
    assert unet.predict(x).shape == y_shape
    assert unet.predict_proba(x).shape == (*y_shape, 2)
    np.testing.assert_allclose(unet.predict_proba(x).sum(axis=-1), 1, atol=1e-5)


def test_a_list_of_different_sizes_comes_back_as_one():
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (37, 20), (96, 61)]
    x, y = [rng.random(s) for s in sizes], [rng.integers(0, 2, s) for s in sizes]
    unet = UNet(**SMALL).fit(x, y)
    with pytest.warns(UserWarning, match=r"^x\[0\] \("):  # one pixel spans nothing
        predicted = unet.predict(x)
    assert [p.shape for p in predicted] == sizes


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", [1, 37, 96])
def test_any_size_is_trained_on_and_predicted(size, padding):
    rng = np.random.default_rng(0)
    x, y = rng.random((2, size, size)), np.stack([np.zeros((size, size), int), np.ones((size, size), int)])
    unet = UNet(**SMALL | {"padding": padding, "patch_size": 44 if padding == "valid" else 32}).fit(x, y)
    assert unet.predict(x).shape == x.shape


@pytest.mark.parametrize("values", [[0, 255], [-1, 7], [1, 2, 40], [False, True], [0, 40000]])
def test_predict_returns_the_masks_own_values(values):
    rng = np.random.default_rng(0)
    x = rng.random((2, 32, 32))
    y = np.array(values)[rng.integers(0, len(values), x.shape)]
    unet = UNet(**SMALL).fit(x, y)
    assert unet.classes_.tolist() == values
    assert set(np.unique(unet.predict(x))) <= set(values)


def test_inputs_are_never_written():
    x, y = discs()
    x.flags.writeable = y.flags.writeable = False
    before = x.copy(), y.copy()
    UNet(**SMALL).fit(x, y).predict(x)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


def test_the_same_seed_gives_the_same_bits_at_any_number_of_threads():
    x, y = discs(2, 96)
    settings = SMALL | {"dropout": 0.3, "patch_size": 96}  # patches of several blocks of rows
    one, two, three, again = (UNet(**settings | {"n_threads": n}).fit(x, y).network_.flat.tobytes() for n in (1, 2, 3, 2))
    assert one == two == three == again
    assert UNet(**settings | {"random_state": 1}).fit(x, y).network_.flat.tobytes() != one


def test_a_saved_model_predicts_the_same(fitted, tmp_path):
    x, _ = discs(seed=5)
    fitted.save(tmp_path / "model.safetensors")
    loaded = minunet.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict_proba(x), fitted.predict_proba(x))
    assert loaded.get_params() == fitted.get_params()
    assert loaded.classes_.dtype == fitted.classes_.dtype
    assert loaded.history_ == fitted.history_


@pytest.mark.parametrize("algorithm", minunet.kernels.ALGORITHMS)
def test_the_algorithm_is_that_of_the_network_and_stays_in_the_file(algorithm, tmp_path):
    x, y = discs()
    unet = UNet(**SMALL | {"base_channels": 16, "algorithm": algorithm}).fit(x, y)
    assert unet.network_.algorithm == unet.get_params()["algorithm"] == algorithm
    assert ("algorithm=" in repr(unet)) == (algorithm != "auto")
    unet.save(tmp_path / "m")
    loaded = minunet.load(tmp_path / "m")
    assert loaded.network_.algorithm == loaded.algorithm == algorithm
    np.testing.assert_array_equal(loaded.predict_proba(x), unet.predict_proba(x))
    assert unet.score(x, y) > 0.7


def test_a_file_from_before_there_was_a_choice_of_algorithm_or_deep_supervision_loads(fitted, tmp_path):
    path = tmp_path / "m.safetensors"
    fitted.save(path)
    with safetensors.safe_open(path, "numpy") as file:
        text = file.metadata()
    network, model = (json.loads(text[field]) for field in ("network", "model"))
    for later in ("algorithm", "deep_supervision"):
        del network[later], model["estimator"][later]
    del text["sha256_description"], text["sha256_weights"], model["sealed"]  # nor were there sums
    text |= {"network": json.dumps(network), "model": json.dumps(model)}
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), path, text)
    loaded = minunet.load(path)
    assert loaded.algorithm == loaded.network_.algorithm == "auto"
    assert loaded.deep_supervision is loaded.network_.deep_supervision is False
    x, _ = discs()
    np.testing.assert_array_equal(loaded.predict_proba(x), fitted.predict_proba(x))


class Series:
    """What pandas has for numbers by name, in any order."""

    def to_dict(self):
        return {255: 3.0, 0: 1.0}

    def __array__(self, dtype=None, copy=None):
        return np.array([3.0, 1.0])


@pytest.mark.parametrize(
    "weight",
    [{0: 1.0, 255: 3.0}, {np.uint8(255): np.float32(3), np.int64(0): 1}, (1, np.float32(3)), [np.float64(1), 3], Series(),
     np.array([1, 3], np.float16)],
    ids=["dict", "NumPy's", "tuple", "list", "series", "array"],
)  # fmt: skip
def test_weights_by_mask_value_survive_the_file(fitted, weight, tmp_path):
    unet = pickle.loads(pickle.dumps(fitted)).set_params(class_weight=weight)
    unet.save(tmp_path / "m.safetensors")
    assert minunet.load(tmp_path / "m.safetensors").class_weight == [1.0, 3.0]


def test_it_can_be_pickled(fitted):
    x, _ = discs()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(x), fitted.predict(x))


def test_params_are_kept_as_given_and_can_be_set():
    unet = UNet(base_channels=8)
    assert unet.get_params()["base_channels"] == 8
    assert unet.set_params(depth=3) is unet and unet.depth == 3
    with pytest.raises(ValueError, match=r"no parameter 'chanels'; it has: base_channels"):
        unet.set_params(chanels=3)
    assert repr(unet) == "UNet(base_channels=8, depth=3)"


def test_history_names_and_validation(fitted):
    assert {"loss", "val_loss", "val_dice", "learning_rate", "seconds", "steps"} <= fitted.history_.keys()
    assert fitted.n_iter_ == 1 and fitted.best_epoch_ == 0 and fitted.best_score_ == fitted.history_["val_dice"][0]
    x, y = discs()
    without = UNet(**SMALL | {"validation_fraction": 0.0}).fit(x, y)
    assert "val_dice" not in without.history_ and without.best_score_ is None
    given = UNet(**SMALL).fit(x, y, validation_data=discs(seed=9))
    assert given.best_score_ == pytest.approx(given.score(*discs(seed=9)))


def test_callbacks_see_the_model_and_each_epoch():
    class Record:
        seen: list = []

        def set_model(self, unet):
            self.unet = unet

        def on_epoch_end(self, epoch, logs):
            self.seen.append((epoch, logs["loss"], self.unet.predict(x).shape))

    x, y = discs()
    UNet(**SMALL | {"max_epochs": 2}).fit(x, y, callbacks=[Record()])
    assert [(epoch, shape) for epoch, _, shape in Record.seen] == [(0, x.shape), (1, x.shape)]


def test_score_is_dice_from_pooled_counts(fitted):
    x, y = discs(2, seed=3)
    predicted = fitted.predict(x) == 255
    truth = y == 1
    of_discs = 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
    of_ground = 2 * (~predicted & ~truth).sum() / ((~predicted).sum() + (~truth).sum())
    np.testing.assert_allclose(fitted.score(x, 255 * y, average=None), [of_ground, of_discs])
    assert fitted.score(x, 255 * y) == pytest.approx((of_ground + of_discs) / 2)


def test_pixels_of_weight_zero_teach_nothing():
    x, y = discs()
    weight = np.ones(y.shape)
    weight[:, :20] = 0
    wrong = y.copy()
    wrong[:, :20] = 1 - wrong[:, :20]
    settings = SMALL | {"validation_fraction": 0.0}
    a = UNet(**settings).fit(x, y, sample_weight=weight).network_.flat
    b = UNet(**settings).fit(x, wrong, sample_weight=weight).network_.flat
    np.testing.assert_array_equal(a, b)


def test_the_paper_settings():
    said = {
        "base_channels": 64, "padding": "valid", "dropout": 0.5, "optimizer": "sgd", "momentum": 0.99, "learning_rate": 1e-3,
        "batch_size": 1, "patch_size": 388, "class_weight": "balanced", "border_weight": True,
    }  # fmt: skip
    assert UNet.ronneberger2015().get_params() == UNet().get_params() | said
    ours = {"base_channels": 4, "depth": 2, "patch_size": 44, "max_epochs": 2, "verbose": 0, "random_state": 0}
    paper = UNet.ronneberger2015(**ours)
    assert paper.get_params() == UNet().get_params() | said | ours
    x, y = discs(2, 60)
    paper.fit(x, y)
    first, last = paper.history_["loss"]
    assert last < 0.98 * first and paper.predict(x).shape == x.shape


def test_one_plain_line_an_epoch_when_not_a_terminal(capfd):
    x, y = discs()
    UNet(**SMALL | {"max_epochs": 2, "verbose": 1}).fit(x, y)
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and lines[1].startswith("epoch 2/2  loss 0.") and "val_dice 0." in lines[1]


def test_a_diverging_training_stops_with_the_last_good_weights():
    x, y = discs()
    unet = UNet(**SMALL | {"optimizer": "sgd", "learning_rate": 1e30, "max_epochs": 3})
    with warnings.catch_warnings(), pytest.raises(FloatingPointError, match=r"training diverged.*learning_rate=0\.01"):
        warnings.simplefilter("ignore")
        unet.fit(x, y)
    assert not hasattr(unet, "network_")  # no epoch was finished: nothing predicts, and nothing is saved


def test_an_update_that_overflows_in_the_last_step_is_not_kept(monkeypatch):
    x, y = discs()

    def overflow(network, *args, **options):
        network.flat[...] = np.inf
        return np.float32(0.5)

    monkeypatch.setattr("minunet.training.loop.step", overflow)
    unet = UNet(**SMALL)
    with pytest.raises(FloatingPointError, match=r"the weights are not finite at step 25 .* The model is what it was before"):
        unet.fit(x, y)
    with pytest.raises(minunet.NotFittedError):
        unet.predict(x)


def test_the_value_of_unlabelled_pixels_is_no_class():
    x, y = discs(12)
    y = y + np.uint8(1)
    weight = np.ones(y.shape)
    y[:, :10], weight[:, :10] = 77, 0
    unet = UNet(**SMALL | {"max_epochs": 2}).fit(x, y, sample_weight=weight)
    assert unet.classes_.tolist() == [1, 2]
    np.testing.assert_allclose(unet.class_frequencies_, [(y == c).sum() / (y != 77).sum() for c in (1, 2)])
    assert unet.best_score_ > 0.5  # the unlabelled rows of the held-out images count for nothing
    with pytest.raises(ValueError, match="one class"):
        UNet(**SMALL).fit(x, y, sample_weight=weight * (y == 1))


def test_where_the_usual_strip_has_all_labelled_pixels_another_is_held_out():
    x, y = discs(1)
    weight = np.zeros(y.shape)
    weight[:, -4:] = 1
    y[:, -2:] = 1 - y[:, -2:]
    unet = UNet(**SMALL).fit(x, y, sample_weight=weight)
    assert unet.held_out_ == [(0, slice(0, 40), slice(32, 40))] and "val_dice" in unet.history_


def test_groups_are_held_out_whole_and_told_where_they_are_large():
    x, y = discs(6)
    groups, quick = np.array(["a", "b", "b", "b", "c", "c"]), SMALL | {"base_channels": 2, "depth": 1, "patch_size": 16}
    unet = UNet(**quick).fit(x, y, groups=groups)
    assert [part.image for part in unet.held_out_] == [0]
    with pytest.warns(UserWarning, match=r"^3 of 6 images are held out for validation, as groups .* are not cut") as told:
        assert len(UNet(**quick).fit(x, y, groups=groups == "b").held_out_) == 3
    assert told[0].filename == __file__
    assert UNet(**quick).fit(x, y, groups=groups, validation_data=(x, y)).held_out_ == []
    with pytest.raises(ValueError, match="groups is of length 5"):
        UNet(**quick).fit(x, y, groups=groups[:5])


def test_a_class_at_one_end_of_all_images_is_learned():
    x, y = discs(2)
    y[:, 33:], x[:, 33:] = 2, 250
    unet = UNet(**SMALL | {"max_epochs": 2, "learning_rate": 1e-2, "patch_size": 40, "augment": "flips"}).fit(x, y)
    assert unet.score(x, y, average=None)[2] > 0.6


def test_where_no_strip_can_be_spared_that_is_told():
    x, y = discs(1)
    y[:], (y[:, :8], y[:, -8:], y[:, :, :8], y[:, :, -8:]) = 9, (1, 2, 3, 4)
    with pytest.warns(UserWarning, match=r"nothing is held out for validation: class 1, 2, 3, 4 would hardly be trained") as told:
        unet = UNet(**SMALL | {"base_channels": 2, "depth": 1, "patch_size": 16}).fit(x, y)
    assert told[0].filename == __file__ and unet.held_out_ == [] and unet.best_score_ is None


def test_masks_of_other_values_are_not_scored(fitted):
    x, y = discs()
    with pytest.raises(ValueError, match=r"y holds 1, unknown to this model, whose classes are \[0, 255\]"):
        fitted.score(x, y)
    with pytest.raises(ValueError, match=r"validation_data\[1\] holds 1, unknown"):
        UNet(**SMALL).fit(x, 255 * y, validation_data=(x, y))
    snapping = UNet(**SMALL).fit(x, 250 * y, classes=[0, 255])
    assert snapping.score(x, 254 * y) == snapping.score(x, 255 * y)
    with pytest.raises(ValueError, match=r"y\[0\], y\[1\], y\[2\] hold 0, 1\..*Nearest to 1 is another class"):
        snapping.score(x, y)
    with pytest.raises(ValueError, match=r"validation_data\[1\]\[0\].* hold 0, 1\."):
        UNet(**SMALL).fit(x, 255 * y, classes=[0, 255], validation_data=(x, y))


def test_two_codes_of_one_class_are_joined_in_training_scoring_and_the_file(tmp_path):
    x, y = discs(4)
    codes = np.array([1, 255, 255, 1])[:, None, None] * y
    with pytest.raises(ValueError, match=r"y\[1\], y\[2\] hold 0, 255; y\[0\], y\[3\] hold 0, 1\..*classes=\[0, \(255, 1\)\]"):
        UNet(**SMALL).fit(x, codes)
    unet = UNet(**SMALL).fit(x, codes, classes=[0, (255, 1)], validation_data=(x, y))
    white = UNet(**SMALL).fit(x, 255 * y, validation_data=(x, 255 * y))
    np.testing.assert_array_equal(unet.network_.flat, white.network_.flat)
    assert unet.history_["val_dice"] == white.history_["val_dice"]
    unet.save(tmp_path / "m")
    loaded = minunet.load(tmp_path / "m")
    assert loaded.classes_.tolist() == [0, 255] and loaded.joined_ == {1: 255}
    for model, masks in ((unet, y), (loaded, codes), (loaded, 255 * y)):
        assert model.score(x, masks) == white.score(x, 255 * y)
    white.set_params(warm_start=True)
    with pytest.raises(ValueError, match=r"the model holds 0, 255; y\[0\], .* hold 0, 1\."):
        white.fit(x, y)
    assert white.fit(x, y, classes=[0, (255, 1)]).classes_.tolist() == [0, 255] and white.joined_ == {1: 255}
    assert white.fit(x, codes).joined_ == {1: 255}


@pytest.mark.parametrize("callbacks", [[None], None, [object()], "no", [print], [types.SimpleNamespace], [Recording]])
def test_a_callback_that_cannot_be_called_is_refused_before_training(fitted, callbacks):
    x, y = discs()
    with pytest.raises(ValueError, match=r"callbacks\[0\] .*on_epoch_end"):
        pickle.loads(pickle.dumps(fitted)).fit(x, y, callbacks=callbacks)


def test_callbacks_of_other_kinds_are_told_the_call_that_makes_one(fitted):
    x, y = discs()
    with pytest.raises(ValueError, match=r"callbacks is .* a list of them: \[callback\]"):
        UNet(**SMALL).fit(x, y, callbacks=Recording())
    with pytest.raises(ValueError, match=r"Recording\(\) makes one of the class"):
        UNet(**SMALL).fit(x, y, callbacks=[Recording])
    with pytest.raises(ValueError, match="makes one of a function") as refused:
        UNet(**SMALL).fit(x, y, callbacks=[lambda epoch, logs: None])
    call = str(refused.value).partition("logs): ")[2].partition(" makes")[0]
    eval(call, {"types": types, "callbacks": [lambda epoch, logs: logs["loss"]]}).on_epoch_end(0, {"loss": 1.0})


@pytest.mark.parametrize("data", [0.2, "x", (X, Y, Y), {"x": X}, iter(()), X], ids=lambda data: type(data).__name__)
def test_validation_data_is_a_pair(data):
    with pytest.raises(ValueError, match=r"^validation_data is .*; it takes a pair \(x, y\).*validation_fraction"):
        UNet(**SMALL).fit(X, Y, validation_data=data)


def test_validation_data_laid_out_otherwise_is_told_by_its_own_name():
    with pytest.raises(ValueError, match=r"np.moveaxis\(validation_data\[0\], 1, -1\)"):
        UNet(**SMALL).fit(X, Y, validation_data=(X[:, None], Y))
    with pytest.raises(ValueError, match=r"^validation_data\[1\] is the text 'y'"):
        UNet(**SMALL).fit(X, Y, validation_data=(X, "y"))


@pytest.mark.parametrize("rng", [np.random.RandomState(0), np.random.default_rng(0)], ids=["RandomState", "Generator"])
def test_a_generator_of_random_numbers_is_told_how_to_draw_a_seed(rng):
    with pytest.raises(ValueError, match=r"^random_state is .*a whole number from 0 up") as refused:
        UNet(**SMALL | {"random_state": rng}).fit(X, Y)
    call = str(refused.value).partition("from 0 up: ")[2].partition(" draws")[0]
    assert eval(call, {"random_state": rng}) >= 0


@pytest.mark.parametrize(("wanted", "padding", "found"), [(30, "same", 28), (3, "same", 4), (50, "valid", 48), (44, "valid", 44)])
def test_a_patch_size_that_does_not_fit_is_rounded_down(wanted, padding, found):
    x, y = discs(1, 60)
    assert sizes.fitting_patch(minunet.Network(1, 2, 2, 2, padding), wanted, [(60, 40), (50, 60)]) == found
    UNet(**SMALL | {"patch_size": wanted, "padding": padding, "base_channels": 2}).fit(x, y)


def test_the_summary_of_any_size_is_that_of_the_padded_image():
    assert UNet().summary((61, 97)).image == (1, 64, 112, 1)
    assert UNet.ronneberger2015().summary((388, 388)).image == (1, 572, 572, 1)
    assert UNet().summary((2, 500, 500)).image == (2, 512, 512, 1)


def test_bad_input_leaves_a_fitted_model_as_it_was(fitted):
    x, y = discs()
    unet = pickle.loads(pickle.dumps(fitted))
    with pytest.raises(ValueError, match="NaN"):
        unet.fit(np.full(x.shape, np.nan), y)
    np.testing.assert_array_equal(unet.predict(x), fitted.predict(x))


def with_nan(x):
    x = x.astype(float)
    x[1, 3, 4] = np.nan
    return x


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        ([], [], "no images"),
        (X, Y[:2], "x has 3 images but y 2 masks"),
        (X, Y[:, :30], r"x\[0\].*40.*y\[0\].*30"),
        (list(X), [Y[0], Y[1].T[:30], Y[2]], r"\[1\]"),
        (with_nan(X), Y, "NaN"),
        (np.where(X > 90, np.inf, 1.0), Y, "infinit"),
        (X.astype(object), Y, "object"),
        (X.astype(str), Y, "dtype"),
        (X, np.arange(Y.size).reshape(Y.shape) % 50, "50 "),
        (X, np.zeros_like(Y), "one class|only"),
    ],
    ids=["none", "lengths", "sizes", "one-size", "nan", "inf", "object", "string", "many-values", "one-class"],
)
def test_bad_arrays_are_refused_before_training(x, y, says):
    with pytest.raises((ValueError, TypeError), match=says):
        UNet(**SMALL).fit(x, y)


def test_masks_with_rare_values_between_frequent_ones_are_refused_or_snapped():
    y = np.where(Y == 1, 255, 0)
    y[0, :2, :6] = [[3, 7, 19, 100, 201, 250], [9, 90, 120, 180, 240, 252]]
    with pytest.raises(ValueError, match=r"JPEG(.|\n)*classes=\[0, 255\]"):
        UNet(**SMALL).fit(X, y)
    unet = UNet(**SMALL).fit(X, y, classes=[0, 255])
    assert unet.classes_.tolist() == [0, 255]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_channels", 0), ("base_channels", -4), ("depth", -1), ("depth", 1.5), ("batch_size", 0), ("patch_size", -16),
        ("max_epochs", 0), ("verbose", "yes"), ("verbose", -1), ("augment", "no"), ("class_weight", {0: 1e300, 1: 1.0}),
        ("max_minutes", 0), ("learning_rate", -1e-3), ("learning_rate", float("nan")),
        ("momentum", 1.0), ("weight_decay", -1), ("dropout", 1.0), ("validation_fraction", 1.5), ("n_threads", 0),
        ("optimizer", "lion"), ("schedule", "linear"), ("warm_up", 1.0), ("clip_norm", 0), ("average", 1),
        ("average", 0), ("padding", "full"), ("loss", "mse"), ("normalize", "none"), ("device", "tpu"),
        ("algorithm", "fft"), ("deep_supervision", 1),
        ("random_state", -1), ("class_weight", "uniform"), ("class_weight", {0: 1.0}), ("class_weight", {0: 1.0, 1: -1.0}),
    ],
)  # fmt: skip
def test_bad_parameters_are_named_before_training(name, value):
    with pytest.raises(ValueError, match=name):
        UNet(**SMALL | {name: value}).fit(X, Y)


def test_numpy_numbers_as_parameters_are_saved(tmp_path):
    x, y = discs()
    numbers = {"base_channels": np.int64(4), "depth": np.int32(1), "dropout": np.float32(0.5), "learning_rate": np.float32(1e-3)}
    unet = UNet(**SMALL | numbers | {"class_weight": np.array([1.0, 2.0])}).fit(x, y)
    assert "class_weight=array" in repr(unet)
    unet.save(tmp_path / "m")
    loaded = minunet.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict(x), unet.predict(x))
    assert (loaded.n_iter_, loaded.best_score_, loaded.best_epoch_) == (unet.n_iter_, unet.best_score_, unet.best_epoch_)
    assert loaded.get_params()["class_weight"] == [1.0, 2.0]


def test_a_large_image_is_predicted_in_tiles_of_a_quarter_of_free_memory(fitted, monkeypatch):
    from minunet.evaluation import tiles

    calls = []
    monkeypatch.setattr(tiles, "free_memory", lambda network: 4 * 2**20)
    monkeypatch.setattr(tiles, "_predict_tile", lambda *args, _tile=tiles._predict_tile: calls.append(args) or _tile(*args))
    image = np.tile(discs()[0][0], (8, 8))
    tiled = fitted.predict_proba(image)
    assert len(calls) > 1
    monkeypatch.undo()
    np.testing.assert_allclose(tiled, fitted.predict_proba(image), atol=1e-5)


def test_real_electron_microscopy_is_learned(isbi):
    x, y = (
        np.stack([np.asarray(Image.open(isbi / "train" / kind / f"{i:02}.png"))[:128, :128] for i in range(4)])
        for kind in ("image", "label")
    )
    unet = UNet(**SMALL | {"base_channels": 8, "patch_size": 64, "max_epochs": 4}).fit(x[:3], y[:3])
    assert unet.classes_.tolist() == [0, 255]
    assert unet.history_["loss"][-1] < 0.9 * unet.history_["loss"][0]
    assert unet.score(x[3:], y[3:]) > 0.6


def test_predicting_with_the_wrong_number_of_channels(fitted):
    with pytest.raises(ValueError, match=r"3 channels.*fitted on 1"):
        fitted.predict(np.zeros((2, 40, 40, 3)))


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_not_fitted_yet(method):
    with pytest.raises(NotFittedError, match="call fit"):
        getattr(UNet(), method)(X)


def test_not_fitted_cannot_be_saved(tmp_path):
    with pytest.raises(NotFittedError, match="call fit"):
        UNet().save(tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()
