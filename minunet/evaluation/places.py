"""Where a prediction is written, part by part, so that it need not fit into memory: an array that is there, or a new file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .. import files
from ..checks import require

TIFF, NPY = (".tif", ".tiff"), ".npy"
BIG = 2**32 - 2**25  # bytes, from which a TIFF takes 64-bit places
STRIP = 2**18  # bytes of a strip of a TIFF
TAKES = (
    "an array to write into (out[region] = part: numpy.memmap, zarr, h5py), or a path that ends in .npy, or for labels in .tif"
)


def least_dtype(values: NDArray) -> np.dtype:
    """Return the smallest type of whole numbers that holds all values: uint8, 16, 32, 64; with negative ones int8 and so on."""
    least, largest = int(values.min()), int(values.max())
    dtypes = (np.uint8, np.uint16, np.uint32, np.uint64) if least >= 0 else (np.int8, np.int16, np.int32, np.int64)
    return next(np.dtype(t) for t in dtypes if np.iinfo(t).min <= least and largest <= np.iinfo(t).max)


def is_npy(out: Any) -> bool:
    """Tell whether a prediction goes to a file of NumPy's, or to an array, so that its type is what it would be without."""
    return not isinstance(out, (str, os.PathLike)) or Path(out).suffix.lower() == NPY


def require_place(out: Any, shape: tuple[int, ...], values: NDArray | None, x: Any) -> None:
    """Refuse what a prediction of this shape cannot be written to, before any work.

    values : all labels that there are; None of probabilities.
    """
    if isinstance(out, (str, os.PathLike)):
        ending = Path(out).suffix.lower()
        require(ending == NPY or (ending in TIFF and values is not None), "out", f"the path {os.fspath(out)}", TAKES)
        own = getattr(x, "filename", None)  # of a map
        same = own is not None and os.path.exists(out) and os.path.samefile(own, out)
        require(not same, "out", f"{os.fspath(out)}, the file of x", "another path: the images would be lost")
        return
    fits = all(hasattr(out, name) for name in ("shape", "dtype", "__setitem__"))
    require(fits, "out", f"of type {type(out).__name__}", TAKES)
    require(not _is_read_only(out), "out", "an array that is read-only", "one to write into (a file's, opened with mode='r+')")
    if tuple(out.shape) != shape:
        raise ValueError(f"out has shape {tuple(out.shape)}; it takes that of the prediction, {shape}")
    dtype = np.dtype(out.dtype)
    if values is None:
        require(dtype.kind == "f", "out", f"of dtype {dtype}", "floats, for probabilities")
    elif dtype.kind not in "buif" or not np.array_equal(values.astype(dtype).astype(np.int64), values.astype(np.int64)):
        holds = f"holds the classes {values.tolist()}"
        raise ValueError(f"out is of dtype {dtype}; it takes one that {holds}, such as {least_dtype(values)}")
    same = out is x or (isinstance(out, np.ndarray) and isinstance(x, np.ndarray) and np.may_share_memory(out, x))
    require(not same, "out", "x itself", "another array: what is written would be read")


def _is_read_only(out: Any) -> bool:
    if isinstance(out, np.ndarray):
        return not out.flags.writeable
    return bool(getattr(out, "read_only", False)) or getattr(getattr(out, "file", None), "mode", None) == "r"  # zarr's, h5py's


@contextmanager
def opened(out: Any, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[Any]:
    """Give what takes place[region] = part. A file stands under its name when the block has ended, whole, or not at all."""
    if not isinstance(out, (str, os.PathLike)):
        yield out
        return
    files.require_writable(out, int(np.prod(shape)) * dtype.itemsize)
    with files.written(out) as file:
        start = _begin_npy(file, shape, dtype) if is_npy(out) else _begin_tiff(file, shape, dtype)
        yield FileArray(file, start, shape, dtype)


class FileArray:
    """An array in a file, in row-major order from a byte on, of which parts are written: no memory map, so that a full disk is
    an OSError.
    """

    def __init__(self, file: BinaryIO, start: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.file, self.start, self.shape, self.dtype = file, start, shape, dtype

    def __setitem__(self, at: tuple[Any, ...], part: NDArray) -> None:
        """Write part (h, w, ...) at rows and columns, before which stands the page of a stack."""
        *page, rows, cols = at
        h, w, *trailing = self.shape[len(page) :]
        pixel = int(np.prod(trailing, dtype=int)) * self.dtype.itemsize
        for row, values in zip(range(rows.start, rows.stop), part.astype(self.dtype, copy=False), strict=True):
            place = ((page[0] if page else 0) * h + row) * w + cols.start
            self.file.seek(self.start + place * pixel)
            self.file.write(values.tobytes())


def _begin_npy(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> int:
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, described)
    return file.tell()


def _begin_tiff(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Write the pages (H, W), or those of a stack (N, H, W), without their pixels, and return where these begin."""
    import tifffile

    n_bytes, axes = int(np.prod(shape)) * dtype.itemsize, "QYX"[-len(shape) :]
    strip = max(STRIP // (shape[-1] * dtype.itemsize), 1)
    named = tifffile.FileHandle(file, name="out.tif")  # the file has none yet
    with tifffile.TiffWriter(named, bigtiff=n_bytes > BIG) as writer:
        start, _ = writer.write(
            shape=shape, dtype=dtype, photometric="minisblack", metadata={"axes": axes}, rowsperstrip=strip, returnoffset=True
        )  # type: ignore[misc]
    return int(start)
