"""Make torch_*.npz: logits and every gradient of small U-Nets, computed by PyTorch in float64.

    python tests/data/make_torch_fixtures.py          (needs torch; the tests that read the files do not)

Each file holds config (JSON), x, labels, logits, dx, and for each parameter p.<name> and g.<name>, in minunet's names and
layouts: convolutions (R, S, C, K), up-convolutions (R, S, K out, C in), activations (N, H, W, C).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

CASES = {
    "same": {"in_channels": 3, "out_channels": 3, "base_channels": 3, "depth": 2, "padding": "same"},
    "valid": {"in_channels": 1, "out_channels": 2, "base_channels": 5, "depth": 1, "padding": "valid"},
}
SIZES = {"same": (2, 12, 8), "valid": (2, 20, 22)}


def main() -> None:
    """Write all cases beside this script."""
    for name, config in CASES.items():
        torch.manual_seed(len(name))
        n, h, w = SIZES[name]
        x = torch.randn(n, config["in_channels"], h, w, dtype=torch.float64, requires_grad=True)
        parameters = make_parameters(**config)
        logits = forward(x, parameters, config["depth"], config["padding"])
        labels = torch.randint(0, config["out_channels"], (n, *logits.shape[2:]))
        functional.cross_entropy(logits, labels).backward()
        arrays = {"x": channels_last(x), "labels": labels.numpy(), "logits": channels_last(logits), "dx": channels_last(x.grad)}
        for key, p in parameters.items():
            arrays["p." + key], arrays["g." + key] = as_minunet(p), as_minunet(p.grad)
        path = Path(__file__).parent / f"torch_{name}.npz"
        np.savez_compressed(path, config=json.dumps(config), **arrays)
        print(path.name, path.stat().st_size, "bytes")


def make_parameters(in_channels: int, out_channels: int, base_channels: int, depth: int, padding: str) -> dict:
    """Return random parameters by minunet's names, in PyTorch's layouts."""
    channels = [base_channels * 2**i for i in range(depth + 1)]
    parameters: dict[str, torch.Tensor] = {}

    def add(name: str, *shape: int, k: int) -> None:
        scale = (2 / np.prod(shape[1:])) ** 0.5
        parameters[f"{name}.weight"] = (scale * torch.randn(*shape, dtype=torch.float64)).requires_grad_()
        parameters[f"{name}.bias"] = (0.1 * torch.randn(k, dtype=torch.float64)).requires_grad_()

    for i, k in enumerate(channels):
        add(f"encoder.{i}.conv1", k, channels[i - 1] if i else in_channels, 3, 3, k=k)
        add(f"encoder.{i}.conv2", k, k, 3, 3, k=k)
    for i in range(depth):
        k = channels[i]
        add(f"decoder.{i}.up", channels[i + 1], k, 2, 2, k=k)
        add(f"decoder.{i}.conv1", k, 2 * k, 3, 3, k=k)
        add(f"decoder.{i}.conv2", k, k, 3, 3, k=k)
    add("head", out_channels, base_channels, 1, 1, k=out_channels)
    return parameters


def forward(x: torch.Tensor, p: dict, depth: int, padding: str) -> torch.Tensor:
    """The U-Net, in PyTorch's functions."""
    pad = 1 if padding == "same" else 0

    def block(x: torch.Tensor, name: str) -> torch.Tensor:
        for conv in ("conv1", "conv2"):
            x = functional.relu(functional.conv2d(x, p[f"{name}.{conv}.weight"], p[f"{name}.{conv}.bias"], padding=pad))
        return x

    skips = []
    for i in range(depth + 1):
        x = block(functional.max_pool2d(x, 2) if i else x, f"encoder.{i}")
        skips.append(x)
    skips.pop()
    for i in reversed(range(depth)):
        up = functional.conv_transpose2d(x, p[f"decoder.{i}.up.weight"], p[f"decoder.{i}.up.bias"], stride=2)
        skip = skips.pop()
        top, left = (skip.shape[2] - up.shape[2]) // 2, (skip.shape[3] - up.shape[3]) // 2
        skip = skip[:, :, top : top + up.shape[2], left : left + up.shape[3]]
        x = block(torch.cat((skip, up), 1), f"decoder.{i}")
    return functional.conv2d(x, p["head.weight"], p["head.bias"])


def channels_last(x: torch.Tensor) -> np.ndarray:
    """(N, C, H, W) -> (N, H, W, C)."""
    return np.ascontiguousarray(x.detach().permute(0, 2, 3, 1).numpy())


def as_minunet(p: torch.Tensor) -> np.ndarray:
    """(K, C, R, S) -> (R, S, C, K); a transposed convolution's (C in, K out, R, S) -> (R, S, K out, C in); biases as they are."""
    return np.ascontiguousarray(p.detach().permute(2, 3, 1, 0).numpy()) if p.ndim == 4 else p.detach().numpy()


if __name__ == "__main__":
    main()
