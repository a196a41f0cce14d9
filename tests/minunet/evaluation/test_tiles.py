"""Tiles give what the whole gives; the halo is as wide as the network can see."""

import numpy as np
import pytest

from minunet.evaluation.tiles import halo, predict_proba
from minunet.network import Network


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (37, 1), (97, 61), (130, 200)])
def test_tiles_equal_the_whole(padding, depth, size):
    network = Network(2, 3, 3, depth, padding=padding, dtype="float64", random_state=1)
    image = np.random.default_rng(0).standard_normal((*size, 2))
    whole = predict_proba(network, image)
    assert whole.shape == (*size, 3)
    np.testing.assert_allclose(whole.sum(axis=-1), 1)
    np.testing.assert_allclose(predict_proba(network, image, max_bytes=1), whole, rtol=0, atol=1e-12)


def test_same_padding_is_the_network_itself_where_the_size_fits():
    network = Network(1, 2, 3, 2, dtype="float64")
    image = np.random.default_rng(0).standard_normal((16, 20, 1))
    z = network(image[None])[0]
    expected = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(predict_proba(network, image), expected, rtol=1e-12)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_the_halo_covers_all_that_a_pixel_sees_and_little_more(depth):
    network = Network(1, 1, 1, depth, dtype="float64")
    network.flat[:] = 1  # all weights and biases positive: every connection is open
    size = 4 * halo(network) + 2**depth * 4
    x = np.ones((1, size, 1 << depth, 1))
    base = network(x)
    farthest = 0
    for row in range(size // 2, size // 2 + 2**depth):
        moved = x.copy()
        moved[0, row] = 2
        changed = np.flatnonzero((network(moved) != base).any(axis=(0, 2, 3)))
        farthest = max(farthest, changed.max() - row, row - changed.min())
    assert farthest <= halo(network) < farthest + 2 * 2**depth
