"""Drawn edits that change no result, each with the reason: no test can find them, so none is asked to.

Keyed by what stays where it is when other lines move: file, function, the line as it is, the line as it would be.
"""

from __future__ import annotations

PROOFS: dict[tuple[str, str, str, str], str] = {
    (
        "kernels/cpu/updates.py",
        "_by_elements",
        "kernel, -(-grad.size // ELEMENTS), 0, number(0), grad.itemsize, grad.size, address(grad), *map(address, dense),",
        "kernel, -(-grad.size // ELEMENTS), 0, number(1), grad.itemsize, grad.size, address(grad), *map(address, dense),",
    ): "That number tells the kernel its dtype, and nothing reads its value.",
}
