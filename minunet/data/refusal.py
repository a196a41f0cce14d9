"""How image files are refused: in a sentence on one line that names the file, and before they take time or memory."""

from __future__ import annotations

from pathlib import Path

from ..text import shown, told

MAX_PIXELS = 2**28  # 16,384 x 16,384, or 1,024 pages of 512 x 512: two gigabytes at most, which any machine that trains has
BYTES_PER_PIXEL = 8  # what a pixel may take on the way to its array: RGB in 8 bits takes 7, and 4 channels of 16 bits 8
PAGE_PIXELS = 8192  # a page for so many pixels is allowed, since it takes time and memory of its own; and always ...
MIN_PAGES, MIN_BYTES = 1024, 2**26  # ... so many, and so much memory
LARGEST = 2**36  # pixels that an honest file may have at all: some 100 slides in one


class ImageFileError(ValueError):
    """Raised where a file cannot be used as an image or as a mask; the message names the file."""


class Budget:
    """What one file may decode to, over all its pages: asked before anything is decoded.

    max_pixels : pixels of all pages together; it allows BYTES_PER_PIXEL bytes for each of them, conversions included.
    """

    def __init__(self, path: Path, max_pixels: int = MAX_PIXELS) -> None:
        if not max_pixels >= 1:
            raise ValueError(f"max_pixels is {max_pixels}; it takes a number of pixels, at least 1")
        self.path, self.max_pixels = path, int(max_pixels)
        self.max_pages = max(MIN_PAGES, self.max_pixels // PAGE_PIXELS)
        self.max_bytes = max(MIN_BYTES, self.max_pixels * BYTES_PER_PIXEL)

    def require(self, n_pages: int, n_pixels: int, n_bytes: int) -> None:
        """Refuse the file if its pages, all pixels of them, or the bytes that those take, are too many."""
        self.require_pages(n_pages)
        if n_pixels > self.max_pixels or n_bytes > self.max_bytes:
            pages = f" in {n_pages:,} pages" if n_pages > 1 else ""
            raise ImageFileError(
                f"{shown(self.path)} would decode to {n_pixels:,} pixels{pages}, {n_bytes:,} bytes with what reading takes; "
                f"{self.max_pixels:,} pixels and {self.max_bytes:,} bytes are allowed, since a small file "
                f"can pretend to anything. {self._remedy(max(n_pixels, -(-n_bytes // BYTES_PER_PIXEL)))}"
            )

    def require_pages(self, n_pages: int) -> None:
        if n_pages > self.max_pages:
            raise ImageFileError(
                f"{shown(self.path)} has more than {self.max_pages:,} pages, which is all that is allowed to a file. "
                f"{self._remedy(n_pages * PAGE_PIXELS)}"
            )

    def _remedy(self, n_pixels: int) -> str:
        if n_pixels > LARGEST:
            return "No image is that large: it is damaged, or made to do harm"
        return f"If it is honest, cut it into parts, or raise the limit: max_pixels={n_pixels} (--max-pixels {n_pixels})"


def cause(error: BaseException) -> str:
    """Return why a library gave up. Where an exception's text is a bare key or nothing, the structure is what is wrong."""
    if isinstance(error, (LookupError, AttributeError, TypeError, AssertionError)) or not str(error).strip():
        return f"its structure contradicts itself ({told(f'{type(error).__name__}: {error}').rstrip(': ')})"
    return told(error)
