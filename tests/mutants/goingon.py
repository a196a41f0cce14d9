"""Errors planted in what a training goes on from, in the catalogue's form."""

from __future__ import annotations

from .mutant import Row

CHECKPOINT, STATE, PRINTS, KEEPER, LOOP, FITTING = (
    f"minunet/{name}.py"
    for name in ("checkpoint", "trainingstate", "data/fingerprint", "training/keeper", "training/loop", "fitting")
)
SAME = ("gone_on_with",)

IN_GOING_ON: list[Row] = [
    ("the moments are forgotten", CHECKPOINT, "(*optimizer.moments, *(",
     "(*(0 * m for m in optimizer.moments), *(", SAME),
    (
        "the optimizer counts anew",
        CHECKPOINT,
        'said["training"]["n_updates"], said',
        'min(said["training"]["n_updates"], 1), said',
        SAME,
    ),
    (
        "a step of the epoch is made twice",
        STATE,
        'Position(said["epoch"], said["index"],',
        'Position(said["epoch"], said["index"] - 1,',
        SAME,
    ),
    ("the losses before the stop are lost", STATE, 'list(said["losses"])', 'said["losses"][-1:]', SAME),
    (
        "the time before the stop is lost",
        STATE,
        'said["n_steps"], said["seconds"]',
        'said["n_steps"], 0.0',
        ("time_before",),
    ),
    ("the epochs before the stop are lost", STATE, "dict(history))", "{})", SAME),
    ("a drawn seed is drawn again", FITTING, "if kept and kept.seed is not None:", "if kept and kept.seed is None:", ("seed",)),
    (
        "another learning rate is taken",
        CHECKPOINT,
        'FREE = ("max_epochs",',
        'FREE = ("learning_rate", "max_epochs",',
        ("another_setting",),
    ),
    ("another version is taken", CHECKPOINT, "if version != __version__:", "if version > __version__:", ("version",)),
    ("other masks are taken", PRINTS, '"masks": _digests(e.label', '"masks": _digests(e.weight', ("other_data",)),
    ("an image is known by its shape", PRINTS, "    found.update(np", "    np.asarray(np", ("other_data",)),
    ("fewer epochs than are done end a training", CHECKPOINT, "if done > max_epochs:", "if done > max_epochs + 1:", ("fewer",)),
    ("a finished training was cut short", CHECKPOINT, '"interrupted_": not over,', '"interrupted_": True,', SAME),
    ("a checkpoint is written after each step", KEEPER, "(epoch_ended or passed >= EVERY)", "True", ("due",)),
    ("a checkpoint takes half of the time", KEEPER, "SHARE = 0.01", "SHARE = 0.5", ("due",)),
    (
        "a full disk ends a training",
        KEEPER,
        "except (OSError, ValueError, MemoryError) as error:",
        "except EOFError as error:",
        ("cannot_be_written",),
    ),
    ("a full disk is told each time", KEEPER, "if not self._failed:", "if True:", ("told_once",)),
    (
        "a validation that was cut is not made up for",
        LOOP,
        "if held_out is not None:  # else",
        "if True:  # else",
        ("made_up_for",),
    ),
    ("Ctrl-C waits for a validation", LOOP, "interrupt.cuts = True", "interrupt.cuts = False", ("made_up_for",)),
    (
        "what goes on is no model until its next epoch",
        LOOP,
        "if self.at.history:",
        "if not self.at.history:",
        ("checkpoints_model",),
    ),
]
