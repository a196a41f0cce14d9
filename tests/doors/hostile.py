"""What an array may be instead of what is wanted: other sizes, other types, other places, another kind of thing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from doors.table import Door
from guarded import guarded

Case = tuple[str, Any, str]  # what it is, the array, and what must become of it

# "same": taken as its plain copy would be; "either": that, or refused; "extreme": as "either", and it may overflow anywhere.
REFUSED, SAME, EITHER, EXTREME = "refused", "same", "either", "extreme"


def cases(door: Door, name: str) -> Iterator[Case]:
    """Give everything that stands in the place of one array."""
    a = door.arrays[name]
    yield from other_sizes(a, door.free.get(name, ()))
    yield from other_types(a, door.kinds.get(name, ""))
    yield from other_places(a, name in door.written)
    yield from other_things(a, door.kinds.get(name, ""))
    yield from other_values(a)


def other_sizes(a: np.ndarray, free: tuple[int, ...]) -> Iterator[Case]:
    for axis, size in enumerate(a.shape):
        for length in (0, size - 1, size + 1, 2 * size, 50 * size):
            if length != size:
                index = np.resize(np.arange(size), length) if size else np.zeros(0, int)
                yield f"axis {axis} of length {length}", np.take(a, index, axis), EITHER if axis in free else REFUSED
    yield "an axis too many", a[None], EITHER
    yield "an axis too few", a[0], EITHER if free else REFUSED
    yield "the last axis twice", a[..., None], EITHER
    yield "no axis", a.reshape(-1)[0], REFUSED
    yield "all in one axis", a.reshape(-1), SAME if a.ndim == 1 else REFUSED
    yield "empty", np.zeros(0, a.dtype), REFUSED


def other_types(a: np.ndarray, kinds: str) -> Iterator[Case]:
    for code in ("?", "i1", "u1", "i4", "u8", "f2", "f4", "f8", "g", "c8", "O", "S4", "U2", "M8[s]", "V4"):
        dtype = np.dtype(code)
        if dtype == a.dtype:
            continue
        try:
            b = a.astype(dtype)
        except (TypeError, ValueError):
            b = np.zeros(a.shape, dtype)
        yield f"of dtype {dtype.name}", b, EITHER if dtype.kind in kinds else REFUSED
    yield "of the other byte order", a.astype(a.dtype.newbyteorder()), EITHER if kinds else REFUSED


def other_places(a: np.ndarray, written: bool) -> Iterator[Case]:
    """Give the same numbers, laid out or placed in other ways. Where they are to be written, only a good place will do."""
    wide = np.zeros((*a.shape[:-1], a.shape[-1] + 3), a.dtype)
    wide[..., 2:-1] = a
    room = np.zeros(a.nbytes + 1, np.uint8)[1:]
    unaligned = room.view(a.dtype).reshape(a.shape)
    unaligned[...] = a
    reversed_, turned = a[..., ::-1].copy()[..., ::-1], np.ascontiguousarray(a.T).T
    yield "beside other channels", wide[..., 2:-1], EITHER if written else SAME
    yield "unaligned", unaligned, REFUSED if written else SAME
    yield "backwards in memory", reversed_, REFUSED if written and a.shape[-1] > 1 else SAME
    yield "in Fortran's order", turned, SAME if a.ndim == 1 or not written else REFUSED
    yield (
        "one number everywhere",
        np.broadcast_to(a.reshape(-1)[:1].reshape((1,) * a.ndim), a.shape),
        REFUSED if written else EITHER,
    )
    fixed = a.copy()
    fixed.flags.writeable = False
    yield "read-only", fixed, REFUSED if written else SAME
    ends = guarded(a.shape, a.dtype, at_end=True)
    ends[...] = a
    yield "at the end of a page", ends, SAME


def other_things(a: np.ndarray, kinds: str) -> Iterator[Case]:
    lenient = EITHER if kinds else REFUSED
    yield "a masked array", np.ma.masked_array(a, np.zeros(a.shape, bool)), EITHER if kinds == "buif" else REFUSED
    yield "a memory map or so", a.view(Mapped), EITHER
    yield "a list", a.tolist(), lenient
    yield "text", "array", REFUSED
    yield "a number", 3.0, REFUSED
    yield "a dictionary", {}, REFUSED
    yield "an object", object(), REFUSED
    yield "what claims to lie in memory", Liar(a), EITHER


class Mapped(np.ndarray):
    """Another class, the same numbers."""


class Liar:
    """Says that it is larger than it is, and has no NumPy array's manners."""

    def __init__(self, a: np.ndarray) -> None:
        self.shape, self.dtype, self.ndim, self.size = tuple(3 * s for s in a.shape), a.dtype, a.ndim, a.size
        self.strides, self.itemsize, self.flags, self.nbytes = a.strides, a.itemsize, a.flags, a.nbytes


def other_values(a: np.ndarray) -> Iterator[Case]:
    values = (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45) if a.dtype.kind == "f" else (-1, 2**31, -(2**63), 2**63 - 1, 7)
    for value in values:
        b = a.copy()
        b.reshape(-1)[a.size // 2] = value
        expected = EXTREME if abs(value) > 1e38 else EITHER
        yield f"with {value} in it", b, expected
        yield f"full of {value}", np.full_like(a, value), expected


def overlaps(door: Door) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Give arguments of which one that is written lies in the memory of another."""
    for written in door.written:
        for other, a in door.arrays.items():
            if other == written or a.dtype != door.arrays[written].dtype:
                continue
            for shift in {0, 1, a.size - 1}:
                large = np.zeros(a.size + door.arrays[written].size + shift, a.dtype)
                first, second = large[: a.size].reshape(a.shape), large[shift : shift + door.arrays[written].size]
                first[...] = a
                yield f"{written} in {other}'s memory, {shift} further", door.arrays | {
                    other: first, written: second.reshape(door.arrays[written].shape),
                }  # fmt: skip


NUMBERS: tuple[Any, ...] = (
    0,
    -1,
    1,
    7,
    10**5,
    2**31 - 1,
    2**31,
    2**32,
    2**62,
    2**63 - 1,
    2**63,
    2**64,
    10**30,
    -(2**63),
    10**5000,
    0.0,
    0.5,
    1.0,
    -0.5,
    1e-30,
    1e30,
    1e300,
    float("nan"),
    float("inf"),
    -float("inf"),
    1j,
    True,
    None,
    "2",
    b"2",
    (),
    (1,),
    (1, 2),
    (2, 1, 1),
    (0, 1),
    (-1, 2),
    (2**62, 1),
    [2, 1],
    {},
    object(),
    np.int8(-1),
    np.uint8(200),
    np.float32(0.5),
    np.array(2),
    np.array([1, 2]),
    np.array([1, 2, 3]),
)
