"""An image turned and flipped, as a view: what one of its regions is, and where a region of the image comes to lie in it."""

from __future__ import annotations

from numpy.typing import NDArray

from ..data.geometry import symmetry
from ..data.sliced import Image, Sliced

Span = tuple[int, int]


class Turned(Sliced):
    """Symmetry k, 0 to 7, of an image (H, W, C) that need not be in memory."""

    def __init__(self, image: Image, k: int) -> None:
        h, w, c = image.shape
        super().__init__((w, h, c) if k % 2 else (h, w, c), image.dtype)
        self.image, self.k = image, k

    def read(self, rows: slice, cols: slice) -> NDArray:
        at = (rows.start, rows.stop), (cols.start, cols.stop)
        of_image = _moved(*at, self.shape[:2], inverse(self.k))
        return symmetry(self.image[slice(*of_image[0]), slice(*of_image[1])], self.k)

    def where(self, rows: Span, cols: Span) -> tuple[Span, Span]:
        """Return the rows and columns in which these of the image lie."""
        return _moved(rows, cols, self.image.shape[:2], self.k)


def inverse(k: int) -> int:
    """Return the symmetry that undoes symmetry k: a quarter turn is undone by three, a flip by itself."""
    return k if k >= 4 else -k % 4


def _moved(rows: Span, cols: Span, size: tuple[int, ...], k: int) -> tuple[Span, Span]:
    """Return where a region of an array (H, W) lies in its symmetry k. np.rot90 brings column j to row W - 1 - j."""
    h, w = size
    for _ in range(k % 4):
        rows, cols, (h, w) = (w - cols[1], w - cols[0]), rows, (w, h)
    return rows, (w - cols[1], w - cols[0]) if k >= 4 else cols
