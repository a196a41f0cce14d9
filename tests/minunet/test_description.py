"""What a model file says of a model: whatever is wrong with it is told before a model is made of it."""

import contextlib
import dataclasses
import hashlib
import json
import re
import struct
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minunet
from minunet import ModelFileError, UNet, description, modelfile

SMALL = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 2, "batch_size": 2, "verbose": 0, "random_state": 3}
X = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 2)).astype(np.uint8)
Y = 255 * (X[..., 0] > 127).astype(np.uint8)
IMAGES = list(X[:1])
STRENGTHS = dataclasses.asdict(minunet.Augmentation())


@pytest.fixture(scope="module")
def fitted():
    return UNet(**SMALL, normalize="dataset", class_weight={0: 1.0, 255: 2.0}, device="cpu").fit(X, Y)


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    fitted.save(path)
    return path


@pytest.fixture(scope="module")
def probabilities(fitted):
    return fitted.predict_proba(IMAGES)[0]


class Parts:
    """A model file in parts that can be changed."""

    def __init__(self, path):
        data = path.read_bytes()
        length = 8 + int.from_bytes(data[:8], "little")
        self.header, self.body = json.loads(data[8:length]), data[length:]
        self.text = self.header["__metadata__"]
        self.model, self.network = (json.loads(self.text[field]) for field in ("model", "network"))

    def write(self, path, *, seal):
        """Write the file; with `seal` as one who knows the sums would, else with those of before."""
        self.text |= {"model": json.dumps(self.model), "network": json.dumps(self.network)}
        if seal:
            texts = "\0".join((self.text["network"], self.text["model"]))
            self.text["sha256_description"] = hashlib.sha256(texts.encode()).hexdigest()
        raw = json.dumps(self.header).encode()
        path.write_bytes(struct.pack("<Q", len(raw)) + raw + self.body)
        return path


def places(tree, path=()):
    """Give each place of a tree of dicts and lists, as its container and its key."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], (dict, list)):
            yield from places(tree[key], (*path, key))


def refused(path):
    """Load the file; return the message of a refusal, which is fit to be printed, or the model."""
    try:
        return None, minunet.load(path)
    except ModelFileError as error:
        message = str(error)
    assert path.name in message and len(message) < 1000 and message.isprintable()
    return message, None


def test_a_model_comes_back_whole(fitted, saved, probabilities):
    loaded = minunet.load(saved)
    np.testing.assert_array_equal(loaded.predict_proba(IMAGES)[0], probabilities)
    np.testing.assert_array_equal(loaded.normalizer_.low, fitted.normalizer_.low)
    np.testing.assert_array_equal(loaded.class_frequencies_, fitted.class_frequencies_)
    assert loaded.get_params() == fitted.get_params() | {"class_weight": [1.0, 2.0], "device": "auto"}
    assert loaded.classes_.tolist() == [0, 255] and loaded.classes_.dtype == fitted.classes_.dtype == np.uint8
    assert (loaded.channel_axis_, loaded.random_state_, loaded.interrupted_, loaded.snap_) == (True, 3, False, False)
    assert loaded.history_ == fitted.history_ and loaded.n_iter_ == 2 and loaded.n_channels_in_ == 2
    assert loaded.best_score_ == fitted.best_score_ and loaded.n_parameters_ == fitted.n_parameters_


CLASSES = [
    ([255, 0], "uint8", "values is [255, 0], of type list; it takes different values in rising order"),
    ([0, 0], "uint8", "it takes different values in rising order"),
    ([0.5, 1.5], "uint8", "is 0.5, of type float; it takes whole numbers from 0 to 255, those of uint8"),
    ([[0, 1], [2, 3]], "uint8", "is [0, 1], of type list; it takes whole numbers"),
    ([0, 256], "uint8", "is 256, of type int; it takes whole numbers from 0 to 255, those of uint8"),
    ([-1, 1], "uint8", "is -1, of type int"),
    ([0, 128], "int8", "is 128, of type int; it takes whole numbers from -128 to 127"),
    ([0, 2**64], "uint64", "is 18446744073709551616, of type int"),
    ([0, 10**390], "int64", "of type int; it takes whole numbers"),
    ([0, 255], "bool", "is 0, of type int; it takes false and true"),
    ([False, True], "uint8", "is False, of type bool; it takes whole numbers"),
    ([0, "255"], "uint8", "is '255', of type str"),
    ([0, None], "uint8", "is None, of type NoneType"),
    ([0, float("nan")], "uint8", "is nan, of type float"),
    (["\x1b[31mx", "y"], "U9", "classes.dtype is 'U9', of type str; it takes 'bool' or 'int8' or"),
    ([0, 255], "complex128", "classes.dtype is 'complex128'"),
    ([0, 255], "float32", "classes.dtype is 'float32'"),
    ([0, 255], "U268435455", "classes.dtype is 'U268435455'"),
    ([0, 255], "(500000000,)i4", "classes.dtype is '(500000000,)i4'"),
    ([0, 255], ">u1", "classes.dtype is '>u1'"),
    ([0, 255], "u1,u1", "classes.dtype is 'u1,u1'"),
    ([0, 255], {"names": ["a"], "formats": ["u1"]}, "classes.dtype is {"),
    ([0, 255], None, "classes.dtype is None"),
    ([0], "uint8", "values is [0], of type list; it takes one value for each of the network's 2 classes"),
    ([0, 1, 2], "uint8", "values is [0, 1, 2]"),
    ([], "uint8", "values is []"),
    ("ab", "uint8", "values is 'ab', of type str; it takes a list"),
    ({"0": 1}, "uint8", "values is {'0': 1}, of type dict; it takes a list"),
]


@pytest.mark.parametrize(("values", "dtype", "says"), CLASSES)
def test_classes_that_cannot_be(saved, tmp_path, values, dtype, says):
    parts = Parts(saved)
    parts.model["classes"] = {"values": values, "dtype": dtype}
    message, _ = refused(parts.write(tmp_path / "m.safetensors", seal=True))
    assert message and says in message and "classes" in message


NAN, INF = float("nan"), float("inf")
CHANGES = [
    (("normalizer", "mode"), "zzz", "normalizer.mode is 'zzz', of type str; it takes 'image' or 'dataset'"),
    (("normalizer", "mode"), "image", "normalizer.low is ["),
    (("classes", "joined"), None, "classes.joined is None, of type NoneType; it takes a list"),
    (("classes", "joined"), [1], "classes.joined is [1]"),
    (("classes", "joined"), [[1]], "classes.joined is [[1]]"),
    (("classes", "joined"), [[1, 2]], "classes.joined is [[1, 2]], of type list; it takes at most 1000 pairs"),
    (("classes", "joined"), [[255, 0]], "classes.joined is [[255, 0]]"),
    (("classes", "joined"), [[True, 0]], "classes.joined is [[True, 0]]"),
    (("classes", "joined"), [[2**64, 0]], "classes.joined is [[18446744073709551616, 0]]"),
    (("classes", "joined"), [[1, 0], [1, 255]], "classes.joined is [[1, 0], [1, 255]]"),
    (("classes", "joined"), [[i, 0] for i in range(300, 1301)], "classes.joined is"),
    (("normalizer", "low"), None, "normalizer.low is None, of type NoneType; it takes a finite number for each of"),
    (("normalizer", "high"), None, "normalizer.high is None"),
    (("normalizer", "low"), [0.0], "normalizer.low is [0.0]"),
    (("normalizer", "low"), [0.0, NAN], "normalizer.low is [0.0, nan]"),
    (("normalizer", "high"), [0.0, INF], "normalizer.high is [0.0, inf]"),
    (("normalizer", "high"), [0.0, True], "normalizer.high is [0.0, True]"),
    (("normalizer", "high"), [0.0, 10**399], "normalizer.high is [0.0, 1000000000"),
    (("normalizer", "high"), ["1", "2"], "normalizer.high is ['1', '2']"),
    (("normalizer", "high"), [[1.0], [2.0]], "normalizer.high is [[1.0], [2.0]]"),
    (("normalizer", "high"), [-1e9, 1e9], "it takes at most normalizer.high, [-1000000000.0, 1000000000.0]"),
    (("normalizer", "scale"), 1, "normalizer.scale is unknown; it takes mode, low, high"),
    (("normalizer",), [], "normalizer is [], of type list; it takes an object"),
    (("channel_axis",), "false", "channel_axis is 'false', of type str; it takes true or false"),
    (("channel_axis",), 1, "channel_axis is 1, of type int"),
    (("interrupted",), 0, "interrupted is 0"),
    (("snap",), None, "snap is None"),
    (("pixel_size",), -1.0, "pixel_size is -1.0, of type float; it takes null or micrometres"),
    (("pixel_size",), NAN, "pixel_size is nan"),
    (("pixel_size",), INF, "pixel_size is inf"),
    (("pixel_size",), True, "pixel_size is True"),
    (("pixel_size",), [0.5], "pixel_size is [0.5]"),
    (("smallest_object",), 9, "smallest_object is 9, of type int; it takes null, as estimator.target is classes"),
    (("smallest_object",), 0, "smallest_object is 0, of type int; it takes null or a number of pixels"),
    (("smallest_object",), 1.5, "smallest_object is 1.5"),
    (("estimator", "target"), "instances", "smallest_object is None, of type NoneType; it takes a number of pixels"),
    (("estimator", "target"), "pictures", "estimator.target is 'pictures'"),
    (("ignore_index",), 255, "ignore_index is 255, of type int; it takes a list"),
    (("ignore_index",), [True], "ignore_index is [True], of type list; it takes up to 1000 whole numbers"),
    (("ignore_index",), [2**64], "ignore_index is [18446744073709551616]"),
    (("ignore_index",), [0] * 1001, "ignore_index is [0, 0"),
    (("normalizer", "percentiles"), [99.0, 1.0], "normalizer.percentiles is [99.0, 1.0], of type list; it takes two rising"),
    (("normalizer", "percentiles"), [1.0, NAN], "normalizer.percentiles is [1.0, nan]"),
    (("normalizer", "percentiles"), [1.0, 50.0, 99.0], "normalizer.percentiles is [1.0, 50.0, 99.0]"),
    (("normalizer", "percentiles"), [2.0, 98.0], "normalizer.percentiles is [2.0, 98.0], of type list; it takes [1.0, 99.0]"),
    (("normalizer", "narrowest"), [1.0, 1.0], "normalizer.narrowest is [1.0, 1.0], of type list; it takes null"),
    (("normalizer", "limit"), 1e300, "normalizer.limit is 1e+300, of type float; it takes null or 10.0"),
    (("sealed",), 1, "model.sealed is 1"),
    (("random_state",), 4, "random_state is 4, of type int; it takes the network's, 3"),
    (("random_state",), 3.0, "random_state is 3.0, of type float"),
    (("random_state",), -1, "random_state is -1"),
    (("extra",), 1, "extra is unknown; it takes estimator, classes"),
    (("class_frequencies",), [0.5], "class_frequencies is [0.5]"),
    (("class_frequencies",), [0.5, 0.6], "class_frequencies is [0.5, 0.6]"),
    (("class_frequencies",), [-0.5, 1.5], "class_frequencies is [-0.5, 1.5]"),
    (("class_frequencies",), [NAN, 1.0], "class_frequencies is [nan, 1.0]"),
    (("class_frequencies",), [False, True], "class_frequencies is [False, True]"),
    (("class_frequencies",), ["0.5", "0.5"], "class_frequencies is ['0.5', '0.5']"),
    (("history", "loss"), [1.0], "it takes lists of one length"),
    (("history", "loss"), [1.0, NAN], "history.loss is [1.0, nan], of type list; it takes finite numbers"),
    (("history", "loss"), [1.0, "2"], "history.loss is [1.0, '2'], of type list; it takes a list of numbers, of 64 bits"),
    (("history", "loss"), [1.0, True], "history.loss is [1.0, True]"),
    (("history", "loss"), {"0": 1.0, "1": 2.0}, "history.loss is {'0': 1.0, '1': 2.0}"),
    (("history", "loss"), 5, "history.loss is 5"),
    (("history", "loss"), [1.0, 2**63], "it takes a list of numbers, of 64 bits"),
    (("history", "val_dice"), [0.5, 10**30], "it takes a list of numbers, of 64 bits"),
    (("history", "val_dice"), [0.5, 1.5], "history.val_dice is [0.5, 1.5], of type list; it takes numbers from 0 to 1, or NaN"),
    (("history", "val_dice"), [-INF, 0.5], "history.val_dice is [-inf, 0.5], of type list; it takes numbers from 0 to 1, or NaN"),
    (("history", "learning_rate"), [0.1, -0.1], "history.learning_rate is [0.1, -0.1], of type list; it takes numbers from 0 up"),
    (("history", "steps"), [-1, 5], "history.steps is [-1, 5], of type list; it takes numbers from 0 up"),
    (("history", "seconds"), [1.0, INF], "history.seconds is [1.0, inf]"),
    (("history",), {"val_dice": [0.5]}, "history is {'val_dice': 1}, of type dict; it takes the loss among its lists"),
    (("history", "val_dice"), [NAN, NAN], "history.val_dice is [nan, nan], of type list; it takes a number in one epoch"),
    (("history", "\x1b[31m"), [1.0, 2.0], r"a name in history is '\x1b[31m'"),
    (("history", "x" * 101), [1.0, 2.0], "a name in history is 'xxx"),
    (("history",), None, "history is None"),
    (("estimator", "base_channels"), 64, "estimator.base_channels is 64, of type int; it takes what the network has, 2"),
    (("estimator", "base_channels"), 2.0, "base_channels is 2.0; it takes a whole number"),
    (("estimator", "depth"), True, "depth is True; it takes a whole number"),
    (("estimator", "depth"), 2, "estimator.depth is 2"),
    (("estimator", "padding"), "valid", "estimator.padding is 'valid', of type str; it takes what the network has, 'same'"),
    (("estimator", "dropout"), 0.5, "estimator.dropout is 0.5"),
    (("estimator", "dropout"), False, "dropout is False; it takes a number"),
    (("estimator", "algorithm"), "direct", "estimator.algorithm is 'direct'"),
    (("estimator", "block"), "residual", "estimator.block is 'residual'"),
    (("estimator", "deep_supervision"), True, "estimator.deep_supervision is True, of type bool; it takes what the net"),
    (("estimator", "norm"), "group", "estimator.norm is 'group', of type str; it takes what the network has, None"),
    (("estimator", "normalize"), "image", "estimator.normalize is 'image', of type str; it takes the normalizer's mode"),
    (("estimator", "random_state"), 4, "estimator.random_state is 4, of type int; it takes null or 3"),
    (("estimator", "random_state"), 3.0, "random_state is 3.0"),
    (("estimator", "n_threads"), "x", "estimator.n_threads is 'x'"),
    (("estimator", "n_threads"), 0, "estimator.n_threads is 0"),
    (("estimator", "n_threads"), 10**9, "estimator.n_threads is 1000000000, of type int; it takes null or a whole number from"),
    (("estimator", "device"), "cuda", "estimator.device is 'cuda', of type str; it takes 'auto' or 'cpu'"),
    (("estimator", "precision"), "bf16", "estimator.precision is 'bf16'"),
    (("estimator", "verbose"), -1, "verbose is -1; it takes a whole number from 0 up"),
    (("estimator", "augment"), 1, "estimator.augment is 1, of type int; it takes true, false, an object of strengths, or a name"),
    (("estimator", "augment"), "\x1b[31m", r"estimator.augment is '\x1b[31m'"),
    (("estimator", "augment"), {"flips": True}, "estimator.augment.rotation is missing"),
    (("estimator", "augment"), STRENGTHS | {"__class__": 1}, "estimator.augment.__class__ is unknown"),
    (("estimator", "augment"), STRENGTHS | {"scale": 1e9}, "estimator.augment.scale is 1000000000.0; it takes a number from 0"),
    (("estimator", "augment"), STRENGTHS | {"noise": NAN}, "estimator.augment.noise is nan; it takes a number from 0 to 2"),
    (("estimator", "augment"), STRENGTHS | {"blur": [1]}, "estimator.augment.blur is [1]; it takes a number from 0 to 10"),
    (("estimator", "augment"), STRENGTHS | {"flips": 1}, "estimator.augment.flips is 1; it takes True or False"),
    (("estimator", "context"), 1, "estimator.context is 1, of type int; it takes a whole number from 0 to 100"),
    (("estimator", "context"), 0.0, "estimator.context is 0.0, of type float"),
    (("estimator", "context"), True, "estimator.context is True"),
    (("estimator", "context"), 10**399, "estimator.context is "),
    (("estimator", "optimizer"), "x" * 10**6, "estimator.optimizer is 'xxx"),
    (("estimator", "optimizer"), "lion", "estimator.optimizer is 'lion'; it takes 'adam' or 'adamw' or 'sgd' or 'nesterov'"),
    (("estimator", "schedule"), "linear", "estimator.schedule is 'linear'; it takes 'poly' or"),
    (("estimator", "average"), 1, "estimator.average is 1; it takes None or a number above 0 and below 1"),
    (("estimator", "learning_rate"), -1, "estimator.learning_rate is -1"),
    (("estimator", "learning_rate"), NAN, "estimator.learning_rate is nan"),
    (("estimator", "learning_rate"), 10**399, "estimator."),
    (("estimator", "learning_rate"), [1] * 10**5, "estimator.learning_rate is [1, 1, 1, 1, 1, 1, ...]"),
    (("estimator", "max_minutes"), 0, "estimator.max_minutes is 0"),
    (("estimator", "max_epochs"), None, "estimator.max_epochs is None"),
    (("estimator", "class_weight"), [1.0], "estimator.class_weight is [1.0], of type list; it takes null, 'balanced' or"),
    (("estimator", "class_weight"), ["1", "2"], "estimator.class_weight is ['1', '2']"),
    (("estimator", "class_weight"), [1.0, -1.0], "estimator.class_weight is [1.0, -1.0]"),
    (("estimator", "class_weight"), [0, NAN], "estimator.class_weight is [0, nan]"),
    (("estimator", "class_weight"), {"0": 1.0, "255": 2.0}, "estimator.class_weight is {"),
    (("estimator", "class_weight"), "uniform", "estimator.class_weight is 'uniform'"),
    (("estimator", "border_weight"), [1.0], "estimator.border_weight is [1.0], of type list; it takes null, true or two numbers"),
    (("estimator", "border_weight"), ["1", "2"], "estimator.border_weight is ['1', '2']"),
    (("estimator", "border_weight"), [10, 0], "estimator.border_weight is [10, 0]; it takes None, True for the paper's"),
    (("estimator", "border_weight"), [10**399, 5], "estimator.border_weight is"),
    (("estimator", "border_weight"), 1, "estimator.border_weight is 1"),
    (("estimator", "loss"), "\x1b]0;title\x07", r"estimator.loss is '\x1b]0;title\x07'"),
    (("estimator", "loss"), "\u202egnp.exe", r"estimator.loss is '\u202egnp.exe'"),
    (("estimator", "loss"), "x" * 10**5, "estimator.loss is 'xxx"),
    (("estimator", "loss"), ["dice"], "estimator.loss is ['dice']"),
    (("estimator", "callbacks"), "os.system", "estimator.callbacks is unknown; it takes base_channels"),
    (("estimator", "\x1b[31m"), 1, r"estimator.\x1b[31m is unknown"),
    (("estimator",), None, "estimator is None"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "says"), CHANGES, ids=lambda v: ".".join(v)[:40] if isinstance(v, tuple) else None)
def test_a_field_that_cannot_be(saved, tmp_path, path, value, says):
    parts = Parts(saved)
    place = parts.model
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    message, _ = refused(parts.write(tmp_path / "m.safetensors", seal=True))
    assert message and says in message


FIELDS = [
    *((name,) for name in (*description.DESCRIPTION, "sealed")),
    *(("classes", name) for name in description.CLASSES if name not in description.JOINED),
    *(("normalizer", name) for name in description.NORMALIZER),
    *(("estimator", name) for name in UNet().get_params()),
]


@pytest.mark.parametrize("path", FIELDS, ids=".".join)
def test_a_field_that_is_missing(saved, tmp_path, path):
    parts = Parts(saved)
    place = parts.model
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]
    message, _ = refused(parts.write(tmp_path / "m.safetensors", seal=True))
    later = path[-2:-1] == ("estimator",) and path[-1] not in description.FIRST
    if later or path[-1] in (*description.SINCE, *description.OLD_NORMALIZER):  # files from before have none
        assert message is None
    else:
        assert f"{'.'.join(path)} is missing" in message or path == ("sealed",)


@pytest.mark.parametrize(
    "change",
    [
        {"history": {}}, {"history": {"loss": [1.0, 2.0], "val_dice": [NAN, 0.5], "val_loss": [INF, NAN], "mine": [1, 2]}},
        {"interrupted": True}, {"snap": True}, {"pixel_size": None}, {"pixel_size": 0.325}, {"ignore_index": [-1, 255]},
        {"classes": {"values": [0, 255], "dtype": "uint8", "joined": [[1, 255], [251, 255], [-1, 0]]}},
    ],
)  # fmt: skip
def test_what_may_be_is_taken(saved, probabilities, tmp_path, change):
    parts = Parts(saved)
    parts.model |= change
    _, loaded = refused(parts.write(tmp_path / "m", seal=True))
    with pytest.warns(UserWarning, match="cut short") if loaded.interrupted_ else contextlib.nullcontext():
        np.testing.assert_array_equal(loaded.predict_proba(IMAGES)[0], probabilities)
    assert repr(loaded.history_) == repr(parts.model["history"])
    assert (loaded.interrupted_, loaded.snap_) == (parts.model["interrupted"], parts.model["snap"])
    assert loaded.pixel_size_ == parts.model["pixel_size"]
    assert loaded.joined_ == dict(parts.model["classes"].get("joined", []))


def test_a_bool_model_comes_back(tmp_path):
    unet = UNet(**SMALL, device="cpu").fit(X, X[..., 0] > 127)
    unet.save(tmp_path / "m")
    assert minunet.load(tmp_path / "m").predict(X).dtype == bool


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from([0, 1, 2, 255, 256, 2**31, 2**63, 2**64, 10**30, "", "auto", "same", "\x1b[2J", "\u202e", "U99999999"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)  # fmt: skip


@given(data=st.data(), seal=st.booleans())
def test_any_change_of_any_field_is_refused_or_changes_nothing(saved, probabilities, tmp_path_factory, data, seal):
    parts = Parts(saved)
    before = json.dumps([parts.header, parts.model, parts.network])
    trees = {"model": parts.model, "network": parts.network, "header": parts.header}
    tree, key = data.draw(st.sampled_from(list(places(trees[data.draw(st.sampled_from(sorted(trees)))]))))
    kind = data.draw(st.sampled_from(["set", "delete", "add", "swap"]))
    if kind == "set":
        tree[key] = data.draw(anything)
    elif kind == "delete":
        del tree[key]
    elif kind == "swap":
        other = data.draw(st.sampled_from(list(tree) if isinstance(tree, dict) else range(len(tree))))
        tree[key], tree[other] = tree[other], tree[key]
    elif isinstance(tree, dict):
        tree[data.draw(st.text(max_size=8))] = data.draw(anything)
    else:
        tree.insert(key, data.draw(anything))
    same = json.dumps([parts.header, parts.model, parts.network]) == before
    if not isinstance(parts.header.get("__metadata__"), dict):
        return  # no file of ours: test_modelfile.py
    parts.text = parts.header["__metadata__"]
    in_header = tree is parts.header or tree is parts.text or json.dumps(parts.header) != json.dumps(Parts(saved).header)
    folder = tmp_path_factory.mktemp("field")
    if in_header:  # what was changed there is written as it is
        raw = json.dumps(parts.header).encode()
        path = folder / "m.safetensors"
        path.write_bytes(struct.pack("<Q", len(raw)) + raw + parts.body)
    else:
        path = parts.write(folder / "m.safetensors", seal=seal)
    message, loaded = refused(path)
    if loaded is not None:
        assert same or (seal and not in_header)
        if parts.model["normalizer"] != Parts(saved).model["normalizer"]:
            return  # other numbers in order: another model, sealed by one who knows how
        np.testing.assert_array_equal(loaded.predict_proba(IMAGES)[0], probabilities)


def test_what_a_hundred_thousand_epochs_were_is_loaded(saved, probabilities, tmp_path):
    parts = Parts(saved)
    rng = np.random.default_rng(0)
    names = ("loss", "val_loss", "val_dice", "learning_rate", "seconds", "steps")
    parts.model["history"] = {name: rng.random(100_000).tolist() for name in names}
    loaded = minunet.load(parts.write(tmp_path / "m", seal=True))
    assert loaded.n_iter_ == 100_000 and loaded.history_ == parts.model["history"]
    loaded.save(tmp_path / "again")
    assert minunet.load(tmp_path / "again").history_ == loaded.history_


def test_of_a_longer_history_the_last_epochs_are_kept(fitted, saved, tmp_path, monkeypatch):
    monkeypatch.setattr("minunet.trainingstate.MAX_NUMBERS", 12)
    unet = minunet.load(saved)
    unet.history_ = {name: [value / 8 for value in range(5)] for name in ("loss", "val_dice", "mine", "steps")}
    with pytest.warns(UserWarning, match="the history has 5 epochs; the model file keeps the last 3"):
        unet.save(tmp_path / "m")
    assert minunet.load(tmp_path / "m").history_ == {name: [0.25, 0.375, 0.5] for name in unet.history_}
    unet.history_ = {name: values[:3] for name, values in unet.history_.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unet.save(tmp_path / "m")


def test_what_could_not_be_read_is_not_written(saved, tmp_path):
    unet = minunet.load(saved).set_params(verbose="x")
    path = tmp_path / "m.safetensors"
    says = "estimator.verbose is 'x'"
    with pytest.raises(ValueError, match=re.escape(f"{path} was not written, as it could not be read again: {says}")):
        unet.save(path)
    assert not path.exists()


def test_settings_for_another_fit_do_not_stand_in_the_file_of_this_one(saved, tmp_path):
    unet = minunet.load(saved)
    before = unet.get_params()
    others = {"base_channels": 8, "depth": 3, "dropout": 0.5, "block": "residual", "normalize": "image", "random_state": 77}
    assert not any(before[name] == value for name, value in others.items())
    unet.set_params(**others).save(tmp_path / "m")
    loaded = minunet.load(tmp_path / "m")
    assert {name: loaded.get_params()[name] for name in others} == {name: before[name] for name in others}
    np.testing.assert_array_equal(loaded.network_.flat, unet.network_.flat)


def test_a_longer_name_of_a_loss_is_cut(saved, tmp_path):
    class Mine(minunet.losses.Loss):
        def __repr__(self):
            return "Mine(\x1b[31m" + "x" * 10**6 + ")"

    minunet.load(saved).set_params(loss=Mine()).save(tmp_path / "m")
    loaded = minunet.load(tmp_path / "m")
    assert loaded.loss.startswith(r"Mine(\x1b[31mxxx") and len(loaded.loss) < 1000


def test_networks_alone_have_no_description_to_ask(saved):
    network, said = modelfile.load(saved)
    assert network.n_parameters and set(said) == set(description.DESCRIPTION)
