"""Counts what the proof really executed: `pytest tests/proof --proof-counts` prints them, and fails where they are too few."""

from __future__ import annotations

from collections import Counter

EXACT, JACOBIANS = 1000, 200  # of each op, in the default profile, over all rows

# What gradients are often wrong for, by name: which geometry of which op is one.
GEOMETRIES = {
    "3x3 stride 1 pad 1": lambda op, g: op == "conv2d" and (g.kernel, g.stride, g.padding) == ((3, 3), (1, 1), (1, 1)),
    "2x2 stride 2 pool": lambda op, g: op == "max_pool2d" and (g.kernel, g.stride) == ((2, 2), (2, 2)),
    "2x2 stride 2 up-convolution": lambda op, g: (
        op == "conv_transpose2d" and (g.kernel, g.stride, g.padding) == ((2, 2), (2, 2), (0, 0))
    ),
    "1x1 head": lambda op, g: op == "conv2d" and (g.kernel, g.stride, g.padding) == ((1, 1), (1, 1), (0, 0)),
    "kernel < stride": lambda op, g: any(k < s for k, s in zip(g.kernel, g.stride, strict=True)),
    "overlapping pool": lambda op, g: op == "max_pool2d" and any(k > s for k, s in zip(g.kernel, g.stride, strict=True)),
    "output padding": lambda op, g: any(g.output_padding),
    "last window does not fit": lambda op, g: op in ("conv2d", "max_pool2d") and any(
        (g.x_shape[1 + a] + 2 * g.padding[a] - g.kernel[a]) % g.stride[a] for a in (0, 1)
    ),
    "17 channels": lambda op, g: 17 in (g.x_shape[3], g.k),
    "empty batch": lambda op, g: g.x_shape[0] == 0,
}  # fmt: skip
WINDOWED = ("conv2d", "conv_transpose2d", "max_pool2d")
OPS = (*WINDOWED, "relu", "concat_skip", "dropout", "softmax_cross_entropy")

cases: Counter[tuple[str, str, str]] = Counter()  # (kind, op, row)
covered: Counter[str] = Counter()


def count(kind: str, op: str, row: object, g: object = None) -> None:
    """Count one case of an op that a row has passed: call it last. kind is "exact", "jacobian", or "peer": others' numbers."""
    cases[kind, op, str(row)] += 1
    if g is not None and op in WINDOWED:
        covered.update(name for name, holds in GEOMETRIES.items() if holds(op, g))


def table() -> list[str]:
    """Return the counts as the lines of two tables."""
    ops, rows = (sorted({key[i] for key in cases}) for i in (1, 2))
    lines = [f"{'cases':<18}" + "".join(f"{row:>18}" for row in rows) + f"{'exact':>10}{'Jacobians':>11}"]
    for op in ops:
        per_row = (f"{cases['exact', op, row]} + {cases['jacobian', op, row]}" for row in rows)
        lines.append(f"{op:<18}" + "".join(f"{n:>18}" for n in per_row) + f"{total('exact', op):>10}{total('jacobian', op):>11}")
    lines += ["", f"{'geometry':<30}{'cases':>8}"]
    return lines + [f"{name:<30}{covered[name]:>8}" for name in GEOMETRIES]


def total(kind: str, op: str) -> int:
    return sum(n for (k, o, _), n in cases.items() if (k, o) == (kind, op))


def missing() -> list[str]:
    """Return what was promised and not executed."""
    short = [f"{op}: {n} of {EXACT} exact cases" for op in OPS if (n := total("exact", op)) < EXACT]
    short += [f"{op}: {n} of {JACOBIANS} Jacobians" for op in OPS if (n := total("jacobian", op)) < JACOBIANS]
    return short + [f"{name}: no case" for name in GEOMETRIES if not covered[name]]
