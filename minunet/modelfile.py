"""One model, one file: safetensors, which holds arrays and text and can hold no code.

weights       under the network's parameter names, and a batch norm's statistics under theirs; of a checkpoint an optimizer's
              moments, too: moment0.head.bias, ..., and the mean of the weights as one more; and, where the model's are others
              than those that are trained, these, with their statistics: trained.head.bias, ...
metadata      format "minunet", format_version "1",
              network: the config, as JSON; model: whatever the estimator wants to keep, as JSON,
              sha256_description: of these two texts; sha256_weights: of the weights, each under its name

Files from before there were the two sums have neither. One that has lost them is told by "sealed", which stands in `model`.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import safetensors.numpy

from . import kernels
from .blocks import BLOCKS, NORMS
from .checks import Array, check_config
from .files import atomic_write, open_regular
from .flat import Weights
from .network import Network, outlined
from .text import line, short, shown
from .untrusted import RefusedError, check_names, is_whole, parse

FORMAT_VERSION = 1
MAX_HEADER = 15 * 2**20  # bytes; a real one has some thousands, and a history of 100,000 epochs some 12 million
MAX_NAME = 100  # characters of a choice
MAX_DEPTH = 30  # beyond, 2^depth channels alone would be absurd
TEXTS = ("format", "format_version", "network", "model")
SUMS = ("sha256_description", "sha256_weights")
MOST_MOMENTS = 3  # Adam's two, and the mean of the weights
TRAINED = "trained."  # what the names of these weights begin with, where they are not the model's
CODES = {"float32": "F32", "float64": "F64"}  # what safetensors calls a network's dtype

class Loaded(NamedTuple):
    """What is in a file. A model's has no moments, and nothing that is trained; most checkpoints' is the model's."""

    network: Network
    metadata: dict[str, Any]
    moments: list[Array]
    trained: Weights | None


Check = Callable[[dict[str, Any], dict[str, Any]], None]  # of what was saved and of the network's config: a RefusedError


class ModelFileError(ValueError):
    """Raised where a file is not a model that this version can use."""


def save(
    path: str | os.PathLike[str], network: Network, metadata: dict[str, Any], check: Check | None = None, *,
    moments: Sequence[Array] = (), model: Weights | None = None,
) -> None:  # fmt: skip
    """Write network and metadata (anything JSON can hold) to path, whole or not at all; and moments, as many as

    metadata["training"]["moments"] says, of the layout of network.flat. model : what the file has for the model's, where the
    network's are those that are trained, which it then has beside them.

    Weights that are not finite are a ValueError, as no file of them could be used; so are blocks of one's own, and what `load`
    with this check would refuse.
    """
    require_no_code(network, path)
    own = Weights(network.flat, network.state.flat)
    named = _named(network, moments, own, None) if model is None else _named(network, moments, model, own)
    tensors = {name: kernels.to_host(values).copy() for name, values in named.items()}
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds values that are not finite: training diverged, and {path} was not written")
    if below := _below_zero(network):
        raise ValueError(f"{below} holds values below 0, which no variance has: {path} was not written")
    text = {
        "format": "minunet",
        "format_version": str(FORMAT_VERSION),
        "network": json.dumps(network.config, default=_plain),
        "model": json.dumps(metadata | {"sealed": True}, default=_plain),
    }
    text |= {"sha256_description": _sum_of_texts(text), "sha256_weights": _sum_of_weights(tensors.items())}
    data = safetensors.numpy.save(tensors, text)
    try:
        head = _Head(io.BytesIO(data), len(data))
        if check is not None:
            check(head.metadata, head.config)
    except RefusedError as error:
        why = f"as it could not be read again: {line(str(error))}"
        raise ValueError(f"{shown(path, whole=True)} was not written, {why}") from None
    atomic_write(path, data)


def require_no_code(network: Network, path: str | os.PathLike[str]) -> None:
    """Raise a ValueError where a file of this network would have to hold code."""
    if not isinstance(network.block, str):
        raise ValueError(
            f"block is {network.block!r}, code of yours, and a model file holds no code: {path} was not written. Pickle the "
            "model, or keep network.flat (numpy.save), and fill Network(block=...) with it"
        )


def _below_zero(network: Network) -> str | None:
    """Return the name of a variance of the network's that cannot be one."""
    return next((name for name, a in network.state.items() if name.endswith("running_var") and (a < 0).any()), None)


def _plain(value: Any) -> Any:
    """Return a NumPy number or array as JSON holds it."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"a model file cannot hold {value!r}, of type {type(value).__name__}")


def _named(network: Network, moments: Sequence[Array], own: Weights, trained: Weights | None) -> dict[str, Array]:
    """Return views of the model's weights, the moments, and the weights that are trained, by their names in a file."""
    split = network.parameters.split
    parts = {"": split(own.flat) | network.state.split(own.state)}
    parts |= {f"moment{i}.": split(moment) for i, moment in enumerate(moments)}
    if trained is not None:
        parts[TRAINED] = split(trained.flat) | network.state.split(trained.state)
    return {f"{start}{name}": view for start, part in parts.items() for name, view in part.items()}


def load(path: str | os.PathLike[str], check: Check | None = None) -> tuple[Network, dict[str, Any]]:
    """Return the network and the metadata that `save` wrote; of a checkpoint, too.

    ModelFileError names the file and what is wrong with it. All that the file says of itself, which `check` may look at too,
    is compared with what it implies and with the file's size before anything is allocated.
    """
    return load_checkpoint(path, check)[:2]


def load_checkpoint(path: str | os.PathLike[str], check: Check | None = None) -> Loaded:
    """Return what `load` does, and what only a checkpoint has: its optimizer's moments, and the weights that are trained."""
    try:
        with _opened(path) as file:  # once: another process may replace the file meanwhile
            return _read(file, check)
    except RefusedError as error:
        raise ModelFileError(f"{shown(path, whole=True)}: {line(str(error))}") from None


def _opened(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return open_regular(path)
    except OSError as error:
        if error.errno is None:  # not the system's refusal, but ours of a folder, a pipe, a device
            raise RefusedError(str(error).removeprefix(f"{shown(path, whole=True)} ")) from None
        if error.errno == errno.ENXIO:
            raise RefusedError("is a socket; an ordinary file is taken here") from None
        raise


def _read(file: BinaryIO, check: Check | None) -> Loaded:
    before = os.fstat(file.fileno())
    try:
        head = _Head(file, before.st_size)
        if check is not None:
            _ask(check, head)
        network = head.network()
        moments = [np.zeros_like(network.flat) for _ in range(head.n_moments)]
        own = Weights(network.flat, network.state.flat)
        trained = Weights(*map(np.zeros_like, own)) if head.has_trained else None
        tensors = _named(network, moments, own, trained)
        _fill(file, tensors, head.order)
        if name := _below_zero(network):
            raise RefusedError(f"{name} holds values below 0, which no variance has; the file is damaged")
        after = os.fstat(file.fileno())
    except OSError as error:
        raise RefusedError(f"it cannot be read: {error.strerror}") from None
    if after.st_size != before.st_size or not (head.sums or after.st_mtime_ns == before.st_mtime_ns):
        raise RefusedError("it was changed while it was read; load it again when it is whole")
    if head.sums and _sum_of_weights(tensors.items()) != head.sums["sha256_weights"]:
        raise RefusedError("its weights do not have their sum, sha256_weights: the file is damaged. Get it anew")
    return Loaded(network, head.metadata, moments, trained)


def _ask(check: Check, head: _Head) -> None:
    try:
        check(head.metadata, head.config)
    except RefusedError as error:
        raise RefusedError(f"the model's description is damaged: {error}") from None


class _Head:
    """All that a file says before its weights, each word of it checked: it takes no more memory than the words do."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.entries, length = _read_header(file, size)
        self.n_body = size - length
        text = self.entries.pop("__metadata__", None)
        self.config, self.metadata, self.sums = _read_metadata(text)
        training = self.metadata.get("training")
        self.n_moments = training.get("moments", 0) if isinstance(training, dict) else 0
        if not (is_whole(self.n_moments) and 0 <= self.n_moments <= MOST_MOMENTS):
            raise RefusedError(f"model.training.moments is {short(self.n_moments)}; it takes 0 to {MOST_MOMENTS}")
        self.has_trained = any(name.startswith(TRAINED) for name in self.entries)
        self.is_whole = not self.sums or _sum_of_texts(text) == self.sums["sha256_description"]

    def network(self) -> Network:
        """Return the network, whose parameters are still to be read, in the `order` of their names in the file."""
        try:
            network = outlined(self.config)
            self.order = _check_tensors(self.entries, network, self.n_body, self.n_moments, self.has_trained)
            if not self.is_whole:  # last: what can be told of a damage more exactly has been told
                raise RefusedError("its description does not have its sum, sha256_description: the file is damaged. Get it anew")
            if self.n_body > machine_bytes():
                raise MemoryError(f"{self.n_body / 2**30:.1f} GB")
            network._gather(_Unread)
        except RefusedError:
            raise
        except (ValueError, OverflowError, MemoryError) as error:
            raise RefusedError(f"network: no machine holds its weights, or not this one: {line(str(error), 200)}") from None
        return network


def machine_bytes() -> float:
    """Return the bytes that this machine has, where it tells. Of more, all would be refused: a file of holes costs nothing."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return math.inf


class _Unread:
    """In the place of a backend: makes arrays that will be written into, of layers without numbers."""

    empty = staticmethod(np.empty)

    @staticmethod
    def asarray(outline: Any) -> float:
        return 0.0


def _fill(file: BinaryIO, tensors: Mapping[str, Array], order: list[str]) -> None:
    """Read the weights straight to where they belong: there is never a second copy."""
    for name in order:
        weights = tensors[name]
        if file.readinto(weights.reshape(-1).view(np.uint8)) != weights.nbytes:  # type: ignore[attr-defined]
            raise RefusedError("truncated while it was read; load it again when it is whole")
        if sys.byteorder == "big":
            weights.byteswap(inplace=True)
        if not np.isfinite(weights).all():
            raise RefusedError(f"{name} holds values that are not finite; the file is damaged")


def _read_header(file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """Return safetensors' header, 8 bytes of length (little-endian) and as many of JSON, and how many bytes it takes."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= MAX_HEADER:
        raise RefusedError("not a safetensors file; minunet models are what UNet.save writes")
    if 8 + length > size:
        raise RefusedError(f"truncated: its header alone takes {8 + length} bytes, the file has {size}")
    text = file.read(length).decode("latin-1")  # a character a byte; those beyond ASCII are refused when it is parsed
    if len(text) < length:
        raise RefusedError("truncated while it was read; load it again when it is whole")
    if text[0] != "{":
        raise RefusedError("not a safetensors file: its header is no JSON object")
    try:
        return parse(text), 8 + length
    except RefusedError as error:
        raise RefusedError(f"not a safetensors file of ours: its header is {error}") from None


def _read_metadata(text: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Return the network's config, what the estimator kept, and the sums by name, if there are any."""
    if not isinstance(text, dict) or text.get("format") != "minunet":
        raise RefusedError("a safetensors file, but not minunet's: its metadata has no format 'minunet'")
    for name, value in text.items():
        if not isinstance(value, str):
            raise RefusedError(f"metadata.{short(name)[1:-1]} is {short(value)}, of type {type(value).__name__}; it takes text")
    version = str(text.get("format_version"))
    if version != str(FORMAT_VERSION):
        newer = version.isdecimal() and len(version) < 10 and int(version) > FORMAT_VERSION
        remedy = "written by a newer minunet: pip install --upgrade minunet" if newer else "the file is damaged"
        raise RefusedError(f"format_version is {short(version)}; this minunet reads '{FORMAT_VERSION}': {remedy}")
    check_names("metadata", text, (*TEXTS, *SUMS), optional=SUMS)
    parsed = {}
    for field in ("network", "model"):
        try:
            parsed[field] = parse(text[field], nan=True)
        except RefusedError as error:
            raise RefusedError(f"metadata field {field!r} is {error}") from None
    sealed = parsed["model"].pop("sealed", False)
    if not isinstance(sealed, bool):
        raise RefusedError(f"model.sealed is {short(sealed)}; it takes true or false")
    check_names("metadata", text, (*TEXTS, *SUMS) if sealed else TEXTS)
    return _checked_config(parsed["network"]), parsed["model"], {name: text[name] for name in SUMS if sealed}


def _sum_of_texts(text: dict[str, str]) -> str:
    found = hashlib.sha256(text["network"].encode() + b"\0")
    found.update(text["model"].encode())
    return found.hexdigest()


def _sum_of_weights(weights: Iterable[tuple[str, Array]]) -> str:
    """Return a sum that does not depend on where in a file each tensor lies: names and bytes, in the order of the names."""
    found = hashlib.sha256()
    for name, values in sorted(weights, key=lambda item: item[0]):
        found.update(f"{name}\0".encode())
        found.update(values.astype(values.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _checked_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config if a network can be described by it, before one is built."""
    whole = (int,)
    kinds: dict[str, tuple[type, ...]] = {
        "in_channels": whole, "out_channels": whole, "base_channels": whole, "depth": whole, "padding": (str,),
        "dropout": (int, float), "random_state": whole, "dtype": (str,), "algorithm": (str,), "block": (str,),
        "deep_supervision": (bool,), "norm": (str, type(None)),
    }  # fmt: skip
    older: dict[str, Any] = {"algorithm": "auto", "block": "double_conv", "deep_supervision": False, "norm": None}
    config = older | config  # where there was no choice
    check_names("network", config, kinds)
    for name, kind in kinds.items():
        value = config[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind):
            takes = " or ".join("null" if k is type(None) else k.__name__ for k in kind)
            raise RefusedError(f"network.{name} is {short(value)}, of type {type(value).__name__}; it takes {takes}")
        if isinstance(value, str) and len(value) > MAX_NAME:
            raise RefusedError(f"network.{name} is {short(value)}; no network has that")
    for name, least in (("in_channels", 1), ("out_channels", 1), ("base_channels", 1), ("depth", 0)):
        most = MAX_DEPTH if name == "depth" else 2**31
        if not least <= config[name] <= most:
            raise RefusedError(f"network.{name} is {short(config[name])}; no network has that: it takes {least} to {most}")
    if config["dtype"] not in CODES:
        raise RefusedError(f"network.dtype is {short(config['dtype'])}; it takes {' or '.join(map(repr, CODES))}")
    if config["block"] not in BLOCKS:
        known = " and ".join(map(repr, BLOCKS))
        raise RefusedError(f"network.block is {short(config['block'])}; this minunet knows {known}")
    if config["norm"] not in (None, *NORMS):
        known = " and ".join(map(repr, NORMS))
        raise RefusedError(f"network.norm is {short(config['norm'])}; this minunet knows {known}")
    try:
        check_config(config)
    except ValueError as error:
        raise RefusedError(f"network.{line(str(error), 200)}") from None
    return config


def _check_tensors(
    entries: dict[str, Any], network: Network, n_body: int, n_moments: int, has_trained: bool
) -> list[str]:
    """Compare the header with what the config implies, and the bytes that follow it. Return the names in the file's order."""
    own = Weights(network.flat, network.state.flat)
    named = _named(network, [network.flat] * n_moments, own, own if has_trained else None)
    expected = {name: view.shape for name, view in named.items()}
    for name in [*sorted(entries.keys() - expected.keys()), *sorted(expected.keys() - entries.keys())]:
        state = "missing" if name in expected else "not of this network"
        raise RefusedError(f"the tensor {short(name)} is {state}")
    code, itemsize = CODES[network.dtype.name], network.dtype.itemsize
    for name, shape in expected.items():
        entry = entries[name]
        found = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else None
        if found != (code, list(shape)) or not all(map(is_whole, entry["shape"])):
            raise RefusedError(f"the tensor {name} is {short(found)}; this network's is {(code, list(shape))}")
        check_names(f"the tensor {name}", entry, ("dtype", "shape", "data_offsets"))
    n_bytes = sum(math.prod(shape) for shape in expected.values()) * itemsize
    if n_bytes != n_body:
        state = "truncated" if n_bytes > n_body else "damaged"
        raise RefusedError(f"{state}: its weights take {n_bytes} bytes, the file has {n_body} for them")
    return _laid_out(entries, {name: math.prod(shape) * itemsize for name, shape in expected.items()})


def _laid_out(entries: dict[str, Any], sizes: dict[str, int]) -> list[str]:
    """Return the names by their place in the file, where the tensors follow each other without gap or overlap."""
    for name in sizes:
        offsets = entries[name]["data_offsets"]
        if not (isinstance(offsets, list) and len(offsets) == 2 and all(map(is_whole, offsets))):
            raise RefusedError(f"data_offsets of the tensor {name} is {short(offsets)}; it takes two whole numbers")
    order = sorted(sizes, key=lambda name: entries[name]["data_offsets"])
    end = 0
    for name in order:
        start, end = end, end + sizes[name]
        if entries[name]["data_offsets"] != [start, end]:
            found = short(entries[name]["data_offsets"])
            raise RefusedError(f"data_offsets of the tensor {name} is {found}; there it takes {[start, end]}")
    return order
