"""Hostile checkpoints: models that load, perhaps, and trainings that nothing can be gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from fuzz.corpus_models import with_field
from fuzz.goingon import checkpoint
from fuzz.modelbytes import METADATA, ModelFile, seeds
from fuzz.recipe import REFUSED, SAME, Recipe, content, places

NAN, INF = float("nan"), float("inf")
TRAINING = "model/training"
FIELDS: dict[str, tuple[Any, ...]] = {
    "": (None, [], {}, 3, "x", True),
    "/minunet": ("", "0.0.0", "x" * 10**7, 3, None, "\x1b[2J", ["0.1.0"]),
    "/moments": (-1, 0, 1, 3, 4, 10**9, 10**300, 2.0, True, None, "2", NAN),
    "/n_updates": (-1, 0, 4, 6, 10**9, 10**300, 5.0, NAN, None),
    "/learning_rate": (NAN, INF, -1e-3, "x", None, True, 10**310),
    "/epoch": (-1, 0, 2, 3, 4, 10**9, 10**300, 1.0, NAN, True, None),
    "/index": (-1, 0, 1, 3, 10**9, 10**300, 2.0, NAN, True, None),
    "/n_steps": (-1, 0, 1, 4, 6, 10**9, 10**300, 5.0, NAN, None),
    "/seconds": (-1, NAN, INF, 1e300, 10**400, "0", None, True),
    "/losses": (
        [], [0.5], [0.5] * 3, [0.5] * 10**5, [NAN, 0.5], [INF, 0.5], [1e308, 1e308], [True, 0.5], ["0.5", "0.5"], [[0.5], [0.5]],
        [10**300, 10**300], [1, 2], None, {}, 0.5, "ab",
    ),
    "/data": (None, [], {}, "x", {"images": ""}),
    "/data/images": (
        "", "0" * 16, "0" * 64, "0" * 63, "g" * 64, "A" * 64, "0" * 4 * 10**6, "0" * 64 + "\x00" * 16, 3, None, ["0" * 64],
    ),
    "/data/masks": ("", "0" * 64, "0" * 80),
    "/data/weights": ("", "1" * 64),
    "/data/validation": ("0" * 48, "0", "z" * 16),
    "/data/held_out": ("", "0" * 16, "0" * 32),
    "/\x1b]0;x\x07": (1,),
    "/data/more": ("",),
}  # fmt: skip
ELSEWHERE: dict[str, tuple[Any, ...]] = {  # in the model's description, which then contradicts the training's
    "model/history": ({}, {"loss": [0.5], "steps": [3]}),
    "model/history/more": ([0.5],),
    "model/history/steps": ([4], [2.5], [0], [10**300]),
    "model/history/loss": ([0.5, 0.5], []),
    "model/estimator/max_epochs": ("3", 0),
    "model/estimator/optimizer": ("sgd", "x"),
    "model/estimator/learning_rate": (0.5,),
    "model/estimator/random_state": (None, 1),
    "model/classes/values": ([0, 254],),
    "model/normalizer/low": ([0.0],),
    "model/class_frequencies": ([0.5, 0.5],),
    "model/ignore_index": ([9],),
}
DROPPED = (
    TRAINING, *(f"{TRAINING}{field}" for field in FIELDS if field.count("/") == 1 and field[1].islower()),
    *(f"{TRAINING}/data/{name}" for name in ("images", "masks", "weights", "validation", "held_out")),
    "model/history/val_dice", "model/history/steps", "model/estimator/algorithm", "model/estimator/warm_start",
    "model/ignore_index", "tensor/moment0.head.bias", "tensor/moment1.encoder.0.conv1.weight",
)  # fmt: skip
HARMLESS: dict[str, tuple[Any, ...]] = {  # what is set anew at every step, or is told of, or is free
    f"{TRAINING}/learning_rate": (0, 1e300),
    f"{TRAINING}/seconds": (0, 1e9),
    "model/interrupted": (False,),
    "model/estimator/max_epochs": (10**6,),
    "model/estimator/n_threads": (4,),
}


def file() -> ModelFile:
    return ModelFile.of(checkpoint())


def with_fields(**changes: Any) -> Callable[[], bytes]:
    """Return what makes a file whose training has several other values, which may agree with each other."""

    def make() -> bytes:
        changed = file()
        changed.header[METADATA]["model"]["training"] |= changes
        return changed.bytes(seal=True)

    return make


def with_moment(name: str, values: Any, *, seal: bool = True) -> Callable[[], bytes]:
    """Return what makes a file with another tensor at the beginning of one that it has."""

    def make() -> bytes:
        changed = file()
        start = changed.header[name]["data_offsets"][0]
        raw, body = np.asarray(values, np.float32).tobytes(), bytearray(changed.body)
        body[start : start + len(raw)] = raw
        changed.body = bytes(body)
        return changed.bytes(seal=seal)

    return make


def with_tensor(name: str, **entry: Any) -> Callable[[], bytes]:
    """Return what makes a file with a tensor more, or otherwise described."""
    return lambda: _with_entry(name, entry)


def _with_entry(name: str, entry: dict[str, Any]) -> bytes:
    changed = file()
    changed.header[name] = changed.header.get(name, {}) | entry
    return changed.bytes(seal=True)


def sgd() -> bytes:
    """A moment too few, which nothing but the optimizer tells."""
    changed = file()
    second = [name for name in changed.header if name.startswith("moment1.")]  # which lies behind all else
    changed.body = changed.body[: min(changed.header.pop(name)["data_offsets"][0] for name in second)]
    changed.header[METADATA]["model"]["training"]["moments"] = 1
    return changed.bytes(seal=True)


def a_model() -> bytes:
    """Sound, and no checkpoint."""
    return seeds()[0]


def moments_and_no_steps() -> bytes:
    changed = file()
    model = changed.header[METADATA]["model"]
    model["history"] = {}
    model["training"] |= {"epoch": 0, "index": 0, "n_steps": 0, "n_updates": 0, "losses": []}
    return changed.bytes(seal=True)


CHANGED = {
    "more steps than an epoch has": with_fields(index=40, losses=[0.5] * 40, n_steps=43, n_updates=43),
    "more epochs than max_epochs": with_fields(epoch=10**6, n_steps=10**7, n_updates=10**7),
    "a moment too few": sgd,
    "a negative mean of squares": with_moment("moment1.head.bias", [-1e-30]),
    "NaN in a moment": with_moment("moment0.head.bias", [NAN]),
    "an infinity in a mean of squares": with_moment("moment1.encoder.0.conv1.weight", [INF]),
    "a moment that is another": with_moment("moment0.head.weight", [0.25], seal=False),
    "a moment that is a little less": with_moment("moment1.head.bias", [0.0], seal=False),
    "a third moment": with_tensor("moment2.head.bias", dtype="F32", shape=[0], data_offsets=[0, 0]),
    "a moment of another shape": with_tensor("moment0.head.weight", shape=[2]),
    "a moment of another dtype": with_tensor("moment0.head.weight", dtype="F16"),
    "a moment in another's place": with_tensor("moment0.head.bias", data_offsets=[0, 8]),
    "moments and no steps": moments_and_no_steps,
    "a model": a_model,
    "half a file": lambda: checkpoint()[: len(checkpoint()) // 2],
    "a byte short": lambda: checkpoint()[:-1],
    "nothing in it": lambda: b"",
}


def recipes() -> list[Recipe]:
    """Return all of them."""
    found = [(f"training: {name}", make, REFUSED) for name, make in CHANGED.items()]
    for fields, becomes in (({f"{TRAINING}{name}": v for name, v in FIELDS.items()} | ELSEWHERE, REFUSED), (HARMLESS, SAME)):
        for field, values in fields.items():
            found += [(_name(field, value), with_field(field, value, of=checkpoint), becomes) for value in values]
    found += [(f"without {field}", with_field(field, drop=True, of=checkpoint), REFUSED) for field in DROPPED]
    found.append(("training: sound", checkpoint, SAME))
    made = [Recipe("checkpoint", name, content(make), becomes, ".safetensors") for name, make, becomes in found]
    fresh = ("place: nothing", "place: link to nothing")  # where a training begins
    return made + [recipe for recipe in places("checkpoint", ".safetensors") if recipe.name not in fresh]


def _name(field: str, value: Any) -> str:
    text = json.dumps(value)
    return f"{field.replace('/', '.')} {text}" if len(text) < 60 else f"{field.replace('/', '.')} {text[:50]} ... {len(text)}"
