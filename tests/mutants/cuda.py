"""Errors planted in the CUDA sources, in the catalogue's form: fragments, waits, phases, cuts, seeds, types."""

from __future__ import annotations

from .mutant import Row

CONV, HEAD, DROPOUT, COMMON, POINTWISE, WINDOWS, LOSS = (
    f"kernels/gpu/{name}" for name in ("conv.cu", "head.cu", "dropout.cu", "common.cuh", "pointwise.cu", "windows.cu", "loss.cu")
)
GRAPH = "kernels/gpu/graph.py"

EXACT = ("each_variant_equals", "all_passes_equal")

CUDA: list[Row] = [
    ("bf16 fragments have the second half of their depth where TF32's is", CONV, "lane / 16 * PIECE", "lane / 16 * 4", EXACT),
    ("turned bf16 fragments have rows and depths changed", CONV, "lane / 8 % 2 * 8, depth", "lane / 16 * 8, depth", EXACT),
    ("a chunk is multiplied before it has arrived", CONV, "cp_async_wait<STAGES - 2>", "cp_async_wait<STAGES - 1>", EXACT),
    ("a stage is filled while it is multiplied", CONV, "unsigned(chunk) % STAGES", "unsigned(chunk) % (STAGES - 1)", EXACT),
    ("the last part of a weight gradient is lost", CONV, "part < n_parts;", "part < n_parts - 1;", ("split", *EXACT)),
    ("a phase's first tap is found without the padding", CONV, "(phase + padding) % stride", "phase % stride", EXACT),
    ("the gradient of few taps is stored turned", CONV, "transposed ? k : 1, nullptr", "1, nullptr", ("all_passes_equal",)),
    ("relu makes 0 of NaN", CONV, "if (relu && sum <= 0)", "if (relu && !(sum > 0))", ("a_nan_or_an_infinity",)),
    ("a pixel of weight 0 has a gradient", HEAD, "counts ? share * z[k] : REAL(0)", "z[k]", ("weight", "head")),
    ("each turn of the loop reads the first pixels again", HEAD, "read(first + step + group)", "read(first + group)", ("head",)),
    ("a head's logits are without bias", HEAD, "z[k] += b[k]", "z[k] += 0", ("head",)),
    ("what lies just at the rate is dropped", DROPOUT, "words[first + j] < least", "words[first + j] <= least", ("dropout",)),
    ("a recorded launch draws the same again", DROPOUT, "seed_at ? *seed_at : seed", "seed", ("dropout",)),
    ("half-way between two bfloat16 goes up", COMMON, "(u >> 16 & 1)", "1", ("numbers_change",)),
    ("one row of threads is not added up", POINTWISE, "half >= columns", "half > columns", ("bias",)),
    ("a pool's other gradient is lost", WINDOWS, "plus ? load", "false ? load", ("pooling",)),
    ("a pixel of weight 0 takes part in the loss", LOSS, "if (weights[i] != 0)", "if (true)", ("pixel_without_weight", "loss")),
    ("two precisions share a graph", GRAPH, "(key, precision_in_use(), ", "(key, ", ("each_precision_has",)),
    ("each launch of a graph has the same seeds", GRAPH, "rng.integers(2**63, size=1)", "np.zeros(1, np.int64)", ("graph",)),
    ("seeds are handed out from the last", GRAPH, "self._places[self._taken - 1]", "self._places[-self._taken]", ("seeds_are",)),
]  # fmt: skip
