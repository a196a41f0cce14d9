"""Errors planted in what reads images in slices, in stacks, and in what draws rare classes, in the catalogue's form."""

from __future__ import annotations

from .mutant import Row

SLICED, STACKS, RARE, SAMPLING = (f"minunet/data/{name}.py" for name in ("sliced", "stacks", "rare", "sampling"))
NORMALIZE, CODES, PREPARE = (f"minunet/data/{name}.py" for name in ("normalize", "codes", "prepare"))

IN_INPUTS: list[Row] = [
    ("a class of a third of the patches is rare, too", RARE, "shares < 1 / ONE_OF", "shares < 1 / ONE_OF + 0.2", ("rare",)),
    ("each image counts alike for what patches show", RARE, "shares += part /", "shares += 1 / len(areas) /",
     ("counts_by_its_area",)),
    ("windows begin at the top alone", RARE, "(2 * i + 1) * free // (2 * n)", "i", ("a_third_of_all_windows",)),
    ("pixels without weight are places of a rare class", RARE,
     "here = label[rows] == k if weight is None else (label[rows] == k) & (weight[rows] > 0)", "here = label[rows] == k",
     ("pixels_without_weight",)),
    ("of many places the first are kept", RARE, "kept = slice(-before % step, None, step)",
     "kept = slice(0, -(-len(row) // step))", ("of_many_places",)),
    ("rows of a band are counted from its top", RARE, "row + rows.start", "row", ("of_many_places",)),
    ("every patch lies on a rare class", SAMPLING, "if self.rare and number % ONE_OF == ONE_OF - 1:", "if self.rare:",
     ("every_third_patch",)),
    ("a rare pixel lies in the patch's corner", SAMPLING, "rng.integers(quarter, self.patch_size - quarter)", "0",
     ("every_third_patch", "varies")),
    ("a patch on a rare class leaves the image", SAMPLING, "min(max(start, 0), most)", "start", ("at_a_border",)),
    ("a part of an image is cut from its corner", SLICED, "((rows, self.top), (cols, self.left))", "((rows, 0), (cols, 0))",
     ("a_cut_of_a_cut",)),
    ("another of a stack is read", SLICED, "(self.index, rows, cols)", "(0, rows, cols)", ("a_slice_is_that",)),
    ("NaN that appears in a file goes through", SLICED,
     "if (gaps if hidden is None else gaps & ~hidden).any():", "if False:", ("changes_meanwhile",)),
    ("pixels of a band are taken from the image's top", SLICED, "places[first:last] - rows.start * w", "places[first:last] % w",
     ("single_pixels",)),
    ("what is hidden is scaled with the rest of a slice", SLICED,
     "None if self.hidden is None else self.hidden[rows, cols]", "None", ("range_and_its_scale", "gaps_of_weight")),
    ("all that lies on disk is read whole", SLICED, "for source in sources) > LARGE", "for source in sources) < 0",
     ("no_more_than_some_bands",)),
    ("squares between two bands do not count", NORMALIZE, "above = here[-1:]", "above = here[:0]", ("range_and_its_scale",)),
    ("pieces are counted in each band alone", CODES, "above, below = max(top - 1, 0), min(bottom + 1, len(mask))",
     "above, below = top, bottom", ("looked_at_in_parts",)),
    ("classes take four bytes beside images on disk", PREPARE, "np.empty(mask.shape, np.min_scalar_type(len(classes) - 1))",
     "np.empty(mask.shape, np.int32)", ("no_more_than_some_bands", "wherever_they_lie")),
    ("a stack ends with its last slice twice", STACKS,
     "mirror(np.arange(place - context, place + context + 1), len(stack))",
     "np.clip(np.arange(place - context, place + context + 1), 0, len(stack) - 1)", ("neighbours", "between")),
    ("slices of all groups are one stack", STACKS, "units([0] * len(images) if groups is None else groups)",
     "units([0] * len(images))", ("neighbours", "groups_are_stacks")),
    ("what is predicted is seen with itself alone", PREPARE, "around = slices_around(images.arrays, names, context)",
     "around = [[i] * (2 * context + 1) for i in range(len(names))] if context else []", ("side_by_side",)),
]  # fmt: skip
