"""Where a network computes: the CPU, or one of this machine's GPUs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from types import ModuleType

from . import kernels
from .checks import shown
from .streams import stderr


def resolve(device: str) -> str:
    """Return "cpu" or "gpu:0", "gpu:1", ... for "auto" (a GPU, if one can be used), "cpu", "gpu" (the first) or "gpu:1".

    ValueError says what is missing, and how to get it, where there is no such device.
    """
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|gpu(:\d+)?", device):
        raise ValueError(f"device is {shown(device)}; it takes 'auto', 'cpu', 'gpu' or 'gpu:1'")
    if device == "cpu":
        return "cpu"
    trouble = _gpu().trouble()
    if device == "auto":
        return "cpu" if trouble else "gpu:0"
    if trouble:
        raise ValueError(f"device is {device!r}, but {trouble}")
    count, index = _gpu().door().count, int(device.partition(":")[2] or 0)
    if index >= count:
        raise ValueError(f"device is {device!r}; this machine has {count}: gpu:0{f' to gpu:{count - 1}' if count > 1 else ''}")
    return f"gpu:{index}"


def using(place: str) -> AbstractContextManager:
    """Return a context in which what is allocated and launched on a GPU goes to the one at this place; none for "cpu"."""
    return nullcontext() if place == "cpu" else _gpu().door().on(int(place.partition(":")[2]))


def precision_at(place: str, precision: str) -> str:
    """Return the precision that "auto" means at this place, or the one given; ValueError where that is not to be had."""
    if place == "cpu" and precision not in ("auto", "float32"):
        raise ValueError(f"precision is {precision!r}; on the CPU it takes 'auto' or 'float32'")
    if precision == "bf16" and not find_spec("ml_dtypes"):
        raise ValueError("precision is 'bf16', and the package ml_dtypes, which has that type, is missing: pip install ml_dtypes")
    return ("float32" if place == "cpu" else "tf32") if precision == "auto" else precision


def described(place: str, precision: str) -> str:
    """Return a line on where and how exactly a network computes; nothing of the CPU."""
    if place == "cpu":
        return ""
    digits = {
        "tf32": "11 bits of each factor; precision='float32' keeps 24, several times slower", "float32": "24 bits",
        "bf16": "8 bits of each factor, in which activations are kept too",
    }  # fmt: skip
    exact = precision_at(place, precision)
    return f"on {place}, products in {exact} ({digits[exact]})"


@contextmanager
def computing(place: str, *, precision: str, n_threads: int | None, verbose: bool) -> Iterator[None]:
    """Compute at this place in the `with` block, with those threads, in that precision. verbose : say what takes a while."""
    exactly = kernels.precision(precision_at(place, precision))
    with kernels.telling(verbose), kernels.threads(n_threads), using(place), exactly:
        yield


def backend(place: str) -> ModuleType:
    """Return the kernels that serve arrays at this place."""
    if place == "cpu":
        return kernels.for_array(None)
    from .kernels import gpu

    return gpu


def free_bytes(place: str) -> int:
    """Return how much of a GPU's memory could be taken now."""
    with using(place):
        return _gpu().door().free_bytes()


def give_back(place: str) -> None:
    """Let others have what of a GPU's memory is kept here for later; nothing of the CPU's is."""
    if place != "cpu":
        with using(place):
            _gpu().door().give_back()


def say_if_unused(place: str) -> None:
    """Print a line where "auto" took the CPU although an NVIDIA GPU seems to be here."""
    trouble = _gpu().trouble()
    if place == "cpu" and trouble and shutil.which("nvidia-smi"):
        print(f"minunet: training on the CPU, for {trouble}", file=stderr(), flush=True)


def _gpu() -> ModuleType:
    from .kernels.gpu import device

    return device
