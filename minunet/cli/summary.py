"""`minunet summary`: the network step by step, of a model file or of settings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..unet import load
from . import flags


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(
        "summary",
        help="show a network's steps, parameters, work and memory",
        description="Print each step of the U with its output shape, parameters, work and what a pixel sees, and the totals.",
        epilog="examples: minunet summary model.safetensors; minunet summary --base-channels 64 --size 256 256",
    )
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL", help="a model file; without one, the flags decide")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), metavar=("H", "W"), help="default: 512 512")
    flags.add_estimator_flags(parser)
    parser.set_defaults(parser=parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    if arguments.model is None:
        print(flags.estimator(arguments).summary(arguments.size))
        return 0
    unet = load(arguments.model)
    print(f"{unet}\nclasses {', '.join(map(str, unet.classes_))}; {unet.n_iter_} epochs\n\n{unet.summary(arguments.size)}")
    return 0
