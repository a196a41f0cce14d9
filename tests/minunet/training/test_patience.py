"""early_stopping: when it ends, and whose weights are left, by a validation that tells what a script says."""

from __future__ import annotations

import os
import signal
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minunet
from minunet import UNet, fitting
from minunet.evaluation.held_out import Validation
from minunet.training import loop
from minunet.training.patience import Patience

SMALL = {
    "base_channels": 2, "depth": 1, "patch_size": 16, "batch_size": 2, "max_epochs": 8, "verbose": 0, "random_state": 0,
    "validation_fraction": 0.4, "n_threads": 1, "early_stopping": True, "n_iter_no_change": 2, "dropout": 0.25,
}  # fmt: skip
SCORES = [0.3, 0.5, 0.50005, 0.6, 0.4, 0.59, 0.7, 0.1]  # with tol 1e-4 the third is no rise, and the sixth the end


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    monkeypatch.setattr("minunet.training.schedule.MIN_STEPS", 3)


def images(k=2):
    x = np.random.default_rng(0).random((5, 20, 24), np.float32)
    return x, (x * k).astype(int)


def scripted(monkeypatch, scores=SCORES, thresholds=None):
    """Let the validation of each epoch tell these scores; return the weights that it was told of, by epoch."""
    seen = []

    def validate(network, *_, **options):
        seen.append(network.flat.copy())
        i = len(seen) - 1
        return Validation({"val_loss": 1.0, "val_dice": scores[i]}, thresholds and thresholds[i])

    monkeypatch.setattr(fitting, "validate", validate)
    return seen


def in_words(scores, n, tol):
    """Return after how many epochs it ends, of scikit-learn's words: no rise by tol for n epochs in a row."""
    for end in range(1, len(scores) + 1):
        rises = [i for i in range(end) if i == 0 or scores[i] >= max(scores[:i]) + tol]
        if end - 1 - rises[-1] >= n:
            return end
    return None


@given(scores=st.lists(st.integers(0, 6), min_size=1, max_size=14), n=st.integers(1, 4), tol=st.sampled_from([0, 1, 2]))
def test_it_is_over_when_there_was_no_rise_for_so_many_epochs(scores, n, tol):
    patience = Patience(n, tol)
    over = (i for i in range(1, len(scores) + 1) if patience.is_over({"val_dice": scores[:i]}))
    assert next(over, None) == in_words(scores, n, tol)
    assert not patience.is_over({})


@pytest.mark.parametrize(("tol", "n", "epochs", "best"), [(1e-4, 2, 6, 3), (1e-5, 1, 5, 3), (1e-4, 1, 3, 2), (1e-4, 9, 8, 6)])
def test_the_model_is_that_of_the_best_epoch_to_the_bit(monkeypatch, tmp_path, tol, n, epochs, best):
    seen = scripted(monkeypatch)
    unet = UNet(**SMALL | {"tol": tol, "n_iter_no_change": n}).fit(*images())
    assert len(seen) == unet.n_iter_ == epochs and unet.history_["val_dice"] == SCORES[:epochs]
    assert (unet.best_epoch_, unet.best_score_, unet.interrupted_) == (best, SCORES[best], False)
    np.testing.assert_array_equal(unet.network_.flat, seen[best])
    assert len({weights.tobytes() for weights in seen}) == epochs
    unet.save(tmp_path / "m")
    loaded = minunet.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.network_.flat, seen[best])
    assert loaded.early_stopping is True and loaded.best_epoch_ == best


def test_without_it_the_model_is_that_of_the_last_epoch(monkeypatch):
    seen = scripted(monkeypatch)
    unet = UNet(**SMALL | {"early_stopping": False}).fit(*images())
    assert unet.n_iter_ == 8 and unet.best_epoch_ == 6
    np.testing.assert_array_equal(unet.network_.flat, seen[7])


def test_the_threshold_is_that_of_the_best_epoch(monkeypatch, tmp_path):
    thresholds = [0.11, 0.22, 0.33, 0.44, 0.55, 0.66, 0.77, 0.88]
    scripted(monkeypatch, thresholds=thresholds)
    path = tmp_path / "training"
    unet = UNet(**SMALL | {"threshold": "validation"}).fit(*images(), checkpoint=path)
    assert unet.threshold_ == minunet.load(path).threshold_ == 0.44
    scripted(monkeypatch, thresholds=thresholds)
    assert UNet(**SMALL | {"threshold": "validation", "early_stopping": False}).fit(*images()).threshold_ == 0.88


class Each:
    """Sees the weights at the end of each epoch, and does something in one of them."""

    def __init__(self, epoch=None, do=None):
        self.epoch, self.do, self.weights = epoch, do, []

    def set_model(self, unet):
        self.unet = unet

    def on_epoch_end(self, epoch, logs):
        self.weights.append(self.unet.network_.flat.copy())
        if epoch == self.epoch:
            return self.do(self.unet)


def fail(unet):
    raise RuntimeError("no server")


def test_callbacks_see_each_epochs_weights_and_whatever_ends_it_leaves_the_best(monkeypatch):
    for at, do, says in (
        (5, lambda unet: True, None), (5, fail, "no server"), (3, fail, "no server"),
        (4, lambda unet: unet.network_.flat.fill(np.nan), r"The model is that of epoch 4, the best so far \(val_dice 0.600\)"),
    ):  # fmt: skip
        seen, each = scripted(monkeypatch), Each(at, do)
        unet = UNet(**SMALL)
        if says is None:
            unet.fit(*images(), callbacks=[each])
        else:
            with pytest.raises((RuntimeError, FloatingPointError), match=says):
                unet.fit(*images(), callbacks=[each])
        np.testing.assert_array_equal(each.weights, seen)
        np.testing.assert_array_equal(unet.network_.flat, seen[3])
        assert unet.n_iter_ == at + 1 and unet.best_epoch_ == 3


def test_what_a_callback_makes_of_the_best_epochs_weights_is_kept(monkeypatch):
    scripted(monkeypatch)
    for at, kept in ((3, True), (4, False)):
        each = Each(at, lambda unet: unet.network_.flat.__imul__(0.5) is None)
        seen = scripted(monkeypatch)
        unet = UNet(**SMALL).fit(*images(), callbacks=[each])
        np.testing.assert_array_equal(unet.network_.flat, seen[3] * (0.5 if kept else 1))


def stopping(monkeypatch, after, do=lambda network: os.kill(os.getpid(), signal.SIGINT)):
    left, real = [after], minunet.training.step

    def step(network, *arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            do(network)
        return real(network, *arguments, **options)

    monkeypatch.setattr(loop, "step", step)


@pytest.mark.parametrize("after", [13, 16])
def test_ctrl_c_leaves_the_best_so_far_and_says_so(monkeypatch, after):
    seen = scripted(monkeypatch)
    stopping(monkeypatch, after)
    with pytest.warns(UserWarning, match=rf"interrupted after {after} steps; the model is that of epoch 4, the best so far"):
        unet = UNet(**SMALL).fit(*images())
    np.testing.assert_array_equal(unet.network_.flat, seen[3])
    assert unet.interrupted_ and unet.best_epoch_ == 3 and np.isnan(unet.history_["val_dice"][-1])
    seen = scripted(monkeypatch)
    stopping(monkeypatch, 2)
    with pytest.warns(UserWarning, match="interrupted after 2 steps; the model is usable as it is"):
        unet = UNet(**SMALL).fit(*images())
    assert not seen and unet.best_epoch_ is None and unet.n_iter_ == 1


def test_an_error_leaves_the_best_so_far(monkeypatch):
    def spoil(network):
        network.flat[...] = np.nan
        raise MemoryError("short")

    seen = scripted(monkeypatch)
    stopping(monkeypatch, 17, spoil)
    unet = UNet(**SMALL)
    with pytest.raises(MemoryError):
        unet.fit(*images())
    np.testing.assert_array_equal(unet.network_.flat, seen[3])
    assert unet.n_iter_ == 5 and unet.interrupted_


def trained(unet):
    history = {name: values for name, values in unet.history_.items() if name != "seconds"}
    weights = unet.network_.flat.tobytes(), unet.network_.state.flat.tobytes()
    return weights, repr(history), unet.best_epoch_, unet.threshold_, unet.n_iter_


@pytest.mark.parametrize("other", [{}, {"norm": "batch", "learning_rate": 1.0, "random_state": 2}])
def test_stopped_in_every_step_it_is_the_training_that_was_not(other, monkeypatch, tmp_path):
    """By real validations: scores that rise and fall from a learning rate that is far too high."""
    settings = SMALL | {"learning_rate": 0.2, "threshold": "validation"} | other
    whole = UNet(**settings | {"max_epochs": 4}).fit(*images())
    assert whole.best_epoch_ < whole.n_iter_ - 1, "nothing would be restored"
    for _ in range(20):
        stopping(monkeypatch, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            unet = UNet(**settings | {"max_epochs": 4}).fit(*images(), checkpoint=tmp_path / "c", resume=True)
        best = minunet.load(tmp_path / "c")  # the file is a model, of the best epoch so far
        assert (best.best_score_, best.threshold_) == (unet.best_score_, unet.threshold_)
        if best.best_epoch_ is not None:
            np.testing.assert_array_equal(best.network_.flat, unet.network_.flat)
            np.testing.assert_array_equal(best.network_.state.flat, unet.network_.state.flat)
        if not unet.interrupted_:
            break
    assert trained(unet) == trained(whole) == trained(minunet.load(tmp_path / "c"))
    ended = UNet(**settings | {"max_epochs": 4}).fit(*images(), checkpoint=tmp_path / "c", resume=True)
    assert trained(ended) == trained(whole)


def test_more_epochs_go_on_from_the_last_weights_and_not_from_the_best(monkeypatch, tmp_path):
    settings = SMALL | {"learning_rate": 0.2, "n_iter_no_change": 50}
    monkeypatch.setattr("minunet.training.schedule.POWER", 0)  # the rate does not hang on how long it is to take
    longer = UNet(**settings | {"max_epochs": 6}).fit(*images())
    first = UNet(**settings | {"max_epochs": 4}).fit(*images(), checkpoint=tmp_path / "c")
    assert first.best_epoch_ < 3
    assert trained(UNet(**settings | {"max_epochs": 6}).fit(*images(), checkpoint=tmp_path / "c", resume=True)) == trained(longer)


def test_a_checkpoint_that_lacks_the_weights_that_are_trained_is_refused(monkeypatch, tmp_path):
    from minunet import description, modelfile

    UNet(**SMALL | {"max_epochs": 2}).fit(*images(), checkpoint=tmp_path / "c")
    network, said, moments, trained = modelfile.load_checkpoint(tmp_path / "c", description.check)
    assert trained is not None
    modelfile.save(tmp_path / "c", network, said, description.check, moments=moments)
    with pytest.raises(ValueError, match=r"the weights that are trained is .*missing.*; it takes those beside the model's"):
        UNet(**SMALL | {"max_epochs": 2}).fit(*images(), checkpoint=tmp_path / "c", resume=True)


def test_the_end_is_told_on_stderr_and_in_the_log(monkeypatch, capsys, caplog):
    caplog.set_level("INFO", "minunet.training")
    scripted(monkeypatch)
    UNet(**SMALL | {"verbose": 1}).fit(*images())
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "val_dice has not risen by 0.0001 for 2 epochs: the model is that of epoch 4, the best so far (val_dice 0.600)"
    assert caplog.records[-1].reason == "early_stopping" and "val_dice does not rise any more" in caplog.records[-1].message
    scripted(monkeypatch)
    UNet(**SMALL | {"verbose": 1, "n_iter_no_change": 9}).fit(*images())
    assert capsys.readouterr().err.splitlines()[-1].startswith("the training is over: the model is that of epoch 7, ")
    assert caplog.records[-1].reason == "epochs"


def test_what_is_held_out_must_be_able_to_decide():
    x, y = images()
    nothing, chosen = {"validation_fraction": 0.0}, {"early_stopping": False, "threshold": "validation"}
    refused = (
        (nothing, {}, r"early_stopping is True, and nothing is held out .* validation_data \(--validation\)"),
        (nothing | chosen, {}, "nothing that is held out has a pixel, to choose it on"),
        (chosen, {"validation_data": (x[:1], 0 * y[:1])}, "threshold is 'validation', .* has class 1, to choose"),
    )
    for settings, options, says in refused:
        unet = UNet(**SMALL | {"max_epochs": 1} | settings)
        with pytest.raises(ValueError, match=says):
            unet.fit(x, y, **options)
        assert not hasattr(unet, "network_")
    for threshold in (0.3, "validation"):
        with pytest.raises(ValueError, match=rf"threshold \(--threshold\) is {threshold!r}, and the masks have 3 classes"):
            UNet(**SMALL | {"threshold": threshold}).fit(*images(3))


def test_a_validation_without_one_of_the_classes_is_told_once():
    x, y = images(3)
    with pytest.warns(UserWarning, match="what is held out has no pixel of class 2: no figure tells how well") as told:
        unet = UNet(**SMALL | {"max_epochs": 2, "n_iter_no_change": 5}).fit(x, y, validation_data=(x[:1], np.minimum(y[:1], 1)))
    assert len([w for w in told if "held out has no pixel" in str(w.message)]) == 1
    assert np.isnan(unet.history_["val_dice_2"]).all() and np.isfinite(unet.history_["val_dice"]).all()
    each = [unet.history_[f"val_dice_{c}"] for c in (0, 1)]
    np.testing.assert_allclose(unet.history_["val_dice"], np.mean(each, axis=0))
