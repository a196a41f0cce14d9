"""Is the estimate of a training step's memory true, and how much does PyTorch take?

    python bench/memory.py --config 1,512,64 --config 4,256,16 --config 4,128,32

A configuration is batch, side, base channels; each is measured in a fresh process. Measured is how far two training steps
with Adam raise the peak resident memory of a process (getrusage, ru_maxrss) that has imported everything and run two steps
of a tiny network before, so that the compiler's memory is not counted; "runtime" is what that process had taken by then.
"Process" is the whole, libraries included: what a machine must have. PyTorch's process is measured in the same way,
eager, channels-last. The second table is of the first configuration in other settings: of the network, the optimizer, the loss.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from typing import Any

import measure
import numpy as np
from measure import Config

DEFAULT: list[Config] = [(1, 512, 64), (4, 256, 16), (4, 128, 32)]
SETTINGS = (
    "optimizer=sgd", "padding=valid", "depth=2", "depth=0,loss=dice", "loss=cross_entropy+dice,out_channels=10",
    "block=residual", "algorithm=direct,in_channels=3", "dropout=0.5",
)  # fmt: skip


def main() -> None:
    """Print a row for each configuration, or, as the fresh process, measure one."""
    parser = measure.parser(__doc__, peers="PyTorch")
    shown = " ".join(",".join(map(str, config)) for config in DEFAULT)
    parser.add_argument("--config", action="append", type=measure.config, metavar="BATCH,SIDE,BASE", help=f"default: {shown}")
    parser.add_argument(
        "--settings", action="append", metavar="NAME=VALUE,...", help=f"other settings; default: {' '.join(SETTINGS)}"
    )
    parser.add_argument("--steps", type=int, default=2, help="training steps (default: 2; the second has Adam's moments)")
    parser.add_argument("--measure", choices=("minunet", "torch"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    configs = arguments.config or DEFAULT
    if arguments.measure:
        given = (arguments.settings or [""])[0]
        print(*(measure_minunet(configs[0], given, arguments.steps) if arguments.measure == "minunet"
                else measure_torch(configs[0], arguments.steps)))  # fmt: skip
        return
    report = measure.Report(__doc__, arguments.json)
    with_torch = not arguments.skip_peers and measure.installed("torch", "PyTorch")
    columns = ["batch, side, base", "runtime", "measured", "estimated", "ratio", "process"]
    report.table("peak resident memory in training, MB", columns + (["PyTorch's", "ratio"] if with_torch else []))
    results = {}
    options = ["--steps", str(arguments.steps)]
    fresh("minunet", (1, 16, 1), options)  # what it compiles, the others find in the cache
    for config in configs:
        sizes, cells = measured(config, options)
        if with_torch:
            sizes["torch"] = sum(fresh("torch", config, options))
            cells += [in_mb(sizes["torch"]), f"{sizes['process'] / sizes['torch']:.2f}"]
        name = ",".join(map(str, config))
        report.row(name, *cells)
        results[name] = sizes
    report.table(f"the same of {','.join(map(str, configs[0]))} in other settings, MB", ["settings", *columns[1:]])
    others = {}
    for settings in arguments.settings or SETTINGS:
        fresh("minunet", (1, 16, 1), [*options, "--settings", settings])
        others[settings], cells = measured(configs[0], [*options, "--settings", settings])
        report.row(settings, *cells)
    report.write(bytes=results, settings=others)


def measured(config: Config, options: list[str]) -> tuple[dict[str, int], list[str]]:
    """Return what minunet takes in a process of its own, by name and as cells."""
    runtime, taken, estimated = fresh("minunet", config, options)
    cells = [*map(in_mb, (runtime, taken, estimated)), f"{estimated / taken:.2f}", in_mb(runtime + taken)]
    return {"runtime": runtime, "measured": taken, "estimated": estimated, "process": runtime + taken}, cells


def in_mb(size: float) -> str:
    """Return a size as a cell."""
    return f"{size / 2**20:.0f}"


def fresh(who: str, config: Config, options: list[str]) -> tuple[int, ...]:
    """Return what a process of its own measures."""
    command = [sys.executable, __file__, "--measure", who, "--config", ",".join(map(str, config)), *options]
    return tuple(map(int, subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()))


def measure_minunet(config: Config, settings: str, steps: int) -> tuple[int, int, int]:
    """Return this process's peak memory before, how far training raised it, and the estimate.

    Images are of the least size that fits and is no smaller than was asked for.
    """
    from minunet import Network, losses, optim
    from minunet.training import step
    from minunet.training.memory import training_bytes

    given: dict[str, Any] = dict(setting.split("=") for setting in settings.split(",") if setting)
    given = {name: float(value) if value[0].isdecimal() else value for name, value in given.items()}
    given = {name: int(value) if value in range(100) else value for name, value in given.items()}
    loss, kind = losses.resolve(given.pop("loss", "cross_entropy")), optim.OPTIMIZERS[given.pop("optimizer", "adam")]

    def train(batch: int, side: int, base: int, steps: int) -> int:
        network = Network(**{"in_channels": 1, "out_channels": 2} | given, base_channels=base)
        side = network.fitting_output(side)
        optimizer, rng, around = kind(), np.random.default_rng(0), side + 2 * network.margin
        x = rng.standard_normal((batch, around, around, network.in_channels), np.float32)
        labels = rng.integers(network.out_channels, size=(batch, side, side), dtype=np.int32)
        for _ in range(steps):
            step(network, optimizer, x, labels, loss=loss, rng=rng)
        return training_bytes(network, batch, around, around, loss, optimizer=kind)

    train(1, 16, 1, 2)
    before = peak()
    estimate = train(*config, steps)
    return before, peak() - before, estimate


def measure_torch(config: Config, steps: int) -> tuple[int, int]:
    """Return the same of PyTorch, less the estimate."""
    import torch
    from torch_unet import TorchUNet, from_numpy, training_step

    from minunet import kernels

    torch.set_num_threads(kernels.n_threads())

    def train(batch: int, side: int, base: int, steps: int) -> None:
        x, labels = measure.data(batch, side)
        model = TorchUNet(base=base).in_format(torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters())
        tensor, target = from_numpy(x), torch.from_numpy(labels)
        for _ in range(steps):
            training_step(model, optimizer, tensor, target)

    train(1, 16, 1, 2)
    before = peak()
    train(*config, steps)
    return before, peak() - before


def peak() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024  # macOS counts bytes, Linux kilobytes


if __name__ == "__main__":
    main()
