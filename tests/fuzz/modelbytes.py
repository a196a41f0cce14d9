"""Model files, taken apart and put together again wrongly: by the bytes, and by the fields of the description."""

from __future__ import annotations

import hashlib
import json
import tempfile
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.damage import damaged
from fuzz.goingon import checkpoint
from fuzz.source import Source

METADATA = "__metadata__"
INSIDE = ("network", "model")  # metadata that is JSON inside JSON
NAMES = (
    "",
    "format",
    "a\nb",
    "\x1b[31mred",
    "\u202e",
    "\ud800",
    "x" * 300,
    "__metadata__",
    "../x",
    "head.weight",
    "classes",
    "é" * 40,
)
HOSTILE: tuple[Any, ...] = (
    None, True, False, [], {}, [[]], 0, 1, -1, 0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"), -float("inf"), "", "x", "0",
    "nan",
    "float16", "U268435455", "V2147483647", "M8[s]", "(500000000,)i4", "O", "uint8", "F16", "/etc/passwd", "\x1b]0;x\x07",
    "\x00", "\u2028",
    "\ud800", "x" * 3000, ["a", 1], {"a": 1}, [0, 0], [255, 0], [1, 0.5], [float("nan")], [[0, 1], [2, 3]], list(range(300)),
    [2**63],
)  # fmt: skip
RAW = (
    "1" + "0" * 400, "1" + "0" * 5000, "1e999", "-1e999", "1E400", "00", "0x10", "[" * 200 + "]" * 200, "[" * 2000,
    '{"a":' * 500 + "1" + "}" * 500,
    "NaN", "-Infinity", '"\\ud800"', '"\\u0000"', "1 2", "", "//", "'x'", "[1,]", '{"a":1,"a":2}', "1.0", "1e2", "-0",
    '"unclosed',
)  # fmt: skip


@dataclass
class ModelFile:
    """The parts of a model file. In `raw` stand texts that are to be written where their marks stand."""

    header: dict[str, Any]
    body: bytes
    raw: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, data: bytes) -> ModelFile:
        n = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:n])
        for name in INSIDE:
            header[METADATA][name] = json.loads(header[METADATA][name])
        return cls(header, data[n:])

    def mark(self, text: str) -> str:
        """Return a string that will be written as this text: what JSON's own writer would not write."""
        self.raw.append(text)
        return f"@@{len(self.raw) - 1}@@"

    def text(self, seal: bool = False) -> str:
        """Return the header's JSON."""
        header = self.header
        metadata = header.get(METADATA)
        if isinstance(metadata, dict):
            inside = {name: self._dumps(metadata[name]) for name in INSIDE if isinstance(metadata.get(name), (dict, list))}
            metadata = metadata | inside
            header = header | {METADATA: metadata | (self._sums(metadata) if seal else {})}
        return self._dumps(header)

    def _sums(self, metadata: dict[str, Any]) -> dict[str, str]:
        """Return digests that are right, as far as the file has any: made as someone would who means harm."""
        words = [metadata[name] if isinstance(metadata.get(name), str) else "" for name in INSIDE]
        description = "\0".join(words).encode("utf-8", "surrogatepass")
        sums = {"sha256_description": hashlib.sha256(description), "sha256_weights": hashlib.sha256()}
        for name, entry in sorted(self.header.items()):
            places = entry.get("data_offsets") if isinstance(entry, dict) and name != METADATA else None
            if isinstance(places, list) and len(places) == 2 and all(isinstance(n, int) for n in places):
                sums["sha256_weights"].update(name.encode("utf-8", "surrogatepass") + b"\0" + self.body[slice(*places)])
        return {name: found.hexdigest() for name, found in sums.items() if name in metadata}

    def _dumps(self, value: Any) -> str:
        text = json.dumps(value)
        for i, raw in enumerate(self.raw):
            text = text.replace(f'"@@{i}@@"', raw)
        return text

    def bytes(self, seal: bool = False) -> bytes:
        """Return the file, its header's length set right; `seal`: its digests, too, as far as there are any."""
        return joined(self.text(seal), self.body)

    def unseal(self) -> None:
        """Take the digests out, and that there were any: the file becomes one of before there were."""
        metadata = self.header[METADATA]
        metadata["model"].pop("sealed", None)
        for name in digests(metadata):
            del metadata[name]


def joined(text: str | bytes, body: bytes, length: int | None = None) -> bytes:
    """Return a file of this header, padded as safetensors pads it, and this body."""
    encoded = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    encoded += b" " * (-len(encoded) % 8)
    return (len(encoded) if length is None else length).to_bytes(8, "little") + encoded + body


def digests(metadata: Any) -> list[str]:
    """Return the names of the metadata that guard against changes."""
    return [name for name in metadata if "sha256" in name] if isinstance(metadata, dict) else []


@cache
def seeds() -> tuple[bytes, ...]:
    """Return small sound models: of two classes and of three, with other settings each; the last is a checkpoint."""
    from minunet import UNet

    tiny = {"base_channels": 1, "depth": 0, "patch_size": 8, "max_epochs": 1, "random_state": 0, "verbose": 0, "device": "cpu"}
    grey, masks = np.arange(128, dtype=np.uint8).reshape(2, 8, 8), np.arange(128).reshape(2, 8, 8) // 7 % 2
    found = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder) / "model.safetensors"
        other = {"normalize": "dataset", "block": "residual", "optimizer": "sgd"}
        third = {"depth": 1, "padding": "valid", "class_weight": "balanced", "dropout": 0.25, "validation_fraction": 0.0}
        for x, y, settings in (
            (grey, masks.astype(np.uint8) * 255, {}),
            (grey[..., None] + np.zeros(2, np.uint8), masks * 9 - 4 + (grey > 100), other),
            (grey, masks > 0, third),
        ):
            UNet(**tiny | settings).fit(x, y).save(path)
            found.append(path.read_bytes())
    return *found, checkpoint()


def mutated(source: Source) -> tuple[bytes, int, bool]:
    """Return a damaged model file, which seed it was, and whether its digests were made anew (so that it may well be sound)."""
    which = source.below(len(seeds()))
    data = seeds()[which]
    kind = source.below(8)
    if kind == 0:
        return data, which, False
    if kind == 1:
        return damaged(data, source, seeds()), which, False
    if kind == 2:
        return damaged_text(data, source), which, False
    if kind == 7:
        return source.rest(), which, True  # libFuzzer's own bytes, whatever they are
    file = ModelFile.of(data)
    if source.once_in(6):
        file.unseal()
    for _ in range(source.between(1, 3)):
        edit_body(file, source) if kind == 3 else edit(file, source)
    seal = kind != 4 and not source.once_in(4)
    result = file.bytes(seal)
    if source.once_in(8):
        result = damaged(result, source, seeds())
    return result, which, seal or not is_sealed(file)


def is_sealed(file: ModelFile) -> bool:
    """Tell whether a file says that it has digests: else there is nothing to hold it against."""
    metadata = file.header.get(METADATA)
    model = metadata.get("model") if isinstance(metadata, dict) else None
    return isinstance(model, dict) and model.get("sealed") is True and bool(digests(metadata))


def edit(file: ModelFile, source: Source) -> None:
    """Change one field of the description, anywhere in its tree."""
    node, key = _place(file, source)
    if node is None:
        return
    old, kind = node[key], source.below(9)
    if kind <= 1:
        node[key] = _hostile(source)
    elif kind == 2:
        node[key] = file.mark(source.choice(RAW))
    elif kind == 3:
        del node[key]
    elif kind == 4:
        node[key] = old + source.choice((1, -1, 8, -8, 1000)) if isinstance(old, (int, float)) else source.edge()
    elif kind == 5:
        node[key] = source.edge()
    elif kind == 6 and isinstance(node, dict):  # the same name twice, or another one
        name = file.mark(json.dumps(key)) if source.once_in(2) else source.choice(NAMES)
        node[name] = source.choice((deepcopy(old), _hostile(source)))
    elif kind == 7:
        other, at = _place(file, source)
        if other is not None and not _within(old, other) and not _within(other[at], node):
            node[key], other[at] = other[at], old
    else:
        node[key] = [old] if source.once_in(2) else str(old)[:400]


def _hostile(source: Source) -> Any:
    """Return a value of its own: one list in two places would become a ring when they are exchanged."""
    return deepcopy(source.choice(HOSTILE))


def _within(outer: Any, node: Any) -> bool:
    """Tell whether node lies inside outer: a swap of the two would make a ring."""
    if outer is node:
        return True
    values = outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ()
    return any(_within(value, node) for value in values)


def _place(file: ModelFile, source: Source) -> tuple[Any, Any]:
    """Return a container of the description and a key in it."""
    node: Any = file.header
    if isinstance(node.get(METADATA), dict) and node[METADATA] and not source.once_in(3):
        node = node[METADATA]
        name = source.choice(INSIDE)
        if isinstance(node.get(name), dict) and node[name] and not source.once_in(4):
            node = node[name]
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        if not keys:
            return None, None
        key = source.choice(keys)
        child = node[key]
        if not isinstance(child, (dict, list)) or not child or source.once_in(4):
            return node, key
        node = child


def edit_body(file: ModelFile, source: Source) -> None:
    """Change the weights: a bit, a number, a part of them, or how many there are."""
    body = bytearray(file.body or b"\0")  # of which earlier changes may have left nothing
    at, kind = source.below(max(1, len(body) - 4)), source.below(6)
    if kind <= 1:
        body[at] ^= 1 << source.below(8)
    elif kind == 2:
        at -= at % 4
        body[at : at + 4] = np.float32(source.choice((np.nan, np.inf, -np.inf, 3e38, 1e-40, -0.0, 1e30))).tobytes()
    elif kind == 3:
        n = source.between(1, 64)
        other = source.below(max(1, len(body) - n))
        body[at : at + n], body[other : other + n] = body[other : other + n], body[at : at + n]
    elif kind == 4:
        del body[at : at + source.between(1, 64)]
    else:
        body[at:at] = source.take(source.between(1, 16))
    file.body = bytes(body)


def damaged_text(data: bytes, source: Source) -> bytes:
    """Return a file whose header was changed as a text, and its length with it."""
    n = 8 + int.from_bytes(data[:8], "little")
    text, body = bytearray(data[8:n]), data[n:]
    for _ in range(source.between(1, 3)):
        at, kind = source.below(len(text) + 1), source.below(5)
        if kind == 0:
            text[at:at] = source.choice(RAW).encode()
        elif kind == 1:
            text[at : at + 1] = source.choice(
                (b"\x00", b"\n", b"\x1b", b"\xff", b'"', b"\\", b",", b":", b"{", b"]", b"\xed\xa0\x80", b"")
            )
        elif kind == 2:
            text = text.replace(
                *source.choice(
                    ((b"0", b"-0"), (b"1", b"1.0"), (b"{", b"[", 1), (b",", b" ,\t\r\n"), (b"shape", b"shap\\u0065", 1))
                )
            )
        elif kind == 3:
            end = at + source.below(200)
            text[at:at] = text[at:end]
        else:
            del text[at : at + source.below(50)]
    length = source.edge() % 2**64 if source.once_in(8) else None
    return joined(bytes(text), body, length)
