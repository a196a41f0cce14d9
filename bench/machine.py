"""What a figure was measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from minunet import kernels

PACKAGES = ("minunet", "numpy", "numba", "torch", "onnxruntime", "openvino")


def describe() -> str:
    """Return two lines: processor, cores, threads used and load now; versions."""
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    load = f", load average {os.getloadavg()[0]:.1f} before" if hasattr(os, "getloadavg") else ""
    processor = f"{_processor()}, {os.cpu_count()} cores, {kernels.n_threads()} threads{load}"
    return f"{processor}\nPython {platform.python_version()}, {versions}"


class Others:
    """How much of the cores' time other programs take from now on (on Linux), the host of a virtual machine among them."""

    def __init__(self) -> None:
        self.start = _ticks()

    def share(self) -> float | None:
        """Return it: 0 on an idle machine; None where the system does not tell."""
        now = _ticks()
        if now is None or self.start is None:
            return None
        total, others = (b - a for a, b in zip(self.start, now, strict=True))
        return max(0.0, others / total) if total else 0.0


def _ticks() -> tuple[float, float] | None:
    """Return seconds of all cores since the system's start, and those in which other processes than ours worked."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0].split()
        seconds = [int(count) / os.sysconf("SC_CLK_TCK") for count in first[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    idle = seconds[3] + seconds[4]
    return sum(seconds), sum(seconds) - idle - sum(os.times()[:4])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    print(describe())
