"""The summary: the seed's shapes, the paper's sizes, and what a real forward pass shows."""

from __future__ import annotations

import numpy as np
import pytest

from minunet import Network, UNet
from minunet.layers import Conv2d, ConvReLU, ConvTranspose2d, MaxPool2d
from minunet.summary import summarize

# The seed's forward pass for one image of 512 x 512, in its (B, C, H, W); the comments are its names for them. Where it
# cannot run (enc2 taken as a skip, dec4 fed 128 channels for 64) the corrected network's shapes stand.
SEED = {
    "encoder.0.conv2": (1, 64, 512, 512),  # enc1
    "pool.0": (1, 64, 256, 256),  # enc2
    "encoder.1.conv2": (1, 128, 256, 256),  # enc3
    "pool.1": (1, 128, 128, 128),  # enc4
    "encoder.2.conv2": (1, 256, 128, 128),  # enc5
    "pool.2": (1, 256, 64, 64),  # enc6
    "encoder.3.conv2": (1, 512, 64, 64),  # enc7
    "pool.3": (1, 512, 32, 32),  # enc8
    "encoder.4.conv2": (1, 1024, 32, 32),  # bottleneck
    "decoder.3.up": (1, 512, 64, 64),  # dec1, before the concatenation
    "decoder.3.conv2": (1, 512, 64, 64),  # dec1, after its block
    "decoder.2.up": (1, 256, 128, 128),  # dec2
    "decoder.2.conv2": (1, 256, 128, 128),
    "decoder.1.up": (1, 128, 256, 256),  # dec3
    "decoder.1.conv2": (1, 128, 256, 256),
    "decoder.0.up": (1, 64, 512, 512),  # dec4
    "decoder.0.conv2": (1, 64, 512, 512),
}
OURS = {  # channels last
    "encoder.0.conv2": (1, 512, 512, 64),
    "encoder.1.conv2": (1, 256, 256, 128),
    "encoder.2.conv2": (1, 128, 128, 256),
    "encoder.3.conv2": (1, 64, 64, 512),
    "encoder.4.conv2": (1, 32, 32, 1024),
    "decoder.3.conv2": (1, 64, 64, 512),
    "decoder.2.conv2": (1, 128, 128, 256),
    "decoder.1.conv2": (1, 256, 256, 128),
    "decoder.0.conv2": (1, 512, 512, 64),
    "head": (1, 512, 512, 2),
}
# Ronneberger et al. 2015, figure 1: the sides of the arrays, in the order in which they are made.
PAPER = [
    *(570, 568, 284, 282, 280, 140, 138, 136, 68, 66, 64, 32, 30, 28),
    *(56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388, 388),
]


@pytest.fixture(scope="module")
def paper_size():
    return Network(base_channels=64)


def test_the_shapes_at_every_step_are_the_seeds(paper_size):
    shapes = {step.name: step.shape for step in summarize(paper_size, (512, 512)).steps}
    assert {name: shapes[name] for name in OURS} == OURS
    assert {name: (n, c, h, w) for name, (n, h, w, c) in shapes.items() if name in SEED} == SEED


def test_valid_sizes_are_the_papers():
    steps = summarize(Network(base_channels=1, padding="valid"), (572, 572)).steps
    assert [step.shape[1] for step in steps] == PAPER
    assert [step.shape[2] for step in steps] == PAPER


def test_totals_at_the_papers_size(paper_size):
    summary = summarize(paper_size, (512, 512))
    assert summary.n_parameters == 31_030_658
    assert summary.flops == pytest.approx(384.8e9, abs=0.05e9)
    assert summary.training_bytes > summary.inference_bytes > 4 * summary.n_parameters


def recorded(network, x, monkeypatch):
    """Return what each step of a real forward pass gave, in order."""
    outputs = []

    def recording(forward):
        def record(self, x, **options):
            y, cache = forward(self, x, **options)
            outputs.append(y.copy())
            return y, cache

        return record

    for layer in (Conv2d, ConvReLU, ConvTranspose2d, MaxPool2d):
        monkeypatch.setattr(layer, "forward", recording(layer.forward))
    network(x)
    return outputs


@pytest.mark.parametrize(("padding", "size"), [("same", (32, 16)), ("valid", (92, 108))])
def test_shapes_and_parameters_are_those_of_a_real_forward_pass(padding, size, monkeypatch):
    network = Network(3, 4, 5, 3, padding)
    summary = summarize(network, (2, *size, 3))
    outputs = recorded(network, np.zeros((2, *size, 3), np.float32), monkeypatch)
    assert [step.shape for step in summary.steps] == [y.shape for y in outputs]
    assert summary.n_parameters == network.n_parameters
    for step in summary.steps:
        sizes = [p.size for name, p in network.parameters.items() if name.startswith(f"{step.name}.")]
        assert step.n_parameters == sum(sizes), step.name


@pytest.mark.parametrize(
    ("depth", "padding", "width"), [(0, "same", 9), (1, "same", 32), (2, "same", 96), (3, "same", 184), (2, "valid", 132)]
)
def test_receptive_fields_are_what_an_output_pixel_sees(depth, padding, width, monkeypatch):
    """Image j is 0 but for column j. With positive weights and no bias an output is positive where it sees that column."""
    network = Network(1, 1, 1, depth, padding, dtype="float64")
    height = 2**depth if padding == "same" else network.fitting_output(1) + 2 * network.margin
    network.flat[...] = 1.0
    for name, bias in network.parameters.items():
        if name.endswith("bias"):
            bias[...] = 0.0
    columns = np.broadcast_to(np.eye(width)[:, None, :, None], (width, height, width, 1))
    steps = summarize(network, (height, width)).steps
    for step, y in zip(steps, recorded(network, columns, monkeypatch), strict=True):
        seen = (y > 0).any(axis=(1, 3)).sum(axis=0)  # how many columns each output column sees
        assert step.receptive_field == seen.max(), step.name


def test_side_heads_have_their_parameters_and_shapes_in_it_and_no_work():
    network = Network(1, 5, 4, 3, deep_supervision=True)
    summary = summarize(network, (32, 16))
    steps = {step.name: (step.shape, step.n_parameters, step.flops, step.receptive_field) for step in summary.steps}
    before = [steps[f"decoder.{i}.conv2"][3] for i in (1, 2)]
    assert steps["decoder.1.head"] == ((1, 16, 8, 5), 8 * 5 + 5, 0, before[0])
    assert steps["decoder.2.head"] == ((1, 8, 4, 5), 16 * 5 + 5, 0, before[1])
    assert summary.n_parameters == network.n_parameters


def test_flops_count_multiply_adds_twice():
    """conv1 9 C K, conv2 9 K K a pixel and so on, by hand for depth 1 and one channel everywhere."""
    steps = {step.name: step.flops for step in summarize(Network(1, 1, 1, 1), (4, 4)).steps}
    assert steps == {
        "encoder.0.conv1": 2 * 16 * 9,
        "encoder.0.conv2": 2 * 16 * 9,
        "pool.0": 0,
        "encoder.1.conv1": 2 * 4 * 9 * 2,
        "encoder.1.conv2": 2 * 4 * 9 * 4,
        "decoder.0.up": 2 * 16 * 2,  # each output pixel comes from one input pixel, through one of the four taps
        "decoder.0.conv1": 2 * 16 * 9 * 2,
        "decoder.0.conv2": 2 * 16 * 9,
        "head": 2 * 16,
    }


def test_the_table_is_aligned_and_ends_with_the_totals(paper_size):
    lines = str(summarize(paper_size, (512, 512))).splitlines()
    rules = [i for i, line in enumerate(lines) if set(line) == {"-"}]
    table = [*lines[: rules[0]], *lines[rules[0] + 1 : rules[1]]]
    assert len({len(line) for line in table}) == 1
    assert len(table) == 1 + 5 * 2 + 4 + 4 * 3 + 1
    totals = " ".join(lines[rules[1] + 1 :])
    assert "31,030,658 parameters" in totals
    assert "384.8 GFLOP" in totals


def test_an_estimator_gives_the_same_before_fit():
    assert UNet(base_channels=4, depth=2).summary((32, 32)) == summarize(Network(1, 2, 4, 2), (32, 32))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((30, 32), "height is 30; .* 28 or 32"),
        ((32, 30), "width is 30; .* 28 or 32"),
        ((32,), "it takes"),
        ((1, 32, 32, 1), "takes 3 channels"),
        ((0, 32, 32), "from 1 up"),
        ((32.0, 32), "whole numbers"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        summarize(Network(3, 2, 2, 2), shape)


@pytest.mark.parametrize("shape", [None, 3, "ab", (3,), (0, 3), (10**30, 3), (1.5, 2), (np.timedelta64(3), 3), (10**5000, 3)])
def test_what_no_image_measures_is_refused(shape):
    with pytest.raises(ValueError, match=r"^shape is .*; it takes \(H, W\)"):
        UNet(base_channels=2, depth=1).summary(shape)


def test_numpys_small_numbers_measure_an_image():
    unet = UNet(base_channels=2, depth=1)
    assert str(unet.summary((np.int8(100), np.int8(100)))) == str(unet.summary((100, 100)))
