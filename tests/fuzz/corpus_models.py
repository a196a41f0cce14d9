"""Hostile model files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from fuzz.modelbytes import METADATA, ModelFile, joined, seeds
from fuzz.recipe import EITHER, REFUSED, SAME, Recipe, content, places


def sound() -> bytes:
    return seeds()[0]


def file() -> ModelFile:
    return ModelFile.of(sound())


def header() -> str:
    return file().text()


def with_text(change: Callable[[str], str | bytes]) -> Callable[[], bytes]:
    """Return what makes a file whose header's text is changed, its length set right."""
    return lambda: joined(change(header()), file().body)


def with_field(
    path: str, value: Any = None, *, raw: str | None = None, drop: bool = False, of: Callable[[], bytes] = sound
) -> Callable[[], bytes]:
    """Return what makes a file with another value at "model/classes/values", say; its digests right. `raw`: as JSON's text."""

    def make() -> bytes:
        changed = ModelFile.of(of())
        node: Any = changed.header if path.startswith("tensor/") else changed.header[METADATA]
        *way, last = path.removeprefix("tensor/").split("/")
        for key in way:
            node = node[key]
        if drop:
            del node[last]
        else:
            node[last] = changed.mark(raw) if raw is not None else value
        return changed.bytes(seal=True)

    return make


def with_body(change: Callable[[bytearray], object], *, seal: bool = False) -> Callable[[], bytes]:
    """Return what makes a file with other weights; `seal`: and digests that belong to them."""

    def make() -> bytes:
        changed = file()
        body = bytearray(changed.body)
        change(body)
        changed.body = bytes(body)
        return changed.bytes(seal=seal)

    return make


def put(at: int, values: Any) -> Callable[[bytearray], object]:
    raw = np.asarray(values, np.float32).tobytes()
    return lambda body: body.__setitem__(slice(at, at + len(raw)), raw)


def flipped(bit: int) -> Callable[[bytearray], object]:
    return lambda body: body.__setitem__(bit // 8, body[bit // 8] ^ 1 << bit % 8)


def offsets(name: str, change: Callable[[list[int]], Any]) -> Callable[[], bytes]:
    def make() -> bytes:
        changed = file()
        changed.header[name]["data_offsets"] = change(changed.header[name]["data_offsets"])
        return changed.bytes()

    return make


def same_place_twice() -> bytes:
    """Two tensors of one size lie in the same bytes, and the file is as long as ever."""
    changed = file()
    changed.header["head.bias"]["data_offsets"] = [0, 8]
    return changed.bytes(seal=True)


def deep(text: str, n: int, end: str) -> Callable[[], bytes]:
    return lambda: joined(text * n + "1" + end * n, b"")


HEAD, BIAS = "tensor/head.weight", "head.bias"
CLASSES, NORMALIZER, ESTIMATOR = "model/classes", "model/normalizer", "model/estimator"

LENGTHS = {
    "empty": lambda: b"",
    "seven bytes": lambda: sound()[:7],
    "a length and no header": lambda: sound()[:8],
    "length 0": lambda: bytes(8) + sound()[8:],
    "length 1": lambda: b"\1" + bytes(7) + sound()[8:],
    "length 2^64 - 1": lambda: b"\xff" * 8 + sound()[8:],
    "length 2^63": lambda: bytes(7) + b"\x80" + sound()[8:],
    "length beyond the file": lambda: joined(header(), file().body, 10**6),
    "length beyond the limit": lambda: joined(header(), b"", 2**25),
    "length in the other byte order": lambda: sound()[:8][::-1] + sound()[8:],
    "length a little short": lambda: joined(header(), file().body, 900),
    "length into the weights": lambda: joined(header(), file().body, len(header()) + 64),
    "half of the header": lambda: sound()[:600],
    "header and no weights": lambda: sound()[: -len(file().body)],
    "one byte short": lambda: sound()[:-1],
    "one byte long": lambda: sound() + b"\0",
    "weights twice": lambda: sound() + file().body,
    "a gzip file": lambda: gzip.compress(sound()),
    "a text": lambda: b"These are not the weights you are looking for.\n" * 20,
    "a pickle": lambda: b"\x80\x04cos\nsystem\n(S'echo'\ntR." + bytes(64),
    "zeros": lambda: bytes(4096),
    "ones": lambda: b"\xff" * 4096,
    "a ZIP file, as PyTorch's": lambda: b"PK\3\4" + bytes(400),
}
JSON = {
    "a list": with_text(lambda t: "[]"),
    "a number": with_text(lambda t: "12"),
    "a string": with_text(lambda t: '"x"'),
    "null": with_text(lambda t: "null"),
    "NaN": with_text(lambda t: "NaN"),
    "no JSON": with_text(lambda t: t[:-1]),
    "text behind it": with_text(lambda t: t + "{}"),
    "single quotes": with_text(lambda t: t.replace('"', "'")),
    "no UTF-8": with_text(lambda t: t.encode().replace(b"head", b"he\xffd")),
    "UTF-16": with_text(lambda t: t.encode("utf-16")),
    "a lone surrogate": with_text(lambda t: t.replace("head", "he\\ud800d")),
    "zeros behind it": with_text(lambda t: t + "\0" * 8),
    "lists in lists": deep("[", 100_000, "]"),
    "objects in objects": deep('{"a":', 50_000, "}"),
    "lists in lists in the metadata": with_field("model/history", raw="[" * 3000 + "]" * 3000),
    "a million lists": lambda: joined('{"a":[' + "[]," * 10**6 + "[]]}", b""),
    "many names": lambda: joined("{" + ",".join(f'"{i:x}":{{}}' for i in range(200_000)) + "}", b""),
    "the metadata twice": with_text(lambda t: t[:-1] + ', "__metadata__": {}}'),
    "a tensor twice": with_text(lambda t: t[:-1] + ', "head.bias": ' + json.dumps(file().header["head.bias"]) + "}"),
    "a number of 5000 digits": with_field("network/random_state", raw="1" + "0" * 5000),
    "a network field twice": with_field("network/depth", raw='0, "depth": 0'),
    "a model field twice": with_field(f"{CLASSES}/values", raw='[0, 255], "values": [255, 0]'),
    "a number beyond doubles": with_field(f"{ESTIMATOR}/learning_rate", raw="1e999"),
}
METADATA_FIELDS = {
    "none": with_text(lambda t: json.dumps({k: v for k, v in json.loads(t).items() if k != METADATA})),
    "null": with_text(lambda t: json.dumps(json.loads(t) | {METADATA: None})),
    "a list": with_text(lambda t: json.dumps(json.loads(t) | {METADATA: []})),
    "another format": with_field("format", "pt"),
    "a newer version": with_field("format_version", "9" * 8),
    "a version that is none": with_field("format_version", "\x1b[2J"),
    "a version of 3000 characters": with_field("format_version", "1" * 3000),
    "no network": with_field("network", drop=True),
    "no model": with_field("model", drop=True),
    "a network that is no JSON": with_field("network", "{"),
    "a network that is a list": with_field("network", [1]),
    "a model that is a number": with_field("model", "3"),
}
NETWORK = {
    "in_channels": (0, -1, 2**31, 2**70, 1.0, True, "1", None, [1]),
    "depth": (-1, 33, 2**31),
    "base_channels": (0, 2**40, 3),
    "dtype": ("float16", "O", "U9", "float64", 4),
    "padding": ("none", "", "same\n", None),
    "dropout": (1.0, -0.5, float("nan"), "0"),
    "algorithm": ("fast", "\x1b[31m", None),
    "block": ("os.system", "../x", "residual", {}),
    "deep_supervision": (True, 1, "yes", None),
    "random_state": (-1, 0.5),
    "\x1b]0;x\x07": (1,),
}
TENSORS = {
    "none of them": with_text(lambda t: json.dumps({METADATA: json.loads(t)[METADATA]})),
    "one is missing": with_field("tensor/head.bias", drop=True),
    "one too many": with_field("tensor/x", {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}),
    "one that is a number": with_field(HEAD, 3),
    "one that is empty": with_field(HEAD, {}),
    "half the bytes of a number": with_field(f"{HEAD}/dtype", "F16"),
    "twice the bytes of a number": with_field(f"{HEAD}/dtype", "F64"),
    "a dtype that is none": with_field(f"{HEAD}/dtype", "\x1b[31m"),
    "numbers of another kind": with_field(f"{HEAD}/dtype", "I32"),
    "axes in another order": with_field(f"{HEAD}/shape", [2, 1, 1, 1]),
    "a shape of one axis": with_field(f"{HEAD}/shape", [2]),
    "an empty shape": with_field(f"{HEAD}/shape", [0]),
    "a negative shape": with_field(f"{HEAD}/shape", [-1, -1, 1, 2]),
    "an enormous shape": with_field(f"{HEAD}/shape", [2**62, 2**62]),
    "a shape of fractions": with_field(f"{HEAD}/shape", [1.0, 1.0, 1.0, 2.0]),
    "offsets that overlap": same_place_twice,
    "offsets behind the end": offsets(BIAS, lambda o: [10**6, 10**6 + 8]),
    "negative offsets": offsets(BIAS, lambda o: [-8, 0]),
    "offsets in the wrong order": offsets(BIAS, lambda o: o[::-1]),
    "huge offsets": offsets(BIAS, lambda o: [2**64, 2**64 + 8]),
    "one offset": offsets(BIAS, lambda o: o[:1]),
    "three offsets": offsets(BIAS, lambda o: [*o, 9]),
    "offsets that are text": offsets(BIAS, lambda o: list(map(str, o))),
    "offsets that are fractions": offsets(BIAS, lambda o: list(map(float, o))),
    "offsets of other than its bytes": offsets(BIAS, lambda o: [o[0], o[1] - 4]),
    "NaN": with_body(put(0, np.nan), seal=True),
    "an infinity": with_body(put(8, -np.inf), seal=True),
}
FLIPPED = {f"bit {bit} flipped": with_body(flipped(bit)) for bit in (0, 22, 31, 100, 300)} | {
    "two weights swapped": with_body(lambda b: b.__setitem__(slice(0, 8), b[4:8] + b[0:4])),
    "weights in the other byte order": with_body(
        lambda b: b.__setitem__(slice(0, 16), bytes(np.frombuffer(b[:16], np.float32).byteswap()))
    ),
}
DESCRIPTION = {
    f"{CLASSES}/values": (
        [255, 0],
        [0, 0],
        [0.5, 1.5],
        [[0, 1], [2, 3]],
        ["\x1b[31mx", "y"],
        [0],
        [0, 1, 2],
        [],
        "01",
        None,
        [0, 2**63],
        [0, float("nan")],
        [0, -1],
        [0, 256],
        [True, False],
        {},
    ),
    f"{CLASSES}/dtype": (
        "U268435455",
        "S2000000000",
        "V2147483647",
        "(500000000,)i4",
        "M8[s]",
        "complex128",
        "bool",
        "O",
        "float32",
        "i4,i4",
        "",
        None,
        7,
        "\x1b",
    ),
    CLASSES: ([0, 255], None, {}),
    f"{NORMALIZER}/mode": ("zzz", "dataset", None, ["image"], "image\n"),
    f"{NORMALIZER}/low": ([float("nan")], 3, "x", [1e300], [1, 2]),
    NORMALIZER: ({"mode": "dataset", "low": [255], "high": [0]}, {"mode": "dataset", "low": [0, 0], "high": [1, 1]}, None, []),
    "model/channel_axis": ("false", 1, None),
    "model/snap": ("no", 0),
    "model/ignore_index": (255, [1.5], [True], [2**70], None, [0] * 2000),
    f"{NORMALIZER}/percentiles": ([], [99, 1], [float("nan"), 99], None, "1,99"),
    f"{NORMALIZER}/narrowest": ([-1], [float("inf")], 3, [1, 2]),
    f"{NORMALIZER}/limit": (0, -1, float("nan"), "x", 1e300),
    "model/interrupted": ("", []),
    "model/threshold": ("validation", 0, 1, 1.0, -0.5, float("nan"), True, []),
    "model/pixel_size": ("x", -1, 0, float("nan"), True, []),
    "model/smallest_object": ("x", -1, 0, float("nan"), True, [], 1, 2**70),
    "model/random_state": ("x", None, 1.5, True, -1),
    "model/history": ([], None, {"loss": "x"}, {"val_dice": [None]}, {"\x1b": [1]}, {"loss": [[1]]}),
    "model/class_frequencies": ([], [2, -1], [float("nan"), 1], "x", [[0.5, 0.5]]),
    ESTIMATOR: ({}, None, [], {"unknown": 1}),
    f"{ESTIMATOR}/base_channels": (64, "x", float("nan")),
    f"{ESTIMATOR}/n_threads": ("x", 0, -1),
    f"{ESTIMATOR}/device": ("cuda", "\x1b", 3),
    f"{ESTIMATOR}/verbose": ("x",),
    f"{ESTIMATOR}/loss": ("\x1b[31m", 3, None),
    f"{ESTIMATOR}/max_epochs": (-1, "x"),
    f"{ESTIMATOR}/class_weight": ("x", [1], {"0": -1}),
    f"{ESTIMATOR}/border_weight": ("x", [1], [10, 0], False),
    f"{ESTIMATOR}/patch_size": (0, -8),
    f"{ESTIMATOR}/x" + "y" * 2000: (1,),
}
READABLE = {
    "more spaces behind the header": with_text(lambda t: t + " " * 64),
    "tensors in another order": with_text(lambda t: json.dumps(dict(reversed(json.loads(t).items())))),
    "names escaped": with_text(lambda t: t.replace("head", "\\u0068ead")),
    "a header in lines": with_text(lambda t: json.dumps(json.loads(t), indent=1)),
}


def recipes() -> list[Recipe]:
    """Return all of them."""
    groups = {"length": LENGTHS, "JSON": JSON, "metadata": METADATA_FIELDS, "tensors": TENSORS, "weights": FLIPPED}
    found = [(f"{group}: {name}", make, REFUSED) for group, members in groups.items() for name, make in members.items()]
    for field, values in NETWORK.items():
        found += [(f"network: {field} {value!r}"[:90], with_field(f"network/{field}", value), REFUSED) for value in values]
    for field, values in DESCRIPTION.items():
        found += [(f"{field.replace('/', '.')} {value!r}"[:90], with_field(field, value), REFUSED) for value in values]
    found += [(f"readable: {name}", make, EITHER) for name, make in READABLE.items()]
    found.append(("readable: sound", sound, SAME))
    made = [Recipe("model", name, content(make), becomes, ".safetensors") for name, make, becomes in found]
    return made + places("model", ".safetensors")
