"""docs/training-log.md says what is so: its Python blocks run, in order, and what they write is what was trained."""

from __future__ import annotations

import contextlib
import csv
import functools
import itertools
import json
import logging
import math
import re
import sys
import types
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import minunet
from minunet.unet import UNet

PAGE = Path(__file__).resolve().parents[1] / "docs" / "training-log.md"
BLOCKS = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FEW = {"loss", "val_loss", "val_dice", "val_pixel_error", "val_boundary_f", "learning_rate", "seconds", "steps"}
LOGS = FEW | {f"val_{what}_{value}" for what in ("dice", "iou") for value in (0, 255)}


class Recording:
    """Stand-ins for TensorBoard, MLflow and Weights & Biases, that write down what they are called with."""

    def __init__(self):
        self.tensorboard, self.mlflow, self.wandb = mock.Mock(), mock.MagicMock(), mock.MagicMock()
        torch = [types.ModuleType(name) for name in ("torch", "torch.utils", "torch.utils.tensorboard")]
        torch[-1].SummaryWriter = self.tensorboard
        self.modules = {module.__name__: module for module in torch} | {"mlflow": self.mlflow, "wandb": self.wandb}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Run the page in a folder of its own, with small networks. Return what its names are then, the stand-ins and the folder."""
    pytest.importorskip("matplotlib").use("Agg")
    folder, trackers, root = tmp_path_factory.mktemp("page"), Recording(), logging.getLogger()
    small = functools.partial(UNet, base_channels=2, depth=1, patch_size=32, n_threads=1, random_state=0)
    handlers, level, names = root.handlers[:], root.level, {"__name__": "page"}
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, module in trackers.modules.items():
            patch.setitem(sys.modules, name, module)
        patch.setattr(minunet, "UNet", small, raising=False)
        patch.setattr("minunet.training.schedule.MIN_STEPS", 5)
        patch.chdir(folder)
        root.handlers.clear()  # pytest's, beside which basicConfig adds none
        try:
            for block in BLOCKS.findall(PAGE.read_text(encoding="utf-8")):
                exec(compile(block, PAGE.name, "exec"), names)
        finally:
            logging.captureWarnings(False)
            for handler in set(root.handlers) - set(handlers):
                handler.close()
            root.handlers[:] = handlers
            root.setLevel(level)
    return names, trackers, folder


def test_the_log_has_the_lines_that_the_page_shows(page):
    _, _, folder = page
    lines = (folder / "minunet.log").read_text().splitlines()
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
    shown = [
        r"minunet.training INFO training begins: 10 images or parts of them, 2 held out, 2 classes; ",
        *(rf"minunet.training INFO epoch {i}/3: loss [\d.e-]+, val_loss [\d.e-]+, val_dice [\d.e-]+, " for i in (1, 2, 3)),
        r"minunet.training INFO training ends after 3 epochs, 30 steps, \d+ s: max_epochs are spent$",
        r"minunet.model INFO saved model.safetensors$",
    ]
    assert all(re.match(f"{stamp} {pattern}", line) for pattern, line in zip(shown, lines, strict=False)), lines


def test_the_handler_writes_a_json_object_an_epoch(page):
    _, _, folder = page
    found = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in found] == [1, 2, 3]
    assert all(set(line) == {"epoch", "loss", "val_dice", "seconds"} and 0 < line["loss"] < 2 for line in found)


def test_patience_ends_the_training_when_the_loss_has_grown(page):
    stopped = page[0]["stopped"]
    losses = stopped.history_["val_loss"]
    grew = [after >= before for before, after in itertools.pairwise(losses)]
    assert not any(grew[:-1]) and (grew[-1] or len(losses) == 6) and not stopped.interrupted_


def test_the_table_has_a_row_an_epoch(page):
    rows = list(csv.DictReader((page[2] / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"] and set(rows[0]) == {"epoch", *LOGS}
    assert [float(row["steps"]) for row in rows] == [10, 20, 30]


def test_the_best_model_is_that_of_the_best_epoch(page):
    names, _, folder = page
    trained, best = names["trained"], minunet.load(folder / "best.safetensors")
    assert best.n_iter_ == trained.best_epoch_ + 1
    assert best.history_["val_dice"][-1] == max(trained.history_["val_dice"]) == trained.best_score_


def test_tensorboard_has_each_figure_by_its_step(page):
    board = page[1].tensorboard
    board.assert_called_once_with("runs/cells")
    calls = [call.args for call in board.return_value.add_scalar.call_args_list]
    assert {name for name, _, _ in calls} == LOGS and [step for name, _, step in calls if name == "loss"] == [10, 20]
    assert all(math.isfinite(value) for _, value, _ in calls)


def test_mlflow_has_the_parameters_the_figures_and_the_model(page):
    mlflow = page[1].mlflow
    (parameters,), _ = mlflow.log_params.call_args
    assert parameters["base_channels"] == 2 and set(parameters) == set(UNet().get_params())
    calls = mlflow.log_metrics.call_args_list
    assert [call.kwargs for call in calls] == [{"step": 0}, {"step": 1}] and all(set(call.args[0]) == LOGS for call in calls)
    mlflow.log_artifact.assert_called_once_with("mlflow.safetensors")
    assert minunet.load(page[2] / "mlflow.safetensors").n_iter_ == 2


def test_wandb_has_the_figures(page):
    run = page[1].wandb.init.return_value.__enter__.return_value
    assert [call.kwargs for call in run.log.call_args_list] == [{"step": 0}, {"step": 1}]
    assert all(set(call.args[0]) == LOGS for call in run.log.call_args_list)
    assert page[1].wandb.init.call_args.kwargs["config"]["max_epochs"] == 2


def test_the_curve_has_a_point_an_epoch(page):
    curve = page[0]["curve"]
    losses = curve.figure.axes[0].get_lines()[0].get_ydata()
    np.testing.assert_array_equal(losses, curve.unet.history_["loss"])


def test_the_page_names_what_the_trackers_are_given(page):
    table = PAGE.read_text(encoding="utf-8").split("`logs` is")[1]
    rows = re.findall(r"^\| `([\w{}]+)`(?:, `([\w{}]+)`)? \|", table, re.MULTILINE)
    assert {name for row in rows for name in row if name} == FEW | {"val_dice_{value}", "val_iou_{value}"}
