"""The command `minunet`. Each subcommand is a module with HELP, DESCRIPTION, EXAMPLES, add_flags(parser) and run(arguments)."""

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
        added = subparsers.add_parser(
            command.__name__.rpartition(".")[2],
            help=command.HELP,
            description=command.DESCRIPTION,
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter if "\n" in command.EXAMPLES else argparse.HelpFormatter,
        )
        command.add_flags(added)
        added.set_defaults(run=command.run, parser=added)
    return parser
