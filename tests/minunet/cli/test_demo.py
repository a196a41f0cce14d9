"""`minunet demo`: what it writes, and what it refuses before training."""

from __future__ import annotations

import numpy as np
import pytest
import scores_by_hand as by_hand
from PIL import Image

import minunet
from minunet.cli import main
from minunet.cli.demo import demo
from minunet.data.datasets import cells
from minunet.evaluation.baseline import BlurThreshold

TINY = {"n_train": 2, "n_test": 1, "size": 32, "base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1}


def test_the_demo_writes_a_picture_and_a_model_and_tells_both_scores(tmp_path, capsys):
    scores = demo(tmp_path, **TINY)
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.size[0] > 4 * 32
    assert minunet.load(tmp_path / "demo.safetensors").classes_.tolist() == [0, 255]
    out = capsys.readouterr().out
    assert f"{scores['pixel_error']:.4f}" in out and f"{scores['baseline_error']:.4f}" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.png", "demo.safetensors"]


def test_each_number_is_that_of_the_images_that_were_not_learned_from(tmp_path, capsys):
    told = demo(tmp_path, **TINY | {"n_train": 3, "n_test": 2, "max_epochs": 4})
    x, y = cells(5, 32)
    unet = minunet.load(tmp_path / "demo.safetensors")
    predicted, baseline = unet.predict(x[3:]), BlurThreshold().fit(x[:3], y[:3])
    wrong, wrong_too = (np.mean(masks != y[3:]) for masks in (predicted, baseline.predict(x[3:])))
    here = [np.ones((32, 32), bool)] * 2
    dice = by_hand.mean([by_hand.dice(y[3:], predicted, here, value) for value in (0, 255)])
    expected = {"pixel_error": wrong, "baseline_error": wrong_too, "dice": dice}
    assert {name: told[name] for name in expected} == pytest.approx(expected) and 0 < wrong != wrong_too > 0
    n, seconds = sum(p.size for p in unet.network_.parameters.values()), told["seconds"]
    assert capsys.readouterr().out.splitlines() == [
        "Synthetic tissue: 3 images of 32 x 32 to learn from, 2 others to be judged on.",
        "Training a U-Net: every layer's forward and backward pass is minunet's own.",
        f"{n:,} parameters, trained in {seconds:.0f} s. On unseen images:",
        f"  pixel error, U-Net                      {wrong:.4f}   (mean Dice {dice:.3f})",
        f"  pixel error, blur + threshold (tuned)   {wrong_too:.4f}   (sigma {baseline.sigma_})",
        f"  ratio                                   {wrong / wrong_too:.2f}",
        f"Wrote {tmp_path}/demo.png (look at it) and {tmp_path}/demo.safetensors (minunet.load reads it).",
    ]
    assert unet.n_iter_ == 4 and unet.history_["seconds"][-1] <= seconds


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
