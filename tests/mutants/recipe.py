"""Errors planted in optimizers, schedules, clipping and the mean of weights, in the catalogue's form."""

from __future__ import annotations

from .mutant import Row

UPDATES, OPTIM, SCHEDULE, AVERAGE, LOOP, STEP, FITTING, CHECKPOINT, FINDING = (
    "kernels/cpu/updates.py", "minunet/optim.py",
    *(f"minunet/{name}.py" for name in (
        "training/schedule", "training/average", "training/loop", "training/step", "fitting", "checkpoint", "finding",
    )),
)  # fmt: skip
MEAN = ("is_the_mean", "interrupted_leaves", "fails_leaves")

IN_RECIPE: list[Row] = [
    ("Nesterov looks ahead by the old momentum", UPDATES,
     "        velocity[i] = momentum * velocity[i] + decayed\n        ahead = decayed + momentum * velocity[i]\n",
     "        ahead = decayed + momentum * velocity[i]\n        velocity[i] = momentum * velocity[i] + decayed\n", ("nesterov",)),
    ("Nesterov's is plain momentum", FITTING, 'unet.optimizer == "nesterov"}', "False}", ("one_described",)),
    ("AdamW has no decay of its own", OPTIM, "weight_decay: float = 0.01,", "weight_decay: float = 0.0,", ("adamw",)),
    ("a decay of 0 is taken for none given", FITTING, "if unet.weight_decay is not None:", "if unet.weight_decay:",
     ("one_described",)),
    ("the norm is of the last job's numbers", UPDATES, "np.sqrt(parts.sum())", "np.sqrt(parts[-1:].sum())", ("scaled_to",)),
    ("a gradient is scaled by the norm squared", UPDATES, "grad.dtype.type(most / norm)", "grad.dtype.type(most / norm**2)",
     ("scaled_to", "longest_gradient")),
    ("short gradients are made longer", UPDATES, "    if norm > most:\n", "    if norm > 0:\n", ("scaled_to",)),
    ("a training does not clip", LOOP, 'options["clip_norm"] = self.clip_norm', 'options["clip_norm"] = None',
     ("longest_gradient",)),
    ("clipping hides a gradient that is not finite", STEP, "_require_finite(found, ", "_require_finite(network.flat, ",
     ("clipped_gradient",)),
    ("a cosine from start to start", SCHEDULE, "math.cos(math.pi * spent)) / 2", "math.cos(2 * math.pi * spent)) / 2",
     ("defined",)),
    ("the warm-up is cut from the schedule", SCHEDULE, "(spent - self.warm_up) / (1 - self.warm_up)", "spent",
     ("rises_in_a_line",)),
    ("one plateau is all there are", SCHEDULE, "found, waited = found + 1, 0", "found = found + 1", ("plateau",)),
    ("the loss of the training tells plateaus", SCHEDULE, 'history.get("val_loss", []) if', 'history.get("loss", []) if',
     ("plateau",)),
    ("the mean keeps where it began", AVERAGE, "min(self.decay, (1 + t) / (10 + t))", "self.decay", MEAN),
    ("the training goes on with the mean", LOOP, "        self._show_average(False)\n", "", MEAN),
    ("the weights themselves are the model", LOOP, "        self._read(0)\n        self._show_average(True)\n",
     "        self._read(0)\n",
     MEAN),
    ("only the first piece is exchanged", AVERAGE, "range(0, self.flat.size, PIECE)",
     "range(0, min(self.flat.size, PIECE), PIECE)", MEAN),
    ("a checkpoint's mean is taken for the weights", "minunet/training/average.py", "        self.show(True)\n", "",
     ("gone_on_with",)),
    ("the rate of the least loss is suggested", FINDING, "TENTH = 0.1", "TENTH = 1.0", ("suggest",)),
    ("a search goes on where it has burst", FINDING, "if means[-1] > BURST * abs(means.min()):", "if False:", ("falls_apart",)),
]  # fmt: skip
