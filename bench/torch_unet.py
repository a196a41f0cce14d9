"""The peer: the same U-Net in PyTorch, with the same initial distribution of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn


class TorchUNet(nn.Module):
    """conv 3x3, relu, conv 3x3, relu at each level; 2 x 2 max-pool and up-convolution; concatenation (skip, up); 1x1 head."""

    def __init__(self, in_channels: int = 1, out_channels: int = 2, base: int = 64, depth: int = 4) -> None:
        super().__init__()
        channels = [base * 2**i for i in range(depth + 1)]
        self.encoder = nn.ModuleList(_block(c, k) for c, k in zip([in_channels, *channels], channels, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(channels[i + 1], channels[i], 2, 2) for i in range(depth))
        self.decoder = nn.ModuleList(_block(2 * channels[i], channels[i]) for i in range(depth))
        self.head = nn.Conv2d(base, out_channels, 1)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                fan_in = module.in_channels * (module.kernel_size[0] ** 2 if isinstance(module, nn.Conv2d) else 1)
                gain = 1 if module is self.head else 2
                nn.init.normal_(module.weight, std=(gain / fan_in) ** 0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def in_format(self, memory_format: torch.memory_format) -> TorchUNet:
        """Lay the weights out in a memory format. Return self."""
        return self.to(memory_format=memory_format)  # type: ignore[call-overload]  # torch's stubs miss this form

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (N, K, H, W) for x (N, C, H, W)."""
        skips = []
        for i, encoder in enumerate(self.encoder):
            x = encoder(x if i == 0 else nn.functional.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for up, decoder in zip(reversed(self.up), reversed(self.decoder), strict=True):
            x = decoder(torch.cat((skips.pop(), up(x)), 1))
        return self.head(x)


def _block(c: int, k: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c, k, 3, padding=1), nn.ReLU(True), nn.Conv2d(k, k, 3, padding=1), nn.ReLU(True))


def weights_from(model: TorchUNet, parameters: Mapping[str, np.ndarray]) -> TorchUNet:
    """Give the model the weights of a minunet.Network of the same shape. Return it."""
    depth = len(model.up)

    def load(layer: Any, name: str) -> None:
        # (R, S, C, K) -> (K, C, R, S); of an up-convolution, (R, S, K, C) -> (C, K, R, S)
        layer.weight.data.copy_(torch.from_numpy(parameters[f"{name}.weight"].transpose(3, 2, 0, 1)))
        layer.bias.data.copy_(torch.from_numpy(parameters[f"{name}.bias"]))

    for i in range(depth + 1):
        load(model.encoder[i][0], f"encoder.{i}.conv1")  # type: ignore[index]  # a Sequential, which the stubs do not say
        load(model.encoder[i][2], f"encoder.{i}.conv2")  # type: ignore[index]
    for i in range(depth):
        load(model.up[i], f"decoder.{i}.up")
        load(model.decoder[i][0], f"decoder.{i}.conv1")  # type: ignore[index]
        load(model.decoder[i][2], f"decoder.{i}.conv2")  # type: ignore[index]
    load(model.head, "head")
    return model


def from_numpy(x: np.ndarray, memory_format: torch.memory_format = torch.channels_last) -> torch.Tensor:
    """Return x (N, H, W, C) as a tensor (N, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)


def training_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, labels: torch.Tensor, *, bf16: bool = False
) -> float:
    """Forward, loss, backward, update; where bf16, products in bfloat16 (autocast). Return the loss."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = nn.functional.cross_entropy(model(x), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
