"""The program `minunet`. Signals are remembered before anything else is imported: what takes time has no traceback then."""

import signal
import sys


def program() -> None:
    """Be the program: no signal is told by Python itself, while the command is imported, before it takes them, or at the end."""
    came: list[int] = []
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, lambda number, frame: came.append(number))
    from .cli import main
    from .signals import ENDING, Signals

    Signals().__enter__()  # and never left: it only remembers, and `main` asks it
    for number in came:
        signal.raise_signal(number)
    try:
        code: object = main()
    except SystemExit as stop:
        code = stop.code
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)  # type: ignore[arg-type]
