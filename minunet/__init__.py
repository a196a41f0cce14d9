"""A U-Net with no deep-learning framework under it.

    from minunet import UNet
    unet = UNet().fit(images, masks)
    labels = unet.predict(new_images)

To study backpropagation, read ops.py, layers.py and network.py, in that order.
"""

from ._version import __version__

TYPE_CHECKING = False  # as in typing, which takes longer to import than all of this: no signal finds its handler meanwhile
if TYPE_CHECKING:
    from . import data, datasets, evaluation, kernels, layers, losses, modelfile, network, ops, optim, plot, testing, training
    from .data.augment import Augmentation
    from .data.border import border_weight_map
    from .data.folders import load_folder
    from .data.images import ImageFileError
    from .kernels import use_backend
    from .modelfile import ModelFileError
    from .network import Network
    from .scikit import NotFittedError
    from .training.csvlog import CSVLog
    from .unet import UNet, load

# Public names are imported where they are first used (PEP 562), so that `import minunet` stays light.
_HOME = {
    "UNet": "unet", "load": "unet", "NotFittedError": "scikit", "Network": "network", "use_backend": "kernels",
    "ModelFileError": "modelfile", "load_folder": "data.folders", "ImageFileError": "data.images",
    "Augmentation": "data.augment", "CSVLog": "training.csvlog", "border_weight_map": "data.border",
}  # fmt: skip
_MODULES = {
    name: name
    for name in (
        "data", "datasets", "evaluation", "kernels", "layers", "losses", "modelfile", "network", "ops", "optim", "plot",
        "testing", "training",
    )
}  # fmt: skip

__all__ = [
    "Augmentation", "CSVLog", "ImageFileError", "ModelFileError", "Network", "NotFittedError", "UNet", "__version__",
    "border_weight_map", "data", "datasets", "evaluation", "kernels", "layers", "load", "load_folder", "losses",
    "modelfile", "network", "ops", "optim", "plot", "testing", "training", "use_backend",
]  # fmt: skip


def __getattr__(name: str) -> object:
    home = _HOME.get(name) or _MODULES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib
    import sys

    from .whole import whole

    full = f"{__name__}.{home}"  # whole: of NumPy, which it may be the first to import, half can never be made whole again
    module = importlib.import_module(full) if full in sys.modules else whole(importlib.import_module, full)
    return getattr(module, name) if name in _HOME else module


def __dir__() -> list[str]:
    return sorted(__all__)
