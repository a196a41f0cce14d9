"""What `pip install minunet` brings: each file once, and it works where no checkout is near."""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

import pytest

import minunet

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("minunet", "kernels", "tests", "bench", "docs")
BIN = "Scripts" if os.name == "nt" else "bin"

TWO_STEPS = """
import numpy as np, minunet, minunet.kernels.cpu
print(minunet.__file__, minunet.kernels.cpu.__file__, sep="\\n")
network, optimizer = minunet.Network(1, 2, 2, depth=1, random_state=0), minunet.optim.SGD(learning_rate=0.1)
x, labels = np.linspace(-1, 1, 64, dtype="float32").reshape(1, 8, 8, 1), np.arange(64).reshape(1, 8, 8) // 32
print(*(float(minunet.training.step(network, optimizer, x, labels)) for _ in range(2)))
unet = minunet.UNet(base_channels=2, depth=1, patch_size=8, max_epochs=1, verbose=0, random_state=0).fit(x[..., 0], labels)
unet.save("model.safetensors")
assert (minunet.load("model.safetensors").predict(x[..., 0]) == unet.predict(x[..., 0])).all()
"""


def setup_list(section: str, option: str) -> list[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return [line for line in setup[section][option].splitlines() if line and not line.startswith("#")]


def shipped_files() -> dict[str, str]:
    """Return what the packages consist of: the path in an installation -> the path in the checkout."""
    link = ROOT / "minunet" / "kernels"
    files = [path for path in (ROOT / "minunet").rglob("*") if link != path and link not in path.parents]
    files += (ROOT / "kernels").rglob("*")
    paths = [path.relative_to(ROOT).as_posix() for path in files if path.suffix in (".py", ".typed", ".cu", ".cuh")]
    return {f"minunet/{path}" if path.startswith("kernels/") else path: path for path in paths}


def test_packages_are_those_of_the_tree():
    folders = {path.rpartition("/")[0] for path in shipped_files() if path.endswith(".py")}
    assert sorted(setup_list("options", "packages")) == sorted(folder.replace("/", ".") for folder in folders)


def test_package_dir_says_what_the_link_says():
    kernels = [name for name in setup_list("options", "packages") if name.startswith("minunet.kernels")]
    mapping = dict(line.split(" = ") for line in setup_list("options", "package_dir"))
    assert mapping == {name: name.removeprefix("minunet.").replace(".", "/") for name in kernels}


def test_the_changelog_tells_of_this_version():
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert minunet.__version__ in headings


@dataclass
class Distributions:
    sdist: Path
    wheel: Path  # made from the sdist
    wheel_of_tree: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Build all in a copy, because building leaves folders behind."""
    folder = tmp_path_factory.mktemp("built")
    tree = folder / "tree"
    for name in FOLDERS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "out"))
    for path in ROOT.iterdir():
        if path.is_file() and path.suffix not in (".png", ".safetensors"):
            shutil.copy2(path, tree)
    build = [sys.executable, "-m", "build", "--no-isolation", str(tree)]  # with this environment's setuptools: no download
    run([*build, "--outdir", str(folder / "release")], folder)
    run([*build, "--outdir", str(folder / "direct"), "--wheel"], folder)
    (sdist,), (wheel,) = (list((folder / "release").glob(kind)) for kind in ("*.tar.gz", "*.whl"))
    (wheel_of_tree,) = (folder / "direct").iterdir()
    return Distributions(sdist, wheel, wheel_of_tree)


def test_the_wheel_holds_each_file_once(built):
    with zipfile.ZipFile(built.wheel) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
        assert sorted(names) == sorted(shipped_files())
        for name, source in shipped_files().items():
            assert wheel.read(name) == (ROOT / source).read_bytes(), name
    assert "minunet/py.typed" in names
    sources = {path.name for path in (ROOT / "kernels" / "gpu").glob("*.cu*")}
    assert "common.cuh" in sources and {f"minunet/kernels/gpu/{name}" for name in sources} <= set(names)


def test_the_sdist_holds_each_file_once(built):
    with tarfile.open(built.sdist) as sdist:
        assert all(member.isfile() or member.isdir() for member in sdist), "no links"
        names = [member.name.partition("/")[2] for member in sdist if member.isfile()]
    assert len(names) == len(set(names))
    assert sorted(name for name in names if name.startswith(("minunet/", "kernels/"))) == sorted(shipped_files().values())
    assert {"LICENSE", "CHANGELOG.md", "README.md", "setup.cfg", "tests/conftest.py", "tests/test_packaging.py"} <= set(names)


def test_the_wheel_of_the_sdist_is_that_of_the_tree(built):
    with zipfile.ZipFile(built.wheel) as wheel, zipfile.ZipFile(built.wheel_of_tree) as other:
        assert {i.filename: i.CRC for i in wheel.infolist()} == {i.filename: i.CRC for i in other.infolist()}


def test_the_metadata(built):
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(wheel.read(name).decode())
    assert metadata["Version"] == minunet.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()


@pytest.mark.rare
def test_the_wheel_trains_far_from_the_checkout(built, tmp_path):
    python, site_packages = install(tmp_path, str(built.wheel))
    package, kernels, losses = run([str(python), "-c", TWO_STEPS], tmp_path).splitlines()
    assert Path(package) == site_packages / "minunet" / "__init__.py"
    assert Path(kernels) == site_packages / "minunet" / "kernels" / "cpu" / "__init__.py"
    first, second = map(float, losses.split())
    assert second < first
    version = f"minunet {minunet.__version__}\n"
    assert run([str(python), "-m", "minunet", "--version"], tmp_path) == version
    assert run([str(python.parent / "minunet"), "--version"], tmp_path) == version


def test_an_editable_install_works_without_links(built, tmp_path):
    """An unpacked sdist is a tree without the link minunet/kernels, as on systems that have none."""
    with tarfile.open(built.sdist) as sdist:
        sdist.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (tree,) = tmp_path.iterdir()
    python, _ = install(tmp_path, "--no-build-isolation", "--editable", str(tree))
    found = run([str(python), "-c", "import minunet.kernels.cpu; print(minunet.kernels.cpu.__file__)"], tmp_path)
    assert Path(found.strip()) == tree / "kernels" / "cpu" / "__init__.py"


def install(folder: Path, *what: str) -> tuple[Path, Path]:
    """Install into a new environment without downloads; return its Python and its site-packages.

    A .pth file lends it the dependencies of this environment. It does not lend this environment's minunet: the new
    site-packages come first, and the .pth files of a folder that a .pth file names (an editable install is one) are not read.
    """
    pytest.importorskip("pip", reason="this environment has no pip to install the wheel with")
    run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], folder)
    python = folder / "env" / BIN / "python"
    purelib = run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip()
    specs = (importlib.util.find_spec(name) for name in ("numpy", "numba", "scipy", "setuptools", "tqdm"))
    lent = {str(Path(spec.origin).parents[spec.submodule_search_locations is not None]) for spec in specs}
    (Path(purelib) / "dependencies.pth").write_text("\n".join(sorted(lent)), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    run([*pip, *what], folder)
    return python, Path(purelib)


def run(command: list[str], folder: Path) -> str:
    """Run a command in a folder, and return what it printed; where it fails, all that it said is the error."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
