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
    (
        "kernels/cpu/transforms.py",
        "_both_sides",
        "size = range(len(matrix[0]))",
        "size = range(len(matrix[1]))",
    ): "All rows of a matrix are of one length, and each matrix has two rows.",
    (
        "kernels/cpu/packing.py",
        "_turned_panel",
        "rows[d, i] = 0",
        "rows[d, i] = 1",
    ): "Those columns fill the last vector up: what the tiles make of them is never stored.",
    (
        "kernels/cpu/generated.py",
        "add_pixels.emit.one",
        "here, start = builder.add(total, builder.mul(at, number(8 // e.size))), builder.add(source, at)",
        "here, start = builder.add(total, builder.mul(at, number(9 // e.size))), builder.add(source, at)",
    ): "An element has 4 bytes or 8, and 9 // 4 is 8 // 4, as 9 // 8 is 8 // 8.",
}
