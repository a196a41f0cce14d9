"""Training: the one step, the loop around it, and what it will cost."""

from .step import step

__all__ = ["step"]
