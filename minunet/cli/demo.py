"""`minunet demo`: learn synthetic tissue, and show what was learned."""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path
from typing import Any

from .. import files, signals
from ..text import printable
from . import outputs

HELP = "train on synthetic tissue for two to three minutes and draw the result"
DESCRIPTION = (
    "Train a U-Net on synthetic electron microscopy, score it on unseen images beside a tuned blur-and-threshold, and write "
    "demo.png and demo.safetensors."
)
EXAMPLES = "example: minunet demo --output results"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=Path("."), metavar="DIR", help="where to write (default: here)")
    parser.add_argument("--force", action="store_true", help="replace a demo that is there")


def run(arguments: argparse.Namespace) -> int:
    demo(arguments.output, arguments.force)
    return 0


def demo(
    output: Path, force: bool = False, *, n_train: int = 16, n_test: int = 8, size: int = 256, **settings: Any
) -> dict[str, float]:
    """Train, score, and write the picture and the model into the folder `output`; settings go to UNet. Return the scores."""
    from .. import UNet  # here, so that `minunet --help` loads no compiler
    from ..data.datasets import cells
    from ..evaluation.baseline import BlurThreshold
    from ..evaluation.metrics import pixel_error
    from . import picture
    from .rescue import keep, keep_last_good

    paths = output / "demo.png", output / "demo.safetensors"
    outputs.require_free(paths, force)
    model = files.Output(paths[1].absolute(), force)  # the current folder may vanish
    for path in paths:
        files.require_writable(files.Output(path, force))
    print(f"Synthetic tissue: {n_train} images of {size} x {size} to learn from, {n_test} others to be judged on.", flush=True)
    x, y = cells(n_train + n_test, size)
    baseline = BlurThreshold().fit(x[:n_train], y[:n_train])
    baseline_error = pixel_error(y[n_train:], baseline.predict(x[n_train:]))

    # Small patches: more steps in the same time.
    unet = UNet(**{"patch_size": 128, "max_epochs": 16, "random_state": 0} | settings)
    print("Training a U-Net: every layer's forward and backward pass is minunet's own.", flush=True)
    start = time.perf_counter()
    try:
        unet.fit(x[:n_train], y[:n_train])
    except BaseException:
        if hasattr(unet, "network_"):
            keep_last_good(unet, model, force=force)
        raise
    seconds = time.perf_counter() - start

    kept = keep(unet, model, force=force)  # first: no picture is worth a model
    if unet.interrupted_:
        raise KeyboardInterrupt
    if running := signals.of_command_line():
        running.release()
    predicted, probability = unet.predict(x[n_train:]), unet.predict_proba(x[n_train:])
    error, dice = pixel_error(y[n_train:], predicted), unet.score(x[n_train:], y[n_train:])
    drawn = picture.draw(
        x[n_train:][:2], y[n_train:][:2], predicted[:2], probability[:2, ..., 0], unet.history_,
        f"{unet.n_parameters_:,} parameters, {n_train} training images, {seconds:.0f} s. On {n_test} unseen images: "
        f"pixel error {error:.1%}, blur and threshold {baseline_error:.1%}",
    )  # fmt: skip
    content = io.BytesIO()
    drawn.save(content, "PNG")
    with signals.held():
        files.atomic_write(files.Output(paths[0], force), content.getvalue())
    print(f"{unet.n_parameters_:,} parameters, trained in {seconds:.0f} s. On unseen images:")
    print(f"  pixel error, U-Net                      {error:.4f}   (mean Dice {dice:.3f})")
    print(f"  pixel error, blur + threshold (tuned)   {baseline_error:.4f}   (sigma {baseline.sigma_})")
    print(f"  ratio                                   {error / baseline_error:.2f}")
    also = f" and {printable(paths[1])} (minunet.load reads it)" if kept else ""
    print(f"Wrote {printable(paths[0])} (look at it){also}.")
    return {"pixel_error": error, "baseline_error": baseline_error, "dice": dice, "seconds": seconds}
