"""Errors planted in what a network is made of, in the catalogue's form: layers, blocks, levels, sizes, counts, files."""

from __future__ import annotations

from .mutant import Row

BLOCKS, CHECKS, FLAT, LAYERS, MODELFILE, NETWORK, SIZES, STEP, MEMORY = (
    f"minunet/{name}.py"
    for name in (
        "blocks", "checks", "flat", "layers", "modelfile", "network", "sizes", "training/step", "training/memory",
    )
)  # fmt: skip
CONTRACT, COMPOSED, REFERENCE, RULES, SHAPES, SIGHT = (
    f"kernels/{name}.py" for name in ("__init__", "composed", "reference", "updates", "shapes", "sight")
)

NORM = ("each_group", "group_norm", "adjoint")

IN_GROUP_NORM: list[Row] = [
    ("a group's gradient keeps its mean", REFERENCE, "dz - dz.mean(axis=(1, 3), keepdims=True) - along", "dz - along", NORM),
    ("a group's gradient goes along z", REFERENCE, "keepdims=True) - along", "keepdims=True)", NORM),
    (
        "a group's variance as a sample's",
        REFERENCE,
        "(centred * centred).mean(axis=(1, 3), keepdims=True, dtype=wide)",
        "((centred * centred).sum(axis=(1, 3), keepdims=True) / max(g.shape[1] * g.shape[3] - 1, 1))",
        NORM,
    ),
    ("all groups are one, forth and back", REFERENCE, "((x.shape[0], groups) if groups", "((x.shape[0], 1) if groups", NORM),
    ("a norm's gradient without gamma", REFERENCE, "_grouped(dy * gamma, ", "_grouped(dy, ", NORM),
    ("a group that is constant divides by 0", "minunet/norms.py", "np.sqrt(variance + epsilon)", "np.sqrt(variance)", NORM),
    (
        "a norm's two gradients by each other's names",
        LAYERS,
        "dx, dgamma, dbeta = ops.group_norm_backward(dy, cache)",
        "dx, dbeta, dgamma = ops.group_norm_backward(dy, cache)",
        ("layers_are_their_ops",),
    ),
]

IN_BLOCKS: list[Row] = [
    ("the shortcut hands no gradient on", BLOCKS, "+= dbeside", "+= 0 * dbeside", ("residual", "right_gradients")),
    (
        "what goes by the path is lost behind the shortcut",
        BLOCKS,
        "w - self.edge] += dbeside",
        "w - self.edge] = dbeside",
        ("residual", "right_gradients"),
    ),
    (
        "the last relu holds back the path's gradient, not the shortcut's",
        BLOCKS,
        "        (dy,) = ops.relu_backward(dy, taped(cache, self).pop())\n"
        "        dbeside, shortcut = self.shortcut.backward(dy, cache.pop())\n",
        "        (held,) = ops.relu_backward(dy, taped(cache, self).pop())\n"
        "        dbeside, shortcut = self.shortcut.backward(dy, cache.pop())\n"
        "        dy = held\n",
        ("residual", "right_gradients"),
    ),
    (
        "the shortcut's crop off by one, where the path takes pixels off",
        BLOCKS,
        "x[:, e : h - e, e : w - e]",
        "x[:, e + (e > 0) : h - e + (e > 0), e : w - e]",
        ("residual", "right_gradients"),
    ),
    (
        "the shortcut's gradient lands one pixel off, where the path takes pixels off",
        BLOCKS,
        "        _, h, w, _ = dx.shape\n        dx[:, self.edge : h - self.edge,",
        "        _, h, w, _ = dx.shape\n        dx[:, self.edge + (self.edge > 0) : h - self.edge + (self.edge > 0),",
        ("residual", "right_gradients"),
    ),
    (
        "the shortcut starts as if a relu followed it",
        BLOCKS,
        "1, gain=1.0, **settings",
        "1, gain=2.0, **settings",
        ("he_normal",),
    ),
    (
        "the path and the shortcut are joined before the relu, but not added",
        BLOCKS,
        "ops.relu(along + beside)",
        "ops.relu(along + 0 * beside)",
        ("residual", "right_gradients"),
    ),
    (
        "the shortcut computes by an algorithm that has no 1 x 1",
        BLOCKS,
        "self.shortcut = Conv2d(in_channels, out_channels, 1, gain=1.0, **settings)",
        "self.shortcut = Conv2d(in_channels, out_channels, 1, gain=1.0, algorithm=algorithm, **settings)",
        ("every_3x3",),
    ),
]

IN_THE_U: list[Row] = [
    (
        "the skip and what comes up change places",
        NETWORK,
        "ops.concat_skip(skip, x)",
        "ops.concat_skip(x, skip)",
        ("pytorch_numbers", "finite_differences"),
    ),
    (
        "the concatenation's halves change places, so that it costs a copy",
        NETWORK,
        "return buffer[..., :k], buffer[..., k:]",
        "return buffer[..., k:], buffer[..., :k]",
        ("no_copy",),
    ),
    (
        "the first level computes the input's gradient, wanted or not",
        NETWORK,
        "tape.back(self.encoder, input_grad=input_grad)",
        "tape.back(self.encoder)",
        ("nobody_wants",),
    ),
    (
        "no level computes its input's gradient where the network's is not wanted",
        NETWORK,
        "inner = tape.back(self.inner)",
        "inner = tape.back(self.inner, input_grad=input_grad)",
        ("at_once", "serves_one_backward"),
    ),
    ("a level whose sides are odd is pooled", CHECKS, "    if not even:", "    if False:", ("no_side_that_is_odd", "fit")),
    (
        "of the two sides one need be even",
        CHECKS,
        "% 2 == 0 and x.shape[2] % 2",
        "% 2 == 0 or x.shape[2] % 2",
        ("no_side_that_is_odd", "fit"),
    ),
    (
        "prediction keeps what a backward would take",
        "minunet/tape.py",
        "if not _forgetting.get():",
        "if True:",
        ("keeps_nothing",),
    ),
    (
        "two parameters of one name: the second counts",
        LAYERS,
        'require(key not in found, key, "the name of two',
        'require(True, key, "the name of two',
        ("share_a_name",),
    ),
    (
        "the gaps between parameters hold what lay there",
        FLAT,
        "self.flat[start + sizes[name] : end] = 0  # the gap",
        "self.flat[start : end] = self.flat[start : end]",
        ("gap",),
    ),
    (
        "gradients go by their order, not by their names",
        FLAT,
        "for name, grad in found.items():",
        "for name, grad in zip(like, found.values()):",
        ("by_their_names", "residual"),
    ),
    (
        "a layer that does not keep its parameters where they are bound is taken",
        FLAT,
        "require(kept, name",
        "require(True, name",
        ("cannot_be_bound",),
    ),
    ("parameters where the last one ends", FLAT, "-(-size // step) * step for", "size for", ("aligned",)),
    ("a flat array begins anywhere", FLAT, "start = -address(raw) % ALIGNMENT", "start = 0 * address(raw)", ("aligned",)),
    ("a file's block that nobody knows is taken", MODELFILE, 'if config["block"] not in BLOCKS:', "if False:", ("config",)),
    (
        "a file of a block of one's own is written",
        MODELFILE,
        "if not isinstance(network.block, str):",
        "if False:",
        ("no_code",),
    ),
    (
        "a training step computes the images' gradient",
        STEP,
        "tape.back(network.u, input_grad=False)",
        "tape.back(network.u)",
        ("nobody_wants",),
    ),
]

IN_SIZES: list[Row] = [
    ("the margin by one too wide", SIZES, "or 0)) // 2", "or 0) + 2) // 2", ("margin", "572", "tile")),
    (
        "an output whose side is one less than was asked for",
        SIZES,
        "_least(of, size + 2 * _margin(of))",
        "_least(of, size + 2 * _margin(of) - 1)",
        ("fitting", "least_that_fits"),
    ),
    (
        "a block whose loss of pixels changes with the size is taken",
        BLOCKS,
        "even = len(set(lost.values())) == 1 and taken >= 0",
        "even = taken >= 0",
        ("promise",),
    ),
    ("a block that takes odd numbers of pixels off is taken", BLOCKS, " and taken % 2 == 0", "", ("promise",)),
    ("a block that keeps no size, padded, is taken", BLOCKS, "even and not (padding and taken)", "even", ("promise",)),
    ("a block of other channels is taken", BLOCKS, "y.shape == (1, *y.shape[1:3], k)", "y.ndim == 4", ("promise",)),
    (
        "what is hidden in the user's code is said to see what its input sees",
        BLOCKS,
        "        y.sight = shapes.ALL  # type: ignore[attr-defined]\n",
        "        y.sight = x.sight\n",
        ("foretold", "whole"),
    ),
    (
        "a block that is foretold takes nothing off",
        BLOCKS,
        "(n, h - self.lost, w - self.lost, self.k)",
        "(n, h, w, self.k)",
        ("foretold", "block"),
    ),
    (
        "a network of the user's blocks has the sizes of one with other channels",
        SIZES,
        "channels, block = (network.in_channels, network.base_channels, network.out_channels), id",
        "channels, block = (), id",
        ("other_channels", "promise"),
    ),
    (
        "the halo as if the output began where the input does",
        SIZES,
        "sight.halo(_margin(of))",
        "sight.halo(0)",
        ("halo", "sight"),
    ),
    ("a region's last pixel is taken for the next one's first", SIGHT, "(jump * m - 1)", "jump * m", ("least_around",)),
    (
        "of two that meet the narrower sight counts",
        SIGHT,
        "low = (min(self.low[i",
        "low = (max(self.low[i",
        ("two_meet", "window_sees", "painted_sees", "sight_is"),
    ),
    (
        "of two that meet the narrower sight counts, behind",
        SIGHT,
        "high = (max(self.high[i",
        "high = (min(self.high[i",
        ("two_meet", "window_sees", "painted_sees", "sight_is"),
    ),
    (
        "pixels with one parent all see what the first sees",
        SIGHT,
        "m = len(self.low) * stride",
        "m = len(self.low)",
        ("two_meet", "window_sees", "painted_sees", "sight_is"),
    ),
    (
        "what a window sees begins inside the padding",
        SIGHT,
        "(p * stride - padding for",
        "(p * stride for",
        ("two_meet", "window_sees", "painted_sees", "sight_is"),
    ),
    ("a field is the way from its first pixel to its last", SIGHT, "strict=True))) + 1", "strict=True)))", ("receptive",)),
    (
        "a pixel that nothing paints sees no parent",
        SIGHT,
        "[ps or range(h // stride, h // stride + 1) for h",
        "[ps or range(1) for h",
        ("painted_sees",),
    ),
    (
        "what sums over the image sees a part of it",
        SHAPES,
        "dtype or self.dtype, self.place, self.sight and ALL)",
        "dtype or self.dtype, self.place, self.sight)",
        ("numpy_makes_sees",),
    ),
    (
        "what was made of all sees what it was added to",
        SHAPES,
        'if getattr(a, "sight", None) is not None]',
        'if getattr(a, "sight", None) not in (None, ALL)]',
        ("numpy_makes_sees",),
    ),
    (
        "what meets at two scales sees as if both were one",
        SHAPES,
        "if ALL in seen or len({sight.jump for sight in seen}) > 1:",
        "if ALL in seen:",
        ("numpy_makes_sees",),
    ),
]

IN_COUNTS: list[Row] = [
    (
        "a lease that is not given back",
        SHAPES,
        "        weakref.finalize(owner, self._give, taken, pooled and size >= buffers.SMALL)\n",
        "",
        ("what_dies", "estimates"),
    ),
    ("a peak that forgets what is idle", SHAPES, "self.live + sum(self._waiting)", "self.live", ("what_dies", "estimates")),
    (
        "what lives is counted twice",
        SHAPES,
        "        self.keep(taken)\n",
        "        self.keep(2 * taken)\n",
        ("what_dies", "estimates"),
    ),
    ("a buffer that serves anew is still idle", SHAPES, "self._waiting.pop(at)", "self._waiting[at]", ("what_dies", "estimates")),
    ("what is not from the pool goes there", SHAPES, "        if pooled:\n", "        if True:\n", ("what_dies", "estimates")),
    (
        "a lease takes what it asks for, not its buffer",
        SHAPES,
        "taken = size if at is None else self._waiting.pop(at)",
        "taken = size\n        at is None or self._waiting.pop(at)",
        ("what_dies", "estimates"),
    ),
    (
        "flops count multiply-adds once",
        SHAPES,
        "book.flops += 2 * math.prod",
        "book.flops += math.prod",
        ("scratch_and_work", "flops"),
    ),
    (
        "an up-convolution works for each pixel of its output",
        SHAPES,
        'y.shape if name != "conv_transpose2d" else x.shape',
        "y.shape",
        ("scratch_and_work", "flops"),
    ),
    (
        "a kernel's scratch counts for nothing in a prediction",
        MEMORY,
        "        plain(x)\n    return book.peak + kernels.n_threads() * book.scratch",
        "        plain(x)\n    return book.peak",
        ("estimates",),
    ),
    (
        "a definition whose result was asked for elsewhere leaves it here",
        CONTRACT,
        "    out[...] = kernel(x, *args, **options)\n    return out\n",
        "    return kernel(x, *args, **options)\n",
        ("lacks",),
    ),
    ("a fused pooling's other gradient is lost", COMPOSED, "return dskip + run(", "return run(", ("fusion",)),
    (
        "an update of a loss that is not finite, by SGD",
        COMPOSED,
        "    if np.isfinite(loss):\n        run(updates.sgd",
        "    if True:\n        run(updates.sgd",
        ("guarded",),
    ),
    (
        "an update of a loss that is not finite, by Adam",
        COMPOSED,
        "    if np.isfinite(loss):\n        run(updates.adam",
        "    if True:\n        run(updates.adam",
        ("guarded",),
    ),
    ("halves that lie side by side are copied", COMPOSED, "if buffer is None else buffer", "if True else buffer", ("no_copy",)),
    (
        "Adam without its bias correction, specification",
        RULES,
        "m_hat, v_hat = m / (1 - beta1**t), v /",
        "m_hat, v_hat = m, v /",
        ("adam", "updates"),
    ),
    (
        "SGD's decay shrinks what momentum keeps",
        RULES,
        "    decayed = grad + weight_decay * param\n    velocity *= momentum\n",
        "    velocity *= momentum\n    decayed = grad + weight_decay * velocity\n",
        ("sgd", "updates"),
    ),
]

PARTS = IN_GROUP_NORM + IN_BLOCKS + IN_THE_U + IN_SIZES + IN_COUNTS
