"""What can this machine do at best: multiply-adds a second in registers, bytes a second between cores and memory?

    python bench/roofline.py

The peak is a loop of independent fused multiply-adds over vector registers, which touches no memory, on all threads.
The bandwidth is the best of a read, a copy and a triad (a = b + s c) over arrays far beyond the last-level cache, on all
threads; bytes are counted as the program names them (a write that first fetches its line counts once). Best of several,
because both are bounds: what a core did once, it can do.

No kernel is faster than its roofline, max(operations / peak, bytes / bandwidth), unless its data was still in a cache
or it gets by with fewer operations, as Winograd's convolutions do.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import numba
import numpy as np
from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minunet import kernels

MB = 2**20
LOOPS = 20_000_000  # multiply-adds a chain in one run: some 40 ms, long beside handing the work to threads
Timed = Callable[[int], Any]


@dataclass(frozen=True)
class Roofline:
    """The bounds of a machine."""

    flops: float  # a second, on all threads
    bytes: float  # a second, from and to memory
    how: str

    def seconds(self, flops: float, n_bytes: float) -> float:
        """Return the least time for so many operations on so many bytes."""
        return max(flops / self.flops, n_bytes / self.bytes)

    def __str__(self) -> str:
        return f"roofline: {self.flops / 1e9:.0f} GFLOP/s, {self.bytes / 1e9:.1f} GB/s ({self.how})"


def main() -> None:
    """Measure, and print."""
    arguments = measure.parser(__doc__, repeat=15).parse_args()
    report = measure.Report(__doc__, arguments.json)
    roofline = measure_roofline(arguments.repeat)
    report.note(str(roofline))
    report.write(flops=roofline.flops, bytes=roofline.bytes)


def measure_roofline(repeat: int = 15) -> Roofline:
    """Return the peak and the bandwidth of as many threads as the kernels use."""
    threads = kernels.n_threads()
    with ThreadPoolExecutor(threads) as pool:
        lanes, chains, loop = multiply_adds()
        work = 2.0 * lanes * chains * LOOPS * threads
        peak = work / best(pool, threads, lambda _: loop(LOOPS), repeat)
        speeds = bandwidths(pool, threads, repeat)
    fastest = max(speeds, key=lambda name: speeds[name])
    return Roofline(peak, speeds[fastest], f"{chains} chains of {lanes} floats a thread, {threads} threads; {fastest}")


def best(pool: ThreadPoolExecutor, threads: int, job: Timed, repeat: int) -> float:
    """Return the least seconds in which all threads, each called with its number, were done."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        list(pool.map(job, range(threads)))
        times.append(time.perf_counter() - start)
    return min(times[1:])


def bandwidths(pool: ThreadPoolExecutor, threads: int, repeat: int) -> dict[str, float]:
    """Return bytes a second of each way to walk through memory."""
    size = max(128 * MB, 2 * last_level_cache()) // 8  # float64
    a, b, c = (np.ones(size) for _ in range(3))
    bounds = [i * size // threads for i in range(threads + 1)]
    part = [slice(*pair) for pair in itertools.pairwise(bounds)]

    def copy(i: int) -> None:
        np.copyto(a[part[i]], b[part[i]])

    walks: dict[str, tuple[int, Timed]] = {
        "read": (1, lambda i: _read(b.view(np.int64)[part[i]])),
        "copy": (2, copy),
        "triad": (3, lambda i: _triad(a[part[i]], b[part[i]], c[part[i]])),
    }
    return {name: arrays * 8 * size / best(pool, threads, walk, repeat) for name, (arrays, walk) in walks.items()}


def last_level_cache() -> int:
    """Return its bytes where Linux tells, else 32 MB."""
    sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max((int(size[:-1]) * {"K": 1024, "M": MB}[size[-1]] for size in sizes if size[-1:] in "KM"), default=32 * MB)


@numba.njit(nogil=True)
def _read(a: Any) -> int:
    total = 0  # of integers: the sum of floats is one chain of additions, slower than memory
    for i in range(a.size):
        total += a[i]
    return total


@numba.njit(nogil=True)
def _triad(a: Any, b: Any, c: Any) -> None:
    for i in range(a.size):
        a[i] = b[i] + 3.0 * c[i]


def multiply_adds() -> tuple[int, int, Any]:
    """Return the floats of a vector, the independent chains, and loop(n): n multiply-adds on each chain, in registers."""
    features = binding.get_host_cpu_features()
    lanes = 16 if features.get("avx512f") else 8 if features.get("avx") else 4
    # Two units of latency 4 need 8 chains, four of them (64-bit Arm) 16; all of them and two operands must stay in registers.
    chains = 24 if features.get("avx512f") or "aarch64" in binding.get_process_triple() else 12
    fused = bool(features.get("fma")) or "x86" not in binding.get_process_triple()
    chained = _chains(lanes, chains, fused)

    @numba.njit(nogil=True)
    def loop(n: int) -> float:
        return chained(n)

    return lanes, chains, loop


def _chains(lanes: int, chains: int, fused: bool) -> Any:
    """Return the intrinsic: acc = acc/2 + 1 on each chain, n times, and in the end the sum of all lanes."""
    real, index = ir.FloatType(), ir.IntType(64)
    vector = ir.VectorType(real, lanes)

    def constant(value: float) -> ir.Constant:
        return ir.Constant(vector, [value] * lanes)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        fma_type = ir.FunctionType(vector, [vector] * 3)
        fma = cgutils.get_or_insert_function(builder.module, fma_type, f"llvm.fma.v{lanes}f32")
        before, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(index)
        accumulators = [builder.phi(vector) for _ in range(chains)]
        for number, phi in enumerate(accumulators):
            # All different, or LLVM makes one chain of them; and none at 2, where acc/2 + 1 stands still: a constant.
            phi.add_incoming(constant(-1.0 - number), before)
        half, one = constant(0.5), constant(1.0)
        results = [
            builder.call(fma, [phi, half, one]) if fused else builder.fadd(builder.fmul(phi, half), one) for phi in accumulators
        ]
        for phi, result in zip(accumulators, results, strict=True):
            phi.add_incoming(result, loop)
        next_i = builder.add(i, ir.Constant(index, 1))
        i.add_incoming(ir.Constant(index, 0), before)
        i.add_incoming(next_i, loop)
        builder.cbranch(builder.icmp_signed("<", next_i, arguments[0]), loop, after)
        builder.position_at_end(after)
        total = results[0]
        for result in results[1:]:
            total = builder.fadd(total, result)
        lane_sum = ir.Constant(real, 0.0)
        for lane in range(lanes):
            lane_sum = builder.fadd(lane_sum, builder.extract_element(total, ir.Constant(ir.IntType(32), lane)))
        return lane_sum

    @intrinsic
    def chained(typingctx: Any, n: Any) -> Any:
        return types.float32(types.int64), codegen

    return chained


if __name__ == "__main__":
    main()
