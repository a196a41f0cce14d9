"""One small training with augmentation and dropout, and what it comes to: for comparison across threads and processes."""

from __future__ import annotations

import hashlib

import numpy as np

import minunet


def digest(n_threads=None, algorithm="auto"):
    """Fit for one epoch, 25 steps, predict, and return a hash of every bit of both."""
    rng = np.random.default_rng(0)
    x = rng.random((3, 40, 44, 2)).astype(np.float32)
    y = (x.sum(axis=-1) > 1).astype(np.uint8)
    unet = minunet.UNet(
        base_channels=6, depth=2, patch_size=32, batch_size=2, max_epochs=1, dropout=0.2, augment=True, random_state=3,
        n_threads=n_threads, algorithm=algorithm, verbose=0,
    ).fit(x, y)  # fmt: skip
    return hashlib.sha256(unet.network_.flat.tobytes() + unet.predict_proba(x).tobytes()).hexdigest()
