"""Tiles give what the whole gives; the halo is as wide as the network can see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minunet import Network, use_backend
from minunet.evaluation import tiles
from minunet.evaluation.tiles import halo, predict_proba, tile_side
from minunet.training.memory import inference_bytes


def open_network(depth, padding="same"):
    """Return a network whose every connection is open, and exact: all sums are whole numbers below 2^53."""
    network = Network(1, 2, 1, depth, padding=padding, dtype="float64")
    network.flat[:] = 0
    for name, p in network.parameters.items():
        if name.endswith(("conv1.weight", "conv2.weight")):
            p[::2, ::2, 0] = 1  # the corners see farthest
            if name.startswith("decoder"):
                p[::2, ::2, -1] = 1  # what came up; the first channel is the skip's
        elif name.endswith("up.weight"):
            p[:, :, :, 0] = 1
    network.parameters["head.weight"][..., 1] = 2.0 ** (-5 * (2 * depth + 1))
    return network


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (37, 1), (97, 61)])
def test_tiles_equal_the_whole(padding, depth, size):
    network = Network(2, 3, 2, depth, padding=padding, random_state=1, algorithm="direct")  # auto asks for a tile's size
    image = np.random.default_rng(0).standard_normal((*size, 2)).astype(np.float32)
    whole = predict_proba(network, image)
    assert whole.shape == (*size, 3) and whole.dtype == np.float32
    np.testing.assert_allclose(whole.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(predict_proba(network, image, max_bytes=1), whole, rtol=0, atol=1e-6)


@settings(max_examples=50)
@given(
    h=st.integers(1, 110), w=st.integers(1, 70), depth=st.integers(0, 2), padding=st.sampled_from(["same", "valid"]),
    tta=st.booleans(),
)  # fmt: skip
def test_labels_of_tiles_are_those_of_the_whole(h, w, depth, padding, tta):
    network = Network(1, 3, 2, depth, padding=padding, random_state=1, algorithm="direct")
    image = np.random.default_rng(h * w).standard_normal((h, w, 1)).astype(np.float32)
    whole = predict_proba(network, image, tta=tta, max_bytes=np.inf)
    tiled = predict_proba(network, image, tta=tta, max_bytes=1)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(tiled.argmax(axis=-1), whole.argmax(axis=-1))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("budget", [1, np.inf])
def test_the_mean_of_turned_images_is_that_of_turning_them_by_hand(padding, budget):
    network = Network(2, 3, 2, 2, padding=padding, random_state=1, algorithm="direct")
    image = np.random.default_rng(0).standard_normal((77, 41, 2)).astype(np.float32)
    total = np.zeros((77, 41, 3))
    for flip in (False, True):
        for turns in range(4):
            turned = np.rot90(image[:, ::-1] if flip else image, turns)
            back = np.rot90(predict_proba(network, np.ascontiguousarray(turned), max_bytes=np.inf), -turns)
            total += back[:, ::-1] if flip else back
    found = predict_proba(network, image, tta=True, max_bytes=budget)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, total / 8, rtol=0, atol=1e-6)


def test_the_mean_of_turned_images_turns_with_the_image():
    network = Network(1, 2, 2, 1, random_state=1, algorithm="direct")
    image = np.random.default_rng(0).standard_normal((12, 20, 1)).astype(np.float32)
    found = predict_proba(network, np.ascontiguousarray(np.rot90(image)), tta=True)
    np.testing.assert_allclose(found, np.rot90(predict_proba(network, image, tta=True)), rtol=0, atol=1e-6)


def test_only_a_large_image_is_kept_to_small_runs(monkeypatch):
    network, budgets = Network(1, 2, 2, 1, random_state=0), []
    monkeypatch.setattr(tiles, "free_memory", lambda network: 2.0**40)
    monkeypatch.setattr(tiles, "tile_side", lambda network, h, w, budget: budgets.append(budget) or 16)
    for large in (17 * 16, 16 * 16):
        monkeypatch.setattr(tiles, "LARGE", large)
        predict_proba(network, np.zeros((16, 16, 1), np.float32))
    assert budgets == [2.0**38, 2.0**30]


@settings(max_examples=15)
@given(h=st.integers(1, 150), w=st.integers(1, 60), depth=st.integers(0, 2), padding=st.sampled_from(["same", "valid"]))
def test_tiles_equal_the_whole_bit_for_bit_where_sums_are_exact(h, w, depth, padding):
    network = open_network(depth, padding)
    image = np.random.default_rng(h * w).integers(0, 9, (h, w, 1)).astype(np.float64)
    with use_backend("reference"):
        whole = predict_proba(network, image, max_bytes=np.inf)
        np.testing.assert_array_equal(predict_proba(network, image, max_bytes=1), whole)


@pytest.mark.parametrize("depth", [1, 2])
def test_one_cell_less_of_halo_would_show(depth, monkeypatch):
    network, less = open_network(depth), halo(open_network(depth)) - 2**depth
    image = np.random.default_rng(0).integers(1, 9, (150, 8, 1)).astype(np.float64)
    whole = predict_proba(network, image)
    monkeypatch.setattr(tiles, "halo", lambda network: less)
    assert (predict_proba(network, image, max_bytes=1) != whole).any()


@pytest.mark.parametrize(("depth", "sight"), [(0, 2), (1, 8), (2, 22), (3, 46), (4, 94)])
def test_a_region_of_whole_cells_sees_just_as_far_as_the_halo(depth, sight):
    network, cell = open_network(depth), 2**depth
    around = halo(network)
    assert sight <= around < sight + cell
    region = slice(around + cell, around + 2 * cell)  # a single cell sees no less than a larger region
    x = np.ones((1, 2 * around + 3 * cell, 2 * cell, 1))
    base = network(x)[:, region]

    def seen(row):
        moved = x.copy()
        moved[:, row] += 1
        return bool((network(moved)[:, region] != base).any())

    assert seen(region.start - sight) and seen(region.stop - 1 + sight)
    for beyond in range(sight + 1, around + cell + 1):
        assert not seen(region.start - beyond) and not seen(region.stop - 1 + beyond)


def test_same_padding_is_the_network_itself_where_the_size_fits():
    network = Network(1, 2, 3, 2, dtype="float64")
    image = np.random.default_rng(0).standard_normal((16, 20, 1))
    z = network(image[None])[0]
    expected = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(predict_proba(network, image), expected, rtol=1e-12)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_borders_are_mirrored(padding):
    network = Network(1, 2, 2, 1, padding=padding, dtype="float64")
    image = np.random.default_rng(0).standard_normal((7, 9, 1))
    margin = network.margin
    size = [network.fitting_output(s) if padding == "valid" else s + 1 for s in (7, 9)]
    pad = [(margin, size[0] - 7 + margin), (margin, size[1] - 9 + margin), (0, 0)]
    logits = network(np.pad(image, pad, mode="reflect")[None])[0, :7, :9]
    expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(predict_proba(network, image), expected, rtol=1e-12)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("h", "w"), [(1000, 1500), (100, 20000)])
def test_the_largest_tile_that_fits(padding, h, w):
    network = Network(1, 2, 8, 4, padding=padding)

    def read(size, side):
        """Of a tile that keeps `side` of `size`: 96 pixels around it, which depth 4 sees; or 92, and at least what fits."""
        kept = min(side, size)
        return kept + (4 - kept) % 16 + 184 if padding == "valid" else min(size + -size % 16, side + 192)

    def n_bytes(side):
        return inference_bytes(network, 1, read(h, side), read(w, side))

    budget = 2 * n_bytes(128)
    side = tile_side(network, h, w, budget)
    assert 128 < side < max(h, w) and side % 16 == 0
    assert n_bytes(side) <= budget < n_bytes(side + 16)
    assert tile_side(network, h, w, n_bytes(max(h, w))) >= max(h, w)
    assert tile_side(network, h, w, 0) == 96


def test_the_networks_runs_keep_to_the_estimate(monkeypatch):
    network = Network(1, 2, 4, 2)
    image = np.zeros((300, 200, 1), np.float32)
    budget = (inference_bytes(network, 1, 300, 200) + inference_bytes(network, 1, 80, 80)) // 2
    sizes, run = [], Network.__call__
    monkeypatch.setattr(Network, "__call__", lambda self, x: (self is network and sizes.append(x.shape), run(self, x))[1])
    predict_proba(network, image, max_bytes=budget)
    assert len(sizes) > 1 and all(n == 1 and inference_bytes(network, n, h, w) <= budget for n, h, w, _ in sizes)


@pytest.mark.parametrize("shape", [(5, 5), (0, 5, 1), (1, 5, 5, 1)])
def test_an_image_that_is_none(shape):
    with pytest.raises(ValueError, match="image is an array of shape"):
        predict_proba(Network(1, 2, 1, 1), np.zeros(shape, np.float32))


@pytest.mark.parametrize("weight", [1e20, 3e38])
def test_what_is_not_finite_is_no_prediction(weight):
    network = Network(1, 2, 2, 1, random_state=0)
    network.parameters["encoder.0.conv1.weight"][...] = weight
    network.parameters["encoder.0.conv2.weight"][...] = weight
    with pytest.raises(FloatingPointError, match=r"no finite answer at \d+ of 64 pixels: its weights overflow, or the image"):
        predict_proba(network, np.ones((8, 8, 1), np.float32))


def test_neither_is_what_an_image_without_numbers_gives():
    image = np.ones((8, 8, 1), np.float32)
    image[3, 4] = np.nan
    with pytest.raises(FloatingPointError, match="no finite answer at"):
        predict_proba(Network(1, 2, 2, 1, random_state=0), image)
