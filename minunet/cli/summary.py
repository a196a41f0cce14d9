"""`minunet summary`: the network step by step, of a model file or of settings."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..unet import load
from . import flags

HELP = "show a network's steps, parameters, work and memory"
DESCRIPTION = "Print each step of the U with its output shape, parameters, work and what a pixel sees, and the totals."
EXAMPLES = "examples: minunet summary model.safetensors; minunet summary --base-channels 64 --size 256 256"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL", help="a model file; without one, the flags decide")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), metavar=("H", "W"), help="default: 512 512")
    flags.add_estimator_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.model is None:
        print(flags.estimator(arguments).summary(arguments.size))
        return 0
    unet = load(arguments.model)
    print(f"{unet}\nclasses {', '.join(map(str, unet.classes_))}; {unet.n_iter_} epochs\n\n{unet.summary(arguments.size)}")
    return 0
