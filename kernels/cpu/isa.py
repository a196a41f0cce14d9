"""Which vectors the processor has, and the register tiles that fill it: what the generated code is generated for.

A tile of `rows` x `vectors` accumulators lives in registers, beside `vectors` of B and one of A. It must hide the
latency of a fused multiply-add (4 cycles, two a cycle: 8 accumulators at least), and fit: AVX2 and SSE have 16 registers,
AVX-512 and NEON 32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
from numba import config as numba_config
from numba.core.codegen import get_host_cpu_features


@dataclass(frozen=True)
class InstructionSet:
    """Vectors of `vector_bytes`; fused multiply-add or not; and the two tiles."""

    name: str
    vector_bytes: int
    fma: bool
    tall: int  # rows of the tile of two vectors
    narrow: int = 8  # rows of the tile of one vector

    @property
    def panel_bytes(self) -> int:
        """The width of a tile of two vectors: what a panel of B is packed to."""
        return 2 * self.vector_bytes


config: Any = numba_config  # which says nothing of its settings to type checkers


def detect() -> InstructionSet:
    """Return what Numba compiles for: the host, or what NUMBA_CPU_FEATURES says. An unknown processor gets 16 bytes."""
    flags = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    features = {flag[1:] for flag in flags.split(",") if flag.startswith("+")}
    if "avx512f" in features:
        return InstructionSet("AVX-512", 64, True, tall=8)
    if "avx" in features:
        return InstructionSet("AVX2" if "avx2" in features else "AVX", 32, "fma" in features, tall=6)
    if llvm.get_process_triple().startswith(("aarch64", "arm64")):  # always with NEON and its fused multiply-add
        return InstructionSet("NEON", 16, True, tall=8)
    return InstructionSet("16-byte vectors", 16, "fma" in features, tall=6)


ISA = detect()
