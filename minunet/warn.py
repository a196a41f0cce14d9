"""Warnings that point at the line of the user's that called."""

from __future__ import annotations

import sys
import warnings


def warn(text: str) -> None:
    """Warn, at the line outside of minunet from which it was called: how many functions lie between is nobody's business."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in (__package__, "contextlib"):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, UserWarning, stacklevel=level)
