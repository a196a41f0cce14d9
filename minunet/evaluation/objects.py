"""Objects one by one, out of what is known of pixels: those that touch are parted where the network saw a border."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..data.instances import GROUND, INSIDE

CORNERS = np.ones((3, 3), bool)  # an object may hang together by corners
SURE = 0.5  # probability of being inside, from which a pixel is a seed
SPECK = 0.5  # objects of less than this share of the smallest known one are none


def regions(foreground: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the number of each pixel's 8-connected region, 1 to n; 0 is the ground (H, W)."""
    from scipy import ndimage  # here: it takes long to import

    return np.asarray(ndimage.label(foreground, CORNERS)[0], np.int32)


def parted(probabilities: NDArray[np.floating], smallest: int) -> NDArray[np.int32]:
    """Return the number of each pixel's object, 1 to n; 0 is the ground (H, W).

    probabilities : of ground, inside and border (H, W, 3). smallest : pixels of the smallest object that is known. Sure insides
    are seeds, and grow by watershed, from the surest pixels on, into all that is rather object than ground.
    """
    from scipy import ndimage
    from skimage.segmentation import watershed

    inside, foreground = probabilities[..., INSIDE], probabilities[..., GROUND] < 0.5
    seeds, _ = ndimage.label(inside > SURE)  # without corners: two insides that meet at one are two
    objects = watershed(-inside, seeds, mask=foreground)
    sizes = np.bincount(objects.ravel())
    return _renumbered(np.where(sizes[objects] >= SPECK * smallest, objects, 0))


def require_watershed() -> None:
    """Raise an ImportError that says what to install, if scikit-image is missing."""
    try:
        import skimage.segmentation  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "objects that touch are parted by scikit-image's watershed, which is not installed: pip install 'minunet[instances]'"
        ) from error


def _renumbered(objects: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return the same objects numbered from 1 on without gaps, in the order of their numbers."""
    numbers, places = np.unique(objects, return_inverse=True)
    return (places.reshape(objects.shape) + (0 if numbers[0] == 0 else 1)).astype(np.int32)
