"""Data sets to try things on: `from minunet.datasets import cells`."""

from .data.datasets import cells

__all__ = ["cells"]
