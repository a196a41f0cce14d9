"""The command line, from folders to label images: train, predict, evaluate, summary."""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

import minunet
from minunet import training
from minunet.cli import flags, main
from minunet.cli.predict import encode_labels
from minunet.data.images import read_pages
from minunet.evaluation import metrics

SMALL = [
    "--base-channels", "4", "--depth", "2", "--patch-size", "32", "--batch-size", "2", "--max-epochs", "1", "--random-state", "0",
]  # fmt: skip


def discs(n=3, size=40, seed=0):
    """Bright discs on a dark noisy ground, and their masks of 0 and 255."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size]
    centres = rng.uniform(0.3 * size, 0.7 * size, (n, 2))
    y = np.stack([(rows - r) ** 2 + (cols - c) ** 2 < (0.2 * size) ** 2 for r, c in centres])
    x = (80 + 100 * y + rng.normal(0, 15, y.shape)).clip(0, 255).astype(np.uint8)
    return x, (255 * y).astype(np.uint8)


def save(folder, arrays, name="{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / name.format(i))
    return str(folder)


@pytest.fixture
def data(tmp_path):
    """Return the folders of images and masks, as text."""
    x, y = discs()
    return save(tmp_path / "images", x), save(tmp_path / "masks", y, "{}_mask.png")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a model file trained on discs, as text."""
    folder = tmp_path_factory.mktemp("model")
    x, y = discs()
    images, masks = save(folder / "images", x), save(folder / "masks", y)
    path = str(folder / "model.safetensors")
    assert main(["train", images, masks, "-o", path, "-q", *SMALL, "--max-epochs", "4"]) == 0
    return path


def pixels(path):
    """Return an image file's pixels, and close it."""
    with Image.open(path) as image:
        return np.array(image)


def said(capsys):
    """Return what was printed since, on both streams."""
    out, err = capsys.readouterr()
    return out, err


def test_masks_of_one_bit_are_weighed_as_0_and_1(tmp_path):
    x, y = discs(2, 32)
    folders = save(tmp_path / "images", x), save(tmp_path / "masks", y > 0)
    model = tmp_path / "m.safetensors"
    assert main(["train", *folders, "-o", str(model), "-q", *SMALL, "--class-weight", "0=1,1=5"]) == 0
    loaded = minunet.load(model)
    assert loaded.class_weight == [1.0, 5.0] and loaded.classes_.dtype == bool


def test_train_tells_what_it_reads_and_what_to_do_next(data, tmp_path, capsys):
    path = tmp_path / "m.safetensors"
    assert main(["train", *data, "-o", str(path), *SMALL]) == 0
    out, err = said(capsys)
    assert "images   3" in out and "40 x 40" in out and "grey, uint8" in out and "0 (8" in out
    assert f"Next: minunet predict {path} NEW-IMAGES -o OUT" in out
    assert "epoch 1/1  loss" in err
    assert minunet.load(path).classes_.tolist() == [0, 255]


def test_a_folder_in_two_codes_trains_after_one_told_setting(tmp_path, capsys):
    x, y = discs(4)
    codes = [np.where(mask > 0, code, 0).astype(np.uint8) for mask, code in zip(y, (255, 251, 251, 255), strict=True)]
    data = save(tmp_path / "images", x, "{}_training.tif"), save(tmp_path / "1st_manual", codes, "{}_manual1.gif")
    path = tmp_path / "m"
    assert main(["train", *data, "-o", str(path), *SMALL]) == 1
    told = r"0_training.tif, 3_training.tif hold 0, 255; 1_training.tif, 2_training.tif hold 0, 251"
    assert told in said(capsys)[1] and not path.exists()
    assert main(["check", *data, *SMALL]) == 1
    out, _ = said(capsys)
    assert told in out and out.count("error: ") == 1
    command = shlex.split(out.rstrip().split("Next: ")[1])
    assert " --classes 0 255,251 " in out
    assert main([*command[1:-1], str(path)]) == 0
    out, _ = said(capsys)
    assert re.search(r"classes  0 \(8.*%\), 255 \(1.*%\) \(--classes 0 255,251\)", out)
    assert minunet.load(path).classes_.tolist() == [0, 255]
    assert main(["evaluate", str(path), *data, "--classes", "0", "255,251"]) == 0


def test_quiet_says_nothing(data, tmp_path, capsys):
    assert main(["train", *data, "-o", str(tmp_path / "m"), "-q", *SMALL]) == 0
    assert said(capsys) == ("", "")


def test_every_parameter_is_a_flag(data, tmp_path):
    path = tmp_path / "m"
    flags = ["--padding", "valid", "--patch-size", "44", "--class-weight", "0=1,255=2.5", "--no-augment"]
    flags += ["--normalize", "dataset", "--optimizer", "sgd", "--border-weight", "8,2.5"]
    assert main(["train", *data, "-o", str(path), "-q", *SMALL, *flags]) == 0
    unet = minunet.load(path)
    assert (unet.padding, unet.augment, unet.normalize, unet.optimizer) == ("valid", False, "dataset", "sgd")
    assert unet.class_weight == [1, 2.5] and unet.border_weight == (8, 2.5)


def test_help_names_every_parameter_and_shows_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    out, _ = said(capsys)
    for name in minunet.UNet().get_params():
        flag = "--init" if name == "warm_start" else f"--{name.replace('_', '-')}"
        assert flag in out, name
    assert "examples:" in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--patch-size", "0"], "--patch-size is 0; it takes a whole number from 1 up"),
        (["--learning-rate", "nan"], "--learning-rate is nan"),
        (["--padding", "both"], "invalid choice: 'both'"),
        (["--class-weight", "0:1"], "is no class weight"),
    ],
)
def test_wrong_use_exits_with_2_before_anything_is_read(data, tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit) as stop:
        main(["train", *data, "-o", str(tmp_path / "m"), *flags])
    assert stop.value.code == 2
    assert message in said(capsys)[1]


def test_an_existing_output_is_refused_before_training_unless_forced(data, tmp_path, capsys):
    path = tmp_path / "m"
    path.write_bytes(b"precious")
    assert main(["train", *data, "-o", str(path), *SMALL]) == 1
    assert "is there already; --force replaces it" in said(capsys)[1]
    assert path.read_bytes() == b"precious"
    assert main(["train", *data, "-o", str(path), "-q", "--force", *SMALL]) == 0
    minunet.load(path)


def test_an_output_that_cannot_be_written_is_refused_before_training(data, tmp_path, capsys):
    assert main(["train", *data, "-o", str(tmp_path / "no" / "m"), *SMALL]) == 1
    out, err = said(capsys)
    assert "there is no folder" in err and "epoch" not in err


def test_a_training_that_diverges_leaves_the_model_of_its_last_good_epoch(data, tmp_path, monkeypatch, capsys):
    after = []  # each step

    def diverging(network, *args, _step=training.step, **options):
        after.append(network.flat.copy())
        if len(after) > 30:  # in the second epoch
            return np.float32(np.nan)
        loss = _step(network, *args, **options)
        after[-1][...] = network.flat
        return loss

    monkeypatch.setattr("minunet.training.loop.step", diverging)
    assert main(["train", *data, "-o", str(tmp_path / "m"), "-q", *SMALL, "--max-epochs", "3"]) == 1
    _, err = said(capsys)
    assert "holds the model of the last good epoch" in err and "training diverged" in err
    loaded = minunet.load(tmp_path / "m")
    assert loaded.n_iter_ == 1
    np.testing.assert_array_equal(loaded.network_.flat, after[24])


@pytest.mark.parametrize("error", [ValueError, FloatingPointError])
def test_an_error_calls_images_and_masks_by_their_files(error):
    says = r"^scaled, b\.png has values, and the mask of a\.png; x\[2\] is none$"
    with pytest.raises(error, match=says), flags.named(["a.png", "b.png"]):
        raise error("scaled, x[1] has values, and y[0]; x[2] is none")


def test_validation_on_other_images_and_a_warning_where_they_are_the_same(data, tmp_path, capsys):
    x, y = discs(2, seed=5)
    other = save(tmp_path / "vx", [*x, pixels(tmp_path / "images" / "1.png")]), save(tmp_path / "vy", [*y, y[0]])
    assert main(["train", *data, "-o", str(tmp_path / "m"), "--validation", *other, *SMALL]) == 0
    out, err = said(capsys)
    assert "3, and 3 to validate on" in out
    assert "warning: 2.png is in the training (1.png) and in the validation" in err
    assert "val_dice" in err


def test_the_report_is_one_page(data, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'minunet[plot]'")
    assert main(["train", *data, "-o", str(tmp_path / "m"), "-q", "--report", str(tmp_path / "r"), *SMALL]) == 0
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "the strip held out of each training image" in page
    assert main(["train", *data, "-o", str(tmp_path / "n"), "-q", "--report", str(tmp_path / "r"), *SMALL]) == 1


def test_predict_writes_the_masks_own_values_in_the_images_own_size(model, tmp_path, capsys):
    x, y = discs(2, 53, seed=3)
    inputs = save(tmp_path / "new images", [x[0], x[1][:31]], "a {}.png")
    assert main(["predict", model, inputs, "-o", str(tmp_path / "out"), "-v"]) == 0
    assert "a 0.png -> " in said(capsys)[0]
    for name, truth in (("a 0", y[0]), ("a 1", y[1][:31])):
        labels = pixels(tmp_path / "out" / f"{name}.png")
        assert labels.shape == truth.shape and labels.dtype == np.uint8
        assert set(np.unique(labels)) <= {0, 255}
        assert pixels(tmp_path / "out" / f"{name}_overlay.png").shape == (*truth.shape, 3)


def test_predict_gives_what_python_gives(model, tmp_path):
    x, _ = discs(1, seed=8)
    inputs = save(tmp_path / "in", x)
    assert main(["predict", model, inputs, "-o", str(tmp_path / "out"), "-q", "--probabilities"]) == 0
    unet = minunet.load(model)
    np.testing.assert_array_equal(pixels(tmp_path / "out" / "0.png"), unet.predict(list(x))[0])
    probabilities = tifffile.imread(tmp_path / "out" / "0_probabilities.tif")
    np.testing.assert_array_equal(probabilities, np.moveaxis(unet.predict_proba(list(x))[0], -1, 0))


def test_a_stack_gives_a_stack(model, tmp_path):
    x, _ = discs(3, seed=4)
    tifffile.imwrite(tmp_path / "stack.tif", x.astype(np.uint16) * 16, photometric="minisblack")
    assert main(["predict", model, str(tmp_path / "stack.tif"), "-o", str(tmp_path / "out"), "-q", "--probabilities"]) == 0
    assert tifffile.imread(tmp_path / "out" / "stack.tif").shape == (3, 40, 40)
    assert tifffile.imread(tmp_path / "out" / "stack_probabilities.tif").shape == (3, 2, 40, 40)
    assert tifffile.imread(tmp_path / "out" / "stack_overlay.tif").shape == (3, 40, 40, 3)


def test_a_broken_image_is_told_and_the_others_are_predicted(model, tmp_path, capsys):
    inputs = save(tmp_path / "in", discs(2)[0])
    (tmp_path / "in" / "broken.png").write_bytes(b"not an image")
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "in" / "colour.png")
    assert main(["predict", model, inputs, "-o", str(tmp_path / "out")]) == 1
    _, err = said(capsys)
    assert "broken.png is no PNG file" in err
    assert "colour.png: the image has 3 channels; this model was fitted on 1" in err
    assert "2 of 4 images could not be predicted" in err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.png", "0_overlay.png", "1.png", "1_overlay.png"]


def test_predict_refuses_to_mix_its_output_with_its_input(model, tmp_path, capsys):
    inputs = save(tmp_path / "in", discs(1)[0])
    for out in (tmp_path / "in", tmp_path / "in" / "out"):
        assert main(["predict", model, inputs, "-o", str(out)]) == 1
        assert "whose images are read" in said(capsys)[1]
    assert os.listdir(tmp_path / "in") == ["0.png"]
    assert main(["predict", model, inputs, "-o", str(tmp_path / "in" / "0.png")]) == 1
    assert "is a file; -o takes a folder" in said(capsys)[1]


def test_predict_refuses_to_replace_and_to_write_two_images_as_one(model, tmp_path, capsys):
    inputs = save(tmp_path / "in", discs(1)[0])
    assert main(["predict", model, inputs, "-o", str(tmp_path / "out"), "-q"]) == 0
    assert main(["predict", model, inputs, "-o", str(tmp_path / "out")]) == 1
    assert "--force replaces it" in said(capsys)[1]
    assert main(["predict", model, inputs, "-o", str(tmp_path / "out"), "-q", "--force"]) == 0
    Image.fromarray(discs(1)[0][0]).save(tmp_path / "in" / "0.tif")
    assert main(["predict", model, inputs, "-o", str(tmp_path / "out2")]) == 1
    assert "would both be written as 0" in said(capsys)[1]


def test_predict_warns_of_one_class_everywhere_and_of_a_mask(model, tmp_path, capsys):
    unet = minunet.load(model)
    unet.network_.parameters["head.weight"][...] = 0  # now every pixel gets the class of the larger bias
    unet.save(tmp_path / "constant")
    inputs = save(tmp_path / "in", [np.full((40, 40), 90, np.uint8)])
    assert main(["predict", str(tmp_path / "constant"), inputs, "-o", str(tmp_path / "out")]) == 0
    _, err = said(capsys)
    assert "every pixel was given the class" in err
    assert "holds only 1 different values: is it a mask?" in err


@pytest.mark.parametrize("what", ["folder", "image", "nothing"])
def test_what_is_no_model_is_told(what, model, data, tmp_path, capsys):
    path = {"folder": tmp_path, "image": tmp_path / "images" / "0.png", "nothing": tmp_path / "none"}[what]
    assert main(["predict", str(path), data[0], "-o", str(tmp_path / "out")]) == 1
    _, err = said(capsys)
    assert err.startswith("minunet: ") and str(path) in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("classes", "ending", "dtype"),
    [
        (np.array([False, True]), ".png", bool),
        (np.array([0, 255], np.int64), ".png", np.uint8),
        (np.array([0, 256]), ".png", np.uint16),
        (np.array([0, 65535]), ".png", np.uint16),
        (np.array([0, 65536]), ".tif", np.uint32),
        (np.array([-1, 7]), ".tif", np.int8),
        (np.array([0, 2**40]), ".tif", np.uint64),
    ],
)
@pytest.mark.parametrize("n_pages", [1, 2])
def test_any_mask_values_are_written_unchanged(tmp_path, classes, ending, dtype, n_pages):
    pages = [classes[np.random.default_rng(i).integers(0, 2, (7, 5))] for i in range(n_pages)]
    found, content = encode_labels(pages, classes, size=(0.5, 0.25))
    assert found == (ending if n_pages == 1 else ".tif")
    (tmp_path / f"a{found}").write_bytes(content)
    back = pixels(tmp_path / "a.png") if found == ".png" else tifffile.imread(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(back).astype(np.int64).reshape(n_pages, 7, 5), np.stack(pages).astype(np.int64))
    for page in read_pages(tmp_path / f"a{found}"):
        assert page.size == pytest.approx((0.5, 0.25))
    if n_pages == 1:
        assert back.dtype == dtype


def save_scaled(folder, arrays, size, name="{}.tif"):
    """Save TIFFs whose pixels have a size in micrometres."""
    folder.mkdir()
    for i, array in enumerate(arrays):
        options = {"resolution": (1e4 / size, 1e4 / size), "resolutionunit": "CENTIMETER", "photometric": "minisblack"}
        tifffile.imwrite(folder / name.format(i), array, **options)
    return str(folder)


def test_the_pixel_size_goes_from_images_into_the_model_and_outputs(tmp_path, capsys):
    x, y = discs()
    images, masks = save_scaled(tmp_path / "x", x, 0.5), save(tmp_path / "y", y)
    path = str(tmp_path / "m.safetensors")
    assert main(["train", images, masks, "-o", path, *SMALL]) == 0
    assert "pixels   grey, uint8; 0.5 micrometres" in said(capsys)[0]
    assert minunet.load(path).pixel_size_ == 0.5
    stack = str(tmp_path / "stack.tif")
    tifffile.imwrite(stack, x, imagej=True, resolution=(2, 2), metadata={"unit": "um", "axes": "ZYX"})
    out = tmp_path / "out"
    assert main(["predict", path, images, stack, "-o", str(out), "--probabilities"]) == 0
    assert said(capsys)[1].count("pixels of") == 0
    for name in ("0.png", "0_probabilities.tif", "stack.tif", "stack_probabilities.tif"):
        assert read_pages(out / name)[0].size == pytest.approx((0.5, 0.5))
    coarse = save_scaled(tmp_path / "coarse", x[:1], 1.0)
    assert main(["predict", path, coarse, "-o", str(tmp_path / "o")]) == 0
    told = "0.tif: its pixels are of 1 micrometres, the model was trained on pixels of 0.5 micrometres"
    assert told in said(capsys)[1]
    assert main(["evaluate", path, coarse, save(tmp_path / "z", y[:1])]) == 0
    assert told in said(capsys)[1]


def test_evaluate_gives_the_scores_of_python_and_a_row_an_image(model, tmp_path, capsys):
    x, y = discs(2, 44, seed=6)
    images, masks = save(tmp_path / "x", x), save(tmp_path / "y", y)
    assert main(["evaluate", model, images, masks, "--csv", str(tmp_path / "s.csv"), "-v"]) == 0
    out, _ = said(capsys)
    unet = minunet.load(model)
    predicted = unet.predict(list(x))
    error = np.mean(np.stack(predicted) != y)
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["image"] for row in rows] == ["0.png", "1.png", "all"]
    assert float(rows[-1]["pixel_error"]) == pytest.approx(error, abs=1e-6)
    dice = unet.score(list(x), list(y), average=None)
    assert [float(rows[-1][f"dice_{c}"]) for c in (0, 255)] == pytest.approx(dice.tolist(), abs=1e-6)
    assert f"pixel error          {error:.4f}" in out
    f = np.mean(metrics.boundary_f(list(y), predicted))
    assert f"boundary F           {f:.4f}" in out and float(rows[-1]["boundary_f"]) == pytest.approx(f, abs=1e-6)
    assert float(rows[1]["boundary_f"]) == pytest.approx(np.mean(metrics.boundary_f(y[1], predicted[1])), abs=1e-6)
    assert main(["evaluate", model, images, masks, "--csv", str(tmp_path / "s.csv")]) == 1
    assert "--force" in said(capsys)[1]


def test_evaluate_refuses_mask_values_that_the_model_never_saw(model, tmp_path, capsys):
    x, y = discs(1)
    images, masks = save(tmp_path / "x", x), save(tmp_path / "y", y // 255)
    assert main(["evaluate", model, images, masks]) == 1
    assert "0.png: its mask holds 1, unknown to this model, whose classes are [0, 255]" in (refused := said(capsys)[1])
    assert "--classes 0 255,1 takes each pixel for the nearest" in refused
    assert main(["evaluate", model, images, masks, "--classes", "0", "255"]) == 1
    refused = said(capsys)[1]
    assert all(part in refused for part in ("0.png holds 0, 1. ", "Nearest to 1 is another class", "--classes 0 255,1"))
    assert main(["evaluate", model, images, masks, "--classes", "0", "255,1", "-q"]) == 0
    assert main(["evaluate", model, images, masks, "--classes", "0", "1"]) == 1


def test_summary_of_a_file_and_of_settings(model, capsys):
    assert main(["summary", model, "--size", "64", "96"]) == 0
    assert "(1, 64, 96, 4)" in said(capsys)[0]
    assert main(["summary", "--base-channels", "64"]) == 0
    assert "31,030,658 parameters" in said(capsys)[0]


def test_the_module_runs_and_interruption_ends_with_130(data, tmp_path, monkeypatch, capsys):
    done = subprocess.run([sys.executable, "-m", "minunet", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("minunet ")
    monkeypatch.setattr("minunet.cli.train.read_pairs", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["train", *data, "-o", str(tmp_path / "m"), *SMALL]) == 130
    assert "interrupted" in said(capsys)[1]


def test_a_value_to_ignore_is_no_class_in_train_and_evaluate(tmp_path, capsys):
    x, y = discs()
    void = y.copy()
    void[:, :6] = 7
    images, masks = save(tmp_path / "x", x), save(tmp_path / "y", void)
    model = tmp_path / "m"
    assert main(["train", images, masks, "-o", str(model), "--ignore", "7", "--normalize", "2,98", *SMALL]) == 0
    assert "7 (" not in capsys.readouterr().out
    unet = minunet.load(model)
    assert unet.classes_.tolist() == [0, 255] and unet.normalize == (2, 98) and unet.ignore_index_ == [7]
    assert main(["evaluate", str(model), images, masks]) == 0
    said = capsys.readouterr().out
    assert f"{unet.score(list(x), list(void)):.4f}" in said.splitlines()[-1]
    assert main(["evaluate", str(model), images, masks, "--ignore", "7", "8"]) == 0
    assert capsys.readouterr().out == said
    assert main(["evaluate", str(model), images, save(tmp_path / "z", y)]) == 0  # of which nothing is to be ignored
    assert capsys.readouterr().out != said


@pytest.mark.parametrize("command", ["check", "train"])
def test_a_mask_of_which_nothing_is_left_is_named(tmp_path, capsys, command):
    x, y = discs()
    y[1] = 7
    settings = ["--ignore", "7", *(["-o", str(tmp_path / "m")] if command == "train" else []), *SMALL]
    assert main([command, save(tmp_path / "x", x), save(tmp_path / "y", y), *settings]) == 1
    assert "the mask of 1.png: all pixels hold 7, ignored" in "".join(capsys.readouterr())


def test_predict_names_the_file_and_the_page_that_is_scaled_as_the_training_was(model, tmp_path, capsys):
    x, _ = discs()
    empty = np.random.default_rng(0).normal(80, 9, (40, 40)).clip(0, 255).astype(np.uint8)
    Image.fromarray(empty).save(tmp_path / "empty.png")
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([x[0], empty]), photometric="minisblack")
    names = [str(tmp_path / name) for name in ("empty.png", "stack.tif")]
    assert main(["predict", model, *names, "-o", str(tmp_path / "out"), "-q"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "span less" in line]
    assert len(told) == 2 and "empty.png: the image (" in told[0] and "stack.tif: page 2 (" in told[1]


@pytest.mark.parametrize("value", ["99,1", "imag", "1,2,3"])
def test_a_scale_that_there_is_not_is_wrong_use(data, tmp_path, capsys, value):
    with pytest.raises(SystemExit, match="2"):
        main(["train", *data, "-o", str(tmp_path / "m"), "--normalize", value])
    assert "--normalize is " in capsys.readouterr().err
