"""Where a compiled kernel is kept, and when what is kept is used.

Numba's own cache unpickles whatever lies in its folder, and a pickle may run anything: a file of somebody else's is his
program, and one that a power cut left half written is the end of ours. Here each kernel, for each signature, has two files:

    pool-cpython-311.<key>.nbi           what it is, whole, and the SHA-256 of the other: JSON
    pool-cpython-311.<key>.<hash>.nbc    the code, as Numba pickles it

Nothing is unpickled that others could have written (trust.py), that is not what it is asked for, or whose hash is another:
it is compiled again, and replaced. The hash finds damage and mixtures, nobody's intent: who may write the one file may write
the other. The code's file is named by its hash, so that of two processes which keep the same kernel neither breaks the
other's pair, whichever comes last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from . import trust

FORMAT = 1
MOST_ABOUT = 1 << 20  # bytes of a description
MOST_CODE = 1 << 28
Tell = Callable[[str], None]
PYTHON = f"{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')}"


class KernelCache(_Cache):
    """What is kept of one function: a cache as Numba's dispatchers take it.

    `lost(why)` and `unkept(why)` are told what could not be used, and what could not be written; neither stops anything.
    """

    def __init__(self, function: Callable[..., Any], folder: Path, stamp: str, *, lost: Tell, unkept: Tell) -> None:
        self._folder, self._stamp = folder, stamp
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._short = function.__qualname__.removeprefix(f"{__package__}.").replace("<", "").replace(">", "")
        self._lost, self._unkept = lost, unkept
        self._enabled = True
        self._swept = False
        self._useless: list[Path] = []  # whole, and no kernel

    @property
    def cache_path(self) -> str:
        """Return the folder."""
        return str(self._folder)

    def enable(self) -> None:
        """Read and write from now on."""
        self._enabled = True

    def disable(self) -> None:
        """Neither read nor write from now on."""
        self._enabled = False

    def flush(self) -> None:
        """Forget what is kept of this function."""
        for path in self._folder.glob(f"{self._short}-{PYTHON}.*.nbi"):
            with contextlib.suppress(OSError):
                path.unlink()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled function for a signature, or None: then it is to be compiled."""
        target_context.refresh()
        if not self._enabled:
            return None
        pair = self._pair(sig, target_context.codegen())
        try:
            code = pair.read()
        except FileNotFoundError:  # not yet, or no longer
            return None
        except (trust.UntrustedError, OSError) as error:
            self._lost(_reason(error))
            return None
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(code))
        except MemoryError:  # nor would there be any to compile it
            raise
        except Exception as error:  # whatever is wrong with what is kept, the kernel itself is well
            self._useless.append(pair.path)
            self._lost(f"{pair.path} is of no use here ({_reason(error)})")
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function for the next process, if that can be."""
        if not self._enabled:
            return
        try:
            if data.library.has_dynamic_globals or data.lifted:  # addresses of this process are in it
                self._unkept(f"the code of {self._name} serves one process only")
            else:
                self._keep(self._pair(sig, data.codegen), data)
        except Exception as error:  # it is compiled, and serves
            self._unkept(_reason(error))

    def _keep(self, pair: Pair, data: Any) -> None:
        damaged = pair.path in self._useless
        try:
            pair.read()
            if not damaged:
                return  # another process was first: its pair stays
        except FileNotFoundError:
            pass
        except (trust.UntrustedError, OSError):
            damaged = True
        trust.make_folder(self._folder)  # it may have vanished
        if not self._swept:
            self._swept = True
            trust.sweep(self._folder)
        pair.write(dumps(data._reduce()), alone=damaged)

    def _pair(self, sig: Any, codegen: Any) -> Pair:
        """Return the place of a signature's code. All that decides what code it is, is said of it."""
        versions = [numba.__version__, llvmlite.__version__, PYTHON]
        about = [FORMAT, *versions, self._stamp, self._name, repr(sig), repr(codegen.magic_tuple())]
        key = hashlib.sha256(json.dumps(about).encode()).hexdigest()
        return Pair(about, self._folder / f"{self._short}-{PYTHON}.{key[:16]}.nbi")


class Pair:
    """The two files of one signature: at `path` the description, beside it the code."""

    def __init__(self, about: list[Any], path: Path) -> None:
        self.about, self.path = about, path

    def read(self) -> bytes:
        """Return the code that is kept. FileNotFoundError if none is, UntrustedError if it is not to be used."""
        trust.check_folder(self.path.parent)
        try:
            found = json.loads(trust.read_file(self.path, MOST_ABOUT))
            whose, digest = found["of"], str(found["sha256"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise trust.UntrustedError(f"{self.path} is damaged") from error
        if whose != self.about:
            raise trust.UntrustedError(f"{self.path} is of another kernel or version")
        if not re.fullmatch("[0-9a-f]{64}", digest):  # part of a name, and never a path
            raise trust.UntrustedError(f"{self.path} is damaged")
        path = self._code_path(digest)
        code = trust.read_file(path, MOST_CODE)
        if hashlib.sha256(code).hexdigest() != digest:
            raise trust.UntrustedError(f"{path} is damaged")
        return code

    def write(self, code: bytes, *, alone: bool) -> None:
        """Keep the code; `alone` removes what was kept in its place."""
        digest = hashlib.sha256(code).hexdigest()
        path = self._code_path(digest)
        trust.write_file(path, code)
        trust.write_file(self.path, json.dumps({"of": self.about, "sha256": digest}, indent=1).encode())
        for other in self.path.parent.glob(self.path.with_suffix(".*.nbc").name) if alone else ():
            if other != path:
                with contextlib.suppress(OSError):
                    other.unlink()

    def _code_path(self, digest: str) -> Path:
        return self.path.with_suffix(f".{digest[:16]}.nbc")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) if isinstance(error, trust.UntrustedError) else f"{type(error).__name__}: {error}"
