"""`minunet check`: what it prints, what it takes for a failure, and the command that it says to run."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from minunet import UNet
from minunet.cli import check
from minunet.datasets import cells
from minunet.room import Limit
from minunet.training import budget
from minunet.training.schedule import Schedule

SHORT = "--base-channels 2 --depth 1 --batch-size 2 --patch-size 16 --max-epochs 3"  # in the order of UNet's parameters
SMALL = shlex.split(SHORT)


def save(folder, arrays, name="{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / name.format(i))


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Make and enter a folder with images and masks, 10 of each; return their arrays."""
    monkeypatch.chdir(tmp_path)
    x, y = cells(10, 48)
    save(tmp_path / "images", x)
    save(tmp_path / "masks", y, "{}_mask.png")
    return x, y


@pytest.fixture
def checked(capsys):
    """Return a function that runs `minunet check` with words, and returns its status and what it printed."""

    def run(*words):
        parser = argparse.ArgumentParser()
        check.add_flags(parser)
        parser.set_defaults(parser=parser)
        status = check.run(parser.parse_args(words))
        return status, capsys.readouterr().out

    return run


def last_line(out):
    return out.rstrip("\n").split("\n")[-1]


def test_an_honest_folder(data, checked):
    status, out = checked("images", "masks", *SMALL)
    assert status == 0
    assert not [line for line in out.split("\n") if line.startswith(("error", "warning", "note"))]
    for line in ("pairs      10", "sizes      48 x 48", "images     grey; uint8", "masks      uint8", "class   pixels"):
        assert line in out.split("\n")
    share = (data[1] == 0).mean()
    assert f"    0   {share:.2%}" in out
    assert "memory     about " in out
    assert "time       about " in out
    assert "on this machine: 3 epochs of 41 steps, " in out  # 9 images of 48 x 48 in batches of 2 patches of 16 x 16
    assert last_line(out) == f"Next: minunet train images masks {SHORT} -o model.safetensors"


def test_flags_are_handed_on_and_an_existing_model_is_not_named(data, checked, tmp_path):
    (tmp_path / "model.safetensors").touch()
    flags = "--mask-pattern '*_mask.png' --classes 0 255 --class-weight 0=1,255=0.5 --no-augment --random-state 3"
    status, out = checked("images", "masks", *SMALL, *shlex.split(flags))
    assert status == 0
    words = shlex.split(last_line(out))
    assert words[-2:] == ["-o", "model-2.safetensors"]
    for flag in flags.split(" --")[1:]:
        assert f" --{flag}" in last_line(out)


def test_quiet_prints_warnings_and_errors_alone(data, checked, tmp_path):
    assert checked("images", "masks", "-q", *SMALL) == (0, "")
    Image.fromarray(np.zeros_like(data[1][0])).save(tmp_path / "masks" / "3_mask.png")
    status, out = checked("images", "masks", "-q", *SMALL)
    assert status == 0
    assert out.startswith("warning: 3.png (0): the mask holds one class only")
    assert out.count("\n") == 1


def test_verbose_lists_the_pairs(data, checked):
    assert "\n3.png with 3_mask.png\n" in checked("images", "masks", "-v", *SMALL)[1]


def test_all_unreadable_files_are_listed_and_nothing_is_timed(data, checked, tmp_path):
    (tmp_path / "images" / "2.png").write_bytes(b"no picture")
    (tmp_path / "masks" / "5_mask.png").write_bytes((tmp_path / "masks" / "6_mask.png").read_bytes()[:60])
    status, out = checked("images", "masks", *SMALL)
    assert status == 1
    assert "error: 2.png is no PNG file" in out
    assert "error: 5_mask.png cannot be read" in out
    assert "memory" not in out
    assert "pairs      8, besides 2 unreadable\n" in out
    assert last_line(out) == f"Next, when the errors are put right: minunet check images masks {SHORT}"


def test_nothing_readable_at_all(checked, tmp_path):
    save(tmp_path / "masks", cells(1, 48)[1])
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").touch()
    status, out = checked(str(tmp_path / "images"), str(tmp_path / "masks"), *SMALL)
    assert status == 1
    assert "error: 0.png is empty" in out


def test_files_without_a_partner_are_listed(data, checked, tmp_path):
    (tmp_path / "images" / "3.png").rename(tmp_path / "images" / "other.png")
    (tmp_path / "images" / "notes.txt").touch()
    status, out = checked("images", "masks", *SMALL)
    assert status == 1
    assert "no mask    other.png\nno image   3_mask.png\nignored    notes.txt" in out
    assert "error: files without a partner: 2" in out
    status, out = checked("images", "masks", "--skip-unpaired", *SMALL)
    assert status == 0
    assert "note: files left out since they have no partner: 2" in out
    assert "pairs      9\n" in out
    assert " --skip-unpaired " in last_line(out)


def test_values_that_need_classes_give_the_flag(data, checked, tmp_path):
    shutil.rmtree("masks")
    save(tmp_path / "masks", data[1], "{}_mask.jpg")
    status, out = checked("images", "masks", *SMALL)
    assert status == 1
    assert "error: the masks hold " in out
    assert last_line(out) == f"Next: minunet train images masks --classes 0 255 {SHORT} -o model.safetensors"
    assert checked("images", "masks", "--classes", "0", "255", *SMALL)[0] == 0


def test_a_rare_class_gives_the_flag(checked, tmp_path):
    y = np.zeros((10, 48, 48), np.uint8)
    y[:, 20:24, 20:24] = 1
    save(tmp_path / "images", np.random.default_rng(0).integers(0, 60, y.shape, np.uint8) + 90 * y)
    save(tmp_path / "masks", y)
    status, out = checked(str(tmp_path / "images"), str(tmp_path / "masks"), *SMALL)
    assert status == 0
    assert "note: class 1 (0.69%)" in out
    assert " --class-weight balanced " in last_line(out)
    _, out = checked(str(tmp_path / "images"), str(tmp_path / "masks"), *SMALL, "--class-weight", "0=1,1=20")
    assert " --class-weight 0=1,1=20 " in last_line(out)


def test_class_weights_of_other_values_are_an_error(data, checked):
    status, out = checked("images", "masks", *SMALL, "--class-weight", "0=1,1=2")
    assert status == 1
    assert "error: class_weight is for [0, 1]; the masks hold [0, 255]" in out
    assert last_line(out).startswith("Next, when the errors are put right: minunet check")


def test_wrong_use_exits_with_2(data, checked):
    with pytest.raises(SystemExit) as stop:
        checked("images", "masks", "--batch-size", "0")
    assert stop.value.code == 2


@pytest.mark.parametrize("level", ["warning", "error"])
def test_too_little_memory_is_told_with_what_fits(data, checked, monkeypatch, level):
    """As train would: an error where there is too little, a warning where there is too little at the moment."""
    room = 8 * 2**20
    most = {"error": lambda: room, "warning": lambda: 2**40}[level]
    monkeypatch.setattr(budget, "tightest", lambda place="cpu": Limit("this machine", 2**24, most(), 0))
    monkeypatch.setattr(budget, "scarcest", lambda place="cpu": Limit("this machine", 2**24, 0, room))
    status, out = checked("images", "masks", *SMALL, "--base-channels", "4", "--batch-size", "500")
    assert status == (level == "error")
    assert f"{level}: training on 500 patches of 16 x 16 a step takes about " in out
    assert "time " not in out
    fitting = int(re.search(r"batch_size=(\d+) \(--batch-size \1\) would take", out)[1])
    assert 1 <= fitting < 500
    assert last_line(out).startswith("Next: minunet train ") and f"--batch-size {fitting} " in last_line(out)
    room = 20_000
    status, out = checked("images", "masks", *SMALL)
    assert "no batch_size, patch_size or base_channels is small enough for that" in out
    assert last_line(out).startswith("Next, when the errors" if level == "error" else "Next: minunet train")


@pytest.mark.parametrize(
    ("max_minutes", "seconds", "text"),
    [
        (None, 1.234, "about 21 min on this machine: 10 epochs of 100 steps, 1.2 s each; --max-minutes ends it sooner"),
        (60, 1.234, "about 21 min on this machine: 10 epochs of 100 steps, 1.2 s each"),
        (5, 1.234, "5 min as asked for, about 2.4 epochs of 100 steps, 1.2 s each"),
        (5, 250.4, "5 min as asked for, about 0.012 epochs of 100 steps, 250 s each"),
    ],
)
def test_time_follows_from_the_schedule(max_minutes, seconds, text):
    assert check._time(Schedule(1e-3, 100, 10, max_minutes), seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (300, "5 min"), (5400, "90 min"), (9000, "2.5 h"), (259200, "3.0 days")]
)
def test_durations(seconds, text):
    assert check._duration(seconds) == text


def test_channels_dtypes_and_sizes_are_told_apart(checked, tmp_path):
    x, y = cells(10, 48)
    save(tmp_path / "images", [image[: 40 + i] for i, image in enumerate(x)])
    save(tmp_path / "masks", [mask[: 40 + i] for i, mask in enumerate(y)])
    Image.fromarray(x[0, :40].astype(np.uint16) * 200).save(tmp_path / "images" / "0.png")
    Image.fromarray(np.stack([x[1, :41]] * 2 + [x[2, :41]], axis=-1)).save(tmp_path / "images" / "1.png")
    status, out = checked(str(tmp_path / "images"), str(tmp_path / "masks"), *SMALL)
    assert status == 1
    assert "sizes      9 different, from 40 x 48 to 48 x 48" in out
    assert "images     grey (9), 3 channels (1); uint8 (9), uint16 (1)" in out
    assert "error: the images differ in their number of channels" in out


def test_two_stacks_are_as_many_pairs_as_pages(checked, tmp_path):
    for name, pages in zip(("x.tif", "y.tif"), cells(3, 48), strict=True):
        first, *others = map(Image.fromarray, pages)
        first.save(tmp_path / name, save_all=True, append_images=others)
    status, out = checked(str(tmp_path / "x.tif"), str(tmp_path / "y.tif"), *SMALL)
    assert status == 0
    assert "pairs      3, the pages of 1 file\n" in out


def test_strange_names_keep_to_their_line(checked, tmp_path):
    x, y = cells(2, 48)
    folder, masks = tmp_path / "my\nimages é", tmp_path / "my masks"
    save(folder, x, "a\t{}\n.png")
    save(masks, y, "a\t{}\n.png")
    Image.fromarray(y[0] // 255 * 9).save(folder / "b\x1b.png")
    status, out = checked(str(folder), str(masks), *SMALL)
    assert status == 1
    assert "no mask    b\\x1b.png" in out
    assert not set("\t\x1b") & set(out)
    assert last_line(out).startswith("Next, when the errors are put right: minunet check $'")


@pytest.mark.parametrize("word", ["plain.png", "two words", "it's", "a\nb", "tab\t'é\\", "\x1b[0m", "", "~", "$HOME\n"])
def test_words_survive_the_shell(word):
    quoted = check._quoted(word)
    assert "\n" not in quoted
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    done = subprocess.run([bash, "-c", f"printf %s {quoted}"], capture_output=True, check=True)
    assert done.stdout.decode() == word


@pytest.mark.parametrize("settings", [{"block": "residual"}, {"deep_supervision": True}])
def test_the_network_that_is_foretold_is_the_one_that_would_be_trained(settings):
    found = SimpleNamespace(
        classes=np.arange(2), frequencies={0: 0.5, 1: 0.5}, channels={1: 4}, paths=[Path(f"{i}.png") for i in range(4)],
        shapes=[(64, 64, 1)] * 4,
    )  # fmt: skip
    unet = UNet(base_channels=2, depth=2, dropout=0.25, **settings)
    network = check._plan(unet, found)[0].training.network
    assert network.config == unet._network(1, 2, 0).config
    assert {name: network.config[name] for name in settings} == settings


def test_every_parameter_can_be_handed_on(data, checked):
    given = {
        "base_channels": 3, "depth": 2, "padding": "valid", "dropout": 0.5, "class_weight": {0: 1.0, 255: 2.0},
        "optimizer": "sgd", "learning_rate": 0.25, "momentum": 0.5, "weight_decay": 0.125,
        "schedule": "step", "warm_up": 0.125, "clip_norm": 0.5, "average": 0.75, "batch_size": 1, "patch_size": 12,
        "max_epochs": 2, "max_minutes": 1.5, "augment": "flips", "normalize": "dataset", "validation_fraction": 0.25,
        "random_state": 5, "device": "cpu", "n_threads": 1, "algorithm": "direct", "precision": "float32", "loss": "dice",
        "block": "residual", "norm": "group", "deep_supervision": False, "border_weight": (8.0, 2.5), "target": "classes",
        "early_stopping": True, "n_iter_no_change": 7, "tol": 0.5, "threshold": 0.25, "context": 1,
    }  # fmt: skip
    assert set(given) == set(UNet().get_params()) - {"verbose", "warm_start"}
    words = check._command("check", argparse.Namespace(images="images", masks="masks", **given), {})
    status, out = checked(*shlex.split(words)[2:])
    assert status == 0
    assert last_line(out) == f"Next: {words.replace('check', 'train')} -o model.safetensors"
