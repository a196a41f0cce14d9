"""Which test files try a source file's mutants: its own first, then those of what is built on it.

The patterns take what is there: a file of tests that moves or comes along needs no line here, unless its folder is new.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from .mutant import ROOT

MATHEMATICS = [
    "tests/kernels/**/test_*.py", "tests/minunet/test_ops.py", "tests/minunet/test_layers.py", "tests/minunet/test_losses.py",
    "tests/minunet/test_optim.py", "tests/proof/**/test_*.py", "tests/minunet/test_network.py", "tests/minunet/test_norms.py",
    "tests/minunet/training/test_loop.py", "tests/minunet/test_unet.py",
]  # fmt: skip
WINOGRAD = [f"tests/kernels/cpu/test_{name}.py" for name in ("winograd", "extremes", "memory")]
ESTIMATOR = [
    "tests/minunet/training/test_*.py", "tests/minunet/evaluation/test_*.py",
    *(f"tests/minunet/test_{name}.py" for name in ("fitting", "settings", "unet", "norms")),
]  # fmt: skip
COMMANDS = ["tests/minunet/cli/test_*.py"]
MODEL = [
    f"tests/minunet/test_{name}.py"
    for name in (
        "settings", "parameters", "predicting", "thresholds", "targets", "warmstart", "description", "scikit", "modelfile",
    )
]  # fmt: skip
WRITTEN = [
    *(f"tests/minunet/test_{name}.py" for name in ("files", "writing", "leftovers", "checkpoint_files", "predicting")), *COMMANDS,
]  # fmt: skip
READ = ["tests/minunet/data/test_*.py", "tests/fuzz/test_hostile_files.py", *COMMANDS]
READERS = (
    "codes", "contradictions", "fax", "folders", "images", "inflate", "look", "lzw", "mistakes", "page", "pairing", "pillow",
    "pixelsize", "refusal", "survey", "tiff",
)  # fmt: skip
TOLD = ("bar", "log", "program", "signals", "streams", "warn")  # what the commands say, and when they end
DOORS = "tests/doors/test_*.py"
WARPED = ["tests/kernels/test_warping.py", "tests/minunet/data/test_geometry.py"]
GOING_ON = "tests/minunet/test_checkpoint.py"

NUMBERLESS = [
    "tests/kernels/test_shapes.py", *(f"tests/minunet/test_{name}.py" for name in ("sizes", "summary", "network", "blocks")),
    "tests/minunet/evaluation/test_tiles.py", "tests/minunet/training/test_memory.py",
]  # fmt: skip

# What follows the file's own tests, by the start of its path: the first that fits.
FOLLOWING: list[tuple[str, list[str]]] = [
    *((f"{folder}warping.py", WARPED) for folder in ("kernels/cpu/", "kernels/")),
    ("kernels/cpu/updates.py", ["tests/minunet/test_optim.py", *MATHEMATICS]),
    ("kernels/cpu/loss.py", ["tests/minunet/test_losses.py", *MATHEMATICS]),
    *((f"kernels/cpu/{name}", [*WINOGRAD, *MATHEMATICS]) for name in ("winograd", "windows", "transforms")),
    ("kernels/gpu/", ["tests/kernels/gpu/test_gpu_*.py", "tests/minunet/test_devices.py", *MATHEMATICS]),
    ("kernels/shapes.py", [*NUMBERLESS, "tests/minunet/test_unet.py", *MATHEMATICS]),
    ("kernels/sight.py", [*NUMBERLESS, *MATHEMATICS]),
    ("kernels/composed.py", ["tests/proof/test_proof_fusions.py", *MATHEMATICS]),
    ("kernels/updates.py", ["tests/minunet/test_optim.py", "tests/kernels/test_contract.py", *MATHEMATICS]),
    ("kernels/", MATHEMATICS),
    ("minunet/cli/", COMMANDS),
    ("minunet/data/fingerprint.py", [GOING_ON]),
    *((f"minunet/data/{name}", [*READ, *ESTIMATOR]) for name in READERS),
    ("minunet/data/", ["tests/minunet/data/test_*.py", *ESTIMATOR]),
    ("minunet/training/step.py", ["tests/minunet/test_network.py", *ESTIMATOR]),
    ("minunet/training/memory.py", [*NUMBERLESS, *ESTIMATOR]),
    ("minunet/training/budget.py", ESTIMATOR),
    ("minunet/room.py", ESTIMATOR),
    ("kernels/groups.py", ["tests/kernels/test_cores.py", "tests/minunet/test_room.py"]),
    ("minunet/training/", [GOING_ON, *ESTIMATOR]),
    ("minunet/evaluation/", ESTIMATOR),
    ("minunet/fusions.py", ["tests/proof/test_proof_ops.py", *MATHEMATICS[1:]]),
    ("minunet/sizes.py", [*NUMBERLESS, *MATHEMATICS[1:]]),
    ("minunet/blocks.py", [*NUMBERLESS, *MATHEMATICS[1:]]),
    ("minunet/losses.py", ["tests/proof/test_proof_loss.py", *MATHEMATICS[1:]]),
    ("minunet/modelfile.py", [f"tests/minunet/test_{name}.py" for name in ("norms", "description", "blocks", "unet")]),
    ("minunet/description.py", [f"tests/minunet/test_{name}.py" for name in ("saved_fields", "losses", "unet")]),
    ("minunet/trainingstate.py", [GOING_ON, "tests/minunet/test_checkpoint_files.py", "tests/fuzz/test_*.py"]),
    ("minunet/fitting.py", [GOING_ON, *ESTIMATOR]),
    ("minunet/scikit.py", ["tests/minunet/test_scikit_searches.py", "tests/minunet/test_unet.py"]),
    ("minunet/text.py", ["tests/minunet/test_untrusted.py", "tests/minunet/data/test_hostile_images.py"]),
    ("minunet/untrusted.py", ["tests/minunet/test_description.py", "tests/minunet/test_modelfile.py"]),
    ("minunet/unet.py", [*MODEL, "tests/minunet/data/test_weights.py", *ESTIMATOR, *COMMANDS]),
    *((f"minunet/{name}.py", [*MODEL, *ESTIMATOR]) for name in ("finding", "parameters", "predicting", "warmstart")),
    *((f"minunet/{name}.py", WRITTEN) for name in ("files", "leftovers", "writing")),
    *((f"minunet/{name}.py", [*COMMANDS, *ESTIMATOR]) for name in TOLD),
    ("minunet/testing/", ["tests/minunet/testing/test_*.py"]),
    ("minunet/", ["tests/minunet/test_blocks.py", "tests/minunet/test_supervision.py", DOORS, *MATHEMATICS[1:]]),
]


def files_for(file: str, root: Path = ROOT) -> list[str]:
    """Return the test files that a mutant of `file` has to pass to survive, as paths from the root, in order."""
    path = PurePosixPath(file)
    own = f"tests/{path.parent}/test_{path.name}"  # tests/ mirrors both packages by path
    following = next(patterns for start, patterns in FOLLOWING if file.startswith(start))
    found = [own] if (root / own).is_file() else []
    for pattern in following:
        found += sorted(p.relative_to(root).as_posix() for p in root.glob(pattern))
    return list(dict.fromkeys(found))


def likely(files: list[str], words: tuple[str, ...], root: Path = ROOT) -> list[str]:
    """Return the files, at most three, with tests named by the first words: to collect all of them takes seconds."""
    texts = {file: (root / file).read_text(encoding="utf-8") for file in files}
    found = [file for word in words for file in files if re.search(rf"def test_\w*{word}", texts[file])]
    return list(dict.fromkeys(found))[:3]
