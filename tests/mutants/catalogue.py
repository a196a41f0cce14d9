"""Planted errors, by hand: those that real libraries shipped, transplanted, and those that are easily made.

Each text to change occurs exactly once in its file, which a test holds: where the source has moved on, adapt the text,
so that it is the same error.
"""

from __future__ import annotations

from .mutant import Mutant, read

# (name, file, the text, what it becomes, words in the names of the tests that should find it)
Row = tuple[str, str, str, str, tuple[str, ...]]

COLUMNS, CONVOLUTION, POOLING = (f"kernels/cpu/{name}.py" for name in ("columns", "convolution", "pooling"))
POINTWISE, UPDATES, LOSS = (f"kernels/cpu/{name}.py" for name in ("pointwise", "updates", "loss"))
REFERENCE, OPS, NETWORK = "kernels/reference.py", "minunet/ops.py", "minunet/network.py"
SAMPLING = "minunet/data/sampling.py"

# Wrong gradients that were released, in each library's words and in ours.
HISTORY: list[Row] = [
    (
        "transposed convolution, stride 2, kernel 1: dw by a 1x1 shortcut that forgets the stride (PyTorch #63314)",
        OPS,
        "    dw, _ = kernel.conv2d_weight_grad(dy, x, w.shape, stride=stride, padding=padding)\n",
        "    one = w.shape[:2] == (1, 1)\n"
        '    seen = activation("dy", dy[:, : x.shape[1], : x.shape[2]]) if one else dy\n'
        "    dw, _ = kernel.conv2d_weight_grad(seen, x, w.shape, stride=(1, 1) if one else stride, padding=padding)\n",
        ("exact_adjoints", "transpose"),
    ),
    (
        "stride and padding swapped on the way to backward (candle #2337)",
        OPS,
        "(x, w, y if relu else None, stride, padding, algorithm)",
        "(x, w, y if relu else None, padding, stride, algorithm)",
        ("exact_adjoints", "conv2d"),
    ),
    (
        "the two axes of taps swapped in the input gradient (candle #2337, in a square kernel)",
        CONVOLUTION,
        "w[r_taps[i // len(s_taps)], s_taps[i % len(s_taps)]]",
        "w[r_taps[i % len(r_taps)], s_taps[i // len(r_taps)]]",
        ("exact_adjoints", "input_grad", "seven_loops"),
    ),
    (
        "overlapping pooling windows overwrite (NNlib #205), specification",
        REFERENCE,
        "stride[1]] += chosen",
        "stride[1]] = chosen",
        ("first_largest", "first_takes_all", "pool"),
    ),
    (
        "overlapping pooling windows overwrite (NNlib #205), compiled",
        POOLING,
        "dx[n, h, w, c] += dy[n, p, q, c] if argmax[n, p, q, c] == place else 0",
        "dx[n, h, w, c] = dy[n, p, q, c] if argmax[n, p, q, c] == place else dx[n, h, w, c]",
        ("first_largest", "first_takes_all", "pool"),
    ),
    (
        "transposed convolution, 1x1: dx by the weight that was not turned, where that fits (TVM #8087)",
        OPS,
        "    return kernel.conv2d(dy, w, stride=stride, padding=padding), dw, kernel.bias_grad(dy)\n",
        "    if w.shape[:2] == (1, 1) and w.shape[2] == w.shape[3]:\n"
        "        w = np.ascontiguousarray(w.transpose(0, 1, 3, 2))\n"
        "    return kernel.conv2d(dy, w, stride=stride, padding=padding), dw, kernel.bias_grad(dy)\n",
        ("exact_adjoints", "transpose"),
    ),
    (
        "weight gradient transposed, right for one channel (nntrainer #705), specification",
        REFERENCE,
        "(cols.T @ dy.reshape(-1, k)).reshape(w_shape)",
        "(dy.reshape(-1, k).T @ cols).reshape(w_shape)",
        ("exact_adjoints", "sums_over", "seven_loops"),
    ),
    (
        "weight gradient transposed, right for one channel (nntrainer #705), compiled",
        CONVOLUTION,
        'np.matmul(cols.T, dy_block, out=scratch("product", (r * s * c, k), x.dtype))',
        "np.matmul(dy_block.T, cols).reshape(r * s * c, k)",
        ("exact_adjoints", "sums_over", "seven_loops"),
    ),
    (
        "of duplicate indices one counts (PyTorch #80204)",
        REFERENCE,
        "    for place in range(window[0] * window[1]):\n"
        "        r, s = divmod(place, window[1])\n"
        "        chosen = np.where(argmax == place, dy, np.zeros((), dy.dtype))\n"
        "        dx[:, r : r + p * stride[0] : stride[0], s : s + q * stride[1] : stride[1]] += chosen\n",
        "    n_i, p_i, q_i, c_i = np.indices(dy.shape)\n"
        "    r_i, s_i = np.divmod(argmax.astype(np.intp), window[1])\n"
        "    dx[n_i, p_i * stride[0] + r_i, q_i * stride[1] + s_i, c_i] += dy\n",
        ("first_largest", "first_takes_all", "pool"),
    ),
]

THOUGHTFUL: list[Row] = [
    (
        "taps of the input gradient not flipped",
        CONVOLUTION,
        "in reversed(range(kernel))",
        "in range(kernel)",
        ("exact_adjoints", "input_grad", "seven_loops"),
    ),
    ("col2im keeps the last tap only", COLUMNS, "x[n, h, w, c] += taps", "x[n, h, w, c] = taps", ("col2im",)),
    (
        "of the weight gradient's partial sums the last one counts",
        CONVOLUTION,
        "dw[0] += dw[chunk]",
        "dw[0] = dw[chunk]",
        ("exact_adjoints", "sums_over", "seven_loops"),
    ),
    (
        "two users of one scratch buffer",
        CONVOLUTION,
        'scratch("dy", dy_block.shape',
        'scratch("columns", dy_block.shape',
        ("exact_adjoints", "sums_over", "seven_loops"),
    ),
    (
        "the places of the maxima live in a buffer that the next pooling takes: a stale cache",
        POOLING,
        "    argmax = np.empty((n, p, q, c), np.uint8)\n",
        "    from .threads import scratch\n\n    argmax = scratch('argmax', (n, p, q, c), np.uint8)\n",
        ("pytorch_numbers", "finite_differences"),
    ),
    (
        "a second backward on one cache finds it emptied",
        "minunet/layers.py",
        "cache if consume else list(cache)",
        "cache",
        ("twice",),
    ),
    (
        "the bias's gradient forgets all images but the first",
        REFERENCE,
        "dy.sum(axis=(0, 1, 2))",
        "dy[:1].sum(axis=(0, 1, 2))",
        ("exact_adjoints", "sums_over", "seven_loops"),
    ),
    (
        "the bias's gradient forgets all chunks but the first",
        POINTWISE,
        "partial.sum(axis=0)",
        "partial[0]",
        ("sums_over", "bias"),
    ),
    ("relu'(0) = 1, specification", REFERENCE, "np.where(y > 0, dy", "np.where(y >= 0, dy", ("relu_has", "relu")),
    (
        "relu'(0) = 1, compiled",
        POINTWISE,
        "dy[p, k] if y[p, k] > 0 else 0",
        "dy[p, k] if y[p, k] >= 0 else 0",
        ("relu_has", "relu"),
    ),
    (
        "a tie goes to the last",
        POOLING,
        "larger = value > best",
        "larger = value >= best",
        ("first_largest", "first_takes_all", "pool"),
    ),
    ("relu swallows NaN", POINTWISE, "0 if x[p, k] <= 0 else x[p, k]", "x[p, k] if x[p, k] > 0 else 0", ("nan",)),
    ("fused relu swallows NaN", POINTWISE, "0 if y[p, k] <= 0 else y[p, k]", "y[p, k] if y[p, k] > 0 else 0", ("nan",)),
    ("pooling swallows NaN", POOLING, "first_nan = value != value and best == best", "first_nan = False", ("nan",)),
    ("Adam without its bias correction", UPDATES, "step = correct1 * m[i]", "step = m[i]", ("adam",)),
    ("Adam counts from the update before", "minunet/optim.py", "t=self.n_updates,", "t=max(self.n_updates - 1, 1),", ("adam",)),
    ("momentum backwards", UPDATES, "velocity[i] = momentum * velocity[i]", "velocity[i] = -momentum * velocity[i]", ("sgd",)),
    (
        "the loss divided by the pixels, not by their weights' sum",
        LOSS,
        "float(weights.sum(dtype=np.float64))",
        "float(weights.size)",
        ("cross_entropy",),
    ),
    (
        "class weights by the wrong label",
        "minunet/losses.py",
        "np.where(w != 0, labels, 0)",
        "np.where(w != 0, k - 1 - labels, 0)",
        ("class_weight", "weight"),
    ),
    (
        "the skip's crop off by one where the rest is odd",
        OPS,
        "top, left = (skip.shape[1] - p) // 2",
        "top, left = (skip.shape[1] - p + 1) // 2",
        ("concat",),
    ),
    (
        "of a skip's two gradients one is lost",
        NETWORK,
        "dx = dskips.pop() + dx",
        "dx = dskips.pop() + 0 * dx",
        ("pytorch_numbers", "finite_differences"),
    ),
    ("dropout not scaled", OPS, ".astype(x.dtype) / x.dtype.type(1 - rate)", ".astype(x.dtype)", ("dropout",)),
    (
        "the network never drops",
        NETWORK,
        "layer.forward(x, training=training,",
        "layer.forward(x, training=False,",
        ("drop", "train"),
    ),
    (
        "weights start too large where channels widen",
        "minunet/layers.py",
        "fan_in = r * s * in_channels",
        "fan_in = r * s * out_channels",
        ("he_normal", "start"),
    ),
    ("the halo too small", "minunet/evaluation/tiles.py", "sight = 2 * sight + 2", "sight = 2 * sight + 1", ("tile", "halo")),
    (
        "the margin all on one side",
        SAMPLING,
        "np.arange(start - self.margin, start + self.patch_size + self.margin)",
        "np.arange(start, start + self.patch_size + 2 * self.margin)",
        ("margin",),
    ),
    (
        "mirrored pixels weigh 1",
        SAMPLING,
        "_within(rows, h)[:, None] & _within(cols, w)",
        "_within(rows, h)[:, None] | _within(cols, w)",
        ("weight", "mirrored"),
    ),
    (
        "weights not turned with their image",
        SAMPLING,
        "tuple(symmetries.apply(array, k) for array in (image, label, weight))",
        "(symmetries.apply(image, k), symmetries.apply(label, k), weight)",
        ("weights_move",),
    ),
    (
        "training sees what is held out",
        SAMPLING,
        "[e for i, e in enumerate(examples) if i not in held]",
        "list(examples)",
        ("held",),
    ),
    (
        "the edge pixel mirrored twice",
        "minunet/data/mirror.py",
        "    period = 2 * (size - 1)\n"
        "    folded = np.asarray(indices, np.intp) % period\n"
        "    return np.minimum(folded, period - folded)\n",
        "    period = 2 * size\n"
        "    folded = np.asarray(indices, np.intp) % period\n"
        "    return np.minimum(folded, period - 1 - folded)\n",
        ("mirror",),
    ),
    (
        "a value between two classes goes to the upper",
        "minunet/data/labels.py",
        "<= high - mask.astype(np.float64)",
        "< high - mask.astype(np.float64)",
        ("encode", "nearest"),
    ),
    (
        "all channels share one scale",
        "minunet/data/normalize.py",
        'np.percentile(samples, [LOW, HIGH], axis=0, method="nearest")',
        'np.percentile(samples, [LOW, HIGH], method="nearest")',
        ("each_image_and_channel",),
    ),
    (
        "learning rate decays with power 1",
        "minunet/training/schedule.py",
        "POWER = 0.9",
        "POWER = 1.0",
        ("poly", "learning_rate"),
    ),
    (
        "the learning rate never decays",
        "minunet/training/loop.py",
        "learning_rate_at(self._spent())",
        "learning_rate_at(0.0)",
        ("learning_rate", "decay", "poly"),
    ),
    (
        "each epoch sees the same patches",
        "minunet/training/loop.py",
        "self.sampler.batch(epoch, index, self.batch_size)",
        "self.sampler.batch(0, index, self.batch_size)",
        ("epoch", "patch"),
    ),
    (
        "a step that is not finite is taken",
        "minunet/training/step.py",
        "if np.isfinite(loss):",
        "if loss is not None:",
        ("not_finite",),
    ),
    (
        "backward writes into dy",
        POINTWISE,
        "    dx = np.empty(dy.shape, dy.dtype)\n",
        "    dx = dy\n",
        ("read_only", "relu", "left_as_it_was"),
    ),
]


def mutants() -> list[Mutant]:
    """Return the mutants made by hand. ValueError names one whose text does not occur exactly once."""
    return [_mutant(*row) for row in HISTORY + THOUGHTFUL]


def _mutant(name: str, file: str, old: str, new: str, first: tuple[str, ...]) -> Mutant:
    source = read(file)
    if source.count(old) != 1:
        raise ValueError(f"{name}: {old!r} occurs {source.count(old)} times in {file}; a mutant's text occurs once")
    return Mutant(name, file, source.index(old), old, new, first)
