"""Errors planted in what is told of images held out, and in what is decided by it, in the catalogue's form."""

from __future__ import annotations

from .mutant import Row

BOUNDARY, THRESHOLD, HELD_OUT, METRICS = (
    f"minunet/evaluation/{name}.py" for name in ("boundary", "threshold", "held_out", "metrics")
)
PATIENCE, CSVLOG, LOOP, CHECKPOINT = (
    f"minunet/{name}.py" for name in ("training/patience", "training/csvlog", "training/loop", "checkpoint")
)
BEST = ("best_epoch_to_the_bit", "leaves_the_best")

IN_VALIDATION: list[Row] = [
    ("boundaries are met in a square", BOUNDARY, "math.isqrt(int(tolerance**2 - dy**2))", "int(tolerance)",
     ("distance_transforms",)),
    ("edges to pixels that do not count are boundaries", BOUNDARY, "differs &= counted[a] & counted[b]",
     "differs &= counted[a] | counted[b]", ("pooled_over_images",)),
    ("precision and recall are averaged", BOUNDARY,
     "2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)", "(precision + recall) / 2",
     ("pooled_over_images",)),
    ("a bin lacks its upper end", METRICS, "np.ceil(confidence * bins).astype(int) - 1", "(confidence * bins).astype(int)",
     ("upper_end",)),
    ("a class that is nowhere counts in the mean", HELD_OUT, "np.where(present, of(found), np.nan)",
     "np.where(present, of(found), 0.0)", ("no_mask_has",)),
    ("pixels of weight 0 count", HELD_OUT, "where = ... if here is None else here", "where = ...", ("all_pixels_that_count",)),
    ("the figures are those of the threshold chosen on them", HELD_OUT, "(Choice(), None) if isinstance(threshold, str)",
     "(Choice(), 0.4) if isinstance(threshold, str)", ("never_of_one_that_is_chosen",)),
    ("a pixel on the threshold is of the first class", THRESHOLD, "probabilities[..., 1] >= np", "probabilities[..., 1] > np",
     ("from_the_threshold_on",)),
    ("of equal thresholds the lowest is taken", THRESHOLD, "key=lambda i: (abs(i - len(GRID) // 2), i)", "key=int",
     ("nearest_to_a_half",)),
    ("any rise is one", PATIENCE, "if score >= best + tol else", "if score >= best else", ("so_many_epochs",)),
    ("the last epoch's weights are left", LOOP, "            if self.patience:\n                flat[...] = good\n", "", BEST),
    ("each epoch counts as the best", LOOP, "new = not self.patience or is_best(history)", "new = True", BEST),
    ("the threshold is the last epoch's", LOOP, "held_out.threshold if new and held_out else",
     "held_out.threshold if held_out else", ("threshold_is_that_of_the_best",)),
    ("it goes on from the best weights", CHECKPOINT, "map(asarray, trained or own)", "map(asarray, own)",
     ("more_epochs_go_on", "every_step")),
    ("the best weights are forgotten", CHECKPOINT, "Weights(*map(asarray, own)) if apart else None",
     "Weights(model.network_.flat, model.network_.state.flat) if apart else None", ("every_step",)),
    ("epochs that come again stand twice", CSVLOG, "<= epoch), row]", "<= epoch + 1), row]", ("each_epoch_stands_once",)),
]  # fmt: skip
