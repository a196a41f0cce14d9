"""The target "image": whatever a file holds, read_image and read_mask refuse it as an ImageFileError, or give sound pages."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from fuzz.imagebytes import SECRET, Case, mutated, secret, seeds
from fuzz.judge import ACCEPTED, REFUSED, demand, sentence
from fuzz.source import Source
from numpy.typing import NDArray

from minunet.data.images import ImageFileError, read_image, read_mask

SECONDS = 2.0  # of the processor, that a case may take
MEMORY = 2**30  # bytes that it may take
PIXELS = 2**24  # that a file may decode to: what is honest and large only takes time
Read = Callable[..., list[NDArray]]


def test_one_input(data: bytes) -> tuple[str, str]:
    """Judge one case: return what became of it, and a refusal's message; Broken, or what was raised, where that is wrong."""
    case = mutated(Source(data))
    path = folder() / f"fuzz{case.ending}"
    path.write_bytes(case.data)
    try:
        verdicts = [judge(path, read, case) for read in (read_image, read_mask)]
    finally:
        path.unlink()
    return verdicts[0]


@cache
def folder() -> Path:
    """Return a folder with a file that no image may show."""
    made = Path(tempfile.mkdtemp(prefix="fuzz-image-"))
    (made / "secret.tif").write_bytes(secret())
    return made


def judge(path: Path, read: Read, case: Case) -> tuple[str, str]:
    try:
        pages = read(path, max_pixels=PIXELS)
    except ImageFileError as error:
        return REFUSED, sentence(str(error), path.name)
    demand_sound(pages, flat=read is read_mask)
    if case.same:
        expected = seed_pages(case.seed.name, read)
        demand(
            expected is not None and equal(pages, expected),
            "a file cut short is refused, or shows what it showed",
            case.seed.name,
        )
    if zlib.crc32(case.data) % 3 == 0:
        demand(equal(pages, read(path, max_pixels=PIXELS)), "the same file gives the same pages", case.seed.name)
    return ACCEPTED, ""


def demand_sound(pages: list[NDArray], *, flat: bool) -> None:
    demand(isinstance(pages, list) and pages, "there is a page", pages)
    for page in pages:
        demand(isinstance(page, np.ndarray) and page.dtype.kind in "buif", "a page is an array of numbers", type(page))
        demand(page.ndim == 2 or (page.ndim == 3 and not flat), "a page is (H, W), or (H, W, C) of an image", page.shape)
        demand(page.size and (page.dtype.kind != "f" or np.isfinite(page).all()), "a page has pixels, all finite", page.shape)
        demand((page != SECRET).any(), "no other file is shown", page.shape)


def equal(pages: list[NDArray], others: list[NDArray]) -> bool:
    return len(pages) == len(others) and all(
        a.dtype == b.dtype and np.array_equal(np.ma.getdata(a), np.ma.getdata(b))
        and np.array_equal(np.ma.getmaskarray(a), np.ma.getmaskarray(b)) for a, b in zip(pages, others, strict=True)
    )  # fmt: skip


@cache
def seed_pages(name: str, read: Read) -> list[NDArray] | None:
    """Return what a sound file shows; None where it is refused (a mask in colours, say)."""
    (seed,) = (seed for seed in seeds() if seed.name == name)
    path = Path(tempfile.mkdtemp(dir=folder())) / f"fuzz{seed.ending}"
    path.write_bytes(seed.data)
    try:
        return read(path)
    except ImageFileError:
        return None
