"""The target "model": whatever a file holds, `minunet.load` refuses it as a ModelFileError, or has loaded what it says.

A checkpoint is loaded as a model, and gone on with.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import warnings
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.goingon import go_on
from fuzz.judge import ACCEPTED, REFUSED, demand, sentence
from fuzz.modelbytes import INSIDE, METADATA, mutated, seeds
from fuzz.source import Source

import minunet
from minunet import description
from minunet.modelfile import ModelFileError

NAME = "fuzz.safetensors"
SECONDS = 1.0  # of the processor, that a case may take
MEMORY = 2**26  # bytes that it may take
IMAGE = np.arange(64, dtype=np.uint8).reshape(8, 8)


def test_one_input(data: bytes) -> tuple[str, str]:
    """Judge one case: return what became of it, and a refusal's message; Broken, or what was raised, where that is wrong."""
    file, which, may_differ = mutated(Source(data))
    return judge(written(file), file, which, may_differ)


def warm_up() -> None:
    """Compile what predicting takes: that is no case's time."""
    for which in range(len(seeds())):
        demand_predicts(minunet.load(written(seeds()[which])))
    demand(gone_on(seeds()[-1]), "a sound checkpoint is gone on with")


def written(file: bytes) -> Path:
    """Write the bytes where the last ones stood."""
    path, descriptor = _place()
    os.pwrite(descriptor, file, 0)
    os.ftruncate(descriptor, len(file))
    return path


@cache
def _place() -> tuple[Path, int]:
    """Return a file and its descriptor, which stays open: opening it takes longer than reading it does."""
    path = Path(tempfile.mkdtemp(prefix="fuzz-model-")) / NAME
    return path, os.open(path, os.O_RDWR | os.O_CREAT)


def gone_on(file: bytes) -> bool:
    """Go on with a training, in a file of its own, which it writes over; return whether that was not refused."""
    path = _place()[0].with_name("training.safetensors")
    path.write_bytes(file)
    return go_on(path)[0] is not None


def judge(path: Path, file: bytes, which: int, may_differ: bool) -> tuple[str, str]:
    try:
        unet = minunet.load(path)
    except ModelFileError as error:
        return REFUSED, sentence(str(error), path.name)
    if not may_differ:
        demand(state(unet) == seed_state(which), "what was damaged is refused, or means what it meant")
    elif file != seeds()[which]:
        demand_loaded_as_written(unet, file)
        demand_sound(unet)
        if zlib.crc32(file) % 4 == 0:  # it takes ten times as long as all the rest
            demand_predicts(unet)
        if which == len(seeds()) - 1:
            gone_on(file)
    return ACCEPTED, ""


def state(unet: minunet.UNet) -> dict[str, Any]:
    """Return all that a model is, to be compared."""
    learned = {
        name: value for name, value in vars(unet).items() if name.endswith("_") and name not in ("network_", "normalizer_")
    }
    arrays = {
        name: (value.tolist(), value.dtype.str) if isinstance(value, np.ndarray) else value for name, value in learned.items()
    }
    arrays |= {"parameters": unet.get_params(), "normalizer": unet.normalizer_.to_dict(), "config": unet.network_.config}
    return {name: repr(value) for name, value in arrays.items()} | {"weights": unet.network_.flat.tobytes()}


@cache
def seed_state(which: int) -> dict[str, Any]:
    path = _place()[0].with_name("seed.safetensors")
    path.write_bytes(seeds()[which])
    return state(minunet.load(path))


def demand_loaded_as_written(unet: minunet.UNet, file: bytes) -> None:
    """Read the file a second time, by other means, and compare."""
    n = 8 + int.from_bytes(file[:8], "little")
    header, body = json.loads(file[8:n], object_pairs_hook=once), file[n:]
    network, model = (json.loads(header[METADATA][name], object_pairs_hook=once) for name in INSIDE)
    model.pop("sealed", None)
    for name, array in unet.network_.parameters.items():
        start, end = header[name]["data_offsets"]
        demand(body[start:end] == array.tobytes(), "a tensor is what the file holds", name)
    n = len(unet.network_.parameters) * (1 + model.get("training", {"moments": 0})["moments"])
    demand(len(header) - 1 == n, "no tensor is left out", sorted(header))
    config, parameters = unet.network_.config, unet.get_params()
    for name, value in network.items():
        demand(same(config[name], value), f"the network's {name} is what is described", (config[name], value))
    for name, value in model["estimator"].items():
        found = list(parameters[name]) if name in ("normalize", "border_weight") and isinstance(value, list) else parameters[name]
        demand(same(found, value), f"the parameter {name} is what is described", (parameters[name], value))
    described = model["classes"], unet.classes_
    demand(same(unet.classes_.tolist(), model["classes"]["values"]), "classes_ are those described", described)
    demand(same(unet.classes_.dtype.name, model["classes"]["dtype"]), "classes_ are of the dtype described", described)
    normalizers = unet.normalizer_.to_dict(), model["normalizer"]
    demand(same_numbers(*normalizers), "the normalizer is the one described", normalizers)
    model = description.SINCE | model
    for name in ("channel_axis", "interrupted", "snap", "random_state", "ignore_index", "threshold"):
        found = getattr(unet, f"{name}_")
        demand(same(found, model[name]), f"{name} is what is described", (found, model[name]))


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    demand(len(dict(pairs)) == len(pairs), "of a name that stands twice none is taken", [name for name, _ in pairs])
    return dict(pairs)


def same(a: Any, b: Any) -> bool:
    """Tell whether two values are equal and of one type: True is not 1. A whole number may stand for a float."""
    return repr(a) == repr(b) or (type(a) is type(b) and a == b) or (type(a) is float and type(b) is int and a == b)


def same_numbers(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Tell whether two normalizers agree; there 1 may stand for 1.0."""
    if not same(a["mode"], b["mode"]):
        return False
    pairs = [(a[name], b.get(name, old)) for name, old in {"low": None, "high": None, **description.OLD_NORMALIZER}.items()]
    pairs = [(list(x), y) if isinstance(x, tuple) else ([x], [y]) if isinstance(x, float) else (x, y) for x, y in pairs]
    return all(x is y is None or (isinstance(x, list) and isinstance(y, list) and np.array_equal(x, y)) for x, y in pairs)


def demand_sound(unet: minunet.UNet) -> None:
    """What was loaded makes sense."""
    classes, normalizer = unet.classes_, unet.normalizer_
    demand(classes.ndim == 1 and classes.dtype.kind in "biu", "classes_ are whole numbers", classes)
    demand((classes[1:] > classes[:-1]).all(), "classes_ are sorted, none twice", classes)
    demand(len(classes) == unet.network_.out_channels, "there is a class for each output", classes)
    demand(normalizer.mode in ("image", "dataset"), "the normalizer's mode is one that there is", normalizer.mode)
    has = normalizer.low is not None
    demand(has if normalizer.mode == "dataset" else has == (normalizer.narrowest is not None), "numbers fit the mode", normalizer)
    if normalizer.low is not None and normalizer.high is not None:
        shapes = (normalizer.low.shape, normalizer.high.shape)
        demand(set(shapes) == {(unet.n_channels_in_,)}, "the normalizer has a number for each channel", shapes)
        finite = np.isfinite(normalizer.low).all() and np.isfinite(normalizer.high).all()
        demand(
            finite and (normalizer.low <= normalizer.high).all(), "the normalizer's numbers are finite and ordered", normalizer
        )
    for name in ("base_channels", "depth", "padding", "dropout", "block", "algorithm", "deep_supervision"):
        both = unet.get_params()[name], unet.network_.config[name]
        demand(same(*both), f"estimator and network agree on {name}", both)


def demand_predicts(unet: minunet.UNet) -> None:
    """Its predictions are probabilities, or refused."""
    unet.set_params(n_threads=None, device="cpu")
    shape = (8, 8, unet.n_channels_in_) if unet.channel_axis_ or unet.n_channels_in_ > 1 else (8, 8)
    image = np.zeros(shape, np.uint8) + (IMAGE[..., None] if len(shape) == 3 else IMAGE)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it tells of this image, and of a training that was cut short
            p = unet.predict_proba([image])[0]
    except FloatingPointError as error:
        demand("no finite answer" in sentence(str(error)), "what is not finite is refused for that", error)
        return
    except ValueError as error:
        sentence(str(error))
        return
    demand(p.shape == (8, 8, len(unet.classes_)), "there is a probability for each class", p.shape)
    demand(
        np.isfinite(p).all() and math.isclose(float(p.sum()), 64, rel_tol=1e-3), "probabilities are finite, and add up to 1", p
    )
