"""How long does one training step take: minunet's backends beside PyTorch, in turns?

    python bench/train_step.py --config 4,256,16 --config 1,512,64 --repeat 7

A configuration is batch, side, base channels. Forward, loss, backward, Adam; medians, and ratios of medians.
PyTorch is eager; its best is the faster of its two memory formats.
All share one process. Whether one's idle threads spin in another's time was measured: in turns, after a pause of 0.3 s,
and each in a process of its own, minunet took 0.62, 0.66 and 0.66 s, PyTorch 0.25, 0.26 and 0.31 s. They do not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from machine import describe

from minunet import Network, kernels, optim, use_backend
from minunet.training import step

Step = Callable[[], object]


def main() -> None:
    """Time each configuration and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config", action="append", type=_config, metavar="BATCH,SIDE,BASE", help="may be repeated; default: 4,256,16"
    )
    parser.add_argument("--repeat", type=int, default=7, help="counted steps of each (default: 7, after one to warm up)")
    parser.add_argument("--skip-reference", action="store_true", help="leave out the NumPy reference, slow in large steps")
    parser.add_argument("--json", type=Path, help="write the machine and the medians, in seconds, here too")
    arguments = parser.parse_args()
    machine = describe()
    print(machine)
    if not find_spec("torch"):
        print("PyTorch is not installed: skipped (pip install 'minunet[bench]')")
    results = {}
    for batch, side, base in arguments.config or [(4, 256, 16)]:
        steps = minunet_steps(batch, side, base, not arguments.skip_reference) | torch_steps(batch, side, base)
        seconds = medians(steps, arguments.repeat)
        report(f"batch {batch}, {side} x {side}, base {base}", seconds)
        results[f"{batch},{side},{base}"] = seconds
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "seconds": results}, indent=1))


def data(batch: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random images (N, H, W, 1) and labels."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch, side, side, 1)).astype(np.float32), rng.integers(0, 2, (batch, side, side))


def minunet_steps(batch: int, side: int, base: int, with_reference: bool) -> dict[str, Step]:
    """Return minunet's step on each backend."""
    x, labels = data(batch, side)

    def on(backend: str) -> Step:
        network, optimizer = Network(1, 2, base), optim.Adam()

        def run() -> None:
            with use_backend(backend):
                step(network, optimizer, x, labels)

        return run

    return {f"minunet {name}": on(name) for name in kernels.available() if with_reference or name != "reference"}


def torch_steps(batch: int, side: int, base: int) -> dict[str, Step]:
    """Return PyTorch's eager step in both memory formats, or nothing where it is not installed."""
    if not find_spec("torch"):
        return {}
    import torch
    from torch_unet import TorchUNet, from_numpy, training_step

    torch.set_num_threads(kernels.n_threads())
    x, labels = data(batch, side)

    def in_format(memory_format: torch.memory_format) -> Step:
        model = TorchUNet(base=base).in_format(memory_format)
        optimizer = torch.optim.Adam(model.parameters())
        tensor, target = from_numpy(x, memory_format), torch.from_numpy(labels)
        return lambda: training_step(model, optimizer, tensor, target)

    return {"PyTorch NCHW": in_format(torch.contiguous_format), "PyTorch channels-last": in_format(torch.channels_last)}


def medians(steps: dict[str, Step], repeat: int) -> dict[str, float]:
    """Return each step's median seconds; the steps take turns, so that a noisy minute is shared."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(repeat + 1):
        for name, run in steps.items():
            start = time.perf_counter()
            run()
            if i:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def report(title: str, seconds: dict[str, float]) -> None:
    """Print seconds, and how many times as fast as each minunet's fastest backend is."""
    ours = min(s for name, s in seconds.items() if name.startswith("minunet"))
    peers = {name: s for name, s in seconds.items() if name.startswith("PyTorch")}
    best = {"PyTorch best": min(peers.values())} if peers else {}
    print(f"\n{title}\n{'':24}{'seconds':>9}{'minunet is':>17}")
    for name, value in (seconds | best).items():
        print(f"{name:24}{value:9.3f}{'' if value == ours else f'{value / ours:.2f}x as fast':>17}")


def _config(text: str) -> tuple[int, int, int]:
    try:
        batch, side, base = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not BATCH,SIDE,BASE, as in 4,256,16") from None
    return batch, side, base


if __name__ == "__main__":
    main()
