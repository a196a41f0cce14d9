"""What strangers wrote: JSON read within bounds of time and memory, fields held against a table, nothing shown raw."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from .text import MAX_SHOWN, line, short

MAX_DIGITS = 400  # of a whole number: a seed may be long, but time and memory grow with the square of a million digits
# What text may hold of the marks that become Python objects, some hundred bytes each. Counting them takes milliseconds, and
# bounds what the parser makes before it makes it. A network of 33 levels has some 1,400 containers and 5,000 quotes; only
# numbers are many, those of a long history.
MOST = {"{": 2**13, "[": 2**13, '"': 2**15, "\\": 2**15, ",": 700_000}

Field = tuple[Callable[[Any], bool], str]  # whether a value will do, and what is taken


class RefusedError(ValueError):
    """Raised where a text or a value cannot be meant: a sentence, which lacks the name of the file."""


def parse(text: str, *, nan: bool = False) -> dict[str, Any]:
    """Return the object that JSON text holds; RefusedError where it is none, a key stands twice, or it is too much of anything.

    nan : whether NaN and Infinity, which Python writes and JSON has not, are taken.
    """
    if not text.isascii():  # json.dumps writes the rest as escapes, and so do we; a text of it would take four times as much
        raise RefusedError("no JSON as minunet writes it: there are characters outside ASCII")
    for mark, most in MOST.items():
        if (found := text.count(mark)) > most:
            raise RefusedError(f"too much for a model: {mark!r} occurs {found} times; up to {most} are read")
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_int=_whole, parse_constant=float if nan else _no_number)
    except RefusedError:
        raise
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"no JSON: {line(str(error), MAX_SHOWN)}") from None
    if not isinstance(value, dict):
        raise RefusedError("no JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dict. Of a key that stands twice, other programs may read the other value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise RefusedError(f"ambiguous: the key {short(twice)} stands more than once")
    return found


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise RefusedError(f"no JSON of ours: a whole number of {len(digits)} digits; up to {MAX_DIGITS} are read")
    return int(digits)


def _no_number(name: str) -> float:
    raise RefusedError(f"no JSON: it holds {name}, which is no number of JSON's")


def check_names(where: str, found: Collection[str], known: Collection[str], optional: Collection[str] = ()) -> None:
    """Refuse names that are not known, and known ones that are missing, by name."""
    prefix = f"{where}." if where else ""
    for name in sorted(set(found) - set(known)):
        raise RefusedError(f"{prefix}{short(name)[1:-1]} is unknown; it takes {short_list(known)}")
    for name in known:
        if name not in found and name not in optional:
            raise RefusedError(f"{prefix}{name} is missing")


def check_fields(where: str, found: Any, table: Mapping[str, Field], optional: Collection[str] = ()) -> None:
    """Refuse what is no object with exactly the fields of a table, but perhaps the optional, each with a value that will do."""
    if not isinstance(found, dict):
        raise RefusedError(f"{where} is {short(found)}; it takes an object with {short_list(table)}")
    check_names(where, found, table, optional)
    for name, (holds, takes) in table.items():
        require(name not in found or holds(found[name]), f"{where}.{name}" if where else name, found.get(name), takes)


def require(holds: bool, name: str, value: Any, takes: str) -> None:
    """Refuse a value, by the name of its field, unless it holds."""
    if not holds:
        raise RefusedError(f"{name} is {short(value)}, of type {type(value).__name__}; it takes {takes}")


def short_list(names: Collection[str]) -> str:
    return line(", ".join(names), MAX_SHOWN)


def is_whole(value: Any) -> bool:
    """Tell whether this is a whole number, and not a bool."""
    return type(value) is int


def is_number(value: Any) -> bool:
    """Tell whether this is a number that a double can hold, NaN and the infinities among them, and not a bool."""
    return type(value) is float or (type(value) is int and abs(value) < 2**1023)


OBJECT: Field = (lambda value: isinstance(value, dict), "an object")
LIST: Field = (lambda value: isinstance(value, list), "a list")
BOOL: Field = (lambda value: isinstance(value, bool), "true or false")
WHOLE: Field = (lambda value: is_whole(value) and value >= 0, "a whole number from 0 up")


def one_of(choices: Collection[str]) -> Field:
    """Return the field that takes one of these texts."""
    return (lambda value: isinstance(value, str) and value in choices), " or ".join(map(repr, choices))
