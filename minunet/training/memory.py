"""How much memory a step will take, from shapes alone."""

from __future__ import annotations

import os
from pathlib import Path

from .. import kernels
from ..network import Network

RUNTIME_BYTES = 170 * 2**20  # Python, NumPy, SciPy, Numba and its compiler, as measured by bench/memory.py


def training_bytes(network: Network, n: int, h: int, w: int) -> int:
    """Return the estimated peak of live arrays in a training step with Adam, n images of h x w.

    Parameters, gradients and two moments; every activation that backward needs; and the largest of what the steps of
    backward hold at one time beyond that.
    """
    fixed = 4 * network.flat.nbytes
    item = network.dtype.itemsize
    kept = 0
    peak = 0
    levels = [(n * (h >> i) * (w >> i), network.base_channels << i) for i in range(network.depth + 1)]
    for i, (pixels, channels) in enumerate(levels):
        at_bottom = i == network.depth
        # The encoder's two outputs (the second is half of the skip buffer), the pooled map with its argmax.
        kept += pixels * channels * item * (2 if at_bottom else 3)
        kept += 0 if at_bottom else pixels // 4 * channels * (item + 1)
        # The decoder's two outputs.
        kept += 0 if at_bottom else 2 * pixels * channels * item
    pixels, channels = levels[0]
    kept += pixels * (network.in_channels + 2 * network.out_channels) * item
    # The top decoder's first convolution holds dy, and makes a dx of twice its channels; the second's output is gone.
    peak = pixels * channels * item * (2 if network.depth else 1)
    return fixed + kept + peak + _partials(network) + _scratch(network)


def inference_bytes(network: Network, n: int, h: int, w: int) -> int:
    """Return the estimated peak of live arrays in inference: the skip buffers, and the widest step at the top."""
    item = network.dtype.itemsize
    skips = sum(2 * n * (h >> i) * (w >> i) * (network.base_channels << i) * item for i in range(network.depth))
    widest = 2 * n * h * w * max(network.base_channels, network.out_channels) * item
    return network.flat.nbytes + skips + widest + _scratch(network)


def available_memory() -> int:
    """Return the bytes that could be taken now: what the system calls available, within this process's cgroup limit."""
    free = _system_memory()
    for folder in ("/sys/fs/cgroup", "/sys/fs/cgroup/memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            try:
                free = min(free, int(Path(folder, limit).read_text()) - int(Path(folder, used).read_text()))
            except (OSError, ValueError):  # no such limit here, or "max"
                continue
    return max(free, 0)


def _system_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return 2**32  # nothing is known: assume a small machine


def _partials(network: Network) -> int:
    """Return what the largest weight gradient holds: two partial sums or 64 MB of them, and a product a thread."""
    largest = max(p.nbytes for p in network.parameters.values())
    return max(2 * largest, min(2**26, 16 * largest)) + kernels.n_threads() * largest + largest


def _scratch(network: Network) -> int:
    """Return the columns of a block and its product, for each thread."""
    deepest = 9 * network.base_channels << max(network.depth, 1)
    return kernels.n_threads() * 2 * max(2**18, 256 * deepest) * network.dtype.itemsize
