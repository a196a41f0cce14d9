"""Objects one by one, out of what is known of pixels: those that touch are parted where the network saw a border."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..data.instances import GROUND, INSIDE

CORNERS = np.ones((3, 3), bool)  # an object may hang together by corners
BLUR = 1.4  # pixels, a Gaussian's sigma: what a single pixel says of being inside is mostly noise
RISE = 0.05  # of the probability of being inside, between two objects: a lower rise beside a higher one is a part of that
SPECK = 0.5  # objects of less than this share of the smallest known one are none


def regions(foreground: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the number of each pixel's 8-connected region, 1 to n; 0 is the ground (H, W)."""
    from scipy import ndimage  # here: it takes long to import

    return np.asarray(ndimage.label(foreground, CORNERS)[0], np.int32)


def parted(probabilities: NDArray[np.floating], smallest: int) -> NDArray[np.int32]:
    """Return the number of each pixel's object, 1 to n; 0 is the ground (H, W).

    probabilities : of ground, inside and border (H, W, 3). smallest : pixels of the smallest object that is known. All that is
    rather object than ground is of the object whose top it leads up to: a place that is more probably inside than all around,
    however probable that is, for small objects are hardly more than border.
    """
    from scipy import ndimage
    from skimage.morphology import local_maxima, reconstruction
    from skimage.segmentation import watershed

    foreground = probabilities[..., GROUND] < 0.5
    inside = ndimage.gaussian_filter(probabilities[..., INSIDE], BLUR)
    height = np.pad(np.where(foreground, inside, -1.0), 1, constant_values=-1.0)  # around it lies what is lower
    tops = local_maxima(reconstruction(height - RISE, height, footprint=CORNERS))[1:-1, 1:-1]  # Soille 2003, 6.3.5
    objects = watershed(-inside, ndimage.label(tops, CORNERS)[0], mask=foreground, connectivity=CORNERS)
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
