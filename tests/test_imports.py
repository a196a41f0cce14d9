"""What imports what: `import minunet` is light, imports run one way, and files stay short."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import minunet

ROOT = Path(__file__).resolve().parents[1]

# Each part of minunet imports from its own line and from those above it, never from one below.
ORDER = (
    "whole",
    "kernels",
    "_version text warn leftovers writing files signals checks streams bar log devices room untrusted scikit",
    "data losses optim caches norms",
    "ops",
    "fusions",
    "tape",
    "layers",
    "flat blocks sizes supervision",
    "network",
    "training evaluation modelfile summary drawing plot testing datasets",
    "unet fitting finding predicting checkpoint trainingstate parameters description warmstart",
    "cli",
    "program",
    "__main__",
)
RANK = {part: rank for rank, line in enumerate(ORDER) for part in line.split()}

# What not everyone has installed, or what takes long to load: imported by the function that needs it.
OPTIONAL = {
    "autograd", "cupy", "dask", "hypothesis", "jax", "matplotlib", "mpi4py", "onnx", "pandas", "skimage", "sklearn", "torch",
}  # fmt: skip
BEHIND_A_DOOR = {"minunet.kernels.gpu.cuda": {"cupy"}}  # what only functions import may import more at its top
DISTRIBUTIONS = {"Pillow": "PIL"}  # where the name on the index is not the name that is imported


@cache
def modules() -> dict[str, Path]:
    """Return the file of each module, by name: minunet/ without its link, and kernels/ as minunet.kernels."""
    paths = [path for path in (ROOT / "minunet").rglob("*.py") if (ROOT / "minunet" / "kernels") not in path.parents]
    found = {}
    for path in paths + list((ROOT / "kernels").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(("minunet", *parts) if parts[0] == "kernels" else parts)
        found[name.removesuffix(".__init__")] = path
    return found


def without_type_checking(tree: ast.Module) -> ast.Module:
    """Return the tree without its `if TYPE_CHECKING:` blocks, which never run."""
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    return tree


def walk(node: ast.AST, nested: bool) -> Iterator[ast.AST]:
    """Like ast.walk; `nested=False` leaves out what stands inside functions."""
    yield node
    for child in ast.iter_child_nodes(node):
        if nested or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from walk(child, nested)


def imports(name: str, *, nested: bool = True) -> Iterator[str]:
    """Give the dotted name of everything that a module imports; `nested` counts imports inside functions too."""
    path = modules()[name]
    tree = without_type_checking(ast.parse(path.read_text(encoding="utf-8")))
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in walk(tree, nested):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def module_of(imported: str) -> str:
    """Return the module that an imported name of minunet lives in, following the lazy names of minunet/__init__.py."""
    if imported in modules():
        return imported
    source, _, name = imported.rpartition(".")
    home = (minunet._HOME | minunet._MODULES).get(name) if source == "minunet" else None
    return f"minunet.{home}" if home else source


def part(module: str) -> str:
    return module.split(".")[1]


def own_imports(name: str, *, nested: bool = True) -> set[str]:
    return {module_of(other) for other in imports(name, nested=nested) if other.split(".")[0] == "minunet"} - {"minunet"}


@pytest.mark.parametrize(
    ("program", "loads"),
    [
        ("import minunet; dir(minunet); minunet.__version__", []),
        ("from minunet import UNet", ["numpy", "safetensors", "tqdm"]),  # no reader of images, no kernels
        ("from minunet import testing, Network", ["numpy"]),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(program, loads):
    heavy = "{'numpy', 'numba', 'scipy', 'safetensors', 'tqdm', 'PIL', 'tifffile', 'matplotlib', 'cupy', 'torch', 'sklearn'}"
    program = f"import sys; {program}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(loads)


def test_the_program_remembers_signals_before_it_imports_anything():
    """Until then, Ctrl-C is Python's traceback."""
    count = "import signal, sys; before = set(sys.modules); import minunet.program; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", count], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(["minunet", "minunet._version", "minunet.program"])


def test_the_gpu_backend_loads_without_cupy():
    """Plans and launchers are plain Python; CuPy comes in by the one door, when that is opened."""
    program = "import sys, minunet.kernels.gpu, minunet.kernels.gpu.device, minunet.devices; print('cupy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", minunet.__all__)
def test_each_public_name_resolves(name):
    assert getattr(minunet, name) is not None
    assert name in dir(minunet)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'minunet' has no attribute 'unett'"):
        _ = minunet.unett


def test_lazy_names_are_those_that_type_checkers_see():
    (block,) = (node for node in ast.parse((ROOT / "minunet" / "__init__.py").read_text()).body if isinstance(node, ast.If))
    homes = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        homes |= {alias.name: ".".join(filter(None, (node.module, alias.name))) for alias in node.names}
    resolved = {name: f"{home}.{name}" for name, home in minunet._HOME.items()} | minunet._MODULES
    assert homes == resolved
    assert set(minunet.__all__) == {*resolved, "__version__"}


def test_each_part_has_its_place_in_the_order():
    parts = {part(name) for name in modules() if name != "minunet"}
    assert parts == set(RANK), "a new part of minunet needs a place in ORDER, one that is gone leaves it"


@pytest.mark.parametrize("name", sorted(set(modules()) - {"minunet"}))
def test_imports_run_one_way(name):
    upwards = {other for other in own_imports(name) if RANK[part(other)] > RANK[part(name)]}
    assert not upwards, f"{name} stands below what it imports"


def test_no_circle_of_imports():
    graph = {name: own_imports(name, nested=False) - {name} for name in modules()}
    TopologicalSorter(graph).prepare()  # a CycleError names the circle


def test_what_is_imported_at_the_top_is_a_dependency():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    requirements = [re.split(r"[<>=!~; \[]", line)[0] for line in setup["options"]["install_requires"].split("\n")]
    declared = {DISTRIBUTIONS.get(name, name) for name in requirements if name and not name.startswith("#")}
    assert not declared & OPTIONAL
    for name in modules():
        used = {other.split(".")[0] for other in imports(name, nested=False)} - sys.stdlib_module_names - {"minunet"}
        allowed = declared | BEHIND_A_DOOR.get(name, set())
        assert used <= allowed, f"{name} imports at its top what `pip install minunet` does not bring"


def test_only_functions_import_what_stands_behind_a_door():
    for name in modules():
        assert not own_imports(name, nested=False) & set(BEHIND_A_DOOR), f"{name}: import it where it is used"


def test_the_kernels_are_imported_under_their_own_name():
    for name in modules():
        assert not {other for other in imports(name) if other.split(".")[0] == "kernels"}, f"{name}: say minunet.kernels"


def test_files_stay_short():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    assert {name: length for name, length in lengths.items() if length > 450} == {}
    assert lengths["minunet.ops"] <= 300
