"""The table of the epochs, by its text."""

from __future__ import annotations

import csv
import os
import stat

import numpy as np
import pytest

import minunet
from minunet import CSVLog, UNet, files
from minunet.cli import main

NAN = float("nan")
SMALL = {
    "base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 3, "verbose": 0, "random_state": 0, "n_threads": 1,
    "validation_fraction": 0.4,
}  # fmt: skip


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    monkeypatch.setattr("minunet.training.schedule.MIN_STEPS", 2)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "epochs.csv"


def images():
    x = np.random.default_rng(0).random((5, 20, 24), np.float32)
    return x, (x > 0.6).astype(int)


def test_a_line_an_epoch_whole_after_each(path):
    log = CSVLog(path)
    log.on_epoch_end(0, {"loss": 0.1, "val_dice_-1": NAN, "steps": 25})
    assert path.read_text() == "epoch,loss,val_dice_-1,steps\n1,0.1,,25\n"
    log.on_epoch_end(1, {"loss": 1 / 3, "val_dice_-1": 0.5, "steps": 50, "mine": 7.0})
    log.on_epoch_end(2, {"loss": 1e-7, "steps": 75})
    assert path.read_text() == (
        "epoch,loss,val_dice_-1,steps,mine\n1,0.1,,25,\n2,0.3333333333333333,0.5,50,7.0\n3,1e-07,,75,\n"
    )  # fmt: skip


def test_it_is_the_history(path):
    unet = UNet(**SMALL).fit(*images(), callbacks=[CSVLog(path)])
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert list(rows[0]) == ["epoch", *unet.history_] and [row["epoch"] for row in rows] == ["1", "2", "3"]
    for name, values in unet.history_.items():
        assert [float(row[name]) for row in rows] == values


def test_of_a_training_that_is_gone_on_with_each_epoch_stands_once(path, tmp_path):
    whole = UNet(**SMALL).fit(*images())

    class Stop:
        def on_epoch_end(self, epoch, logs):
            return epoch == 1

    UNet(**SMALL).fit(*images(), checkpoint=tmp_path / "c", callbacks=[CSVLog(path), Stop()])
    again = path.read_text() + "3,0.5\n4,"  # of epochs that were not kept; the last one cut short, as others write
    path.write_text(again)
    UNet(**SMALL).fit(*images(), checkpoint=tmp_path / "c", resume=True, callbacks=[CSVLog(path)])
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["loss"]) for row in rows] == whole.history_["loss"]


def test_one_log_for_two_trainings_has_the_second(path):
    log = CSVLog(path)
    for _ in range(2):
        log.on_epoch_end(0, {"loss": 0.5})
        log.on_epoch_end(1, {"loss": 0.25})
    assert path.read_text() == "epoch,loss\n1,0.5\n2,0.25\n"
    CSVLog(path).on_epoch_end(0, {"loss": 3.0})  # a table from before is replaced when an epoch has ended, not sooner
    assert path.read_text() == "epoch,loss\n1,3.0\n"


@pytest.mark.parametrize("content", ["name,age\nAda,36\n", "\x00\x01", "epochs,loss\n", '"epoch', "loss,epoch\n1,2\n"])
def test_what_is_no_such_table_is_not_replaced_unless_it_is_said(path, content):
    path.write_text(content)
    with pytest.raises(FileExistsError, match=r"epochs.csv is there already, and is no table of epochs; .*replace=True"):
        CSVLog(path)
    assert path.read_text() == content
    CSVLog(path, replace=True).on_epoch_end(0, {"loss": 0.5})
    assert path.read_text() == "epoch,loss\n1,0.5\n"


def test_what_is_said_to_be_replaced_is_replaced_by_a_training_that_is_gone_on_with(path):
    path.write_text("name,age\nAda,36\n")
    log = CSVLog(path, replace=True)
    log.on_epoch_end(3, {"loss": 0.5})
    log.on_epoch_end(4, {"loss": 0.25})
    assert path.read_text() == "epoch,loss\n4,0.5\n5,0.25\n"


def test_a_table_that_cannot_be_read_for_a_while_is_gone_on_with(path, monkeypatch):
    path.write_text("epoch,loss\n1,1.0\n2,0.75\n3,9.0\n")
    log = CSVLog(path)

    def refused(*arguments):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="the table of the epochs was not written"):
        patch.setattr(files, "open_regular", refused)
        log.on_epoch_end(2, {"loss": 0.5})
    log.on_epoch_end(3, {"loss": 0.25})
    assert path.read_text() == "epoch,loss\n1,1.0\n2,0.75\n3,0.5\n4,0.25\n"


def test_where_nothing_can_be_written_is_told_before_the_training(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        CSVLog(tmp_path / "none" / "x.csv")
    with pytest.raises(IsADirectoryError):
        CSVLog(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no ordinary file"):
        CSVLog(tmp_path / "pipe")


def test_a_full_disk_is_told_once_and_made_up_for(path, monkeypatch):
    log, real, full = CSVLog(path), files.atomic_write, [False, True, True, False]

    def write(*arguments):
        if full.pop(0):
            raise OSError(28, "No space left on device")
        real(*arguments)

    monkeypatch.setattr(files, "atomic_write", write)
    log.on_epoch_end(0, {"loss": 0.5})
    with pytest.warns(UserWarning, match="the table of the epochs was not written: .*No space left") as told:
        log.on_epoch_end(1, {"loss": 0.25})
        log.on_epoch_end(2, {"loss": 0.125})
    assert len(told) == 1 and path.read_text() == "epoch,loss\n1,0.5\n"
    log.on_epoch_end(3, {"loss": 0.0625})
    assert path.read_text() == "epoch,loss\n1,0.5\n2,0.25\n3,0.125\n4,0.0625\n"


def test_a_folder_that_changes_meanwhile_is_not_followed(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = CSVLog("epochs.csv")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    log.on_epoch_end(0, {"loss": 0.5})
    assert path.read_text() == "epoch,loss\n1,0.5\n" and not stat.S_IXUSR & path.stat().st_mode


def test_the_command_line_writes_it(path, tmp_path, capsys):
    from PIL import Image

    x, y = images()
    for name, arrays in (("x", (255 * x).astype(np.uint8)), ("y", (255 * y).astype(np.uint8))):
        (tmp_path / name).mkdir()
        for i, array in enumerate(arrays):
            Image.fromarray(array).save(tmp_path / name / f"{i}.png")
    small = ["--base-channels", "2", "--depth", "1", "--patch-size", "16", "--random-state", "0", "-q"]
    words = ["train", str(tmp_path / "x"), str(tmp_path / "y"), "-o", str(tmp_path / "m"), "--csv", str(path), *small]
    kept = ["--checkpoint", str(tmp_path / "c")]
    assert main([*words, *kept, "--max-epochs", "2"]) == 0
    first = path.read_text()
    assert len(first.splitlines()) == 3
    assert main([*words, "--force", "--max-epochs", "1", *kept[:1], str(tmp_path / "c2")]) == 0
    assert len(path.read_text().splitlines()) == 2
    path.write_text(first)
    (tmp_path / "m").unlink()
    assert main([*words, "--max-epochs", "3"]) == 1
    assert "epochs.csv is there already; --force replaces it" in capsys.readouterr().err
    assert main([*words, *kept, "--resume", "--max-epochs", "3"]) == 0
    rows = path.read_text().splitlines()
    assert rows[:3] == first.splitlines() and len(rows) == 4
    losses = minunet.load(tmp_path / "m").history_["loss"]
    assert [float(row.split(",")[1]) for row in rows[1:]] == losses
    with pytest.raises(SystemExit):
        main([*words, "--force", "--csv", str(tmp_path / "m")])
    assert "another file of this training" in capsys.readouterr().err
