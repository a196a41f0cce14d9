"""Errors planted where a result of the right form is not enough, in the catalogue's form."""

from __future__ import annotations

from .mutant import Row

TIFF, PACE, TILES = "minunet/data/tiff.py", "minunet/training/pace.py", "minunet/evaluation/tiles.py"
CHOICE, NORMALIZE, LOOP = "kernels/cpu/choice.py", "minunet/data/normalize.py", "minunet/training/loop.py"
CHEAPEST, TIME = ("cost_alike",), ("mean_of_a_batch",)

BY_VALUE: list[Row] = [
    ("channels of a stack that come first are taken for its last", TIFF, "array.transpose(*others, rows, cols, *channels)",
     "array.reshape([array.shape[i] for i in (*others, rows, cols, *channels)])", ("pages_of_a_stack",)),
    ("rows and columns of a page change places", TIFF, "*others, rows, cols, *channels)\n    h, w = array.shape[len(others) :",
     "*others, cols, rows, *channels)\n    h, w = array.shape[len(others) :", ("pages_of_a_stack",)),
    ("a step's time is that of one patch", PACE, "steps=MEASURED) * batch_size / n", "steps=MEASURED)", TIME),
    ("a step's time is that of all that were measured", PACE, "(time.perf_counter() - start) / steps",
     "time.perf_counter() - start", TIME),
    ("the first step of a batch is timed too", PACE, "    _seconds(network, optimizer, n, patch_size, steps=1)\n    return",
     "    return", TIME),
    ("patience is that of one patch", PACE, "if one * batch_size <= PATIENCE", "if one <= PATIENCE", TIME),
    ("an image alone does not share the weights' transforms", CHOICE, "work(h, w, c, k).items()}", "work(h, w, c, k, 1).items()}",
     CHEAPEST),
    ("a price is forgotten", CHOICE, "sum(costs[name] * count for name, count in done.items())",
     "sum(costs[name] * count for name, count in done.items() if name != 'output')", CHEAPEST),
    ("only the first pixels set the scale", NORMALIZE, "samples = pixels_at(view.image, at).astype(np.float64)\n    label:",
     "at = np.arange(len(np.arange(_area(view.image))[at])) if isinstance(at, slice) else at\n"
     "    samples = pixels_at(view.image, at).astype(np.float64)\n    label:", ("sample_of_many",)),
    ("the second-largest tile is taken", TILES, "key=n_bytes) - 1, 0)]", "key=n_bytes) - 2, 0)]", ("largest_tile",)),
    ("a tile's margin counts on one side", TILES, "side + 2 * (halo(network) or 0)", "side + (halo(network) or 0)",
     ("largest_tile",)),
    ("what an epoch learned is not what is kept", LOOP, "        good[...] = weights\n", "        good[...] = good\n",
     ("second_ctrl_c", "last_good_epoch")),
]  # fmt: skip
