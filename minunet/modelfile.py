"""One model, one file: safetensors, which holds arrays and text and can hold no code.

    weights       under the network's parameter names
    metadata      format "minunet", format_version "1",
                  network: the config, as JSON; model: whatever the estimator wants to keep, as JSON
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from .files import atomic_write
from .network import Network, parameter_shapes

FORMAT_VERSION = 1
MAX_HEADER = 2**24  # bytes; a real one has some thousands
MAX_SIZE = 2**40  # bytes of weights that any real network stays below
MAX_DEPTH = 32  # beyond, 2^depth channels alone would be absurd


class ModelFileError(ValueError):
    """Raised where a file is not a model that this version can use."""


def save(path: str | os.PathLike[str], network: Network, metadata: dict[str, Any]) -> None:
    """Write network and metadata (anything JSON can hold) to path, whole or not at all."""
    text = {
        "format": "minunet",
        "format_version": str(FORMAT_VERSION),
        "network": json.dumps(network.config),
        "model": json.dumps(metadata),
    }
    atomic_write(path, safetensors.numpy.save({k: v.copy() for k, v in network.parameters.items()}, text))


def load(path: str | os.PathLike[str]) -> tuple[Network, dict[str, Any]]:
    """Return the network and the metadata that `save` wrote.

    ModelFileError names the file and what is wrong with it. Names, shapes, types and sizes are compared with the config
    and with the file's size before anything is allocated.
    """
    path = Path(path)
    header = _read_header(path)
    config, metadata = _read_metadata(path, header.pop("__metadata__", {}))
    _check_tensors(path, header, config)
    try:
        tensors = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, ValueError) as error:
        raise ModelFileError(f"{path}: not a sound safetensors file: {error}") from error
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ModelFileError(f"{path}: {name} holds values that are not finite; the file is damaged, or training diverged")
    network = Network(**config)
    for name, tensor in tensors.items():
        network.parameters[name][...] = tensor
    return network, metadata


def _read_header(path: Path) -> dict[str, Any]:
    """Return safetensors' header: 8 bytes of length (little-endian), and as many of JSON."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= MAX_HEADER:
            raise ModelFileError(f"{path}: not a safetensors file; minunet models are what UNet.save writes")
        if 8 + length > size:
            raise ModelFileError(f"{path}: truncated: its header alone takes {8 + length} bytes, the file has {size}")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise ModelFileError(f"{path}: not a safetensors file: its header is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise ModelFileError(f"{path}: not a safetensors file: its header is no JSON object")
    return header


def _read_metadata(path: Path, text: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    if not isinstance(text, dict) or text.get("format") != "minunet":
        raise ModelFileError(f"{path}: a safetensors file, but not minunet's: its metadata has no format 'minunet'")
    version = str(text.get("format_version"))
    if not version.isdecimal() or int(version) != FORMAT_VERSION:
        newer = version.isdecimal() and int(version) > FORMAT_VERSION
        remedy = "written by a newer minunet: pip install --upgrade minunet" if newer else "the file is damaged"
        raise ModelFileError(f"{path}: format_version is {version}; this minunet reads {FORMAT_VERSION}: {remedy}")
    parsed = []
    for field in ("network", "model"):
        try:
            value = json.loads(text[field])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ModelFileError(f"{path}: metadata field {field!r} is missing or no JSON") from error
        if not isinstance(value, dict):
            raise ModelFileError(f"{path}: metadata field {field!r} is no JSON object")
        parsed.append(value)
    return _checked_config(path, parsed[0]), parsed[1]


def _checked_config(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the config if a network can be described by it, before one is built."""
    kinds = {
        "in_channels": int, "out_channels": int, "base_channels": int, "depth": int, "padding": str,
        "dropout": (int, float), "random_state": int, "dtype": str,
    }  # fmt: skip
    if set(config) != set(kinds):
        raise ModelFileError(f"{path}: metadata field 'network' has {sorted(config)}; it takes {sorted(kinds)}")
    for name, kind in kinds.items():
        if not isinstance(config[name], kind) or isinstance(config[name], bool):  # type: ignore[arg-type]
            raise ModelFileError(f"{path}: network.{name} is {config[name]!r}; that is no {kind}")
    for name, least in (("in_channels", 1), ("out_channels", 1), ("base_channels", 1), ("depth", 0)):
        if not least <= config[name] <= (MAX_DEPTH if name == "depth" else 2**31):
            raise ModelFileError(f"{path}: network.{name} is {config[name]}; no network has that")
    if config["dtype"] not in ("float32", "float64"):
        raise ModelFileError(f"{path}: network.dtype is {config['dtype']!r}; it takes 'float32' or 'float64'")
    return config


def _check_tensors(path: Path, header: dict[str, Any], config: dict[str, Any]) -> None:
    """Compare the header with what the config implies, and their sum with the file's size."""
    expected = parameter_shapes(**config)
    for name in [*(header.keys() - expected.keys()), *(expected.keys() - header.keys())]:
        raise ModelFileError(f"{path}: the tensor {name} is {'missing' if name in expected else 'not of this network'}")
    code = {"float32": "F32", "float64": "F64"}[config["dtype"]]
    n_bytes = 0
    for name, shape in expected.items():
        entry = header[name]
        found = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else None
        if found != (code, list(shape)):
            raise ModelFileError(f"{path}: the tensor {name} is {found}; this network's is {(code, list(shape))}")
        n_bytes += int(np.prod(shape, dtype=object)) * np.dtype(config["dtype"]).itemsize
    if n_bytes > min(MAX_SIZE, path.stat().st_size):
        raise ModelFileError(f"{path}: truncated: its weights take {n_bytes} bytes, the file has {path.stat().st_size}")
    try:
        Network(**(config | {"base_channels": 1, "depth": 0}))
    except ValueError as error:
        raise ModelFileError(f"{path}: network.{error}") from error
