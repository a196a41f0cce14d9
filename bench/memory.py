"""Is the estimate of a training step's memory true? Estimated beside measured, each in a fresh process.

    python bench/memory.py --config 1,512,64 --config 4,256,16 --config 4,128,32

A configuration is batch, side, base channels. Measured is how far two training steps with Adam raise the peak resident
memory of a process (getrusage, ru_maxrss) that has imported everything and run one step of a tiny network before, so
that the compiler's memory is not counted; "runtime" is what that process had taken by then.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

import numpy as np
from machine import describe

from minunet import Network, optim
from minunet.training import step
from minunet.training.memory import training_bytes

MB = 2**20
DEFAULT = ["1,512,64", "4,256,16", "4,128,32"]


def main() -> None:
    """Print a row for each configuration, or, as the fresh process, measure one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", action="append", metavar="BATCH,SIDE,BASE", help=f"default: {' '.join(DEFAULT)}")
    parser.add_argument("--padding", default="same", choices=("same", "valid"))
    parser.add_argument("--steps", type=int, default=2, help="training steps (default: 2; the second has Adam's moments)")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(*measure(*parse(arguments.config[0]), arguments.padding, arguments.steps))
        return
    print(describe())
    print(f"\n{'batch, side, base':20}{'runtime':>12}{'measured':>12}{'estimated':>12}{'ratio':>8}")
    for config in arguments.config or DEFAULT:
        options = ["--config", config, "--padding", arguments.padding, "--steps", str(arguments.steps)]
        fresh = subprocess.run([sys.executable, __file__, "--measure", *options], check=True, capture_output=True, text=True)
        runtime, measured, estimated = map(int, fresh.stdout.split())
        sizes = "".join(f"{size / MB:9.0f} MB" for size in (runtime, measured, estimated))
        print(f"{config:20}{sizes}{estimated / measured:8.2f}", flush=True)


def parse(config: str) -> tuple[int, int, int]:
    """Return batch, side and base channels."""
    batch, side, base = map(int, config.split(","))
    return batch, side, base


def measure(batch: int, side: int, base: int, padding: str, steps: int) -> tuple[int, int, int]:
    """Return this process's peak memory before, how far training raised it, and the estimate."""
    train(Network(1, 2, 1, padding=padding), 1, 16 if padding == "same" else 188, 2)
    before = peak()
    network = Network(1, 2, base, padding=padding)
    train(network, batch, side, steps)
    return before, peak() - before, training_bytes(network, batch, side, side)


def train(network: Network, batch: int, side: int, steps: int) -> None:
    """Run steps on random images."""
    rng = np.random.default_rng(0)
    optimizer = optim.Adam()
    x = rng.standard_normal((batch, side, side, 1), np.float32)
    labels = rng.integers(0, 2, (batch, *network.output_size(side, side)), np.uint8)
    for _ in range(steps):
        step(network, optimizer, x, labels)


def peak() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024  # macOS counts bytes, Linux kilobytes


if __name__ == "__main__":
    main()
