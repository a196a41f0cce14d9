"""The compile gate: nvcc builds each source for each capability, and no kernel spills or takes more registers than it did.

And NVRTC takes each as CuPy will hand it over where there is a GPU: no headers, and nothing that is the host's.

Run as a program, it writes the table of registers anew: `PYTHONPATH=tests python tests/kernels/gpu/test_compile.py`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import nvrtc
import pytest
from cuda_on_cpu.cache import cached

from minunet.kernels.gpu.device import HERE, Kernel

CAPABILITIES = (75, 80, 90)  # of Turing, Ampere and Hopper
OWN = Path(__file__).parent
TABLE = OWN / "registers.txt"  # a line a kernel: file, build, name, and registers by capability, "-" where it is left out
COLLECTIVES = OWN.parents[1] / "cuda_on_cpu" / "collectives.cu"
OF_PARAMETERS = ("loss.cu", "updates.cu")  # which are never bf16
UNUSED = "-diag-suppress=177"  # not every source uses all of common.cuh
WRITE = "`PYTHONPATH=tests python tests/kernels/gpu/test_compile.py` writes the table anew"
NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"  # the environment, not Hypothesis: a program has no conftest.py
NO_NVCC = "there is no nvcc here to build the CUDA sources with"
NO_NVRTC = "there is no libnvrtc here to compile the CUDA sources with: pip install nvidia-cuda-nvrtc"
# What CuPy adds (cupy/cuda/compiler.py, 14.0 to 14.2), but for folders of headers, of which no source needs any.
OF_CUPY = ("-ftz=true", "--device-as-default-execution-space")

Spills = tuple[int, ...]  # bytes of stack, of spilled stores and of spilled loads
Found = dict[str, dict[int, tuple[int, Spills]]]  # registers and spills, by a kernel's name and by capability

_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)a?'(.*?)(?=Compiling entry function|\Z)", re.DOTALL)
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")


def nvcc() -> str | None:
    """Return the path of nvcc: that of CUDA_HOME, or the first of PATH."""
    home = os.environ.get("CUDA_HOME")
    return shutil.which("nvcc", path=f"{home}/bin" if home else None)


LIBRARY = nvrtc.find(nvcc())


@cache
def version() -> str:
    said = subprocess.run([str(nvcc()), "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"release (\d+\.\d+)", said)[1]


def builds() -> list[Kernel]:
    """Return each source in each way in which it is built."""
    made = []
    for path in [*sorted(HERE.glob("*.cu")), COLLECTIVES]:
        name = path.name if path.parent == HERE else str(path)
        stores = ("float", "double") if name in OF_PARAMETERS else ("float", "double", "bf16")
        of_variants = {"conv.cu": variants, "head.cu": heads, "dropout.cu": dropouts}.get(name)
        made += of_variants() if of_variants else [Kernel(name, "", store) for store in stores]
    return made


def variants() -> list[Kernel]:
    """Return those of the convolutions."""
    from minunet.kernels.gpu.plan import TILES

    return [tile.kernel("") for tile in TILES]


def heads() -> list[Kernel]:
    """Return those of the head."""
    from minunet.kernels.gpu.head import VARIANTS

    return [replace(how.kernel, name="") for how in VARIANTS]


def dropouts() -> list[Kernel]:
    """Return those of dropout."""
    from minunet.kernels.gpu.dropout import EACH, kernel

    return [replace(kernel(store), name="") for store in EACH]


def ends() -> list[Kernel]:
    """Return the first of the convolutions' variants, and the widest of each type on tensor cores."""
    return [variants()[0], *(build for build in variants() if "COLUMNS=128" in build.options)]


def title(build: Kernel) -> str:
    return ",".join((build.store, *getattr(build, "options", ())))


def capabilities(build: Kernel) -> tuple[int, ...]:
    """Return those that a test compiles a build for, by default: each file for all, its other variants for one.

    nvcc takes a minute for all of them. `HYPOTHESIS_PROFILE=nightly`, and whoever writes the table, has it.
    """
    first = build in ends() if build.file == "conv.cu" else build.store == "float"
    return CAPABILITIES if first or NIGHTLY else CAPABILITIES[1:2]


def compiled(build: Kernel, capabilities: tuple[int, ...] = CAPABILITIES) -> Found:
    """Compile to what a processor runs, or find what nvcc said of the same text before."""
    targets = [f"-gencode=arch=compute_{of},code=sm_{of}" for of in capabilities]
    options = ["-fatbin", "-ftz=true", "-Xptxas=-v", "-Werror=all-warnings", UNUSED, *build.flags, *targets]

    def run(said: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "source.cu"
            source.write_text(build.source)
            command = [str(nvcc()), *options, "-o", f"{folder}/fatbin", str(source)]
            done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{build.file}, {title(build)}\n{done.stdout}{done.stderr}"
        said.write_text(done.stdout + done.stderr)

    said = cached((version(), *options, build.source), run).read_text()
    found: Found = {}
    for name, capability, of_kernel in _ENTRY.findall(said):
        spills = tuple(map(int, _SPILLS.search(of_kernel).groups()))
        found.setdefault(name, {})[int(capability)] = int(_USED.search(of_kernel)[1]), spills
    return found


def lines_of(build: Kernel, found: Found) -> list[str]:
    """Return the table's lines of one build."""
    rows = []
    for name, by_capability in sorted(found.items()):
        registers = [str(by_capability[of][0]) if of in by_capability else "-" for of in CAPABILITIES]
        rows.append(f"{build.file:<16} {title(build):<36} {name:<32} " + " ".join(f"{number:>3}" for number in registers))
    return rows


def registers_of(lines: list[str], capabilities: tuple[int, ...]) -> list[tuple[str, ...]]:
    """Return the words of the table's lines, of numbers those of these capabilities."""
    kept = [CAPABILITIES.index(of) - len(CAPABILITIES) for of in capabilities]
    return [(*line.split()[:3], *(line.split()[place] for place in kept)) for line in lines]


def table() -> tuple[str, list[str]]:
    """Return the version of nvcc that the committed table is of, and its lines."""
    heading, *lines = TABLE.read_text().splitlines()
    return heading.split()[1].rstrip(","), lines


def in_table(build: Kernel) -> bool:
    return build.file != str(COLLECTIVES)  # which no GPU runs: that it compiles is enough


def chosen_builds() -> list[Kernel]:
    """Return the builds that a test makes by default: every file in float, and of the convolutions the ends and one in double.

    And of others those in bf16 that are not like those in float.
    """
    if NIGHTLY:
        return builds()
    in_double = [build for build in variants() if "VECTOR=2" in build.options]
    chosen = [*ends(), *in_double, Kernel("pointwise.cu", "", "bf16"), heads()[-1]]
    return [build for build in builds() if build in chosen or (build.file != "conv.cu" and build.store == "float")]


@pytest.mark.skipif(not nvcc(), reason=NO_NVCC)
@pytest.mark.parametrize("build", chosen_builds(), ids=lambda build: f"{Path(build.file).name}-{title(build)}")
def test_a_source_compiles_without_spills_to_the_registers_of_the_table(build):
    found = compiled(build, capabilities(build))
    assert found, "there is no kernel in it"
    spilling = {f"{name} sm_{of}": spills for name, by in found.items() for of, (_, spills) in by.items() if any(spills[1:])}
    assert not spilling, "bytes of stack, of spilled stores, of spilled loads"
    if in_table(build) and table()[0] == version():
        expected = [line for line in table()[1] if line.split()[:2] == [build.file, title(build)]]
        here = registers_of(lines_of(build, found), capabilities(build))
        assert here == registers_of(expected, capabilities(build)), f"after a look at why, {WRITE}"


@pytest.mark.skipif(not nvcc(), reason=NO_NVCC)
def test_the_table_is_of_this_nvcc():
    if table()[0] != version():
        pytest.skip(f"registers are not compared: {TABLE.name} is of nvcc {table()[0]}, and this is {version()}")


def test_the_table_is_of_these_sources():
    listed = {tuple(line.split()[:2]) for line in table()[1]}
    assert listed == {(build.file, title(build)) for build in builds() if in_table(build)}


def test_only_tensor_cores_are_left_out_and_only_before_ampere():
    for line in table()[1]:
        _, build, _, turing, *later = line.split()
        assert (turing == "-") == ("TENSOR=1" in build), line
        assert "-" not in later, line


def as_cupy_compiles(build: Kernel, capability: int) -> None:
    """Compile with NVRTC, or find that it took the same text before."""
    options = (*build.flags, *OF_CUPY, f"-arch=sm_{capability}")

    def run(taken: Path) -> None:
        nvrtc.compile(LIBRARY, build.source, options)
        taken.touch()

    cached(("NVRTC", nvrtc.version(LIBRARY), *options, build.source), run)


@pytest.mark.skipif(not LIBRARY, reason=NO_NVRTC)
@pytest.mark.parametrize("build", chosen_builds(), ids=lambda build: f"{Path(build.file).name}-{title(build)}")
def test_nvrtc_takes_a_source_as_cupy_hands_it_over(build):
    for capability in capabilities(build):
        as_cupy_compiles(build, capability)


@pytest.mark.skipif(not LIBRARY, reason=NO_NVRTC)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("#include <cstdint>", 'could not open source file "cstdint"'),  # which nvcc finds
        ("__global__ void k(float* a) { __shared__ float b[16384]; b[threadIdx.x] = *a; *a = b[9]; }", "too much shared data"),
    ],
)
def test_nvrtc_refuses(text, says, tmp_path):
    source = tmp_path / "wrong.cu"
    source.write_text(text)
    with pytest.raises(nvrtc.CompileError, match=says):
        as_cupy_compiles(Kernel(str(source), ""), 80)


def test_nvrtc_is_given_no_option_twice():  # an error to that of CUDA 12.2
    for build in builds():
        options = [*build.flags, *OF_CUPY]
        assert len(set(options)) == len(options), title(build)


def write_table() -> None:
    """Compile all and write the table."""
    lines = [f"nvcc {version()}, registers of a kernel on " + ", ".join(f"sm_{of}" for of in CAPABILITIES)]
    for build in filter(in_table, builds()):
        lines += lines_of(build, compiled(build))
    TABLE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write_table() if nvcc() else sys.exit(NO_NVCC)
