"""How long until the first training step is done: import, compilation, one step; and PyTorch?

    python bench/startup.py --config 1,64,8 --repeat 5

Each in a fresh process, warm ones in turns, medians. The clock starts when the interpreter is up. "cold" has an empty
folder for compiled kernels (NUMBA_CACHE_DIR), as after an installation; "warm" finds there what an earlier process
compiled. The first step counts from the import on, with the making of the network; what the second takes was computing.
The configuration, batch, side, base channels, is small, so that little of the first step is computing.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import measure
from measure import Config

from minunet import kernels

STAGES = ("import", "first step", "second step")
Stages = dict[str, float]

# Programs of their own, since this script has imported by now what they are to import.
CLOCK = """
import json, sys, time
moments = [time.perf_counter()]
def mark():
    moments.append(time.perf_counter())
batch, side, base, threads = map(int, sys.argv[1:])
"""
MINUNET = """
import minunet
mark()
from measure import data
from minunet.training import step
x, labels = data(batch, side)
network, optimizer = minunet.Network(1, 2, base), minunet.optim.Adam()
for _ in range(2):
    step(network, optimizer, x, labels)
    mark()
"""
TORCH = """
import torch
mark()
from measure import data
from torch_unet import TorchUNet, from_numpy, training_step
torch.set_num_threads(threads)
x, labels = data(batch, side)
model = TorchUNet(base=base).in_format(torch.channels_last)
optimizer = torch.optim.Adam(model.parameters())
tensor, target = from_numpy(x), torch.from_numpy(labels)
for _ in range(2):
    training_step(model, optimizer, tensor, target)
    mark()
"""
PRINT = "print(json.dumps([b - a for a, b in zip(moments, moments[1:])]))"


def main() -> None:
    """Print a row for each kind of start."""
    parser = measure.parser(__doc__, repeat=5, peers="PyTorch")
    parser.add_argument("--config", type=measure.config, default="1,64,8", metavar="BATCH,SIDE,BASE", help="default: 1,64,8")
    parser.add_argument("--cold-repeat", type=measure.whole, default=3, metavar="N", help="cold starts, slow (default: 3)")
    parser.add_argument("--skip-cold", action="store_true", help="leave out the start with nothing compiled")
    arguments = parser.parse_args()
    report = measure.Report(__doc__, arguments.json)
    programs = {"minunet, warm": MINUNET}
    if not arguments.skip_peers and measure.installed("torch", "PyTorch"):
        programs["PyTorch"] = TORCH
    title = f"seconds in a fresh process: {measure.name_of(*arguments.config)}"
    report.table(title, ["", *STAGES, "to the first step's end"], width=16)
    starts = {}
    if not arguments.skip_cold:
        starts["minunet, cold"] = cold(arguments.config, arguments.cold_repeat)
        show(report, "minunet, cold", starts["minunet, cold"])
    for name, stages in in_turns(programs, arguments.config, arguments.repeat).items():
        starts[name] = stages
        show(report, name, stages)
    report.write(config=arguments.config, seconds=starts)


def show(report: measure.Report, name: str, stages: Stages) -> None:
    """Report one kind of start."""
    report.row(name, *(f"{stages[stage]:.3f}" for stage in STAGES), f"{stages['import'] + stages['first step']:.3f}")


def cold(config: Config, repeat: int) -> Stages:
    """Return the medians of processes each of which finds nothing compiled."""
    starts = []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as folder:
            starts.append(start(MINUNET, config, NUMBA_CACHE_DIR=folder))
    return median(starts)


def in_turns(programs: dict[str, str], config: Config, repeat: int) -> dict[str, Stages]:
    """Return the medians of each program; a first round, not counted, fills the caches of kernels and files."""
    starts: dict[str, list[Stages]] = {name: [] for name in programs}
    for i in range(repeat + 1):
        for name, program in programs.items():
            stages = start(program, config)
            if i:
                starts[name].append(stages)
    return {name: median(found) for name, found in starts.items()}


def start(program: str, config: Config, **environment: str) -> Stages:
    """Run a program in a process of its own and return the seconds of each stage."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", CLOCK + program + PRINT, *map(str, config), str(kernels.n_threads())],
        check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path, **environment},
    )  # fmt: skip
    return dict(zip(STAGES, json.loads(done.stdout), strict=True))


def median(starts: list[Stages]) -> Stages:
    """Return the median of each stage."""
    return {stage: statistics.median(s[stage] for s in starts) for stage in STAGES}


if __name__ == "__main__":
    main()
