"""Every flag of every command reaches what it is for, by value. SHOWN fails where a flag comes without a row."""

from __future__ import annotations

import argparse
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from shown import assert_there

import minunet
from minunet import UNet
from minunet.cli import _parser, flags, main
from minunet.evaluation import metrics

CLI, HERE = "minunet/cli", "minunet/cli/test_flags.py"

# The words of a flag of the estimator, and the parameter that it sets: that one, and no other.
PARAMETERS = [
    ("--base-channels 5", {"base_channels": 5}), ("--depth 3", {"depth": 3}), ("--padding valid", {"padding": "valid"}),
    ("--dropout 0.25", {"dropout": 0.25}), ("--loss dice", {"loss": "dice"}), ("--block residual", {"block": "residual"}),
    ("--norm group", {"norm": "group"}), ("--deep-supervision", {"deep_supervision": True}),
    ("--class-weight 0=1,255=2.5", {"class_weight": {0: 1.0, 255: 2.5}}),
    ("--class-weight balanced", {"class_weight": "balanced"}),
    ("--border-weight 8,2.5", {"border_weight": (8.0, 2.5)}), ("--optimizer sgd", {"optimizer": "sgd"}),
    ("--learning-rate 0.02", {"learning_rate": 0.02}), ("--momentum 0.75", {"momentum": 0.75}),
    ("--weight-decay 0.125", {"weight_decay": 0.125}), ("--schedule cosine", {"schedule": "cosine"}),
    ("--warm-up 0.2", {"warm_up": 0.2}), ("--clip-norm 1.5", {"clip_norm": 1.5}), ("--average 0.99", {"average": 0.99}),
    ("--batch-size 3", {"batch_size": 3}), ("--patch-size 64", {"patch_size": 64}), ("--max-epochs 7", {"max_epochs": 7}),
    ("--max-minutes 2.5", {"max_minutes": 2.5}), ("--no-augment", {"augment": False}), ("--flips-only", {"augment": "flips"}),
    ("--normalize dataset", {"normalize": "dataset"}), ("--normalize 1,99.8", {"normalize": (1.0, 99.8)}),
    ("--context 2", {"context": 2}), ("--validation-fraction 0.3", {"validation_fraction": 0.3}),
    ("--early-stopping", {"early_stopping": True}), ("--n-iter-no-change 4", {"n_iter_no_change": 4}),
    ("--tol 0.01", {"tol": 0.01}),
    ("--threshold 0.3", {"threshold": 0.3}), ("--threshold validation", {"threshold": "validation"}),
    ("--target instances", {"target": "instances"}), ("--random-state 11", {"random_state": 11}),
    ("--device cpu", {"device": "cpu"}),
    ("--n-threads 3", {"n_threads": 3}), ("--algorithm direct", {"algorithm": "direct"}),
    ("--precision float32", {"precision": "float32"}),
]  # fmt: skip

# Of each other flag: the test that shows what it is for. What two commands have is shown for each.
SHOWN = {
    "check IMAGES": (f"{CLI}/test_check.py", "test_an_honest_folder"),
    "check MASKS": (f"{CLI}/test_check.py", "test_an_honest_folder"),
    "check --image-pattern": (HERE, "test_flags_of_the_data_choose_what_is_read"),
    "check --mask-pattern": (HERE, "test_flags_of_the_data_choose_what_is_read"),
    "check --skip-unpaired": (f"{CLI}/test_check.py", "test_files_without_a_partner_are_listed"),
    "check --classes": (f"{CLI}/test_check.py", "test_values_that_need_classes_give_the_flag"),
    "check --ignore": (f"{CLI}/test_commands.py", "test_a_mask_of_which_nothing_is_left_is_named"),
    "check --max-pixels": (f"{CLI}/test_unreadable.py", "test_more_pixels_than_are_allowed"),
    "check --quiet": (f"{CLI}/test_check.py", "test_quiet_prints_warnings_and_errors_alone"),
    "check --verbose": (f"{CLI}/test_check.py", "test_verbose_lists_the_pairs"),
    "train IMAGES": (f"{CLI}/test_commands.py", "test_train_tells_what_it_reads_and_what_to_do_next"),
    "train MASKS": (f"{CLI}/test_commands.py", "test_train_tells_what_it_reads_and_what_to_do_next"),
    "train --output": (f"{CLI}/test_commands.py", "test_train_tells_what_it_reads_and_what_to_do_next"),
    "train --force": (f"{CLI}/test_exit_status.py", "test_what_is_there_is_kept_to_the_byte_unless_forced"),
    "train --validation": (HERE, "test_train_hands_fit_what_its_flags_say"),
    "train --init": (f"{CLI}/test_going_on.py", "test_it_takes_the_network_from_the_model_and_starts_with_its_weights"),
    "train --checkpoint": (HERE, "test_train_hands_fit_what_its_flags_say"),
    "train --resume": (HERE, "test_train_hands_fit_what_its_flags_say"),
    "train --csv": ("minunet/training/test_csvlog.py", "test_the_command_line_writes_it"),
    "train --report": (f"{CLI}/test_commands.py", "test_the_report_is_one_page"),
    "train --image-pattern": (HERE, "test_flags_of_the_data_choose_what_is_read"),
    "train --mask-pattern": (HERE, "test_flags_of_the_data_choose_what_is_read"),
    "train --skip-unpaired": (HERE, "test_flags_of_the_data_choose_what_is_read"),
    "train --classes": (HERE, "test_train_hands_fit_what_its_flags_say"),
    "train --ignore": (HERE, "test_train_hands_fit_what_its_flags_say"),
    "train --max-pixels": (f"{CLI}/test_unreadable.py", "test_more_pixels_than_are_allowed"),
    "train --quiet": (f"{CLI}/test_commands.py", "test_quiet_says_nothing"),
    "train --verbose": (HERE, "test_a_verbose_training_tells_each_file"),
    "predict MODEL": (f"{CLI}/test_commands.py", "test_predict_gives_what_python_gives"),
    "predict INPUTS": (f"{CLI}/test_commands.py", "test_predict_gives_what_python_gives"),
    "predict --output": (f"{CLI}/test_commands.py", "test_predict_gives_what_python_gives"),
    "predict --probabilities": (HERE, "test_predict_does_what_its_flags_say"),
    "predict --instances": (f"{CLI}/test_instances_commands.py", "test_from_masks_to_objects_and_their_precision"),
    "predict --tta": (HERE, "test_predict_does_what_its_flags_say"),
    "predict --max-pixels": (f"{CLI}/test_unreadable.py", "test_more_pixels_than_are_allowed"),
    "predict --force": (f"{CLI}/test_exit_status.py", "test_what_is_there_is_kept_to_the_byte_unless_forced"),
    "predict --device": (HERE, "test_a_model_computes_on_the_machine_that_is_told"),
    "predict --n-threads": (HERE, "test_a_model_computes_on_the_machine_that_is_told"),
    "predict --quiet": (HERE, "test_predict_does_what_its_flags_say"),
    "predict --verbose": (HERE, "test_predict_does_what_its_flags_say"),
    "evaluate MODEL": (f"{CLI}/test_commands.py", "test_evaluate_gives_the_scores_of_python_and_a_row_an_image"),
    "evaluate IMAGES": (f"{CLI}/test_commands.py", "test_evaluate_gives_the_scores_of_python_and_a_row_an_image"),
    "evaluate MASKS": (f"{CLI}/test_commands.py", "test_evaluate_gives_the_scores_of_python_and_a_row_an_image"),
    "evaluate --image-pattern": (HERE, "test_flags_of_the_data_choose_what_is_read"),
    "evaluate --mask-pattern": (HERE, "test_flags_of_the_data_choose_what_is_read"),
    "evaluate --skip-unpaired": (HERE, "test_flags_of_the_data_choose_what_is_read"),
    "evaluate --classes": (f"{CLI}/test_commands.py", "test_evaluate_refuses_mask_values_that_the_model_never_saw"),
    "evaluate --ignore": (HERE, "test_evaluate_does_what_its_flags_say"),
    "evaluate --max-pixels": (f"{CLI}/test_unreadable.py", "test_more_pixels_than_are_allowed"),
    "evaluate --tta": (HERE, "test_evaluate_does_what_its_flags_say"),
    "evaluate --csv": (f"{CLI}/test_commands.py", "test_evaluate_gives_the_scores_of_python_and_a_row_an_image"),
    "evaluate --force": (f"{CLI}/test_exit_status.py", "test_what_is_there_is_kept_to_the_byte_unless_forced"),
    "evaluate --device": (HERE, "test_a_model_computes_on_the_machine_that_is_told"),
    "evaluate --n-threads": (HERE, "test_a_model_computes_on_the_machine_that_is_told"),
    "evaluate --quiet": (HERE, "test_evaluate_does_what_its_flags_say"),
    "evaluate --verbose": (HERE, "test_evaluate_does_what_its_flags_say"),
    "summary MODEL": (f"{CLI}/test_commands.py", "test_summary_of_a_file_and_of_settings"),
    "summary --size": (HERE, "test_a_summary_is_of_the_size_that_is_told"),
    "demo --output": (HERE, "test_the_demo_hands_on_its_flags"),
    "demo --force": (HERE, "test_the_demo_hands_on_its_flags"),
}


SMALL = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1, "random_state": 3, "verbose": 0}


def images():
    """Return three images and their masks of 0 and 255."""
    y = np.zeros((3, 24, 28), np.uint8)
    y[0, 4:15, 6:20] = y[1, 8:20, 3:25] = y[2, 2:9, 2:26] = 255
    return (y // 3 + np.random.default_rng(0).integers(0, 60, y.shape)).astype(np.uint8), y


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return the current folder, with images and masks of the names a, b and c."""
    for folder, arrays in zip(("images", "masks"), images(), strict=True):
        (tmp_path / folder).mkdir()
        for name, array in zip("abc", arrays, strict=True):
            Image.fromarray(array).save(tmp_path / folder / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a model file, as text."""
    path = tmp_path_factory.mktemp("model") / "m"
    UNet(**SMALL).fit(*images()).save(path)
    return str(path)


class FittedError(Exception):
    """What `fit` was called with."""


@pytest.fixture
def given(monkeypatch):
    """Return what runs a train command up to `fit`, and returns the UNet, x, y and the options."""

    def fit(self, *args, **options):
        raise FittedError(self, *args, options)

    def run(*words):
        with pytest.raises(FittedError) as told:
            main(["train", "images", "masks", "-o", "m", "-q", *words])
        return told.value.args

    monkeypatch.setattr(UNet, "fit", fit)
    return run


def commands():
    """Return the parser of each command by its name."""
    (action,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    return action.choices


def of_estimator(action):
    return action.dest in inspect.signature(UNet.__init__).parameters and action.default is argparse.SUPPRESS


# ---- The table -----------------------------------------------------------------------------------------------------------


def test_every_flag_of_every_command_has_a_test_that_shows_its_effect():
    found, estimators = set(), {}
    for name, parser in commands().items():
        for action in parser._actions:
            if action.dest == "help":
                continue
            if of_estimator(action):
                estimators.setdefault(name, set()).update(action.option_strings)
            else:
                found.add(f"{name} {action.option_strings[-1] if action.option_strings else action.dest.upper()}")
    assert found == set(SHOWN)
    shown = {words.split()[0].replace("--no-", "--") for words, _ in PARAMETERS}
    assert set(estimators) == {"check", "train", "summary"}
    for given in estimators.values():
        assert {flag.replace("--no-", "--") for flag in given} == shown


def test_the_tests_that_are_named_are_there():
    assert_there(SHOWN)


# ---- The estimator's flags -----------------------------------------------------------------------------------------------

WORDS = {"train": ["images", "masks", "-o", "m"], "check": ["images", "masks"], "summary": []}


@pytest.mark.parametrize("command", sorted(WORDS))
def test_a_flag_sets_its_parameter_and_no_other(command):
    parser, usual = _parser(), UNet().get_params()
    for words, wanted in PARAMETERS:
        unet = flags.estimator(parser.parse_args([command, *WORDS[command], *words.split()]))
        assert unet.get_params() == usual | {"verbose": 1} | wanted and usual != usual | wanted, words


def test_quiet_and_init_are_the_flags_of_the_other_two(tmp_path):
    parsed = _parser().parse_args(["train", "images", "masks", "-o", "m", "-q"])
    assert flags.estimator(parsed).verbose == 0 and flags.estimator(parsed).warm_start is False
    assert set(flags.UNFLAGGED) == {"verbose", "warm_start"}


def test_what_a_train_command_says_is_what_is_fitted(here, given):
    unet, *_ = given("--base-channels", "3", "--weight-decay", "0.125", "--no-augment", "--random-state", "11")
    wanted = UNet(base_channels=3, weight_decay=0.125, augment=False, random_state=11, verbose=0)
    assert unet.get_params() == wanted.get_params()


# ---- train ---------------------------------------------------------------------------------------------------------------


def test_train_hands_fit_what_its_flags_say(here, given):
    x, y = images()
    unet, seen, masks, options = given()
    assert np.array_equal(seen, x) and np.array_equal(masks, y)
    usual = {"validation_data", "classes", "ignore_index", "groups", "pixel_size", "checkpoint"}
    assert {name for name, value in options.items() if value is None} == usual
    assert options["resume"] is False and options["callbacks"] == []
    for folder, pixels in (("more", x[::-1] // 2), ("more_masks", y[::-1])):
        (here / folder).mkdir()
        Image.fromarray(pixels[0]).save(here / folder / "c.png")
    data = ["--validation", "more", "more_masks", "--classes", "0", "255,3", "--ignore", "7", "9"]
    *_, options = given(*data, "--checkpoint", "c", "--resume", "--csv", "e.csv")
    assert np.array_equal(options["validation_data"], ([x[2] // 2], [y[2]]))
    assert options["classes"] == [0, (255, 3)] and options["ignore_index"] == [7, 9]
    assert options["checkpoint"] == here / "c" and options["resume"] is True
    (log,) = options["callbacks"]
    assert Path(log.path) == here / "e.csv"


def test_flags_of_the_data_choose_what_is_read(here, given, model, capsys):
    x, y = images()
    Image.fromarray(x[0]).save(here / "images" / "alone.png")
    commands_of = {
        "train": ["train", "images", "masks", "-o", "m"], "evaluate": ["evaluate", model, "images", "masks"],
        "check": ["check", "images", "masks", "--base-channels", "2", "--depth", "1", "--patch-size", "16"],
    }  # fmt: skip
    for words in commands_of.values():
        assert main(words) == 1
        out, err = capsys.readouterr()
        assert "alone.png" in out + err
    _, seen, *_ = given("--skip-unpaired")
    assert np.array_equal(seen, x)
    for name, image, mask in zip("ab", x // 2, 255 - y, strict=False):
        Image.fromarray(image).save(here / "images" / f"scan_{name}.png")
        Image.fromarray(mask).save(here / "masks" / f"{name}_manual.png")
    patterns = ["--image-pattern", "scan_*.png", "--mask-pattern", "*_manual.png"]
    _, seen, masks, _ = given(*patterns)
    assert np.array_equal(seen, x[:2] // 2) and np.array_equal(masks, 255 - y[:2])
    assert main([*commands_of["evaluate"], *patterns]) == 0
    assert capsys.readouterr().out.startswith("2 images\n")
    assert main([*commands_of["evaluate"], "--skip-unpaired"]) == 0
    assert capsys.readouterr().out.startswith("3 images\n")
    main([*commands_of["check"], *patterns])
    assert re.search(r"^pairs +2$", capsys.readouterr().out, re.M)


def test_a_verbose_training_tells_each_file(here, monkeypatch, capsys):
    monkeypatch.setattr(UNet, "fit", lambda *_, **__: stop())
    for words, lines in ((["-v"], [f"{name}.png: 24 x 28, uint8" for name in "abc"]), ([], [])):
        assert main(["train", "images", "masks", "-o", "m", *words]) == 1
        assert [line for line in capsys.readouterr().out.splitlines() if line.endswith(": 24 x 28, uint8")] == lines


def stop():
    raise ValueError("it would train")


# ---- What uses a model ---------------------------------------------------------------------------------------------------


def test_predict_does_what_its_flags_say(here, model, capsys):
    unet, (x, _) = minunet.load(model), images()
    for tta in (False, True):
        out = f"out{tta:d}"
        words = ["--tta"] if tta else []
        assert main(["predict", model, "images/a.png", "-o", out, "--probabilities", "-q", *words]) == 0
        wanted = unet.predict_proba(x[0], tta=tta)
        assert np.array_equal(tifffile.imread(f"{out}/a_probabilities.tif"), np.moveaxis(wanted, -1, 0))
        assert np.array_equal(Image.open(f"{out}/a.png"), unet.predict(x[0], tta=tta))
    assert not np.array_equal(unet.predict_proba(x[0]), unet.predict_proba(x[0], tta=True))
    assert capsys.readouterr().out == ""
    for words, shares in (([], ""), (["-v"], f"  ({shares_of(unet.predict(x[0]))})")):
        assert main(["predict", model, "images/a.png", "-o", f"plain{len(words)}", *words]) == 0
        assert capsys.readouterr().out == f"a.png -> plain{len(words)}/a.png{shares}\n"
        assert sorted(path.name for path in (here / f"plain{len(words)}").iterdir()) == ["a.png", "a_overlay.png"]


def shares_of(label):
    return ", ".join(f"{value}: {np.mean(label == value):.1%}" for value in (0, 255))


def test_evaluate_does_what_its_flags_say(here, model, capsys):
    unet, (x, y) = minunet.load(model), images()
    y[:, :3] = 7
    for name, mask in zip("abc", y, strict=True):
        Image.fromarray(mask).save(here / "masks" / f"{name}.png")
    words = ["evaluate", model, "images", "masks", "--ignore", "7"]
    for more in ([], ["--tta"]):
        assert main([*words, *more]) == 0
        error = metrics.pixel_error(y[:, 3:], unet.predict(x, tta=bool(more))[:, 3:])
        assert f"pixel error          {error:.4f}\n" in capsys.readouterr().out
    assert main([*words, "-q"]) == 0 and capsys.readouterr().out == ""
    assert main([*words, "-v"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("a.png,", "b.png,", "c.png,"))]
    for row, truth, label in zip(rows, y, unet.predict(x), strict=True):
        assert float(row.split(",")[1]) == pytest.approx(np.mean(truth[3:] != label[3:]), abs=1e-6)


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_model_computes_on_the_machine_that_is_told(here, model, command, monkeypatch):
    seen = []

    def ready(self, _ready=UNet._ready):
        seen.append((self.device, self.n_threads, self.verbose))
        return _ready(self)

    monkeypatch.setattr(UNet, "_ready", ready)
    words = {"predict": ["images/a.png", "-o", "out"], "evaluate": ["images", "masks"]}[command]
    assert main([command, model, *words, "--device", "cpu", "--n-threads", "1", "-q"]) == 0
    assert set(seen) == {("cpu", 1, 0)}


# ---- The others ----------------------------------------------------------------------------------------------------------


def test_a_summary_is_of_the_size_that_is_told(model, capsys):
    unet = minunet.load(model)
    for words, size in (([], (512, 512)), (["--size", "32", "64"], (32, 64))):
        assert main(["summary", model, *words]) == 0
        assert str(unet.summary(size)) in capsys.readouterr().out
        assert main(["summary", "--base-channels", "2", "--depth", "1", *words]) == 0
        assert str(UNet(base_channels=2, depth=1).summary(size)) in capsys.readouterr().out
    assert str(unet.summary((32, 64))) != str(unet.summary((512, 512)))


def test_the_demo_hands_on_its_flags(monkeypatch):
    told = []
    monkeypatch.setattr("minunet.cli.demo.demo", lambda *args: told.append(args))
    assert main(["demo"]) == main(["demo", "--output", "results", "--force"]) == 0
    assert told == [(Path("."), False), (Path("results"), True)]
