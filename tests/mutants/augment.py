"""Errors planted in augmentation, and in what prepares its patches, in the catalogue's form."""

from __future__ import annotations

from .mutant import Row

AUGMENT, GEOMETRY, INTENSITY = (f"minunet/data/{name}.py" for name in ("augment", "geometry", "intensity"))
AHEAD, WARPING, COMPILED = "minunet/training/ahead.py", "kernels/warping.py", "kernels/cpu/warping.py"

IN_AUGMENT: list[Row] = [
    ("the field's rows and columns are exchanged", GEOMETRY, "zip((rows, cols), nodes, strict=True)",
     "zip((cols, rows), nodes, strict=True)", ("bicubic",)),
    ("a warped label is the pixel before its place", GEOMETRY, "(np.rint(at[inner, inner])", "(np.floor(at[inner, inner])",
     ("scipy_reads", "painted")),
    ("what is moved in from beyond the image counts", GEOMETRY, "_within(near_rows, shape[0]) & _within(near_cols, shape[1])",
     "_within(near_rows, shape[0]) | _within(near_cols, shape[1])", ("scipy_reads",)),
    ("a small image turns about the patch's middle", GEOMETRY, "if n >= self.size else (n - 1) / 2", "if n else 0.0",
     ("smaller_than_the_patch",)),
    ("small patches fold", GEOMETRY, "nodes * min(sigma, (side - 1) / (GRID - 1) / LEAST_SPACING)", "nodes * sigma", ("folded",)),
    ("a patch of which nothing counts is learned from", AUGMENT, "return moved if moved.weight.any() else window.plain()",
     "return moved", ("count_nowhere",)),
    ("what is switched off draws nothing", AUGMENT, "        k = int(rng.integers(N_SYMMETRIES))\n",
     "        k = int(rng.integers(N_SYMMETRIES)) if self.flips else 0\n", ("each_strength",)),
    ("a strength of 0 still acts", AUGMENT, "getattr(self, name) > 0}", "getattr(self, name) >= 0}", ("each_strength",)),
    ("a function is given the image itself", AUGMENT, "self.function(wide.image, mask, rng)",
     "self.function(window.example.image[: wide.size, : wide.size], mask, rng)", ("function_is_given",)),
    ("gamma bends what lies beyond the range", INTENSITY, "inside = (t > 0) & (t < 1)", "inside = t > 0", ("gamma_bends",)),
    ("a blur loses brightness at the border", INTENSITY, "image.take(mirror(np.arange(-reach, n + reach), n), axis=axis)",
     "image.take(np.arange(-reach, n + reach) % n, axis=axis)", ("scipys_gaussian",)),
    ("a softer cubic, by definition", WARPING, "((1 - 0.5 * t) * t - 0.5) * t,", "((0.5 - 0.25 * t) * t - 0.25) * t,",
     ("hermite", "quadratic")),
    ("the last tap of four twice, compiled", COMPILED, "across[3] * row[j3, c]", "across[3] * row[j2, c]", ("hermite", "agree")),
    ("the next batch in the place of this", AHEAD, "self._made.pop(n).result()", "self._made.pop(max(self._made)).result()",
     ("in_order",)),
    ("the thread stays", AHEAD, "self._thread.shutdown(cancel_futures=True)", "pass", ("function_that_raises",)),
]  # fmt: skip
