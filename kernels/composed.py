"""Kernels that need no code of their own: each backend composes them of its others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Kernel = Callable[..., Any]
POINTS: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0)}  # of a 1 x 1 convolution: each pixel by itself


def linear_cross_entropy_of(empty: Kernel, conv2d: Kernel, softmax_cross_entropy: Kernel, conv2d_grads: Kernel) -> Kernel:
    """Return the contract's linear_cross_entropy, composed of these: its logits are an array, in the dtype of w."""

    def linear_cross_entropy(x: Any, w: Any, b: Any, labels: Any, weights: Any) -> tuple[Any, Any, Any, Any]:
        """Return the loss of the logits x w + b, and its gradients dx, dw, db."""
        logits = empty((*x.shape[:3], w.shape[3]), w.dtype)
        loss, dlogits = softmax_cross_entropy(conv2d(x, w, b, out=logits, **POINTS), labels, weights)
        del logits
        return loss, *conv2d_grads(x, dlogits, w, **POINTS)

    return linear_cross_entropy
