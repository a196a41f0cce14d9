"""Errors planted in Winograd's algorithm, in the catalogue's form: its matrices, its tiles' edges, its blocks, its choice."""

from __future__ import annotations

from .mutant import Row

FORWARD, WEIGHT_GRAD, MATRICES, TRANSFORMS, WINDOWS, CHOICE, PACKING, COPIES, PLANS, SHARES = (
    f"kernels/cpu/{name}.py"
    for name in (
        "winograd", "winograd_weight_grad", "winograd_matrices", "transforms", "windows", "choice", "packing", "copies",
        "plans", "direct_weight_grad",
    )
)  # fmt: skip

# Where no more than memory tells: "winograd]" is what the test of the bytes beside an array runs.
BYTES = ("winograd]", "no_byte_outside")

IN_MATRICES: list[Row] = [
    ("a point's distances without their signs", MATRICES, "math.prod(a - b", "math.prod(abs(a - b)", ("matrices_correlate",)),
    (
        "the point at infinity gives the first output, not the last",
        MATRICES,
        "[int(i == m - 1)]",
        "[int(i == 0)]",
        ("matrices_correlate",),
    ),
    ("points farther out, right but for the rounding", MATRICES, "1, -1, 2, -2)", "1, -1, 3, -3)", ("f4x4_is_exact",)),
    (
        "half of dw's divisor goes into G as what no float holds",
        MATRICES,
        "2 ** (self.divisor - 1).bit_length()",
        "self.divisor",
        ("f4x4_is_exact",),
    ),
    ("divided for rows alone, not for columns", TRANSFORMS, "e.constant(divisor**2)", "e.constant(divisor)", ("f2x2_is_exact",)),
    (
        "dw divided twice by the power of two that dy was divided by",
        WEIGHT_GRAD,
        "w.divisor / w.power)",
        "w.divisor)",
        ("f2x2_is_exact",),
    ),
    (
        "a point and its negative give the same",
        TRANSFORMS,
        "= e.b.fadd(a, b), e.b.fsub(a, b)",
        "= e.b.fadd(a, b), e.b.fadd(a, b)",
        ("f2x2",),
    ),
    ("a coefficient of -1 is taken for 1", TRANSFORMS, "e.b.fsub(total, value)", "e.b.fadd(total, value)", ("f2x2_is_exact",)),
]

AT_EDGES: list[Row] = [
    (
        "the input gradient padded as the forward pass was",
        FORWARD,
        "(2 - padding[0], 2 - padding[1])",
        "padding",
        ("f2x2_is_exact",),
    ),
    ("the input gradient's taps not flipped", FORWARD, "np.arange(TAPS)[::-1]", "np.arange(TAPS)", ("f2x2_is_exact",)),
    (
        "a tile that hangs over the right edge is stored whole",
        FORWARD,
        "height == m and wide == m and at",
        "height == m and at",
        ("f2x2_is_exact",),
    ),
    (
        "a vector that passes the last of k is stored whole",
        FORWARD,
        "wide == m and at + VECTOR <= count * size",
        "wide == m",
        ("f2x2_is_exact",),
    ),
    (
        "a vector of dw that passes the last of k is stored whole",
        WEIGHT_GRAD,
        "if first + VECTOR // size <= count:",
        "if first < count:",
        ("f2x2_is_exact",),
    ),
    (
        "each vector of a tile has the bias of the first",
        FORWARD,
        "bias + at if g.b",
        "bias if g.b",
        ("f2x2_is_exact",),
    ),
    (
        "relu before the bias, behind the tiles",
        TRANSFORMS,
        "        flat = where(e, bias, flat, lambda: _add_bias(e, flat, bias))\n"
        "        flat = where(e, relu, flat, lambda: [e.relu(x) for x in flat])\n",
        "        flat = where(e, relu, flat, lambda: [e.relu(x) for x in flat])\n"
        "        flat = where(e, bias, flat, lambda: _add_bias(e, flat, bias))\n",
        ("f2x2_is_exact",),
    ),
    (
        "the input gradient of what relu held back",
        FORWARD,
        "source(dy, mask, (3, 3)",
        "source(dy, None, (3, 3)",
        ("f2x2_is_exact",),
    ),
    (
        "dw counts what relu held back",
        WEIGHT_GRAD,
        "source(dy, mask)",
        "source(dy, None)",
        ("f2x2_is_exact",),
    ),
    (
        "dy counts where the mask is NaN",
        COPIES,
        'fcmp_ordered(">", e.load(e.b.add(now[2]',
        'fcmp_unordered(">", e.load(e.b.add(now[2]',
        ("what_the_mask_hides",),
    ),
    (
        "the input gradient goes elsewhere than where it was asked to",
        FORWARD,
        "dx = empty(x_shape, dy.dtype) if out is None else out",
        "dx = empty(x_shape, dy.dtype)",
        ("slice_of_channels_goes",),
    ),
    ("db has a tile's first element only", TRANSFORMS, "functools.reduce(e.b.fadd, elements)", "elements[0]", ("f2x2_is",)),
    (
        "db from the plane before its own",
        WEIGHT_GRAD,
        "here + planes * g.d",
        "here + (planes - 1) * g.d",
        ("f2x2_is_exact",),
    ),
    (
        "from weights that lie in columns, what fills no square begins a row late",
        PACKING,
        "for d in range(squares, depth):\n                    rows[d, i] = column[d]",
        "for d in range(squares + 1, depth):\n                    rows[d, i] = column[d]",
        ("f2x2_is_exact",),
    ),
    (
        "a square of weights is taken where only some of its columns are",
        PACKING,
        "if j + step <= count else 0",
        "if j < count else 0",
        BYTES,
    ),
    ("a square turned without its smallest squares", COPIES, "    step = 1\n", "    step = 2\n", ("f2x2_is_exact",)),
    ("of a panel's two vectors one is copied", COPIES, "for v in range(2):", "for v in range(1):", ("f2x2_is_exact",)),
    (
        "a panel of doubles has as many as one of floats",
        COPIES,
        "number(ISA.panel_bytes // e.size)",
        "number(ISA.panel_bytes // 4)",
        ("number_of_channels",),
    ),
]

IN_BLOCKS: list[Row] = [
    (
        "the images of a block after the first begin two rows early",
        WINDOWS,
        "                start += halo * row\n",
        "",
        ("f2x2_is_exact",),
    ),
    (
        "every block begins at the image's left edge",
        WINDOWS,
        "m * block.q0, m * block.q1)",
        "0, m * (block.q1 - block.q0))",
        ("blocks_of_tiles",),
    ),
    ("of the images that share a block one is there", PLANS, "min(n0 + cut.block_n, cut.n)", "n0 + 1", ("blocks_of_tiles",)),
    (
        "blocks that the tiles do not fill are lost",
        PLANS,
        "-(-n // block_n) * -(-p // block_p) * -(-q // block_q)",
        "(n // block_n) * (p // block_p) * (q // block_q)",
        ("blocks_of_tiles",),
    ),
    (
        "of the blocks of channels the last one counts, in Winograd's sums",
        FORWARD,
        "(c0 > 0, 0, 0)",
        "(0, 0, 0)",
        ("blocks_of_tiles",),
    ),
    (
        "what fills a tile's rows up adds to the first of them",
        FORWARD,
        "(1, 1, most // ROWS * ROWS), (0, 0, PANEL)",
        "(1, 1, tiles), (0, 0, PANEL)",
        ("blocks_of_tiles",),
    ),
    (
        "a tile is done behind its first block of channels",
        FORWARD,
        "if c1 == x.c:",
        "if c0 == 0:",
        ("blocks_of_tiles",),
    ),
    (
        "the panels of a group share one place for their sums",
        FORWARD,
        "here = (k - k0) // width * g.panel",
        "here = 0",
        ("blocks_of_tiles",),
    ),
    (
        "a job's memory has room for the sums of one panel",
        FORWARD,
        "plane_bytes(kept * tiles * PANEL)",
        "plane_bytes(tiles * PANEL)",
        BYTES,
    ),
    (
        "the one tap's offset is what lay in scratch",
        FORWARD,
        "(1,))[0] = 0  # one tap",
        "(1,))[:0] = 0  # one tap",
        BYTES,
    ),
    (
        "planes begin in the last page of the one before",
        FORWARD,
        "-(-size // 4096) * 4096",
        "size // 4096 * 4096",
        ("blocks_of_tiles",),
    ),
    (
        "jobs counted by groups first, cut by blocks first",
        FORWARD,
        "group, number = divmod(job,",
        "number, group = divmod(job,",
        ("blocks_of_tiles",),
    ),
    (
        "a job's group of channels by the number of those of k",
        SHARES,
        "divmod(job, -(-shares.c // shares.group_c))",
        "divmod(job, -(-shares.k // shares.group_k))",
        ("blocks_of_tiles",),
    ),
    (
        "as many chunks as threads",
        SHARES,
        "min(-(-n_jobs // n_groups), ",
        "min(launch.__globals__['n_threads'](), ",
        ("by_any_threads",),
    ),
    (
        "the larger the batch, the smaller the blocks of channels",
        FORWARD,
        'evenly(x["c"], CHANNELS)',
        'evenly(x["c"], CHANNELS // y["n"])',
        ("alone_or_in_a_batch",),
    ),
    (
        "half a panel of dy is laid out as a whole one",
        WINDOWS,
        "-(-min(width, c1 - c) * x.size // VECTOR) * VECTOR",
        "min(PANEL, (min(width, c1 - c) * x.size // VECTOR + 1) * VECTOR)",
        ("f2x2_is_exact", "blocks_of_tiles"),
    ),
    (
        "a chunk's sums are stored behind its first block",
        WEIGHT_GRAD,
        "if number + 1 == share.last:",
        "if number == share.first:",
        ("blocks_of_tiles",),
    ),
    (
        "a chunk's first sums add to what lay in scratch",
        WEIGHT_GRAD,
        "number > share.first,",
        "number > 0,",
        ("blocks_of_tiles",),
    ),
    (
        "db once for each group of channels, by tiles",
        WEIGHT_GRAD,
        "if share.c0 == 0:",
        "if share.c0 >= 0:",
        ("blocks_of_tiles",),
    ),
]

IN_THE_CHOICE: list[Row] = [
    ("float64 loses two digits to speed", CHOICE, "if np.dtype(dtype) != np.float32:", "if c == 0:", ("float64_is_direct",)),
    ("what is less than a tile costs nothing", CHOICE, "-(-h // 4) * -(-w // 4)", "(h // 4) * (w // 4)", ("work_counts",)),
    ("the dearest is chosen", CHOICE, "return min(totals", "return max(totals", ("cheapest",)),
]

WINOGRAD = IN_MATRICES + AT_EDGES + IN_BLOCKS + IN_THE_CHOICE
