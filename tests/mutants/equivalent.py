"""Drawn edits that change no result, each with the reason: no test can find them, so none is asked to.

Keyed by what stays where it is when other lines move: file, function, the line as it is, the line as it would be.
"""

from __future__ import annotations

PROOFS: dict[tuple[str, str, str, str], str] = {
    (
        "kernels/cpu/columns.py",
        "block_columns",
        "last = max(first, min((p1 - 1) * stride[0] - padding[0] + kernel[0], h))",
        "last = max(first, min((p1 - 1) * stride[0] + padding[0] + kernel[0], h))",
    ): "More rows of the image are taken along, still none beyond its last; the windows read the same rows as before.",
    (
        "kernels/cpu/convolution.py",
        "conv2d_weight_grad",
        "blocks = _row_blocks(x.shape[0], p, q, r * s * c)",
        "blocks = _row_blocks(x.shape[0], p, q, r + s * c)",
    ): "Blocks hold more rows, cut by the shape alone as before: the same sum, its terms in other groups.",
    (
        "kernels/cpu/pointwise.py",
        "_by_rows",
        "pieces = list(chunks(len(arrays[0]), ROWS))",
        "pieces = list(chunks(len(arrays[1]), ROWS))",
    ): "All the arrays that its two callers hand over have the same number of pixels.",
}
