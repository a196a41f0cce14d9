"""Every public way to the kernels, once: a call, the arrays that it takes, and what of them may differ.

`Door.call` takes the arrays by name and gives those that it makes, or has written. `free` are the axes of an array that may have
another length all by themselves; `kinds`, the dtypes that are taken as well as its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np

from minunet import Network, UNet, blocks, fusions, layers, losses, ops, optim
from minunet.evaluation.tiles import predict_proba
from minunet.training import step

RNG = np.random.default_rng(0)
PLAIN = "buif"  # the kinds of numbers that a user may come with
WHOLE = "iu"


@dataclass
class Door:
    """A public call and good arguments of it."""

    call: Callable[..., Any]
    arrays: dict[str, np.ndarray]
    free: dict[str, tuple[int, ...]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    written: tuple[str, ...] = ()


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


X, W, B, OUT = normal(2, 6, 6, 8), normal(3, 3, 8, 5), normal(5), normal(2, 6, 6, 5)
UP_W, UP_OUT = normal(2, 2, 5, 8), normal(2, 12, 12, 5)
LABELS, WEIGHTS = RNG.integers(0, 5, (2, 6, 6)), RNG.random((2, 6, 6)).astype(np.float32)
IMAGES = (0, 1, 2)  # the axes of a batch of images: how many, and their sides
ALONE = {"x": X}, {"x": (0, 1, 2, 3)}, {"x": "f"}  # an op of one array takes it of any size, and of both dtypes
TARGET, TARGETS = {"labels": WHOLE, "weights": PLAIN}, {"logits": "f", "labels": WHOLE, "weights": "f"}


def forwards(op: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return the op without its cache."""
    return lambda **arrays: op(**arrays, **options)[0]


def backwards(op: Callable[..., Any], cache: Any, **options: Any) -> Callable[..., Any]:
    return lambda dy: op(dy, cache, **options)


def of_ops() -> dict[str, Door]:
    conv, up, pool = ops.conv2d(X, W, B, padding=1)[1], ops.conv_transpose2d(X, UP_W, B)[1], ops.max_pool2d(X)[1]
    fused = fusions.conv2d_relu(X, W, B, padding=1)[1]
    drop, norm = ops.dropout(X, 0.5, np.random.default_rng(0))[1], ops.group_norm(X, B8, B8, groups=2)[1]
    return {
        "ops.conv2d": Door(forwards(ops.conv2d, padding=1), {"x": X, "w": W, "b": B, "out": OUT}, {"w": ()}, written=("out",)),
        "ops.conv2d without out": Door(forwards(ops.conv2d, padding=1), {"x": X, "w": W}, {"x": IMAGES, "w": (0, 1, 3)}),
        "ops.conv2d_backward": Door(backwards(ops.conv2d_backward, conv), {"dy": OUT}),
        "ops.conv_transpose2d": Door(
            forwards(ops.conv_transpose2d), {"x": X, "w": UP_W, "b": B, "out": UP_OUT}, written=("out",)
        ),
        "ops.conv_transpose2d_backward": Door(backwards(ops.conv_transpose2d_backward, up), {"dy": UP_OUT}),
        "ops.max_pool2d": Door(forwards(ops.max_pool2d), *ALONE),
        "ops.max_pool2d_backward": Door(backwards(ops.max_pool2d_backward, pool), {"dy": normal(2, 3, 3, 8)}),
        "ops.relu": Door(forwards(ops.relu), *ALONE),
        "ops.relu_backward": Door(backwards(ops.relu_backward, ops.relu(X)[1]), {"dy": X}),
        "ops.dropout": Door(lambda x: ops.dropout(x, 0.5, np.random.default_rng(0))[0], *ALONE),
        "ops.dropout_backward": Door(backwards(ops.dropout_backward, drop), {"dy": X}),
        "ops.group_norm": Door(forwards(ops.group_norm, groups=2), {"x": X, "gamma": B8, "beta": B8}, {"x": IMAGES}),
        "ops.group_norm_backward": Door(backwards(ops.group_norm_backward, norm), {"dy": X}),
        "ops.batch_norm": Door(
            forwards(ops.batch_norm, training=True), {"x": X, "gamma": B8, "beta": B8} | RUNNING, {"x": IMAGES}
        ),
        "ops.batch_norm in inference": Door(
            forwards(ops.batch_norm, training=False), {"x": X, "gamma": B8, "beta": B8} | RUNNING | {"out": X.copy()},
            written=("out",),
        ),
        "ops.batch_norm_backward": Door(backwards(ops.batch_norm_backward, norm), {"dy": X}),
        "ops.concat_skip": Door(
            forwards(ops.concat_skip), {"skip": normal(2, 8, 8, 3), "up": X}, {"skip": (1, 2, 3), "up": (1, 2, 3)}
        ),
        "ops.concat_skip_backward": Door(
            backwards(ops.concat_skip_backward, ops.concat_skip(normal(2, 8, 8, 3), X)[1]), {"dy": normal(2, 6, 6, 11)}
        ),
        "fusions.conv2d_relu": Door(
            forwards(fusions.conv2d_relu, padding=1), {"x": X, "w": W, "b": B, "out": OUT}, written=("out",)
        ),
        "fusions.conv2d_relu_backward": Door(backwards(fusions.conv2d_relu_backward, fused), {"dy": OUT}),
        "fusions.group_norm_relu": Door(
            forwards(fusions.group_norm_relu, groups=2), {"x": X, "gamma": B8, "beta": B8, "out": X.copy()}, written=("out",)
        ),
        "fusions.batch_norm_relu": Door(
            forwards(fusions.batch_norm_relu, training=True), {"x": X, "gamma": B8, "beta": B8} | RUNNING, {"x": IMAGES}
        ),
        "fusions.norm_relu_backward": Door(backwards(fusions.norm_relu_backward, norm), {"dy": X}),
        "fusions.max_pool2d_backward_plus": Door(
            lambda dskip, dy: fusions.max_pool2d_backward_plus(dskip, dy, pool), {"dskip": X, "dy": normal(2, 3, 3, 8)}
        ),
    }


B8 = normal(8)
RUNNING = {"running_mean": normal(8), "running_var": np.abs(normal(8))}


def of_losses() -> dict[str, Door]:
    target = {"labels": LABELS, "weights": WEIGHTS}
    found = {
        f"{loss.name} value_and_grad": Door(
            lambda logits, labels, weights, loss=loss: loss.value_and_grad(logits, losses.Target(labels, weights)),
            {"logits": OUT} | target,
            {"logits": (3,)},
            TARGETS,
        )
        for loss in losses.LOSSES.values()
    }
    head = layers.Conv2d(8, 5, 1)

    def through(loss: losses.Loss, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, **target: np.ndarray) -> Any:
        head.parameters = {"weight": weight, "bias": bias}
        value, dx, grads = loss.through(head, x, losses.Target(**target))
        return value, dx, *grads.values()

    for loss in losses.LOSSES.values():
        found[f"{loss.name} through"] = Door(
            lambda loss=loss, **arrays: through(loss, **arrays),
            {"x": X, "weight": normal(1, 1, 8, 5), "bias": B} | target,
            kinds=TARGETS,
        )
    found["softmax_cross_entropy"] = Door(
        losses.softmax_cross_entropy,
        {"logits": OUT, "class_weight": np.abs(B)} | target,
        kinds=TARGETS | TARGET | {"class_weight": PLAIN},
    )
    return found


def of_updates() -> dict[str, Door]:
    def moved(make: Callable[[], optim.Optimizer], flat: np.ndarray, gradient: np.ndarray, **moments: np.ndarray) -> Any:
        optimizer = make()
        optimizer.moments = tuple(moments.values())
        optimizer.update(flat, gradient)
        return flat, *optimizer.moments

    flat = {"flat": normal(40), "gradient": normal(40), "velocity": normal(40)}
    return {
        "SGD.update": Door(lambda **arrays: moved(optim.SGD, **arrays), flat, written=("flat", "velocity")),
        **{
            f"{make.__name__}.update": Door(
                lambda make=make, **arrays: moved(make, **arrays),
                flat | {"square": np.abs(normal(40))},
                written=("flat", "velocity", "square"),
            )
            for make in (optim.Adam, optim.AdamW)
        },
    }


def of_layers() -> dict[str, Door]:
    found = {}
    for layer, x in (
        (layers.Conv2d(8, 5, 3, padding=1), X), (layers.ConvTranspose2d(8, 5), X), (layers.MaxPool2d(), X), (layers.ReLU(), X),
        (layers.GroupNorm(8, 2), X), (layers.Sequential(layers.Conv2d(8, 5, 3), layers.ReLU()), X), (blocks.Residual(8, 5), X),
        (layers.ConvReLU(layers.Conv2d(8, 5, 3)), X), (layers.BatchNorm(8), X), (layers.NormReLU(layers.GroupNorm(8, 2)), X),
    ):  # fmt: skip
        name = type(layer).__name__

        def forward(x: np.ndarray, layer: layers.Layer = layer) -> Any:
            return layer.forward(x)[0]

        def backward(dy: np.ndarray, layer: layers.Layer = layer, x: np.ndarray = x) -> Any:
            dx, grads = layer.backward(dy, layer.forward(x)[1])
            return dx, *grads.values()

        alone = not layer.parameters
        found[f"{name}.forward"] = Door(forward, {"x": x}, {"x": (0, 1, 2, 3) if alone else IMAGES}, {"x": "f"} if alone else {})
        found[f"{name}.backward"] = Door(backward, {"dy": np.ones_like(layer.forward(x)[0])})
    return found


def of_networks() -> dict[str, Door]:
    x, labels = normal(2, 8, 8, 3), RNG.integers(0, 4, (2, 8, 8))

    def network() -> Network:
        return Network(3, 4, 2, 2, random_state=0)

    def trained(x: np.ndarray, labels: np.ndarray, **options: np.ndarray) -> Any:
        trained = network()
        return step(trained, optim.SGD(), x, labels, **options), trained.flat

    def backward(dlogits: np.ndarray) -> Any:
        dx, grads = (tried := network()).backward(dlogits, tried.forward(x)[1])
        return dx, *grads.values()

    options = {"weights": RNG.random((2, 8, 8)), "class_weight": RNG.random(4)}
    return {
        "Network": Door(lambda x: network()(x), {"x": x}, {"x": IMAGES}),
        "Network.forward": Door(lambda x: network().forward(x)[0], {"x": x}, {"x": IMAGES}),
        "Network.backward": Door(backward, {"dlogits": normal(2, 8, 8, 4)}),
        "training.step": Door(trained, {"x": x, "labels": labels} | options, kinds=TARGET | {"class_weight": PLAIN}),
        "predict_proba": Door(
            lambda image: predict_proba(network(), image), {"image": x[0]}, {"image": (0, 1)}, {"image": PLAIN}
        ),
    }


def of_the_estimator() -> dict[str, Door]:
    x, y = RNG.random((2, 24, 24)), RNG.integers(0, 2, (2, 24, 24))
    settings = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1, "verbose": 0, "random_state": 0}
    fitted = UNet(**settings).fit(x, y)
    any_number, images = {"x": PLAIN, "y": PLAIN, "sample_weight": PLAIN}, {"x": IMAGES}

    def fit(x: np.ndarray, y: np.ndarray, sample_weight: np.ndarray) -> Any:
        with mock.patch("minunet.fitting.steps_per_epoch", lambda *_: 2):  # which are as good as 25
            return UNet(**settings).fit(x, y, sample_weight=sample_weight).network_.flat

    return {
        "UNet.fit": Door(fit, {"x": x, "y": y, "sample_weight": np.ones(y.shape)}, kinds=any_number),
        "UNet.predict": Door(fitted.predict, {"x": x}, images, any_number),
        "UNet.predict_proba": Door(fitted.predict_proba, {"x": x}, images, any_number),
        "UNet.score": Door(fitted.score, {"x": x, "y": y}, kinds=any_number),
    }


PARTS: dict[str, Callable[[], dict[str, Door]]] = {
    "ops": of_ops, "losses": of_losses, "updates": of_updates, "layers": of_layers, "networks": of_networks,
    "estimator": of_the_estimator,
}  # fmt: skip

# Every number that a door takes, by name: a call with it, and one that is taken.
NUMBERS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "conv2d stride": (lambda n: ops.conv2d(X, W, B, stride=n)[0], 2),
    "conv2d padding": (lambda n: ops.conv2d(X, W, B, padding=n)[0], 2),
    "conv_transpose2d stride": (lambda n: ops.conv_transpose2d(X, UP_W, B, stride=n)[0], 3),
    "conv_transpose2d padding": (lambda n: ops.conv_transpose2d(X, UP_W, B, padding=n)[0], 1),
    "conv_transpose2d output_padding": (lambda n: ops.conv_transpose2d(X, UP_W, B, output_padding=n)[0], 1),
    "max_pool2d window": (lambda n: ops.max_pool2d(X, window=n)[0], 3),
    "max_pool2d stride": (lambda n: ops.max_pool2d(X, stride=n)[0], 3),
    "dropout rate": (lambda n: ops.dropout(X, n, np.random.default_rng(0))[0], 0.25),
    "group_norm groups": (lambda n: ops.group_norm(X, B8, B8, groups=n)[0], 4),
    "batch_norm momentum": (
        lambda n: ops.batch_norm(X, B8, B8, *RUNNING.values(), training=True, momentum=n)[0], 0.5
    ),
    "batch_norm epsilon": (lambda n: ops.batch_norm(X, B8, B8, *RUNNING.values(), training=True, epsilon=n)[0], 0.5),
    "group_norm epsilon": (lambda n: ops.group_norm(X, B8, B8, groups=4, epsilon=n)[0], 0.5),
    "output_size size": (lambda n: ops.output_size(n, 3), 8),
    "output_size kernel": (lambda n: ops.output_size(8, n), 3),
    "output_size stride": (lambda n: ops.output_size(8, 3, stride=n), 2),
    "output_size padding": (lambda n: ops.output_size(8, 3, padding=n), 2),
    "transposed_output_size size": (lambda n: ops.transposed_output_size(n, 2), 3),
    "transposed_output_size stride": (lambda n: ops.transposed_output_size(8, 2, stride=n), 3),
    "ignore_index": (lambda n: losses.softmax_cross_entropy(OUT, LABELS, ignore_index=n), 3),
    **{
        f"{make.__name__} {name}": (lambda n, make=make, name=name: updated(make(**{name: n})), taken)
        for make in (optim.SGD, optim.Adam)
        for name, taken in {
            "learning_rate": 0.5,
            "momentum": 0.5,
            "beta1": 0.5,
            "beta2": 0.5,
            "epsilon": 0.5,
            "weight_decay": 0.5,
        }.items()
        if name in vars(make())
    },
    "n_updates": (lambda n: updated(optim.Adam(), n), 3),
}


def updated(optimizer: optim.Optimizer, n_updates: Any = 0) -> np.ndarray:
    flat = np.ones(20, np.float32)
    optimizer.n_updates = n_updates
    optimizer.update(flat, flat.copy())
    return flat
