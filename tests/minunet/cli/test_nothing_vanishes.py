"""Nothing is passed over or written over without a word: outputs of one name, folders inside, scores that Python would give."""

from __future__ import annotations

import argparse
import csv
import itertools
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import minunet
from minunet import UNet
from minunet.cli import main, predict

SMALL = ["--base-channels", "2", "--depth", "1", "--patch-size", "16", "--batch-size", "1", "--max-epochs", "1"]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """Return folders of images and of masks that number their objects, and models with and without classes=, as text."""
    folder, rng = tmp_path_factory.mktemp("numbered"), np.random.default_rng(0)
    for i in range(2):
        mask = np.kron(np.arange(9).reshape(3, 3) % (5 + i), np.ones((8, 8), int)).astype(np.uint8)
        for kind, pixels in (("images", (mask > 0) * 90 + rng.integers(0, 60, mask.shape)), ("masks", mask)):
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{i}.png")
    images, masks = str(folder / "images"), str(folder / "masks")
    x, y = minunet.load_folder(images, masks)
    small = {"base_channels": 2, "depth": 1, "max_epochs": 1, "verbose": 0, "random_state": 0}
    UNet(**small).fit(x, y, classes=[0, 1]).save(folder / "snaps")
    UNet(**small).fit(x, (y > 0).astype(np.uint8)).save(folder / "exact")
    return images, masks, str(folder / "snaps"), str(folder / "exact")


def test_evaluate_takes_the_masks_that_score_takes(numbered, tmp_path, capsys):
    images, masks, snaps, exact = numbered
    expected = minunet.load(snaps).score(*minunet.load_folder(images, masks), average=None)
    for i, flags in enumerate([[], ["--classes", "0", "1"]]):
        assert main(["evaluate", snaps, images, masks, "--csv", str(tmp_path / f"{i}.csv"), "-q", *flags]) == 0
        *_, total = csv.DictReader((tmp_path / f"{i}.csv").read_text().splitlines())
        np.testing.assert_allclose([float(total["dice_0"]), float(total["dice_1"])], expected, atol=1e-6)
    capsys.readouterr()
    assert main(["evaluate", exact, images, masks]) == 1
    told = capsys.readouterr().err
    assert "0.png: its mask holds 2, 3, 4, unknown to this model" in told
    assert "--classes 0 1 takes each pixel for the nearest of these" in told
    assert main(["evaluate", exact, images, masks, "--classes", "0", "1", "-q"]) == 0


def made(stem, n_pages, is_png, probabilities):
    """Return what the files of an image are called, as file systems compare names that tell least apart."""
    names = [stem + (".png" if is_png and n_pages == 1 else ".tif"), stem + ("_overlay.png" if n_pages == 1 else "_overlay.tif")]
    names += [stem + "_probabilities.tif"] if probabilities else []
    return {unicodedata.normalize("NFC", name.casefold()) for name in names}


ENDINGS = st.sampled_from(["", "_overlay", "_probabilities"])
STEMS = st.builds("".join, st.tuples(st.sampled_from(["x", "X", "é", "e\u0301"]), ENDINGS))


@given(
    paths=st.lists(st.builds(lambda folder, stem, end: Path(folder, stem + end), st.sampled_from("ab"), STEMS,
                             st.sampled_from([".png", ".tif", ".JPG"])), min_size=2, max_size=4, unique=True),
    probabilities=st.booleans(), n_pages=st.lists(st.integers(1, 2), min_size=4, max_size=4), is_png=st.booleans(),
)  # fmt: skip
def test_where_outputs_of_two_images_would_meet_the_command_is_refused(paths, probabilities, n_pages, is_png):
    arguments = argparse.Namespace(probabilities=probabilities, model=Path("m"), output=Path("nowhere"), force=False)
    outputs = [made(path.stem, n, is_png, probabilities) for path, n in zip(paths, n_pages, strict=False)]
    meet = any(one & other for one, other in itertools.combinations(outputs, 2))
    try:
        predict._require_targets(paths, arguments)
    except ValueError as error:
        assert "would both be written as" in str(error)
    else:
        assert not meet


def test_folders_inside_that_hold_images_are_mentioned(numbered, tmp_path, capsys):
    images, masks, snaps, _ = numbered
    data = tmp_path / "data"
    for path in ("0.png", "1.png", "old/0.png", "deep/er/0.png", "deep/er/1.png", ".hidden/0.png", "masks/0.png", "masks/1.png"):
        (data / path).parent.mkdir(exist_ok=True, parents=True)
        source = Path(masks if "masks" in path else images, "0.png" if "0" in path else "1.png")
        (data / path).write_bytes(source.read_bytes())
    (data / "round").symlink_to(data)
    told = "data: folders inside, deep/er (2), old (1), hold 3 images: not read with the others"
    pair = [str(data), str(data / "masks")]
    assert main(["check", *pair, "-q", "--classes", "0", "1", *SMALL]) == 0
    assert main(["check", *pair, "--classes", "0", "1", "--device", "cpu", *SMALL]) == 0
    assert f"note: {told}\n" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="not read") as caught:
        assert main(["train", *pair, "-o", str(tmp_path / "m"), "-q", "--classes", "0", "1", *SMALL]) == 0
        x, _ = minunet.load_folder(*pair)
        assert main(["evaluate", snaps, *pair, "-q"]) == 0
    assert [str(warning.message) for warning in caught] == [told] * 3 and len(x) == 2
    assert main(["predict", snaps, str(data), "-o", str(tmp_path / "out"), "-q"]) == 0
    told = "data: folders inside, deep/er (2), masks (2), old (1), hold 5 images: not read with the others"
    assert f"minunet: warning: {told}\n" in capsys.readouterr().err
    (data / "old" / "0.png").unlink()
    assert main(["predict", snaps, *pair, "-o", str(tmp_path / "out2"), "-q"]) == 1  # one name twice
    assert "data: a folder inside, deep/er, holds 2 images: not read with the others" in capsys.readouterr().err


def test_a_link_to_a_folder_that_is_gone_is_told_as_such(numbered, tmp_path, capsys):
    images, masks, snaps, _ = numbered
    (tmp_path / "gone").symlink_to("nowhere")
    gone = str(tmp_path / "gone")
    for command in (["check", gone, masks], ["check", images, gone], ["predict", snaps, gone, "-o", str(tmp_path / "o")]):
        assert main(command) == 1
        assert "gone is a link to nowhere, which is not there" in capsys.readouterr().err
