"""Errors planted in deep supervision, in the catalogue's form."""

from __future__ import annotations

from .mutant import Row

SIDE, LEVELS, STEP = "minunet/supervision.py", "minunet/training/levels.py", "minunet/training/step.py"
SUM = ("weighted_sum",)

IN_LEVELS: list[Row] = [
    ("of two gradients that of the side head alone", SIDE, "return dy + dx, grads", "return dx, grads", ("sum_of_two",)),
    ("inference asks side heads", SIDE, "_judge.get() if training else None", "_judge.get()", ("inference_asks",)),
    ("a level sees first pixels", LEVELS, "a[:, size // 2 :: size, size // 2 :: size]", "a[:, ::size, ::size]", ("middles",)),
    ("each level's value counts alike", LEVELS, "self._values.append(value / size)", "self._values.append(value)", SUM),
    ("each level's gradient counts alike", LEVELS, "dx *= 1 / size", "dx *= 1", SUM),
    ("each side head learns alike", LEVELS, "grad / size for", "grad for", SUM),
    ("the gradient of the sum for that of the mean", STEP, "    if levels.share != 1:", "    if False:", SUM),
    ("the sum for the mean", LEVELS, "sum(self._values, value) * self.share", "sum(self._values, value)", SUM),
    ("the top has a side head, too", "minunet/network.py", "range(1, depth) if", "range(depth) if", ("each_decoder_but",)),
    ("unpadded levels are taken", "minunet/checks.py", 'require(not wanted or padding == "same"', "require(True", ("unpadded",)),
    ("side heads lose a new class", "minunet/warmstart.py", "if values.shape != network.parameters[name].shape:",
     'if name.startswith("head."):', ("side_heads_take",)),
]  # fmt: skip
