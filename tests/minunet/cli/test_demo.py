"""`minunet demo`: what it writes, and what it refuses before training."""

from __future__ import annotations

import pytest
from PIL import Image

import minunet
from minunet.cli import main
from minunet.cli.demo import demo

TINY = {"n_train": 2, "n_test": 1, "size": 32, "base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1}


def test_the_demo_writes_a_picture_and_a_model_and_tells_both_scores(tmp_path, capsys):
    scores = demo(tmp_path, **TINY)
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.size[0] > 4 * 32
    assert minunet.load(tmp_path / "demo.safetensors").classes_.tolist() == [0, 255]
    out = capsys.readouterr().out
    assert f"{scores['pixel_error']:.4f}" in out and f"{scores['baseline_error']:.4f}" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.png", "demo.safetensors"]


@pytest.mark.parametrize("output", ["missing", "file"])
def test_an_output_that_cannot_be_written_is_told_before_training(tmp_path, output, monkeypatch, capsys):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr("minunet.UNet.fit", lambda *args: pytest.fail("it trained"))
    assert main(["demo", "--output", str(tmp_path / output)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("minunet: ") and output in err and err.count("\n") == 1


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (MemoryError("no room"), 1), (ValueError("bad"), 1)])
def test_failures_are_one_line_and_a_status(error, status, monkeypatch, capsys):
    monkeypatch.setattr("minunet.cli.demo.demo", lambda *args: (_ for _ in ()).throw(error))
    assert main(["demo"]) == status
    err = capsys.readouterr().err
    assert err.startswith("minunet: ") and err.count("\n") == 1


@pytest.mark.parametrize("argv", [[], ["no-such-command"], ["demo", "--nothing"]])
def test_wrong_use_exits_with_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
