"""What one file may decode to: just as many pixels, bytes and pages as are allowed are taken, and one more is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

import minunet
from minunet.data.images import read_image
from minunet.data.refusal import Budget, ImageFileError

MANY = 2**28  # pixels: the limit where none is given, 8 bytes for each, and a page for 8,192


@pytest.mark.parametrize(
    ("limit", "n_pages", "n_pixels", "n_bytes"),
    [
        (MANY, 32_768, MANY, 8 * MANY),
        (10, 1024, 10, 2**26),  # so many pages and bytes always
        (1025 * 8192, 1025, 1025 * 8192, 1025 * 8192 * 8),
        (1024 * 8192, 1024, 1024 * 8192, 2**26),
        (2**23 + 1, 1024, 2**23 + 1, 2**26 + 8),
    ],
)
def test_just_as_many_as_are_allowed_are_taken_and_one_more_of_each_is_refused(limit, n_pages, n_pixels, n_bytes):
    budget = Budget(Path("a.tif")) if limit == MANY else Budget(Path("a.tif"), limit)
    budget.require(n_pages, n_pixels, n_bytes)
    budget.require(n_pages - 1, n_pixels - 1, n_bytes - 1)
    for more, says in (((1, 0, 0), "pages"), ((0, 1, 0), "pixels"), ((0, 0, 1), "bytes")):
        with pytest.raises(ImageFileError, match=says):
            budget.require(n_pages + more[0], n_pixels + more[1], n_bytes + more[2])


@pytest.mark.parametrize("n_pages", [1023, 1024, 1025])
def test_a_file_has_1024_pages_at_most_however_small(tmp_path, n_pages):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for i in range(n_pages):
            file.write(np.array([[i % 251, i // 251]], np.uint8), photometric="minisblack", metadata=None)
    if n_pages > 1024:
        with pytest.raises(ImageFileError, match=r"more than 1,024 pages"):
            read_image(tmp_path / "a.tif", max_pixels=2 * n_pages)
        return
    pages = read_image(tmp_path / "a.tif", max_pixels=2 * n_pages)
    assert [page.tolist() for page in pages] == [[[i % 251, i // 251]] for i in range(n_pages)]


def test_pages_of_one_size_and_numbers_of_their_own_come_as_a_list(tmp_path):
    """As one array, whole numbers would become floats, or lose their bits."""
    (tmp_path / "i").mkdir()
    (tmp_path / "m").mkdir()
    images = {"a": np.array([[1, 255], [3, 4]], np.uint8), "b": np.array([[65535, 256], [7, 9]], np.uint16)}
    for name, image in images.items():
        tifffile.imwrite(tmp_path / "i" / f"{name}.tif", image, photometric="minisblack")
        tifffile.imwrite(tmp_path / "m" / f"{name}.tif", np.eye(2, dtype=np.uint8), photometric="minisblack")
    x, y = minunet.load_folder(tmp_path / "i", tmp_path / "m")
    assert isinstance(x, list) and [image.dtype for image in x] == [np.uint8, np.uint16] and y.shape == (2, 2, 2)
    assert [image.tolist() for image in x] == [image.tolist() for image in images.values()]
