"""The command `minunet`. Each subcommand is a module with add_parser(subparsers) and run(arguments)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .. import __version__
from . import check, demo, evaluate, predict, summary, train

COMMANDS = (check, train, predict, evaluate, summary, demo)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Return 0, or 1 for a failure told in one line, or 130 after Ctrl-C; wrong use exits with 2."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        print("minunet: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, ArithmeticError, MemoryError, ImportError) as error:
        print(f"minunet: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minunet",
        description="A U-Net with no deep-learning framework under it: segments images from few examples.",
        epilog="In Python: from minunet import UNet; labels = UNet().fit(images, masks).predict(new_images)",
    )
    parser.add_argument("--version", action="version", version=f"minunet {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers).set_defaults(run=command.run)
    return parser
