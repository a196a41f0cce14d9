"""Where a mask lies on its image: whether it is shifted or turned against what it shows, or inverted against the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from .page import TURNS, upright
from .sampling import Example
from .sliced import Image

# Numbers that find what was moved by a few pixels, and keep quiet where image and mask
# have little in common, where shading, halos or shadows correlate better with a moved mask, and where boxes stand for objects.
MAX_SIDE = 384  # pixels: the middle is enough
MAX_SHIFT = 64
MIN_SHIFT = 3  # less is how people draw
SHIFT_CORRELATION = 0.2  # at the best shift, and ...
SHIFT_GAIN = 1.5  # ... times as much as where the mask lies, and ...
CLEAR = 6.0  # ... times the noise. Of edges and values, the clearer counts, unless the other ...
SEEN = 4.0  # ... sees the mask in place with so many times its noise, ...
DENIED_GAIN = 1.2  # ... and no such gain elsewhere
TURN_CORRELATION = 0.15  # in place, once turned: there are two places to choose from, not thousands
SIGN = 0.15  # correlation of image and mask that has a sign to speak of
LOOKED_AT = 8  # images of a training: less than a second, and who loads one mask in the wrong way loads all so

SHIFTED = "the mask looks shifted against its image; lay one over the other, and move the mask back"
WAYS = {  # that turn a mask as TURNS does
    2: "mask[:, ::-1]", 3: "mask[::-1, ::-1]", 4: "mask[::-1]", 5: "mask.T", 6: "np.rot90(mask, -1)",
    7: "np.rot90(mask, 2).T", 8: "np.rot90(mask)",
}  # fmt: skip


def inverted(signs: Sequence[int], shares: Sequence[float]) -> list[int]:
    """Return the masks whose sign is against that of most others, and whose share of the second class is exchanged too.

    The shares are asked since an honest set may hold both bright objects on a dark ground and dark ones on a bright.
    """
    usual = [i for i, sign in enumerate(signs) if sign * sum(signs) > 0]
    against = [i for i, sign in enumerate(signs) if sign * sum(signs) < 0]
    if len(usual) < 2 or 2 * len(against) > len(usual):
        return []
    share = float(np.median([shares[i] for i in usual]))
    return [i for i in against if abs(shares[i] - (1 - share)) <= abs(shares[i] - share)]


def fit_of(image: Image, index: NDArray) -> tuple[int, tuple[int, int] | None]:
    """Compare an image (H, W, C) with its mask's class indices (H, W): their values, and their edges.

    Return whether the indices rise with the image (1), fall (-1) or do neither clearly (0), and by how many rows and
    columns they are off, if they are.
    """
    found = _compared(image, index)
    if found is None:
        return 0, None
    values, edges = found
    in_place = float(values[0, 0])
    clear = abs(in_place) >= max(SIGN, CLEAR * float(values.std()))
    return int(np.sign(in_place)) if clear else 0, _shift(_Peak(np.abs(values)), _Peak(edges))


def fits_turned(image: Image, index: NDArray, orientation: int) -> bool:
    """Tell whether class indices (H, W) fit an image (H, W, C) only when they are turned as the image was to be upright.

    Such masks were drawn on the pixels as they are stored, with a program that does not know of the orientation.
    """
    if orientation not in TURNS or index.shape != (turned := upright(index, orientation)).shape:
        return False
    found = [compared for each in (index, turned) if (compared := _compared(image, each)) is not None]
    if len(found) < 2:
        return False
    here, there = ([_Peak(np.abs(values)), _Peak(edges)] for values, edges in found)
    clearer, other = sorted((0, 1), key=lambda i: -there[i].in_place / there[i].noise)
    seen = max(TURN_CORRELATION, SEEN * there[clearer].noise, SHIFT_GAIN * here[clearer].in_place)
    denied = here[other].in_place >= max(SEEN * here[other].noise, DENIED_GAIN * there[other].in_place)
    return there[clearer].in_place >= seen and not denied


def shifts(examples: Sequence[Example]) -> dict[int, tuple[int, int]]:
    """Return by how many rows and columns masks are off, by the examples' numbers; some of many are looked at."""
    found = {i: fit_of(examples[i].image, _labelled(examples[i]))[1] for i in _some(len(examples))}
    return {i: shift for i, shift in found.items() if shift}


def shifted_by(name: str, shift: tuple[int, int]) -> str:
    return f"{name} ({shift[0]:+d} rows, {shift[1]:+d} columns)"


def turned(examples: Sequence[Example]) -> str | None:
    """Return how masks must be turned to fit their images, as NumPy says it, where most of some examples say the same."""
    some = [examples[i] for i in _some(len(examples))]
    votes = Counter(turn for e in some for turn in TURNS if fits_turned(e.image, _labelled(e), turn))
    turn, n = max(votes.items(), key=lambda vote: vote[1], default=(1, 0))
    return WAYS[turn] if 2 * n > len(some) else None


def _some(n: int) -> list[int]:
    """Return numbers of examples, from the first of n to the last."""
    return sorted({round(i) for i in np.linspace(0, n - 1, min(n, LOOKED_AT)).tolist()})


def _labelled(example: Example) -> NDArray:
    return example.label if example.weight is None else without(example.label, example.weight > 0)


def without(index: NDArray, counted: NDArray[np.bool_]) -> NDArray:
    """Return class indices with the most frequent class where they do not count: no edge runs along that."""
    return np.where(counted, index, np.argmax(np.bincount(index[counted], minlength=1)))


def _compared(image: Image, index: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the correlations of values and of edges by how far the mask is moved; None where one shows nothing."""
    starts = [max(0, side - MAX_SIDE) // 2 for side in index.shape]
    middle = slice(starts[0], starts[0] + MAX_SIDE), slice(starts[1], starts[1] + MAX_SIDE)
    shown = np.mean([_standardised(channel) for channel in np.moveaxis(image[middle], -1, 0)], axis=0)
    drawn = _standardised(index[middle])
    if not (shown.any() and drawn.any()):
        return None
    edges = (_standardised(ndimage.gaussian_gradient_magnitude(picture, 1.0)) for picture in (shown, drawn))
    return _correlations(_standardised(shown) if image.shape[2] > 1 else shown, drawn), _correlations(*edges)


class _Peak:
    """Where the correlations of an image with its moved mask are highest within reach, and how that compares with in place.

    Noise is the correlations' standard deviation over all shifts: what chance gives two such pictures.
    """

    def __init__(self, correlations: NDArray[np.float64]) -> None:
        rows, columns = (np.arange(-reach, reach + 1) for reach in (min(MAX_SHIFT, n // 4) for n in correlations.shape))
        window = correlations[np.ix_(rows, columns)]
        row, column = np.unravel_index(int(window.argmax()), window.shape)
        self.row, self.column, self.height = int(rows[row]), int(columns[column]), float(window.max())
        self.in_place = float(window[np.maximum(np.abs(rows)[:, None], np.abs(columns)) < MIN_SHIFT].max())
        self.noise = float(correlations.std()) or 1.0

    @property
    def is_elsewhere(self) -> bool:
        """Whether the mask clearly lies elsewhere than what it shows."""
        return self.height >= max(SHIFT_CORRELATION, CLEAR * self.noise, SHIFT_GAIN * self.in_place)

    def denies(self, other: _Peak) -> bool:
        """Whether it shows the mask in place, or at another place than the other does."""
        apart = max(abs(self.row - other.row), abs(self.column - other.column)) >= MIN_SHIFT
        return self.in_place >= SEEN * self.noise and (apart or self.height < DENIED_GAIN * self.in_place)


def _shift(values: _Peak, edges: _Peak) -> tuple[int, int] | None:
    """Return by how many rows and columns a mask is off, if the clearer of its two peaks says so and the other does not deny."""
    clearer, other = sorted((values, edges), key=lambda peak: -peak.height / peak.noise)
    return (clearer.row, clearer.column) if clearer.is_elsewhere and not other.denies(clearer) else None


def _correlations(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    """Return the correlation of a with b, both standardised, moved back by each number of rows and columns, as on a torus."""
    spectrum = np.conj(fft.rfft2(a)) * fft.rfft2(b)
    return np.asarray(fft.irfft2(spectrum, a.shape)) / a.size


def _standardised(values: NDArray) -> NDArray[np.float64]:
    """Return values of mean 0 and standard deviation 1; all 0 where they are alike."""
    scaled = values.astype(np.float64)
    scaled /= max(float(np.abs(scaled).max()), np.finfo(float).tiny)  # so that no square overflows
    scaled -= scaled.mean()
    deviation = float(scaled.std())
    return scaled / deviation if deviation > 1e-12 else np.zeros_like(scaled)
