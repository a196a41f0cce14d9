"""What compilers made, kept between runs in the system's folder for temporary files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def cached(key: tuple[str, ...], make: Callable[[Path], object]) -> Path:
    """Return the file that `make` wrote for the same key before, or has it written now: whole or not at all, and for one user."""
    folder = Path(tempfile.gettempdir()) / f"minunet-compiled-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is another user's")
    path = folder / hashlib.sha256("\0".join(key).encode()).hexdigest()[:32]
    if not path.exists():
        own = path.with_suffix(f".{os.getpid()}")
        make(own)
        own.replace(path)  # two processes may make the same at once
    return path
