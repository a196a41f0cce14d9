"""Augmentation: patches moved and changed as another specimen, or another microscope, might have shown them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..checks import is_number, mismatch, require, shown
from .geometry import GRID, N_SYMMETRIES, Patch, Window, displacements, symmetry
from .intensity import blurred, contrasted, gamma_corrected
from .mistakes import kind

if TYPE_CHECKING:
    from .sampling import Example

Function = Callable[..., Any]  # (image, mask, rng) -> (image, mask)

MOST = {
    "rotation": 180, "scale": 1, "elastic": 1000, "blur": 10, "contrast": 4, "brightness": 2, "gamma": 4, "noise": 2, "often": 10,
}  # fmt: skip
SHARES = {  # of the patches, each drawn by itself: Isensee et al. 2021, supplementary note 4; elastic is ours
    "rotation": 0.2, "scale": 0.2, "elastic": 0.2, "blur": 0.2, "contrast": 0.15, "brightness": 0.15, "gamma": 0.3, "noise": 0.1,
}  # fmt: skip
TAKES = "True, False, 'flips', a minunet.Augmentation, or a function (image, mask, rng) -> (image, mask)"


@dataclass(frozen=True)
class Augmentation:
    """How strongly patches are changed; 0 leaves a change out.

    Image, mask and weights move together, in one resampling. What lies beyond the image is mirrored and does not count, and a
    patch that would hold nothing else is left where it is. Strengths of intensity are those of scaled images, whose values lie
    mostly in -1 .. 1, and are drawn for each channel by itself (with UNet's context, of each slice), but for blur and noise.

    flips : each of the 8 quarter turns and flips alike, of every patch.
    rotation : degrees, at most, either way, of 20 % of the patches; with the quarter turns, 45 gives any direction.
    scale : of 20 %, a factor from 1 / (1 + scale) to 1 + scale, log-uniform.
    elastic : of 20 %, standard deviation in pixels of the displacements of a 3 x 3 grid over the patch, interpolated
        bicubically (Ronneberger et al. 2015, section 3.1); less in patches so small that it would fold them.
    blur : of 20 %, a Gaussian's sigma in pixels, half of it at least.
    contrast : of 15 %, a factor on distances from the mean, from 1 / (1 + contrast) to 1 + contrast.
    brightness : of 15 %, what is added, at most, either way.
    gamma : of 30 %, an exponent from 1 / (1 + gamma) to 1 + gamma.
    noise : of 10 %, a Gaussian's standard deviation, at most.
    often : times these shares.

    The shares, and the strengths of what is not moved, are about nnU-Net's (Isensee et al. 2021). ValueError names what cannot
    be meant.
    """

    flips: bool = True
    rotation: float = 45.0
    scale: float = 0.25
    elastic: float = 10.0
    blur: float = 1.0
    contrast: float = 0.5
    brightness: float = 0.2
    gamma: float = 0.5
    noise: float = 0.05
    often: float = 1.0

    def __post_init__(self) -> None:
        require(isinstance(self.flips, (bool, np.bool_)), "flips", shown(self.flips), "True or False")
        for name, most in MOST.items():
            value = getattr(self, name)
            require(is_number(value) and 0 <= value <= most, name, shown(value), f"a number from 0 to {most}")
            object.__setattr__(self, name, float(value))  # of NumPy's, a model file could not hold
        object.__setattr__(self, "flips", bool(self.flips))

    def patch(self, window: Window, rng: np.random.Generator) -> Patch:
        """Return what the network is to see of a window. Whatever is switched off, all else is drawn the same."""
        k = int(rng.integers(N_SYMMETRIES))
        wanted = dict(zip(SHARES, rng.random(len(SHARES)), strict=True))
        drawn = {name for name, u in wanted.items() if u < self.often * SHARES[name] and getattr(self, name) > 0}
        moved = self._moved(window, drawn, rng)
        image = self._changed(moved.image, drawn, rng)
        k = k if self.flips else 0
        return Patch(symmetry(image, k), symmetry(moved.label, k), symmetry(moved.weight, k))

    def _moved(self, window: Window, drawn: set[str], rng: np.random.Generator) -> Patch:
        turn, size = rng.uniform(-1, 1, 2)
        nodes = rng.standard_normal((2, GRID, GRID))
        if not drawn & {"rotation", "scale", "elastic"}:
            return window.plain()
        moved = window.warped(
            math.radians(self.rotation * turn) if "rotation" in drawn else 0.0,
            (1 + self.scale) ** size if "scale" in drawn else 1.0,
            displacements(nodes, self.elastic, window.side) if "elastic" in drawn else None,
        )  # fmt: skip
        return moved if moved.weight.any() else window.plain()

    def _changed(self, image: NDArray, drawn: set[str], rng: np.random.Generator) -> NDArray:
        sigma, spread = rng.random(2)
        contrast, brightness, gamma = rng.uniform(-1, 1, (3, image.shape[2]))
        if "blur" in drawn:
            image = blurred(image, self.blur * (1 + sigma) / 2)
        if drawn & {"contrast", "brightness"}:
            factors = (1 + self.contrast * ("contrast" in drawn)) ** contrast
            image = contrasted(image, factors, self.brightness * ("brightness" in drawn) * brightness)
        if "gamma" in drawn:
            image = gamma_corrected(image, (1 + self.gamma) ** gamma)
        if "noise" in drawn:
            image = image + np.float32(self.noise * spread) * rng.standard_normal(image.shape, np.float32)
        return image


_NOTHING = Augmentation(flips=False, **dict.fromkeys(SHARES, 0.0))
_NAMED = {True: Augmentation(), False: _NOTHING, "flips": Augmentation(**asdict(_NOTHING) | {"flips": True})}
STRENGTHS = tuple(field.name for field in fields(Augmentation))


class OwnTransform:
    """A function of the user's in the place of ours: it is given copies, and what it returns is looked at."""

    def __init__(self, function: Function, examples: Sequence[Example], n_classes: int) -> None:
        """ValueError where weights differ within an image: a function that moves pixels would have to move those, too."""
        self.function, self.n_classes = function, n_classes
        self.given = self.emptied = 0  # patches, and those of which the function left nothing
        for example in examples:
            counted = np.zeros(0) if example.weight is None else example.weight[example.weight > 0]
            if counted.size and counted.min() < counted.max():
                raise ValueError(
                    f"augment is a function, and the weights of {example.name or 'an image'} differ from pixel to pixel: it "
                    "could not move them. With it, an image takes weights of 0 and one other number; a minunet.Augmentation "
                    "(augment=True) moves any"
                )

    def patch(self, window: Window, rng: np.random.Generator) -> Patch:
        """Return what the function makes of a window; as it was, where the function left nothing of it that counts."""
        wide = Window(window.example, window.top - window.margin, window.left - window.margin, window.side).plain()
        mask = np.where(wide.weight > 0, wide.label, -1).astype(np.int32)
        counts, inner = wide.weight.max(), slice(window.margin, window.margin + window.size)
        image, mask = self._returned(self.function(wide.image, mask, rng), wide.image.shape)
        label = mask[inner, inner]
        self.given += 1
        if not (label >= 0).any():
            self.emptied += 1
            return window.plain()
        return Patch(image, np.maximum(label, 0), counts * (label >= 0).astype(np.float32))

    @property
    def doubt(self) -> str | None:
        """A sentence, if nothing that the function made was taken yet."""
        if not self.given or self.emptied < self.given:
            return None
        return (
            f"augment, a function, left nothing that counts of any of {self.given} patches, only -1 in their masks: they were "
            "taken as they were, not augmented. It takes the mask with -1 only where pixels shall not count"
        )

    def _returned(self, told: Any, shape: tuple[int, ...]) -> tuple[NDArray, NDArray]:
        """Return a function's image and mask as the network takes them; ValueError where it cannot."""
        pair = isinstance(told, (tuple, list)) and len(told) == 2
        self._require(pair, "something else than a pair", f"(image, mask), and not {kind(told)}")
        image, mask = (self._array(what, a) for what, a in zip(("an image", "a mask"), told, strict=True))
        self._require(image.shape == shape, f"an image of shape {image.shape}", f"{shape}, as it is given")
        self._require(image.dtype.kind == "f", f"an image of dtype {image.dtype}", "float32, as it is given")
        with np.errstate(over="ignore"):  # what float32 does not hold is refused as infinite
            image = image.astype(np.float32)
        self._require(np.isfinite(image).all(), "an image with NaN or infinity", "finite numbers, of float32")
        self._require(mask.shape == shape[:2], f"a mask of shape {mask.shape}", f"{shape[:2]}, as it is given")
        self._require(mask.dtype.kind in "iu", f"a mask of dtype {mask.dtype}", "whole numbers, as it is given")
        low, high = int(mask.min()), int(mask.max())
        classes = f"class indices from 0 to {self.n_classes - 1}, and -1 for what does not count"
        self._require(low >= -1 and high < self.n_classes, f"a mask of values from {low} to {high}", classes)
        return image, mask.astype(np.int32)

    def _array(self, what: str, told: Any) -> NDArray:
        self._require(not np.ma.isMaskedArray(told), f"{what} that is masked", "an array, and -1 in the mask for what is hidden")
        try:
            return np.asarray(told)
        except Exception:  # each library refuses in its own way
            self._require(False, f"{what} that is {kind(told)}, and no array", "arrays of NumPy's")
            raise

    def _require(self, holds: Any, returned: str, takes: str) -> None:
        if not holds:
            raise ValueError(f"augment, the function {shown(self.function)}, returned {returned}; it is to return {takes}")


def check(augment: Any) -> None:
    """Raise a ValueError unless this can be meant."""
    own = callable(augment) and not isinstance(augment, type)
    named = isinstance(augment, (bool, np.bool_)) or (isinstance(augment, str) and augment == "flips")
    call = f"; {augment.__name__}() makes one" if isinstance(augment, type) else ""
    require(named or own or isinstance(augment, Augmentation), "augment", shown(augment), TAKES + call)
    if own:
        wrong = mismatch(augment, "image", "mask", "rng")
        require(not wrong, "augment", f"{shown(augment)}, a function of other arguments ({wrong})", TAKES)


def resolve(augment: Any, examples: Sequence[Example], n_classes: int) -> Augmentation | OwnTransform:
    """Return what makes a patch of a window, of what UNet's augment may be."""
    if isinstance(augment, Augmentation):
        return augment
    if isinstance(augment, (bool, np.bool_, str)):
        return _NAMED[augment if isinstance(augment, str) else bool(augment)]
    return OwnTransform(augment, examples, n_classes)


def described(augment: Any) -> Any:
    """Return it as JSON can hold it: a function as what it calls itself."""
    if isinstance(augment, Augmentation):
        return asdict(augment)
    return augment if isinstance(augment, (bool, np.bool_, str)) else repr(augment)


def restored(said: Any) -> Any:
    """Return what was `described`; of a function there is but its text, which `check` refuses. ValueError names a strength."""
    return Augmentation(**said) if isinstance(said, dict) else said
