"""`save` and `load` keep every attribute that ends in _, of models in which each has another value than the usual."""

from __future__ import annotations

import math
import os
import signal
import warnings

import numpy as np
import pytest
from safetensors import safe_open

import minunet
from minunet import Network, UNet
from minunet.data.normalize import Normalizer

SMALL = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1, "verbose": 0, "random_state": 0}
RNG = np.random.default_rng(0)
X = RNG.random((4, 16, 16))
NOT_IN_A_FILE = {"held_out_": []}  # what it is after load


class Interrupt:
    def on_epoch_end(self, epoch, logs):
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)


def usual():
    return UNet(**SMALL).fit(X, (X > 0.5).astype(np.uint8))


def interrupted():
    """Bool classes, channels last, a threshold that was chosen, the best of several epochs, and Ctrl-C at last."""
    x = RNG.integers(0, 255, (4, 16, 16, 2)).astype(np.uint8)
    other = {"max_epochs": 9, "norm": "batch", "early_stopping": True, "threshold": "validation", "random_state": 9}
    unet = UNet(**SMALL | other | {"normalize": (2.0, 98.0)})
    return unet.fit(x, x[..., 0] > 99, pixel_size=0.25, callbacks=[Interrupt()])


def snapped():
    """Classes that have several values, values that are none, slices beside each other, one scale for all images."""
    y = RNG.choice(np.array([-3, 9, 11, 200, 7], np.int16), X.shape)
    unet = UNet(**SMALL | {"depth": 2, "context": 1, "normalize": "dataset", "class_weight": {-3: 1.0, 9: 2.0, 200: 3.0}})
    return unet.fit(10 * X, y, classes=[-3, (9, 11), 200], ignore_index=[7, 8])


def of_objects():
    objects = np.zeros((4, 16, 16), np.int32)
    objects[:, 2:5, 2:6], objects[:, 8:15, 7:14] = 1, 2
    return UNet(**SMALL | {"target": "instances", "random_state": None}).fit(X, objects)


@pytest.fixture(scope="module")
def models():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return {make.__name__: make() for make in (usual, interrupted, snapped, of_objects)}


def plain(value):
    """Return a value in lists and bytes, with the type of each part, so that == tells all that is different."""
    if isinstance(value, Network):
        parts = {"flat": value.flat, "state": value.state.flat, "config": value.config, "device": value.flat.dtype.name}
        return "Network", plain(parts)
    if isinstance(value, Normalizer):
        return "Normalizer", plain(vars(value))
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return "dict", [(key, plain(part)) for key, part in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [plain(part) for part in value]
    return type(value).__name__, "nan" if isinstance(value, float) and math.isnan(value) else value


def contents(path):
    """Return what a file holds: safetensors writes its metadata in any order."""
    with safe_open(path, framework="numpy") as file:
        return file.metadata(), {name: plain(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118


def fields(unet):
    return {name: value for name, value in vars(unet).items() if name.endswith("_")}


def test_each_field_has_another_value_than_the_usual_in_one_of_the_models(models):
    base, *others = map(fields, models.values())
    assert all(other.keys() == base.keys() for other in others)
    annotated = {name for name in UNet.__annotations__ if name.endswith("_")}
    assert base.keys() == annotated, "what fit gives a model, and what UNet says that it has"
    same = {name for name in base if all(plain(other[name]) == plain(base[name]) for other in others)}
    assert same <= NOT_IN_A_FILE.keys(), "a field that is dropped, and filled in as usual, would not show"


@pytest.mark.parametrize("name", ["usual", "interrupted", "snapped", "of_objects"])
def test_save_and_load_keep_all_fields_their_values_and_types(models, name, tmp_path):
    unet = models[name]
    unet.save(tmp_path / "a")
    loaded = minunet.load(tmp_path / "a")
    expected = fields(unet) | NOT_IN_A_FILE
    found = fields(loaded)
    assert found.keys() == expected.keys()
    assert {field: plain(value) for field, value in found.items()} == {field: plain(value) for field, value in expected.items()}
    loaded.save(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
