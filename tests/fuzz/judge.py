"""What holds for every target: an input is refused in a sentence, or served rightly. Anything else is Broken."""

from __future__ import annotations

REFUSED, ACCEPTED = "refused", "accepted"
MAX_MESSAGE = 1000  # characters


class Broken(AssertionError):  # noqa: N818
    """Raised where a promise was not kept: which, and what was found instead."""

    def __init__(self, promise: str, found: object = "") -> None:
        super().__init__(promise, found)
        self.promise, self.found = promise, f"{found!r}"[:400]

    def __str__(self) -> str:
        return f"{self.promise}: {self.found}"


def demand(holds: object, promise: str, found: object = "") -> None:
    """Raise Broken, unless it holds."""
    if not holds:
        raise Broken(promise, found)


def sentence(message: str, *names: str) -> str:
    """Return a refusal's message, if it is one line that a terminal can show, not too long, and has these names in it."""
    demand(message.strip(), "a refusal has a message")
    demand(message.isprintable(), "a refusal's message is one line, printable", message)
    demand(len(message) < MAX_MESSAGE, f"a refusal's message has less than {MAX_MESSAGE} characters", message)
    for name in names:
        demand(name in message, "a refusal's message names the file", message)
    return message
