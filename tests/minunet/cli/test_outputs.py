"""What a command may write is asked before any work; what it made is never lost, and never over what is not its own."""

from __future__ import annotations

import errno
import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import minunet
from minunet import Network, UNet, files
from minunet.cli import console, main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX links and names")

SMALL = ["--base-channels", "4", "--depth", "2", "--patch-size", "32", "--max-epochs", "1", "--random-state", "0", "-q"]


def images():
    rng = np.random.default_rng(0)
    y = np.zeros((3, 40, 40), np.uint8)
    y[:, 10:25, 8:30] = 255
    return (60 + y // 3 + rng.integers(0, 30, y.shape)).astype(np.uint8), y


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return the current folder, with images, masks, a model's file and a folder `elsewhere`."""
    x, y = images()
    for i in range(3):
        save(tmp_path / "images" / f"{i}.png", x[i])
        save(tmp_path / "masks" / f"{i}.png", y[i])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(here, fitted):
    shutil.copy(fitted, here / "m")
    return "m"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    path = tmp_path_factory.mktemp("fitted") / "m"
    UNet(base_channels=4, depth=2, patch_size=32, max_epochs=1, random_state=0, verbose=0).fit(*images()).save(path)
    return path


@pytest.fixture
def untrained(monkeypatch):
    """Fail where a training begins."""
    monkeypatch.setattr(UNet, "fit", lambda *args, **options: pytest.fail("it trained"))


def during_the_training(monkeypatch, act):
    def fit(self, *args, _fit=UNet.fit, **options):
        _fit(self, *args, **options)
        act()
        return self

    monkeypatch.setattr(UNet, "fit", fit)


def train(*words):
    return main(["train", "images", "masks", *map(str, words), *SMALL])


def listing(folder="."):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


# predict ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["elsewhere/written.png", "images/0.png", "elsewhere", "/dev/full"])
@pytest.mark.parametrize("name", ["0.png", "0_overlay.png", "1.tif"])
def test_no_link_in_the_output_folder_is_written_through(here, model, name, target, capsys):
    (here / "out").mkdir()
    (here / "out" / name).symlink_to(here / target)
    before = listing(here), (here / "images" / "0.png").read_bytes()
    assert main(["predict", model, "images", "-o", "out"]) == 1
    assert f"out/{name} is there already; --force replaces it" in capsys.readouterr().err
    assert (listing(here), (here / "images" / "0.png").read_bytes()) == before
    assert main(["predict", model, "images", "-o", "out", "-q", "--force"]) == 0
    assert (here / "images" / "0.png").read_bytes() == before[1] and os.listdir(here / "elsewhere") == []
    assert (here / "out" / "0.png").is_file() and not (here / "out" / "0.png").is_symlink()


def test_an_output_folder_that_is_a_link_is_the_users_own_word(here, model, capsys):
    (here / "out").symlink_to("elsewhere")
    assert main(["predict", model, "images", "-o", "out", "-q"]) == 0
    assert len(os.listdir(here / "elsewhere")) == 6
    (here / "gone").symlink_to("nowhere")
    assert main(["predict", model, "images", "-o", "gone"]) == 1
    assert "gone is a link to nowhere, which is not there" in capsys.readouterr().err and not (here / "nowhere").exists()


@pytest.mark.parametrize(
    ("first", "second", "flags"),
    [
        ("x.png", "x.tif", []), ("x.png", "x_overlay.png", []), ("x.png", "X.png", []), ("é.png", "e\u0301.png", []),
        ("x.png", "x_probabilities.tif", ["--probabilities"]),
    ],
)  # fmt: skip
def test_two_outputs_of_one_name_are_refused_before_anything_is_written(here, model, capsys, first, second, flags):
    for name in (first, second):
        save(here / "in" / name, images()[0][0])
    assert main(["predict", model, "in", "-o", "out", *flags]) == 1
    assert "would both be written as" in capsys.readouterr().err and not (here / "out").exists()


def test_what_is_read_is_not_replaced_even_by_force(here, capsys):
    before = (here / "images" / "0.png").read_bytes()
    UNet(base_channels=4, depth=2, patch_size=32, max_epochs=1, random_state=0, verbose=0).fit(*images()).save(here / "0.png")
    for words in (["0.png", "images/0.png", "-o", "images"], ["0.png", "images/0.png", "-o", "."]):
        model = (here / "0.png").read_bytes()
        assert main(["predict", *words, "--force"]) == 1
        assert "which is read; give another -o" in capsys.readouterr().err
        assert (here / "images" / "0.png").read_bytes() == before and (here / "0.png").read_bytes() == model


def test_a_file_that_appears_during_the_prediction_is_kept_and_the_others_are_written(here, model, monkeypatch, capsys):
    def predict_proba(self, x, _predict=UNet.predict_proba, **options):
        (here / "out" / "1.png").write_bytes(b"theirs")
        return _predict(self, x, **options)

    monkeypatch.setattr(UNet, "predict_proba", predict_proba)
    assert main(["predict", model, "images", "-o", "out", "-q"]) == 1
    err = capsys.readouterr().err
    assert "out/1.png is there already" in err and "1 of 3 images could not be predicted" in err
    assert (here / "out" / "1.png").read_bytes() == b"theirs"
    assert listing(here / "out") == ["0.png", "0_overlay.png", "1.png", "2.png", "2_overlay.png"]


def test_a_name_too_long_for_its_outputs_is_refused_before_anything_is_written(here, model, capsys):
    save(here / "in" / f"{'n' * 245}.png", images()[0][0])
    assert main(["predict", model, "in", "-o", "out"]) == 1
    assert "is longer than 255 bytes; rename it" in capsys.readouterr().err and not (here / "out").exists()


def test_a_full_disk_is_told_with_the_file_and_what_was_finished_stays(here, model, monkeypatch, capsys):
    calls = []

    def fsync(descriptor, _fsync=os.fsync):
        calls.append(1)
        if len(calls) > 6:  # a probe, two files and their folder, and the next
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        _fsync(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    assert main(["predict", model, "images", "-o", "out", "-q"]) == 1
    assert "out/1_overlay.png could not be written: No space left on device" in capsys.readouterr().err
    assert all(Image.open(here / "out" / name).load() for name in os.listdir(here / "out"))


# train --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["elsewhere/new", "images.txt"])
def test_a_model_that_is_a_link_is_there_and_by_force_it_is_followed_as_open_does(here, untrained, target, capsys):
    (here / "link").symlink_to(target)
    assert train("-o", "link") == 1
    assert "link is there already; --force replaces it" in capsys.readouterr().err


def test_an_explicit_link_is_followed_by_force(here):
    (here / "link").symlink_to("elsewhere/new")
    assert train("-o", "link", "--force") == 0
    assert (here / "link").is_symlink() and minunet.load(here / "elsewhere" / "new").n_iter_ == 1


@pytest.mark.parametrize(
    ("model", "report"), [("r/report.html", "r"), ("r", "r"), ("r", "r/s"), ("r/../s", "s"), ("elsewhere/report.html", "linked")]
)
def test_a_model_and_a_report_of_one_name_are_wrong_use(here, untrained, model, report, capsys):
    (here / "linked").symlink_to("elsewhere")
    before = listing(here)
    with pytest.raises(SystemExit) as stop:
        train("-o", model, "--report", report)
    assert stop.value.code == 2 and "would be one file" in capsys.readouterr().err and listing(here) == before


def test_what_cannot_be_written_is_found_before_the_training(here, untrained, monkeypatch, capsys):
    (here / "file").write_text("")
    (here / "r").mkdir()
    (here / "r" / "report.html").symlink_to(here / "elsewhere" / "page")
    for words, cause in (
        (["-o", "no/m"], "there is no folder"),
        (["-o", "file/m"], "is a file, so that m cannot be written"),
        (["-o", "elsewhere", "--force"], "elsewhere is a folder, which is not replaced; give another name"),
        (["-o", "elsewhere"], "elsewhere is a folder, which is not replaced; give another name"),
        (["-o", "/dev/full", "--force"], "/dev/full is no ordinary file"),
        (["-o", "n" * 300], "File name too long"),
        (["-o", "new", "--report", "file"], "file is a file; a folder is taken here"),
        (["-o", "new", "--report", "r"], "r/report.html is there already"),
        (["-o", "new", "--base-channels", "4096", "--depth", "8"], "the weights alone take"),
    ):
        assert main(["train", "images", "masks", *SMALL, *words]) == 1
        assert cause in capsys.readouterr().err, words
    assert not (here / "new").exists() and os.listdir(here / "elsewhere") == []


def test_a_model_that_appears_during_the_training_is_kept_and_ours_is_beside_it(here, monkeypatch, capsys):
    during_the_training(monkeypatch, lambda: (here / "m.st").write_bytes(b"theirs"))
    assert train("-o", "m.st") == 1
    err = capsys.readouterr().err
    assert "m.st appeared during the training, and only --force replaces it. The model is in" in err and "m-2.st" in err
    assert (here / "m.st").read_bytes() == b"theirs" and minunet.load(here / "m-2.st").n_iter_ == 1
    assert train("-o", "m.st", "--force") == 0 and minunet.load(here / "m.st").n_iter_ == 1


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("elsewhere/new", path)])
def test_whatever_takes_the_models_name_the_model_is_beside_it(here, monkeypatch, make):
    during_the_training(monkeypatch, lambda: make(here / "m.st"))
    assert train("-o", "m.st") == 1
    assert minunet.load(here / "m-2.st").n_iter_ == 1 and os.listdir(here / "elsewhere") == []


def test_a_folder_that_vanished_is_made_anew(here, monkeypatch, capsys):
    (here / "runs" / "1").mkdir(parents=True)
    during_the_training(monkeypatch, lambda: shutil.rmtree(here / "runs"))
    assert train("-o", "runs/1/m") == 0
    assert minunet.load(here / "runs" / "1" / "m").n_iter_ == 1 and "was made anew" in capsys.readouterr().err


def test_a_folder_that_became_a_file_leaves_the_model_here(here, monkeypatch, capsys):
    (here / "runs").mkdir()
    during_the_training(monkeypatch, lambda: (shutil.rmtree(here / "runs"), (here / "runs").write_text("")))
    assert train("-o", "runs/m") == 1
    assert minunet.load(here / "m").n_iter_ == 1 and f"The model is in {here / 'm'}" in capsys.readouterr().err


def test_where_even_the_current_folder_refuses_the_model_is_in_a_private_temporary_one(here, monkeypatch, capsys, tmp_path):
    (here / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(here / "tmp"))

    def fill():
        def full(folder, name, data, *, replace, _write=minunet.writing.Folder.write):
            if "tmp" not in folder.path.parts[len(here.parts) :]:
                raise OSError(f"{folder.path / name} could not be written: No space left on device")
            _write(folder, name, data, replace=replace)

        monkeypatch.setattr("minunet.writing.Folder.write", lambda *args, **options: full(*args, **options))

    during_the_training(monkeypatch, fill)
    assert train("-o", "elsewhere/m") == 1
    (folder,) = (here / "tmp").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700 and minunet.load(folder / "m").n_iter_ == 1
    err = capsys.readouterr().err
    assert f"elsewhere/m could not be written: No space left on device. The model is in {folder / 'm'}" in err


# evaluate and demo --------------------------------------------------------------------------------------------------------


def test_scores_do_not_replace_what_they_are_of(here, model, capsys):
    before = (here / model).read_bytes()
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", model, "images", "masks", "--csv", "./m", "--force"])
    assert stop.value.code == 2 and "is m, which is read" in capsys.readouterr().err and (here / model).read_bytes() == before


def test_scores_do_not_go_through_a_link_nor_over_what_appeared(here, model, monkeypatch, capsys):
    (here / "s.csv").symlink_to("elsewhere/s.csv")
    assert main(["evaluate", model, "images", "masks", "--csv", "s.csv"]) == 1
    assert "s.csv is there already; --force" in capsys.readouterr().err and os.listdir(here / "elsewhere") == []

    def predict_proba(self, x, _predict=UNet.predict_proba, **options):
        (here / "t.csv").write_text("theirs")
        return _predict(self, x, **options)

    monkeypatch.setattr(UNet, "predict_proba", predict_proba)
    assert main(["evaluate", model, "images", "masks", "--csv", "t.csv"]) == 1
    out, err = capsys.readouterr()
    assert "t.csv is there already" in err and "pixel error" in out and (here / "t.csv").read_text() == "theirs"


def test_a_demo_that_is_there_is_kept(here, untrained, capsys):
    (here / "demo.png").symlink_to("elsewhere/demo.png")
    assert main(["demo"]) == 1
    assert "demo.png is there already; --force replaces it" in capsys.readouterr().err and os.listdir(here / "elsewhere") == []


# what is said -------------------------------------------------------------------------------------------------------------

HOSTILE = "a\x1b]0;pwned\x07\x1b[2J\u202egnp.exe\nminunet: all is well"


def test_a_files_name_cannot_command_the_terminal(here, model, capsys):
    save(here / "in" / f"{HOSTILE}.png", images()[0][0])
    assert main(["predict", model, "in", "-o", HOSTILE]) == 0
    assert main(["predict", HOSTILE, "in", "-o", "out"]) == 1
    assert main(["predict", model, "in", "-o", HOSTILE]) == 1
    out, err = capsys.readouterr()
    assert all(c.isprintable() or c == "\n" for c in out + err)
    assert not any(line.startswith("minunet: all is well") for line in (out + err).splitlines())
    assert r"a\x1b]0;pwned\x07\x1b[2J\u202egnp.exe\nminunet" in out


def test_a_name_that_is_no_text_is_told_on_a_stdout_of_ascii(monkeypatch, tmp_path):
    with open(tmp_path / "out", "w", encoding="ascii") as plain:
        stream = console.Stream(plain, escape=True)
        print("naïve", os.fsdecode(b"\xff"), "a\tb", file=stream, flush=True)
    assert (tmp_path / "out").read_text() == "na\\xefve \\udcff a\tb\n"


def test_wrong_use_is_told_on_one_line(here, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "images", "masks", "-o", HOSTILE, "--report", HOSTILE])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and "\x1b" not in err and "\nminunet: all" not in err and r"\x1b]0;pwned" in err


def test_a_folder_of_an_outputs_name_is_told_before_anything_is_written(here, model, capsys):
    (here / "out" / "2_overlay.png").mkdir(parents=True)
    assert main(["predict", model, "images", "-o", "out", "--force"]) == 1
    assert "out/2_overlay.png is a folder, which is not replaced" in capsys.readouterr().err
    assert os.listdir(here / "out") == ["2_overlay.png"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "a/b"), "a/b: No such file or directory"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (MemoryError(), "there is not enough memory"),
        (ValueError("bad"), "bad"),
        (ValueError(), "ValueError"),
    ],
)
def test_an_error_is_told_in_a_sentence(error, text):
    assert console.told(error) == text


@pytest.mark.parametrize("way", ["itself", "link", "hard link"])
def test_no_output_replaces_an_image_in_a_folder_that_is_read(tmp_path, capsys, way):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save(tmp_path / folder / "a.png")
    images, masks, model = str(tmp_path / "images"), str(tmp_path / "masks"), tmp_path / "m"
    UNet(base_channels=2, depth=1, max_epochs=1, verbose=0).fit(np.eye(32), np.eye(32, dtype=int)).save(model)
    for folder in ("images", "masks"):
        target = tmp_path / folder / "a.png"
        before, place = target.read_bytes(), tmp_path / f"{folder}.of"
        if way != "itself":
            place.symlink_to(target) if way == "link" else os.link(target, place)
        place = target if way == "itself" else place
        for words in (["train", images, masks, "-o", str(place)], ["evaluate", str(model), images, masks, "--csv", str(place)]):
            with pytest.raises(SystemExit) as stop:
                main([*words, "--force"])
            assert stop.value.code == 2 and f"{place} is {target}, which is read" in capsys.readouterr().err
        assert target.read_bytes() == before


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--n-threads", "0"], "--n-threads is 0; it takes None or a whole number from 1 up"),
        (["--device", "cuda"], "--device is 'cuda'; it takes 'auto', 'cpu', 'gpu' or 'gpu:1'"),
    ],
)
def test_a_machine_that_cannot_be_is_wrong_use_before_anything_is_read(tmp_path, capsys, flags, says):
    for words in (["predict", "missing", "missing", "-o", str(tmp_path / "out")], ["evaluate", "missing", "missing", "missing"]):
        with pytest.raises(SystemExit) as stop:
            main([*words, *flags])
        assert stop.value.code == 2 and says in capsys.readouterr().err
    assert not os.listdir(tmp_path)


def test_a_depth_that_no_network_has_is_refused_at_once(tmp_path, capsys):
    for words in (["train", "images", "masks", "-o", str(tmp_path / "m")], ["summary"], ["check", "images", "masks"]):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--depth", "999999999"])
        assert stop.value.code == 2 and "--depth is 999999999; it takes less:" in capsys.readouterr().err
    with pytest.raises(ValueError, match="depth is 33; it takes less"):
        Network(depth=33)


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--base-channels", "9999999999"], "--base-channels is 9999999999; it takes up to 2147483647"),
        (["--patch-size", "9" * 20], "it takes up to 2147483647"),
        (["--batch-size", "9" * 20], "it takes up to 2147483647"),
        (["--random-state", "9" * 401], "it takes up to 400 digits"),
    ],
)
def test_numbers_that_no_file_or_machine_holds_are_wrong_use_before_training(tmp_path, capsys, flags, says):
    with pytest.raises(SystemExit) as stop:
        main(["train", "images", "masks", "-o", str(tmp_path / "m"), *flags])
    assert stop.value.code == 2 and says in capsys.readouterr().err


@pytest.mark.parametrize("command", [["summary"], ["check", "images", "masks"], ["train", "images", "masks", "-o", "m"]])
@pytest.mark.parametrize("depth", ["14", "20", "24"])
def test_weights_that_the_machine_cannot_hold_are_refused_before_they_fill_it(here, capsys, command, depth):
    assert main([*command, "--base-channels", "64", "--depth", depth]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and ("the weights alone take" in err or "would take 2^" in err)


def test_a_disk_without_room_for_the_model_is_found_before_the_training(here, untrained, capsys, monkeypatch):
    monkeypatch.setattr(files, "_free_bytes", lambda folder: 1000)
    assert train("-o", "new") == 1
    assert "but only 1,000 are free there" in capsys.readouterr().err


def test_more_threads_than_a_file_may_say_lose_no_model(tmp_path):
    unet = UNet(base_channels=2, depth=1, max_epochs=1, verbose=0, n_threads=100_000)
    unet.fit(np.eye(16), np.eye(16, dtype=int)).save(tmp_path / "m")
    assert minunet.load(tmp_path / "m").n_threads == 4096 and unet.n_threads == 100_000
