"""Errors planted in losses, and in the weights that they are given, in the catalogue's form."""

from __future__ import annotations

from .mutant import Row

LOSSES = "minunet/losses.py"
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
        "[target.weights[..., None] * a for a in (probabilities * t, probabilities, t)]",
        "[target.weights[..., None] * a for a in (probabilities * t, probabilities)] + [t]",
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
