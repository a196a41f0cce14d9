"""A training that is gone on with is the training that was never stopped; what would make it another one is refused."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

import minunet
from minunet import UNet, fitting
from minunet.training import loop
from minunet.training.keeper import EVERY, Keeper, Position

SMALL = {
    "base_channels": 2, "depth": 1, "patch_size": 16, "batch_size": 2, "max_epochs": 3, "verbose": 0, "dropout": 0.25,
    "random_state": 5, "validation_fraction": 0.4, "n_threads": 2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    monkeypatch.setattr("minunet.training.schedule.MIN_STEPS", 4)


@pytest.fixture
def each_epoch(monkeypatch):
    """Let a checkpoint be worth it at the end of each epoch, however long it takes to write."""
    monkeypatch.setattr("minunet.training.keeper.SHARE", np.inf)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "training"


def images(seed=0, n=5):
    x = np.random.default_rng(seed).random((n, 20, 24), np.float32)
    return x, (x > 0.6).astype(int)


def stopping(monkeypatch, after, number=signal.SIGINT):
    """Let a signal arrive in the step after so many, of those that are made from now on."""
    left = itertools.count(after, -1)

    def step(*arguments, **options):
        if next(left) == 1:
            os.kill(os.getpid(), number)
        return real(*arguments, **options)

    real = minunet.training.step
    monkeypatch.setattr(loop, "step", step)


def trained(unet):
    """Return what a training has made, but for the time that it took."""
    history = {name: values for name, values in unet.history_.items() if name != "seconds"}
    return unet.network_.flat.tobytes(), history, unet.n_iter_, unet.best_epoch_, unet.best_score_, unet.random_state_


def stopped(monkeypatch, path, settings, after, data=None, **options):
    """Return a training that Ctrl-C has stopped."""
    stopping(monkeypatch, after)
    with pytest.warns(UserWarning, match="interrupted"):
        unet = UNet(**settings).fit(*(data or images()), checkpoint=path, **options)
    stopping(monkeypatch, 10**9)
    assert unet.interrupted_
    return unet


@pytest.mark.parametrize(
    "other",
    [
        {}, {"optimizer": "sgd", "loss": "dice", "padding": "valid", "block": "residual"}, {"max_minutes": 1.0},
        {"depth": 2, "deep_supervision": True},
        {"optimizer": "nesterov", "average": 0.9, "clip_norm": 0.1, "schedule": "plateau", "warm_up": 0.2,
         "early_stopping": True, "norm": "batch"},
    ],
    ids=["adam", "sgd", "minutes", "levels", "averaged"],
)
def test_stopped_in_every_step_and_gone_on_with_it_is_the_training_that_was_not(monkeypatch, path, other):
    """Each run makes one step, on another number of threads than the last. The clock of max_minutes counts steps."""
    settings = SMALL | other
    monkeypatch.setattr("minunet.training.schedule.PATIENCE", 1)
    monkeypatch.setattr("minunet.training.schedule.LESS", 1.0)  # no epoch's loss is lower: a plateau from the second on
    if "max_minutes" in other:
        monkeypatch.setattr(loop.Loop, "_seconds", lambda self: 7.0 * self.at.n_steps)  # a minute ends in the ninth step
    whole = UNet(**settings).fit(*images())
    for runs in range(20):
        stopping(monkeypatch, 1)
        unet = UNet(**settings | {"n_threads": 1 + runs % 2})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            unet.fit(*images(), checkpoint=path, resume=True)
        if not unet.interrupted_:
            break
    assert runs == whole.history_["steps"][-1] == (9 if "max_minutes" in other else 12)
    assert trained(unet) == trained(whole)
    if "schedule" in other:
        assert whole.history_["learning_rate"] == pytest.approx([1e-3, 1e-3, 1e-4])
    assert trained(minunet.load(path)) == trained(whole) and not minunet.load(path).interrupted_


def test_stopped_in_a_validation_it_is_made_up_for(monkeypatch, path):
    whole, calls = UNet(**SMALL).fit(*images()), []

    def validate(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **options)

    real = fitting.validate
    monkeypatch.setattr(fitting, "validate", validate)
    with pytest.warns(UserWarning, match="interrupted after 8 steps"):
        cut = UNet(**SMALL).fit(*images(), checkpoint=path)
    assert cut.n_iter_ == 2 and np.isnan(cut.history_["val_dice"]).tolist() == [False, True]
    gone_on = UNet(**SMALL).fit(*images(), checkpoint=path, resume=True)
    assert trained(gone_on) == trained(whole) and len(calls) == 4


def test_the_time_before_a_stop_counts(monkeypatch, path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Loop, "_seconds", lambda self: 1000.0 + self.at.n_steps)
        stopped(patch, path, SMALL, 6)
    seconds = UNet(**SMALL).fit(*images(), checkpoint=path, resume=True).history_["seconds"]
    assert seconds[0] == 1004 and 1006 < seconds[1] < seconds[2] < 1600
    assert UNet(**SMALL | {"max_minutes": 10}).fit(*images(), checkpoint=path, resume=True).n_iter_ == 3  # all is spent


def test_a_seed_that_was_drawn_is_the_checkpoints(monkeypatch, path):
    settings = SMALL | {"random_state": None}
    first = stopped(monkeypatch, path, settings, 6)
    gone_on = UNet(**settings).fit(*images(), checkpoint=path, resume=True)
    assert trained(gone_on) == trained(UNet(**SMALL | {"random_state": first.random_state_}).fit(*images()))


def test_a_warm_start_is_gone_on_with(monkeypatch, path):
    older, settings = UNet(**SMALL).fit(*images(1)), SMALL | {"warm_start": True, "random_state": 6}

    def again():
        unet = UNet(**settings)
        vars(unet).update({name: value for name, value in vars(older).items() if name.endswith("_")})
        return unet

    whole = again().fit(*images())
    stopping(monkeypatch, 6)
    with pytest.warns(UserWarning, match="interrupted"):
        again().fit(*images(), checkpoint=path)
    stopping(monkeypatch, 10**9)
    assert trained(again().fit(*images(), checkpoint=path, resume=True)) == trained(whole)


def test_more_epochs_go_on_and_fewer_than_are_done_are_refused(path):
    first = UNet(**SMALL).fit(*images(), checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"max_epochs is 2, and the training in .* is in its epoch 3: give 3 or more"):
        UNet(**SMALL | {"max_epochs": 2}).fit(*images(), checkpoint=path, resume=True)
    assert path.read_bytes() == before
    more = UNet(**SMALL | {"max_epochs": 5}).fit(*images(), checkpoint=path, resume=True)
    assert more.n_iter_ == 5 and more.history_["steps"] == [4, 8, 12, 16, 20]
    assert more.history_["loss"][:3] == first.history_["loss"]
    assert more.history_["learning_rate"][3] == pytest.approx(1e-3 * (1 - 15 / 20) ** 0.9)
    assert trained(minunet.load(path)) == trained(more)


OTHER = {
    "base_channels": 3, "depth": 2, "padding": "valid", "dropout": 0.5, "loss": "dice", "block": "residual", "norm": "batch",
    "class_weight": {0: 1, 1: 3}, "border_weight": (4, 3), "optimizer": "sgd", "learning_rate": 1e-2, "momentum": 0.8,
    "weight_decay": 0.1, "schedule": "cosine", "warm_up": 0.1, "clip_norm": 1.0, "average": 0.99,
    "batch_size": 3, "patch_size": 8,
    "augment": False, "normalize": "dataset", "validation_fraction": 0.2, "random_state": 6, "algorithm": "direct",
    "warm_start": True, "deep_supervision": True, "early_stopping": True, "n_iter_no_change": 11, "tol": 1e-3, "threshold": 0.4,
    "target": "instances", "context": 1,
}  # fmt: skip
FREE = {"max_epochs": 4, "max_minutes": 5.0, "n_threads": 1, "verbose": 1, "device": "cpu", "precision": "float32"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the bytes of a checkpoint after 6 of 12 steps."""
    path = tmp_path_factory.mktemp("checkpoint") / "training"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minunet.training.schedule.MIN_STEPS", 4)
        stopped(patch, path, SMALL, 6)
    return path.read_bytes()


@pytest.mark.filterwarnings("ignore:all objects in the masks have one number")
@pytest.mark.parametrize("name", UNet().get_params())
def test_another_setting_is_refused_by_its_name_or_free(written, path, name):
    path.write_bytes(written)
    free = name in FREE
    unet = UNet(**SMALL | {name: (FREE if free else OTHER)[name]})
    if free:
        assert unet.fit(*images(), checkpoint=path, resume=True).n_iter_ == unet.max_epochs
        return
    flag = f"--{name.replace('_', '-')}"
    says = rf"was another one: {name} \({flag}\) is .*, and was "
    says = rf"^{name} \({flag}\) is True with depth=1" if name == "deep_supervision" else says  # of this depth it never is
    with pytest.raises(ValueError, match=says):
        unet.fit(*images(), checkpoint=path, resume=True)
    assert path.read_bytes() == written and not hasattr(unet, "network_")


def one_pixel(x, y):
    x = x.copy()
    x[3, 7, 9] += 0.125
    return {"x": x, "y": y}


def one_label(x, y):
    y = y.copy()
    y[2, 0, 0] ^= 1
    return {"x": x, "y": y}


DATA = {
    r"x\[3\] is another image than it was": one_pixel,
    r"y\[2\] is another mask than it was": one_label,
    "there are 6 images to learn from, and there were 5": lambda x, y: dict(zip("xy", images(n=6), strict=True)),
    r"the masks' classes are \[0, 1, 2\], and were \[0, 1\]": lambda x, y: {"x": x, "y": y + (x > 0.9)},
    r"the masks' classes are \[0, 255\], and were \[0, 1\]": lambda x, y: {"x": x, "y": y * 255},
    r"the pixels of x\[4\] have other weights than they had": lambda x, y: {"x": x, "y": y, "sample_weight": 1 + LAST * y},
    "validation_data .* is another": lambda x, y: {"x": x, "y": y, "validation_data": images(1, 2)},
    "other parts of the images are held out": lambda x, y: {"x": x, "y": y, "groups": [0, 1, 0, 1, 0]},
    "pixel_size is 0.5, and was None": lambda x, y: {"x": x, "y": y, "pixel_size": 0.5},
    r"ignore_index is \[9\], and was \[\]": lambda x, y: {"x": x, "y": y, "ignore_index": 9},
}
LAST = np.arange(5)[:, None, None] == 4


@pytest.mark.parametrize("says", DATA)
def test_other_data_is_refused_by_what_is_other(written, path, says):
    path.write_bytes(written)
    given = DATA[says](*images())
    with pytest.raises(ValueError, match="was another one: " + says):
        UNet(**SMALL).fit(given.pop("x"), given.pop("y"), checkpoint=path, resume=True, **given)
    assert path.read_bytes() == written


def test_another_version_is_refused(written, path, monkeypatch):
    path.write_bytes(written)
    monkeypatch.setattr("minunet.checkpoint.__version__", "99.1")
    with pytest.raises(ValueError, match=f"it was written by minunet '{minunet.__version__}', and this is 99.1"):
        UNet(**SMALL).fit(*images(), checkpoint=path, resume=True)


class Mine(minunet.losses.CrossEntropy):
    """A loss of the user's, which is called by where in memory it lies."""

    __repr__ = object.__repr__
    name = "mine"


def test_a_loss_of_ones_own_is_known_again_and_a_block_of_ones_own_is_refused_at_once(monkeypatch, path):
    stopped(monkeypatch, path, SMALL | {"loss": Mine()}, 3)
    gone_on = UNet(**SMALL | {"loss": Mine()}).fit(*images(), checkpoint=path, resume=True)
    assert trained(gone_on) == trained(UNet(**SMALL).fit(*images()))
    with pytest.raises(ValueError, match=r"was another one: loss .*Mine"):
        UNet(**SMALL).fit(*images(), checkpoint=path, resume=True)

    def block(*channels, **settings):
        return minunet.blocks.double_conv(*channels, **settings)

    with pytest.raises(ValueError, match=r"block is .*, code of yours, and a model file holds no code"):
        UNet(**SMALL | {"block": block}).fit(*images(), checkpoint=path.with_name("other"))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_function_that_augments_is_known_again_and_draws_what_it_had_drawn(monkeypatch, path):
    def noisy(image, mask, rng):
        return image + rng.standard_normal(image.shape, np.float32), mask

    settings = SMALL | {"augment": noisy}
    stopped(monkeypatch, path, settings, 6)
    with pytest.raises(ValueError, match=r"was another one: augment \(--augment\) is True, and was .*noisy"):
        UNet(**SMALL).fit(*images(), checkpoint=path, resume=True)
    gone_on = UNet(**settings).fit(*images(), checkpoint=path, resume=True)
    assert trained(gone_on) == trained(UNet(**settings).fit(*images())) != trained(UNet(**SMALL).fit(*images()))


def test_a_checkpoint_that_is_there_is_not_written_over(written, path):
    path.write_bytes(written)
    with pytest.raises(FileExistsError, match=r"is there already: resume=True \(--resume\) goes on with its training"):
        UNet(**SMALL).fit(*images(), checkpoint=path)
    with pytest.raises(ValueError, match=r"resume is True, and there is no checkpoint; give its path, too: checkpoint=\.\.\."):
        UNet(**SMALL).fit(*images(), resume=True)
    model = path.with_name("model")
    UNet(**SMALL | {"max_epochs": 1}).fit(*images()).save(model)
    with pytest.raises(ValueError, match=r"model is a model, and has no training to go on with; warm_start=True \(--init\)"):
        UNet(**SMALL).fit(*images(), checkpoint=model, resume=True)
    assert path.read_bytes() == written and len(list(path.parent.iterdir())) == 2


def test_a_callback_that_raises_costs_no_epoch(path):
    class Fall:
        def on_epoch_end(self, epoch, logs):
            if epoch == 1:
                raise RuntimeError("the disk of the log is full")

    unet, whole = UNet(**SMALL), UNet(**SMALL).fit(*images())
    with pytest.raises(RuntimeError, match="the disk of the log"):
        unet.fit(*images(), checkpoint=path, callbacks=[Fall()])
    assert unet.interrupted_ and unet.n_iter_ == 2 and unet.history_["loss"] == whole.history_["loss"][:2]
    with pytest.warns(UserWarning, match="was cut short at epoch 2"):
        unet.predict(images()[0])
    assert minunet.load(path).n_iter_ == 1  # of the second epoch, the callback is yet to be called
    assert trained(UNet(**SMALL).fit(*images(), checkpoint=path, resume=True)) == trained(whole)


def test_what_fails_before_an_epoch_ends_again_leaves_the_checkpoints_model(written, path, monkeypatch):
    path.write_bytes(written)

    def fail(network, *arguments, **options):
        network.flat[...] = np.nan
        raise MemoryError("short")

    monkeypatch.setattr(loop, "step", fail)
    unet = UNet(**SMALL)
    with pytest.raises(MemoryError):
        unet.fit(*images(), checkpoint=path, resume=True)
    kept = minunet.load(path)
    assert trained(unet) == trained(kept) and unet.interrupted_ and kept.history_["steps"] == [4]


def test_what_cannot_be_written_meanwhile_is_told_once_and_ends_no_training(monkeypatch, path, each_epoch, caplog):
    caplog.set_level("INFO", "minunet")
    from minunet import modelfile

    calls = []

    def save(*arguments, **options):
        calls.append(1)
        if len(calls) < 3:
            raise OSError(28, "No space left on device") if len(calls) == 1 else MemoryError()
        real(*arguments, **options)

    real = modelfile.save
    monkeypatch.setattr(modelfile, "save", save)
    with pytest.warns(UserWarning, match="the checkpoint was not written: .*No space left.* The training goes on") as told:
        unet = UNet(**SMALL).fit(*images(), checkpoint=path)
    assert len(told) == 1 and len(calls) == 3
    written = [record for record in caplog.records if getattr(record, "event", "") == "checkpoint"]
    assert [record.steps for record in written] == [12]
    assert trained(minunet.load(path)) == trained(unet)


def test_it_is_written_when_it_is_due():
    written = []
    kept = Keeper(lambda position, over: written.append((position.n_steps, over)), 1000.0)
    assert kept.is_due(1000.0, True) and not kept.is_due(1000.0, False)  # an epoch's end is worth it at once
    assert not kept.is_due(1000.0 + EVERY - 0.1, False) and kept.is_due(1000.0 + EVERY, False)
    kept._cost = 1.0  # seconds, a hundredth of 100
    assert not kept.is_due(1099.9, True) and kept.is_due(1100.0, True)
    kept._cost = 2.0
    assert not kept.is_due(1000.0 + EVERY, False) and kept.is_due(1200.0, False)
    kept.write(Position(n_steps=7, seconds=1300.0), True)
    assert written == [(7, True)]
    assert not kept.is_due(1290.0, False) and kept.is_due(1300.0 + EVERY + 100, True)


SCRIPT = """
import os, signal, sys, numpy as np
from minunet import UNet
from minunet.training import loop, schedule
schedule.MIN_STEPS = 4
path, settings = sys.argv[1], eval(sys.argv[2])
x = np.random.default_rng(0).random((5, 20, 24), np.float32)
y = (x > 0.6).astype(int)
UNet(**settings | {"max_epochs": 1}).fit(x, y)  # what it loads is there for all
real = loop.step
for number, taken in [(signal.SIGTERM, False), (signal.SIGHUP, False), (signal.SIGTERM, True)]:
    if not (child := os.fork()):
        left = [6]
        def step(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                signal.raise_signal(number)
            return real(*arguments, **options)
        loop.step = step
        if taken:
            signal.signal(number, lambda *_: print("mine", flush=True))
        UNet(**settings).fit(x, y, checkpoint=f"{path}{int(number)}{taken}")
        print("trained to the end", flush=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_script_that_is_asked_to_end_writes_its_checkpoint_and_ends_by_the_signal(path):
    """As a cluster does, some seconds before it kills. Who takes the signal in the script takes it still."""
    words = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(path), repr(SMALL | {"n_threads": 1})]  # a fork has one thread
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert (done.stdout.split("\n"), done.stderr) == (["-15", "-1", "mine", "trained to the end", "0", ""], "")
    whole = UNet(**SMALL).fit(*images())
    for number in (signal.SIGTERM, signal.SIGHUP):
        left = path.with_name(f"{path.name}{int(number)}False")
        assert minunet.load(left).history_["steps"] == [4]
        assert trained(UNet(**SMALL).fit(*images(), checkpoint=left, resume=True)) == trained(whole)
