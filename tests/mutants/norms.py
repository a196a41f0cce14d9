"""Errors planted in normalisation, and in what carries its statistics, in the catalogue's form."""

from __future__ import annotations

from .mutant import Row

NORMS, KERNELS, STEP, LOOP = "minunet/norms.py", "kernels/cpu/norm.py", "minunet/training/step.py", "minunet/training/loop.py"
OF_BATCH, ONE_MOMENT, TILES = ("statistics_of_a_batch",), ("one_moment",), ("tiles_see_all",)

IN_NORMS: list[Row] = [
    ("the running variance is the batch's own", NORMS, "variance.reshape(-1) * (n / (n - 1))", "variance.reshape(-1)", OF_BATCH),
    ("inference takes what lies in its batch", NORMS, "if not training:", "if False:", OF_BATCH),
    ("one number is enough of a batch", NORMS, "if n < 2:", "if n < 1:", ("too_small",)),
    ("statistics that overflow are kept", STEP, "_require_finite(state, ", "_require_finite(gradient, ", ("cannot_be_made",)),
    ("statistics stay what they were at first", STEP, "if state.size:", "if False:", ("a_step_moves",)),
    ("what fails leaves the last step's statistics", LOOP, "            state[...] = good_state\n            self.inter",
     "            self.inter", ONE_MOMENT),
    ("the good statistics are those of the beginning", LOOP, "        good_state[...] = state\n", "", ONE_MOMENT),
    ("a copy begins with new statistics", "minunet/network.py", "network.state.flat[...] = state", "pass", ("copies_have_it",)),
    ("a checkpoint's statistics are not read", "minunet/checkpoint.py",
     "model.network_.flat[...], model.network_.state.flat[...] = map(asarray, trained or own)",
     "model.network_.flat[...] = asarray((trained or own).flat)", ("never_stopped",)),
    ("the best epoch's statistics are not read", LOOP,
     "good[...], good_state[...] = self.at.best", "good[...] = self.at.best.flat", ("never_stopped",)),
    ("the model of the best epoch has the last one's statistics", LOOP,
     "weights, state = (self._flat, self._state) if new else (good, good_state)",
     "weights, state = (self._flat if new else good), self._state", ("the_best_epochs",)),
    ("a warm start begins with new statistics", "minunet/warmstart.py",
     "network.state.flat[...] = asarray(kernels.to_host(older.state.flat))", "pass", ("goes_on_with_them",)),
    ("a variance in a file may be anything", "minunet/modelfile.py", "(a < 0).any()", "False", ("none_can_be",)),
    ("all norms see as far", "minunet/sizes.py", "network.norm, network.block", "None, network.block", TILES),
    ("moments see a pixel", "kernels/shapes.py", "        sight = ALL\n    elif name in (\"normalize\"",
     "        pass\n    elif name in (\"normalize\"", ("how_far_a_pixel_sees",)),
    ("eight groups of any channels", "minunet/blocks.py", "math.gcd(channels, 8)", "min(channels, 8)", ("norm_relu_twice",)),
    ("a mean costs a variance its digits", KERNELS, "    add_pixels(zero, place, x[0] + first * x[1], x[1], 1, c)\n", "",
     ("costs_no_digits",)),
    ("the jobs' means do not count in a variance", KERNELS, " + counts * (means - mean) ** 2", "", ("definitions_give",)),
    ("dy counts where relu was 0", KERNELS, "loaded, zeros) if relu else", "loaded, loaded) if relu else",
     ("fusion_is_its_composition",)),
    ("an image's last pixel is left out", KERNELS, "(image + 1) * cut[2])", "(image + 1) * cut[2] - 1)",
     ("definitions_give",)),
]  # fmt: skip
