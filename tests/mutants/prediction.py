"""Errors planted in predictions part by part, of turned images, and of objects, in the catalogue's form."""

from __future__ import annotations

from .mutant import Row

TILED, TURNED, PLACES = (f"minunet/evaluation/{name}.py" for name in ("tiles", "turned", "places"))
OBJECTS, METRICS = "minunet/evaluation/objects.py", "minunet/evaluation/metrics.py"
INSTANCES = "minunet/data/instances.py"

IN_PREDICTION: list[Row] = [
    ("a turned tile begins anywhere in a window", TILED, "(p0 // cell * cell, p1)", "(p0, p1)", ("turning_them_by_hand",)),
    ("a turned result is not turned back", TILED, "inverse(k))", "0)", ("turning_them_by_hand", "turns_with_the_image")),
    ("a quarter turn is undone by itself", TURNED, "else -k % 4", "else k", ("undoes_a_symmetry",)),
    ("a flip is looked for on the other side", TURNED, "(w - cols[1], w - cols[0]) if k >= 4", "cols if k >= 4",
     ("parts_are_those",)),
    ("small images are kept to small runs, too", TILED, "if h * w >= LARGE else np.inf", "", ("only_a_large_image",)),
    ("pages are written on the first one", PLACES, "(page[0] if page else 0)", "0", ("new_files",)),
    ("a type that wraps the labels is taken", PLACES, 'if dtype.kind not in "buif" or not', 'if dtype.kind not in "buif" and not',
     ("refused_before_any_work",)),
    ("half is more than half", METRICS, "both > iou * either", "both >= iou * either", ("best_assignment", "half_is_not_more")),
    ("the ground is an object", METRICS, "(t[i_of] != 0) & ", "", ("best_assignment",)),
    ("a thin object is all border", INSTANCES, "objects & rim & thick", "objects & rim", ("each_pixel_is", "insides_of_objects")),
    ("cut objects are the smallest", INSTANCES, "min(whole or cut)", "min(whole + cut)", ("whole_if_one_is",)),
    ("specks are objects", OBJECTS, ">= SPECK * smallest", ">= 0 * smallest", ("specks_are_no_objects",)),
    ("objects grow into the ground", OBJECTS, "mask=foreground, connectivity", "connectivity", ("touch_are_parted",)),
    ("a rise is a little higher", OBJECTS, "RISE = 0.05", "RISE = 0.052", ("twentieth_between",)),
    ("a pixel counts more", OBJECTS, "BLUR = 1.4", "BLUR = 1.3", ("quarter_counts",)),
    ("an object ends at a corner", OBJECTS, ", connectivity=CORNERS", "", ("hang_together_by_a_corner",)),
]  # fmt: skip
