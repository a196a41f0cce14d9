"""The library is silent, and tells those who listen: at verbose=0 it prints nothing, and no listener stops it."""

from __future__ import annotations

import io
import logging
import warnings

import numpy as np
import pytest
from PIL import Image

import minunet
from minunet import UNet, datasets, devices, kernels, load, load_folder, ops, testing
from minunet.kernels.cpu import jit
from minunet.log import tell
from minunet.losses import Dice

SMALL = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1, "random_state": 0}


pytest.importorskip("matplotlib").use("Agg")


def images():
    rng = np.random.default_rng(0)
    x = rng.random((4, 16, 16))
    return x, (x > 0.5).astype(np.uint8)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr("minunet.training.schedule.MIN_STEPS", 2)


def compiles():
    """Return a loss that compiles a kernel of minunet's at its first step, as a first training does."""

    def kernel(x):
        return x + 1.0

    kernel.__module__ = "minunet.kernels.cpu.of_a_test"
    compiled = jit.numba.njit(kernel)
    compiled.compile = jit.functools.partial(jit.whole, compiled.compile)

    class Loss(Dice):
        def value_and_grad(self, logits, target):
            compiled(1.0)
            return super().value_and_grad(logits, target)

    return Loss()


@pytest.fixture
def first_time(monkeypatch):
    """Nothing has been compiled yet, and there seems to be a GPU that cannot be used."""
    monkeypatch.setattr(jit._said, "compiling", False)
    monkeypatch.setattr(devices.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(jit._said, "because", "")


def test_at_verbose_0_no_call_prints_anything(first_time, tmp_path, capfd):
    x, y = datasets.cells(2, 32)
    for folder, pixels in (("images", x), ("masks", y)):
        (tmp_path / folder).mkdir()
        for i, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / folder / f"{i}.png")
    x, y = load_folder(tmp_path / "images", tmp_path / "masks")
    unet = UNet(**SMALL, verbose=0, loss=compiles()).fit(x, y)
    assert jit._said.compiling
    unet.save(tmp_path / "m")
    unet = load(tmp_path / "m")
    unet.predict(x), unet.predict_proba(x), unet.score(x, y), unet.summary((32, 32)), repr(unet)
    testing.check_gradients(ops.relu, ops.relu_backward, np.array([[[[-1.5, 2.0]]]]))
    from minunet import plot

    plot.learning_curves(unet), plot.architecture(unet), plot.comparison(x[0], y[0], unet.predict(x)[0])
    assert capfd.readouterr() == ("", "")


def test_at_verbose_1_it_says_what_takes_a_while_and_where_it_computes(first_time, capfd):
    UNet(**SMALL, loss=compiles()).fit(*images())
    out, err = capfd.readouterr()
    gpu, compiling, epoch = err.splitlines()
    assert out == "" and gpu.startswith("minunet: training on the CPU, for ") and epoch.startswith("epoch 1/1  loss 0.")
    assert compiling.startswith("minunet: compiling its kernels for this processor, ")


def test_that_kernels_are_compiled_is_logged_whether_it_is_printed_or_not(first_time, capfd, caplog):
    caplog.set_level(logging.INFO, "minunet.kernels")
    UNet(**SMALL, verbose=0, loss=compiles()).fit(*images())
    assert [(name, level) for name, level, _ in caplog.record_tuples] == [("minunet.kernels", logging.INFO)]
    with kernels.telling(True):
        jit._said.lost("a is damaged")
    assert caplog.record_tuples[1] == ("minunet.kernels", logging.WARNING, "compiling a kernel, anew: a is damaged")
    assert capfd.readouterr().err == "minunet: compiling a kernel, anew: a is damaged\n"


def test_no_call_sets_handlers_or_levels_or_how_warnings_are_shown(tmp_path):
    names = [None, "minunet", "minunet.training", "minunet.model", "minunet.kernels", "py.warnings"]

    def settings():
        loggers = [logging.getLogger(name) for name in names]
        return [(a.handlers[:], a.level, a.propagate, a.disabled, a.filters[:]) for a in loggers], warnings.showwarning

    before = settings()
    UNet(**SMALL, verbose=1).fit(*images()).save(tmp_path / "m")
    load(tmp_path / "m").predict(images()[0])
    assert settings() == before
    assert [type(handler) for handler in logging.getLogger("minunet").handlers] == [logging.NullHandler]


def test_a_model_is_told_by_its_path_when_it_is_saved_and_loaded(tmp_path, caplog):
    caplog.set_level(logging.INFO, "minunet.model")
    path = tmp_path / "a\nb"
    UNet(**SMALL, verbose=0).fit(*images()).save(path)
    load(path)
    assert [(record.event, record.path) for record in caplog.records] == [("saved", str(path)), ("loaded", str(path))]
    assert [record.getMessage() for record in caplog.records] == [
        rf"{event} {tmp_path}/a\nb" for event in ("saved", "loaded")
    ]  # a name is shown on one line  # fmt: skip
    with pytest.raises(minunet.NotFittedError):
        UNet().save(path)
    assert len(caplog.records) == 2


class Raising(logging.Handler):
    def emit(self, record):
        raise RuntimeError("deaf")


class Broken(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


@pytest.fixture
def listening(request):
    """Return a function that has a handler listen to minunet."""
    logger = logging.getLogger("minunet")
    logger.setLevel(logging.INFO)

    def listen(handler):
        logger.addHandler(handler)
        request.addfinalizer(lambda: logger.removeHandler(handler))

    yield listen
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("handler", [Raising(), logging.StreamHandler(Broken())])
def test_a_listener_that_fails_stops_no_training(listening, handler, tells, monkeypatch, capsys):
    monkeypatch.setattr(logging, "raiseExceptions", tells)
    listening(handler)
    x, y = images()
    heard = UNet(**SMALL, verbose=0).fit(x, y)
    told = capsys.readouterr().err
    assert told.count("Traceback") == 3 * tells and ("deaf" in told or "No space" in told) == tells
    logging.getLogger("minunet").removeHandler(handler)
    np.testing.assert_array_equal(heard.network_.flat, UNet(**SMALL, verbose=0).fit(x, y).network_.flat)


@pytest.mark.parametrize("stream", [None, object(), Broken()])
def test_nor_does_it_where_nobody_can_be_told_of_it(listening, monkeypatch, stream):
    listening(Raising())
    monkeypatch.setattr("sys.stderr", stream)
    tell("training", logging.INFO, "text")


def test_what_a_listener_raises_to_end_the_program_ends_it(listening):
    class Ending(logging.Handler):
        def emit(self, record):
            raise SystemExit(3)

    listening(Ending())
    with pytest.raises(SystemExit):
        tell("training", logging.INFO, "text")


def test_a_text_is_taken_as_it_is_and_where_it_was_told_is_where_it_was_told(caplog):
    caplog.set_level(logging.INFO, "minunet")
    tell("training", logging.INFO, "100 % of {x} %s", figure=1.5)
    (record,) = caplog.records
    assert record.getMessage() == "100 % of {x} %s" and record.figure == 1.5 and record.filename == "test_log.py"
