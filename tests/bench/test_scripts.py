"""Every script of bench/ starts, and runs on a tiny configuration; what they share times, counts and tells the truth."""

from __future__ import annotations

import importlib
import json
import runpy
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet import Network
from minunet.summary import summarize

BENCH = Path(__file__).parents[2] / "bench"
SCRIPTS = sorted(path.name for path in BENCH.glob("*.py") if "def main(" in path.read_text(encoding="utf-8"))
RUNS = {
    "accuracy.py": "--layer 3,7 --skip-peers",
    "augment.py": "--config 1,16,2 --repeat 1",
    "check.py": "--images 1 --side 32",
    "conv.py": "--config 1,16,2 --depth 1 --repeat 1 --seconds 0 --skip-peers",
    "few.py": "--side 48 --max-epochs 1",
    "hostile.py": "--only cut",
    "inference.py": "--config 1,16,2 --repeat 1 --skip-peers",
    "kit.py": "--repeat 1 --only relu --skip-peers",
    "large.py": "--side 300",
    "memory.py": "--config 1,16,2 --settings padding=valid,loss=dice,dropout=0.5 --steps 1 --skip-peers",
    "nuclei.py": "--side 64 --epochs 1 --skip-plain",
    "precision.py": "--seeds 1 --epochs 1 --side 48 --images 2",
    "rare.py": "--side 48 --epochs 1 --only default",
    "recipes.py": "--side 48 --epochs 1 --seeds 1 --only default",
    "safety.py": "--config 1,16,2 --repeat 1 --base 2",
    "scale.py": "--epochs 1",
    "scaling.py": "--config 1,16,2 --side 16 --side 32 --batch 1 --base 1 --base 2 --threads 1 --repeat 1",
    "seeds.py": "--side 48 --epochs 1 --seeds 1",
    "startup.py": "--config 1,16,2 --repeat 1 --skip-cold --skip-peers",
    "tile.py": "--repeat 1",
    "train_step.py": "--config 1,16,2 --repeat 1 --skip-peers",
}


@pytest.fixture
def bench(monkeypatch):
    """Import a module of bench/ as the scripts there do."""
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module


@pytest.fixture
def run(bench, monkeypatch, capfd):
    """Run a script as a program, in this process: one started for each would take longer than what the script measures."""
    monkeypatch.setattr(bench("roofline"), "last_level_cache", lambda: 0)  # what is larger takes seconds to walk through

    def start(script, *options):
        if script == "memory.py":  # the peak that Linux reports of a process begins with that of the one that started it
            command = [sys.executable, str(BENCH / script), *map(str, options)]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout
        monkeypatch.setattr(sys, "argv", [str(BENCH / script), *map(str, options)])
        capfd.readouterr()
        runpy.run_path(sys.argv[0], run_name="__main__")
        return capfd.readouterr().out

    return start


# A process that has nothing of the tests on its path, as a reader's has.
HELPS = """
import contextlib, io, json, pathlib, runpy, sys
shown = {}
for script in sys.argv[1:]:
    sys.path[0], sys.argv[:] = str(pathlib.Path(script).parent), [script, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        runpy.run_path(script, run_name="__main__")
    shown[pathlib.Path(script).name] = out.getvalue()
print(json.dumps(shown))
"""


@pytest.fixture(scope="module")
def helps():
    """What each script prints for --help."""
    command = [sys.executable, "-c", HELPS, *(str(BENCH / script) for script in SCRIPTS)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_says_what_it_measures(script, helps):
    shown = helps[script]
    assert "?" in shown and script in shown


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The folder to which the tiny runs write."""
    return tmp_path_factory.mktemp("out")


LONG = ("check.py", "conv.py", "nuclei.py", "rare.py", "recipes.py", "seeds.py", "startup.py")
LONGEST = ("few.py", "large.py", "memory.py", "precision.py", "scale.py")


def marks(script):
    """Return when a script is tried."""
    return [pytest.mark.rare] if script in LONG else [pytest.mark.nightly] if script in LONGEST else []


@pytest.mark.parametrize("script", [pytest.param(s, marks=marks(s)) for s in RUNS])
def test_it_measures(script, outputs, run):
    path = outputs / f"{script[:-3]}.json"
    shown = run(script, *RUNS[script].split(), "--json", path)
    written = json.loads(path.read_text())
    assert written["question"].endswith("?") and written["command"] == f"python bench/{script} {RUNS[script]}"
    assert written["machine"].splitlines()[0] in shown
    assert written["tables"]
    for table in written["tables"]:
        assert table["rows"] and all(len(row) == len(table["columns"]) for row in table["rows"])
        assert all(cell in shown for row in table["rows"] for cell in row)


def test_results_gathers_what_the_scripts_wrote(tmp_path, run):
    run("train_step.py", *RUNS["train_step.py"].split(), "--json", tmp_path / "train_step.json")
    (tmp_path / "isbi.json").write_text('{"machine": "", "curves": {}}')  # a file of another form is passed over
    run("results.py", tmp_path, "--markdown", tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    (table,) = json.loads((tmp_path / "train_step.json").read_text())["tables"]
    assert all("| " + " | ".join(row) + " |" in page for row in (table["columns"], *table["rows"]))
    assert "page.md" not in page and "curves" not in page


def test_the_figure_shows_every_panel(tmp_path, bench):
    pytest.importorskip("matplotlib")
    results = bench("results")
    seconds = {"1,16,2": {"minunet cpu": 1.0, "PyTorch NCHW": 2.0, "minunet reference": 9.0}}
    rows = [{"layer": "head", "algorithm": a, "flops": 2e9, "bound": 4e9, "seconds": 1.0} for a in ("auto", "oneDNN")]
    found = {
        "train_step": {"seconds": seconds},
        "inference": {"seconds": {"1,16,2": {"minunet": 1.0, "OpenVINO": 2.0}}},
        "memory": {"bytes": {"1,16,2": {"process": 2**30, "torch": 2**31}}},
        "conv": {"config": [1, 16, 2], "rows": rows},
    }
    results.draw(found, tmp_path / "all.png")
    results.draw({"conv": found["conv"]}, tmp_path / "one.png")
    assert (tmp_path / "all.png").stat().st_size > (tmp_path / "one.png").stat().st_size > 1000


def test_turns_are_taken_and_medians_returned(bench):
    order = []
    runs = {name: (lambda name=name: order.append(name)) for name in "ab"}
    seconds = bench("measure").medians(runs, 2)
    assert seconds.keys() == {"a", "b"} and all(0 <= s < 0.05 for s in seconds.values())
    # a round to warm up, one that is counted, and one in which each, now known to be short, runs twice
    assert "".join(order) == "ababaabb"


def test_more_rounds_are_made_until_the_seconds_are_spent(bench):
    order = []
    bench("measure").medians({"a": lambda: order.append(1)}, 1, warm_up=False, seconds=0.2)
    assert len(order) > 5


def test_what_others_take_is_told_apart_from_our_own_work(bench, monkeypatch):
    machine = bench("machine")
    ticks = iter([(10.0, 4.0), (20.0, 7.0)])  # all cores' seconds, and those of others
    monkeypatch.setattr(machine, "_ticks", lambda: next(ticks))
    assert machine.Others().share() == pytest.approx(0.3)
    monkeypatch.undo()
    others = machine.Others()
    busy_until = time.process_time() + 0.3
    while time.process_time() < busy_until:
        pass
    assert others.share() is None or 0 <= others.share() <= 1


def test_the_layers_are_those_of_the_network(bench):
    layers = bench("layers").layers_of((2, 64, 3), 3)
    summary = summarize(Network(1, 2, 3, 3), (2, 64, 64))
    assert sum(layer.count * layer.flops for layer in layers) == summary.flops
    shapes = sorted(layer.w_shape for layer in layers for _ in range(layer.count))
    assert shapes == sorted(w.shape for w in Network(1, 2, 3, 3).parameters.values() if w.ndim == 4)


def test_a_wrong_algorithm_stops_all_and_one_that_refuses_is_passed_over(bench):
    layers = bench("layers")

    def refuse():
        raise ValueError("not this shape")

    right, wrong = np.ones(3, np.float32), np.array([1, 1, 1.1], np.float32)
    assert layers.agreeing("layer", {"a": lambda: right, "b": refuse}, False).keys() == {"a"}
    assert layers.agreeing("layer", {"a": refuse}, False) == {}
    assert layers.agreeing("layer", {"a": refuse, layers.ONEDNN: lambda: right}, False) == {}
    with pytest.raises(SystemExit, match=r"layer: b differs from a by 0\.1"):
        layers.agreeing("layer", {"a": lambda: right, "b": lambda: wrong}, False)
    with pytest.raises(SystemExit, match="nan"):
        layers.agreeing("layer", {"a": lambda: right, "b": lambda: right * np.nan}, False)


def test_conv_says_once_which_layers_no_algorithm_serves(bench, monkeypatch, capsys):
    conv, roofline = bench("conv"), bench("roofline").Roofline(flops=1e9, bytes=1e9, how="")
    monkeypatch.setattr(conv, "measure_roofline", lambda rounds: roofline)  # which takes longer than all else
    monkeypatch.setattr(sys, "argv", ["conv.py", *RUNS["conv.py"].split(), "--algorithm", "winograd4x4"])
    conv.main()
    shown = capsys.readouterr().out
    assert shown.count("decoder.0.up") == shown.count("head") == 1 < shown.count("decoder.0.conv1")


@pytest.mark.rare
def test_the_fit_prints_prices_that_choice_takes(tmp_path, run):
    pytest.importorskip("numba")
    options = "--fit --config 1,16,2 --depth 1 --repeat 1 --seconds 0"
    shown = run("conv.py", *options.split(), "--json", tmp_path / "fit.json")
    written = json.loads((tmp_path / "fit.json").read_text())
    (line,) = (line for line in shown.splitlines() if line.startswith("COSTS = "))
    assert json.loads(line.removeprefix("COSTS = ")) == pytest.approx({k: written["costs"][k] for k in choice_costs()}, rel=0.01)
    for network, _, of_best, _, refitted_of_best, best, *alone in written["tables"][-1]["rows"]:
        rows = [row for row in written["rows"] if row["network"] == network]
        assert best == f"{1e3 * sum(row['count'] * min(row['seconds'].values()) for row in rows):.1f}"
        assert float(of_best) >= 1 <= float(refitted_of_best) and all(float(one) >= float(best) for one in alone)


def choice_costs():
    return importlib.import_module("minunet.kernels.cpu.choice").COSTS


@given(st.lists(st.floats(1, 100), min_size=7, max_size=7))
def test_the_fit_finds_prices_from_seconds(bench, prices):
    pytest.importorskip("numba")
    fit, names = bench("fit"), list(choice_costs())
    unit, call, *others = prices
    costs = dict(zip(names, [1.0, *others], strict=True))
    timings = []
    for n, h, c, k in fit.ODD_SHAPES:
        work = fit.choice.work(h, h, c, k, n)
        seconds = {a: 1e-12 * unit * sum(costs[name] * count for name, count in done.items()) for a, done in work.items()}
        timings.append(fit.Timing(fit.ODD, 1, (n, h, h, c, k), {a: 1e-6 * call + s for a, s in seconds.items()}))
    assert fit.fitted(timings) == pytest.approx(costs | {fit.CALL: 1e6 * call / unit}, rel=1e-5)


def test_a_bound_is_the_later_of_peak_and_bandwidth(bench):
    roofline = bench("roofline").Roofline(flops=100.0, bytes=10.0, how="")
    assert roofline.seconds(200, 10) == 2 and roofline.seconds(200, 50) == 5


def test_the_exponent_is_that_of_a_power_law(bench):
    sizes = [1, 2, 4, 8]
    assert bench("scaling").exponent(sizes, [3 * n**1.5 for n in sizes]) == pytest.approx(1.5)


def test_the_peers_compute_the_same_network(bench):
    pytest.importorskip("torch")
    peers = ["torch"]
    if all(find_spec(m) for m in ("onnx", "onnxruntime")):
        peers.append("onnxruntime")
    runs = bench("inference").engines((1, 16, 2), peers)
    assert len(runs) == 1 + len(peers)
    for run_ in runs.values():
        np.testing.assert_allclose(run_(), runs["minunet"](), rtol=1e-4, atol=1e-5)
