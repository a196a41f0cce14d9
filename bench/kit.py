"""Which wrong gradients does check_gradients reject, and how long does it take, beside torch.autograd.gradcheck?

    python bench/kit.py

Twenty operations in NumPy, right and with two mistakes each (mistakes.py), are checked by either as it comes, in float64. For
PyTorch they are the forward and backward of a torch.autograd.Function. Each runs in a process of its own, with one thread, in
turns. The times are those of the right operations, medians. An error from inside stands in the table by its name.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import measure
import numpy as np
from mistakes import CASES, Array, Pair

ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
SIDES = {"minunet": "check_gradients", "torch": "gradcheck"}
Found = dict[str, dict[str, Any]]


def main() -> None:
    """Print the tables, or as one side its verdicts and times."""
    parser = measure.parser(__doc__, repeat=5, peers="PyTorch")
    parser.add_argument("--side", choices=list(SIDES), help="check with this one alone, and print JSON")
    parser.add_argument("--only", metavar="TEXT", default="", help="operations with this in their name")
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(checked({"minunet": by_minunet, "torch": by_torch}[arguments.side](), arguments.only)))
        return
    report = measure.Report(__doc__, arguments.json)
    sides = ["minunet"]
    if not arguments.skip_peers and measure.installed("torch", "PyTorch"):
        sides.append("torch")
    rounds = [{side: in_a_process(side, arguments.only) for side in sides} for _ in range(arguments.repeat)]
    names = [SIDES[side] for side in sides]
    report.table("Verdicts", ["", *names], width=66)
    verdicts = {side: rounds[0][side] for side in sides}
    found_by_us = verdicts["minunet"]
    for name, found in found_by_us.items():
        for kind in found["verdicts"]:
            report.row(f"{name}: {kind}", *(verdicts[side][name]["verdicts"][kind] for side in sides))
    report.table("Milliseconds for a right one", ["", *names, *(["ratio"] if len(sides) > 1 else [])], width=24)
    times = {
        name: [1e3 * statistics.median(r[side][name]["seconds"] for r in rounds) for side in sides] for name in found_by_us
    }
    for name, taken in (times | {"all": [sum(column) for column in zip(*times.values(), strict=True)]}).items():
        report.row(name, *(f"{ms:.1f}" for ms in taken), *(f"{taken[-1] / taken[0]:.2f}" for _ in sides[1:]))
    for side in sides:
        said = [v for found in verdicts[side].values() for kind, v in found["verdicts"].items() if kind != "right"]
        right = [found["verdicts"]["right"] for found in verdicts[side].values()]
        report.note(
            f"{SIDES[side]}: {said.count('passes')} of {len(said)} wrong ones pass, "
            f"and {right.count('passes')} of {len(right)} right ones"
        )
    report.write()


def in_a_process(side: str, only: str) -> Found:
    """Return what a side found, from a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--only", only]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def checked(check: Callable[[Pair, tuple[Array, ...]], bool], only: str) -> Found:
    """Return a side's verdict on each operation, right and wrong, and the seconds that the right one takes, warmed up."""
    found: Found = {}
    for name, case in CASES.items():
        if only in name:
            verdicts = {kind: verdict(check, pair, case.arrays) for kind, pair in ({"right": case.right} | case.wrong).items()}
            start = time.perf_counter()
            verdict(check, case.right, case.arrays)
            found[name] = {"verdicts": verdicts, "seconds": time.perf_counter() - start}
    return found


def verdict(check: Callable[[Pair, tuple[Array, ...]], bool], pair: Pair, arrays: tuple[Array, ...]) -> str:
    """Return "passes" or "rejected", or the name of another error."""
    try:
        return "passes" if check(pair, tuple(a.copy() for a in arrays)) else "rejected"
    except Exception as error:
        return type(error).__name__


def by_minunet() -> Callable[[Pair, tuple[Array, ...]], bool]:
    """Return check_gradients as a question."""
    from minunet.testing import GradientError, check_gradients

    def check(pair: Pair, arrays: tuple[Array, ...]) -> bool:
        try:
            check_gradients(*pair, *arrays)
        except GradientError:
            return False
        return True

    return check


def by_torch() -> Callable[[Pair, tuple[Array, ...]], bool]:
    """Return gradcheck as a question."""
    torch = measure.load("torch")
    torch.set_num_threads(1)
    wrong = measure.load("torch.autograd.gradcheck").GradcheckError

    def check(pair: Pair, arrays: tuple[Array, ...]) -> bool:
        class Function(torch.autograd.Function):  # type: ignore[misc, name-defined]
            @staticmethod
            def forward(ctx: Any, *tensors: Any) -> Any:
                y, ctx.cache = pair[0](*(t.detach().numpy() for t in tensors))
                return torch.from_numpy(np.array(y))

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                grads = pair[1](dy.numpy(), ctx.cache)
                return tuple(None if g is None else torch.from_numpy(np.asarray(g)) for g in grads)

        try:
            return bool(torch.autograd.gradcheck(Function.apply, [torch.from_numpy(a).requires_grad_() for a in arrays]))
        except wrong:
            return False

    return check


if __name__ == "__main__":
    main()
