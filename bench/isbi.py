"""How good is it on real electron microscopy, against time? And PyTorch, with the same network, patches and schedule?

    python bench/isbi.py --data isbi2012 --minutes 15 --torch --output bench/out

Trains on slices 00-19 of the ISBI 2012 stack and scores 20-23: pixel error and membrane IoU at the threshold of least
pixel error on 16-19, adapted Rand error of the 4-connected cells at the threshold of least Rand error there. With
--select it trains on 00-15 and scores 16-19, which is how defaults are chosen. Scoring does not count as time;
minunet's compilation and its validation after each epoch do, and PyTorch has neither. They train in turns, an epoch of
minunet's and as long of PyTorch's: a machine's speed wanders, and both share that.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe
from PIL import Image

from minunet import UNet
from minunet.evaluation.metrics import adapted_rand_error, iou, pixel_error, segments
from minunet.files import atomic_write, require_writable

THRESHOLDS = (*np.linspace(0.2, 0.95, 16), 0.97, 0.98, 0.99)
MOMENTS = 6  # scores along the way
ONLY_MINUNET = {"padding", "dropout", "class_weight", "optimizer", "momentum"}  # settings that the PyTorch side lacks
Scores = dict[str, float]
Predict = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Train, score along the way, print a table, draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with train/image and train/label")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--torch", action="store_true", help="train PyTorch too, as long, in turns")
    parser.add_argument("--output", type=Path, help="folder for figures and curves (needs matplotlib)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--select", action="store_true", help="train on 00-15, score 16-19")
    parser.add_argument("--tta", action="store_true", help="score minunet's mean over eight turns and flips in the end, too")
    parser.add_argument("--set", action="append", type=_setting, default=[], metavar="NAME=VALUE", help="a UNet parameter")
    arguments = parser.parse_args()
    settings = dict(arguments.set)
    check(parser, arguments, settings)
    x, y = read(arguments.data)
    n_train, test = (16, slice(16, 20)) if arguments.select else (20, slice(20, 24))
    with_torch = arguments.torch and bool(find_spec("torch"))
    machine = describe()
    print(machine)
    unet = UNet(max_minutes=arguments.minutes, random_state=arguments.seed).set_params(**{"max_epochs": 100_000} | settings)
    peer = Torch(unet, x[:n_train], y[:n_train], Judge(x, y, test, "PyTorch")) if with_torch else None
    curves = {"minunet": train_minunet(unet, x[:n_train], y[:n_train], Judge(x, y, test, "minunet"), peer)}
    if peer:
        curves["PyTorch"] = peer.judge.curve
    if arguments.tta:
        last, turned = curves["minunet"][-1], Judge(x, y, test, "tta")
        turned(probability_inside(unet, tta=True), int(last["steps"]), last["seconds"])
        curves["tta"] = turned.curve
    report(curves)
    if arguments.output:
        figures = json.dumps({"machine": machine, "curves": curves}, indent=1)
        atomic_write(arguments.output / "isbi.json", figures.encode())
        draw_curves(curves, arguments.output / "isbi.png")
        p, threshold = probability_inside(unet)(x[test]), curves["minunet"][-1]["Rand threshold"]
        draw_predictions(x[test], y[test], p, threshold, arguments.output / "isbi_predictions.png")


def check(parser: argparse.ArgumentParser, arguments: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Stop now at whatever would fail after minutes of training; make the output folder."""
    if not (arguments.data / "train" / "image").is_dir():
        parser.error(f"{arguments.data} has no folder train/image: --data takes the folder that holds it")
    if arguments.torch and not find_spec("torch"):
        print("PyTorch is not installed: skipped (pip install 'minunet[bench]')")
    if arguments.torch and ONLY_MINUNET & settings.keys():
        parser.error(f"the PyTorch side has no {', '.join(sorted(ONLY_MINUNET & settings.keys()))}: leave out --torch")
    if arguments.output:
        if not find_spec("matplotlib"):
            parser.error("--output draws with matplotlib, which is not installed: pip install 'minunet[bench]'")
        if arguments.output.exists() and not arguments.output.is_dir():
            parser.error(f"--output is {arguments.output}, a file; it takes a folder")
        arguments.output.mkdir(parents=True, exist_ok=True)
        require_writable(arguments.output / "isbi.json")


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return slices 00-23 and their masks (0 membrane, 255 inside)."""
    images, masks = (
        np.stack([np.asarray(Image.open(folder / "train" / kind / f"{i:02}.png").convert("L")) for i in range(24)])
        for kind in ("image", "label")
    )
    return images, masks


class Judge:
    """Scores probabilities of "inside" on the test slices, thresholds picked on 16-19; keeps a curve over time."""

    def __init__(self, x: np.ndarray, y: np.ndarray, test: slice, whose: str) -> None:
        self.picking, self.test, self.whose = (x[16:20], y[16:20]), (x[test], y[test]), whose
        self.curve: list[Scores] = []

    def __call__(self, predict: Predict, steps: int, seconds: float) -> None:
        """Score a state of the training, print, and keep it, once."""
        if self.curve and self.curve[-1]["steps"] == steps:
            return
        scores = self._score(predict) | {"steps": steps, "seconds": seconds}
        self.curve.append(scores)
        print("  ".join([f"{self.whose:8}", *(f"{name} {value:.4g}" for name, value in scores.items())]), flush=True)

    def _score(self, predict: Predict) -> Scores:
        x, y = self.picking
        p = predict(x)
        pixel = min(THRESHOLDS, key=lambda t: pixel_error(y, _mask(p, t)))
        rand = min(THRESHOLDS, key=lambda t: rand_error(y, _mask(p, t)))
        x, y = self.test
        p = predict(x)
        return {
            "pixel error": pixel_error(y, _mask(p, pixel)),
            "membrane IoU": float(iou(y, _mask(p, pixel), classes=[0, 255])[0]),
            "adapted Rand": rand_error(y, _mask(p, rand)),
            "threshold": float(pixel), "Rand threshold": float(rand),
        }  # fmt: skip


def rand_error(truth: np.ndarray, mask: np.ndarray) -> float:
    """Return the mean adapted Rand error of the slices' cells."""
    return float(np.mean([adapted_rand_error(segments(t), segments(m)) for t, m in zip(truth, mask, strict=True)]))


def probability_inside(unet: UNet, *, tta: bool = False) -> Predict:
    """Return the function that gives the probability of class 255."""
    return lambda x: unet.predict_proba(x, tta=tta)[..., 1]


def train_minunet(unet: UNet, x: np.ndarray, y: np.ndarray, judge: Judge, peer: Torch | None) -> list[Scores]:
    """Fit, scoring at MOMENTS even moments of the time; after each epoch the peer catches up. Neither counts as time."""

    apart = 60 * (unet.max_minutes or np.inf) / MOMENTS

    class Watch:
        def on_epoch_end(self, epoch: int, logs: Scores) -> None:
            if logs["seconds"] >= apart * (len(judge.curve) + 1):
                judge(probability_inside(unet), int(logs["steps"]), logs["seconds"])
            if peer:
                peer.train_until(logs["seconds"])

    print(f"\nminunet: {unet}")
    unet.fit(x, y, callbacks=[Watch()])
    judge(probability_inside(unet), int(unet.history_["steps"][-1]), unet.history_["seconds"][-1])
    if peer:
        peer.finish()
    return judge.curve


class Torch:
    """PyTorch's training, channels-last, on the patches and with the schedule of a UNet that is being fitted."""

    def __init__(self, unet: UNet, x: np.ndarray, y: np.ndarray, judge: Judge) -> None:
        import torch
        from torch_unet import TorchUNet

        from minunet import kernels
        from minunet.data.normalize import Normalizer
        from minunet.data.sampling import Example, PatchSampler
        from minunet.data.splitting import split
        from minunet.training.schedule import Schedule, steps_per_epoch

        torch.manual_seed(unet.random_state)
        torch.set_num_threads(unet.n_threads or kernels.n_threads())
        self.judge, self.batch_size = judge, unet.batch_size
        self.normalizer = Normalizer.of(unet.normalize).fit([i[..., None] for i in x])
        examples = [Example(self.normalizer(i[..., None]), (m == 255).astype(np.int32), None) for i, m in zip(x, y, strict=True)]
        parts = split([e.label.shape for e in examples], unet.validation_fraction, unet.random_state).training
        self.sampler = PatchSampler(
            [examples[part.image].crop(part.rows, part.cols) for part in parts], min(unet.patch_size, x.shape[1]),
            augment=unet.augment, random_state=unet.random_state,
        )  # fmt: skip
        self.epoch_steps = steps_per_epoch(self.sampler.training_pixels, unet.batch_size, self.sampler.patch_size)
        self.schedule = Schedule(unet.learning_rate, self.epoch_steps, unet.max_epochs, unet.max_minutes)
        self.model = TorchUNet(base=unet.base_channels, depth=unet.depth).in_format(torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), unet.learning_rate, weight_decay=unet.weight_decay or 0)
        self.seconds, self.n_steps = 0.0, 0

    def train_until(self, seconds: float) -> None:
        """Train until as much time is spent as the other had, or all there is."""
        while self.seconds < seconds and (spent := self.schedule.spent(self.n_steps, self.seconds)) < 1:
            start = time.perf_counter()
            self._step(self.schedule.learning_rate_at(spent))
            self.seconds += time.perf_counter() - start
            if spent >= (len(self.judge.curve) + 1) / MOMENTS:
                self.judge(self._predict, self.n_steps, self.seconds)

    def finish(self) -> None:
        """Train to the end of the schedule, and score."""
        self.train_until(np.inf)
        self.judge(self._predict, self.n_steps, self.seconds)

    def _step(self, learning_rate: float) -> None:
        import torch
        from torch_unet import from_numpy, training_step

        patches, labels, _ = self.sampler.batch(*divmod(self.n_steps, self.epoch_steps), self.batch_size)
        self.optimizer.param_groups[0]["lr"] = learning_rate
        training_step(self.model, self.optimizer, from_numpy(patches), torch.from_numpy(labels.astype(np.int64)))
        self.n_steps += 1

    def _predict(self, images: np.ndarray) -> np.ndarray:
        import torch
        from torch_unet import from_numpy

        with torch.no_grad():
            tensors = [from_numpy(self.normalizer(image[..., None])[None]) for image in images]
            return np.concatenate([self.model(t).softmax(1)[:, 1].numpy() for t in tensors])


def report(curves: dict[str, list[Scores]]) -> None:
    """Print the last score of each."""
    print(f"\n{'':10}" + "".join(f"{name:>16}" for name in curves["minunet"][-1]))
    for who, curve in curves.items():
        print(f"{who:10}" + "".join(f"{value:16.4g}" for value in curve[-1].values()))


def draw_curves(curves: dict[str, list[Scores]], path: Path) -> None:
    """Draw each score against wall time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for ax, name in zip(axes, ("pixel error", "membrane IoU", "adapted Rand"), strict=True):
        for who, curve in curves.items():
            ax.plot([s["seconds"] / 60 for s in curve], [s[name] for s in curve], marker="o", label=who)
        ax.set(xlabel="minutes", title=name)
        ax.grid(alpha=0.3)
    axes[0].legend()
    content = io.BytesIO()
    figure.savefig(content, dpi=110)
    atomic_write(path, content.getvalue())


def draw_predictions(x: np.ndarray, y: np.ndarray, p: np.ndarray, threshold: float, path: Path) -> None:
    """Write image, truth, probability and cells at the threshold, a colour each, of each test slice side by side."""
    rows = [
        np.hstack([_grey(image), _grey(truth), _grey(255 * q), _coloured(segments(_mask(q, threshold)))])
        for image, truth, q in zip(x, y, p, strict=True)
    ]
    content = io.BytesIO()
    Image.fromarray(np.vstack(rows)).save(content, path.suffix[1:])
    atomic_write(path, content.getvalue())


def _grey(image: np.ndarray) -> np.ndarray:
    return np.repeat(image.astype(np.uint8)[..., None], 3, axis=-1)


def _coloured(cells: np.ndarray) -> np.ndarray:
    palette = np.random.default_rng(0).integers(60, 256, (cells.max() + 1, 3), dtype=np.uint8)
    palette[0] = 0  # membrane
    return palette[cells]


def _mask(p: np.ndarray, threshold: float) -> np.ndarray:
    return np.where(p >= threshold, 255, 0).astype(np.uint8)


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if name not in UNet().get_params():
        raise argparse.ArgumentTypeError(f"UNet has no parameter {name!r}; it has: {', '.join(UNet().get_params())}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


if __name__ == "__main__":
    main()
