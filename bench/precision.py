"""What does a GPU's precision cost a trained model?

    python bench/precision.py

Measured on the CPU, with numbers rounded as on a GPU: trains on synthetic tissue in float32, in TF32 (both factors of each
product rounded to 11 bits) and in bf16 (factors, and all activations and their gradients, rounded to 8 bits), from the same
weights on the same patches, and scores images that none has seen. Other seeds show how much chance there is in a score.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import measure
import numpy as np
from ml_dtypes import bfloat16

from minunet import UNet, kernels
from minunet.datasets import cells
from minunet.evaluation.metrics import iou, pixel_error
from minunet.kernels.gpu.plan import LEAST_CHANNELS

# The arguments that are multiplied, by their places.
FACTORS = {
    "conv2d": (0, 1), "conv2d_relu": (0, 1), "conv2d_input_grad": (0, 1), "conv2d_weight_grad": (0, 1),
    "conv2d_grads": (0, 1, 2), "conv2d_relu_grads": (0, 1, 2), "conv_transpose2d": (0, 1), "linear_cross_entropy": (0, 1),
}  # fmt: skip
# Which result is an activation, of those that give one.
STORED = {
    "conv2d": 0, "conv2d_relu": 0, "conv2d_input_grad": 0, "conv2d_grads": 0, "conv2d_relu_grads": 0, "conv_transpose2d": 0,
    "linear_cross_entropy": 1, "max_pool2d": 0, "max_pool2d_grad": 0, "max_pool2d_grad_plus": 0, "relu": 0, "relu_grad": 0,
    "dropout": 0,
}  # fmt: skip
Kernel = Callable[..., Any]


def main() -> None:
    """Train in each precision with each seed; print what each scores."""
    parser = measure.parser(__doc__)
    parser.add_argument("--seeds", type=measure.whole, default=3, metavar="N", help="trainings in each precision (default: 3)")
    parser.add_argument("--epochs", type=measure.whole, default=12, metavar="N", help="of 25 steps (default: 12)")
    parser.add_argument("--side", type=measure.whole, default=128, metavar="PIXELS", help="of images (default: 128)")
    parser.add_argument("--images", type=measure.whole, default=16, metavar="N", help="to learn from; half as many to score")
    arguments = parser.parse_args()
    report = measure.Report(__doc__, arguments.json)
    x, y = cells(arguments.images * 3 // 2, arguments.side)
    data = x[: arguments.images], y[: arguments.images], x[arguments.images :], y[arguments.images :]
    scores = {
        precision: [score(*data, precision, arguments.epochs, seed) for seed in range(arguments.seeds)]
        for precision in kernels.PRECISIONS
    }
    for i, name in enumerate(("pixel error", "IoU of membranes")):
        report.table(name, ["precision", *(f"seed {seed}" for seed in range(arguments.seeds)), "mean"])
        for precision, found in scores.items():
            values = [one[i] for one in found]
            report.row(precision, *(f"{value:.4f}" for value in (*values, float(np.mean(values)))))
    report.write(scores=scores)


def score(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, precision: str, epochs: int, seed: int
) -> tuple[float, float]:
    """Train on x and y in that precision; return pixel error and IoU of what is found in x_test."""
    unet = UNet(depth=3, patch_size=128, max_epochs=epochs, random_state=seed, device="cpu", verbose=0)
    backend = Rounded(kernels.for_array(x), precision)
    with mock.patch.object(kernels, "for_array", lambda a: backend):
        found = unet.fit(x, y).predict(x_test)
    return pixel_error(y_test, found), float(iou(y_test, found)[0])


class Rounded:
    """The CPU's kernels, with their numbers rounded as a GPU rounds them in that precision."""

    def __init__(self, backend: Any, precision: str) -> None:
        self._backend, self._precision = backend, precision

    def __getattr__(self, name: str) -> Kernel:
        kernel = getattr(self._backend, name)
        if name in FACTORS and self._precision != "float32":
            kernel = self._of_rounded_factors(kernel, FACTORS[name])
        return self._stored(kernel, name) if name in STORED and self._precision == "bf16" else kernel

    def _of_rounded_factors(self, kernel: Kernel, factors: tuple[int, ...]) -> Kernel:
        @functools.wraps(kernel)
        def run(*args: Any, **options: Any) -> Any:
            if self._precision == "tf32" and min(args[i].shape[3] for i in factors) < LEAST_CHANNELS:
                return kernel(*args, **options)  # not on tensor cores
            to = bfloat16_of if self._precision == "bf16" else tf32_of
            return kernel(*(to(a) if i in factors else a for i, a in enumerate(args)), **options)

        return run

    def _stored(self, kernel: Kernel, name: str) -> Kernel:
        @functools.wraps(kernel)
        def run(*args: Any, **options: Any) -> Any:
            results = kernel(*args, **options)
            a = results[STORED[name]] if isinstance(results, tuple) else results
            logits = name == "conv2d" and args[1].shape[3] < LEAST_CHANNELS
            if a is not None and not logits:
                a[...] = bfloat16_of(a)
            return results

        return run


def bfloat16_of(a: np.ndarray) -> np.ndarray:
    """Return a, rounded to 8 significant bits."""
    return a.astype(bfloat16).astype(np.float32)


def tf32_of(a: np.ndarray) -> np.ndarray:
    """Return a, rounded to 11 significant bits; of two equally near numbers to the one away from zero, as conv.cu does."""
    return ((np.ascontiguousarray(a).view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


if __name__ == "__main__":
    main()
