"""NVRTC, the compiler that CuPy uses, through ctypes: it needs no GPU, and no CuPy."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

_SUCCESS = 0


class CompileError(Exception):
    """What NVRTC wrote into its log."""


def find(nvcc: str | None) -> Path | None:
    """Return libnvrtc: that of NVIDIA's wheel, or that of nvcc's toolkit; None without one."""
    folders = [folder for place in sys.path for folder in Path(place).glob("nvidia/*/lib")]
    if nvcc:
        folders.append(Path(nvcc).resolve().parents[1] / "lib64")
    return next((path for folder in folders for path in sorted(folder.glob("libnvrtc.so.*"))), None)


@cache
def load(path: Path) -> ctypes.CDLL:
    """Open the library."""
    for builtins in path.parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(builtins))  # 13.0 does not look beside itself for what it needs, but takes what is open
    return ctypes.CDLL(str(path))


@cache
def version(path: Path) -> str:
    major, minor = ctypes.c_int(), ctypes.c_int()
    load(path).nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


def compile(path: Path, source: str, options: Sequence[str]) -> None:
    """Compile a source; CompileError if it cannot be. It finds no headers but those that an option -I names."""
    nvrtc, program, size = load(path), ctypes.c_void_p(), ctypes.c_size_t()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"source.cu", 0, None, None))
    try:
        words = (ctypes.c_char_p * len(options))(*map(str.encode, options))
        status = nvrtc.nvrtcCompileProgram(program, len(options), words)
        _check(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
        log = ctypes.create_string_buffer(size.value)
        _check(nvrtc.nvrtcGetProgramLog(program, log))
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    _check(status, log.value.decode())


def _check(status: int, log: str = "") -> None:
    if status != _SUCCESS:
        raise CompileError(log or f"NVRTC failed with status {status}")
