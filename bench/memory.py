"""Is the estimate of a training step's memory true, and how much does PyTorch take?

    python bench/memory.py --config 1,512,64 --config 4,256,16 --config 4,128,32

A configuration is batch, side, base channels; each is measured in a fresh process. Measured is how far two training steps
with Adam raise the peak resident memory of a process (getrusage, ru_maxrss) that has imported everything and run two steps
of a tiny network before, so that the compiler's memory is not counted; "runtime" is what that process had taken by then.
"Process" is the whole, libraries included: what a machine must have. PyTorch's process is measured in the same way,
eager, channels-last.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

import measure
from measure import Config

DEFAULT: list[Config] = [(1, 512, 64), (4, 256, 16), (4, 128, 32)]


def main() -> None:
    """Print a row for each configuration, or, as the fresh process, measure one."""
    parser = measure.parser(__doc__, peers="PyTorch")
    shown = " ".join(",".join(map(str, config)) for config in DEFAULT)
    parser.add_argument("--config", action="append", type=measure.config, metavar="BATCH,SIDE,BASE", help=f"default: {shown}")
    parser.add_argument("--padding", default="same", choices=("same", "valid"), help="PyTorch's has 'same' alone")
    parser.add_argument("--steps", type=int, default=2, help="training steps (default: 2; the second has Adam's moments)")
    parser.add_argument("--measure", choices=("minunet", "torch"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    configs = arguments.config or DEFAULT
    if arguments.measure:
        minunet = arguments.measure == "minunet"
        print(*(measure_minunet(configs[0], arguments.padding, arguments.steps) if minunet
                else measure_torch(configs[0], arguments.steps)))  # fmt: skip
        return
    report = measure.Report(__doc__, arguments.json)
    with_torch = arguments.padding == "same" and not arguments.skip_peers and measure.installed("torch", "PyTorch")
    columns = ["batch, side, base", "runtime", "measured", "estimated", "ratio", "process"]
    report.table("peak resident memory in training, MB", columns + (["PyTorch's", "ratio"] if with_torch else []))
    results = {}
    options = ["--padding", arguments.padding, "--steps", str(arguments.steps)]
    fresh("minunet", (1, least_side(arguments.padding), 1), options)  # what it compiles, the others find in the cache
    for config in configs:
        runtime, measured, estimated = fresh("minunet", config, options)
        sizes = {"runtime": runtime, "measured": measured, "estimated": estimated, "process": runtime + measured}
        cells = [*map(in_mb, (runtime, measured, estimated)), f"{estimated / measured:.2f}", in_mb(sizes["process"])]
        if with_torch:
            sizes["torch"] = sum(fresh("torch", config, options))
            cells += [in_mb(sizes["torch"]), f"{sizes['process'] / sizes['torch']:.2f}"]
        name = ",".join(map(str, config))
        report.row(name, *cells)
        results[name] = sizes
    report.write(bytes=results)


def least_side(padding: str) -> int:
    """Return the side of the smallest images that fit."""
    return 16 if padding == "same" else 188


def in_mb(size: float) -> str:
    """Return a size as a cell."""
    return f"{size / 2**20:.0f}"


def fresh(who: str, config: Config, options: list[str]) -> tuple[int, ...]:
    """Return what a process of its own measures."""
    command = [sys.executable, __file__, "--measure", who, "--config", ",".join(map(str, config)), *options]
    return tuple(map(int, subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()))


def measure_minunet(config: Config, padding: str, steps: int) -> tuple[int, int, int]:
    """Return this process's peak memory before, how far training raised it, and the estimate."""
    from minunet import Network, optim
    from minunet.training import step
    from minunet.training.memory import training_bytes

    def train(network: Network, batch: int, side: int, steps: int) -> None:
        optimizer = optim.Adam()
        x, labels = measure.data(batch, side)
        lost = network.margin
        for _ in range(steps):
            step(network, optimizer, x, labels[:, lost : side - lost, lost : side - lost])

    batch, side, base = config
    train(Network(1, 2, 1, padding=padding), 1, least_side(padding), 2)
    before = peak()
    network = Network(1, 2, base, padding=padding)
    train(network, batch, side, steps)
    return before, peak() - before, training_bytes(network, batch, side, side)


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
