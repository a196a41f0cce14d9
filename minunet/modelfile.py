"""One model, one file: safetensors, which holds arrays and text and can hold no code.

weights       under the network's parameter names
metadata      format "minunet", format_version "1",
              network: the config, as JSON; model: whatever the estimator wants to keep, as JSON
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from reprlib import repr as short  # what a hostile file holds may be a million characters long
from typing import Any, BinaryIO

import numpy as np
import safetensors
import safetensors.numpy

from . import kernels
from .blocks import BLOCKS
from .checks import check_config
from .files import atomic_write
from .network import Network, outlined

FORMAT_VERSION = 1
MAX_HEADER = 2**24  # bytes; a real one has some thousands
MAX_DEPTH = 32  # beyond, 2^depth channels alone would be absurd


class ModelFileError(ValueError):
    """Raised where a file is not a model that this version can use."""


def save(path: str | os.PathLike[str], network: Network, metadata: dict[str, Any]) -> None:
    """Write network and metadata (anything JSON can hold) to path, whole or not at all.

    Weights that are not finite are a ValueError, as no file of them could be used; so are blocks of one's own.
    """
    if not isinstance(network.block, str):
        raise ValueError(
            f"block is {network.block!r}, code of yours, and a model file holds no code: {path} was not written. Pickle the "
            "model, or keep network.flat (numpy.save), and fill Network(block=...) with it"
        )
    tensors = {name: kernels.to_host(weights).copy() for name, weights in network.parameters.items()}
    for name, weights in tensors.items():
        if not np.isfinite(weights).all():
            raise ValueError(f"{name} holds values that are not finite: training diverged, and {path} was not written")
    text = {
        "format": "minunet",
        "format_version": str(FORMAT_VERSION),
        "network": json.dumps(network.config, default=_plain),
        "model": json.dumps(metadata, default=_plain),
    }
    atomic_write(path, safetensors.numpy.save(tensors, text))


def _plain(value: Any) -> Any:
    """Return a NumPy number or array as JSON holds it."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"a model file cannot hold {value!r}, of type {type(value).__name__}")


def load(path: str | os.PathLike[str]) -> tuple[Network, dict[str, Any]]:
    """Return the network and the metadata that `save` wrote.

    ModelFileError names the file and what is wrong with it. Names, shapes, types and sizes are compared with the config
    and with the file's size before anything is allocated.
    """
    path = Path(path)
    with open(path, "rb") as file:  # once: another process may replace the file meanwhile
        size = os.fstat(file.fileno()).st_size
        header, n_header = _read_header(path, file, size)
        config, metadata = _read_metadata(path, header.pop("__metadata__", {}))
        _check_tensors(path, header, config, size - n_header)
        file.seek(0)
        data = file.read(size)
    try:
        tensors = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError) as error:
        raise ModelFileError(f"{path}: not a sound safetensors file: {str(error)[:200]}") from error
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ModelFileError(f"{path}: {name} holds values that are not finite; the file is damaged")
    network = Network(**config)
    for name, tensor in tensors.items():
        network.parameters[name][...] = tensor
    return network, metadata


def _read_header(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """Return safetensors' header, 8 bytes of length (little-endian) and as many of JSON, and how many bytes it takes."""
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
    return header, 8 + length


def _read_metadata(path: Path, text: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    if not isinstance(text, dict) or text.get("format") != "minunet":
        raise ModelFileError(f"{path}: a safetensors file, but not minunet's: its metadata has no format 'minunet'")
    version = str(text.get("format_version"))
    if version != str(FORMAT_VERSION):
        newer = version.isdecimal() and len(version) < 10 and int(version) > FORMAT_VERSION
        remedy = "written by a newer minunet: pip install --upgrade minunet" if newer else "the file is damaged"
        raise ModelFileError(f"{path}: format_version is {short(version)}; this minunet reads '{FORMAT_VERSION}': {remedy}")
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
    whole = (int,)
    kinds: dict[str, tuple[type, ...]] = {
        "in_channels": whole, "out_channels": whole, "base_channels": whole, "depth": whole, "padding": (str,),
        "dropout": (int, float), "random_state": whole, "dtype": (str,), "algorithm": (str,), "block": (str,),
    }  # fmt: skip
    config = {"algorithm": "auto", "block": "double_conv"} | config  # files from before there was a choice have none
    for name in sorted(config.keys() ^ kinds.keys()):
        raise ModelFileError(f"{path}: network.{short(name)[1:-1]} is {'missing' if name in kinds else 'unknown'}")
    for name, kind in kinds.items():
        value = config[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            takes = " or ".join(k.__name__ for k in kind)
            raise ModelFileError(f"{path}: network.{name} is {short(value)}, of type {type(value).__name__}; it takes {takes}")
    for name, least in (("in_channels", 1), ("out_channels", 1), ("base_channels", 1), ("depth", 0)):
        if not least <= config[name] <= (MAX_DEPTH if name == "depth" else 2**31):
            raise ModelFileError(f"{path}: network.{name} is {short(config[name])}; no network has that")
    if config["dtype"] not in ("float32", "float64"):
        raise ModelFileError(f"{path}: network.dtype is {short(config['dtype'])}; it takes 'float32' or 'float64'")
    if config["block"] not in BLOCKS:
        known = " and ".join(map(repr, BLOCKS))
        raise ModelFileError(f"{path}: network.block is {short(config['block'])}; this minunet knows {known}")
    try:
        check_config(config)
    except ValueError as error:
        raise ModelFileError(f"{path}: network.{str(error)[:200]}") from error
    return config


def _check_tensors(path: Path, header: dict[str, Any], config: dict[str, Any], n_body: int) -> None:
    """Compare the header with what the config implies, and their sum with the bytes that follow it."""
    try:
        expected = {name: p.shape for name, p in outlined(config).parameters.items()}
    except ValueError as error:
        raise ModelFileError(f"{path}: network: no machine holds its weights: {str(error)[:200]}") from error
    for name in [*(header.keys() - expected.keys()), *(expected.keys() - header.keys())]:
        state = "missing" if name in expected else "not of this network"
        raise ModelFileError(f"{path}: the tensor {short(name)} is {state}")
    code = {"float32": "F32", "float64": "F64"}[config["dtype"]]
    n_bytes = 0
    for name, shape in expected.items():
        entry = header[name]
        found = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else None
        if found != (code, list(shape)):
            raise ModelFileError(f"{path}: the tensor {name} is {short(found)}; this network's is {(code, list(shape))}")
        n_bytes += math.prod(shape) * np.dtype(config["dtype"]).itemsize
    if n_bytes != n_body:
        state = "truncated" if n_bytes > n_body else "damaged"
        raise ModelFileError(f"{path}: {state}: its weights take {n_bytes} bytes, the file has {n_body} for them")
