"""What a figure was measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from minunet import kernels


def describe() -> str:
    """Return two lines: processor, cores, threads used and load now; versions."""
    versions = ", ".join(f"{name} {_version(name)}" for name in ("minunet", "numpy", "numba", "torch"))
    load = f", load average {os.getloadavg()[0]:.1f} before" if hasattr(os, "getloadavg") else ""
    processor = f"{_processor()}, {os.cpu_count()} cores, {kernels.n_threads()} threads{load}"
    return f"{processor}\nPython {platform.python_version()}, {versions}"


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
