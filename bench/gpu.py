"""On a GPU: is every test passed there, and how long do a step and each convolution take, beside PyTorch?

    python bench/gpu.py --repeat 10 --json bench/out/gpu.json

First the tests marked gpu run, and some small steps under compute-sanitizer, if it is installed. Then training steps
(forward, loss, backward, Adam; the images lie on the device already, and PyTorch's labels, which minunet brings there each
time), and the convolutions of batch 8, 512 x 512, base 64, each pass: medians between CUDA events, in turns, on random
data. PyTorch stands beside them in float32 (strict), in its default (TF32 in its convolutions), and in bfloat16 by
autocast, in both memory formats and compiled; its best of the same number of digits is what minunet is compared with. The
ceilings are those of cuBLAS on this device, products of 8192 x 8192 matrices. Memory is the peak of what each library's
pool took from the device. "training needs" is the estimate that `fit` goes by.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import layers
import measure
import numpy as np
from measure import Config

from minunet import Network, devices, kernels, optim
from minunet.kernels.gpu import device as gpu
from minunet.summary import summarize
from minunet.training import step
from minunet.training.memory import training_bytes

CONFIGS: list[Config] = [(1, 512, 64), (8, 512, 64), (16, 512, 64), (16, 256, 32)]
LAYERS: Config = (8, 512, 64)
DIGITS = {  # what minunet's precisions are compared with
    "float32": ("PyTorch float32 NCHW", "PyTorch float32 channels-last"),
    "tf32": ("PyTorch TF32 NCHW", "PyTorch TF32 channels-last", "PyTorch TF32 compiled"),
    "bf16": ("PyTorch bf16 NCHW", "PyTorch bf16 channels-last", "PyTorch bf16 compiled"),
}
Run = Callable[[], object]


def main() -> None:
    """Check, then time; print tables."""
    parser = measure.parser(__doc__, repeat=10, peers="PyTorch")
    parser.add_argument("--skip-tests", action="store_true", help="do not run the tests marked gpu first")
    parser.add_argument("--small-steps", action="store_true", help="take steps of a small network, for a sanitizer to look at")
    parser.add_argument("--config", action="append", type=measure.config, metavar="BATCH,SIDE,BASE", help="may be repeated")
    arguments = parser.parse_args()
    if missing := gpu.trouble():
        raise SystemExit(f"nothing to measure: {missing}")
    if arguments.small_steps:
        return take_small_steps()
    if not arguments.skip_tests:
        run_tests()
        sanitize()
    report = measure.Report(__doc__, arguments.json)
    report.note(describe_gpu())
    with_torch = not arguments.skip_peers and cuda_torch()
    ceilings = measure_ceilings(report, arguments.repeat) if with_torch else {}
    results = {}
    for config in arguments.config or CONFIGS:
        results[",".join(map(str, config))] = time_steps(report, config, arguments.repeat, with_torch, ceilings)
    time_layers(report, arguments.repeat, with_torch)
    report.write(seconds=results)


def run_tests() -> None:
    """Run the tests marked gpu; stop where one fails: a wrong kernel's speed is of no interest."""
    tests = Path(__file__).parents[1] / "tests"
    status = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(tests)]).returncode
    if status:
        raise SystemExit("a test marked gpu failed: nothing is timed")


def sanitize() -> None:
    """Take small steps under compute-sanitizer, where it is installed; stop where it finds a wrong access or a race."""
    if not (sanitizer := shutil.which("compute-sanitizer")):
        return print("compute-sanitizer is not installed: skipped")
    for tool in ("memcheck", "racecheck"):
        options = ["--tool", tool, "--error-exitcode", "1"]
        if subprocess.run([sanitizer, *options, sys.executable, __file__, "--small-steps"]).returncode:
            raise SystemExit(f"{tool} found errors: nothing is timed")


def take_small_steps() -> None:
    """Take two steps in each precision, with all kinds of kernels: of few channels, of tensor cores, of dropout."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((2, 32, 32, 1), np.float32), rng.integers(0, 2, (2, 32, 32))
    for precision in kernels.PRECISIONS:
        network, optimizer = Network(1, 2, 32, depth=2, dropout=0.5).to("gpu"), optim.Adam()
        with kernels.precision(precision):
            print(precision, *(float(step(network, optimizer, x, labels, rng=rng)) for _ in range(2)))


def describe_gpu() -> str:
    """Return the device, its driver and CuPy's version."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    driver = cupy.cuda.runtime.driverGetVersion()
    memory = properties["totalGlobalMem"] / 2**30
    return f"{properties['name'].decode()}, {memory:.0f} GiB, driver for CUDA {driver}, cupy {cupy.__version__}"


def cuda_torch() -> bool:
    """Tell whether PyTorch is here and sees the device."""
    if not measure.installed("torch", "PyTorch"):
        return False
    import torch

    if not torch.cuda.is_available():
        print("this PyTorch has no CUDA: skipped")
    return bool(torch.cuda.is_available())


def medians(runs: Mapping[str, Run], repeat: int) -> dict[str, float]:
    """Return each one's median seconds between two events; they take turns, after one run each to warm up."""
    import cupy

    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(repeat + 1):
        for name, run in runs.items():
            before, after = cupy.cuda.Event(), cupy.cuda.Event()
            cupy.cuda.runtime.deviceSynchronize()
            before.record()
            run()
            after.record()
            after.synchronize()
            if round_number:
                times[name].append(cupy.cuda.get_elapsed_time(before, after) / 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def measure_ceilings(report: measure.Report, repeat: int) -> dict[str, float]:
    """Return the operations a second of cuBLAS in each precision, and print them."""
    import torch

    size = 8192
    a = torch.randn(size, size, device="cuda")
    half = a.bfloat16()

    def product(tf32: bool) -> Run:
        def run() -> object:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            return a @ a

        return run

    seconds = medians({"float32": product(False), "tf32": product(True), "bf16": lambda: half @ half}, repeat)
    found = {name: 2 * size**3 / s for name, s in seconds.items()}
    report.table("cuBLAS, 8192 x 8192", ["precision", "TFLOP/s"])
    for name, rate in found.items():
        report.row(name, f"{rate / 1e12:.0f}")
    return found


def time_steps(
    report: measure.Report, config: Config, repeat: int, with_torch: bool, ceilings: dict[str, float]
) -> dict[str, float]:
    """Time one training step of each, one library after the other so that each has the memory; print a table."""
    batch, side, base = config
    flops = 3 * summarize(Network(1, 2, base), (batch, side, side)).flops  # the forward pass, and two gradients of its like
    seconds, memory = {}, {}
    for name, made in {**minunet_steps(config), **(torch_steps(config) if with_torch else {})}.items():
        try:
            seconds[name], memory[name] = in_its_own_memory(made, name, repeat)
        except Exception as error:  # out of memory is a figure too, and the others go on
            report.note(f"{name}, {measure.name_of(*config)}: {type(error).__name__}: {str(error)[:80]}")
    report.table(measure.name_of(*config), ["one step", "ms", "images/s", "TFLOP/s", "of ceiling", "GiB", "minunet is"])
    for name, s in seconds.items():
        digits = next(d for d, peers in DIGITS.items() if name in peers or name.endswith(d))
        ours = seconds.get(f"minunet {digits}")
        share = f"{flops / s / ceilings[digits]:.0%}" if digits in ceilings else ""
        faster = f"{s / ours:.2f} x as fast" if ours and not name.startswith("minunet") else ""
        gib = f"{memory[name] / 2**30:.2f}"
        report.row(name, f"{1e3 * s:.1f}", f"{batch / s:.1f}", f"{flops / s / 1e12:.0f}", share, gib, faster)
    for precision in kernels.PRECISIONS:
        with kernels.precision(precision):
            needs = training_bytes(Network(1, 2, base).to("gpu"), batch, side, side)
        report.note(f"training in {precision} needs {needs / 2**30:.2f} GiB, by the estimate")
    return seconds


def in_its_own_memory(made: Callable[[], Run], name: str, repeat: int) -> tuple[float, int]:
    """Return the seconds of a step and the peak of its library's pool, which is empty before and after."""
    import cupy

    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    if not name.startswith("minunet"):
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    run = made()
    (s,) = medians({name: run}, repeat).values()
    peak = pool.total_bytes() if name.startswith("minunet") else torch.cuda.max_memory_reserved()
    del run
    pool.free_all_blocks()
    return s, peak


def minunet_steps(config: Config) -> dict[str, Callable[[], Run]]:
    """Return what makes minunet's step in each precision."""
    batch, side, base = config

    def made(precision: str) -> Callable[[], Run]:
        def make() -> Run:
            network, optimizer = Network(1, 2, base).to("gpu"), optim.Adam()
            x, labels = measure.data(batch, side)
            x_there = devices.backend("gpu:0").asarray(x)

            def run() -> object:
                with kernels.precision(precision):
                    return step(network, optimizer, x_there, labels)

            return run

        return make

    return {f"minunet {precision}": made(precision) for precision in kernels.PRECISIONS}


def torch_steps(config: Config) -> dict[str, Callable[[], Run]]:
    """Return what makes PyTorch's steps: precisions, memory formats, compiled."""
    import torch
    from torch_unet import TorchUNet, from_numpy

    batch, side, base = config

    def made(memory_format: Any, *, tf32: bool, bf16: bool = False, compiled: bool = False) -> Callable[[], Run]:
        def make() -> Run:
            model: Any = TorchUNet(base=base).in_format(memory_format).cuda()
            optimizer = torch.optim.Adam(model.parameters())
            x, labels = measure.data(batch, side)
            tensor, target = from_numpy(x, memory_format).cuda(), torch.from_numpy(labels).cuda()
            model = torch.compile(model) if compiled else model

            def run() -> object:
                torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
                with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
                    loss = torch.nn.functional.cross_entropy(model(tensor), target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                return loss

            return run

        return make

    nchw, last = torch.contiguous_format, torch.channels_last
    return {
        "PyTorch float32 NCHW": made(nchw, tf32=False),
        "PyTorch float32 channels-last": made(last, tf32=False),
        "PyTorch TF32 NCHW": made(nchw, tf32=True),
        "PyTorch TF32 channels-last": made(last, tf32=True),
        "PyTorch TF32 compiled": made(last, tf32=True, compiled=True),
        "PyTorch bf16 NCHW": made(nchw, tf32=True, bf16=True),
        "PyTorch bf16 channels-last": made(last, tf32=True, bf16=True),
        "PyTorch bf16 compiled": made(last, tf32=True, bf16=True, compiled=True),
    }


def time_layers(report: measure.Report, repeat: int, with_torch: bool) -> None:
    """Print TFLOP/s of each convolution and pass, in each precision, beside cuDNN's TF32 and bf16.

    None has a mask: in a step, relu's gradient is a pass of its own.
    """
    names = [*(f"minunet {p}" for p in kernels.PRECISIONS), *(["cuDNN TF32", "cuDNN bf16"] if with_torch else [])]
    report.table(f"convolutions of {measure.name_of(*LAYERS)}: TFLOP/s", ["layer, pass", *names], width=44)
    for layer in layers.layers_of(LAYERS, 4):
        host = layers.arrays_of(layer)
        x, w, b, dy = (gpu.asarray(of) for of in (host.x, host.w, host.b, host.dy))
        arrays = layers.Arrays(x, w, b, dy, None)
        for which in layer.passes:
            runs = {f"minunet {p}": our_pass(layer, which, arrays, p) for p in kernels.PRECISIONS}
            if with_torch:
                runs |= {"cuDNN TF32": cudnn_pass(layer, which, host), "cuDNN bf16": cudnn_pass(layer, which, host, bf16=True)}
            seconds = medians(runs, repeat)
            report.row(f"{layer}, {which}", *(f"{layer.flops / s / 1e12:.1f}" for s in seconds.values()))


def our_pass(layer: layers.Layer, which: str, a: layers.Arrays, precision: str) -> Run:
    """Return minunet's pass in that precision, on activations as it keeps them."""

    def in_precision() -> object:
        with kernels.precision(precision):
            return run()

    with kernels.precision(precision):
        x, dy = (kernels.cast(of, kernels.stored_dtype(np.dtype(np.float32), kernels.place(of))) for of in (a.x, a.dy))
    run = layers.minunet_pass(layer, which, replace(a, x=x, dy=dy), "auto")
    return in_precision


def cudnn_pass(layer: layers.Layer, which: str, a: layers.Arrays, bf16: bool = False) -> Run:
    """Return PyTorch's pass in TF32 or bf16, channels-last: without relu and mask, which cost it kernels of their own."""
    import torch
    from torch_unet import from_numpy

    dtype = torch.bfloat16 if bf16 else torch.float32
    x, dy, bias = (of.cuda().to(dtype) for of in (from_numpy(a.x), from_numpy(a.dy), torch.from_numpy(a.b)))
    w = torch.from_numpy(np.ascontiguousarray(a.w.transpose(3, 2, 0, 1))).cuda().to(dtype)
    w = w.contiguous(memory_format=torch.channels_last)
    stride, padding = layer.geometry["stride"], layer.geometry["padding"]
    forward = torch.nn.functional.conv_transpose2d if layer.transposed else torch.nn.functional.conv2d
    wanted = [which == "input grad", which == "weight grad", which == "weight grad"]

    def run() -> object:
        torch.backends.cudnn.allow_tf32 = True
        with torch.no_grad():
            if which == "forward":
                return forward(x, w, bias, stride=stride, padding=padding)
            options = ([bias.numel()], stride, padding, (1, 1), layer.transposed, (0, 0), 1, wanted)
            return torch.ops.aten.convolution_backward(dy, x, w, *options)

    return run


if __name__ == "__main__":
    main()
