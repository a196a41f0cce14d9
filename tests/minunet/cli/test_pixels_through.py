"""From files to files: what is trained on is each pixel where it was, and each is written back where it was read."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from kept_in_files import RGB, WAYS, H, W
from PIL import Image

import minunet
from minunet.cli import main

SETTINGS = {"base_channels": 4, "depth": 1, "patch_size": 16, "max_epochs": 3, "learning_rate": 0.02, "random_state": 5}
FLAGS = [word for name, value in SETTINGS.items() for word in (f"--{name.replace('_', '-')}", str(value))]
COLOURED = [kind for kind, (_, pages) in WAYS.items() if {(page.shape, page.dtype) for page in pages} == {(RGB.shape, RGB.dtype)}]
# Three values by what two channels show, and a fourth by place: no flip, no turn and no exchange of channels leaves it alone.
MASK = np.where(RGB[..., 0] > 90, np.where(RGB[..., 1] > 60, 200, 7), 3).astype(np.uint8)
MASK[: H // 3, : W // 2] = 0


def masks_of(folder, n):
    """Write the mask n times, each in a way of its own, all of one meaning."""
    folder.mkdir()
    for i in range(n):
        if i % 3 == 0:
            Image.fromarray(MASK).save(folder / f"{i}.png")
        elif i % 3 == 1:
            tifffile.imwrite(folder / f"{i}.tif", MASK, byteorder=">", tile=(16, 16), photometric="minisblack")
        else:
            Image.fromarray(np.repeat(MASK[..., None], 3, axis=2)).save(folder / f"{i}.bmp")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a model file that the command trained, on one picture in seven kinds of files."""
    folder = tmp_path_factory.mktemp("pixels")
    (folder / "images").mkdir()
    for i, kind in enumerate(SEVEN):
        WAYS[kind][0](folder / "images" / str(i))
    masks_of(folder / "masks", len(SEVEN))
    path = folder / "model.safetensors"
    assert main(["train", str(folder / "images"), str(folder / "masks"), "-o", str(path), "-q", *FLAGS]) == 0
    return path


SEVEN = ("colour PNG", "opaque RGBA PNG", "EXIF 6 PNG", "EXIF 5 TIFF", "planar TIFF", "planar tiled TIFF", "colour BMP")


def test_training_on_files_is_training_on_their_pixels_to_the_bit(trained):
    one = minunet.UNet(**SETTINGS).fit(np.stack([RGB] * len(SEVEN)), np.stack([MASK] * len(SEVEN)))
    other = minunet.load(trained)
    assert other.classes_.tolist() == [0, 3, 7, 200] and other.history_["loss"] == one.history_["loss"]
    np.testing.assert_array_equal(other.predict_proba([RGB])[0], one.predict_proba([RGB])[0])


@pytest.mark.parametrize("kind", COLOURED)
def test_each_pixel_is_written_where_it_was_read_with_the_masks_own_value(trained, tmp_path, kind):
    write, pages = WAYS[kind]
    write(tmp_path / "a")
    (path,) = tmp_path.iterdir()
    assert main(["predict", str(trained), str(path), "-o", str(tmp_path / "out"), "-q", "--probabilities"]) == 0
    unet = minunet.load(trained)
    expected = np.stack(unet.predict(pages))
    for changed in (expected[:, ::-1], expected[:, :, ::-1], expected[:, ::-1, ::-1]):
        assert (changed != expected).mean() > 0.2, "a flip would not be seen"
    found = tmp_path / "out" / ("a.tif" if len(pages) > 1 else "a.png")
    written = tifffile.imread(found) if len(pages) > 1 else np.array(Image.open(found))[None]
    assert written.dtype == np.uint8 and {3, 7, 200} <= set(np.unique(written).tolist()) <= {0, 3, 7, 200}
    np.testing.assert_array_equal(written, expected)
    probabilities = tifffile.imread(tmp_path / "out" / "a_probabilities.tif").reshape(len(pages), 4, H, W)
    np.testing.assert_array_equal(probabilities, np.moveaxis(np.stack(unet.predict_proba(pages)), -1, 1))


def test_what_was_learned_is_the_mask_and_not_one_of_its_mirror_images(trained):
    predicted = minunet.load(trained).predict([RGB])[0]
    shares = [(predicted == turned).mean() for turned in (MASK, MASK[::-1], MASK[:, ::-1], MASK[::-1, ::-1])]
    assert shares[0] > max(shares[1:]) + 0.1
