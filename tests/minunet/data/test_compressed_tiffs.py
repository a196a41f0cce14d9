"""TIFFs compressed in the ways that there are: read as other readers do, and where they are damaged, refused in silence."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hostile_images import changed, tiff
from PIL import Image

from minunet.data import fax, lzw
from minunet.data.images import ImageFileError, read_image, read_mask

ROOT = Path(__file__).resolve().parents[3]
RNG = np.random.default_rng(0)
GREY = (np.add.outer(np.arange(53), np.arange(41)) * 3 % 256).astype(np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
BITS = RNG.random((53, 41)) < 0.3


def by_pillow(array, compression, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "TIFF", compression=compression, **options)
    return file.getvalue()


def read(tmp_path, content, reader=read_image):
    (tmp_path / "a.tif").write_bytes(content)
    (page,) = reader(tmp_path / "a.tif")
    return page


def directory(*, data, bits, samples=1, compression=1, photometric=1, height=53, width=41, **more):
    """Return a TIFF of one strip with pixels that are coded already."""
    tags = {258: (3, [bits] * samples), 262: (3, [photometric])} | {int(code[1:]): tag for code, tag in more.items()}
    return tiff(data, width=width, height=height, compression=compression, samples=samples, tags=tags)


@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4"])
@pytest.mark.parametrize("rows", [53, 16])
def test_facsimiles(tmp_path, compression, rows):
    page = read(tmp_path, by_pillow(BITS, compression, tiffinfo={278: rows}))
    assert page.dtype == bool
    np.testing.assert_array_equal(page, BITS)


@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4"])
@pytest.mark.parametrize("width", [1, 8, 9, 700, 3000, 6000])
def test_every_run_of_a_facsimile(tmp_path, compression, width):
    """Runs of each length, of both colours, at drawn places, and rows that are like the one above but for a little."""
    rows = np.zeros((120, width), bool)
    for row in rows[:90]:
        row[:] = RNG.random(width) < RNG.choice([0, 1e-4, 1e-3, 0.01, 0.1, 0.5, 1]) if RNG.random() < 0.5 else False
        if RNG.random() < 0.5:
            start = RNG.integers(0, width)
            row[start : start + RNG.integers(0, width - start + 1)] = True
        row ^= RNG.random() < 0.5
    for i in range(90, 120):
        rows[i] = np.roll(rows[i - 1 if i > 90 else 3], RNG.integers(-4, 5))
    for shown in (rows, ~rows):
        np.testing.assert_array_equal(read(tmp_path, by_pillow(shown, compression, tiffinfo={278: 50})), shown)


def test_a_facsimile_of_all_run_lengths(tmp_path):
    image = np.arange(2700) < np.arange(2701)[:, None]
    for shown in (image, ~image):
        np.testing.assert_array_equal(read(tmp_path, by_pillow(shown, "tiff_ccitt")), shown)


@pytest.mark.parametrize(("zeros", "is_mark"), [(10, False), (11, True), (12, True), (30, True)])
def test_eleven_zeros_and_a_one_are_the_mark_before_a_facsimiles_row(zeros, is_mark):
    """Recommendation T.4: more zeros may fill up, and fewer are no code at all. 10011 is a run of 8 white pixels."""
    bits = "0" * zeros + "1" + "10011"
    data = int(bits.ljust(48, "0"), 2).to_bytes(6, "big")
    if is_mark:
        assert fax.decode(fax.GROUP3, data, 8, 1) == b"\0"
    else:
        with pytest.raises(fax.FaxError, match="a code that is none, at its bit 0"):
            fax.decode(fax.GROUP3, data, 8, 1)


def test_two_dimensions_of_group_3(tmp_path):
    """Rows are marked as told by themselves or by the one above."""
    content = by_pillow(BITS, "group3", tiffinfo={292: 1})
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        assert file.pages[0].tags[292].value == 1
    np.testing.assert_array_equal(read(tmp_path, content), BITS)


def test_bits_are_white_where_they_are_true(tmp_path):
    """Which of 0 and 1 is white is told by a tag; whatever the compression is, white is True."""
    packed = np.packbits(BITS, axis=1).tobytes()
    for photometric, expected in ((1, BITS), (0, ~BITS)):
        for compression, data in ((1, packed), (8, zlib.compress(packed))):
            page = read(tmp_path, directory(data=data, bits=1, compression=compression, photometric=photometric))
            np.testing.assert_array_equal(page, expected)


@pytest.mark.parametrize("compression", ["lzma", "tiff_lzw", "packbits"])
@pytest.mark.parametrize("kind", ["u1", "colours", "u2", "f4"])
def test_what_libtiff_packs(tmp_path, compression, kind):
    array = COLOUR if kind == "colours" else GREY.astype(kind) * 3
    np.testing.assert_array_equal(read(tmp_path, by_pillow(array, compression, tiffinfo={278: 10})), array)


@pytest.mark.parametrize("predictor", [1, 2])
def test_lzw_of_noise_fills_its_table(tmp_path, predictor):
    """The codes get longer, and the table is cleared, several times."""
    noise = RNG.integers(0, 256, (300, 400), np.uint8)
    for array in (noise, noise // 100, np.zeros_like(noise)):
        content = by_pillow(array, "tiff_lzw", tiffinfo={278: 300, 317: predictor})
        np.testing.assert_array_equal(read(tmp_path, content), array)


def test_lzw_that_is_damaged(tmp_path):
    content = by_pillow(GREY, "tiff_lzw")
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        start, n = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    with pytest.raises(ImageFileError, match=r"a\.tif .* page 1 is damaged: its strip 1 of 1 holds .* must hold 2,173"):
        read(tmp_path, changed(content, 279, n // 2))
    with pytest.raises(ImageFileError, match="holds the code 511, and only 258 are known there"):
        read(tmp_path, content[:start] + b"\xff" * n + content[start + n :])
    bomb = b"".join(struct.pack(">Q", code << 52)[:2] for code in [256])
    assert len(lzw.decode(bomb + bytes(10**6), 100)) < 2**25, "it ends soon after what is asked for"


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("quality", [50, 95])
def test_jpegs_inside_are_as_libtiff_shows_them(tmp_path, mode, quality):
    image = Image.fromarray(COLOUR).convert(mode)
    file = io.BytesIO()
    image.save(file, "TIFF", compression="jpeg", quality=quality, tiffinfo={278: 16})
    with Image.open(io.BytesIO(file.getvalue())) as opened:
        expected = np.asarray(opened)
    np.testing.assert_array_equal(read(tmp_path, file.getvalue()), expected)


@pytest.mark.parametrize("is_jfif", [False, True])
def test_a_jpeg_of_rgb_and_one_of_ycbcr(tmp_path, is_jfif):
    """A photometric of RGB means what it says, unless the JPEG says otherwise, as in Aperio's files."""
    smooth = (np.add.outer(np.arange(48), np.arange(48))[..., None] * [1, 2, 1.5]).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(smooth).save(file, "JPEG", quality=100, subsampling=0, **({} if is_jfif else {"keep_rgb": True}))
    data = file.getvalue()
    data = data if is_jfif else data[:2] + data[data.index(b"\xff\xdb") :]
    content = directory(data=data, bits=8, samples=3, compression=7, photometric=2, height=48, width=48)
    assert np.abs(read(tmp_path, content).astype(int) - smooth).max() <= 3


def test_a_jpeg_of_another_size_or_kind_is_refused(tmp_path):
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "JPEG")
    for height, width, samples, message in (
        (54, 41, 1, "holds 41 x 53 pixels and must hold 41 x 54"), (53, 40, 1, "must hold 40 x 53"), (53, 41, 3, "3")
    ):  # fmt: skip
        with pytest.raises(ImageFileError, match=message):
            read(tmp_path, directory(data=file.getvalue(), bits=8, samples=samples, compression=7, height=height, width=width))
    with pytest.raises(ImageFileError, match="scans"):
        scan = b"\xff\xda\0\2" * 200
        read(tmp_path, directory(data=file.getvalue()[:-2] + scan, bits=8, compression=7))
    with pytest.raises(ImageFileError, match="not of 8 bits"):
        read(tmp_path, directory(data=file.getvalue(), bits=16, compression=7))


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 7, 10, 12, 14, 24])
def test_numbers_of_odd_bits_are_the_files_own(tmp_path, bits):
    numbers = RNG.integers(0, 2**bits, (5, 7, 1), np.uint32)
    each = (numbers >> np.arange(bits - 1, -1, -1, dtype=np.uint32) & 1).astype(np.uint8)
    data = np.packbits(each.reshape(5, -1), axis=1).tobytes()
    for compression, packed in ((1, data), (8, zlib.compress(data))):
        page = read(tmp_path, directory(data=packed, bits=bits, compression=compression, height=5, width=7))
        np.testing.assert_array_equal(page, numbers[..., 0])
        assert page.dtype == (np.uint8 if bits < 8 else np.uint16 if bits < 16 else np.uint32)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_differences_of_floats(tmp_path, order, kind):
    numbers = RNG.normal(0, 1, (6, 9)).astype(kind)
    planes = numbers.astype(">" + kind).view(np.uint8).reshape(6, 9, -1).transpose(0, 2, 1).reshape(6, -1)
    data = zlib.compress(np.diff(planes, axis=1, prepend=np.uint8(0)).tobytes())
    content = tifffile_of(numbers, order, data)
    np.testing.assert_array_equal(read(tmp_path, content), numbers)


def tifffile_of(numbers, order, data):
    """Return a TIFF with those bytes for its one strip."""
    file = io.BytesIO()
    tifffile.imwrite(file, numbers, byteorder=order, compression="zlib", metadata=None)
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as opened:
        page = opened.pages[0]
        start, n = page.tags["StripByteCounts"].valueoffset, page.tags["StripByteCounts"].dtype
        place, tag = page.tags["StripOffsets"].valueoffset, page.tags["Software"]
    whole = bytearray(file.getvalue())
    width = {3: 2, 4: 4}[int(n)]
    byte_order = "little" if order == "<" else "big"
    whole[start : start + width] = len(data).to_bytes(width, byte_order)
    whole[place : place + 4] = len(whole).to_bytes(4, byte_order)
    kind = tag.offset
    whole[kind : kind + 12] = struct.pack(order + "HHIHxx", 317, 3, 1, 3)
    return bytes(whole) + data


def test_a_fill_order_that_is_reversed(tmp_path):
    data = bytes(int(f"{i:08b}"[::-1], 2) for i in zlib.compress(GREY.tobytes()))
    page = read(tmp_path, directory(data=data, bits=8, compression=8, t266=(3, [2])))
    np.testing.assert_array_equal(page, GREY)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
def test_palettes(tmp_path, bits, compression):
    n = 2**bits
    index = RNG.integers(0, n, (53, 41), np.uint8)
    colours = RNG.integers(0, 256, (n, 3))
    rows = (index[..., None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8).reshape(53, -1)
    raw = np.packbits(rows, axis=1)
    data = {
        1: raw.tobytes(), 5: lzw_of(raw.tobytes()), 8: zlib.compress(raw.tobytes()),
        32773: b"".join(bytes([raw.shape[1] - 1]) + row.tobytes() for row in raw),
    }[compression]  # fmt: skip
    options = {"data": data, "bits": bits, "compression": compression, "photometric": 3}
    for scale in (257, 1):
        content = directory(**options, t320=(3, (colours.T * scale).ravel().tolist()))
        np.testing.assert_array_equal(read(tmp_path, content), colours[index])
        np.testing.assert_array_equal(read(tmp_path, content, read_mask), index)
    grey = np.repeat(colours[:, :1], 3, axis=1)
    content = directory(**options, t320=(3, (grey.T * 257).ravel().tolist()))
    np.testing.assert_array_equal(read(tmp_path, content), grey[index][..., 0])
    np.testing.assert_array_equal(read(tmp_path, content, read_mask), grey[index][..., 0])
    with pytest.raises(ImageFileError, match="page 1 has no palette"):
        read(tmp_path, directory(**options, t320=(3, [0] * (3 * n - 3))))


def lzw_of(data):
    """Return data as LZW with no string learned: a clearing before each 200 bytes."""
    bits = "".join(f"{code:09b}" for i in range(0, len(data), 200) for code in (256, *data[i : i + 200])) + f"{257:09b}"
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def test_pages_have_palettes_of_their_own(tmp_path):
    pages = [Image.fromarray(GREY % 2).convert("P") for _ in range(2)]
    for page, colours in zip(pages, ([0, 0, 0, 9, 8, 7], [1, 2, 3, 4, 5, 6]), strict=True):
        page.putpalette(colours)
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    first, second = read_image(tmp_path / "a.tif")
    assert first[0, 1].tolist() == [9, 8, 7] and second[0, 1].tolist() == [4, 5, 6]


SILENT = """
import sys
from pathlib import Path
from minunet.data.images import ImageFileError, read_image
for name in sys.argv[1:]:
    try:
        read_image(Path(name))
        print("read", name)
    except ImageFileError as error:
        assert str(error).isprintable()
"""


def test_nothing_is_said_of_damaged_codes_but_by_us(tmp_path):
    """libtiff writes past Python, to descriptor 2."""
    content = {name: by_pillow(BITS, name) for name in ("group3", "group4", "tiff_ccitt")}
    content |= {name: by_pillow(COLOUR, name) for name in ("jpeg", "tiff_lzw")}
    for name, whole in content.items():
        with tifffile.TiffFile(io.BytesIO(whole)) as file:
            start, n = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
        (tmp_path / f"{name}-a.tif").write_bytes(whole[:start] + b"\xff\x00" * (n // 2) + whole[start + n // 2 * 2 :])
        (tmp_path / f"{name}-b.tif").write_bytes(changed(whole, 279, n // 2))
    files = sorted(map(str, tmp_path.glob("*.tif")))
    done = subprocess.run([sys.executable, "-c", SILENT, *files], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert "read" not in done.stdout.replace(str(tmp_path), ""), "no damage is taken for pixels"


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ({"t254": (2, [0, 1])}, r"tag 254 \(NewSubfileType\) of page 1 holds 2 of type 2, and takes one whole number"),
        ({"t284": (3, [0])}, r"tag 284 \(PlanarConfiguration\) of page 1 is 0, which is nothing that is known"),
        ({"t262": (3, [77])}, "PhotometricInterpretation"), ({"t317": (3, [99])}, "Predictor"),
        ({"t274": (3, [9])}, "Orientation"),
        ({"t277": (3, [1, 1])}, "tag 277 of page 1 holds 2 of type 3"), ({"t339": (2, [1])}, "tag 339"),
    ],
)  # fmt: skip
def test_tags_of_wrong_types_and_values_are_refused(tmp_path, tag, message):
    options = {"data": GREY.tobytes(), "bits": 8} | tag
    with pytest.raises(ImageFileError, match=message):
        read(tmp_path, directory(**options))
