"""Trains small networks, and records a hash of every bit of what came of it: for a change that is to change no number.

    PYTHONPATH=tests python -m bits before.json       before the change
    PYTHONPATH=tests python -m bits before.json       after it: compares, and fails where a hash is another

Hashes of one processor do not hold on another: both runs belong on the same machine.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cuda_on_cpu.door import compiler, emulated

import minunet
from minunet import kernels, training
from minunet.optim import SGD, Adam

STEPS = 20
SIDES = {"same": (32, 48), "valid": (44, 60)}


def digest(*arrays: Any) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(kernels.to_host(a)).tobytes() for a in arrays)).hexdigest()[:16]


def trained(make: Callable[[], Any], channels: int, device: str = "cpu", steps: int = STEPS, **settings: Any) -> str:
    """Return the hash of the losses and the weights of some steps, and of the logits and all gradients behind them."""
    net = minunet.Network(in_channels=channels, out_channels=3, depth=2, random_state=5, **settings).to(device)
    rng, optimizer, losses = np.random.default_rng(1), make(), []
    for i in range(steps):
        x = rng.standard_normal((2, *SIDES[net.padding], channels)).astype(net.dtype)
        labels = rng.integers(0, 3, net.logits_shape(x)[:3])
        weights = rng.random(labels.shape).astype(np.float32) * (rng.random(labels.shape) < 0.9)
        losses.append(float(training.step(net, optimizer, x, labels, weights=weights, rng=np.random.default_rng(i))))
    x = kernels.for_array(net.flat).asarray(x)
    logits, cache = net.forward(x, training=True, rng=np.random.default_rng(9))
    dlogits = kernels.for_array(net.flat).asarray(np.cos(np.arange(logits.size)).reshape(logits.shape).astype(net.dtype))
    dx, grads = net.backward(dlogits, cache)
    return digest(np.array(losses), net.flat, logits, dx, *[grads[name] for name in sorted(grads)], net(x))


def runs() -> Iterator[tuple[str, Callable[[], str]]]:
    """Give each training a name."""
    optimizers = {"adam": lambda: Adam(1e-2, weight_decay=1e-3), "sgd": lambda: SGD(1e-2, weight_decay=1e-3)}
    shapes = {
        "same": {"padding": "same", "base_channels": 8}, "valid": {"padding": "valid", "base_channels": 8},
        "odd, dropout": {"padding": "same", "base_channels": 5, "dropout": 0.3},
        "wide": {"padding": "same", "base_channels": 33},
        "valid, dropout": {"padding": "valid", "base_channels": 7, "dropout": 0.5},
    }  # fmt: skip
    for dtype in ("float32", "float64"):
        for i, (name, settings) in enumerate(shapes.items()):
            by, make = list(optimizers.items())[i % 2]
            common = {"make": make, "channels": 1 + 2 * (i % 2), "dtype": dtype} | settings
            yield f"reference, {name}, {dtype}, {by}", lambda c=common: on("reference", 1, **c | {"steps": 4})
            for algorithm in ("auto", "direct", "winograd4x4", "winograd2x2", "im2col"):
                for n_threads in (1, 2):
                    which = f"cpu, {name}, {dtype}, {by}, {algorithm}, {n_threads} threads"
                    yield which, lambda c=common, a=algorithm, n=n_threads: on("cpu", n, **c | {"algorithm": a})
    if compiler():
        for precision in ("float32", "tf32", "bf16"):
            for name in ("same", "valid, dropout"):
                common = {"make": optimizers["adam"], "channels": 1, "steps": 2} | shapes[name]
                yield f"gpu, {name}, {precision}", lambda c=common, p=precision: on_gpu(p, **c)
        yield (
            "gpu, im2col",
            lambda: on_gpu("float32", make=optimizers["sgd"], channels=3, steps=2, algorithm="im2col", base_channels=8),
        )
    yield "fit", fitted


def on(backend: str, n_threads: int, **common: Any) -> str:
    with kernels.use_backend(backend), kernels.threads(n_threads):
        return trained(**common)


def on_gpu(precision: str, **common: Any) -> str:
    with emulated(strict=True), kernels.precision(precision):
        return trained(device="gpu", **common)


def fitted() -> str:
    """Return the hash of an estimator's history and probabilities, validation and augmentation included."""
    x, y = minunet.datasets.cells(n=6, size=70, random_state=1)
    unet = minunet.UNet(base_channels=6, depth=3, patch_size=48, max_epochs=1, dropout=0.2, random_state=3, verbose=0)
    unet.fit(x, y, classes=np.unique(y).tolist())
    history = [unet.history_[name] for name in sorted(unet.history_) if name != "seconds"]
    return digest(np.array(history), unet.network_.flat, unet.predict_proba(x))


def main(path: Path) -> int:
    known = json.loads(path.read_text()) if path.exists() else {}
    found = {}
    for name, run in runs():
        found[name] = run()
        print(
            f"{found[name]}  {name}{'' if known.get(name, found[name]) == found[name] else '   WAS ' + known[name]}", flush=True
        )
    if not known:
        path.write_text(json.dumps(found, indent=1))
    changed = [name for name, value in found.items() if known and known.get(name) != value]
    print(
        f"{len(found)} trainings; " + (f"CHANGED: {changed}" if changed else "the same bits" if known else f"recorded in {path}")
    )
    return bool(changed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
