"""`minunet predict`: from a model and images to label images."""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from .. import files, predicting
from ..data import pixelsize
from ..data.folders import image_files, images_inside, require_there
from ..data.images import read_pages
from ..data.labels import MAX_CLASSES
from ..data.pixelsize import Size
from ..evaluation.places import least_dtype
from ..signals import held
from ..text import folded, printable, shown
from ..unet import UNet
from ..writing import Folder
from . import flags, outputs
from .console import complain
from .overlay import overlay

HELP = "segment images with a model"
DESCRIPTION = (
    "Write for each image OUT/<stem>.png with the mask's own values (.tif for a stack, or more than 16 bits), and "
    "OUT/<stem>_overlay.png to look at: each class but the most frequent one tinted, with its outline."
)
EXAMPLES = """examples:
  minunet predict model.safetensors new-images -o out
  minunet predict model.safetensors a.tif b.png -o out --probabilities
"""


MICROMETRES, MICROMETRES_AN_INCH, MICROMETRES_A_CM = 1e6, 25400.0, 1e4
PROBABILITIES = "_probabilities.tif"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="a file that `minunet train` wrote")
    parser.add_argument("inputs", type=Path, nargs="+", metavar="FILE-OR-FOLDER", help="images, or folders of images")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="the folder to write to")
    parser.add_argument(
        "--probabilities", action="store_true",
        help="write OUT/<stem>_probabilities.tif too: a page a class, float32, in the order of the classes",
    )  # fmt: skip
    parser.add_argument(
        "--instances", action="store_true", help="number the objects instead, 1, 2, ... in each image; 0 is the ground"
    )
    flags.add_tta_flag(parser)
    flags.add_pixel_flag(parser)
    parser.add_argument("--force", action="store_true", help="replace what is in OUT")
    flags.add_machine_flags(parser)
    flags.add_output_flags(parser, verbose="tell each image's shares of the classes, or its objects")


def run(arguments: argparse.Namespace) -> int:
    """Predict image after image; one that cannot be read is told, and the rest goes on. Return 1 if there was one."""
    machine = flags.machine(arguments)
    unet = flags.loaded(arguments.model, machine)
    if arguments.instances:
        predicting.require_parts(unet)
    paths = _gather(arguments.inputs)
    _require_output(arguments.output, arguments.inputs)
    _require_targets(paths, arguments)
    outputs.make_folder(arguments.output)
    n_failed = 0
    with Folder(arguments.output) as folder:
        folder.probe()
        for path in flags.each(paths, "predicting", arguments.quiet):
            try:
                _predict(unet, path, folder, arguments)
            except (ValueError, FileExistsError) as error:
                n_failed += 1
                complain(error)
    if n_failed:
        complain(f"{n_failed} of {len(paths)} images could not be predicted")
    return 1 if n_failed else 0


def _predict(unet: UNet, path: Path, folder: Folder, arguments: argparse.Namespace) -> None:
    """Predict an image, write what was found, and tell."""
    found = read_pages(path, max_pixels=arguments.max_pixels)
    pages, size = [page.pixels for page in found], found[0].size
    with flags.about(shown(path), pages=len(pages)):
        # What is masked is of the first class.
        probabilities = [np.ma.filled(p, 0) for p in unet.predict_proba(pages, tta=arguments.tta)]
    labels, classes = [unet._labels(p) for p in probabilities], unet.classes_
    _warn(path, pages, labels)
    if arguments.instances:
        labels = [predicting.objects(unet, p) for p in probabilities]
        classes = np.arange(max(2, 1 + max(int(label.max()) for label in labels)))
    if told := pixelsize.mismatch(size, unet.pixel_size_):
        complain(f"warning: {shown(path)}: {told}")
    made = _encoded(path.stem, pages, labels, probabilities, classes, arguments.probabilities, size)
    with held():
        for name, content in made.items():
            folder.write(name, content, replace=arguments.force)
    if not arguments.quiet:
        told = f"{sum(int(label.max()) for label in labels)} objects" if arguments.instances else _shares(labels, classes)
        shares = f"  ({told})" if arguments.verbose else ""
        print(f"{shown(path)} -> {printable(arguments.output / next(iter(made)))}{shares}", flush=True)


def encode_labels(pages: Sequence[NDArray], classes: NDArray, size: Size | None = None) -> tuple[str, bytes]:
    """Return a file's ending and content that hold the pages of mask values (H, W) unchanged: PNG, or else TIFF.

    size : of a pixel, in micrometres, which becomes the file's resolution.
    """
    least, largest = int(classes.min()), int(classes.max())
    if len(pages) == 1 and least >= 0 and largest < 2**16:
        dtype = np.dtype(bool if classes.dtype == bool else np.uint8 if largest < 2**8 else np.uint16)
        buffer = io.BytesIO()
        Image.fromarray(pages[0].astype(dtype)).save(buffer, "PNG", **_dots(size))
        return ".png", buffer.getvalue()
    dtype = least_dtype(classes)
    return ".tif", _tiff([page.astype(dtype) for page in pages], "YX", size)


def _dots(size: Size | None) -> dict[str, tuple[float, float]]:
    """Return Pillow's option for a pixel's size; a PNG counts whole pixels a metre, in 31 bits."""
    if size is None or not all(MICROMETRES / 2**31 < side <= MICROMETRES for side in size):
        return {}
    return {"dpi": (MICROMETRES_AN_INCH / size[1], MICROMETRES_AN_INCH / size[0])}


def _gather(inputs: Sequence[Path]) -> list[Path]:
    paths: list[Path] = []
    for given in inputs:
        require_there(given)
        paths += image_files(given)[0] if given.is_dir() else [given]
        if given.is_dir() and (told := images_inside(given, inputs)):
            complain(f"warning: {told}")
    return list(dict.fromkeys(paths))


def _require_output(output: Path, inputs: Sequence[Path]) -> None:
    """Refuse an output folder that is a file, or that a next run would take for input."""
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"{output} is a file; -o takes a folder, which is made where it is missing")
    for folder in (path for path in inputs if path.is_dir()):
        if output.resolve() == folder.resolve() or folder.resolve() in output.resolve().parents:
            raise ValueError(f"{output} lies in {folder}, whose images are read: outputs would mix with them; give another -o")
    existing = next(parent for parent in (output.absolute(), *output.absolute().parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        raise PermissionError(f"nothing can be written into {existing}; give another -o")


def _require_targets(paths: Sequence[Path], arguments: argparse.Namespace) -> None:
    """Refuse names that two outputs would have, that cannot be, that are there already, or that are read."""
    owner: dict[str, Path] = {}
    for path in paths:
        for name in _names(path.stem, arguments.probabilities):
            first = owner.setdefault(folded(name), path)
            if first is not path:
                raise ValueError(f"{first} and {path} would both be written as {name}; predict them into two folders")
    there = [path for path in (arguments.model, *paths) if os.path.exists(path)]  # a link to nothing is told when it is read
    read = {(status.st_dev, status.st_ino): path for path in there if (status := os.stat(path)).st_ino}
    longest = _longest_name(arguments.output)
    for path in paths:
        for name in _names(path.stem, True):  # probabilities of another run would be taken for those of these labels
            target = arguments.output / name
            if len(os.fsencode(name)) > longest:
                if arguments.probabilities or not name.endswith(PROBABILITIES):
                    raise ValueError(f"{shown(path)}: its prediction's name, {name}, is longer than {longest} bytes; rename it")
                continue
            if not files.taken(target):
                continue
            outputs.require_free([target], arguments.force)
            status = os.lstat(target)
            if given := read.get((status.st_dev, status.st_ino)):
                raise ValueError(f"{target} would be replaced, but it is {given}, which is read; give another -o")


def _names(stem: str, with_probabilities: bool) -> list[str]:
    """Return the names that the files of an image may get; how many pages it has will tell which."""
    endings = [".png", ".tif", "_overlay.png", "_overlay.tif", *([PROBABILITIES] if with_probabilities else [])]
    return [stem + ending for ending in endings]


def _longest_name(folder: Path) -> int:
    """Return how many bytes a name may have in the folder, or where it will be made."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        return os.pathconf(existing, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows has 255 characters
        return 255


def _encoded(
    stem: str, pages: Sequence[NDArray], labels: Sequence[NDArray], probabilities: Sequence[NDArray], classes: NDArray,
    with_probabilities: bool, size: Size | None,
) -> dict[str, bytes]:  # fmt: skip
    """Return the files of one image by name, that of the labels first."""
    ending, content = encode_labels(labels, classes, size)
    made = {stem + ending: content}
    pictures = [overlay(page, label, classes) for page, label in zip(pages, labels, strict=True)]
    buffer = io.BytesIO()
    if len(pictures) == 1:
        pictures[0].save(buffer, "PNG")
    else:
        pictures[0].save(buffer, "TIFF", save_all=True, append_images=pictures[1:], compression="tiff_deflate")
    made[f"{stem}_overlay{'.png' if len(pictures) == 1 else '.tif'}"] = buffer.getvalue()
    if with_probabilities:
        made[stem + PROBABILITIES] = _tiff([np.moveaxis(p, -1, 0) for p in probabilities], "CYX", size)
    return made


def _tiff(pages: Sequence[NDArray], axes: str, size: Size | None) -> bytes:
    """Return pages as a TIFF file: a stack where they are several and alike, else one series each."""
    if len(pages) > 1 and len({page.shape for page in pages}) == 1:
        pages, axes = [np.stack(pages)], f"Q{axes}"
    options: dict[str, Any] = {"metadata": {"axes": axes}, "photometric": "minisblack", "compression": "zlib"}
    if size is not None:
        options |= {"resolution": (MICROMETRES_A_CM / size[1], MICROMETRES_A_CM / size[0]), "resolutionunit": "CENTIMETER"}
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for page in pages:
            writer.write(page, **options)
    return buffer.getvalue()


def _warn(path: Path, pages: Sequence[NDArray], labels: Sequence[NDArray]) -> None:
    """Tell of what looks like a mistake, though it can be predicted."""
    for i, (page, label) in enumerate(zip(pages, labels, strict=True), 1):
        name = shown(path) + (f", page {i}" if len(pages) > 1 else "")
        if label.size > 1 and (label == label.flat[0]).all():
            complain(f"warning: {name}: every pixel was given the class {label.flat[0]}")
        values = len(np.unique(page))
        if values <= MAX_CLASSES and page.size > 1000:
            complain(f"warning: {name} holds only {values} different values: is it a mask?")


def _shares(labels: Sequence[NDArray], classes: NDArray) -> str:
    total = sum(label.size for label in labels)
    counts = {c: sum(int((label == c).sum()) for label in labels) for c in classes.tolist()}
    return ", ".join(f"{c}: {count / total:.1%}" for c, count in counts.items())
