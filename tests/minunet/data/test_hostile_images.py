"""Files that are made to do harm: each is refused in a sentence, within a second and little more memory than it has bytes."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import socket
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hostile_images import FILES, MIB, changed, elsewhere, gif, ome, planes, tiff, written
from PIL import Image

from minunet import load_folder
from minunet.data import images
from minunet.data.folders import image_files
from minunet.data.images import ImageFileError, read_image, read_mask

ROOT = Path(__file__).resolve().parents[3]
RNG = np.random.default_rng(0)
GREY = RNG.integers(1, 256, (13, 17), np.uint8)


@pytest.mark.rare
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux counts it")
def test_hostile_files_are_refused_at_once(tmp_path):
    """Measured in processes apart, one after the other: one test, so that the files are made once."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "hostile_images", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "what libraries have to say of a hostile file does not reach the terminal"
    refusals = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert refusals.keys() == FILES.keys()
    assert {name: found for name, found in refusals.items() if not _is_refused_at_once(name, found)} == {}


def _is_refused_at_once(name, found):
    # On the slowest machine tried, a second of its processor; what a header promises would take minutes, or the memory.
    text, cheap = found["text"], found["seconds"] < 10 and found["memory"] < found["size"] + 64 * MIB
    told = name in text and FILES[name][1] in text and text.isprintable() and len(text) < 600
    return found["outcome"] == "ImageFileError" and cheap and told


def test_the_budget_is_of_all_pages_and_can_be_raised(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([GREY] * 4), photometric="minisblack")
    with pytest.raises(ImageFileError, match=r"a\.tif would decode to 884 pixels in 4 pages.*883 pixels.*max_pixels=884"):
        read_image(path, max_pixels=883)
    assert len(read_image(path, max_pixels=884)) == 4
    Image.fromarray(GREY).save(tmp_path / "a.png")
    with pytest.raises(ImageFileError, match=r"221 pixels.*\(--max-pixels 221\)"):
        read_image(tmp_path / "a.png", max_pixels=220)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", max_pixels=221)[0], GREY)
    with pytest.raises(ValueError, match="max_pixels is 0"):
        read_image(path, max_pixels=0)


def test_the_budget_counts_bytes_too(tmp_path):
    options = {"photometric": "minisblack", "planarconfig": "contig", "compression": "zlib", "rowsperstrip": 8}
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((512, 512, 40), np.float64), **options)
    with pytest.raises(ImageFileError, match=r"262,144 pixels, 85,196,800 bytes.*67,108,864 bytes.*max_pixels=10649600"):
        read_image(tmp_path / "a.tif", max_pixels=512 * 512)
    assert read_image(tmp_path / "a.tif", max_pixels=10649600)[0].shape == (512, 512, 40)


def test_pillows_own_limit_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for ending in ("png", "gif", "bmp", "jpg"):
        Image.fromarray(GREY).save(tmp_path / f"a.{ending}")
        assert read_image(tmp_path / f"a.{ending}")[0].shape == (13, 17)


def test_honest_stacks_are_within_the_budget(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((1000, 512, 512), np.uint8), compression="zlib", photometric="minisblack")
    pages = read_image(tmp_path / "a.tif")
    assert len(pages) == 1000 and pages[999].shape == (512, 512)


@pytest.mark.parametrize("hole", [2**40, 2**33])
@pytest.mark.parametrize(
    ("ending", "head"),
    [
        ("gif", gif(9, 9, 0)[:-1]), ("jpg", b"\xff\xd8\xff\xe0"), ("bmp", b"BM"), ("png", b"\x89PNG\r\n\x1a\n"),
        ("tif", b"II*\0\x08\0\0\0\xff\x0f"),
    ],
)  # fmt: skip
def test_a_file_that_is_one_large_hole(tmp_path, ending, head, hole):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(head)
    try:
        os.truncate(path, hole)
    except OSError:
        pytest.skip("no file system for holes")
    with pytest.raises(ImageFileError, match=rf"a\.{ending} "):
        read_image(path)


def test_a_strip_that_is_one_large_hole(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(compression=8, tags={279: (4, [2**32 - 2**12])}))
    os.truncate(path, 2**33)
    with pytest.raises(ImageFileError, match="4,294,963,200 bytes in a strip, whose pixels take 64"):
        read_image(path)


def test_no_other_file_is_ever_opened(tmp_path):
    """Neither by what an OME description says, nor by names beside it that tifffile knows."""
    secret = tmp_path / "secret.tif"
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(secret)
    (tmp_path / "NDTiff.index").write_bytes(b"secret.tif" * 10)
    opened: list[str] = []
    watching = [True]  # a hook stays for ever
    sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if watching and event == "open" else None)
    path = tmp_path / "a.tif"
    for uuid in ("urn:uuid:a", "urn:uuid:b"):
        for name in (str(secret), "secret.tif", "a.tif"):
            path.write_bytes(ome(elsewhere(name, uuid)))
            with contextlib.suppress(ImageFileError):
                assert not any((page == 77).any() for page in read_image(path))
    watching.clear()
    assert str(tmp_path / "a.tif") in opened and not any("secret" in name or "NDTiff" in name for name in opened)


def test_an_ome_file_is_read_under_its_name_and_renamed(tmp_path):
    stack = RNG.integers(0, 99, (2, 3, 8, 9), np.uint8)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stack, metadata={"axes": "ZCYX"}, photometric="minisblack")
    pages = read_image(path.rename(tmp_path / "b.ome.tif"))
    np.testing.assert_array_equal(pages, np.moveaxis(stack, 1, -1))
    for root, uuid in ((' UUID="urn:uuid:a"', "urn:uuid:a"), ("", "urn:uuid:z")):  # it names itself
        inside = planes(f'<TiffData IFD="0" PlaneCount="1"><UUID FileName="c.tif">{uuid}</UUID></TiffData>')
        (tmp_path / "c.tif").write_bytes(ome(inside, uuid=root))
        assert read_image(tmp_path / "c.tif")[0].shape == (8, 8)
    renamed = (tmp_path / "c.tif").rename(tmp_path / "d.tif")
    with pytest.raises(ImageFileError, match="renamed"):  # without an identity of its own it may be anyone
        read_image(renamed)


def test_a_block_of_planes_with_one_directory(tmp_path):
    """ImageJ writes large stacks with one directory: all planes follow the first."""
    stack = RNG.integers(0, 99, (6, 20, 20), np.uint16)
    content = written(stack, imagej=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        first = file.pages[0]
        end = first.offset + 2 + 12 * len(first.tags)
    (tmp_path / "a.tif").write_bytes(content[:end] + bytes(4) + content[end + 4 :])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), stack)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes among files here")
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "link to nothing", "link to itself", "link to a pipe"])
def test_what_is_no_ordinary_file_is_refused_without_waiting(tmp_path, monkeypatch, kind):
    path = tmp_path / "a.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as unix:
            monkeypatch.chdir(tmp_path)  # a socket's path is short
            unix.bind("a.png")
    elif kind == "link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe")
    else:
        path.symlink_to({"device": "/dev/zero", "link to nothing": "gone\x1b[31m.png", "link to itself": "a.png"}[kind])
    for read in (read_image, read_mask):
        with pytest.raises(ImageFileError, match=r"^a\.png (cannot be opened|is a link to)") as error:
            read(path)
        assert str(error.value).isprintable()
    assert image_files(tmp_path)[0] == [path]
    (tmp_path / "masks").mkdir()
    Image.fromarray(GREY).save(tmp_path / "masks" / "a.png")
    with pytest.raises(ImageFileError, match=r"a\.png (cannot be opened|is a link to)"):
        load_folder(tmp_path, tmp_path / "masks")


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no"):
        read_image(tmp_path / "a.png")


def test_messages_of_libraries_are_escaped_and_are_no_bare_keys(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    for error, text in (
        (KeyError(0), r"damaged or incomplete: its structure contradicts itself \(KeyError: 0\)$"),
        (ValueError("\x1b[2J" + "x" * 999), r"incomplete: \\x1b\[2Jx+\.\.\.$"),
        (ValueError(), r"contradicts itself \(ValueError\)$"),
        (MemoryError(), "takes more memory to read than this machine gives"),
        (RecursionError("deep"), "deep"),
    ):
        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(images, "read_pillow", fail)
        with pytest.raises(ImageFileError, match=text) as refusal:
            read_image(tmp_path / "a.png")
        assert str(refusal.value).isprintable() and len(str(refusal.value)) < 400


def test_libraries_may_speak_again_afterwards(tmp_path):
    before = [len(logging.getLogger(name).handlers) for name in ("tifffile", "PIL")]
    (tmp_path / "a.tif").write_bytes(changed(written(GREY), 279, 0))
    with pytest.raises(ImageFileError):
        read_image(tmp_path / "a.tif")
    assert [len(logging.getLogger(name).handlers) for name in ("tifffile", "PIL")] == before


def test_a_mask_of_many_colours_is_looked_at_in_seconds(tmp_path):
    colours = RNG.integers(0, 256, (4000, 4000, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb")
    with pytest.raises(ImageFileError, match=r"a\.tif is a mask in colours \(\(.*and [34],\d\d\d,\d\d\d more\)"):
        read_mask(tmp_path / "a.tif")
    assert images.COLOUR_SAMPLES <= 2**22  # about a second, however many pixels there are


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_colours_of_any_kind_are_listed_by_their_frequency(tmp_path, dtype):
    mask = np.zeros((4, 4, 3), dtype)
    mask[0, 0] = 1, 2, 3
    mask[1:3] = 7, 0, 5
    tifffile.imwrite(tmp_path / "a.tif", mask, photometric="rgb")
    zero, one = ("0.0", "1.0, 2.0, 3.0") if dtype == np.float64 else ("0", "1, 2, 3")
    with pytest.raises(ImageFileError) as error:
        read_mask(tmp_path / "a.tif")
    assert f"50.0%, ({zero}, {zero}, {zero}) 43.8%, ({one}) 6.2%)" in str(error.value)


def test_a_strip_may_be_padded_to_its_full_rows(tmp_path):
    """Some writers compress a whole last strip; more than that is refused."""
    rows = bytes(range(1, 81)) + bytes(16 * 8 - 80)
    (tmp_path / "a.tif").write_bytes(tiff(zlib.compress(rows[:128]), height=10, rows=10, compression=8))
    with pytest.raises(ImageFileError, match="beyond the 80 bytes"):
        read_image(tmp_path / "a.tif")
    two = [zlib.compress(rows[:64]), zlib.compress(rows[64:128])]
    tags = {273: (4, [1, 2]), 279: (4, [len(part) for part in two])}
    start = len(tiff(height=10, rows=8, compression=8, tags=tags))
    tags[273] = (4, [start, start + len(two[0])])
    (tmp_path / "a.tif").write_bytes(tiff(b"".join(two), height=10, rows=8, compression=8, tags=tags))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0].ravel(), np.arange(1, 81))
