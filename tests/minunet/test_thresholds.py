"""A threshold of UNet: what predict, score, the history, the file and the command line make of it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import minunet
from minunet import UNet
from minunet.cli import main
from minunet.evaluation import metrics

SMALL = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1, "verbose": 0, "random_state": 0}


@pytest.fixture(scope="module")
def images():
    """Return images, masks of 3 and 9 that they hardly tell, and the same for a validation."""
    rng = np.random.default_rng(0)
    x = rng.random((6, 20, 24), np.float32)
    y = np.where(x + rng.normal(0, 0.4, x.shape) > 0.9, 9, 3)
    return x[:4], y[:4], x[4:], y[4:]


@pytest.fixture(scope="module")
def chosen(images):
    x, y, *validation = images
    return UNet(**SMALL, threshold="validation").fit(x, y, validation_data=tuple(validation))


def test_a_number_is_where_the_second_class_begins_in_predict_and_score_and_the_history(images):
    x, y, vx, vy = images
    plain = UNet(**SMALL).fit(x, y, validation_data=(vx, vy))
    unet = UNet(**SMALL, threshold=np.float32(0.25)).fit(x, y, validation_data=(vx, vy))
    np.testing.assert_array_equal(unet.predict_proba(x), plain.predict_proba(x))
    expected = np.where(unet.predict_proba(vx)[..., 1] >= 0.25, 9, 3)
    np.testing.assert_array_equal(unet.predict(vx), expected)
    assert (expected != plain.predict(vx)).any() and plain.threshold_ is None and unet.threshold_ == 0.25
    np.testing.assert_allclose(unet.score(vx, vy, average=None), metrics.dice(vy, expected))
    assert unet.history_["val_dice_9"][-1] == pytest.approx(metrics.dice(vy, expected)[1])
    assert plain.history_["val_dice_9"][-1] == pytest.approx(metrics.dice(vy, plain.predict(vx), [3, 9])[1])


def test_validation_takes_the_best_for_what_is_held_out_and_tells_the_history_of_none(images, chosen):
    x, y, vx, vy = images
    p = chosen.predict_proba(vx)[..., 1]
    dice = {t: metrics.dice(vy, np.where(p >= np.float32(t), 9, 3), [3, 9])[1] for t in np.arange(1, 100) / 100}
    assert dice[chosen.threshold_] == max(dice.values()) > dice[0.5] and type(chosen.threshold_) is float
    second = chosen.predict_proba(x)[..., 1] >= np.float32(chosen.threshold_)
    np.testing.assert_array_equal(chosen.predict(x), np.where(second, 9, 3))
    plain = UNet(**SMALL).fit(x, y, validation_data=(vx, vy))
    plain.history_["seconds"] = chosen.history_["seconds"]
    assert chosen.history_ == plain.history_


def test_it_is_in_the_file_and_the_command_line_predicts_by_it(images, chosen, tmp_path, capsys):
    chosen.save(tmp_path / "m")
    loaded = minunet.load(tmp_path / "m")
    assert loaded.threshold_ == chosen.threshold_ and loaded.threshold == "validation"
    x, y = (255 * images[0][0]).astype(np.uint8), images[1][0].astype(np.uint8)
    for name, array in (("x", x), ("y", y)):
        (tmp_path / name).mkdir()
        Image.fromarray(array).save(tmp_path / name / "0.png")
    assert main(["predict", str(tmp_path / "m"), str(tmp_path / "x"), "-o", str(tmp_path / "out"), "-q"]) == 0
    found = np.asarray(Image.open(tmp_path / "out" / "0.png"))
    np.testing.assert_array_equal(found, loaded.predict(x))
    loaded.threshold_ = None
    assert (found != loaded.predict(x)).any()
    assert main(["evaluate", str(tmp_path / "m"), str(tmp_path / "x"), str(tmp_path / "y")]) == 0
    assert f"pixel error          {np.mean(found != y):.4f}" in capsys.readouterr().out
    words = ["--base-channels", "2", "--depth", "1", "--patch-size", "16", "--max-epochs", "1", "-q"]
    train = ["train", str(tmp_path / "x"), str(tmp_path / "y"), "-o", str(tmp_path / "n"), *words, "--threshold"]
    assert main([*train, "0.3"]) == 0 and minunet.load(tmp_path / "n").threshold_ == 0.3
    with pytest.raises(SystemExit):
        main([*train, "half", "--force"])
    assert "--threshold is 'half'; it takes None, 'validation' or a number" in capsys.readouterr().err


def test_a_model_from_before_there_were_thresholds_has_none(chosen, tmp_path):
    from minunet import description, modelfile

    chosen.save(tmp_path / "m")
    network, said = modelfile.load(tmp_path / "m", description.check)
    del said["threshold"]
    for name in ("threshold", "early_stopping", "n_iter_no_change", "tol"):
        del said["estimator"][name]
    modelfile.save(tmp_path / "m", network, said, description.check)
    older = minunet.load(tmp_path / "m")
    assert older.threshold_ is older.threshold is None and older.early_stopping is False and older.n_iter_no_change == 10
