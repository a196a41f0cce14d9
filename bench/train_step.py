"""How long does one training step take: minunet's backends beside PyTorch, in turns?

    python bench/train_step.py --config 4,256,16 --config 1,512,64 --repeat 7

A configuration is batch, side, base channels. Forward, loss, backward, Adam; medians, and ratios of medians.
PyTorch computes in float32 as minunet does: eagerly in both memory formats and, with --compile, channels-last through
torch.compile (which needs a C++ compiler and a minute); its best is the fastest of these. Beside them stands its step
in bfloat16 (autocast, channels-last), with 8 bits of precision in its products, where the processor has instructions for
it: without them it is many times slower (--bf16 always).
--isa avx2 holds all of them to AVX2, on a processor that can do more.
All share one process. Whether one's idle threads spin in another's time was measured: in turns, after a pause of 0.3 s,
and each in a process of its own, minunet took 0.62, 0.66 and 0.66 s, PyTorch 0.25, 0.26 and 0.31 s. They do not.
"""

from __future__ import annotations

import argparse
import os
import sys

import measure
from llvmlite import binding  # type: ignore[import-untyped]
from measure import Config, Run

from minunet import Network, kernels, optim, use_backend
from minunet.training import step

BF16 = "PyTorch bf16"
NARROWED = "MINUNET_BENCH_ISA"  # set in the process that was started anew with fewer instructions


def main() -> None:
    """Time each configuration and print its table."""
    parser = measure.parser(__doc__, repeat=7, peers="PyTorch")
    parser.add_argument(
        "--config", action="append", type=measure.config, metavar="BATCH,SIDE,BASE", help="may be repeated; default: 4,256,16"
    )
    parser.add_argument("--skip-reference", action="store_true", help="leave out the NumPy reference, slow in large steps")
    parser.add_argument(
        "--bf16", default="auto", choices=("auto", "always", "never"),
        help="PyTorch in bfloat16 too (auto: where the processor has instructions for it)",
    )  # fmt: skip
    parser.add_argument("--compile", action="store_true", help="PyTorch through torch.compile too")
    parser.add_argument("--isa", choices=("avx2",), help="use no wider instructions than these (x86)")
    arguments = parser.parse_args()
    if arguments.isa and os.environ.get(NARROWED) != arguments.isa:
        if not binding.get_host_cpu_features().get("avx2"):
            print("this processor has no AVX2: skipped")
            return
        restart_with_avx2()
    report = measure.Report(__doc__, arguments.json)
    if arguments.isa:
        report.note(f"held to {arguments.isa}: LLVM, ATen and oneDNN alike (NumPy's own loops are not)")
    with_torch = not arguments.skip_peers and measure.installed("torch", "PyTorch")
    if with_torch and arguments.bf16 == "auto" and (arguments.isa or not has_bf16()):
        report.note("no bfloat16 instructions: PyTorch's step in bfloat16 is skipped")
    results = {}
    for config in arguments.config or [(4, 256, 16)]:
        runs = minunet_steps(config, not arguments.skip_reference)
        if with_torch:
            runs |= torch_steps(config, arguments)
        seconds = measure.medians(runs, arguments.repeat)
        tabulate(report, config, seconds)
        results[",".join(map(str, config))] = seconds
    report.write(seconds=results)


def has_bf16() -> bool:
    """Tell whether the processor multiplies bfloat16: x86's AVX-512 or AMX extension, Arm's."""
    features = binding.get_host_cpu_features()
    return any(features.get(name) for name in ("avx512bf16", "amx-bf16", "bf16"))


def restart_with_avx2() -> None:
    """Become this program anew, with AVX2 at most: the libraries ask the processor when they are imported."""
    wide = ("avx512", "avx10", "amx", "evex512")
    # The name alone leaves AVX-512 on, and the features alone its scheduling: Numba wants both.
    narrow = {name: there and not name.startswith(wide) for name, there in binding.get_host_cpu_features().items()}
    os.environ.update({
        NARROWED: "avx2", "NUMBA_CPU_NAME": "haswell", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
        "NUMBA_CPU_FEATURES": ",".join(("+" if there else "-") + name for name, there in sorted(narrow.items())),
    })  # fmt: skip
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def minunet_steps(config: Config, with_reference: bool) -> dict[str, Run]:
    """Return minunet's step on each backend."""
    batch, side, base = config
    x, labels = measure.data(batch, side)

    def on(backend: str) -> Run:
        network, optimizer = Network(1, 2, base), optim.Adam()

        def run() -> None:
            with use_backend(backend):
                step(network, optimizer, x, labels)

        return run

    return {f"minunet {name}": on(name) for name in kernels.available() if with_reference or name != "reference"}


def torch_steps(config: Config, arguments: argparse.Namespace) -> dict[str, Run]:
    """Return PyTorch's steps: two memory formats, and what else was asked for."""
    import torch
    from torch_unet import TorchUNet, from_numpy, training_step

    torch.set_num_threads(kernels.n_threads())
    batch, side, base = config
    x, labels = measure.data(batch, side)

    def made(memory_format: torch.memory_format, compiled: bool = False, bf16: bool = False) -> Run:
        model: torch.nn.Module = TorchUNet(base=base).in_format(memory_format)
        optimizer = torch.optim.Adam(model.parameters())
        tensor, target = from_numpy(x, memory_format), torch.from_numpy(labels)
        if compiled:
            model = torch.compile(model)  # type: ignore[assignment]  # a module, which its stubs do not say

        return lambda: training_step(model, optimizer, tensor, target, bf16=bf16)

    steps = {
        "PyTorch NCHW": made(torch.contiguous_format),
        "PyTorch channels-last": made(torch.channels_last),
    }
    if arguments.compile:
        steps["PyTorch compiled"] = made(torch.channels_last, compiled=True)
    if arguments.bf16 == "always" or (arguments.bf16 == "auto" and not arguments.isa and has_bf16()):
        steps[BF16] = made(torch.channels_last, bf16=True)
    return steps


def tabulate(report: measure.Report, config: Config, seconds: dict[str, float]) -> None:
    """Report seconds, and how many times as fast as each minunet's fastest backend is."""
    ours = min(s for name, s in seconds.items() if name.startswith("minunet"))
    peers = {name: s for name, s in seconds.items() if name.startswith("PyTorch") and name != BF16}
    best = {"PyTorch best float32": min(peers.values())} if peers else {}
    report.table(measure.name_of(*config), ["one training step", "seconds", "minunet is"], others=15)
    for name, value in (seconds | best).items():
        report.row(name, f"{value:.3f}", "" if value == ours else f"{value / ours:.2f} x as fast")


if __name__ == "__main__":
    main()
