"""Errors planted in losses, and in the weights that they are given, in the catalogue's form."""

from __future__ import annotations

from .mutant import Row

LOSSES, HELD_OUT = "minunet/losses.py", "minunet/evaluation/held_out.py"
BORDER, INPUTS, PREPARE, WEIGHTS = (f"minunet/data/{name}.py" for name in ("border", "inputs", "prepare", "weights"))
OVERLAP = ("tversky", "dice")
GIVEN = "self.alpha * (given - overlap) + self.beta * (true - overlap)"

IN_LOSSES: list[Row] = [
    ("the gradient of overlap without beta", LOSSES, "(1 - (1 - self.beta) * index)", "(1 - index)", OVERLAP),
    ("the gradient of overlap without alpha", LOSSES, "(1 - t) * self.alpha * index", "(1 - t) * index", OVERLAP),
    ("alpha and beta are exchanged", LOSSES, "float(alpha), float(beta)", "float(beta), float(alpha)", OVERLAP),
    ("what is invented costs nothing", LOSSES, GIVEN, "self.beta * (true - overlap)", OVERLAP),
    ("overlap is smoothed above alone", LOSSES, f"below = above + {GIVEN}", f"below = overlap + {GIVEN}", OVERLAP),
    (
        "the gradient by the probabilities is taken for that by the logits",
        LOSSES,
        "p * (g - (p * g).sum(axis=-1, keepdims=True))",
        "g",
        OVERLAP,
    ),
    (
        "of softmax's Jacobian the diagonal alone",
        LOSSES,
        "p * (g - (p * g).sum(axis=-1, keepdims=True))",
        "p * (g - p * g)",
        OVERLAP,
    ),
    ("overlap added up over the classes", LOSSES, "return 1 - index.mean()", "return 1 - index.sum()", OVERLAP),
    ("the truth counts without weights", LOSSES, "((w * a).sum(axis=(0, 1, 2)) for a in (p * t, p, t))",
     "(a.sum(axis=(0, 1, 2)) for a in (w * p * t, w * p, t))", OVERLAP),
    ("a pixel of weight 0 that is no number has its part", LOSSES, "np.where(w > 0, logits", "np.where(w >= 0, logits",
     ("dice", "tversky", "focal")),
    (
        "the truth counts without weights in the overlap of held-out images",
        LOSSES,
        "for a in (given[own], given, w[own])])",
        "for a in (given[own], given, own)])",
        ("counts_add_up", "dice"),
    ),
    ("a pixel is the less looked at, the less it is right", LOSSES, "focus = r**self.gamma", "focus = (1 - r)**self.gamma",
     ("focal",)),
    ("focal loss's gradient is cross-entropy's, scaled", LOSSES, "(1 + self.gamma * (1 - r) * ratio)", "1", ("focal",)),
    ("near 1, a probability has the digits of 1", LOSSES, "np.where(r < 0.5, np.log1p", "np.where(r < 0, np.log1p", ("focal",)),
    ("where all weights are 0, focal loss divides by it", LOSSES, "(total + (total == 0))", "total", ("nothing_has_weight",)),
    ("focal loss of held-out images is cross-entropy", LOSSES, "return -np.log(q) * (1 - q) ** self.gamma", "return -np.log(q)",
     ("counts_add_up",)),
    (
        "the loss of held-out images divided by the pixels, not by their weights' sum",
        LOSSES,
        "target.weights.sum(dtype=np.float64)])",
        "float(target.weights.size)])",
        ("counts_add_up",),
    ),
    ("of two losses that are added one has no gradient", LOSSES, "return a + b, da + db", "return a + b, da", ("losses_add",)),
    (
        "of two losses that are added one is reported",
        LOSSES,
        "zip((self.first, self.second), counts, strict=True)",
        "zip((self.first,), counts)",
        ("counts_add_up",),
    ),
    (
        "a loss's gradient of another shape or dtype is taken",
        LOSSES,
        'require(fits, f"the gradient of',
        'require(True, f"the gradient of',
        ("not_the_logits",),
    ),
]  # fmt: skip

MAP, IN_TRAINING = ("border_map_is_the_formulas",), ("class_weight_and_the_border_term", "beyond_the_cut")

IN_WEIGHTS: list[Row] = [
    ("the second nearest object is the nearest", BORDER, "d2[:, there], d1[:, there])", "d1[:, there], d1[:, there])", MAP),
    ("the second nearest of a column may be the nearest object", BORDER, "np.where(same, d2, ", "np.where(same, d, ", MAP),
    ("objects above count, and none below", BORDER, "    for d, n in (below[:2], below[2:]):", "    for d, n in ():", MAP),
    ("objects to the right count, and none to the left", BORDER, "range(-min(int(reach), w - 1), ", "range(0, ", MAP),
    ("rows see no others", BORDER, "before = min(top, see)", "before = 0", MAP),
    ("distances are added as squares", BORDER, "both = first + second", "both = np.sqrt(first**2 + second**2)", MAP),
    ("objects have a border term", BORDER, "np.where((objects == 0) & (both", "np.where((both", ("papers_weight",)),
    ("objects are connected by corners, too", BORDER, "ndimage.label(here)", "ndimage.label(here, np.ones((3, 3)))",
     ("connected_by_sides",)),
    ("two pieces of a class have one number", BORDER, "            n += more", "            n += 1", ("connected_by_sides",)),
    ("each mask has a background of its own", BORDER, "maps = [_term(_numbered(m, ground) if instances else _pieces(m, ground)",
     "maps = [_term(_numbered(m, ground) if instances else _pieces(m, int(m.min()))", ("one_background",)),
    ("the border term is multiplied by the class weight", BORDER, "np.divide(term, of_class, out", "np.divide(term, 1, out",
     IN_TRAINING),
    ("what does not count is an object", BORDER, "np.where(example.weight > 0, example.label, 0)", "example.label",
     ("no_object",)),
    ("what is held out has no border weights", PREPARE, "for side in (examples, given_apart))",
     "for side in (examples, []))\n        given_apart = _to_validate(apart, normalizer, values, joined)",
     ("borders_of_its_own",)),
    ("a loss of held-out images has no class weights", HELD_OUT, "weights if class_weight is None else weights * ",
     "weights if True else ", ("has_the_classes_weights",)),
    ("an image's weight is the first one's", INPUTS, "np.broadcast_to(weight, image", "np.broadcast_to(checked[0], image",
     ("weight_of_all_its_pixels", "images_weight")),
    ("a value that is ignored may be a class", WEIGHTS, "({*own, *joined}, ", "({*joined}, ", ("a_class_or_is_ignored",)),
]  # fmt: skip

OF_LOSSES = IN_LOSSES + IN_WEIGHTS
