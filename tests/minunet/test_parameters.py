"""What the estimator's parameters may be, and what it may find where fit had left something."""

from __future__ import annotations

import numpy as np
import pytest

from minunet import Network, UNet, load

TINY = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1, "verbose": 0, "random_state": 0}


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (2, 16, 16))
    return rng.random(y.shape) + y, y


# ---- Numbers of every kind, and what fit has left, changed by hand ----

WHOLE = [
    "base_channels", "depth", "batch_size", "patch_size", "max_epochs", "random_state", "n_threads", "verbose",
    "n_iter_no_change", "context",
]  # fmt: skip
REAL = [
    "learning_rate", "max_minutes", "dropout", "momentum", "validation_fraction", "weight_decay", "warm_up", "clip_norm",
    "average", "tol", "threshold",
]  # fmt: skip
NAMED = ["padding", "loss", "optimizer", "schedule", "normalize", "device", "algorithm", "precision"]


@pytest.mark.parametrize(
    "name", [*WHOLE, *REAL, *NAMED, "augment", "deep_supervision", "early_stopping", "class_weight", "border_weight"]
)
@pytest.mark.parametrize(
    "value",
    [-(10**5000), 1j, np.timedelta64(3), np.datetime64("2020"), np.array([1, 2, 3]), float("nan"),
     np.array(["same", "adam"]), b"same", {}, (), object(), np.ma.masked],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_no_parameter_can_be_is_refused_by_name(images, name, value):
    with pytest.raises(ValueError, match=rf"^{name} is ") as refused:
        UNet(**(TINY | {name: value})).fit(*images)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("name", "value"), [(name, 10**400) for name in (*REAL, "class_weight", "depth", "batch_size", "patch_size")]
)
def test_a_number_beyond_all_floats_is_refused(images, name, value):
    with pytest.raises(ValueError, match=rf"^{name} is "):
        UNet(**(TINY | {name: value})).fit(*images)


@pytest.mark.parametrize("value", [(1,), (9, 1), (1, 1), (-1, 99), (1, 101), ("1", "9"), (1, "9"), (float("nan"), 99), [1, 2, 3]])
def test_what_no_two_percentiles_can_be_is_refused(images, value):
    with pytest.raises(ValueError, match=r"^normalize is .* it takes 'image', 'dataset' or two rising percentiles"):
        UNet(**(TINY | {"normalize": value})).fit(*images)


@pytest.mark.parametrize("value", [0, 1, 1.5, -0.1, "half", "", True, float("inf")])
def test_what_no_threshold_can_be_is_refused(images, value):
    with pytest.raises(ValueError, match=r"^threshold is .*; it takes None, 'validation' or a number between 0 and 1$"):
        UNet(**(TINY | {"threshold": value})).fit(*images)


def test_a_step_that_no_memory_holds_is_refused_before_it_begins(images):
    with pytest.raises(ValueError, match=r"training on 1000000000 patches of 16 x 16 a step takes .* leaves .*: batch_size=\d+ "):
        UNet(**(TINY | {"batch_size": 10**9})).fit(*images)


def test_numpys_small_numbers_serve_as_pythons_do(images, tmp_path):
    small = {
        "base_channels": np.int8(2), "batch_size": np.int8(4), "patch_size": np.int8(16), "max_epochs": np.int8(1),
        "depth": np.int8(1), "random_state": np.uint8(0), "dropout": np.float32(0.5), "learning_rate": np.float64(1e-3),
        "class_weight": np.array([1, 2]), "augment": np.bool_(True), "padding": np.str_("same"), "n_threads": np.int8(1),
    }  # fmt: skip
    unet = UNet(**(TINY | small)).fit(*images)
    plain = {name: value.tolist() for name, value in small.items()}
    np.testing.assert_array_equal(unet.network_.flat, UNet(**(TINY | plain)).fit(*images).network_.flat)
    unet.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "model.safetensors").predict(images[0]), unet.predict(images[0]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network_", None), ("network_", 3), ("network_", Network(3, 2, 2, 1)), ("network_", Network(1, 5, 2, 1)),
        ("classes_", None), ("classes_", [0, 1]), ("classes_", np.array([5])), ("classes_", np.array([0, 1, 2])),
        ("threshold_", 0), ("threshold_", 1.0), ("threshold_", "validation"), ("threshold_", float("nan")),
        ("classes_", np.array([1, 0])), ("classes_", np.array(["a", "b"])), ("n_channels_in_", 3), ("normalizer_", None),
    ],
)  # fmt: skip
def test_what_fit_has_left_must_still_belong_together(images, tmp_path, name, value):
    """Of other classes than the network's, or of classes in another order, predictions and scores would be others, silently."""
    unet = UNet(**TINY).fit(*images)
    setattr(unet, name, value)
    says = r"^(network_|threshold_|classes_|n_channels_in_|normalizer_) is .*; it takes "
    for use in (
        lambda: unet.predict(images[0]), lambda: unet.predict_proba(images[0]), lambda: unet.score(*images),
        lambda: unet.save(tmp_path / "model.safetensors"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            use()
    assert not list(tmp_path.iterdir())


# ---- What would pass unseen, or be told in Python's words ----


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("norm", "layer", "None or 'batch' or 'group' or 'instance'"), ("clip_norm", 0, "None or a number above 0"),
        ("max_minutes", -1, "None or a number above 0"), ("weight_decay", -1, "None or a number from 0 up"),
        ("n_threads", 0, "None or a whole number from 1 up"), ("learning_rate", 0, "a number above 0"),
    ],
)  # fmt: skip
def test_that_none_is_taken_is_told(images, name, value, takes):
    with pytest.raises(ValueError) as refused:
        UNet(**(TINY | {name: value})).fit(*images)
    assert str(refused.value) == f"{name} is {value!r}; it takes {takes}"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["learning_rate", "weight_decay"])
def test_a_rate_beyond_float32_is_refused_without_a_warning_of_numpys(images, name):
    with pytest.raises(ValueError, match=rf"^{name} is 1e\+308; it takes a number from 0 up, and finite"):
        UNet(**(TINY | {name: 1e308})).fit(*images)


@pytest.mark.parametrize("depth", [0, 1])
def test_deep_supervision_is_refused_where_there_is_no_level_to_judge(images, depth):
    unet = UNet(**(TINY | {"depth": depth, "deep_supervision": True}))
    for call in (unet.fit, unet.find_learning_rate):
        with pytest.raises(ValueError, match=rf"^deep_supervision .* is True with depth={depth}, .* takes a depth .* from 2 up"):
            call(*images)
    assert not hasattr(unet, "network_")


@pytest.mark.parametrize("weight", [{0: "1", 1: 2}, ["1", "2"], np.array(["1", "2"]), [b"1", 2]])
def test_texts_are_no_class_weights(images, weight):
    with pytest.raises(ValueError, match=r"^class_weight is .*; it takes None, 'balanced', \{mask value: weight\}, or one"):
        UNet(**(TINY | {"class_weight": weight})).fit(*images)


def test_a_callback_that_cannot_be_called_is_refused_before_an_epoch(images):
    class Forgetful:
        def on_epoch_end(self, epoch):
            raise AssertionError("it was called")

    unet = UNet(**TINY)
    with pytest.raises(ValueError, match=r"^callbacks\[0\]\.on_epoch_end is a function of other arguments \(too many .*\)"):
        unet.fit(*images, callbacks=[Forgetful()])
    assert not hasattr(unet, "network_")
