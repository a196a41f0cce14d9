"""The command `minunet`. Each subcommand is a module with HELP, DESCRIPTION, EXAMPLES, add_flags(parser) and run(arguments)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..signals import Signals
from ..text import printable
from . import console


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Return 0, or 1 for a failure told in one line; wrong use exits with 2.

    130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP: each ends in order, with nothing half written.
    """
    console.fill_standard_descriptors()
    with Signals() as signals, console.guarded() as out:
        try:
            code = _run(argv, signals)
        except KeyboardInterrupt:  # one more, while the first was told
            signals.hold()
            code = signals.exit_code
        if problem := console.lost(out):
            console.complain(problem)
            code = code or 1
        return 1 if console.insisted() else code


def _run(argv: Sequence[str] | None, signals: Signals) -> int:
    try:
        arguments = _parser().parse_args(argv)
        signals.release()
        try:
            code = arguments.run(arguments)
        finally:  # what comes while the end is told, or wrong use, would be told as a failure
            signals.hold()
        return code or (signals.exit_code if signals.number else 0)
    except KeyboardInterrupt:
        console.complain("interrupted" if signals.exit_code == 130 else "asked to end")
        return signals.exit_code
    except (ValueError, OSError, ArithmeticError, MemoryError, ImportError) as error:
        console.complain(console.told(error))
        return 1


class _Parser(argparse.ArgumentParser):
    """Tells of wrong use on one line: the words may be names of files."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _parser() -> argparse.ArgumentParser:
    from . import check, demo, evaluate, predict, summary, train  # here, where a signal finds its handler: they take a second

    parser = _Parser(
        prog="minunet",
        description="A U-Net with no deep-learning framework under it: segments images from few examples.",
        epilog="In Python: from minunet import UNet; labels = UNet().fit(images, masks).predict(new_images)",
    )
    parser.add_argument("--version", action="version", version=f"minunet {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (check, train, predict, evaluate, summary, demo):
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
