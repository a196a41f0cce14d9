"""What the library tells other programs, through Python's logging: nobody hears it who has not asked for it."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from .streams import stderr


def tell(subject: str, level: int, text: str, **figures: Any) -> None:
    """Log a text as minunet.<subject>, and figures as attributes of its record. What listeners raise stops no work.

    It is told on stderr, or not, as logging itself does with what goes wrong in its handlers: by logging.raiseExceptions.
    """
    try:
        logging.getLogger(f"minunet.{subject}").log(level, text, extra=figures, stacklevel=2)
    except Exception:
        if logging.raiseExceptions:
            traceback.print_exc(file=stderr())
