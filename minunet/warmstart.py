"""Going on with a model: its weights in a new network, which may have more classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import kernels
from .blocks import by_name
from .checks import require, shown
from .data.prepare import Known
from .network import Network

if TYPE_CHECKING:
    from .unet import UNet

ARCHITECTURE = ("base_channels", "depth", "padding", "block", "norm")  # with channels and classes, these say which weights
SETTLED = (*ARCHITECTURE, "normalize", "context", "target")  # parameters that whoever goes on with a model takes from it


def settled(unet: UNet) -> Known:
    """Return what a fitted model has settled for whoever goes on with it; ValueError where its parameters say otherwise."""
    unet._check_fitted()
    has = {name: unet.network_.config[name] for name in ARCHITECTURE} | {"normalize": unet.normalizer_.setting}
    has |= {"context": unet.context_, "target": "classes" if unet.smallest_object_ is None else "instances"}
    for name in SETTLED:
        value, given = has[name], getattr(unet, name)
        given = by_name(given) if name == "block" else given
        takes = f"{shown(value)}, as the model has that warm_start goes on with (warm_start=False trains a new one)"
        require(given == value, name, shown(given), takes)
    return Known(unet.classes_, unet.joined_, unet.snap_, unet.ignore_index_, unet.normalizer_, unet.n_channels_in_)


def take_weights(network: Network, classes: NDArray, older: Network, older_classes: NDArray) -> None:
    """Write an older network's weights into a new one, whose classes are the older ones and perhaps others, in rising order.

    A new class starts as the mean of the older ones: the relations of their probabilities stay, and what was most probable
    still is, since no mean exceeds the largest; yet it is likely enough to be learned, with any loss.
    Side heads begin anew where the older network has none, and end where the new one has none: what is predicted is not theirs.
    """
    places = np.searchsorted(classes, older_classes)
    asarray = kernels.for_array(network.flat).asarray
    for name in network.parameters.keys() & older.parameters.keys():
        values = kernels.to_host(older.parameters[name])
        if values.shape != network.parameters[name].shape:  # a head's
            columns = np.repeat(values.mean(axis=-1, keepdims=True), len(classes), axis=-1)
            columns[..., places] = values
            values = columns
        network.parameters[name][...] = asarray(values)
    network.state.flat[...] = asarray(kernels.to_host(older.state.flat))
