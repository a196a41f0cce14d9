"""What does safety cost: the doors of a training step, its looks for NaN, and the sums of a model file?

    python bench/safety.py --config 4,128,32 --repeat 7

A step's calls of doors (`minunet.checks`, `minunet.caches`, and the network's own) are recorded with their arguments, and made
again by themselves: their time is a share of the step's, as is that of the two looks for NaN, at the gradient and the weights. A
model of 31 million parameters is saved and loaded, and its SHA-256 taken by itself. Its checkpoint is written and read, and the
share of a training's time that this may take is that of the interval between two.
"""

from __future__ import annotations

import contextlib
import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import measure
import numpy as np

from minunet import Network, caches, checks, flat, kernels, modelfile, optim
from minunet.kernels import updates
from minunet.training import keeper, step

DOORS = {
    checks: ("convolution", "transposed_convolution", "activation", "per_channel", "gradient", "check_target", "check_updated"),
    caches: ("conv2d", "conv2d_relu", "conv_transpose2d", "max_pool2d", "of"),
    flat: ("require_bound",),
}  # those that a step goes through from outside; what they call within is in their time
LARGE = {"base_channels": 64}  # 31 million parameters: 124 MB

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def main() -> None:
    """Print the tables."""
    parser = measure.parser(__doc__, repeat=7)
    parser.add_argument("--config", action="append", type=measure.config, metavar="BATCH,SIDE,BASE", help="default: 4,128,32")
    parser.add_argument("--base", type=measure.whole, default=LARGE["base_channels"], help="of the model that is saved")
    arguments = parser.parse_args()
    report = measure.Report(__doc__, arguments.json)
    report.table("The doors of a training step", ["", "step/ms", "calls", "doors/ms", "share"])
    configs = arguments.config or [(4, 128, 32)]
    for config in configs:
        seconds, calls, doors = cost_of_doors(config, arguments.repeat)
        share = f"{doors / seconds:.2%}"
        report.row(measure.name_of(*config), f"{1e3 * seconds:.1f}", str(calls), f"{1e3 * doors:.2f}", share)
    report.table("The looks for NaN of a training step", ["", "step/ms", "MB", "looks/ms", "share"])
    for config in configs:
        seconds, size, looks = cost_of_looks(config, arguments.repeat)
        share = f"{looks / seconds:.2%}"
        report.row(measure.name_of(*config), f"{1e3 * seconds:.1f}", f"{size:.1f}", f"{1e3 * looks:.2f}", share)
    report.table("A model file", ["", "MB", "save/s", "load/s", "SHA-256/s"])
    report.row(f"base {arguments.base}", *(f"{value:.2f}" for value in cost_of_a_file(arguments.base, arguments.repeat)))
    report.table("Its checkpoint", ["", "MB", "write/s", "read/s", "every/s", "share"])
    size, write, read = cost_of_a_checkpoint(arguments.base, arguments.repeat)
    every = max(keeper.EVERY, write / keeper.SHARE)
    report.row(f"base {arguments.base}", f"{size:.0f}", f"{write:.2f}", f"{read:.2f}", f"{every:.0f}", f"{write / every:.2%}")
    report.write()


def cost_of_doors(config: measure.Config, repeat: int) -> tuple[float, int, float]:
    """Return the seconds of a step, how many doors it goes through, and the seconds of those."""
    batch, side, base = config
    network, optimizer = Network(1, 2, base), optim.Adam()
    x, labels = measure.data(batch, side)
    seconds = measure.medians({"step": lambda: step(network, optimizer, x, labels)}, repeat)["step"]
    with recorded() as calls:
        step(network, optimizer, x, labels)
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        for door, given, options in calls:
            door(*given, **options)
        times.append(time.perf_counter() - start)
    return seconds, len(calls), statistics.median(times)


def cost_of_looks(config: measure.Config, repeat: int) -> tuple[float, float, float]:
    """Return the seconds of a step, the megabytes of its gradient, and the seconds to look through that and the weights."""
    batch, side, base = config
    network, optimizer = Network(1, 2, base), optim.Adam()
    (x, labels), gradient = measure.data(batch, side), np.zeros_like(network.flat)
    runs: dict[str, measure.Run] = {
        "step": lambda: step(network, optimizer, x, labels),
        "looks": lambda: [kernels.run(updates.is_finite, a) for a in (gradient, network.flat)],
    }
    found = measure.medians(runs, repeat)
    return found["step"], gradient.nbytes / 1e6, found["looks"]


@contextlib.contextmanager
def recorded() -> Iterator[list[Call]]:
    """Record the calls of doors in the block, wherever their names were imported to; not those that a door itself makes."""
    calls: list[Call] = []
    inside = [False]

    def watched(door: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            if inside[0]:
                return door(*given, **options)
            calls.append((door, given, options))
            inside[0] = True
            try:
                return door(*given, **options)
            finally:
                inside[0] = False

        return call

    with contextlib.ExitStack() as stack:
        for home, names in DOORS.items():
            for name in names:
                door = getattr(home, name)
                replacement = watched(door)
                for module in [m for n, m in sys.modules.items() if n.startswith("minunet.")]:
                    if vars(module).get(name) is door:
                        stack.enter_context(mock.patch.object(module, name, replacement))
        yield calls


def cost_of_a_file(base: int, repeat: int) -> tuple[float, float, float, float]:
    """Return the megabytes of a model, and the seconds to save it, to load it, and to take the sum of so many bytes."""
    network = Network(1, 2, base)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        data = np.random.default_rng(0).bytes(network.flat.nbytes)
        runs: dict[str, measure.Run] = {
            "save": lambda: modelfile.save(path, network, {}), "load": lambda: modelfile.load(path),
            "sum": lambda: hashlib.sha256(data).digest(),
        }  # fmt: skip
        found = measure.medians(runs, repeat)
        return path.stat().st_size / 1e6, found["save"], found["load"], found["sum"]


def cost_of_a_checkpoint(base: int, repeat: int) -> tuple[float, float, float]:
    """Return the megabytes of a checkpoint with Adam's moments, and the seconds to write it and to read it."""
    network = Network(1, 2, base)
    moments = [np.ones_like(network.flat) for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "training")
        said = {"training": {"moments": 2}}
        runs: dict[str, measure.Run] = {
            "write": lambda: modelfile.save(path, network, said, moments=moments),
            "read": lambda: modelfile.load_checkpoint(path),
        }
        found = measure.medians(runs, repeat)
        return path.stat().st_size / 1e6, found["write"], found["read"]


if __name__ == "__main__":
    main()
