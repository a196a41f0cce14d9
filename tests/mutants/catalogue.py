"""Planted errors, by hand: those that real libraries shipped, transplanted, and those that are easily made.

Each text to change occurs exactly once in its file, which a test holds: where the source has moved on, adapt the text,
so that it is the same error.
"""

from __future__ import annotations

from cuda_on_cpu.door import compiler

from .augment import IN_AUGMENT
from .byvalue import BY_VALUE
from .cuda import CUDA
from .goingon import IN_GOING_ON
from .inputs import IN_INPUTS
from .kit import KIT_TAKES
from .levels import IN_LEVELS
from .losses import OF_LOSSES
from .mutant import Mutant, Row, read
from .norms import IN_NORMS
from .numbers import NUMBERS
from .parts import PARTS
from .pixels import OF_PIXELS
from .prediction import IN_PREDICTION
from .recipe import IN_RECIPE
from .room import IN_ROOM
from .settings import IN_COMMANDS, OF_SETTINGS
from .touched import OF_WHAT_IS_TOLD
from .validation import IN_VALIDATION
from .winograd import WINOGRAD

COLUMNS, PACKING, PLANS, POOLING = (f"kernels/cpu/{name}.py" for name in ("columns", "packing", "plans", "pooling"))
DIRECT, WEIGHT_GRAD, THREADS = (f"kernels/cpu/{name}.py" for name in ("direct", "direct_weight_grad", "threads"))
POINTWISE, UPDATES, LOSS = (f"kernels/cpu/{name}.py" for name in ("pointwise", "updates", "loss"))
GENERATED = "kernels/cpu/generated.py"
REFERENCE, COMPOSED, SIGHT = "kernels/reference.py", "kernels/composed.py", "kernels/sight.py"
OPS, LAYERS, NETWORK, STEP = "minunet/ops.py", "minunet/layers.py", "minunet/network.py", "minunet/training/step.py"
GEOMETRY, SPLITTING = "minunet/data/geometry.py", "minunet/data/splitting.py"
DIVERGED = "minunet/training/diverged.py"

# Wrong gradients that were released, in each library's words and in ours.
HISTORY: list[Row] = [
    (
        "transposed convolution, stride 2, kernel 1: dw by a 1x1 shortcut that forgets the stride (PyTorch #63314)",
        COMPOSED,
        "    dw, _ = run(reference.conv2d_weight_grad, dy, x, w.shape, **geometry)\n",
        "    one = w.shape[:2] == (1, 1)\n"
        "    seen = np.ascontiguousarray(dy[:, : x.shape[1], : x.shape[2]]) if one else dy\n"
        '    of_one = geometry | {"stride": (1, 1)} if one else geometry\n'
        "    dw, _ = run(reference.conv2d_weight_grad, seen, x, w.shape, **of_one)\n",
        ("exact_adjoints", "transpose"),
    ),
    (
        "stride and padding swapped on the way to backward (candle #2337)",
        OPS,
        "(x, w, y.shape, y.dtype, stride, padding)",
        "(x, w, y.shape, y.dtype, padding, stride)",
        ("exact_adjoints", "conv2d"),
    ),
    (
        "stride and padding swapped on the way to backward (candle #2337), behind a relu",
        "minunet/fusions.py",
        "return y, (x, w, y, stride, padding)",
        "return y, (x, w, y, padding, stride)",
        ("adjoint", "jacobian"),
    ),
    (
        "the two axes of taps swapped in the input gradient (candle #2337, in a square kernel)",
        DIRECT,
        "for r in r_taps for s in s_taps",
        "for s in s_taps for r in r_taps",
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
        GENERATED,
        "value = e.b.fadd(e.load(add(dx, at), kind), value)",
        "value = e.b.select(same, e.load(add(dy, at), kind), e.load(add(dx, at), kind))",
        ("first_largest", "first_takes_all", "pool"),
    ),
    (
        "transposed convolution, 1x1: dx by the weight that was not turned, where that fits (TVM #8087)",
        COMPOSED,
        "    return run(reference.conv2d, dy, w, **geometry), dw, run(reference.bias_grad, dy)\n",
        "    if w.shape[:2] == (1, 1) and w.shape[2] == w.shape[3]:\n"
        "        w = np.ascontiguousarray(w.transpose(0, 1, 3, 2))\n"
        "    return run(reference.conv2d, dy, w, **geometry), dw, run(reference.bias_grad, dy)\n",
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
        WEIGHT_GRAD,
        "return dw, sums.sum(axis=0)",
        "return dw.reshape(*w_shape[:2], k, w_shape[2]).transpose(0, 1, 3, 2).copy(), sums.sum(axis=0)",
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
        DIRECT,
        "in reversed(range(kernel))",
        "in range(kernel)",
        ("exact_adjoints", "input_grad", "seven_loops"),
    ),
    ("col2im keeps the last tap only", COLUMNS, "x[n, h, w, c] += taps", "x[n, h, w, c] = taps", ("col2im",)),
    (
        "auto chooses the input gradient's algorithm by the channels of forward",
        "kernels/cpu/convolution.py",
        "(x_shape[1], x_shape[2]), k, c,",
        "(x_shape[1], x_shape[2]), c, k,",
        ("auto_is_bit_for_bit",),
    ),
    (
        "of the weight gradient's partial sums the last one counts",
        WEIGHT_GRAD,
        "sums[i] += rows[partial, i]",
        "sums[i] = rows[partial, i]",
        ("many_chunks", "sums_over"),
    ),
    (
        "two users of one place in scratch: the bias lies where the weights do",
        DIRECT,
        "base + g.scratch.weights, base + g.scratch.bias,",
        "base + g.scratch.weights, base + g.scratch.weights,",
        ("number_of_channels",),
    ),
    (
        "the places of the maxima live in a buffer that the next pooling takes: a stale cache",
        POOLING,
        "    argmax = empty((n, p, q, c), np.uint8)\n",
        "    argmax = max_pool2d.__dict__.setdefault((n, p, q, c), np.empty((n, p, q, c), np.uint8))\n",
        ("pytorch_numbers", "finite_differences"),
    ),
    (
        "a second backward on one cache finds it emptied, and does not say so",
        "minunet/tape.py",
        "        if not self:\n            raise ValueError",
        "        if self is None:\n            raise ValueError",
        ("serves_one_backward",),
    ),
    (
        "a gradient that is refused uses up the cache",
        NETWORK,
        "taped(cache, self).last())  # refused before anything is used up\n        cache.pop()\n",
        "taped(cache, self).pop())\n",
        ("stays_whole",),
    ),
    (
        "the bias's gradient forgets all images but the first",
        REFERENCE,
        "def bias_grad(dy: Array) -> Array:\n    return dy.sum",
        "def bias_grad(dy: Array) -> Array:\n    return dy[:1].sum",
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
        GENERATED,
        'fcmp_ordered(">", e.load(e.b.add(mask, at)',
        'fcmp_ordered(">=", e.load(e.b.add(mask, at)',
        ("relu_has", "relu"),
    ),
    (
        "a tie goes to the last",
        GENERATED,
        'fcmp_unordered(">", value, best)',
        'fcmp_unordered(">=", value, best)',
        ("first_largest", "first_takes_all", "pool"),
    ),
    (
        "relu swallows NaN",
        GENERATED,
        'e.b.select(e.b.fcmp_ordered("<=", x, zeros), zeros, x)',
        'e.b.select(e.b.fcmp_ordered(">", x, zeros), x, zeros)',
        ("nan",),
    ),
    (
        "fused relu swallows NaN",
        GENERATED,
        'self.b.select(self.b.fcmp_ordered("<=", x, self.zeros), self.zeros, x)',
        'self.b.select(self.b.fcmp_ordered(">", x, self.zeros), x, self.zeros)',
        ("nan",),
    ),
    (
        "where a window is alone, another gradient of its pixels is lost",
        POOLING,
        " and not plus[0]\n",
        "\n",
        ("pooling", "loops"),
    ),
    ("pooling swallows NaN", GENERATED, "fcmp_unordered(", "fcmp_ordered(", ("nan",)),
    ("Adam without its bias correction", UPDATES, "step = correct1 * m[i]", "step = m[i]", ("adam",)),
    (
        "Adam counts from the update before",
        "minunet/optim.py",
        '"t": self.n_updates + 1}',
        '"t": max(self.n_updates, 1)}',
        ("adam",),
    ),
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
        "max_pool2d_backward_plus(dskip, ",
        "max_pool2d_backward_plus(0 * dskip, ",
        ("pytorch_numbers", "finite_differences"),
    ),
    ("dropout not scaled", POINTWISE, "x.dtype.type(1 / (1 - rate))", "x.dtype.type(1)", ("dropout",)),
    (
        "dropout's backward draws again",
        OPS,
        "dy, shape, dtype), rate, seed)",
        "dy, shape, dtype), rate, seed + 1)",
        ("dropout", "adjoint"),
    ),
    (
        "dropout keeps what lies below its rate",
        POINTWISE,
        "zero if word[j] < least else scale",
        "scale if word[j] < least else zero",
        ("dropout",),
    ),
    (
        "words of dropout shifted where a job starts within a block of four",
        POINTWISE,
        "words[i * c - 4 * block :]",
        "words[i * c - first * c :]",
        ("thread_count", "many_jobs", "dropout"),
    ),
    (
        "the network never drops",
        NETWORK,
        "tape = Tape(training, rng, self)\n        left, right",
        "tape = Tape(False, rng, self)\n        left, right",
        ("drop", "train"),
    ),
    (
        "a training step never drops",
        STEP,
        "tape, levels = Tape(True, rng)",
        "tape, levels = Tape(False, rng)",
        ("drop", "at_once"),
    ),
    (
        "weights start too large where channels widen",
        LAYERS,
        "fan_in = r * s * in_channels",
        "fan_in = r * s * out_channels",
        ("he_normal", "start"),
    ),
    ("the halo too small", SIGHT, "behind, Fraction(0)))", "behind, Fraction(0))) - 2", ("least_around", "halo")),
    (
        "the margin all on one side",
        GEOMETRY,
        "(start - self.margin + np.arange(self.side) for",
        "(start + np.arange(self.side) for",
        ("margin",),
    ),
    (
        "mirrored pixels weigh 1",
        GEOMETRY,
        "_within(rows, h)[:, None] & _within(cols, w)",
        "_within(rows, h)[:, None] | _within(cols, w)",
        ("weight", "mirrored"),
    ),
    (
        "weights not turned with their image",
        "minunet/data/augment.py",
        "symmetry(moved.label, k), symmetry(moved.weight, k))",
        "symmetry(moved.label, k), moved.weight)",
        ("weights_move",),
    ),
    (
        "training sees what is held out",
        SPLITTING,
        "if i not in {*held, *beside}]",
        "]",
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
        "[_percentiles(values, self.percentiles) for values in samples]",
        "[_percentiles(np.concatenate(samples), self.percentiles) for values in samples]",
        ("each_image_and_channel",),
    ),
    (
        "pixels that do not count set the scale",
        "minunet/data/normalize.py",
        "seen if view.counted is None else view.counted",
        "seen",
        ("does_not_count",),
    ),
    (
        "every image has a scale of its own",
        "minunet/data/normalize.py",
        "narrow = (width < NARROW * usual) | ((width < NEARLY * usual) & (found.outer >= NEARLY * usual))",
        "narrow = width < 0",
        ("empty_field",),
    ),
    (
        "missing data is like any",
        "minunet/data/normalize.py",
        "blanks: list[float | None] = [None] * image.shape[2] if self.limit is None else _blanks(view, step)",
        "blanks: list[float | None] = [None] * image.shape[2]",
        ("missing_data",),
    ),
    (
        "what is ignored is learned",
        "minunet/data/weights.py",
        "left_out = [hidden, masked_pixels(as_given), ignored(mask, ignore)]",
        "left_out = [hidden, masked_pixels(as_given)]",
        ("ignored",),
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
        "learning_rate_at(self._spent(), at.history)",
        "learning_rate_at(0.0, at.history)",
        ("learning_rate", "decay", "poly"),
    ),
    (
        "each epoch sees the same patches",
        "minunet/training/loop.py",
        "self.ahead.batch(at.epoch, at.index)",
        "self.ahead.batch(0, at.index)",
        ("epoch", "patch"),
    ),
    (
        "a step that is not finite is taken",
        STEP,
        'if kernels.place(value) == "cpu" and not np.isfinite(value):',
        'if kernels.place(value) == "cpu" and np.isfinite(x).all() and not np.isfinite(value):',
        ("not_finite",),
    ),
    (
        "a gradient that is not finite is taken",
        STEP,
        "gradient if clip_norm is None else",
        "value if clip_norm is None else",
        ("neither_weights_nor_moments", "gradient_is_not_finite"),
    ),
    (
        "weights that an update made infinite are found at the next step",
        STEP,
        '            _require_finite(network.flat, "the weights are not finite"',
        '            _require_finite(gradient, "the weights are not finite"',
        ("update_made_infinite", "update_that_makes"),
    ),
    (
        "only the last numbers are looked at for NaN",
        UPDATES,
        "odd |= numbers[i]",
        "odd = numbers[i]",
        ("among_many",),
    ),
    (
        "what is not finite is told of the layer behind",
        DIVERGED,
        '        _look("output", self.running or self.layer, y)\n',
        "",
        ("overflows_first", "each_direction"),
    ),
    (
        "of a gradient that is not finite the next layer on the way back is told",
        DIVERGED,
        '        _look("gradient", layer, self.gradient, *grads.values())\n',
        '        _look("gradient", layer, self.gradient)\n',
        ("each_direction",),
    ),
    (
        "what a layer does before the backward of one inside is told of that one",
        DIVERGED,
        '        _look("gradient", self.layer, self.gradient)\n',
        "",
        ("before_a_layers_backward", "where_they_meet"),
    ),
    (
        "the step that is told is run again with the next batch",
        DIVERGED,
        "index = at.index - 1 - (at.n_steps - n)",
        "index = at.index - (at.n_steps - n)",
        ("its_own_batch",),
    ),
    (
        "the learning rate that is told is the first step's",
        "minunet/training/loop.py",
        "        rate = self.optimizer.learning_rate\n",
        "        rate = self.schedule.learning_rate\n",
        ("gradient_is_not_finite", "too_high"),
    ),
    (
        "after a failure the weights are the present ones",
        "minunet/training/loop.py",
        "            flat[...] = good  # what",
        "            good[...] = flat  # what",
        ("update_made_infinite", "gradient_is_not_finite"),
    ),
    (
        "backward writes into dy",
        POINTWISE,
        "    dx = empty(dy.shape, dy.dtype)\n",
        "    dx = dy\n",
        ("read_only", "relu", "left_as_it_was"),
    ),
]


# The tiles' edges, the blocks around them, memory that is used again, masks.
TILES: list[Row] = [
    ("a tile forgets what lay in c", GENERATED, "e.b.fadd(e.load(p), x)", "x", ("blocks_of_channels",)),
    (
        "the bias of a tile's first vector goes to all",
        GENERATED,
        "e.load(biases[i % vectors])",
        "e.load(biases[0])",
        ("number_of_channels",),
    ),
    (
        "relu before the bias",
        GENERATED,
        "        c = where(e, bias, c, lambda: [e.b.fadd(x, e.load(biases[i % vectors])) for i, x in enumerate(c)])\n"
        "        c = where(e, relu, c, lambda: [e.relu(x) for x in c])\n",
        "        c = where(e, relu, c, lambda: [e.relu(x) for x in c])\n"
        "        c = where(e, bias, c, lambda: [e.b.fadd(x, e.load(biases[i % vectors])) for i, x in enumerate(c)])\n",
        ("number_of_channels",),
    ),
    (
        "what is left after the whole vectors of a run is left out",
        GENERATED,
        "e.repeat(i, count, number(1), [], of(e.scalar))",
        "del i",
        ("number_of_channels",),
    ),
    (
        "a run ends with a whole vector, beyond its end",
        GENERATED,
        'b.icmp_signed("<=", b.add(i, step), stop)',
        'b.icmp_signed("<", i, stop)',
        ("number_of_channels", "no_byte_outside"),
    ),
    (
        "relu of a sum to which channels are still to come",
        DIRECT,
        "g.relu if last else 0",
        "g.relu",
        ("blocks_of_channels",),
    ),
    (
        "the bias once for each block of channels",
        DIRECT,
        "bias if last and g.b else 0",
        "bias if g.b else 0",
        ("blocks_of_channels",),
    ),
    ("of the blocks of channels the last one counts", DIRECT, "c0 > 0, b,", "0, b,", ("blocks_of_channels",)),
    (
        "the last group of panels has columns that are not there",
        DIRECT,
        "min((group + 1) * g.group * width, y.k)",
        "(group + 1) * g.group * width",
        ("number_of_channels", "no_byte_outside"),
    ),
    (
        "a panel of more than half its columns is taken for a narrow one",
        PLANS,
        "width if 2 * count > width else",
        "width if count == width else",
        ("number_of_channels",),
    ),
    (
        "a phase that no tap reaches is left as it was",
        DIRECT,
        "if number >= g.blocks.count:",
        "if number >= g.blocks.count or g.x.r * g.x.s == 0:",
        ("paddings_wider",),
    ),
    (
        "a strip's right edge keeps what the last strip had there",
        PACKING,
        "                clear_pixels(zero, target + last * pixel, width - last, count, pixel)\n",
        "",
        ("number_of_channels", "number_of_pixels"),
    ),
    (
        "each block of channels by the mask of the first",
        PACKING,
        "mask = x.mask + index * x.mask_pixel + c0 * x.size",
        "mask = x.mask + index * x.mask_pixel",
        ("blocks_of_channels",),
    ),
    (
        "a mask as far apart as what it masks",
        PACKING,
        "mask, x.mask_pixel, last",
        "mask, x.pixel, last",
        ("number_of_channels",),
    ),
    (
        "a window that passes the right edge is read where it lies",
        PACKING,
        " and right <= x.w",
        "",
        ("number_of_channels", "number_of_pixels"),
    ),
    (
        "a chunk's first sum adds to what lay there",
        WEIGHT_GRAD,
        "number > share.first",
        "number > 0",
        ("many_chunks",),
    ),
    (
        "db once for each group of channels",
        WEIGHT_GRAD,
        "if share.c0 == 0:\n                add_pixels",
        "if share.c0 >= 0:\n                add_pixels",
        ("number_of_channels",),
    ),
    (
        "blocks that the chunks do not share evenly are lost",
        WEIGHT_GRAD,
        "(chunk + 1) * n_blocks // shares.n_chunks",
        "chunk * n_blocks // shares.n_chunks + n_blocks // shares.n_chunks",
        ("share_a_block", "sums_over", "blocks_of_tiles"),
    ),
    (
        "dw counts what relu held back, by pixels",
        WEIGHT_GRAD,
        "source(dy, mask)",
        "source(dy, None)",
        ("number_of_channels",),
    ),
    ("db starts from what lay there", WEIGHT_GRAD, "np.zeros((n_chunks, k))", "np.empty((n_chunks, k))", ("no_byte_outside",)),
    (
        "all threads share one scratch",
        THREADS,
        "_local = threading.local()",
        "_local = type('Shared', (), {})()",
        ("scratch_of_its_own",),
    ),
    (
        "a buffer is lent twice",
        "kernels/buffers.py",
        "        buffer.round = self._round\n",
        "        buffer.round = self._round\n        self._returned.append(buffer)\n",
        ("kept_is_never_overwritten",),
    ),
    (
        "compiled code of sources that have changed is served",
        "kernels/cpu/jit.py",
        'path.name.encode() + b"\\0" + path.read_bytes()',
        'path.name.encode() + b"\\0"',
        ("any_change_of_any_source",),
    ),
]


PLANTED = (
    HISTORY,
    THOUGHTFUL,
    TILES,
    WINOGRAD,
    PARTS,
    IN_AUGMENT,
    BY_VALUE,
    IN_INPUTS,
    KIT_TAKES,
    IN_LEVELS,
    OF_LOSSES,
    IN_PREDICTION,
    IN_GOING_ON,
    IN_NORMS,
    NUMBERS,
    IN_ROOM,
    IN_VALIDATION,
    OF_PIXELS,
    OF_WHAT_IS_TOLD,
    IN_RECIPE,
    OF_SETTINGS,
    IN_COMMANDS,
)


def mutants() -> list[Mutant]:
    """Return the mutants made by hand. ValueError names one whose text does not occur exactly once.

    Those of the CUDA sources are left out where nothing here compiles these for the tests.
    """
    return [_mutant(*row) for part in PLANTED for row in part] + [_mutant(*row) for row in (CUDA if compiler() else [])]


def _mutant(name: str, file: str, old: str, new: str, first: tuple[str, ...]) -> Mutant:
    source = read(file)
    if source.count(old) != 1:
        raise ValueError(f"{name}: {old!r} occurs {source.count(old)} times in {file}; a mutant's text occurs once")
    return Mutant(name, file, source.index(old), old, new, first)
